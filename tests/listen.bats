# listen - ccf-listen by itself: how it says where it is, whom it lets in, what a COMMAND finds, how it ends, what it logs.
#
# (who runs this makes no difference)

load helpers

# --- what the tests share ---

# listening ARG...: ccf-listen, spawned as lst with a new log and an address file; ADDR is where rpc is.
listening() {
	rm -f lst.log a.json
	spawn lst ccf-listen --ready-fd 9 --address-file a.json "$@"
	ADDR=$(address a.json rpc)
	PORT=${ADDR##*:}
}

# dial VAR [ADDRESS]: a connection; its descriptor's number goes into VAR.
dial() {
	local to=${2-$ADDR} fd

	exec {fd}<>"/dev/tcp/${to%:*}/${to##*:}"
	printf -v "$1" %s "$fd"
}

# heard FD: all that comes until the end of stream.
heard() {
	timeout "$LIMIT" cat <&"$1"
}

hang_up() {
	local fd=$1

	exec {fd}<&-
}

# ask [ADDRESS [OPTION...]]: connects, ends its direction at once, and prints what comes.
ask() {
	local to=${1-$ADDR} host

	shift || :
	host=${to%:*} host=${host#[} host=${host%]}
	timeout "$LIMIT" nc -N "$@" "$host" "${to##*:}" </dev/null
}

refused() {
	! (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null
}

# lines PATTERN: how many lines of the log match.
lines() {
	grep -cE -e "$1" lst.log || :
}

# alone: nothing that a test has started runs any more.
alone() {
	(unset TEST_MARK && nobody_left)
}

# connections N: so many are open, says the tool itself, sooner or later: what it counts ends after its client has seen the end.
connections() {
	eventually counts "$1"
}

counts() {
	local seen

	seen=$(lines ' open, peak ')
	mine "${PID[lst]}" || return
	kill -USR1 "${PID[lst]}"
	eventually more_lines "$seen"
	grep ' open, peak ' lst.log | tail -n 1 | grep -q ", $1 open,"
}

more_lines() {
	[ "$(lines ' open, peak ')" -gt "$1" ]
}

# --- where it is ---

@test "the address file names every interface with the port it got, and replaces the old file by rename" {
	echo old >a.json
	exec {old}<a.json
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 node-2=127.0.0.3:0 127.0.0.1:0 "unix:$PWD/s" -- cat
	[ "$(jq -r 'keys | length' a.json)" = 4 ]
	[[ $(address a.json rpc) =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	[[ $(address a.json node-2) =~ ^127\.0\.0\.3:[1-9][0-9]*$ ]]
	[[ $(address a.json 127.0.0.1:0) =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	[ "$(address a.json "unix:$PWD/s")" = "unix:$PWD/s" ]
	[ "$(cat <&"$old")" = old ]
	[ "$(echo a.json*)" = a.json ]
	[ "$(ask "$(address a.json node-2)")" = "" ]
}

@test "an address file that cannot be written is status 1, and no socket is left behind" {
	expect_status 1 ccf-listen --address-file none/a.json "unix:$PWD/s" -- cat
	[[ $output == *"--address-file none/a.json: cannot write it: No such file"* ]]
	[ ! -e s ]
	mkdir dir
	expect_status 1 ccf-listen --address-file dir "unix:$PWD/s" -- cat
	[ ! -e s ]
	[ "$(echo dir*)" = dir ]
}

@test "an address file that is a pipe, a link or a device is not replaced by one" {
	local reader

	mkfifo fifo
	cat fifo >came 3>&- &
	reader=$!
	ln -s target link
	spawn lst ccf-listen --ready-fd 9 --address-file fifo rpc=127.0.0.1:0 -- cat
	wait "$reader"
	[ -p fifo ]
	[[ $(address came rpc) =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	spawn other ccf-listen --ready-fd 9 --address-file link rpc=127.0.0.1:0 -- cat
	[ -L link ]
	[[ $(address target rpc) =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	expect_status 1 ccf-listen --address-file /dev/full rpc=127.0.0.1:0 -- cat
	[[ $output == *"--address-file /dev/full: cannot write it: No space left"* ]]
	[ -c /dev/full ]
}

@test "--ready-fd gets one newline when the ports are bound, and nothing more comes" {
	make_pipe ready_r ready_w
	KEEP_FDS=$ready_w spawn lst ccf-listen --ready-fd "$ready_w" --address-file a.json --to link rpc=127.0.0.1:0
	exec {ready_w}>&-
	[ "$(timeout "$LIMIT" od -An -c <&"$ready_r" | tr -d ' ')" = '\n' ]
	refused "$(address a.json rpc)"
	kill -0 "${PID[lst]}"
}

@test "--ready-fd may be a standard descriptor: 2 stays what it is for a COMMAND" {
	spawn lst ccf-listen --ready-fd 2 --address-file a.json rpc=127.0.0.1:0 -- sh -c 'echo said >&2'
	await_line lst.log '^$'
	ask "$(address a.json rpc)"
	await_line lst.log '^said$'
}

@test "--ready-when listening waits until a consumer has granted credit" {
	make_pipe ready_r ready_w
	KEEP_FDS=$ready_w spawn lst ccf-listen --ready-fd "$ready_w" --ready-when listening --address-file a.json --to link rpc=127.0.0.1:0
	exec {ready_w}>&-
	eventually test -e a.json
	kill -USR1 "${PID[lst]}"
	await_line lst.log 'rpc: bound, refusing'
	run ! read -r -t 0 -u "$ready_r"
	refused "$(address a.json rpc)"
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo
	[ "$(timeout "$LIMIT" od -An -c <&"$ready_r" | tr -d ' ')" = '\n' ]
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "$(address a.json rpc | cut -d: -f2)")" = hello ]
}

@test "--ready-when listening without anybody to tell, and --ready-fd that is not open, are usage errors" {
	expect_status 2 ccf-listen --ready-when listening 127.0.0.1:0 -- cat
	[[ $output == *"--ready-when needs --ready-fd or NOTIFY_SOCKET"* ]]
	expect_status 2 ccf-listen --ready-fd 77 127.0.0.1:0 -- cat
	[[ $output == *"--ready-fd 77: that descriptor is not open"* ]]
}

# supervised RECEIVER NAME: a supervisor hears what is said to NOTIFY_SOCKET=NAME.
supervised() {
	SPAWN_OUT=told spawn sup socat -u "$1" STDOUT
	eventually grep -q " $2\$" /proc/net/unix
	NOTIFY_SOCKET=$2 spawn lst ccf-listen --address-file a.json rpc=127.0.0.1:0 -- env
	eventually grep -q '^READY=1' told
	ask "$(address a.json rpc)" >env.out
	grep -q '^CCF_INTERFACE=rpc$' env.out
	run ! grep -E '^(NOTIFY_SOCKET|LISTEN_)' env.out
	stop lst
	[ "$(cat told)" = READY=1 ]
}

@test "a supervisor is told READY=1, and a COMMAND does not learn of it" {
	supervised "UNIX-RECV:$PWD/notify" "$PWD/notify"
}

@test "a supervisor may have an abstract name" {
	local name=ccf-$$-$RANDOM

	supervised "ABSTRACT-RECV:$name" "@$name"
}

@test "with --ready-when listening a supervisor is told when a consumer is there" {
	SPAWN_OUT=told spawn sup socat -u "UNIX-RECV:$PWD/notify" STDOUT
	eventually test -S notify
	NOTIFY_SOCKET=$PWD/notify spawn lst ccf-listen --ready-when listening --address-file a.json --to link rpc=127.0.0.1:0
	eventually test -e a.json
	kill -USR1 "${PID[lst]}"
	await_line lst.log 'rpc: bound, refusing'
	[ ! -s told ]
	spawn peer python3 "$HERE/peer/handoff.py" consume link
	eventually grep -q '^READY=1' told
}

# --- sockets that a supervisor has bound ---

activated() {
	spawn lst python3 "$HERE/peer/activate.py" "$@"
	eventually test -s activated
	mapfile -t AT <activated
}

@test "sockets of a supervisor are served under their names, and a COMMAND learns nothing of them" {
	activated --names web:api 127.0.0.1:0 127.0.0.1:0 -- ccf-listen --address-file a.json own=127.0.0.1:0 -- env
	eventually test -e a.json
	[ "$(jq -r 'keys | join(" ")' a.json)" = "api own web" ]
	[ "$(address a.json web)" = "${AT[0]}" ] && [ "$(address a.json api)" = "${AT[1]}" ]
	ask "${AT[0]}" >web.out
	ask "${AT[1]}" >api.out
	ask "$(address a.json own)" >own.out
	grep -qx 'CCF_CONN_ID=web#1' web.out
	grep -qx 'CCF_CONN_ID=api#1' api.out
	grep -qx 'CCF_CONN_ID=own#1' own.out
	run ! grep -h '^LISTEN_' web.out api.out own.out
}

@test "a supervisor's socket that blocks holds nothing up: a second client, and TERM, are served" {
	activated 127.0.0.1:0 -- ccf-listen --address-file a.json -- cat
	eventually test -e a.json
	[ "$(address a.json fd3)" = "${AT[0]}" ]
	dial first "${AT[0]}"
	dial second "${AT[0]}"
	echo two >&"$second"
	read -r -t "$LIMIT" -u "$second" line
	[ "$line" = two ]
	hang_up "$second"
	hang_up "$first"
	stop lst
	[ "$ended" = 0 ]
}

@test "clients of a supervisor's socket queue until a consumer is there" {
	activated --names rpc 127.0.0.1:0 -- ccf-listen --address-file a.json --to link
	eventually test -e a.json
	dial early "${AT[0]}"
	echo hello >&"$early"
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo
	read -r -t "$LIMIT" -u "$early" line
	[ "$line" = hello ]
}

@test "two sockets of one unit have the same name, and are told apart" {
	activated --names web.socket:web.socket 127.0.0.1:0 127.0.0.1:0 -- ccf-listen --address-file a.json -- env
	eventually test -e a.json
	[ "$(address a.json web.socket)" = "${AT[0]}" ] && [ "$(address a.json web.socket-4)" = "${AT[1]}" ]
	ask "${AT[1]}" | grep -qx 'CCF_CONN_ID=web.socket-4#1'
}

@test "a supervisor's socket without a sink: the first client is joined to standard input and output" {
	echo down >said
	SPAWN_IN=said activated 127.0.0.1:0 -- ccf-listen
	echo up >said.up
	[ "$(timeout "$LIMIT" nc -N 127.0.0.1 "${AT[0]#*:}" <said.up)" = down ]
	ends_with 0 lst
	[ "$(cat lst.out)" = up ]
}

@test "a drain closes a supervisor's socket, and none of ours" {
	activated 127.0.0.1:0 -- ccf-listen -- cat
	dial client "${AT[0]}"
	await_line lst.log accepted
	[ "$(readlink "/proc/${PID[lst]}/fd/0")" = /dev/null ]
	kill -TERM "${PID[lst]}"
	await_line lst.log draining
	eventually refused "${AT[0]}"
	[ "$(readlink "/proc/${PID[lst]}/fd/0")" = /dev/null ]
	hang_up "$client"
	ends_with 0 lst
}

@test "LISTEN_FDS for another process is not for us" {
	expect_status 2 python3 "$HERE/peer/activate.py" --pid 1 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"an ADDRESS is missing"* ]]
	spawn lst python3 "$HERE/peer/activate.py" --pid 1 127.0.0.1:0 -- ccf-listen --address-file a.json rpc=127.0.0.1:0 -- env
	eventually test -e a.json
	[ "$(jq -r 'keys | join(" ")' a.json)" = rpc ]
	run ask "$(address a.json rpc)"
	run ! grep '^LISTEN_' <<<"$output"
}

@test "LISTEN_FDS and its names that contradict each other, or what is no listening stream socket, are usage errors" {
	local activate="$HERE/peer/activate.py"

	expect_status 2 python3 "$activate" --names a:b:c 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"LISTEN_FDNAMES has 3 names for 1 descriptors"* ]]
	expect_status 2 python3 "$activate" --names '' 127.0.0.1:0 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"LISTEN_FDNAMES has 1 names for 2 descriptors"* ]]
	expect_status 2 python3 "$activate" --count 0 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"LISTEN_FDS=0: a number from 1 to 64 is wanted"* ]]
	expect_status 2 python3 "$activate" --count 64 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"is not open"* ]]
	expect_status 2 python3 "$activate" --bound 127.0.0.1:0 -- ccf-listen -- cat
	[[ $output == *"descriptor 3 (fd3) is not a listening stream socket"* ]]
	expect_status 2 python3 "$activate" --kind dgram 127.0.0.1:0 -- ccf-listen -- cat
	expect_status 2 python3 "$activate" --kind seqpacket "unix:$PWD/seq" -- ccf-listen -- cat
	expect_status 2 python3 "$activate" --names rpc 127.0.0.1:0 -- ccf-listen rpc=127.0.0.1:0 -- cat
	[[ $output == *"rpc: two interfaces have that name"* ]]
}

# --- whom it lets in ---

@test "--allow and --deny: who is denied is closed, and an IPv4 client of a dual-stack socket counts as IPv4" {
	requires ipv6
	listening rpc=:0 --allow 127.0.0.0/8 --allow ::1 --deny 127.0.0.9 -- sh -c 'echo "$TCPREMOTEIP"'
	[ "$(ask "127.0.0.1:$PORT")" = 127.0.0.1 ]
	[ "$(ask "127.0.0.1:$PORT" -s 127.0.0.8)" = 127.0.0.8 ]
	[ "$(ask "[::1]:$PORT")" = ::1 ]
	[ "$(ask "127.0.0.1:$PORT" -s 127.0.0.9)" = "" ]
	await_line lst.log '127\.0\.0\.9:[0-9]*: rpc: refused: not allowed from there'
	connections 0
}

@test "with --allow who is not named is closed; with --deny alone everybody else is let in" {
	listening rpc=127.0.0.1:0 --allow 127.0.0.8/32 -- echo in
	[ "$(ask)" = "" ]
	[ "$(ask "$ADDR" -s 127.0.0.8)" = in ]
	stop lst
	listening rpc=127.0.0.1:0 --deny 127.0.0.8/31 -- echo in
	[ "$(ask)" = in ]
	[ "$(ask "$ADDR" -s 127.0.0.8)" = "" ]
	[ "$(ask "$ADDR" -s 127.0.0.9)" = "" ]
}

@test "a range that is none is a usage error" {
	local range

	for range in 127.0.0.1/33 127.0.0.1/8 300.1.1.1 ::1/129 localhost ''; do
		expect_status 2 ccf-listen --allow "$range" 127.0.0.1:0 -- cat
		[[ $output == *"--allow $range: write an address and a prefix length"* ]]
	done
}

@test "a flood of denied clients is not a flood of lines" {
	local i began=$SECONDS

	listening rpc=127.0.0.1:0 --deny 127.0.0.0/8 -- cat
	for i in $(seq 40); do
		(exec 3<>"/dev/tcp/127.0.0.1/$PORT" && timeout "$LIMIT" cat <&3)
	done
	connections 0
	stop lst
	summed_up 40 lst.log 'refused: not allowed' 'connections denied' "$began"
}

@test "--backlog is what the kernel is told, for TCP and for a Unix socket" {
	listening rpc=127.0.0.1:0 "unix:$PWD/s" --backlog 7 -- cat
	[ "$(ss -Hltn "sport = :$PORT" | awk '{ print $3 }')" = 7 ]
	[ "$(ss -Hlx src "$PWD/s" | awk '{ print $4 }')" = 7 ]
}

@test ":PORT is one dual-stack socket, and IPv4 clients are shown as IPv4" {
	requires ipv6
	listening rpc=:0 -- env
	[ "$ADDR" = "[::]:$PORT" ]
	ask "127.0.0.1:$PORT" >four
	ask "[::1]:$PORT" >six
	grep -qx TCPREMOTEIP=127.0.0.1 four && grep -qx TCPLOCALIP=127.0.0.1 four
	grep -qx TCPREMOTEIP=::1 six && grep -qx TCPLOCALIP=::1 six
	grep -qE 'rpc#1 127\.0\.0\.1:[0-9]+: accepted' lst.log
	grep -qE 'rpc#2 \[::1\]:[0-9]+: accepted' lst.log
}

@test "-4 and -6 choose: :PORT is then of one family" {
	requires ipv6
	listening -4 rpc=:0 -- echo in
	[ "$ADDR" = "0.0.0.0:$PORT" ]
	[ "$(ask "127.0.0.1:$PORT")" = in ]
	refused "::1:$PORT"
	stop lst
	listening -6 rpc=:0 -- echo in
	[ "$ADDR" = "[::]:$PORT" ]
	[ "$(ask "[::1]:$PORT")" = in ]
	refused "127.0.0.1:$PORT"
}

@test "[::]:PORT is IPv6 alone" {
	requires ipv6
	listening 'rpc=[::]:0' -- echo in
	refused "127.0.0.1:$PORT"
	[ "$(ask "[::1]:$PORT")" = in ]
}

# --- Unix sockets ---

@test "a Unix socket is there with mode 0600, is served, and goes at the end" {
	spawn lst ccf-listen --ready-fd 9 "rpc=unix:$PWD/s" -- env
	[ "$(stat -c %a s)" = 600 ]
	timeout "$LIMIT" nc -N -U s </dev/null >env.out
	grep -qx PROTO=UNIX env.out
	grep -qx CCF_CONN_ID=rpc#1 env.out
	run ! grep '^TCP' env.out
	stop lst
	[ "$ended" = 0 ]
	[ ! -e s ]
}

@test "a stale Unix socket is reclaimed, a live one is not taken away, and nothing else is removed" {
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'
	spawn lst ccf-listen --ready-fd 9 "unix:$PWD/s" -- echo first
	expect_status 45 ccf-listen "unix:$PWD/s" -- echo second
	[[ $output == *"cannot listen on unix:$PWD/s: Address already in use"* ]]
	[ "$(timeout "$LIMIT" nc -N -U s </dev/null)" = first ]
	stop lst
	echo precious >s
	expect_status 45 ccf-listen "unix:$PWD/s" -- echo second
	[ "$(cat s)" = precious ]
}

@test "a Unix socket that somebody else has put there in the meantime is left alone" {
	spawn lst ccf-listen --ready-fd 9 "unix:$PWD/s" -- cat
	mv s moved
	spawn other ccf-listen --ready-fd 9 "unix:$PWD/s" -- echo other
	stop lst
	[ "$(timeout "$LIMIT" nc -N -U s </dev/null)" = other ]
}

@test "when a second address cannot be bound, the first one's Unix socket goes again" {
	spawn other ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat
	expect_status 45 ccf-listen "unix:$PWD/s" "$(address a.json rpc)" -- cat
	[ ! -e s ]
	expect_status 45 ccf-listen --to link "$(address a.json rpc)"
	[ ! -e link ]
}

# --- a COMMAND ---

@test "a COMMAND has 0, 1 and 2 open and nothing else" {
	KEEP_FDS=7 listening rpc=127.0.0.1:0 -- ls /proc/self/fd 7</dev/null
	[ "$(ask | xargs)" = "0 1 2 3" ]	# 3 is the directory that ls reads
}

@test "a COMMAND starts with default dispositions and an empty mask" {
	trap '' USR1 PIPE
	spawn lst env --block-signal=USR2 ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat /proc/self/status
	trap - USR1 PIPE
	ask "$(address a.json rpc)" >seen
	grep -Eqx 'SigBlk:\s0+' seen
	grep -Eqx 'SigIgn:\s0+' seen
	grep -Eqx 'SigCgt:\s0+' seen
}

@test "a COMMAND gets back the descriptor limit that was found at the start" {
	spawn lst prlimit --nofile=300:2000 ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat /proc/self/limits
	ask "$(address a.json rpc)" | grep -Eq '^Max open files +300 +2000 '
	grep -Eq '^Max open files +2000 +2000 ' "/proc/${PID[lst]}/limits"
}

@test "the connection is a COMMAND's 0 and 1, blocking, and its log goes where ours goes" {
	listening rpc=127.0.0.1:0 -- python3 -c '
import fcntl, os, sys
print(*["waits" if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK else "does not" for fd in (0, 1)])
print("said to the log", file=sys.stderr)
print("read", sys.stdin.readline().strip())'
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT")" = $'waits waits\nread hello' ]
	grep -qx 'said to the log' lst.log
}

@test "a COMMAND sees UCSPI names of its own connection, and none that the caller planted" {
	TCPREMOTEHOST=planted SSL_CLIENT_VERIFY=SUCCESS CCF_CAPPED=1 CCF_CONN_ID=planted PROTO=planted KEPT=kept \
	    listening rpc=127.0.0.1:0 -- env
	ask "$ADDR" -s 127.0.0.5 -p "$(free_port)" >env.out
	grep -qx KEPT=kept env.out
	grep -qx PROTO=TCP env.out
	grep -qx TCPLOCALIP=127.0.0.1 env.out
	grep -qx "TCPLOCALPORT=$PORT" env.out
	grep -qx TCPREMOTEIP=127.0.0.5 env.out
	grep -Eqx 'TCPREMOTEPORT=[0-9]+' env.out
	grep -qx CCF_INTERFACE=rpc env.out
	grep -qx CCF_CONN_ID=rpc#1 env.out
	grep -Eqx 'CCF_ACCEPTED=[0-9]+' env.out
	run ! grep -E '=planted$|^SSL_CLIENT|^CCF_CAPPED' env.out
}

@test "--id-prefix stands before every id, in the environment and in the log" {
	listening --id-prefix node0 rpc=127.0.0.1:0 -- sh -c 'echo "$CCF_CONN_ID"'
	[ "$(ask)" = "node0/rpc#1" ]
	[ "$(ask)" = "node0/rpc#2" ]
	grep -qE ' node0/rpc#2 127\.0\.0\.1:[0-9]+: accepted' lst.log
	expect_status 2 ccf-listen --id-prefix a/b 127.0.0.1:0 -- cat
	expect_status 2 ccf-listen --id-prefix '' 127.0.0.1:0 -- cat
	expect_status 2 ccf-listen --id-prefix "a b" 127.0.0.1:0 -- cat
}

@test "two children run at once, and both are reaped" {
	listening rpc=127.0.0.1:0 -- cat
	dial first
	dial second
	echo two >&"$second"
	read -r -t "$LIMIT" -u "$second" line && [ "$line" = two ]
	echo one >&"$first"
	read -r -t "$LIMIT" -u "$first" line && [ "$line" = one ]
	connections 2
	[ "$(pgrep -c -P "${PID[lst]}" cat)" = 2 ]
	hang_up "$first"
	hang_up "$second"
	eventually eval '[ "$(lines closed)" = 2 ]'
	run ! pgrep -P "${PID[lst]}"	# a zombie would be found
	connections 0
	[ "$(lines 'closed: exited')" = 2 ]
}

@test "a COMMAND that is not there ends it at once: 127, and 126 for one that may not be run" {
	spawn lst ccf-listen 127.0.0.1:0 -- no-such-command-here
	ends_with 127 lst
	grep -q 'error: cannot run no-such-command-here: No such file' lst.log
	: >plain
	expect_status 126 ccf-listen 127.0.0.1:0 -- ./plain
}

@test "a COMMAND that has gone is said for every connection, the client is reset, and the listener goes on" {
	ln -s "$(command -v cat)" no-such-command-here
	PATH=$PWD:$PATH listening rpc=127.0.0.1:0 -- no-such-command-here
	rm no-such-command-here
	ask || :
	ask || :
	eventually eval '[ "$(lines "rpc#[12] .* closed: cannot-run")" = 2 ]'
	[ "$(lines 'error: cannot run no-such-command-here: No such file')" = 2 ]
	[ "$(lines 'rpc#[12] .* accepted')" = 2 ]
	connections 0
	stop lst
	[ "$ended" = 0 ]
}

@test "how a COMMAND ended is in the log" {
	listening --log json rpc=127.0.0.1:0 -- sh -c 'read -r how; eval "$how"'
	echo 'exit 3' | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT"
	await_line lst.log '"rpc#1".*"exited"'
	echo 'kill $$' | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT"
	stop lst
	[ "$(jq -r 'select(.event == "close") | "\(.conn) \(.reason) \(.status)"' lst.log)" = $'rpc#1 exited 3\nrpc#2 killed 143' ]
}

# --- standard input and output ---

@test "without a sink the first connection is joined, the port is closed to others, and the end is status 0" {
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	exec {in_r}<&-
	ADDR=$(address a.json rpc)
	dial client
	echo up >&"$client"
	await_line lst.out '^up$'
	eventually refused "$ADDR"
	echo down >&"$in_w"
	read -r -t "$LIMIT" -u "$client" line && [ "$line" = down ]
	exec {in_w}>&-
	[ "$(heard "$client")" = "" ]
	hang_up "$client"
	ends_with 0 lst
	[ "$(cat lst.out)" = up ]
	[ ! -s lst.log ]
}

@test "on standard input and output TERM and INT kill, and the shell sees it" {
	spawn lst ccf-listen --ready-fd 9 rpc=127.0.0.1:0
	stop lst TERM
	[ "$ended" = 143 ]
	spawn lst env --default-signal=INT ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	dial client "$(address a.json rpc)"
	stop lst INT
	[ "$ended" = 130 ]
}

@test "several addresses without a sink: the first client of any is joined" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json one=127.0.0.1:0 two=127.0.0.1:0
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "$(address a.json two | cut -d: -f2)")" = "" ]
	ends_with 0 lst
	[ "$(cat lst.out)" = hello ]
}

@test "-k goes on with the next connection: what each of them says arrives, in their order" {
	local i

	listening -k rpc=127.0.0.1:0
	for i in one two three; do
		echo "$i" | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT"
	done
	eventually eval '[ "$(cat lst.out)" = $'\''one\ntwo\nthree'\'' ]'
	[ "$(lines accepted)" = 3 ]
	stop lst
	[ "$ended" = 0 ]
}

@test "-k with input that is still open: who has ended makes room for the next one, who gets what comes then" {
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r listening -k rpc=127.0.0.1:0
	exec {in_r}<&-
	dial first
	echo "for one" >&"$in_w"
	read -r -t "$LIMIT" -u "$first" line && [ "$line" = "for one" ]
	dial second
	hang_up "$first"
	await_line lst.log 'rpc#1 .* closed'
	echo "for two" >&"$in_w"
	read -r -t "$LIMIT" -u "$second" line && [ "$line" = "for two" ]
	exec {in_w}>&-
	[ "$(heard "$second")" = "" ]
	hang_up "$second"
}

@test "-k: who has ended is still answered" {
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r listening -k rpc=127.0.0.1:0
	exec {in_r}<&-
	echo question >said
	SPAWN_IN=said spawn client nc -N 127.0.0.1 "$PORT"
	await_line lst.out '^question$'
	echo answer >&"$in_w"
	ends_with 0 client
	[ "$(cat client.out)" = answer ]
	eventually eval '[ "$(lines "closed: done")" = 1 ]'
}

@test "-k with a file: who has ended at once still gets all of it" {
	head -c 3000000 /dev/urandom >big
	SPAWN_IN=big listening -k rpc=127.0.0.1:0
	ask >got
	cmp big got
	[ "$(ask)" = "" ]	# it has been given
	[ "$(lines accepted)" = 2 ]
}

@test "-k outlives a connection that is cut, and ends with 23 when standard output goes away" {
	make_pipe out_r out_w
	SPAWN_OUT=/dev/fd/$out_w listening -k rpc=127.0.0.1:0
	exec {out_w}>&-
	python3 -c '
import socket, struct, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))' "$PORT"
	await_line lst.log 'rpc#1 .* closed: reset, by peer'
	echo two | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT"
	read -r -t "$LIMIT" -u "$out_r" line && [ "$line" = two ]
	exec {out_r}<&-
	echo three | timeout "$LIMIT" nc -N 127.0.0.1 "$PORT" || :
	ends_with 23 lst
}

@test "-k ends with 0 at TERM while nobody is there, and after the one who is" {
	listening -k rpc=127.0.0.1:0
	dial client
	await_line lst.log accepted
	kill -TERM "${PID[lst]}"
	await_line lst.log draining
	eventually refused "$ADDR"
	echo late >&"$client"
	hang_up "$client"
	ends_with 0 lst
	[ "$(cat lst.out)" = late ]
}

# --- how it ends ---

@test "TERM drains: nobody new, who is there is served to the end, then status 0" {
	listening rpc=127.0.0.1:0 -- cat
	dial client
	echo before >&"$client"
	read -r -t "$LIMIT" -u "$client" line
	kill -TERM "${PID[lst]}"
	await_line lst.log draining
	eventually refused "$ADDR"
	echo after >&"$client"
	read -r -t "$LIMIT" -u "$client" line && [ "$line" = after ]
	kill -0 "${PID[lst]}"
	hang_up "$client"
	ends_with 0 lst
}

@test "INT drains too, and without connections the end comes at once" {
	spawn lst env --default-signal=INT ccf-listen --ready-fd 9 rpc=127.0.0.1:0 -- cat
	stop lst INT
	[ "$ended" = 0 ]
}

@test "a second TERM ends it now, with 28, and a COMMAND gets a TERM" {
	listening rpc=127.0.0.1:0 -- sh -c 'trap "echo told; exit" TERM; echo here; read -r line'
	dial client
	read -r -t "$LIMIT" -u "$client" line && [ "$line" = here ]
	kill -TERM "${PID[lst]}"
	await_line lst.log draining
	stop lst TERM
	[ "$ended" = 28 ]
	read -r -t "$LIMIT" -u "$client" line && [ "$line" = told ]
	eventually alone
}

@test "--drain-timeout ends the drain with 28" {
	listening --drain-timeout 100ms rpc=127.0.0.1:0 -- cat
	dial client
	echo hello >&"$client"
	read -r -t "$LIMIT" -u "$client" line
	stop lst
	[ "$ended" = 28 ]
	grep -q 'not drained in time (--drain-timeout)' lst.log
	eventually alone
}

@test "--drain-timeout ends the drain of -k and of a link, too" {
	listening -k --drain-timeout 100ms rpc=127.0.0.1:0
	dial client
	await_line lst.log accepted
	stop lst
	[ "$ended" = 28 ]
	hang_up "$client"
	listening --to link --drain-timeout 100ms rpc=127.0.0.1:0
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo
	await_line lst.log 'rpc: listening'
	dial client
	await_line lst.log 'rpc#1 .* accepted'
	stop lst
	[ "$ended" = 28 ]
}

@test "USR1 prints the state, and HUP changes nothing" {
	listening rpc=127.0.0.1:0 other=127.0.0.1:0 --max-open-sessions-soft 5 --max-open-sessions-hard 6 -- cat
	dial client
	await_line lst.log accepted
	kill -HUP "${PID[lst]}"
	kill -USR1 "${PID[lst]}"
	await_line lst.log 'rpc: listening, 1 open, peak 1, soft 5, hard 6, accepted 1, capped 0, refused 0'
	await_line lst.log 'other: listening, 0 open, peak 0'
	hang_up "$client"
}

# --- what it logs ---

@test "every connection has one opening and one closing line with its id, and both forms of the log say the same" {
	local log

	for log in text json; do
		listening --log "$log" rpc=127.0.0.1:0 -- sh -c 'echo "$CCF_CONN_ID $TCPREMOTEIP:$TCPREMOTEPORT"'
		ask >said
		read -r id peer <said
		eventually eval '[ "$(lines closed)" = 1 ]'
		[ "$id" = "rpc#1" ]
		if [ "$log" = text ]; then
			grep -qx "ccf-listen: info: $id $peer: accepted" lst.log
			grep -Eqx "ccf-listen: info: $id $peer: closed: exited, by inner, 0 bytes in, 0 out, after [0-9]+\.[0-9]{3} s" lst.log
		else
			jq -e . lst.log >parsed
			[ "$(jq -r --arg id "$id" --arg peer "$peer" '
			    select(.conn == $id and .peer == $peer and .iface == "rpc" and .tool == "ccf-listen" and .level == "info") |
			    .event + ":" + (.reason // "")' lst.log)" = $'open:\nclose:exited' ]
			jq -e 'select(.event == "close") | .us > 0 and .by == "inner" and .status == 0 and (.ts | test("^20..-..-..T..:..:......Z$"))' lst.log
		fi
		stop lst
	done
}

@test "with -q only warnings and errors are logged" {
	listening -q rpc=127.0.0.1:0 -- cat
	ask
	stop lst
	[ ! -s lst.log ]
}

@test "a peer on the link forges no line of the log" {
	local what

	for what in tool reason verb; do
		listening --to "$what" rpc=127.0.0.1:0
		cat >peer.py <<-'EOF'
			import sys
			from link import Link, dial
			evil, what = "evil\x1b[31m\r\nccf-listen: error: forged", sys.argv[1]
			link = Link(dial(what), "consumer", tool=evil if what == "tool" else "peer")
			link.greet()
			link.ready(1)
			m = link.recv()
			link.send(evil if what == "verb" else "closed", id=m.id, reason=evil if what == "reason" else "done")
			link.closed(m.id)
			link.recv()
		EOF
		PYTHONPATH=$HERE/peer spawn peer python3 peer.py "$what"
		[ "$what" = tool ] || eventually ask || :
		eventually eval '[ "$(lines "link|closed")" -gt 0 ]'
		run ! grep -P '[\x00-\x08\x0b-\x1f\x7f]' lst.log
		run ! grep '^ccf-listen: error' lst.log
		stop lst
	done
}

@test "--trace shows the way to listening, and where it failed" {
	listening --trace rpc=127.0.0.1:0 -- cat
	[ "$(grep ^trace lst.log)" = $'trace: FRESH -> LISTENING_RESOLVING\ntrace: LISTENING_RESOLVING -> LISTENING' ]
	expect_status 45 ccf-listen --trace "$ADDR" -- cat
	[ "$(grep ^trace <<<"$output")" = $'trace: FRESH -> LISTENING_RESOLVING\ntrace: LISTENING_RESOLVING -> LISTENING_FAILED' ]
	[[ $output == *"cannot listen on $ADDR: Address already in use"* ]]
	expect_status 6 ccf-listen --trace 127.0.0.1:no-such-service -- cat
	[ "$(grep ^trace <<<"$output")" = $'trace: FRESH -> LISTENING_RESOLVING\ntrace: LISTENING_RESOLVING -> RESOLVING_FAILED' ]
	expect_status 45 ccf-listen --trace 192.0.2.1:0 -- cat
	[[ $output == *"cannot listen on 192.0.2.1:0: Cannot assign requested address (it is not an address of this host)"* ]]
}

# --- descriptors ---

@test "closed standard descriptors are no harm: no connection lands on 0, 1 or 2" {
	local fd

	spawn lst bash -c 'exec ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat <&- >&- 2>&-'
	ADDR=$(address a.json rpc)
	for fd in 0 1 2; do
		[ "$(readlink "/proc/${PID[lst]}/fd/$fd")" = /dev/null ]
	done
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "${ADDR#*:}")" = hello ]
	stop lst
	[ "$ended" = 0 ]
	spawn lst bash -c 'exec ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 <&- >&-'
	ADDR=$(address a.json rpc)
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "${ADDR#*:}")" = "" ]
	ends_with 0 lst
}

@test "connections leave no descriptor behind" {
	local before i

	listening rpc=127.0.0.1:0 -- cat
	ask
	connections 0
	before=$(fd_count lst)
	for i in $(seq 20); do
		ask
	done
	connections 0
	[ "$(fd_count lst)" = "$before" ]
}

@test "nothing happens, nothing is called: an idle listener makes no system calls" {
	requires strace plain
	listening rpc=127.0.0.1:0 -- cat
	dial client
	await_line lst.log accepted
	spawn watch strace -f -o calls -p "${PID[lst]}"
	await_line watch.log attached
	timeout 1 tail -f /dev/null || :	# a second in which nothing happens
	stop watch INT
	cat calls
	[ "$(wc -l <calls)" -lt 6 ]
	hang_up "$client"
}

# --- usage ---

@test "what is written wrongly is a usage error that shows the right form" {
	usage() {
		local want=$1

		shift
		expect_status 2 ccf-listen "$@"
		[[ $output == *"$want"* ]] || {
			echo "$output"
			return 1
		}
	}
	usage "write 127.0.0.1:8080" 127.0.0.1 8080 -- cat
	usage "write [::1]:8080" ::1 8080 -- cat
	usage "write [::1]:80" ::1:80 -- cat
	usage "write :8080 (every address) or 127.0.0.1:8080" 8080 -- cat
	usage "an ADDRESS is missing" -- cat
	usage "did you mean --backlog?" --baklog 5 127.0.0.1:0 -- cat
	usage "did you mean --max-open-sessions-soft?" --max-open-sesions-soft 5 127.0.0.1:0 -- cat
	usage "did you mean --keep-open?" -keep-open 127.0.0.1:0
	usage "a COMMAND is missing after --" 127.0.0.1:0 --
	usage "--to and a COMMAND exclude each other" --to link 127.0.0.1:0 -- cat
	usage "-k is for standard input and output" -k 127.0.0.1:0 -- cat
	usage "--max-open-sessions-hard (5) must be above --max-open-sessions-soft (5)" \
	    --max-open-sessions-soft 5 --max-open-sessions-hard 5 127.0.0.1:0 -- cat
	usage "--max-open-sessions-hard (10) must be above --max-open-sessions-soft (1000)" --max-open-sessions-hard 10 127.0.0.1:0 -- cat
	usage "rpc: two interfaces have that name" rpc=127.0.0.1:0 rpc=127.0.0.1:0 -- cat
	usage "--drain-timeout 60: say 60s" --drain-timeout 60 127.0.0.1:0 -- cat
	usage "-4 and -6 exclude each other" -4 -6 127.0.0.1:0 -- cat
	usage "'a.b' is no name: a name is made of letters, digits, - and _" 'a.b=127.0.0.1:0' -- cat
	usage "--backlog 0: must be from 1 to 65535" --backlog 0 127.0.0.1:0 -- cat
}

@test "options may stand behind the address" {
	spawn lst ccf-listen rpc=127.0.0.1:0 --ready-fd 9 --address-file a.json -- cat
	[ "$(echo hello | timeout "$LIMIT" nc -N 127.0.0.1 "$(address a.json rpc | cut -d: -f2)")" = hello ]
}

@test "a descriptor that listens can be an address, one that does not cannot" {
	python3 "$HERE/peer/activate.py" 127.0.0.1:0 -- env -u LISTEN_PID ccf-listen --address-file a.json rpc=fd:3 -- echo in &
	SPAWNED+=("$!")
	eventually test -e a.json
	[ "$(ask "$(address a.json rpc)")" = in ]
	expect_status 45 python3 "$HERE/peer/activate.py" --bound 127.0.0.1:0 -- env -u LISTEN_PID ccf-listen rpc=fd:3 -- cat
	[[ $output == *"it has to be a listening stream socket"* ]]
}
