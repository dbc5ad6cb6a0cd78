# inject - stacks whose system calls fail (tests/peer/disturb.py): `load inject` after helpers and clients.
# shellcheck shell=bash disable=SC2034,SC2154	# they come from there, and tests use them

setup() {
	[ -n "$(type -P strace)" ] || skip "strace is not available here"
	common_setup
	certs
	TLS=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
	CA=$CERTS/ca.pem
	TLSTERM=(ccf-tlsterm)
	ALL=()
	if [ "${CCF_INJECT-}" = all ]; then
		ALL=(--all)
		export BATS_TEST_TIMEOUT=3600
	fi
}

# stack ARG...: a listener (LISTEN: with these options) and a terminator with these arguments; '|' and what it hands its
# connections on to may follow.
stack() {
	pipeline lst ccf-listen --to - "${LISTEN[@]}" --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    tls "${TLSTERM[@]}" --no-sandbox "$@"
	ADDR=$(address a.json rpc)
}

backend() {
	SPAWN_OUT=backend.out spawn backend python3 "$HERE/peer/disturb.py" backend "${HOW[@]}"
	await_line backend.out .
	BACKEND=$(head -n 1 backend.out)
}

# disturb worker|master|NAME [OPTION...] CELL...: of tls, or one that has no workers.  Before and after all of them hold the same.
# HOW: what clients do.
disturb() {
	local run=(python3 "$HERE/peer/disturb.py" "${ALL[@]}" --limit "$LIMIT" --closed lst.log --log tls.log "${HOW[@]}")
	local status=0 rss whom=$1:${PID[tls]} name holders=(tls tls.1)

	case $1 in
	worker | master) ;;
	*)
		whom=tool:${PID[$1]}
		holders+=("$1")
		;;
	esac
	"${run[@]}" "$whom" "$CA" "$ADDR"	# what is made once is made
	is_open 0
	rss=$(rss_kib tls.1)
	for name in "${holders[@]}"; do holds "$name" >"held.$name"; done
	"${run[@]}" "$whom" "$CA" "$ADDR" "${@:2}" >cells || status=$?
	cat cells
	[ "$status" != 77 ] || skip "strace may not be attached here"
	[ "$status" = 0 ]
	is_open 0
	run ! grep -E 'killed by SIG(SEGV|ABRT|BUS|ILL|FPE)' tls.log
	for name in "${holders[@]}"; do eventually holds_just "$name" "$(cat "held.$name")"; done
	[ -n "${CCF_SAN-}" ] || [ "$(rss_kib tls.1)" -lt $((rss + 8192)) ]
}

# became PATTERN...: of each of these cells, in the last disturb.
became() {
	local pattern

	for pattern; do
		grep -q -x -E "$pattern; [0-9]+ injected, [0-9]+ calls" cells || {
			echo "no cell became: $pattern"
			return 1
		}
	done
}

# holds NAME: what it has open, without the pipes that it keeps for splice (at most 8 here); by kind.
holds() {
	asked "${1%.*}" . >&2
	find "/proc/$(pid_of "$1")/fd" -type l -printf '%l\n' | sed 's/[0-9]*\]//' | grep -v '^pipe:' | sort | uniq -c | tr -s '\n ' ' '
}

holds_just() {
	echo "$1 holds $(holds "$1"), not $2"
	[ "$(holds "$1")" = "$2" ] && [ "$(find "/proc/$(pid_of "$1")/fd" -lname 'pipe:*' | wc -l)" -le 8 ]
}

# drained NAME STATUS
drained() {
	stop "$1"
	[ "$ended" = "${2-0}" ]
}
