# budget - --max-buffered: a crowd that takes nothing does not fill the memory, and costs nobody else his turn.
#
# (who runs this makes no difference)

load helpers
load clients
load stands

MANY=500

# room_for_many: skips where so many connections are not allowed.
room_for_many() {
	[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 1200 ] || skip "1200 descriptors are not allowed here"
}

# greedy NAME WHO N [OPTION...]: of greedy.py.
greedy() {
	# shellcheck disable=SC2086
	spawn "$2_$1" python3 "$HERE/peer/greedy.py" "${ADDR[$1]}" "$3" ${TLS[$1]} "${@:4}"
}

# lean NAME: its worker never had 64 MiB in memory.
lean() {
	local peak

	peak=$(awk '/^VmHWM:/ { print $2 }' "/proc/$(worker "term_$1")/status")
	echo "$1: $peak KiB at most"
	[ "$peak" -lt 65536 ]
}

# polite NAME: somebody else asks ten things, and is answered.
polite() {
	# shellcheck disable=SC2086
	spawn polite python3 "$HERE/peer/clients.py" "${ADDR[$1]}" ${TLS[$1]} --load 1 --bytes 1000
	await_line polite.out '^10 done$'
	stop polite
	await_line polite.out '^in all: [0-9]* done, 0 failed$'
}

# held NAME LEAST MOST: so many bytes its worker (each of its workers) accounts for, none of whose connections were cut.
held() {
	asked "term_$1" .
	grep 'bytes held' "term_$1.log" | tail -n "${4-1}"
	[ "$(sed -n -E 's/.* ([0-9]+) bytes held, 0 connections cut as slow$/\1/p' "term_$1.log" | tail -n "${4-1}" |
	    awk -v least="$2" -v most="$3" '$1 >= least && $1 <= most' | wc -l)" = "${4-1}" ]
}

# crowd SINK [OPTION...]: many clients that say as much as is taken (OPTION: of greedy.py) and never read.
crowd() {
	room_for_many
	stand many tls "$1" --max-buffered 16M
	greedy many crowd $MANY "${@:2}"
	await_line crowd_many.out "^up $MANY\$" $((LIMIT * 2))
	await_line crowd_many.out '^stuck' $((LIMIT * 2))
	asked term_many "worker [0-9]+: $MANY connections, "
	eventually held many 2000000 25000000	# a record each comes on top of the shares
	run ! grep lost crowd_many.out
}

# leave: the crowd goes, and nothing of it stays.
leave() {
	lean many
	stop crowd_many
	free many
	lean many
}

@test "500 who send and never read their echo: the worker stays below 64 MiB, others are served, and nothing stays when they go" {
	requires plain
	crowd echo
	await_line term_many.log 'bytes are held for [0-9]* connections \(--max-buffered 16777216\): who sends more'
	polite many
	leave
}

@test "500 who send and never read, before a COMMAND: the worker stays below 64 MiB, others are served, nothing stays" {
	requires plain
	crowd 'exec cat'
	polite many
	leave
}

# deaf [OPTION...]: BACKEND is a server that reads nothing (OPTION: of greedy.py).
deaf() {
	spawn back python3 "$HERE/peer/greedy.py" 127.0.0.1:0 "$@"
	await_line back.out :
	BACKEND=$(head -n 1 back.out)
}

@test "500 who send to a backend that reads nothing: the worker stays below 64 MiB, and nothing stays when they go" {
	requires plain
	deaf --bytes 0
	crowd link
	leave
}

@test "500 who read nothing of a backend that floods them: the worker stays below 64 MiB, and nothing stays when they go" {
	requires plain
	deaf
	crowd link --bytes 0
	leave
}

# --- at the budget, and below ---

@test "at the budget who takes nothing for --flush-timeout is cut as slow, until there is room again; the others are not" {
	local slow

	stand few tls echo --max-buffered 256k --flush-timeout 1s
	greedy few crowd 40
	await_line crowd_few.out '^lost'
	await_line term_few.log 'bytes are held for [0-9]* connections, below --max-buffered 262144 again'
	polite few
	slow=$(grep -c ' closed: slow, by us, .*, status 28$' term_few.log)
	echo "$slow were cut"
	[ "$slow" -lt 40 ]
	stop crowd_few
	free few
}

@test "below the budget nobody is cut for that: who takes nothing ends by --idle-timeout" {
	stand few tls echo --max-buffered 64M --flush-timeout 500ms --idle-timeout 2s
	greedy few crowd 20
	ended few 20 'idle, by us, [1-9][0-9]* bytes in, [1-9][0-9]* out'
	free few
	run ! grep -E 'slow,|bytes are held for' term_few.log
}

# bulk NAME SIZE: milliseconds (MS) for `big` there and back over one connection, with this --max-buffered.
bulk() {
	stand "$1" tls echo --max-buffered "$2"
	timeout $((LIMIT * 3)) ccf-connect --tls --ca "$CERTS/ca.pem" "localhost:${ADDR[$1]#*:}" <big >"$1.got"
	cmp big "$1.got"
}

@test "a single connection has the whole of a small budget: bulk passes through it as through a large one" {
	random big 33554432
	bulk large 64M
	bulk small 1M
}

@test "two workers share the budget" {
	local pids

	stand two tls echo --max-buffered 4M -j 2
	greedy two crowd 100
	await_line crowd_two.out '^stuck'
	eventually held two 1500000 3500000 2
	mapfile -t pids < <(workers term_two)
	[ ${#pids[@]} = 2 ]
	await_line term_two.log 'bytes are held for [0-9]* connections \(--max-buffered 2097152\): who sends more'
	stop crowd_two
	free two
}
