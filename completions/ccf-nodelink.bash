# shellcheck shell=bash
# bash completion for ccf-nodelink
_ccf_nodelink() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='--ipv4 --ipv6 --help --log --quiet --trace --verbose --version
		--app --bind --client-host --commands --connect-timeout --control --drain-timeout --echo --first-frame-timeout
		--format --from --id --keepalive --linger --max-event --max-frame --max-queue --peer --ping-timeout --ready-fd
		--retry --retry-delay --retry-max --save --tap --user-timeout --peer-user --socket-group --socket-mode'

	# bash makes words of its own of = and :
	[ "$prev" != = ] || prev=${COMP_WORDS[COMP_CWORD - 2]}
	case $cur in = | :) cur= ;; esac
	case $prev in
	--log | --format) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$cur") ;;
	--peer-user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
	--socket-group) mapfile -t COMPREPLY < <(compgen -g -- "$cur") ;;
	--save) compopt -o dirnames ;;
	--app | --commands | --control | --from | decode) compopt -o default ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		elif [ "$COMP_CWORD" = 1 ]; then
			mapfile -t COMPREPLY < <(compgen -W decode -- "$cur")
		fi
		;;
	esac
}
complete -F _ccf_nodelink ccf-nodelink
