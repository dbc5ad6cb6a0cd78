# shellcheck shell=bash
# bash completion for ccf-connect
_ccf_connect() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i words='--ipv4 --ipv6 --help --log --quiet --trace --verbose --version
		--bind --connect-timeout --control --drain-timeout --flush-timeout --from --half-close-timeout --idle-timeout
		--reconnect --retry --retry-delay --retry-max --to --user-timeout --zero
		--answer-timeout --answers --datagram-size --window
		--tls --alpn --ca --cert --ciphers --ciphersuites --groups --handshake-timeout --key --max-version
		--min-version --no-verify --passphrase --pin --require-close-notify --servername
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
	--alpn) mapfile -t COMPREPLY < <(compgen -W "http/1.1 h2" -- "$cur") ;;
	--min-version | --max-version) mapfile -t COMPREPLY < <(compgen -W "1.2 1.3" -- "$cur") ;;
	--passphrase) compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W "env: file: fd:" -- "$cur") ;;
	--pin) compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W "sha256:" -- "$cur") ;;
	--ca | --cert | --control | --key | --from | --to | : | unix | bind | dial | file) compopt -o default ;;
	--bind | --servername) mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") ;;
	*) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	esac
}
complete -F _ccf_connect ccf-connect
