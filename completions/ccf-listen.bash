# shellcheck shell=bash
# bash completion for ccf-listen
_ccf_listen() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i words='--ipv4 --ipv6 --help --log --quiet --trace --verbose --version
		--address-file --allow --backlog --control --deny --drain-timeout --flush-timeout --id-prefix --keep-open
		--max-open-sessions-hard --max-open-sessions-soft --ready-fd --ready-when --to
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
	--ready-when) mapfile -t COMPREPLY < <(compgen -W "bound listening" -- "$cur") ;;
	--address-file | --control | --to | : | unix | dial) compopt -o default ;;
	*) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	esac
}
complete -F _ccf_listen ccf-listen
