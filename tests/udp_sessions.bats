# udp_sessions - ccf-udpecho with a COMMAND: one for each peer, what it finds, when it begins and ends, and what bounds it.
#
# (who runs this makes no difference)

load helpers
load clients
load control

# --- what the tests share ---

# COUNTS is a COMMAND that says how many datagrams it has had, and the last.
# shellcheck disable=SC2016	# that is perl
COUNTS=(perl -e 'while (sysread STDIN, $d, 65536) { syswrite STDOUT, ++$n . " $d" }')

setup() {
	common_setup
	AT=(e=127.0.0.1:0) INSIDE=() WITH=()
}

# serve [OPTION...] [-- COMMAND...]: ccf-udpecho, spawned as srv, at ${AT[@]}, with a control socket; PORT is that of e.  Without
# a COMMAND its peers tell it what to do: tests/peer/obeys.py.
serve() {
	local options=()

	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	[ $# -gt 0 ] || set -- -- python3 -IS "$HERE/peer/obeys.py"
	rm -f srv.log a.json
	spawn srv "${INSIDE[@]}" "${WITH[@]}" ccf-udpecho --control srv.ctl --ready-fd 9 --address-file a.json \
	    --drain-timeout 100ms "${options[@]}" "${AT[@]}" "$@"
	port_of e
}

# port_of NAME: PORT is that of this interface.
port_of() {
	PORT=$(jq -r --arg name "$1" '.[$name] // empty' a.json)
	PORT=${PORT##*:}
}

# peer COMMAND ARG...: tests/peer/udp.py; what it says has to hold.
peer() {
	expect_status 0 "${INSIDE[@]}" python3 "$HERE/peer/udp.py" "$@"
}

# peers [HOST [OPTION...]]: `udp.py talk`, which is told everything at once, on standard input.
peers() {
	peer talk "${1-127.0.0.1}" "$PORT" --timeout "$LIMIT" "${@:2}"
}

# ask_once TEXT [OPTION...]: a line by ccf-connect, from a port of its own; the answer is in $output.
ask_once() {
	expect_status 0 ccf-connect --answer-timeout "${LIMIT}s" "${@:2}" "udp:${HOST-127.0.0.1}:$PORT" <<<"$1"
}

# talking NAME [HOST [OPTION...]]: the same in the background; it obeys `tell NAME [N] COMMAND...`.
talking() {
	local fd

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	TELL[$1]=$fd
	SPAWN_IN=$1.in spawn "$1" "${INSIDE[@]}" python3 "$HERE/peer/udp.py" talk "${2-127.0.0.1}" "$PORT" "${@:3}"
}

# heard NAME N TEXT: sooner or later its Nth socket gets that.
heard() {
	await_line "$1.out" "^$2 got [0-9]+: $3\$"
}

# asks NAME N TEXT ANSWER: that socket is answered so.
asks() {
	tell "$1" "$2" send "$3"
	heard "$1" "$2" "$4"
}

# insists NAME N TEXT ANSWER: the same, and it asks again until it is answered: something may have been lost.
insists() {
	eventually once_more "$@"
}

once_more() {
	tell "$1" "$2" send "$3"
	grep -qs -E "^$2 got [0-9]+: $4\$" "$1.out"
}

# told N PATTERN: sooner or later so many lines of srv's log match; there are not more of them by then.
told() {
	eventually times "$1" srv.log "$2" || {
		grep -c -E -e "$2" srv.log
		return 1
	}
}

# closed ID TEXT: its session is over, and the log says that of it.
closed() {
	await_line srv.log "^ccf-udpecho: info: $1 [^ ]+: closed: $2"
}

# latest: the session that began last.
latest() {
	sed -n 's/.* \(e#[0-9]*\) .*: session$/\1/p' srv.log | tail -n 1
}

# dropped REASON=N...: sooner or later so many datagrams were dropped.
dropped() {
	local pair want=()

	for pair; do
		want+=("ccfnet_datagrams_dropped_total{reason=\"${pair%=*}\"}=${pair#*=}")
	done
	figures srv "${want[@]}"
}

# begun N: so many sessions ever, at e.
begun() {
	figures srv "ccfnet_interface_accepted_total{interface=\"e\"}=$1"
}

# now SERIES: the figure at this moment, 0 if nothing was counted yet.
now() {
	figure srv "$1" || echo 0
}

# commands: the processes that srv has started and not yet waited for.
commands() {
	local children=()

	{ read -r -a children <"/proc/${PID[srv]}/task/${PID[srv]}/children"; } 2>/dev/null || :
	echo "${children[@]}"
}

has_commands() {
	[ "$(commands | wc -w)" = "$1" ]
}

# most WHAT N: the most there were of it so far is kept in MOST[WHAT].
most() {
	[ "$2" -le "${MOST[$1]-0}" ] || MOST[$1]=$2
}

# --- each peer has its own ---

@test "two peers of one COMMAND that counts see their own counts, in turn and at once" {
	serve -- "${COUNTS[@]}"
	peers <<-'END'
		1 send one
		1 expect 1 one
		2 send two
		2 expect 1 two
		1 send three
		1 expect 2 three
		1 send four
		2 send five
		1 send six
		2 send seven
		2 send eight
		1 expect 3 four
		1 expect 4 six
		2 expect 2 five
		2 expect 3 seven
		2 expect 4 eight
	END
	begun 2
	told 2 ': session$'
}

@test "they do so at one dual-stack socket, one over IPv4 and one over IPv6" {
	requires ipv6
	AT=(e=:0)
	serve -- "${COUNTS[@]}"
	talking four 127.0.0.1
	talking six ::1
	asks four 1 one '1 one'
	asks six 1 two '1 two'
	asks four 1 three '2 three'
	asks six 1 four '2 four'
	asks six 2 five '1 five'
	begun 3
	told 1 '^ccf-udpecho: info: e#1 127\.0\.0\.1:[0-9]+: session$'
	told 2 '^ccf-udpecho: info: e#[23] \[::1\]:[0-9]+: session$'
}

@test "of two hundred peers each gets its own back, whole, from a COMMAND of its own" {
	serve -- cat
	peer many 127.0.0.1 "$PORT" 200 --rounds 5 --sizes 1-1400
	begun 200
	rows srv 'length == 200 and (map(.peer) | unique | length) == 200'
	eventually has_commands 200
}

@test "one port of a peer's that speaks to two of our addresses has two sessions, and each answers from its own" {
	local from

	AT=(e=0.0.0.0:0)
	serve -- "${COUNTS[@]}"
	from=127.0.0.1:$(free_port)
	peers 127.0.0.1 --bind "$from" <<<$'send one\nexpect 1 one'		# whose socket hears 127.0.0.1 only
	peers 127.0.0.2 --bind "$from" <<<$'send two\nexpect 1 two'
	peers 127.0.0.1 --bind "$from" <<<$'send three\nexpect 2 three'
	peers 127.0.0.2 --bind "$from" <<<$'send four\nexpect 2 four'
	rows srv '(map(.peer) | unique) == ["'"$from"'"] and length == 2'
}

@test "interfaces have their own sessions, ids and caps" {
	AT=(e=127.0.0.1:0 other=127.0.0.2:0)
	serve --max-open-sessions-hard 1 --amplification 0 --id-prefix host-7
	talking here 127.0.0.1
	port_of other
	talking there 127.0.0.2
	asks here 1 hello '1 hello'
	asks there 1 env '.*CCF_CONN_ID=host-7/other#1.nCCF_INTERFACE=other.n.*UDPLOCALIP=127.0.0.2.n.*'
	tell there 2 send more
	dropped hard-cap=1
	figures srv 'ccfnet_interface_refused_total{interface="other",reason="hard-cap"}=1' \
	    'ccfnet_interface_refused_total{interface="e",reason="hard-cap"}=0' \
	    'ccfnet_interface_active{interface="e"}=1' 'ccfnet_interface_active{interface="other"}=1'
	node srv '.sessions.active == 2 and (.sessions.interfaces | map_values(.active) == {e: 1, other: 1})'
	await_line srv.log '^ccf-udpecho: info: host-7/e#1 127\.0\.0\.1:[0-9]+: session$'
}

# --- what a COMMAND finds ---

@test "a COMMAND has one blocking SEQPACKET socket on 0 and 1, 2, default signals, the limits we found, and nothing else" {
	WITH=(env --block-signal=USR2 --ignore-signal=HUP --ignore-signal=TERM prlimit --nofile=300:2000)
	exec 7</dev/null
	KEEP_FDS=7 serve --amplification 0
	ask_once what
	echo "$output"
	[ "${lines[0]}" = "descriptors 0 1 2" ]
	[ "${lines[1]}" = "0 and 1 are one AF_UNIX SOCK_SEQPACKET, blocking" ]
	[ "${lines[2]}" = "2 is no socket" ]
	[ "${lines[3]}" = "blocked 0 ignored 0" ]
	[ "${lines[4]}" = "limit 300 2000" ]
	grep -Eq '^Max open files +2000 +2000 ' "/proc/${PID[srv]}/limits"
}

# monotonic: by the clock that all processes of a host share, in milliseconds.
monotonic() {
	python3 -c 'import time; print(time.monotonic_ns() // 10**6)'
}

@test "the environment says who is there, and nothing that was planted in ours" {
	local before after

	WITH=(env -u SSL_CERT_FILE -u SSL_CERT_DIR PROTO=TCP TCPREMOTEIP=planted UDPREMOTEHOST=planted UDPLOCALIP=planted SSL_CLIENT_VERIFY=SUCCESS
		CCF_CAPPED=1 CCF_CONN_ID=planted LISTEN_PID=1 KEPT=yes)
	serve --amplification 0 -- sh -c 'dd bs=64k count=1 status=none >/dev/null
		env | grep -E "^(PROTO|TCP|UDP|SSL_|CCF_|LISTEN_|NOTIFY_|KEPT)" | sort >seen; cat seen'
	before=$(monotonic)
	ask_once env --bind 127.0.0.2
	after=$(monotonic)
	[ "$(sed -E 's/^(CCF_ACCEPTED|UDPREMOTEPORT)=[0-9]+$/\1=N/' seen)" = "CCF_ACCEPTED=N
CCF_CONN_ID=e#1
CCF_INTERFACE=e
KEPT=yes
PROTO=UDP
UDPLOCALIP=127.0.0.1
UDPLOCALPORT=$PORT
UDPREMOTEIP=127.0.0.2
UDPREMOTEPORT=N" ]
	[ "$output" = "$(cat seen)" ]
	await_line srv.log "^ccf-udpecho: info: e#1 127\.0\.0\.2:$(sed -n 's/^UDPREMOTEPORT=//p' seen): session"
	[ "$(sed -n 's/^CCF_ACCEPTED=//p' seen)" -ge "$before" ]
	[ "$(sed -n 's/^CCF_ACCEPTED=//p' seen)" -le "$after" ]
}

@test "at a dual-stack socket it says IPv4 of who came over IPv4, and the address that was asked" {
	requires ipv6
	AT=(e=:0)
	serve --amplification 0
	HOST=127.0.0.3 ask_once env --bind 127.0.0.2
	[[ $output == *$'\n'"UDPLOCALIP=127.0.0.3"$'\n'"UDPLOCALPORT=$PORT"$'\n'"UDPREMOTEIP=127.0.0.2"$'\n'* ]]
	HOST='[::1]' ask_once env
	[[ $output == *$'\n'"UDPLOCALIP=::1"$'\n'"UDPLOCALPORT=$PORT"$'\n'"UDPREMOTEIP=::1"$'\n'* ]]
}

@test "a read is a datagram, whole, from 1 to 65507 bytes" {
	local size sizes=(1 2 511 1472 1473 9000 32768 65506 65507)

	serve -- python3 -ISc 'import os
while got := os.read(0, 70000):
    os.write(2, b"read %d\n" % len(got))
    os.write(1, got)'
	peer ask 127.0.0.1 "$PORT" "${sizes[@]}" --timeout "$LIMIT"
	[ "$(sed -n 's/^read //p' srv.log | xargs)" = "${sizes[*]}" ]
	figures srv 'ccfnet_datagrams_total{direction="in"}=9' 'ccfnet_datagrams_total{direction="out"}=9'
}

@test "the programs that the manual names are COMMANDs as they are" {
	local port pairs=('cat' hello hello 'dd bs=64k status=none' hello hello 'stdbuf -oL tr a-z A-Z' hello HELLO
		'stdbuf -oL sed s/h/j/' hello jello 'stdbuf -oL cut -c2-' hello ello 'stdbuf -oL grep -v x' hello hello
		'jq --unbuffered -c .a' '{"a":[1]}' '[1]' 'mawk -W interactive {printf("%s",$2"\n")}' 'hello you' you)
	set -- "${pairs[@]}"
	while [ $# -gt 0 ]; do
		# shellcheck disable=SC2086
		serve --drain-timeout 60s -- $1
		ask_once "$2"$'\n'"$2" --window 1
		[ "$output" = "$3"$'\n'"$3" ] || { echo "$1: $output"; false; }
		stop srv
		[ "$ended" = 0 ]
		shift 3
	done
}

@test "an empty datagram is counted and not delivered, and begins no session" {
	serve
	peers <<-'END'
		1 hex
		2 hex
		2 send a
		2 expect 1 a
		2 hex
		2 send b
		2 expect 2 b
	END
	dropped empty=3
	figures srv 'ccfnet_datagrams_total{direction="in"}=5'
	begun 1
	rows srv 'length == 1 and .[0].in == 2'
}

@test "what a COMMAND writes is a datagram each, an empty one too; one that is too large is dropped and counted, or EMSGSIZE" {
	local most

	most=$(head -c 65507 /dev/zero | tr '\0' x)
	serve --amplification 0
	peers <<-END
		send empty
		expect
		expect behind it
		send write 65507
		expect $most
		expect 65507 written
		send write 65508
		expect 65508 written
		send write 131072
		expect Message too long
		send still
		expect 5 still
	END
	dropped too-large=1
}

@test "descriptors that a COMMAND sends with its answers are not taken" {
	local base

	serve
	talking cl
	asks cl 1 one '1 one'
	base=$(fd_count srv)
	asks cl 1 'rights 2' 'no more rights'
	keeps srv="$base"
	times 2 cl.out '^1 got 1: x$'
}

# --- how many there are ---

@test "at the cap a new peer is dropped, with one line and a counter; who is there goes on, and when one ends there is room" {
	serve --max-open-sessions-hard 2
	talking cl
	asks cl 1 one '1 one'
	asks cl 2 two '1 two'
	tell cl 3 send no
	tell cl 3 send no
	tell cl 4 send no
	dropped hard-cap=3
	figures srv 'ccfnet_interface_refused_total{interface="e",reason="hard-cap"}=3' \
	    'ccfnet_connections_refused_total{reason="hard-cap"}=3' 'ccfnet_interface_hard_cap{interface="e"}=2'
	asks cl 1 more '2 more'
	asks cl 2 more '2 more'
	told 1 '^ccf-udpecho: info: 127\.0\.0\.1:[0-9]+: e: dropped: at the hard cap of 2 sessions \(--max-open-sessions-hard\)$'

	asks cl 2 'last that was it' 'that was it'
	closed e#2 exited
	asks cl 3 yes '1 yes'
	tell cl 2 send no
	dropped hard-cap=4
	told 2 'dropped: at the hard cap of 2 sessions'		# another episode
	asks cl 1 again '3 again'
	begun 3
}

@test "a flood of new peers at the cap costs one line, and no peer that is there notices" {
	serve --max-open-sessions-hard 10 -- "${COUNTS[@]}"
	talking cl
	asks cl 1 one '1 one'
	peer flood 127.0.0.1 "$PORT" 0.5 --peers 200
	eventually more_than 1000 'ccfnet_datagrams_dropped_total{reason="hard-cap"}'
	insists cl 1 two '[0-9]+ two'
	run ! grep -qx '1 got 5: 1 two' cl.out
	told 1 'dropped: at the hard cap of 10 sessions'
	begun 10
	eventually has_commands 10
}

more_than() {
	[ "$(now "$2")" -gt "$1" ]
}

@test "COMMANDs that do not end with their sessions count at their interface until they do: then new peers get in again" {
	local pid

	AT=(e=127.0.0.1:0 f=127.0.0.1:0)
	serve --max-open-sessions-hard 1 --idle-timeout 300ms
	talking cl
	insists cl 1 stay...... 'staying, [0-9]+'
	pid=$(sed -n 's/^1 got [0-9]*: staying, //p' cl.out | tail -n 1)
	closed "$(latest)" idle
	tell cl 2 send no
	dropped hard-cap=1
	told 1 'e: dropped: the COMMANDs of 1 sessions that are over have not exited \(--max-open-sessions-hard\)$'
	port_of f
	talking other
	tell other send there
	await_line srv.log ' f#1 [^ ]+: session$'	# the other interface has nothing to do with that
	kill "$pid" || :			# unless we have, five seconds later
	eventually has_commands 0
	asks cl 2 yes '1 yes'
}

@test "COMMANDs that close their socket and live on are no more than the cap allows twice, and a few, however many ask" {
	local -A MOST=()

	serve --max-open-sessions-hard 2 -- sh -c 'exec <&- >&-; exec sleep 60'
	spawn flood python3 "$HERE/peer/udp.py" flood 127.0.0.1 "$PORT" 1 --peers 300
	while mine "${PID[flood]}"; do
		most commands "$(commands | wc -w)"
		gone "${PID[flood]}" 0.05 || :
	done
	ends_with 0 flood
	most commands "$(commands | wc -w)"
	echo "most: ${MOST[commands]} COMMANDs"
	eventually more_than 0 'ccfnet_datagrams_dropped_total{reason="hard-cap"}'
	[ "${MOST[commands]}" -le 20 ]		# two open, two that we wait for, 16 that may be gone any moment
	[ "${MOST[commands]}" -ge 2 ]
	stop srv
	[ "$ended" = 28 ]
}

@test "--rate-sessions: of many new peers at once so many get a session, the others are counted; who has one goes on" {
	local n

	serve --rate-sessions 5 -- "${COUNTS[@]}"
	talking cl
	asks cl 1 one '1 one'
	kill -STOP "${PID[srv]}"
	for n in {2..26}; do
		tell cl "$n" send new
	done
	await_line cl.out '^26 from '
	tell cl 1 send two		# all others are on their way
	kill -CONT "${PID[srv]}"
	heard cl 1 '2 two'
	figures srv 'ccfnet_datagrams_total{direction="in"}=27'
	n=$(now 'ccfnet_interface_accepted_total{interface="e"}')
	echo "$n sessions"
	[ "$n" -ge 5 ] && [ "$n" -le 15 ]	# while it is slow new ones come in
	dropped rate-sessions=$((26 - n))
	await_line srv.log '^ccf-udpecho: info: 127\.0\.0\.1:[0-9]+: e: dropped: above --rate-sessions$'
}

@test "what was sent to a broadcast address begins no session" {
	AT=(e=0.0.0.0:0)
	serve
	peer burst 127.255.255.255 "$PORT" 3 --between 0 0
	peers <<<$'send one\nexpect 1 one'
	dropped loop=3
	begun 1
}

# --- how a session ends ---

@test "a silent peer's session ends, its COMMAND with it, and when the peer comes back it gets a new one" {
	local id

	serve --idle-timeout 300ms
	talking cl
	insists cl 1 one '[0-9]+ one'
	id=$(latest)
	closed "$id" 'idle, by us, [0-9]+ bytes in, [0-9]+ out, after [0-9.]+ s$'
	eventually has_commands 0
	grep -Ehx "$id after [0-9]+: Broken pipe" ended.*	# it read the end
	rows srv 'length == 0'
	insists cl 1 two '1 two'
	await_line srv.log "^ccf-udpecho: info: e#$((${id#*#} + 1)) 127\.0\.0\.1:[0-9]+: session$"
	[ "$(sed -n 's/.* e#[0-9]* \([^ ]*\): session$/\1/p' srv.log | sort -u | wc -l)" = 1 ]
}

@test "a session in which something goes on does not end" {
	serve --idle-timeout 500ms -- "${COUNTS[@]}"
	peer steady 127.0.0.1 "$PORT" 1.5 --idle 0.5
	[[ $output == *"answered, "* ]]
}

@test "a COMMAND that exits ends its session after its last words, and the next one counts from 1" {
	serve
	talking cl
	asks cl 1 one '1 one'
	asks cl 1 'last good bye' 'good bye'
	closed e#1 'exited, by inner, 16 bytes in, 13 out, after [0-9.]+ s$'
	asks cl 1 two '1 two'
	tell cl 1 send exit 7
	closed e#2 'exited, by inner, 9 bytes in, 5 out, after [0-9.]+ s, status 7$'
	asks cl 1 three '1 three'
	begun 3
	figures srv 'ccfnet_connections_closed_total{reason="exited"}=2' 'ccfnet_commands_total{result="ok"}=3' \
	    'ccfnet_connection_bytes_total{direction="in"}=25' 'ccfnet_connection_bytes_total{direction="out"}=18'
}

@test "everything that a COMMAND wrote before it exited arrives, however late we look, and whatever it left unread" {
	local pid

	mkfifo go
	serve --amplification 0 -- python3 -ISc 'import os, signal
os.read(0, 99)
open("go").close()
os.kill(os.getppid(), signal.SIGSTOP)
for i in range(100):
    os.write(1, b"word %d" % i)'
	talking cl
	for _ in {1..6}; do
		tell cl 1 send hello
	done
	rows srv '.[0].in == 30'
	pid=$(commands)
	: >go
	eventually dead "$pid"
	kill -CONT "${PID[srv]}"
	heard cl 1 'word 99'
	times 100 cl.out '^1 got [0-9]+: word [0-9]+$'
	closed e#1 'exited, by inner, 30 bytes in, 690 out, after [0-9.]+ s$'
}

@test "a COMMAND that exits and leaves somebody on its socket ends its session all the same, and he reads the end" {
	serve -- sh -c 'exec 3<&0; { cat <&3 >/dev/null; echo end >end; } & exit 3'
	talking cl
	tell cl 1 send hello
	closed e#1 'exited, by inner, 5 bytes in, 0 out, after [0-9.]+ s, status 3$'
	await_line end '^end$'
}

@test "who was left on a COMMAND's socket and writes for ever does not keep us busy when it exits" {
	local pid

	mkfifo go
	serve --max-queue 1G -- perl -e 'sysread STDIN, $d, 99; open F, "<go"; kill STOP => getppid;
		for (1 .. 3) { next if fork; 1 while syswrite STDOUT, "x"; exit } exit 3'
	talking cl
	tell cl send hello
	rows srv '.[0].in == 5'
	pid=$(commands)
	: >go
	eventually dead "$pid"
	kill -CONT "${PID[srv]}"
	closed e#1 'exited, by inner, 5 bytes in, 15 out, after [0-9.]+ s, status 3$'
	pid=$(now 'ccfnet_datagrams_dropped_total{reason="amplification"}')
	echo "$pid dropped"
	[ "$pid" -lt 6000 ]		# as many as it may have left, and not as they can add meanwhile
}

@test "a COMMAND that is killed ends its session" {
	serve
	talking cl
	tell cl 1 send kill 9
	closed e#1 'killed, by inner, 6 bytes in, 0 out, after [0-9.]+ s, status 137$'
	asks cl 1 one '1 one'
	figures srv 'ccfnet_connections_closed_total{reason="killed"}=1'
}

@test "a COMMAND that closes its socket and lives on frees its place, and is ended with us at the latest" {
	serve --max-open-sessions-hard 2
	talking cl
	tell cl 1 send close
	closed e#1 'closed, by inner, 5 bytes in, 0 out, after [0-9.]+ s$'
	eventually has_commands 1
	asks cl 2 one '1 one'
	asks cl 1 two '1 two'
	figures srv 'ccfnet_interface_active{interface="e"}=2' 'ccfnet_connections_closed_total{reason="closed"}=1'
	eventually has_commands 3
	stop srv
	[ "$ended" = 28 ]		# it was waited for
}

@test "200 sessions come and go, and descriptors and processes are as before" {
	local base

	serve -- dd bs=64k count=1 status=none
	base=$(fd_count srv)
	peer rounds 127.0.0.1 "$PORT" 200 --timeout "$LIMIT"
	figures srv 'ccfnet_connections_closed_total{reason="exited"}=200' 'ccfnet_connections_active=0'
	begun 200
	rows srv 'length == 0'
	eventually has_commands 0
	keeps srv="$base"
}

# --- what a COMMAND does not read ---

@test "of what a COMMAND does not read at most --max-queue is held, the rest is dropped and counted; others notice nothing" {
	local rss

	serve
	talking cl
	tell cl 1 send deaf
	asks cl 2 one '1 one'
	rss=$(rss_kib srv)
	for _ in {1..1000}; do
		tell cl 1 size 1000
	done
	insists cl 2 two '[0-9]+ two'
	eventually adds_up
	rows srv '.[0].id == "e#1" and .[0].held > 65536 and .[0].held <= 131072 + 4096 and .[0].in > 10000 and .[0].in < 131072'
	eventually more_than 500 'ccfnet_datagrams_dropped_total{reason="queue-full"}'
	asks cl 2 six '[0-9]+ six'
	[ -n "${CCF_SAN-}" ] || [ "$(rss_kib srv)" -lt $((rss + 2048)) ]
}

# All that came was for the second peer, in three bytes each, or is held for the first, a thousand each, or was dropped.
adds_up() {
	local held others

	answers 200 srv GET /connections || return
	held=$(jq '(.[0].in - 4) / 1000' srv.body) others=$(jq '.[1].in / 3' srv.body)
	echo "$others, and 1 + $held held"
	[ "$(now 'ccfnet_datagrams_total{direction="in"}')" = \
	    $((others + 1 + held + $(now 'ccfnet_datagrams_dropped_total{reason="queue-full"}'))) ]
}

@test "two of the largest fit a queue of the least size, and the session can end with them unread" {
	serve --max-queue 128k
	talking cl
	tell cl 1 send deaf
	tell cl 1 size 65507
	rows srv '.[0].in == 65511'
	tell cl 1 size 65507
	tell cl 1 size 65507
	dropped queue-full=1
	await_line srv.log 'e#1 .*: dropped: the COMMAND has not read what came before \(--max-queue\)$'
	answers 200 srv DELETE '/connections/e%231'
	closed e#1 'control, by us, 131018 bytes in, 0 out'
	asks cl 1 again '1 again'
}

# --- whom a peer speaks for ---

# x N: so many.
x() {
	head -c "$1" /dev/zero | tr '\0' x
}

UNSHOWN='and the peer has not shown yet that it gets them \(--amplification\)$'

@test "a peer that has not shown itself gets three bytes for one of its own, and what is more is dropped, counted and told" {
	serve
	talking cl
	tell cl 1 send say 31....				# these are ten
	dropped amplification=1
	told 1 "^ccf-udpecho: info: e#1 127\.0\.0\.1:[0-9]+: 31 bytes dropped: 10 in and 0 out, $UNSHOWN"
	asks cl 2 say\ 30.... "$(x 30)"
	asks cl 1 say\ 60.... "$(x 60)"				# 20 in, and still nothing out
	tell cl 3 send flood\ 4"$(printf .%.0s {1..93})"	# a hundred
	dropped amplification=2
	told 1 "^ccf-udpecho: info: e#3 127\.0\.0\.1:[0-9]+: 100 bytes dropped: 100 in and 300 out, $UNSHOWN"
	eventually times 3 cl.out "^3 got 100: "
	figures srv 'ccfnet_datagrams_total{direction="out"}=5' 'ccfnet_datagram_bytes_total{direction="out"}=390'
}

@test "a second datagram after the first answer shows that it gets them, and then there is no limit" {
	serve
	talking cl
	asks cl 1 one '1 one'
	tell cl 1 send say 60000
	await_line cl.out '^1 got 60000: x'
	# two that come before any answer show nothing
	tell cl 2 send say 31....
	dropped amplification=1
	tell cl 2 send say 61....
	dropped amplification=2
	asks cl 2 say\ 90.... "$(x 90)"
	tell cl 2 send say 50000
	await_line cl.out '^2 got 50000: x'
	dropped amplification=2
}

@test "--amplification 10 is ten bytes for one, and 0 is no limit" {
	serve --amplification 10
	talking cl
	tell cl 1 send say 101...
	dropped amplification=1
	asks cl 2 say\ 100... "$(x 100)"
	stop srv
	serve --amplification 0
	talking cl2
	tell cl2 1 send say 65507
	await_line cl2.out '^1 got 65507: x'
}

@test "an empty answer counts as a byte: a peer that has not shown itself gets three for one of its own" {
	serve -- perl -e 'while (sysread STDIN, $d, 99) { syswrite STDOUT, "" for 1 .. 20 }'
	talking cl
	tell cl send x
	dropped amplification=17
	figures srv 'ccfnet_datagrams_total{direction="out"}=3'
	await_line srv.log "^ccf-udpecho: info: e#1 127\.0\.0\.1:[0-9]+: 0 bytes dropped: 1 in and [0-9] out, $UNSHOWN"
	tell cl send x
	figures srv 'ccfnet_datagrams_total{direction="out"}=23'
	dropped amplification=17
}

# --- addresses that were made up ---

# apart: a network namespace of our own, where we are root; INSIDE is the command that runs another there.
apart() {
	requires netns
	spawn here "${NETNS[@]}" sh -ec 'ip link set lo up; echo up; exec tail -f /dev/null'
	await_line here.out '^up$'
	INSIDE=(nsenter --target "${PID[here]}" --net)
	[ "$EUID" = 0 ] || INSIDE+=(--user --preserve-credentials)
}

# bats test_tags=root
@test "20,000 made-up peers at a cap of 50 cost a bounded table, and a peer that is there goes on; later there is room again" {
	local -A MOST=()
	local base rss

	apart
	serve --max-open-sessions-hard 50 --idle-timeout 2s -- "${COUNTS[@]}"
	base=$(fd_count srv) rss=$(rss_kib srv)
	spawn steady "${INSIDE[@]}" python3 "$HERE/peer/udp.py" steady 127.0.0.1 "$PORT" 100 --idle 2
	await_line steady.out '^answered '
	spawn flood "${INSIDE[@]}" python3 "$HERE/peer/udp.py" spoof --of 127.77.0.0/16 127.0.0.1 "$PORT" 20000 1
	while mine "${PID[flood]}"; do
		most commands "$(commands | wc -w)"
		most descriptors "$(fd_count srv)"
		most kib "$(rss_kib srv)"
		gone "${PID[flood]}" 0.1 || :
	done
	ends_with 0 flood
	echo "most: ${MOST[commands]} COMMANDs, ${MOST[descriptors]} descriptors (base $base), ${MOST[kib]} KiB (base $rss)"
	eventually more_than 2000 'ccfnet_datagrams_dropped_total{reason="hard-cap"}'
	[ "${MOST[commands]}" -le 101 ]				# 50, and as many that are just ending
	[ "${MOST[descriptors]}" -le $((base + 51)) ]		# and one for who asks on the control socket
	[ -n "${CCF_SAN-}" ] || [ "${MOST[kib]}" -le $((rss + 8192)) ]
	[ "$(now ccfnet_connections_peak)" = 50 ]
	eventually answered_after "$(wc -l <steady.out)"
	figures srv ccfnet_connections_active=1			# the others are idle now
	eventually has_commands 1
	peer talk 127.0.0.1 "$PORT" --timeout "$LIMIT" <<<$'send hello\nexpect 1 hello'
	stop steady
	[ "$ended" = 0 ]
	tail -n 1 steady.out
}

answered_after() {
	[ "$(wc -l <steady.out)" -gt "$1" ]
}

# bats test_tags=root
@test "what seems to come from ourselves is dropped: a COMMAND that echoes is not set upon itself" {
	apart
	AT=(e=127.0.0.1:0 any=0.0.0.0:0)
	serve -- cat
	peer spoof 127.0.0.1 "$PORT" 1 0 --from "127.0.0.1:$PORT"
	dropped loop=1
	port_of any
	peer spoof 127.0.0.2 "$PORT" 1 0 --from "127.0.0.2:$PORT"
	peer spoof 127.0.0.2 "$PORT" 1 0 --from 127.0.0.2:5000	# nobody special
	dropped loop=2
	begun 0
	figures srv 'ccfnet_interface_accepted_total{interface="any"}=1'
}

# --- what is short ---

@test "a COMMAND that is not there is 127, and one that cannot be run 126, before anything is bound" {
	run -127 ccf-udpecho --address-file a.json 127.0.0.1:0 -- no-such-command
	[ "$output" = "ccf-udpecho: error: cannot run no-such-command: No such file or directory" ]
	echo 'exit 0' >plain
	expect_status 126 ccf-udpecho --address-file a.json 127.0.0.1:0 -- ./plain
	[ "$output" = "ccf-udpecho: error: cannot run ./plain: Permission denied" ]
	[ ! -e a.json ]
}

@test "a COMMAND that goes away later: new peers are dropped, counted and summed up, others go on, and when it is back all is well" {
	local began=$SECONDS i

	cp "$(type -P cat)" command
	serve --drain-timeout 60s -- ./command
	talking cl
	asks cl 1 one one
	rm command
	for i in {101..130}; do
		tell cl "$i" send no
	done
	dropped cannot-run=30
	figures srv 'ccfnet_commands_total{result="failed"}=30' 'ccfnet_commands_total{result="ok"}=1' ccfnet_connections_active=1
	asks cl 1 two two
	cp "$(type -P cat)" command.new
	mv command.new command
	asks cl 102 yes yes
	begun 2
	eventually has_commands 2
	stop srv
	[ "$ended" = 0 ]
	summed_up 30 srv.log 'error: cannot run \./command: No such file or directory$' 'commands that could not be run' "$began"
}

# spare N: from now on srv can have N descriptors more than it has; `spare all`: as before.
spare() {
	local n=-1 more=$1

	if [ "$1" = all ]; then
		n=$(ulimit -Hn)
	else
		while [ "$more" -ge 0 ]; do
			n=$((n + 1))
			[ -e "/proc/${PID[srv]}/fd/$n" ] || more=$((more - 1))
		done
	fi
	prlimit --pid "${PID[srv]}" --nofile="$n:"
}

@test "out of descriptors new peers are dropped and counted, with one line; who is there goes on, and later others get in" {
	serve
	talking cl
	asks cl 1 one '1 one'
	spare 1
	tell cl 2 send no
	await_line srv.log '^ccf-udpecho: warn: cannot start a session: Too many open files; what new peers send is dropped until '
	tell cl 3 send no
	asks cl 1 two '2 two'
	spare all
	dropped no-descriptors=2
	asks cl 2 yes '1 yes'
	asks cl 3 yes '1 yes'
	told 1 'cannot start a session'
	begun 3
}

# --- who asks on the control socket ---

@test "GET /connections shows the sessions, with what came and went" {
	serve --amplification 0
	talking cl
	asks cl 1 say\ 100 "$(x 100)"
	asks cl 1 hello '2 hello'
	asks cl 2 hello '1 hello'
	rows srv 'length == 2 and (.[0] | .id == "e#1" and .interface == "e" and .state == "open" and .tls == null and .in == 12
	    and .out == 107 and .held == 0 and (.peer | test("^127.0.0.1:[0-9]+$")) and .idle <= .age and .age > 0)'
	rows srv '.[1].id == "e#2" and .[1].in == 5 and .[1].out == 7'
	asks cl 2 'last bye' bye
	rows srv 'map(.id) == ["e#1"]'
}

@test "DELETE of a session ends it and its COMMAND at once, even one that does not mind the end" {
	serve
	talking cl
	asks cl 1 stay...... 'staying, [0-9]+'
	asks cl 2 one '1 one'
	answers 200 srv DELETE '/connections/e%231'
	closed e#1 'control, by us, 10 bytes in, [0-9]+ out, after [0-9.]+ s, status 18$'
	eventually -t 4 has_commands 1				# not only when its five seconds are over
	answers 404 srv DELETE '/connections/e%231'
	answers 404 srv DELETE '/connections/e%237'
	asks cl 2 two '2 two'
	asks cl 1 again '1 again'
	rows srv 'map(.id) == ["e#2", "e#3"]'
}

@test "/metrics and /node/metrics say how many sessions there are and were, and what became of them" {
	serve --max-open-sessions-hard 3 --idle-timeout none
	talking cl
	correct srv
	node srv '.sessions.active == 0 and .sessions.interfaces.e.hard_cap == 3'
	asks cl 1 one '1 one'
	asks cl 2 two '1 two'
	asks cl 2 'last bye' bye
	asks cl 3 three '1 three'
	closed e#2 exited
	node srv '.sessions.active == 2 and .sessions.peak == 2 and (.sessions.interfaces.e |
	    .active == 2 and .peak == 2 and .hard_cap == 3 and .errors.parsing == 0)'
	figures srv ccfnet_connections_active=2 ccfnet_connections_peak=2 ccfnet_connections_taken_total=3 \
	    'ccfnet_connections_closed_total{reason="exited"}=1' 'ccfnet_interface_active{interface="e"}=2' \
	    'ccfnet_interface_peak{interface="e"}=2' 'ccfnet_commands_total{result="ok"}=3' \
	    'ccfnet_datagrams_total{direction="in"}=4' 'ccfnet_datagrams_total{direction="out"}=4' \
	    'ccfnet_datagram_bytes_total{direction="in"}=19' 'ccfnet_datagram_bytes_total{direction="out"}=20' \
	    'ccfnet_connection_seconds_count=1'
	cp srv.body before
	asks cl 1 'last bye' bye
	correct srv
	python3 "$HERE/peer/promcheck.py" srv.body before
	closed e#1 exited
	kill -USR1 "${PID[srv]}"
	await_line srv.log ' e: at udp:127\.0\.0\.1:[0-9]+, 1 sessions, peak 2, hard 3, begun 3, refused 0$'
}

# --- the end ---

@test "TERM without a session is the end, with 0" {
	serve --drain-timeout 60s
	stop srv
	[ "$ended" = 0 ]
}

@test "at TERM a COMMAND reads what is queued and then the end, and its last words arrive" {
	local pid

	serve --amplification 0 --drain-timeout 60s
	talking cl
	asks cl 2 two '1 two'
	asks cl 1 pid '[0-9]+'
	pid=$(sed -n 's/^1 got [0-9]*: //p' cl.out)
	kill -STOP "$pid"
	for i in 2 3 4 5; do
		tell cl 1 send queued
	done
	rows srv '.[1].in == 27'
	kill -TERM "${PID[srv]}"
	heard cl 2 'bye after 1'
	rows srv 'map(.state) == ["draining"]'
	kill -CONT "$pid"
	heard cl 1 'bye after 5'
	times 4 cl.out '^1 got [0-9]+: [2-5] queued$'
	ends_with 0 srv
	grep -E 'e#1 .*: closed: exited, by inner, 3 bytes in, 16 out, after [0-9.]+ s$' srv.log
	grep -E 'e#2 .*: closed: exited, by inner, 27 bytes in, ' srv.log
	run ! grep -h -v ': bye$' ended.*
}

@test "a COMMAND that does not end is ended when the drain has lasted too long, and that is 28" {
	serve --amplification 0 --drain-timeout 1s
	talking cl
	asks cl 1 stay 'staying, [0-9]+'
	kill -TERM "${PID[srv]}"
	ends_with 28 srv
	grep -F 'warn: not drained in time (--drain-timeout): ending now' srv.log
	grep -E 'e#1 .*: closed: drain-timeout, by us, 4 bytes in, .*, status 28$' srv.log
	eventually only_cl
}

# Nothing that was started here runs but the peers.
only_cl() {
	[ "$(unset TEST_MARK; left_over)" = "${PID[cl]}" ]
}

@test "a second TERM does not wait" {
	serve --amplification 0 --drain-timeout 60s
	talking cl
	asks cl 1 stay...... 'staying, [0-9]+'
	kill -TERM "${PID[srv]}"
	heard cl 1 'bye after 1'
	kill -TERM "${PID[srv]}"
	ends_with 28 srv
	grep -F 'a second signal: ending now' srv.log
	eventually only_cl
}

@test "TERM under a flood, with sessions, is soon the end" {
	local began

	serve --drain-timeout 60s -- cat
	spawn flood python3 "$HERE/peer/udp.py" flood 127.0.0.1 "$PORT" 60 --peers 20
	begun 20
	eventually more_than 2000 'ccfnet_datagrams_total{direction="out"}'
	began=$(date +%s%3N)
	kill -TERM "${PID[srv]}"
	ends_with 0 srv 10
	echo "$(($(date +%s%3N) - began)) ms"
	[ "$(grep -c 'closed: exited, by inner' srv.log)" = 20 ]
	stop flood
}

# --- usage ---

@test "the options of sessions are usage errors without a COMMAND, and so is what they cannot be" {
	local option

	for option in '--amplification 3' '--idle-timeout 5s' '--max-open-sessions-hard 5' '--max-queue 1M' '--rate-sessions 9'; do
		# shellcheck disable=SC2086
		expect_status 2 ccf-udpecho $option 127.0.0.1:0
		[ "$output" = "ccf-udpecho: error: ${option% *} is for the sessions of a COMMAND: an echo has none (ccf-udpecho --help shows the options)" ]
	done
	for option in '--amplification -1' '--idle-timeout 5' '--max-open-sessions-hard 0' '--max-queue 127k' '--id-prefix a/b'; do
		# shellcheck disable=SC2086
		expect_status 2 ccf-udpecho $option 127.0.0.1:0 -- cat
		[[ $output == "ccf-udpecho: error: ${option% *}"* ]] || { echo "$output"; false; }
		[ "${#lines[@]}" = 1 ]
	done
	expect_status 2 ccf-udpecho 127.0.0.1:0 --
	[[ $output == "ccf-udpecho: error: a COMMAND is missing after --"* ]]
	expect_status 2 ccf-udpecho -- cat
	[[ $output == "ccf-udpecho: error: an ADDRESS is missing"* ]]
}
