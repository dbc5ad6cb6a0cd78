# clients - many clients that do as they are told, and what the tools say about them: `load clients` after helpers.
# shellcheck shell=bash disable=SC2154	# PID and HERE come from there

declare -gA TELL=()

# clients NAME ADDRESS [OPTION...]: tests/peer/clients.py; it obeys `tell NAME COMMAND...`, and what happens to
# each of its clients is a line of NAME.out.
clients() {
	local fd

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	TELL[$1]=$fd
	SPAWN_IN=$1.in spawn "$1" python3 "$HERE/peer/clients.py" "${@:2}"
}

tell() {
	echo "${@:2}" >&"${TELL[$1]}"
}

# saw NAME CLIENT TEXT: this client sees that, sooner or later.
saw() {
	await_line "$1.out" "^$2 $3\$"
}

# times N FILE PATTERN: so many lines of FILE match.
times() {
	[ "$(grep -c -E -e "$3" "$2")" = "$1" ]
}

# asked NAME PATTERN: sooner or later it answers USR1 with a status line that matches.
asked() {
	eventually ask "$@"
}

ask() {
	local before

	before=$(wc -l <"$1.log")
	mine "${PID[$1]}" || return
	kill -USR1 "${PID[$1]}"
	eventually answered "$1" "$before"
	answered "$1" "$before" "$2"
}

# A terminator has answered when its master and each of its workers have.
answered() {
	local said pid

	said=$(tail -n "+$(($2 + 1))" "$1.log" | grep -E ' open, peak | connections(,| there)') || return
	while read -r pid; do
		grep -q " worker $pid: " <<<"$said" || return
	done < <(sed -n -E 's/.* workers? \(pids? ([ 0-9]*)\),.*/\1/p' <<<"$said" | tr ' ' '\n')
	[[ $said != *' worker '* || $said == *' connections, '*' died; '* ]] || return
	grep -q -E -e "${3-}" <<<"$said"
}

# granted NAME...: each of these consumers has granted the listener credit.  Who answers has done what came to him before
# he was asked: the hello of the one, that of the other, the grant.
granted() {
	local name

	for name in "$@" lst "$@" lst; do
		asked "$name" .
	done
}

# is_open N [NAME]: the listener counts N connections on its interface.
is_open() {
	asked lst "${2-rpc}: [a-z, ]*, $1 open, "
}

# fds NAME|NAME.N: how many descriptors it has, now that it has started and let go of what it does not need any more.
fds() {
	local name=$1

	[ -n "${PID[$1]-}" ] || name=${1%.*}
	asked "$name" . && fd_count "$1"
}

# keeps NAME=FDS...: sooner or later they have no descriptor more or less than that.
keeps() {
	local pair

	for pair in "$@"; do
		eventually has_fds "${pair%=*}" "${pair#*=}" || {
			ls -l "/proc/$(pid_of "${pair%=*}")/fd"
			return 1
		}
	done
}

has_fds() {
	[ "$(fd_count "$1")" = "$2" ]
}
