# shellcheck shell=bash
# bash completion for ccf-tlsterm
_ccf_tlsterm() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i words='--help --log --quiet --trace --verbose --version
		--access-log --alpn --app --ca --capped-message --cert --cert-timeout --cgi-max --cgi-timeout --ciphers --ciphersuites
		--client --client-ca --control --drain-timeout --flush-timeout --from --groups --half-close-timeout
		--handshake-timeout --idle-timeout --key --lifetime --max-body-size --max-buffered --max-head-size --max-header-size
		--max-headers-count --max-request-line --max-version --min-version --no-sandbox --no-verify --passphrase --pin
		--plaintext --request-timeout --require-close-notify --servername --tickets --to --user --verify --workers
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
	--peer-user | --user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
	--socket-group) mapfile -t COMPREPLY < <(compgen -g -- "$cur") ;;
	--app) mapfile -t COMPREPLY < <(compgen -W "echo http1" -- "$cur") ;;
	--alpn) mapfile -t COMPREPLY < <(compgen -W "http/1.1 h2" -- "$cur") ;;
	--verify) mapfile -t COMPREPLY < <(compgen -W "request require none" -- "$cur") ;;
	--min-version | --max-version) mapfile -t COMPREPLY < <(compgen -W "1.2 1.3" -- "$cur") ;;
	--passphrase) compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W "env: file: fd:" -- "$cur") ;;
	--pin) compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W "sha256:" -- "$cur") ;;
	--servername) mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur") ;;
	-j | --workers) mapfile -t COMPREPLY < <(compgen -W "auto" -- "$cur") ;;
	--access-log | --ca | --cert | --client-ca | --control | --key | --from | --to | : | bind | dial | file) compopt -o default ;;
	*) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	esac
}
complete -F _ccf_tlsterm ccf-tlsterm
