# http - HTTP/1 as clients meet it: its limits, what clients of the world ask for, and who is refused in the middle.
#
# (who runs this makes no difference)

load helpers
load control
load web

# said LINE: that is what a peer printed, and nothing else.
said() {
	[ "$output" = "$1" ] || {
		echo "it said $output, not $1"
		return 1
	}
}

READS_ALL='cat >/dev/null; printf "Content-Type: text/plain\n\nok\n"'	# a COMMAND

# --- limits ---

# limit NAME WHAT...: peer/http_limits.py, with both who count.
limit() {
	peer "$1" http_limits.py --control "term_$1.ctl" --listener "lst_$1.ctl" "${@:2}"
}

# table WHAT: with TLS and without; a limit of n has four sizes that pass, on one connection, and three (of a body: four) that
# do not.
table() {
	local how

	for how in plain tls; do
		web $how $how pages
		limit $how "$1"
		[[ $output =~ ^4\ passed,\ [34]\ refused$ ]]
	done
}

@test "a body with a length passes up to --max-body-size; above it is 413, counted once, and the end" {
	table body
}

@test "a body in one chunk passes up to --max-body-size; above it is 413, counted once, and the end" {
	table chunk
}

@test "a body in many chunks passes up to --max-body-size; above it is 413, counted once, and the end" {
	table chunks
}

@test "an echo in chunks is cut at the one that is too much, and counted once: its answer has begun" {
	table echo
}

@test "a field's value passes up to --max-header-size; above it is 431, counted once, and the end" {
	table value
}

@test "a field's name passes up to --max-header-size; above it is 431, counted once, and the end" {
	table name
}

@test "as many fields as --max-headers-count pass; more is 431, counted once, and the end" {
	table count
}

@test "a request line passes up to --max-request-line; above it is 414, counted once, and the end" {
	table line
}

@test "a whole head passes up to --max-head-size; above it is 431, counted once, and the end" {
	table head
}

@test "limits that are given hold instead, smaller and larger" {
	web small plain pages --max-body-size 1000 --max-header-size 100 --max-headers-count 20 --max-request-line 200 \
	    --max-head-size 1k
	limit small --limits 1000,100,20,200,1024 body chunk chunks value name count line head
	said '32 passed, 27 refused'
	web large plain pages --max-body-size 3M --max-header-size 100k --max-headers-count 1000 --max-request-line 50k \
	    --max-head-size 300k
	limit large --limits 3145728,102400,1000,51200,307200 body chunk value name count line head
	said '28 passed, 23 refused'
}

@test "in front of a guard and of a COMMAND the limits are the same, chunks too" {
	web_backend
	web guard tls guard
	limit guard --elsewhere body chunks value name count line head
	said '28 passed, 23 refused'
	web cgi plain "$READS_ALL" --max-head-size 48k	# more does not fit into an environment
	limit cgi --limits 1048576,16384,256,8192,49152 --elsewhere body chunks value name count line head
	said '28 passed, 23 refused'
}

@test "the listener counts each class of errors for the interface it came from, by the reason of closed" {
	LISTEN=(other=127.0.0.1:0)
	web two plain pages
	[ "$(fetch -o refused -w '%{http_code}' -H 'Bad Name: x' "${URL[two]}/")" = 400 ]
	jq -e '.error.code == "InvalidInput" and (.error.message | contains("a blank before the colon"))' refused
	WEB[two]=$(address two.json other)
	limit two --interface other value body
	errors two rpc 1 0 0
	errors two other 0 4 3
	figures lst_two 'ccfnet_connections_closed_total{reason="parsing"}=1' \
	    'ccfnet_connections_closed_total{reason="request-payload-too-large"}=4' \
	    'ccfnet_connections_closed_total{reason="request-header-too-large"}=3'
	await_line lst_two.log 'rpc#[0-9]+ .*closed: parsing, .* status 76$'
	await_line lst_two.log 'other#[0-9]+ .*closed: request-payload-too-large, .* status 76$'
	await_line lst_two.log 'other#[0-9]+ .*closed: request-header-too-large, .* status 76$'
}

# errors NAME INTERFACE PARSING PAYLOAD HEADERS: what GET /node/metrics of its listener says, sooner or later.
errors() {
	node "lst_$1" ".sessions.interfaces.$2.errors |
	    [.parsing, .request_payload_too_large, .request_header_too_large] == [$3, $4, $5]"
}

# --- clients ---

# each_way TEST...: against the built-in pages, with TLS and without.
each_way() {
	local how

	for how in plain tls; do
		web $how $how pages
		"$@" $how
	done
}

@test "curl gets what it asks for" {
	certs
	random 1m 1048576
	each_way curls
}

random() {	# random FILE BYTES
	head -c "$2" /dev/urandom >"$1"
}

# got CODE CURL-ARGUMENT...: the answer's body is in got.
got() {
	local code

	code=$(fetch -o got -w '%{http_code}' "${@:2}")
	[ "$code" = "$1" ] || {
		echo "$code, not $1: ${*:2}"
		return 1
	}
}

curls() {
	local url=${URL[$1]} before

	got 200 "$url/"
	grep -q '^This is ccf-net' got
	got 200 --http1.0 "$url/"
	got 200 --http1.0 -H 'Connection: keep-alive' "$url/"
	got 200 --http2 "$url/"
	fetch -I "$url/" | grep -q '^HTTP/1.1 200 OK'
	got 404 "$url/missing"
	jq -e '.error.code == "ResourceNotFound"' got
	got 405 -X DELETE "$url/"
	got 204 -X OPTIONS "$url/"
	got 200 --data-binary @1m "$url/echo"
	cmp 1m got
	got 200 -H 'Expect: 100-continue' --expect100-timeout "$LIMIT" --data-binary @1m "$url/echo"
	cmp 1m got
	got 200 -T - "$url/echo" <1m					# in chunks
	cmp 1m got
	got 200 -T - -H 'Expect: 100-continue' --expect100-timeout "$LIMIT" "$url/echo" <1m
	cmp 1m got
	got 200 -H 'Connection: Upgrade' -H 'Upgrade: websocket' "$url/"	# ignored
	before=$(figure "lst_$1" 'ccfnet_interface_accepted_total{interface="rpc"}')
	fetch "$url/" "$url/" "$url/missing" "$url/" >several			# on one connection
	figures "lst_$1" 'ccfnet_interface_accepted_total{interface="rpc"}'=$((before + 1))
}

@test "wrk and ab get nothing but answers, keep-alive and not" {
	requires wrk ab
	each_way benchmarks
}

benchmarks() {
	expect_status 0 wrk -d1s -t1 -c8 --timeout "${LIMIT}s" "${URL[$1]}/"
	[[ $output != *'Socket errors'* && $output != *Non-2xx* && $output == *Requests/sec:* ]]
	benchmark "$1" -n 200 -c 8
	benchmark "$1" -n 200 -c 8 -k
	grep -q '^Keep-Alive requests: *200$' <<<"$output"
	benchmark "$1" -n 50 -c 4 -k -H 'Connection: close'
	figures "term_$1" ccfnet_connections_active=0 'ccfnet_http_errors_total{class="parsing"}=0'
}

# benchmark NAME AB-ARGUMENT...: all of its requests are answered.
benchmark() {
	expect_status 0 ab -q -l "${@:2}" "${URL[$1]}/"		# -l: not all answers are equally long
	grep -q "^Complete requests: *$3\$" <<<"$output"
	grep -q '^Failed requests: *0$' <<<"$output"
	[[ $output != *Non-2xx* ]]
}

@test "http.client asks 1,000 times on one connection, and the listener counts one" {
	each_way ask_thousand
}

ask_thousand() {
	peer "$1" http_clients.py library 1000
	said '1000 answers'
	figures "lst_$1" 'ccfnet_interface_accepted_total{interface="rpc"}=1'
	figures "term_$1" ccfnet_connections_active=0 'ccfnet_http_requests_total{code="200"}=1000'
}

@test "a hundred requests in one write get a hundred answers in order" {
	each_way pipelined
	web_backend
	web guard plain guard
	pipelined guard /
	web cgi plain "$READS_ALL"
	pipelined cgi /
}

pipelined() {
	peer "$1" http_clients.py pipeline "${@:2}"
	said '100 answers in order'
}

@test "HEAD, HTTP/1.0, Connection, absolute URIs and Expect are what they are meant to be" {
	each_way formed
}

formed() {
	peer "$1" http_clients.py forms
	said 'all as it should be'
}

@test "clients are served by a guard and by a COMMAND as well" {
	requires ab
	web_backend
	random 1m 1048576
	for how in plain tls; do
		web guard$how $how guard
		served guard$how
		web cgi$how $how "$READS_ALL"
		served cgi$how
	done
}

served() {
	got 200 "${URL[$1]}/"
	got 200 --http1.0 "${URL[$1]}/"
	fetch -I "${URL[$1]}/" | grep -q '^HTTP/1.1 200 OK'
	got 200 --data-binary @1m "${URL[$1]}/"
	got 200 -T - "${URL[$1]}/" <1m
	got 200 -H 'Expect: 100-continue' --data-binary @1m "${URL[$1]}/"
	benchmark "$1" -n 40 -c 4
	benchmark "$1" -n 40 -c 4 -k
}

# --- who is refused in the middle ---

@test "who writes 10 MiB before he reads gets the whole 413, and no reset" {
	each_way uploads length chunk
	web_backend
	for how in plain tls; do
		web guard$how $how guard
		uploads length chunk chunks guard$how
		web cgi$how $how "$READS_ALL"
		uploads length chunk chunks cgi$how
	done
}

# uploads FORM... NAME
uploads() {
	local form

	for form in "${@:1:$#-1}"; do
		peer "${@: -1}" http_clients.py upload "$form" 3
		said '413 read whole 3 times'
	done
}

@test "curl gets the whole 413 for 10 MiB" {
	certs
	random 10m 10485760
	each_way refused
	web_backend
	web guard tls guard
	refused guard chunks
	web cgi plain "$READS_ALL"
	refused cgi chunks
}

refused() {
	local how

	for how in 'Expect:' 'Expect: 100-continue' ${2:+'Transfer-Encoding: chunked'}; do
		got 413 -H "$how" --data-binary @10m "${URL[$1]}/echo"
		jq -e '.error.code == "RequestBodyTooLarge"' got
	done
}

@test "who was refused and neither reads nor ends is let go after a while" {
	local r w

	for how in plain tls; do
		web $how $how pages
		make_pipe r w
		# shellcheck disable=SC2086	# two words or none
		SPAWN_IN=/dev/fd/$r spawn silent$how python3 "$HERE/peer/http_clients.py" "${WEB[$how]}" ${CA[$how]} silent
		await_line silent$how.out refused
		await_line term_$how.log '"event":"close".*"reason":"request-payload-too-large"'
		figures lst_$how 'ccfnet_interface_active{interface="rpc"}=0'
		mine "${PID[silent$how]}"
		exec {w}>&- {r}<&-
		ends_with 0 silent$how
	done
}

@test "who was refused and never stops writing is let go after 64 MiB" {
	each_way lets_go
}

lets_go() {
	peer "$1" http_clients.py endless
	[[ $output =~ ^let\ go\ after\ ([0-9]+)$ ]] && [ "${BASH_REMATCH[1]}" -gt $((50 << 20)) ]
	figures "lst_$1" 'ccfnet_interface_active{interface="rpc"}=0'
}

@test "told to end: who has been answered is let go at once, a request under way is answered, and is the last" {
	mkfifo began go
	web drain tls ': >began; read -r go <go; printf "Content-Type: text/plain\n\nwas under way\n"'
	cat >clients.py <<-'PYTHON'
		import os, signal, socket, ssl, sys
		context = ssl.create_default_context(cafile=sys.argv[1])
		host, port = sys.argv[2].rsplit(":", 1)
		def ask():
		    s = context.wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname="localhost")
		    s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		    return s
		def rest(s, until=None):
		    got = b""
		    while (more := s.recv(65536)):
		        got += more
		        if until and until in got:
		            break
		    return got
		def began():
		    open("began").close()
		def go():
		    with open("go", "w") as script:
		        script.write("go\n")
		idle = ask()
		began(), go()
		rest(idle, b"0\r\n\r\n")
		busy = ask()
		began()
		os.kill(int(sys.argv[3]), signal.SIGTERM)
		assert rest(idle) == b"", "the idle one was not let go"
		go()
		got = rest(busy)
		assert b"was under way" in got and b"Connection: close" in got, got
	PYTHON
	expect_status 0 python3 clients.py "$CERTS/ca.pem" "${WEB[drain]}" "${PID[term_drain]}"
	wait_for term_drain
	[ "$ended" = 0 ]
}
