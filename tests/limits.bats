# limits - what is short: descriptors, memory, kernel pipes.  Nothing spins, nothing dies, and it is said once.

load helpers
load clients

# --- descriptors ---

# limit NAME|NAME.N [N]: from now on it can have N (0) descriptors more than it has; `limit NAME -`: as before.
limit() {
	local pid n=-1 more=${2-0}

	pid=$(pid_of "$1")
	if [ "$more" = - ]; then
		n=$(ulimit -Hn)
	else
		while [ "$more" -ge 0 ]; do
			n=$((n + 1))
			[ -e "/proc/$pid/fd/$n" ] || more=$((more - 1))
		done
	fi
	prlimit --pid "$pid" --nofile="$n:"
}

# traced [-f]: "${STRACE[@]}" before a tool lets its system calls be counted, with -f those of its workers, too; with
# sanitizers nobody counts.
traced() {
	STRACE=()
	[ -z "${CCF_SAN-}" ] || return 0
	requires strace
	STRACE=(strace -D "$@" -o trace)
}

# rests NAME: while it is asked twenty things it makes a bounded number of system calls.
rests() {
	local before i

	[ ${#STRACE[@]} != 0 ] || return 0
	before=$(wc -l <trace)
	for i in {1..20}; do
		ask "$1" .
	done
	[ $(($(wc -l <trace) - before)) -lt 3000 ] || {
		tail -n +"$before" trace | cut -d '(' -f 1 | sed 's/^[0-9]* *//' | sort | uniq -c | sort -n
		return 1
	}
}

# said N NAME PATTERN: so many lines of its log match.
said() {
	[ "$(grep -c -E -e "$3" "$2.log")" = "$1" ] || {
		echo "$2 did not say '$3' $1 times"
		return 1
	}
}

SHORT='Too many open files'

@test "at the limit ccf-listen with a COMMAND waits, says so once, and serves when descriptors come back" {
	traced
	spawn lst "${STRACE[@]}" ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat
	base=$(fds lst)
	clients cl "$(address a.json rpc)"
	tell cl open 3
	tell cl send 1 3 before
	saw cl 3 'data before'

	limit lst
	tell cl open 5
	tell cl send 4 8 hello
	saw cl 8 connected
	await_line lst.log "cannot accept: $SHORT"
	rests lst
	asked lst ' 3 open, .*accepted 3,'
	tell cl send 1 3 meanwhile
	eventually times 3 cl.out ' data meanwhile$'
	said 1 lst "$SHORT"

	limit lst -
	eventually times 5 cl.out ' data hello$'
	is_open 8
	said 1 lst "$SHORT"
	tell cl end
	is_open 0
	keeps lst="$base"
}

# three NAME: the three tools, with an echo behind; NAME is traced.
three() {
	local by_term=() by_conn=()

	if [ "$1" = term ]; then by_term=("${STRACE[@]}"); else by_conn=("${STRACE[@]}"); fi
	spawn back ccf-listen --ready-fd 9 --address-file b.json --to back rpc=127.0.0.1:0
	spawn echo ccf-tlsterm --plaintext --from back --app echo
	await_line back.log 'rpc: listening'
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term "${by_term[@]}" ccf-tlsterm --plaintext --to - '|' \
	    conn "${by_conn[@]}" ccf-connect --from - "$(address b.json rpc)"
}

# starve NAME|NAME.N [N]: its limit falls to what it has, or N more, and later rises again.
starve() {
	local at=$1 who=${1%.*} lst term worker conn kept

	three "$who"
	lst=$(fds lst) term=$(fds term) worker=$(fds term.1) conn=$(fds conn)
	clients cl "$(address a.json rpc)"
	tell cl open 3
	tell cl send 1 3 before
	eventually times 3 cl.out ' data before$'

	limit "$at" "${2-0}"
	tell cl open 70			# more than a window: some are on their way and end, the others wait
	saw cl 73 connected
	tell cl send 4 73 hello
	await_line "$who.log" "$SHORT"
	rests "$who"
	tell cl send 1 3 meanwhile
	eventually times 3 cl.out ' data meanwhile$'
	said 1 "$who" "$SHORT"
	run ! grep -E ' (error|warn): ' <(grep -v "$SHORT" lst.log term.log conn.log)

	limit "$at" -
	tell cl open 10
	tell cl send 74 83 after
	eventually times 10 cl.out ' data after$'
	eventually settled
	kept=$(grep -c ' data hello$' cl.out)
	echo "$kept of 70 were served"
	[ "$kept" -ge 38 ]			# all but a window
	said 1 "$who" "$SHORT"
	is_open $((13 + kept))
	tell cl end
	is_open 0
	asked term '^ccf-tlsterm: info: 0 connections'
	asked conn '^ccf-connect: info: 0 connections'
	keeps lst="$lst" term="$term" term.1="$worker" conn="$conn"
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 term
	ends_with 0 conn
}

# Each of the seventy has got its answer or its end.
settled() {
	[ "$(grep -c -E ' (data hello|closed|reset)$' cl.out)" = 70 ]
}

@test "at the limit ccf-tlsterm in the pipeline waits, says so once, and serves when descriptors come back" {
	traced -f
	starve term.1
}

@test "the same when the client takes the last descriptor, and none is left for the other side" {
	traced -f
	starve term.1 1
}

@test "at the limit ccf-connect in the pipeline waits, says so once, and serves when descriptors come back" {
	traced
	starve conn
}

# It is the master that starts COMMANDs; nobody knows what it has room for, so what it has none for ends.
@test "at the limit ccf-tlsterm with a COMMAND says so once, and serves when descriptors come back" {
	traced -f
	local left at worker

	for left in 0 1 2 master; do
		at=term.1
		[ $left != master ] || at=term
		rm -f ./*.log
		pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
		    term "${STRACE[@]}" ccf-tlsterm --plaintext -- cat
		base=$(fds term) worker=$(fds term.1)
		clients cl$left "$(address a.json rpc)"
		limit $at "${left/master/0}"
		tell cl$left open 50
		tell cl$left send 1 50 hello
		saw cl$left 50 connected
		await_line term.log "$SHORT"
		rests term
		run ! grep 'cannot run' term.log
		limit $at -
		[ $left = master ] || eventually times 18 cl$left.out ' data hello$'	# those that were not on their way
		tell cl$left open 5
		tell cl$left send 51 55 after
		eventually times 5 cl$left.out ' data after$'
		said 1 term "$SHORT"
		tell cl$left end
		is_open 0
		keeps term="$base" term.1="$worker"
		stop lst
		ends_with 0 term
	done
}

# few NAME SINK...: a terminator that may have 64 descriptors never closes what it has no room for: it waits outside.
few() {
	local at=$1 served i

	shift
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    "$at" "$@"
	clients cl "$(address a.json rpc)"
	tell cl open 60
	tell cl send 1 60 hello
	saw cl 60 connected
	await_line "$at.log" "taking no connections: $SHORT"
	until times 60 cl.out ' data hello$'; do
		served=$(sed -n 's/ data hello$//p' cl.out)
		for i in $served; do tell cl close "$i" "$i"; done	# their room goes to others
		eventually more "$(wc -w <<<"$served")"
	done
	run ! grep -E 'closed|reset' cl.out
	said 1 "$at" "$SHORT"
	tell cl end
	is_open 0
}

more() {
	[ "$1" = 60 ] || [ "$(grep -c ' data hello$' cl.out)" -gt "$1" ]
}

@test "a terminator with few descriptors takes what it has room for, and nobody is closed" {
	few term prlimit --nofile=64 ccf-tlsterm --plaintext --app echo
	stop lst
	ends_with 0 term
}

@test "so does one that starts a COMMAND for each" {
	few term prlimit --nofile=64 ccf-tlsterm --plaintext -- cat
}

@test "so does ccf-connect" {
	spawn back ccf-listen --ready-fd 9 --address-file b.json --to back rpc=127.0.0.1:0
	spawn echo ccf-tlsterm --plaintext --from back --app echo
	await_line back.log 'rpc: listening'
	few conn prlimit --nofile=64 ccf-connect --from - "$(address b.json rpc)"
}

@test "a link that comes while ccf-listen is at its limit is taken when descriptors come back" {
	traced
	spawn lst "${STRACE[@]}" ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	limit lst
	spawn term ccf-tlsterm --plaintext --from link --app echo
	await_line lst.log "$SHORT"
	rests lst
	asked lst ' 0 links,'
	said 1 lst "$SHORT"
	limit lst -
	asked lst ' 1 links,'
	await_line lst.log 'rpc: listening'
	clients cl "$(address a.json rpc)"
	tell cl open 1
	tell cl send 1 1 hello
	saw cl 1 'data hello'
}

@test "descriptors that the kernel refuses to carry (ETOOMANYREFS) go later, and nobody spins meanwhile" {
	traced
	local i

	shared_dir
	spawn lst "${STRACE[@]}" "${AS_USER[@]}" prlimit --nofile=40 \
	    ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	for i in 1 2 3; do
		spawn term$i "${AS_USER[@]}" ccf-tlsterm --plaintext --from link --app echo
	done
	asked lst ' 3 links,'
	await_line lst.log 'rpc: listening'
	for i in 1 2 3; do
		asked term$i '0 connections'
		kill -STOP "$(worker term$i)"
	done
	clients cl "$(address a.json rpc)"
	tell cl open 90
	tell cl send 1 90 hello
	saw cl 90 connected
	[ ${#STRACE[@]} = 0 ] || eventually grep -q ETOOMANYREFS trace
	rests lst
	for i in 1 2 3; do kill -CONT "$(worker term$i)"; done
	eventually times 90 cl.out ' data hello$'
	is_open 90
	tell cl end
	is_open 0
}

# --- memory ---

# lean NAME...: none of them has ever had 32 MiB in memory.
lean() {
	local name peak

	for name in "$@"; do
		peak=$(awk '/^VmHWM:/ { print $2 }' "/proc/$(pid_of "$name")/status")
		echo "$name: $peak KiB at most"
		[ "$peak" -lt 32768 ] || return 1
	done
}

# late NAME ADDRESS [OPTION...]: a client that does not read before `tell NAME read`.
late() {
	clients "$@" --late
	saw "$1" 1 connected
}

big() {
	BIG=67108864
	head -c "$BIG" /dev/urandom >big
	SUM=$(sha256sum <big)
	SUM=${SUM%% *}
	FEED=(python3 "$HERE/peer/feed.py" "$PWD/big")
}

# reads NAME: it has been stuck until now; now it reads, and gets every byte.
reads() {
	tell "$1" read
	await_line "$1.out" "^1 read $BIG $SUM\$" $((LIMIT * 3))
}

@test "64 MiB for a client that does not read stay outside of the pipeline, and it gets every byte" {
	requires plain
	big
	certs
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- "${FEED[@]}"
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to - '|' \
	    conn ccf-connect --from - "$(address b.json rpc)"
	late cl "$(address a.json rpc)" --tls "$CERTS/ca.pem" --bytes 0
	await_line back.log 'feed: stuck'
	lean lst term term.1 conn
	reads cl
	is_open 0
	lean lst term term.1 conn
}

@test "so they do outside of two terminators with a pair of sockets between and a COMMAND behind" {
	requires plain
	big
	certs
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to first rpc=127.0.0.1:0
	spawn term ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from first --to second
	spawn inner ccf-tlsterm --plaintext --from second -- "${FEED[@]}"
	await_line lst.log 'rpc: listening'
	late cl "$(address a.json rpc)" --tls "$CERTS/ca.pem" --bytes 0
	await_line inner.log 'feed: stuck'
	lean lst term term.1 inner inner.1
	reads cl
	is_open 0
	lean lst term term.1 inner inner.1
}

@test "so they do outside of a relay from plain socket to plain socket" {
	requires plain
	big
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- "${FEED[@]}"
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    conn ccf-connect --from - "$(address b.json rpc)"
	late cl "$(address a.json rpc)" --bytes 0
	await_line back.log 'feed: stuck'
	lean lst conn
	reads cl
	is_open 0
	lean lst conn
}

@test "so they do outside of ccf-listen on standard input" {
	requires plain
	big
	pipeline feed "${FEED[@]}" '|' lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	late cl "$(address a.json rpc)" --bytes 0
	await_line feed.log 'feed: stuck'
	lean lst
	reads cl
	ends_with 0 lst
}

@test "64 MiB from a client that does not read its echo stay with the client, and all come back" {
	requires plain
	BIG=67108864
	SUM=$(head -c "$BIG" /dev/zero | sha256sum)
	SUM=${SUM%% *}
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app echo
	late cl "$(address a.json rpc)" --bytes "$BIG"
	saw cl 1 'stuck after [0-9]*'
	lean lst term term.1
	reads cl
	is_open 0
	lean lst term term.1
}

# --- kernel pipes ---

@test "500 relays of an ordinary user leave the pipes of his other programs at their normal size" {
	[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 1200 ] || skip "1200 descriptors are not allowed here"
	shared_dir
	head -c 1048576 /dev/zero >big
	chmod a+r big
	spawn back "${AS_USER[@]}" ccf-listen --ready-fd 9 "rpc=unix:$PWD/back" -- cat "$PWD/big"
	pipeline lst "${AS_USER[@]}" ccf-listen --to - --ready-fd 9 --ready-when listening "rpc=unix:$PWD/front" '|' \
	    conn "${AS_USER[@]}" ccf-connect --from - "unix:$PWD/back"
	asked conn .
	base=$(besides_pipes)
	clients cl "unix:$PWD/front" --deaf
	tell cl open 500
	await_line cl.out '^500 connected' 20
	is_open 500
	asked conn '^ccf-connect: info: 500 connections'
	eventually full
	size=$("${AS_USER[@]}" python3 -c 'import fcntl, os; print(fcntl.fcntl(os.pipe()[0], fcntl.F_GETPIPE_SZ))')
	[ "$size" = 65536 ]
	tell cl end
	is_open 0
	eventually has_besides_pipes "$base"
}

# besides_pipes: how many descriptors it has, without the pool: what is empty there is kept for the next.
besides_pipes() {
	readlink "/proc/${PID[conn]}/fd/"* | grep -c -v '^pipe:'
}

has_besides_pipes() {
	[ "$(besides_pipes)" = "$1" ]
}

# full: the pool of pipes is in use.
full() {
	[ "$(readlink "/proc/${PID[conn]}/fd/"* | grep -c '^pipe:')" -ge 64 ]
}
