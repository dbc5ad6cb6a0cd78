# shellcheck shell=bash
# bash completion for ccf-udpecho
_ccf_udpecho() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i words='--ipv4 --ipv6 --help --log --quiet --trace --verbose --version
		--address-file --allow --amplification --control --deny --drain-timeout --id-prefix --idle-timeout
		--max-open-sessions-hard --max-queue --rate --rate-all --rate-host --rate-sessions --ready-fd --receive-buffer
		--peer-user --socket-group --socket-mode'

	for ((i = 1; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" = -- ] || continue
		if declare -F _command_offset >/dev/null; then
			_command_offset $((i + 1)) # the COMMAND's own completion
		elif ((i + 1 == COMP_CWORD)); then
			mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		else
			compopt -o default
		fi
		return
	done
	# bash makes words of its own of = and :
	[ "$prev" != = ] || prev=${COMP_WORDS[COMP_CWORD - 2]}
	case $cur in = | :) cur= ;; esac
	case $prev in
	--log) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$cur") ;;
	--peer-user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
	--socket-group) mapfile -t COMPREPLY < <(compgen -g -- "$cur") ;;
	--address-file | --control) compopt -o default ;;
	*) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	esac
}
complete -F _ccf_udpecho ccf-udpecho
