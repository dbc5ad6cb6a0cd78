# busy - above the caps: who is served goes on being served, who is one too many is told so, or closed at accept.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control

SOFT=40 HARD=45
BUSY='{"error":{"code":"SessionCapExhausted","message":"Service is currently busy and unable to serve new connections"}}'

# front tls|plain|later OPTION...: a listener (lst) with the caps and a terminator (term) with these options; both have control
# sockets.  ADDR is where, TLS are the options of a client.  Later: of TLS too, but its certificate, later.pem, is not there yet.
front() {
	local with=(--plaintext) ready=listening

	TLS=()
	if [ "$1" != plain ]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		TLS=(--tls "$CERTS/ca.pem")
	fi
	if [ "$1" = later ]; then
		with=(--cert later.pem --key later.key)
		ready=bound
	fi
	pipeline lst ccf-listen --to - --control lst.ctl --max-open-sessions-soft "$SOFT" --max-open-sessions-hard "$HARD" \
	    --ready-fd 9 --ready-when $ready --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${with[@]}" --control term.ctl "${@:2}"
	ADDR=$(address a.json rpc)
}

I='{interface="rpc"}'
HARD_CAP='{interface="rpc",reason="hard-cap"}'

# counts ACTIVE PEAK CAPPED REFUSED: the listener does, in both ways it can be asked, and nobody erred.
counts() {
	figures lst "ccfnet_interface_active$I=$1" "ccfnet_interface_peak$I=$2" "ccfnet_interface_capped_total$I=$3" \
	    "ccfnet_interface_refused_total$HARD_CAP=$4" "ccfnet_interface_soft_cap$I=$SOFT" "ccfnet_interface_hard_cap$I=$HARD" \
	    "ccfnet_connections_active=$1" "ccfnet_connections_peak=$2" "ccfnet_connections_capped_total=$3" \
	    "ccfnet_connections_refused_total{reason=\"hard-cap\"}=$4"
	node lst '. == {"sessions": {"active": '"$1"', "peak": '"$2"', "interfaces": {"rpc": {"active": '"$1"', "peak": '"$2"',
	    "soft_cap": '"$SOFT"', "hard_cap": '"$HARD"',
	    "errors": {"parsing": 0, "request_payload_too_large": 0, "request_header_too_large": 0}}}}}'
}

# busy_answer FILE: it is the 503, byte for byte but for when to come again.
busy_answer() {
	local retry

	retry=$(sed -n 's/^Retry-After: \([0-9]*\)\r$/\1/p' "$1")
	[[ $retry =~ ^[1-5]$ ]]
	printf '%s\r\n' 'HTTP/1.1 503 Service Unavailable' 'Content-Type: application/json' "Retry-After: $retry" \
	    "Content-Length: ${#BUSY}" 'Connection: close' '' >wanted
	printf %s "$BUSY" >>wanted
	cmp wanted "$1"
}

# all FROM TO WHAT [NAME]: each of these clients sees that once.
all() {
	eventually -t $((LIMIT * 2)) seen "$@" || {
		tail -n 30 "${4-cl}.out"
		return 1
	}
}

seen() {
	local i

	for ((i = $1; i <= $2; i++)); do
		times 1 "${4-cl}.out" "^$i $3\$" || return
	done
}

# goes_on N: as many more rounds of those who work.
goes_on() {
	local now

	now=$(grep -c '^round ' cl.out) || :
	await_line cl.out "^round $((now + $1))\$"
}

# full tls|plain: 40 are served; 5 get in, and hold what they want back until 20 more were closed at accept; each of them is
# told 503, while the 40 go on; then all leave.
full() {
	local how=$1 handshakes=45

	front "$how" --app http1 --request-timeout 100s
	[ "$how" = tls ] || handshakes=
	base_lst=$(fds lst) base=$(fds term) base_worker=$(fds term.1)
	askers cl "$ADDR" "${TLS[@]}"
	tell cl open 40
	tell cl ask 1 40
	all 1 40 200
	counts 40 40 0 0
	tell cl work 1 40
	goes_on 1

	tell cl open 5
	all 41 45 up
	counts 45 45 5 0
	figures term ccfnet_connections_active=45 ${handshakes:+"ccfnet_tls_handshakes_total{result=\"ok\"}=45"} \
	    ccfnet_http_capped_total=0
	if [ "$how" = tls ]; then
		tell cl open 20
		all 46 65 '(closed|reset)'
	else
		tell cl knock 20
		tell cl rest 46 65
		all 46 65 'rest 0 (ended|reset)'
	fi
	counts 45 45 5 20
	goes_on 1

	printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >question
	printf '\26\3\1\0\377\r\n\0 no HTTP' >garbage
	printf x >byte
	printf 'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n' >post
	tell cl say 41 41 question
	tell cl say 42 42 garbage
	tell cl say 43 43 byte
	tell cl say 44 44 byte 1048576
	tell cl say 45 45 post 8388608
	tell cl rest 41 45
	all 41 45 'rest [0-9]+ ended'
	for i in {41..45}; do busy_answer "rest.$i"; done
	goes_on 1
	tell cl close 41 45
	counts 40 45 5 20
	figures term ccfnet_connections_active=40 ccfnet_connections_peak=45 ccfnet_connections_taken_total=45 \
	    ccfnet_http_capped_total=5 'ccfnet_connections_closed_total{reason="capped"}=5' \
	    ${handshakes:+"ccfnet_tls_handshakes_total{result=\"ok\"}=45" "ccfnet_tls_handshakes_total{result=\"failed\"}=0"}
	figures lst 'ccfnet_connections_closed_total{reason="capped"}=5'
	await_line term.log 'rpc#4[1-5] .*: closed: capped, by us, .*, status 69$'

	goes_on 1
	tell cl idle
	await_line cl.out '^worked '
	times 1 cl.out '^worked [0-9]+ rounds, 0 lost, '
	tell cl ask 1 40
	eventually times 80 cl.out '^[0-9]+ 200$'
	tell cl close 1 40
	counts 0 45 5 20
	figures term ccfnet_connections_active=0 ccfnet_connections_peak=45 ccfnet_buffered_bytes=0 \
	    'ccfnet_connections_closed_total{reason="done"}=40' 'ccfnet_http_requests_total{code="200"}='"$(requests)"
	correct lst
	correct term
	keeps lst="$base_lst" term="$base" term.1="$base_worker"
	tell cl end
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 term
}

# requests: how many were answered.
requests() {
	echo $((80 + 40 * $(grep -c '^round ' cl.out)))
}

@test "40 are served throughout; 5 more get in and are told 503 once they speak, whatever they say; 20 more are closed before TLS" {
	full tls
}

@test "40 are served throughout; 5 more get in and are told 503 once they speak, whatever they say; 20 more are closed: plain" {
	full plain
}

# silent tls|plain: two marked clients that say nothing.
silent() {
	SOFT=1 HARD=3
	front "$1" --app http1 --request-timeout 2s --idle-timeout 100s
	askers cl "$ADDR" "${TLS[@]}"
	tell cl open 1
	tell cl ask 1 1
	all 1 1 200
	tell cl open 2
	tell cl rest 2 3
	all 2 3 'rest 0 ended'
	counts 1 3 2 0
	figures term 'ccfnet_connections_closed_total{reason="request-timeout"}=2' ccfnet_http_capped_total=0
	await_line term.log 'rpc#3 .*: closed: request-timeout, by us, 0 bytes in, 0 out, .*, status 28$'
	tell cl open 1
	figures lst "ccfnet_interface_capped_total$I=3" "ccfnet_interface_refused_total$HARD_CAP=0"
	tell cl ask 1 1
	eventually times 2 cl.out '^1 200$'
}

@test "a marked client that says nothing holds its slot until --request-timeout, and is then closed without a word" {
	silent tls
}

@test "a marked client that says nothing holds its slot until --request-timeout, and is then closed without a word: plain" {
	silent plain
}

@test "the caps hold on an interface whose certificate is not there yet: the kernel refuses, nobody is counted; then as ever" {
	local i

	SOFT=2 HARD=4
	front later --app http1
	await_line term.log 'later\.pem'
	askers cl "$ADDR" "${TLS[@]}"
	tell cl open 6
	all 1 6 refused
	counts 0 0 0 0
	figures lst "ccfnet_interface_listening$I=0" "ccfnet_interface_accepted_total$I=0"
	figures term ccfnet_connections_taken_total=0

	cp "$CERTS/key.pem" later.key
	cp "$CERTS/chain.pem" later.tmp
	mv later.tmp later.pem
	figures lst "ccfnet_interface_listening$I=1"
	around 6
	around 11
	counts 0 4 4 2
	figures term ccfnet_http_capped_total=4 'ccfnet_tls_handshakes_total{result="ok"}=8'
}

# around N: of the clients from N + 1 on two are served, two told 503, one is closed at accept; then they leave.
around() {
	local n=$1 capped

	capped=$(figure lst "ccfnet_interface_capped_total$I")
	tell cl open 2
	tell cl ask $((n + 1)) $((n + 2))
	all $((n + 1)) $((n + 2)) 200
	tell cl open 2
	all $((n + 3)) $((n + 4)) up
	tell cl knock 1
	tell cl rest $((n + 5)) $((n + 5))
	all $((n + 5)) $((n + 5)) 'rest 0 (ended|reset)'
	printf x >byte
	tell cl say $((n + 3)) $((n + 4)) byte
	tell cl rest $((n + 3)) $((n + 4))
	all $((n + 3)) $((n + 4)) 'rest [0-9]+ ended'
	busy_answer rest.$((n + 3))
	busy_answer rest.$((n + 4))
	tell cl ask $((n + 1)) $((n + 2))
	eventually times 2 cl.out "^$((n + 2)) 200\$"
	tell cl close $((n + 1)) $((n + 4))
	figures lst "ccfnet_interface_active$I=0" "ccfnet_interface_capped_total$I=$((capped + 2))"
}

# --- other sinks ---

MESSAGE='-BUSY come \\ again\x00\r\n'

# sees_message FROM TO: each of these clients says something, and reads the message and an end.
sees_message() {
	local i

	printf x >byte
	printf '%b' "$MESSAGE" >message
	tell cl say "$1" "$2" byte
	tell cl rest "$1" "$2"
	all "$1" "$2" "rest $(stat -c %s message) ended"
	for ((i = $1; i <= $2; i++)); do cmp message "rest.$i"; done
}

# with_message tls|plain SINK...: two clients are served by it, two get the message instead.
with_message() {
	SOFT=2 HARD=4
	front "$1" --capped-message "$MESSAGE" "${@:2}"
	askers cl "$ADDR" "${TLS[@]}"
	echo hello >hello
	tell cl open 2
	tell cl open 2
	all 3 4 up
	sees_message 3 4
	tell cl close 3 4
	counts 2 4 2 0
	figures term 'ccfnet_connections_closed_total{reason="capped"}=2'
}

# served: those two hear back what they say.
served() {
	tell cl say 1 2 hello
	tell cl read 1 2 6
	all 1 2 'read 6'
	cmp hello rest.1
	cmp hello rest.2
	tell cl close 1 2
	counts 0 4 2 0
}

@test "--capped-message: above the soft cap it is said before the echo session: over TLS" {
	echoes tls
}

@test "--capped-message: above the soft cap it is said before the echo session: plain" {
	echoes plain
}

echoes() {
	with_message "$1" --app echo
	served
}

@test "--capped-message: above the soft cap it is said and no COMMAND is started: over TLS" {
	commands tls
}

@test "--capped-message: above the soft cap it is said and no COMMAND is started: plain" {
	commands plain
}

commands() {
	with_message "$1" -- sh -c 'echo started >>commands; exec cat'
	figures term 'ccfnet_commands_total{result="ok"}=2' 'ccfnet_commands_total{result="failed"}=0'
	served
	times 2 commands started
}

@test "--capped-message: above the soft cap it is said and nothing is handed on: over TLS" {
	links tls
}

@test "--capped-message: above the soft cap it is said and nothing is handed on: plain" {
	links plain
}

links() {
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- cat
	spawn con ccf-connect --control con.ctl --from inner "$(address b.json rpc)"
	with_message "$1" --to inner
	figures con ccfnet_connections_taken_total=2 'ccfnet_dials_total{result="ok"}=2'
	served
	stop con
	stop back
}

@test "without --capped-message a COMMAND, and who the connection is handed on to, see CCF_CAPPED=1 above the soft cap, and only there: over TLS" {
	marked tls
}

@test "without --capped-message a COMMAND, and who the connection is handed on to, see CCF_CAPPED=1 above the soft cap, and only there: plain" {
	marked plain
}

marked() {
	local i

	SOFT=2 HARD=4
	# shellcheck disable=SC2016
	spawn back ccf-tlsterm --plaintext --from inner -- sh -c 'echo "capped=${CCF_CAPPED-no}"; exec cat'
	front "$1" --to inner
	askers cl "$ADDR" "${TLS[@]}"
	tell cl open 4
	tell cl read 1 2 10
	tell cl read 3 4 9
	all 1 2 'read 10'
	all 3 4 'read 9'
	for i in 1 2; do [ "$(cat rest.$i)" = capped=no ]; done
	for i in 3 4; do [ "$(cat rest.$i)" = capped=1 ]; done
	tell cl close 1 4
	stop back
}

@test "a --capped-message that cannot be, or where HTTP has its own, is a usage error" {
	expect_status 2 ccf-tlsterm --plaintext --from link --app echo --capped-message 'a\q'
	[[ $output == *'after a backslash stands n, r, t, another one, or x and two hex digits'* ]]
	expect_status 2 ccf-tlsterm --plaintext --from link --app echo --capped-message 'a\x4'
	expect_status 2 ccf-tlsterm --plaintext --from link --app echo --capped-message 'a\x'
	expect_status 2 ccf-tlsterm --plaintext --from link --app http1 --capped-message busy
	[[ $output == *'--app http1 answers 503 above the soft cap'* ]]
}

@test "above the soft cap a guard answers 503, and dials no backend for it" {
	SOFT=2 HARD=4
	http_backend
	echo page >"$BACKEND_DIR/index.html"
	spawn con ccf-connect --control con.ctl --from inner "$BACKEND"
	front tls --app http1 --to inner
	askers cl "$ADDR" "${TLS[@]}"
	around 0
	around 5
	figures con ccfnet_connections_taken_total=4 'ccfnet_dials_total{result="ok"}=4'
	figures term ccfnet_http_capped_total=4
	eventually times 8 http.log '^GET / 200 5$'
}

@test "above the soft cap a CGI answers 503, and starts no COMMAND for it" {
	SOFT=2 HARD=4
	front plain --app http1 -- sh -c 'echo started >>commands; printf "Content-Type: text/plain\n\nhello\n"'
	askers cl "$ADDR"
	around 0
	around 5
	figures term ccfnet_http_capped_total=4 'ccfnet_commands_total{result="ok"}=8'
	times 8 commands started
}
