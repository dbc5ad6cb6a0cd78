# connect - ccf-connect by itself: the states it goes through, what each failure ends with, and its sinks.
#
# (who runs this makes no difference)

load helpers

# --- what the tests share ---

# path [FILE]: the way that the lines of --trace tell, as states with blanks between; one must begin where the last ended.
path() {
	awk '
		$1 != "trace:" { next }
		NF != 4 || $3 != "->" { print "not a trace:", $0; next }
		!at { printf "%s", at = $2 }
		$2 != at { printf " [%s]", $2 }
		{ printf " %s", at = $4 }
		END { print "" }' "$@"
}

# went STATE...: that is what the last `run` or expect_status has shown.
went() {
	local want="$*" was

	was=$(path <<<"$output")
	[ "$was" = "$want" ] || {
		printf 'went %s\nnot  %s\n' "$was" "$want"
		return 1
	}
}

# server STEPS...: tests/peer/scripted.py, spawned as srv; ADDR is where it listens, srv.out what it saw.
server() {
	rm -f srv.out
	spawn srv python3 "$HERE/peer/scripted.py" "${AT-127.0.0.1:0}" "$@"
	await_line srv.out .
	ADDR=$(head -n 1 srv.out)
}

# refusing: ADDR is a port that refuses: ccf-listen has it and waits for a consumer, which `serve` starts.
refusing() {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
}

serve() {
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo
}

# hosts TEXT: what names mean in WITH_HOSTS, a command prefix: a mount namespace with a hosts file of its own.
hosts() {
	requires netns
	printf '%b' "$1" >hosts
	echo 'hosts: files' >nsswitch
	echo 'multi on' >host.conf
	WITH_HOSTS=(unshare --mount)
	[ "$EUID" = 0 ] || WITH_HOSTS=(unshare --user --map-root-user --mount)
	WITH_HOSTS+=(sh -ec 'for f in hosts nsswitch host.conf; do
		to=/etc/${f%nsswitch}; [ "$f" != nsswitch ] || to=/etc/nsswitch.conf
		[ ! -e "$to" ] || mount --bind "$f" "$to"
	done; exec "$@"' sh)
}

# --- the states ---

@test "a connection goes FRESH, CONNECTING_RESOLVING, CONNECTING, CONNECTED, and at its end DISCONNECTED" {
	server all,say:bye
	spawn con ccf-connect --trace "$ADDR"
	ends_with 0 con
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED" ]
	[ "$(cat con.out)" = bye ]
}

@test "with --bind it goes by BINDING, and the server sees that address" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- sh -c 'echo from "$TCPREMOTEIP"'
	expect_status 0 ccf-connect --trace --bind 127.0.0.7 "$(address a.json rpc)" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"from 127.0.0.7"* ]]
}

@test "the first address refuses and the second is good" {
	hosts '127.44.0.2 both.test\n127.44.0.1 both.test\n'
	AT=127.44.0.1:0 server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"cannot connect to both.test:${ADDR#*:} (127.44.0.2:${ADDR#*:}): Connection refused; trying the next address"* ]]
}

@test "every address refuses: the last one's failure is told, with 7" {
	hosts '127.44.0.2 both.test\n127.44.0.1 both.test\n'
	refusing
	expect_status 7 "${WITH_HOSTS[@]}" ccf-connect --trace "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"(127.44.0.1:${ADDR#*:}): Connection refused"* ]]
}

@test "an address of another family than --bind is passed over with a line" {
	hosts '::1 both.test\n127.0.0.1 both.test\n'
	server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace --bind 127.0.0.1 "both.test:${ADDR#*:}" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"[::1]:${ADDR#*:} is passed over: it is of another family than 127.0.0.1, which is bound first"* ]]
	expect_status 7 ccf-connect --trace --bind 127.0.0.1 "[::1]:${ADDR#*:}" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING_FAILED
	[[ $output == *"no address of it is of the family of 127.0.0.1"* ]]
}

@test "a name that does not resolve ends with 6" {
	hosts '127.0.0.1 localhost\n'
	expect_status 6 "${WITH_HOSTS[@]}" ccf-connect --trace no-such-host.test:80 </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED
	[[ $output == *"cannot resolve no-such-host.test: Name or service not known"* ]]
	expect_status 6 "${WITH_HOSTS[@]}" ccf-connect --trace --bind no-such-host.test 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED
	[[ $output == *"cannot resolve no-such-host.test, the address to bind"* ]]
}

@test "a port that is no service ends with 6, without a network" {
	expect_status 6 ccf-connect --trace 127.0.0.1:no-such-service </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED
	[[ $output == *"cannot resolve the port no-such-service"* ]]
}

@test "an address to bind that is not ours ends with 45" {
	expect_status 45 ccf-connect --trace --bind 192.0.2.1 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED
	[[ $output == *"cannot bind to 192.0.2.1: Cannot assign requested address (it is not an address of this host)"* ]]
	expect_status 45 ccf-connect --trace --bind 192.0.2.1 --retry 2 --retry-delay 1ms 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED BINDING BINDING_FAILED BINDING BINDING_FAILED
}

@test "a name that does not resolve is looked up again as often as --retry says" {
	expect_status 6 ccf-connect --trace --retry 2 --retry-delay 1ms 127.0.0.1:no-such-service </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED CONNECTING_RESOLVING RESOLVING_FAILED CONNECTING_RESOLVING RESOLVING_FAILED
}

@test "refused, then retried until a listener appears" {
	refusing
	echo hello >said
	SPAWN_IN=said spawn con ccf-connect --trace --retry 10000 --retry-delay 10ms --retry-max 50ms "$ADDR"
	await_line con.log 'CONNECTING_FAILED -> CONNECTING_RESOLVING'
	serve
	ends_with 0 con
	[ "$(cat con.out)" = hello ]
	[[ "$(path con.log)" =~ ^FRESH\ (CONNECTING_RESOLVING\ CONNECTING\ CONNECTING_FAILED\ )+CONNECTING_RESOLVING\ CONNECTING\ CONNECTED\ DISCONNECTED$ ]]
}

@test "what cannot be connected is tried once more than --retry says, and ends with 7" {
	refusing
	expect_status 7 ccf-connect --trace --retry 2 --retry-delay 1ms "$ADDR" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED \
	    CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to $ADDR: Connection refused"* ]]
}

@test "between retries it waits: --retry-delay doubles up to --retry-max" {
	requires strace plain
	refusing
	spawn con strace -D -o calls -e trace=connect ccf-connect --retry 1000000 --retry-delay 400ms "$ADDR"
	await_line calls 'connect\(.*AF_INET,'
	timeout 1 tail -f /dev/null || :	# there would be time for thousands
	stop con
	[ "$(grep -c 'connect(.*AF_INET,' calls)" -lt 30 ]
}

@test "with --log json the trace is JSON, too" {
	expect_status 45 ccf-connect --log json --trace --bind 192.0.2.1 127.0.0.1:80 </dev/null
	[ "$(jq -r 'select(.event == "trace") | "\(.from) \(.to)"' <<<"$output")" = $'FRESH BINDING\nBINDING BINDING_FAILED' ]
	[ "$(jq -r 'select(.level == "error") | .msg' <<<"$output" | wc -l)" = 1 ]
}

# --- connecting ---

@test "-z says how long each step took, sends nothing, and ends" {
	server all
	expect_status 0 ccf-connect -z "$ADDR" </dev/null
	[[ $output =~ ^connected\ to\ $ADDR:\ name\ [0-9]+\.[0-9]{3}\ ms,\ connection\ [0-9]+\.[0-9]{3}\ ms$ ]]
	await_line srv.out '^1 got 0'
	refusing
	expect_status 7 ccf-connect -z "$ADDR"
}

@test "--connect-timeout: no answer is status 28, but the last address decides" {
	SPAWN_OUT=deaf.address spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.address .
	ADDR=$(cat deaf.address)
	expect_status 28 ccf-connect --trace --connect-timeout 200ms "$ADDR" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to $ADDR: no answer within 200 ms"* ]]
	hosts '127.0.0.1 both.test\n127.44.0.2 both.test\n'
	expect_status 7 "${WITH_HOSTS[@]}" ccf-connect --trace --connect-timeout 200ms "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
}

@test "after a timeout the next address is tried" {
	SPAWN_OUT=deaf.address spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.address .
	ADDR=$(cat deaf.address)
	hosts '127.0.0.1 both.test\n127.44.0.1 both.test\n'
	AT=127.44.0.1:${ADDR#*:} server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace --connect-timeout 200ms "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"no answer within 200 ms; trying the next address"* ]]
}

@test "--user-timeout cuts a peer that acknowledges nothing, with 18" {
	requires plain
	server wait
	head -c 64M /dev/zero >much
	SPAWN_IN=much spawn con ccf-connect --user-timeout 500ms "$ADDR"
	ends_with 18 con
	grep -q 'cut: timed-out: Connection timed out' con.log
}

@test "a peer that takes the connection and resets it at once was reached: it is a cut, 18, and not 7" {
	local i resets=()

	mapfile -t resets < <(yes reset | head -n 20)
	server "${resets[@]}"
	for i in $(seq 20); do
		expect_status 18 ccf-connect --trace "$ADDR" </dev/null
		went FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	done
}

@test "--idle-timeout and --half-close-timeout end silence with 28; without them it lasts" {
	server wait
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r spawn con ccf-connect --idle-timeout 100ms "$ADDR"
	ends_with 28 con
	grep -q 'a deadline passed: idle' con.log
	server wait
	spawn con ccf-connect --half-close-timeout 100ms "$ADDR"
	ends_with 28 con
	grep -q 'a deadline passed: half-close-timeout' con.log
	exec {in_r}<&- {in_w}>&-
}

@test "what -z says must be written: standard output that takes nothing is 23" {
	server all
	expect_status 23 sh -c 'ccf-connect -z "$1" >/dev/full' sh "$ADDR"
}

@test "-4 and -6 choose the family, and a literal of the other one does not resolve" {
	requires ipv6
	hosts '127.0.0.1 both.test\n::1 both.test\n'
	server all,say:four
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -4 "both.test:${ADDR#*:}" </dev/null
	[ "$output" = four ]
	AT='[::1]:0' server all,say:six
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -6 "both.test:${ADDR##*:}" </dev/null
	[ "$output" = six ]
	expect_status 6 ccf-connect -4 "$ADDR" </dev/null
	expect_status 6 ccf-connect -6 127.0.0.1:80 </dev/null
}

@test "unix: targets are connected; who is not there is 7" {
	AT=unix:$PWD/s server read:5,say:answer
	printf hello >said
	expect_status 0 ccf-connect "unix:$PWD/s" <said
	[ "$output" = answer ]
	await_line srv.out "got 5 'hello'"
	expect_status 7 ccf-connect --trace "unix:$PWD/none" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to unix:$PWD/none: No such file or directory"* ]]
}

# --- sinks ---

@test "without a sink it is stdin and stdout, half-close goes both ways, and the end is status 0" {
	server read:6,fin,all
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r spawn con ccf-connect "$ADDR"
	exec {in_r}<&-
	echo first >&"$in_w"
	await_line srv.out '^1 accepted'
	echo second >&"$in_w"
	exec {in_w}>&-
	ends_with 0 con
	await_line srv.out "got 13 'first\\\\nsecond"
	[ ! -s con.log ]
}

@test "TERM and INT kill it, and the shell sees it" {
	server wait
	spawn con ccf-connect "$ADDR"
	await_line srv.out '^1 accepted'
	stop con TERM
	[ "$ended" = 143 ]
	refusing
	spawn con env --default-signal=INT ccf-connect --trace --retry 1000000 "$ADDR"
	await_line con.log CONNECTING_FAILED
	stop con INT
	[ "$ended" = 130 ]
}

@test "a COMMAND has the connection on 6 and 7, its own standard descriptors, and nothing else" {
	server read:3,say:hi,all
	spawn con ccf-connect "$ADDR" -- bash -c '
		printf abc >&7
		read -r -N 2 -u 6 what; echo "heard $what"
		for fd in /proc/$$/fd/*; do [ ! -e "$fd" ] || echo "open ${fd##*/}"; done
		cat /proc/$$/fdinfo/6 | grep flags'
	ends_with 0 con
	grep -qx 'heard hi' con.out
	[ "$(grep '^open' con.out | xargs)" = "open 0 open 1 open 2 open 6 open 7" ]
	(($(awk '/flags/ { print $2 }' con.out) & 04000)) && return 1	# O_NONBLOCK
	await_line srv.out "got 3 'abc'"
}

@test "a COMMAND starts with default dispositions, an empty mask and the limits that were found" {
	server all
	trap '' USR1
	spawn con env --block-signal=USR2 prlimit --nofile=300:2000 ccf-connect "$ADDR" -- cat /proc/self/status /proc/self/limits
	trap - USR1
	ends_with 0 con
	grep -Eqx 'SigBlk:\s0+' con.out
	grep -Eqx 'SigIgn:\s0+' con.out
	grep -Eq '^Max open files +300 +2000 ' con.out
}

@test "a COMMAND sees UCSPI names of the connection, and none that the caller planted" {
	server all
	TCPREMOTEHOST=planted SSL_CLIENT_VERIFY=SUCCESS CCF_CAPPED=1 PROTO=planted KEPT=kept \
	    spawn con ccf-connect --bind 127.0.0.6 "$ADDR" -- env
	ends_with 0 con
	grep -qx KEPT=kept con.out
	grep -qx PROTO=TCP con.out
	grep -qx TCPREMOTEIP=127.0.0.1 con.out
	grep -qx "TCPREMOTEPORT=${ADDR#*:}" con.out
	grep -qx TCPLOCALIP=127.0.0.6 con.out
	grep -Eqx 'TCPLOCALPORT=[1-9][0-9]*' con.out
	grep -qx "CCF_CONN_ID=$ADDR#1" con.out
	run ! grep -E '=planted$|^SSL_CLIENT|^CCF_CAPPED' con.out
}

@test "it becomes its COMMAND: the status is the COMMAND's, 127 where it is not there, 126 where it cannot be run, 128+N after a signal" {
	server all all all all all
	expect_status 5 ccf-connect "$ADDR" -- sh -c 'exit 5'
	spawn con ccf-connect "$ADDR" -- no-such-command-here
	ends_with 127 con
	grep -q 'cannot run no-such-command-here: No such file or directory' con.log
	touch plain
	expect_status 126 ccf-connect "$ADDR" -- ./plain
	[[ $output == *"cannot run ./plain: Permission denied"* ]]
	expect_status 143 ccf-connect "$ADDR" -- sh -c 'kill $$'
	spawn con ccf-connect "$ADDR" -- sh -c 'echo $$ >&2; read -r line <&6'
	await_line con.log "^${PID[con]}\$"
}

@test "--to hands the connection on, with its environment, and ends with what the consumer says of it" {
	server read:1,say:answer,all
	spawn peer python3 "$HERE/peer/handoff.py" consume bind:link --count 1
	spawn con ccf-connect --to dial:link "$ADDR"
	await_line peer.out "^conn 1 $ADDR#1 take"
	ends_with 0 con
	await_line srv.out "^1 got [1-9][0-9]* 'hello from $ADDR#1"
	grep -qE "info: $ADDR#1 $ADDR: connected and handed on" con.log
	grep -qE "info: $ADDR#1 $ADDR: closed: done" con.log
}

@test "--to connects when somebody is there to have it, and not before" {
	server all
	spawn con ccf-connect --trace --to link "$ADDR"
	eventually test -S link
	[ "$(stat -c %a link)" = 600 ]
	run ! grep trace con.log
	spawn peer python3 "$HERE/peer/handoff.py" consume link --count 1
	ends_with 0 con
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED" ]
	[ ! -e link ]
}

@test "--to: a dial that fails has its own status, and a consumer that dies is 69" {
	refusing
	spawn peer python3 "$HERE/peer/handoff.py" consume bind:link2
	expect_status 7 ccf-connect --to dial:link2 "$ADDR"
	server wait
	spawn peer python3 "$HERE/peer/handoff.py" consume bind:link3 --echo
	spawn con ccf-connect --to dial:link3 "$ADDR"
	await_line con.log 'connected and handed on'
	stop peer KILL
	ends_with 69 con
	grep -q 'closed: link-lost' con.log
}

@test "--to - writes a ticket, and its directory is gone at the end" {
	server read:1,say:x,all
	mkdir -m 0755 run
	export XDG_RUNTIME_DIR=$PWD/run
	pipeline con ccf-connect --to - "$ADDR" '|' peer python3 "$HERE/peer/handoff.py" consume - --count 1
	ends_with 0 con
	ends_with 0 peer
	await_line srv.out '^1 got'
	grep -q "^conn 1 $ADDR#1 take" peer.out
	rmdir run	# nothing is left in it
}

# --- --reconnect ---

# feeding ARG...: ccf-connect --reconnect, spawned as con; what is written to descriptor IN_W is its input.
feeding() {
	local in_r

	make_pipe in_r IN_W
	SPAWN_IN=/dev/fd/$in_r spawn con ccf-connect --trace --reconnect --retry-delay 10ms "$@"
	exec {in_r}<&-
}

fed() {
	exec {IN_W}>&-
}

@test "--reconnect goes on after the peer has closed: what comes then goes to the next connection, whole" {
	server read:6,close all
	feeding "$ADDR"
	echo first >&"$IN_W"
	await_line con.log '^trace: CONNECTED -> DISCONNECTED'
	echo second >&"$IN_W"
	fed
	ends_with 0 con
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED RECONNECTING \
FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED" ]
	grep -q 'disconnected (left): 6 bytes acknowledged, 0 unknown, 0 kept; connecting again' con.log
	[ "$(grep got srv.out)" = $'1 got 6 \'first\\n\'\n2 got 7 \'second\\n\'' ]
}

@test "--reconnect binds again, every time" {
	server read:2,close read:2,close all
	feeding --bind 127.0.0.7 "$ADDR"
	echo 1 >&"$IN_W"
	eventually lost 1
	echo 2 >&"$IN_W"
	eventually lost 2
	fed
	ends_with 0 con
	[ "$(path con.log | grep -o 'FRESH BINDING CONNECTING_RESOLVING' | wc -l)" = 3 ]
}

# lost N: con has noticed the end of so many connections.
lost() {
	[ "$(grep -c '^trace: CONNECTED -> DISCONNECTED' con.log)" = "$1" ]
}

# account: what con says it lost, as three numbers: acknowledged, unknown, kept.
account() {
	sed -nE 's/.*disconnected \(.*\): ([0-9]+) bytes acknowledged, ([0-9]+) unknown, ([0-9]+) kept.*/\1 \2 \3/p' con.log
}

# cut_short HOW: the first connection ends after 100000 bytes, the second takes the rest of `much`.
cut_short() {
	local acked unknown kept

	server --into got "read:100000,stuck,$1" all
	SPAWN_IN=${SPAWN_IN-much} spawn con ccf-connect --reconnect --retry-delay 1ms "$ADDR"
	await_line con.log 'disconnected .* connecting again'
	kill -USR1 "${PID[srv]}"
	wait_for con || :
	await_line srv.out '^2 got'
	read -r acked unknown kept < <(account)
	echo "acknowledged $acked, unknown $unknown, kept $kept; ended with $ended"
	[ "$((acked + unknown))" -ge 100000 ]
	[ "$ended" = "$([ "$unknown" = 0 ] && echo 0 || echo 18)" ]
	# nothing is sent twice, and nothing is left out but what is unknown or was taken and not read
	cmp <(head -c 100000 much; tail -c "+$((acked + unknown + 1))" much) got
}

@test "--reconnect after a cut: nothing is sent twice, nothing is lost but what is unknown (from a file)" {
	head -c 20000000 /dev/urandom >much
	cut_short reset
	[ "$ended" = 18 ]
}

@test "--reconnect after a cut: nothing is sent twice, nothing is lost but what is unknown (from a pipe)" {
	local pid

	head -c 20000000 /dev/urandom >much
	mkfifo pipe
	cat much >pipe &
	pid=$!
	SPAWN_IN=pipe cut_short reset
	wait "$pid"
}

@test "--reconnect after a close in mid-stream: the same" {
	head -c 20000000 /dev/urandom >much
	cut_short fin,wait
	grep -qE 'disconnected \((left|reset)\)' con.log	# its close resets what it had not read
}

@test "--reconnect without anybody there any more ends with 7, and says what was never sent" {
	server read:6,gone,close
	feeding "$ADDR"
	echo first >&"$IN_W"
	ends_with 7 con
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED RECONNECTING \
FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED" ]
	fed
}

@test "--reconnect with --retry waits for the next listener" {
	server read:6,gone,close
	feeding --retry 10000 --retry-max 50ms "$ADDR"
	echo first >&"$IN_W"
	await_line con.log CONNECTING_FAILED
	AT=$ADDR server all
	echo second >&"$IN_W"
	fed
	ends_with 0 con
	await_line srv.out "^1 got 7 'second"
}

@test "--reconnect: when the input has ended too, the peer's end is the end" {
	server all,say:answer
	echo question >said
	SPAWN_IN=said spawn con ccf-connect --trace --reconnect "$ADDR"
	ends_with 0 con
	[ "$(cat con.out)" = answer ]
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED" ]
	server say:answer
	spawn con2 ccf-connect --reconnect "$ADDR"
	ends_with 0 con2
	[ "$(cat con2.out)" = answer ]
}

@test "--reconnect: who has said all there was has nothing to go on with: a cut is a cut" {
	server all,reset
	echo question >said
	SPAWN_IN=said spawn con ccf-connect --reconnect "$ADDR"
	ends_with 18 con
	[ "$(grep -c accepted srv.out)" = 1 ]
}

@test "--reconnect: who only listens goes on after a cut" {
	server say:one,reset say:two
	spawn con ccf-connect --reconnect "$ADDR"
	ends_with 0 con
	[ "$(cat con.out)" = onetwo ]
}

@test "--reconnect does not hammer a peer that takes connections and drops them" {
	local closes=()

	mapfile -t closes < <(yes close | head -n 1000)
	server "${closes[@]}"
	make_pipe in_r in_w
	SPAWN_IN=/dev/fd/$in_r spawn con ccf-connect --reconnect --retry-delay 200ms "$ADDR"
	exec {in_r}<&-
	await_line srv.out '^2 accepted'
	timeout 1 tail -f /dev/null || :	# there would be time for thousands
	stop con
	[ "$(grep -c accepted srv.out)" -lt 50 ]
}

# --- what it logs ---

@test "what a producer says of a connection is escaped in the log, in both forms" {
	local log

	cat >peer.py <<-'EOF'
		import socket, sys
		from link import Link, listen
		evil = "evil\x1b[31m\x9b\u202e\r\nccf-connect: error: forged \"quote\\"
		sock = listen(sys.argv[1]).accept()[0]
		link = Link(sock, "producer")
		link.greet()
		assert link.recv().verb == "ready"
		ours, theirs = socket.socketpair()
		link.conn(1, {"CCF_CONN_ID": evil, "CCF_INTERFACE": evil, "TCPREMOTEIP": evil, "TCPREMOTEPORT": "1\n2"}, theirs.detach())
		link.recv()
	EOF
	for log in text json; do
		refusing
		PYTHONPATH=$HERE/peer spawn peer python3 peer.py "$log.link"
		spawn con ccf-connect -v --log "$log" --from "$log.link" "$ADDR"
		await_line con.log refused
		wait_for peer
		stop con
		run ! grep -P '[\x00-\x08\x0b-\x1f\x7f]' con.log
		run ! grep -aP '\xc2[\x80-\x9f]' con.log
		run ! grep '^ccf-connect: error: forged' con.log
		[ "$log" = text ] || jq -es 'map(select(.conn // "" | startswith("evil"))) | length > 0' con.log
		rm con.log
		stop lst
	done
}

# --- what is written wrongly ---

@test "usage errors show the right form" {
	usage() {
		local want=$1

		shift
		expect_status 2 ccf-connect "$@"
		[[ $output == *"$want"* ]] || {
			echo "$output"
			return 1
		}
	}
	usage "write 127.0.0.1:80" 127.0.0.1 80
	usage "write [::1]:80" ::1 80
	usage "write [::1]:80" ::1:80
	usage "'localhost' has no port: write HOST:PORT, such as localhost:8080" localhost
	usage "a host to connect to is missing, as in 127.0.0.1:80" :80
	usage "an ADDRESS is missing"
	usage "one ADDRESS is enough" 127.0.0.1:80 127.0.0.1:81
	usage "a descriptor (fd:3) cannot stand here" fd:3
	usage "only a listening address can be named" rpc=127.0.0.1:80
	usage "a URL: write HOST:PORT" http://127.0.0.1:80/
	usage "did you mean --connect-timeout?" --conect-timeout 1s 127.0.0.1:80
	usage "did you mean --reconnect?" --reconect 127.0.0.1:80
	usage "unknown option -x" -x 127.0.0.1:80
	usage "--retry many: must be from 0 to" --retry many 127.0.0.1:80
	usage "--connect-timeout 5: say 5s" --connect-timeout 5 127.0.0.1:80
	usage "--retry needs a value" 127.0.0.1:80 --retry
	usage "--to, -z and a COMMAND exclude each other" -z 127.0.0.1:80 -- cat
	usage "--to, -z and a COMMAND exclude each other" --to link 127.0.0.1:80 -- cat
	usage "--from joins what it is handed with ADDRESS" --from link --to other 127.0.0.1:80
	usage "--reconnect is for standard input and output" --reconnect -z 127.0.0.1:80
	usage "a COMMAND is missing after --" 127.0.0.1:80 --
}

@test "options may stand behind the address" {
	server all
	expect_status 0 ccf-connect "$ADDR" -z --connect-timeout 5s
	[[ $output == "connected to $ADDR"* ]]
}

@test "closed standard descriptors are no harm" {
	server all,say:answer
	spawn con bash -c 'exec ccf-connect "$1" <&- >&- 2>&-' bash "$ADDR"
	ends_with 0 con
	await_line srv.out '^1 got 0'
	[ ! -s con.out ]
	refusing
	expect_status 7 bash -c 'ccf-connect "$1" <&- >&- 2>&-' bash "$ADDR"
}

# --- statuses ---

@test "every exit status of lib/base/exit.h is what some test ends with" {
	local status where bad=0

	while read -r status; do
		case $status in
		60 | 90) continue ;;	# of ccf-tlsterm's client side
		128) status='1(29|30|37|43)' ;;
		esac
		where=$(cd "$HERE" && grep -lE "(ends_with|expect_status) $status |\"\\\$ended\" = $status ]" ./*.bats | xargs)
		echo "$status: ${where:-nowhere}"
		[ -n "$where" ] || bad=1
	done < <(sed -nE 's/^\tCCF_[A-Z_]+ = ([0-9]+),.*/\1/p' "$ROOT/lib/base/exit.h")
	[ "$bad" = 0 ]
}
