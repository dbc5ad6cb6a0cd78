# datagrams - ccf-connect udp:HOST:PORT: lines and blocks go out as datagrams, answers come back byte for byte.
#
# (who runs this makes no difference)

load helpers

# --- what the tests share ---

# service [RULE] [OPTION...]: tests/peer/answers.py, spawned as srv; ADDR is where it is, srv.out what it saw.
service() {
	rm -f srv.out
	spawn srv python3 "$HERE/peer/answers.py" "${AT-127.0.0.1}" 0 "$@"
	await_line srv.out .
	ADDR=udp:$(head -n 1 srv.out)
}

# saw N: the service was asked so often.
saw() {
	[ "$(tail -n +2 srv.out | wc -l)" = "$1" ]
}

# nobody: ADDR is a port where nobody receives.
nobody() {
	ADDR=udp:127.0.0.1:$(python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
}

# comes_back FILE ARGUMENTS...: FILE goes out, and comes back whole.
comes_back() {
	timeout -k 1 "$LIMIT" ccf-connect "${@:2}" <"$1" >"$1.back"
	cmp "$1" "$1.back"
}

# asks STATUS ARGUMENTS...: ccf-connect ends with that; what it wrote is in $output, what it said in $stderr.
asks() {
	run "-$1" --separate-stderr timeout -k 1 "$LIMIT" ccf-connect "${@:2}"
}

# typing ARGUMENTS...: con is ccf-connect with these, and type_in LINE... is its standard input.
typing() {
	mkfifo con.in
	exec {TYPING}<>con.in
	SPAWN_IN=con.in spawn con ccf-connect "$@"
}

type_in() {
	printf '%s\n' "$@" >&"$TYPING"
}

# refused_usage WHY ARGUMENTS...: a usage error that says that.
refused_usage() {
	expect_status 2 ccf-connect "${@:2}" </dev/null
	[[ $output == "ccf-connect: error: $1"*'(ccf-connect --help shows the options)' ]] || { echo "$output"; false; }
	[ "${#lines[@]}" = 1 ]
}

# --- what goes out, and what comes back ---

@test "each line is a datagram, its newline with it, and an echo gives the input back" {
	service echo --say
	printf 'one\n\nthree, without its newline' >in
	comes_back in "$ADDR"
	[ "$(awk 'NR > 1 { print $3 }' srv.out)" = $'4\n1\n26' ]
	[ "$(awk 'NR > 1 { print $2 }' srv.out | sort -u | wc -l)" = 1 ]
}

@test "empty input sends nothing and ends with 0" {
	service echo --say
	expect_status 0 ccf-connect "$ADDR" </dev/null
	[ -z "$output" ]
	expect_status 0 ccf-connect --answers 3 --datagram-size 10 "$ADDR" </dev/null
	echo x | ccf-connect "$ADDR"
	saw 1
}

@test "blocks are cut whatever is in them, and the last may be shorter" {
	service echo --say
	head -c 10000 /dev/urandom >in
	comes_back in --datagram-size 3000 "$ADDR"
	[ "$(awk 'NR > 1 { print $3 }' srv.out)" = $'3000\n3000\n3000\n1000' ]
}

@test "blocks of the largest size there is come back as they went" {
	service
	head -c 2000000 /dev/urandom >in
	comes_back in --datagram-size 65507 --window 4 "$ADDR"
}

@test "10,000 lines come back complete and in order" {
	service
	seq 1 10000 >in
	comes_back in --window 64 "$ADDR"
	seq 1 10000 | ccf-connect --window 64 "$ADDR" | cmp - in
}

@test "ccf-udpecho gives it all back: lines, and binary blocks of nearly 64 KiB" {
	spawn echo ccf-udpecho --ready-fd 9 --address-file a.json e=127.0.0.1:0
	seq 1 10000 >in
	comes_back in --window 64 "udp:$(address a.json e)"
	head -c 2000000 /dev/urandom >in
	comes_back in --datagram-size 65507 --window 4 "udp:$(address a.json e)"
}

@test "socat gives it back" {
	spawn soc socat -d -d UDP4-LISTEN:0,bind=127.0.0.1 PIPE
	await_line soc.log 'listening on UDP'
	seq 1 200 >in
	comes_back in --window 1 "udp:$(sed -n 's/.*listening on UDP AF=2 //p' soc.log)"
}

@test "ncat gives it back" {
	local port

	port=$(free_port)
	spawn nc ncat -v -u -l 127.0.0.1 "$port" --exec /bin/cat
	await_line nc.log "Listening on 127.0.0.1:$port"
	seq 1 200 >in
	comes_back in --window 1 "udp:127.0.0.1:$port"
}

@test "answers come while the input is open" {
	service
	typing "$ADDR"
	type_in one
	await_line con.out '^one$'
	type_in two three
	await_line con.out '^three$'
	[ "$(cat con.out)" = $'one\ntwo\nthree' ]
	stop con
	[ "$ended" = 143 ]	# it dies of the signal, as any program would
}

@test "input that goes on slowly is no reason for a deadline" {
	service none --say
	typing --answer-timeout 50ms "$ADDR"
	type_in one
	eventually saw 1
	run ! gone "${PID[con]}" 0.3
	type_in two
	eventually saw 2
	exec {TYPING}>&-
	ends_with 28 con
	[[ $(cat con.log) == *": 0 of 2 datagrams were answered;"* ]]
}

# --- how many answers are waited for ---

@test "no answer is 28, and how many there were is said" {
	service none --say
	expect_status 28 ccf-connect --answer-timeout 100ms "$ADDR" <<<$'1\n2\n3'
	[ "$output" = "ccf-connect: error: 0 of 3 datagrams were answered; no more within 100ms (--answer-timeout; --answers 0 waits for none)" ]
	saw 3
}

@test "some answers are 28, and what came is written" {
	service first:2
	asks 28 --answer-timeout 1s "$ADDR" <<<$'1\n2\n3'
	[ "$output" = $'1\n2' ]
	[[ $stderr == *": 2 of 3 datagrams were answered; no more within 1s (--answer-timeout; "* ]]
}

@test "without an answer in time 3 seconds are what is waited" {
	local began=$SECONDS

	service none
	expect_status 28 ccf-connect "$ADDR" <<<1
	[[ $output == *" no more within 3s "* ]]
	[ $((SECONDS - began)) -ge 2 ]
}

@test "--answer-timeout none waits on" {
	service none --say
	echo 1 >in
	SPAWN_IN=in spawn con ccf-connect --answer-timeout none "$ADDR"
	eventually saw 1
	run ! gone "${PID[con]}" 0.3
	stop con
}

@test "--answers 0 waits for none, and all were sent" {
	service none --say
	expect_status 0 ccf-connect --answers 0 "$ADDR" <<<$'1\n2\n3'
	[ -z "$output" ]
	eventually saw 3
}

@test "--answers N waits for so many of a service that says more than it is asked" {
	service times:5
	expect_status 0 ccf-connect --answers 5 "$ADDR" <<<q
	[ "$output" = $'1 of q\n2 of q\n3 of q\n4 of q\n5 of q' ]
	expect_status 0 ccf-connect --answers 3 "$ADDR" <<<q
	[[ $output == $'1 of q\n2 of q\n3 of q'* ]]
	asks 28 --answers 7 --answer-timeout 200ms "$ADDR" <<<q
	[ "${#lines[@]}" = 5 ]
	[ "$stderr" = "ccf-connect: error: 5 of 7 answers (--answers) came; no more within 200ms (--answer-timeout)" ]
}

@test "--window N sends no more than N ahead of the answers" {
	service echo --say --at-once 4
	seq 1 8 >in
	comes_back in --window 4 "$ADDR"
	stop srv
	service echo --say --at-once 5
	asks 28 --window 4 --answer-timeout 100ms "$ADDR" <in
	[ -z "$output" ]
	[ "$stderr" = "ccf-connect: error: no answer within 100ms (--answer-timeout) to 4 datagrams (--window): 4 were sent, 4 lines were not" ]
	eventually saw 4
}

@test "at the limit of the window it is said whether more was to come" {
	service none --say
	typing --window 2 --answer-timeout 100ms --datagram-size 4 "$ADDR"
	type_in 123 456 789 012
	ends_with 28 con
	[[ $(cat con.log) == *": 2 were sent, at least 2 blocks were not" ]]
	saw 2
}

# --- what goes wrong ---

@test "a port where nobody receives is 7" {
	nobody
	expect_status 7 ccf-connect "$ADDR" <<<hello
	[ "$output" = "ccf-connect: error: nobody receives at $ADDR (port unreachable)" ]
	expect_status 7 ccf-connect --answers 0 "$ADDR" <<<hello
	seq 1 100000 >in
	asks 7 -v "$ADDR" <in	# and it does not try 100,000 times
	[[ $stderr =~ ([0-9]+)" datagrams" ]]
	[ "${BASH_REMATCH[1]}" -lt 50000 ]
}

@test "a service that goes away is 7, and what it had answered is written" {
	service
	typing "$ADDR"
	type_in one
	await_line con.out '^one$'
	stop srv
	type_in two
	ends_with 7 con
	[ "$(cat con.out)" = one ]
}

@test "with a port of its own it does not take itself for the service" {
	requires netns
	expect_status 7 "${NETNS[@]}" sh -c 'ip link set lo up
		echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range
		echo hello | ccf-connect udp:127.0.0.1:40000'
	[[ $output == *"udp:127.0.0.1:40000"*"refused"* ]]
}

@test "standard output that went away is 23" {
	service
	expect_status 23 bash -c 'ccf-connect "$1" <<<hello >/dev/full' _ "$ADDR"
	[ "$output" = "ccf-connect: error: standard output went away: No space left on device; 1 answers had come" ]
	mkfifo gone
	exec {gone}<>gone
	exec {out}>gone
	exec {gone}<&-
	expect_status 23 bash -c 'ccf-connect "$1" <<<hello >&"$2"' _ "$ADDR" "$out"
	[[ $output == *": Broken pipe; 1 answers had come" ]]
	exec {out}>&-
}

@test "a line too long for a datagram is named, and nothing of it is sent" {
	service echo --say
	{
		echo one
		head -c 65506 /dev/zero | tr '\0' x	# with its newline it is just the size
		echo
		head -c 65507 /dev/zero | tr '\0' y
		echo
		echo never
	} >in
	asks 2 "$ADDR" <in
	[ "$stderr" = "ccf-connect: error: line 3 is longer than the 65507 bytes that a datagram holds, newline included: it was not sent (--datagram-size N sends blocks instead)" ]
	[ "${#output}" = $((4 + 65506)) ]
	saw 2
	head -c 65507 /dev/zero | ccf-connect "$ADDR" | cmp - <(head -c 65507 /dev/zero)	# a last one, without
	eventually saw 3
}

@test "standard input that cannot be read is 1" {
	service
	expect_status 1 ccf-connect "$ADDR" </
	[[ $output == "ccf-connect: error: cannot read standard input: Is a directory" ]]
}

@test "a name or a family that there is not is 6" {
	expect_status 6 ccf-connect udp:127.0.0.1:no-such-service </dev/null
	[[ $output == *"cannot resolve the port no-such-service"* ]]
	expect_status 6 ccf-connect -6 udp:127.0.0.1:9 </dev/null
}

@test "a slow reader loses nothing that there is room for, and costs no memory" {
	local rss

	service times:60
	mkfifo slow
	exec {slow}<>slow
	head -c 3000 /dev/zero | tr '\0' x >in
	SPAWN_IN=in SPAWN_OUT=slow spawn con ccf-connect --datagram-size 1000 --answers 180 --answer-timeout 300ms "$ADDR"
	run ! gone "${PID[con]}" 1	# while nobody reads, no deadline runs
	rss=$(rss_kib con)
	timeout "$LIMIT" head -c $((180 * 1005 + 3 * 51)) <&"$slow" >out
	ends_with 0 con
	[ "$(grep -o 'of x*' out | sort | uniq -c | sed 's/x//g')" = '    180 of ' ]
	[ -n "${CCF_SAN-}" ] || [ "$rss" -lt 16384 ]
}

# --- who and where ---

@test "--bind is the address that the service sees, and -v says both" {
	service echo --say
	asks 0 -v --bind 127.0.0.2 "$ADDR" <<<hello
	[ "$output" = hello ]
	[[ $(tail -n 1 srv.out) == "127.0.0.2 "* ]]
	[[ $stderr == *"info: sending to $ADDR from 127.0.0.2:"* ]]
	[[ $stderr == *"info: 1 datagrams (6 bytes) sent, 1 answers (6 bytes) received"* ]]
	expect_status 45 ccf-connect --bind 192.0.2.1 "$ADDR" <<<hello
}

@test "over IPv6 all is the same" {
	requires ipv6
	AT=::1 service
	expect_status 0 ccf-connect "$ADDR" <<<hello
	[ "$output" = hello ]
	expect_status 0 ccf-connect -6 "$ADDR" <<<hello
	expect_status 6 ccf-connect -4 "$ADDR" <<<hello
	stop srv
	expect_status 7 ccf-connect "$ADDR" <<<hello
	[[ $output == *"nobody receives at $ADDR (port unreachable)" ]]
	head -c 200000 /dev/urandom >in
	AT=::1 service
	comes_back in --datagram-size 65507 --window 1 "$ADDR"
}

@test "--trace shows each datagram, as text and as JSON" {
	service
	asks 0 --trace --window 1 "$ADDR" <<<$'hello\nyou'
	[ "$(grep -v -e '->' <<<"$stderr")" = $'trace: out 6 bytes\ntrace: in 6 bytes\ntrace: out 4 bytes\ntrace: in 4 bytes' ]
	[[ $stderr == *"trace: CONNECTING -> CONNECTED"* ]]
	asks 0 --trace --log json "$ADDR" <<<hello
	[ "$(jq -c 'select(.event == "trace" and .bytes) | [.what, .bytes]' <<<"$stderr")" = $'["out",6]\n["in",6]' ]
}

@test "a COMMAND has the socket on 6 and 7, and the environment says what it is" {
	service
	expect_status 0 env TCPREMOTEIP=planted UDPFOO=planted ccf-connect --bind 127.0.0.2 "$ADDR" -- bash -c '
		echo "$PROTO $UDPLOCALIP $UDPREMOTEIP:$UDPREMOTEPORT $UDPREMOTEHOST $CCF_INTERFACE $CCF_CONN_ID"
		echo "${TCPREMOTEIP-none} ${UDPFOO-none} ${TCPLOCALIP-none} $((UDPLOCALPORT > 0)) $((CCF_ACCEPTED > 0))"
		echo one >&7
		echo two >&7
		dd bs=100 count=1 <&6 2>/dev/null
		dd bs=100 count=1 <&6 2>/dev/null'
	[ "${lines[0]}" = "UDP 127.0.0.2 ${ADDR#udp:} 127.0.0.1 $ADDR $ADDR#1" ]
	[ "${lines[1]}" = "none none none 1 1" ]
	[ "${lines[2]} ${lines[3]}" = "one two" ]
	expect_status 7 ccf-connect "$ADDR" -- sh -c 'exit 7'
}

# --- usage ---

@test "options about connections are refused with udp:, each with a sentence that says why" {
	local option

	refused_usage '-z says how long a connection takes: over UDP there is none' -z udp:127.0.0.1:9
	refused_usage '--to hands a connection on: over UDP there is none' --to link udp:127.0.0.1:9
	refused_usage '--from joins connections: over UDP there are none' --from link udp:127.0.0.1:9
	refused_usage '--tls is spoken over a connection: over UDP there is none' --tls udp:127.0.0.1:9
	refused_usage '--reconnect is for a lost connection: over UDP there is none' --reconnect udp:127.0.0.1:9
	refused_usage '--retry is for a connection that fails: over UDP there is none' --retry 3 udp:127.0.0.1:9
	refused_usage '--control is for a tool that stays running' --control c udp:127.0.0.1:9
	for option in connect idle half-close flush user; do
		refused_usage "--$option-timeout " "--$option-timeout" 10s udp:127.0.0.1:9
	done
}

@test "options about datagrams are refused without udp:, and with a COMMAND" {
	local option at

	for option in '--datagram-size 10' '--window 10' '--answers 10' '--answer-timeout 10s'; do
		# shellcheck disable=SC2086
		refused_usage "${option% *} is about datagrams: it goes with udp:HOST:PORT" $option 127.0.0.1:9
		# shellcheck disable=SC2086
		refused_usage "${option% *} is about standard input and output: a COMMAND has the socket itself" \
		    $option udp:127.0.0.1:9 -- true
	done
	refused_usage '--datagram-size 0: must be from 1 to 65507' --datagram-size 0 udp:127.0.0.1:9
	refused_usage '--datagram-size 65508: must be from 1 to 65507' --datagram-size 65508 udp:127.0.0.1:9
	refused_usage '--window 0: must be from 1' --window 0 udp:127.0.0.1:9
	refused_usage 'udp::9: a host to send to is missing, as in udp:127.0.0.1:9' udp::9
	for at in udp:127.0.0.1:0 udp:localhost:00 'udp:[::1]:0'; do
		refused_usage "$at: port 0 is none to send to: write the port the service has " "$at"
	done
	refused_usage 'host and port are one word: write udp:127.0.0.1:9' udp:127.0.0.1 9
}
