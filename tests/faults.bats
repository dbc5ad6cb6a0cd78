# faults - what breaks around the pipeline, and what its tools then say, do, and end with.

load helpers

# stack BACKEND: the three tools joined by shell pipes in front of BACKEND; TLS_OPTS and CON_OPTS are for two of them.
stack() {
	certs
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" ${TLS_OPTS-} --to - '|' \
	    con ccf-connect --from - ${CON_OPTS-} "$1"
	ADDR=$(address a.json rpc)
}

# by_paths BACKEND: the same three joined by PATHs: each can be started again.
by_paths() {
	certs
	spawn con ccf-connect --from plain ${CON_OPTS-} "$1"
	start_tls
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
}

start_tls() {
	spawn tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from taken ${TLS_OPTS-} --to plain
}

get() {
	curl -sS --noproxy '*' --max-time "$LIMIT" --cacert "$CERTS/ca.pem" -o got "https://$ADDR/${1-}"
}

client() {	# client NAME HOW [PATH]
	spawn "$1" python3 "$HERE/peer/tls_client.py" "$2" "$CERTS/ca.pem" "$ADDR" "${3-/}"
}

go_on() {	# go_on NAME: a client that waits goes on
	kill -USR1 "${PID[$1]}"
}

raises() {	# raises NAME: its client's program saw an exception, not an answer
	ends_with 1 "$1"
	grep '^raised' "$1.out"
}

run_curl() {	# in the background
	SPAWN_OUT=/dev/null spawn curl curl -sS --noproxy '*' --max-time 30 --cacert "$CERTS/ca.pem" "https://$ADDR/index.html"
}

curl_failed() {	# it did, before its deadline
	wait_for curl || :
	echo "curl: $ended"
	[ "$ended" != 0 ] && [ "$ended" != 28 ] && [ "$ended" != timeout ]
}

# both_fail: neither curl nor a Python program with default settings takes what it got for an answer.
both_fail() {
	run get
	echo "curl: $status $output"
	[ "$status" != 0 ] && [ "$status" != 28 ]
	client py get
	raises py
}

deaf_backend() {
	SPAWN_OUT=deaf.address spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.address .
	BACKEND=$(cat deaf.address)
}

lines() {	# lines N FILE PATTERN: so many lines of FILE match
	local n

	n=$(grep -c -E -e "$3" "$2") || :
	[ "$n" = "$1" ] || {
		echo "$n lines of $2, not $1, match: $3"
		return 1
	}
}

count_fds() {	# count_fds NAME...: remembers how many descriptors each has
	local name

	declare -gA FDS=()
	for name; do
		FDS[$name]=$(fd_count "$name")
	done
}

same_fds() {
	local name

	for name in "${!FDS[@]}"; do
		[ "$(fd_count "$name")" = "${FDS[$name]}" ] || return 1
	done
}

# counted N: the listener says that N connections are open.
counted() {
	local before after

	before=$(grep -c 'rpc: .* open, peak' lst.log) || :
	kill -USR1 "${PID[lst]}"
	eventually more_status_than "$before"
	after=$(grep 'rpc: .* open, peak' lst.log | tail -n 1)
	grep -q " $1 open, " <<<"$after"
}

has_links() {	# has_links N: and so many consumers
	counted '[0-9]*' && [[ $(grep 'connections there' lst.log | tail -n 1) == *": $1 links, "* ]]
}

more_status_than() {
	[ "$(grep -c 'rpc: .* open, peak' lst.log)" -gt "$1" ]
}

# --- the backend ---

@test "the backend is down: clients are reset, each tool says why once, and no descriptor stays" {
	stack "127.0.0.1:$(free_port)"
	run get
	count_fds lst tls con
	both_fail
	lines 3 con.log 'cannot connect to .*: Connection refused'
	lines 3 con.log 'rpc#. .* closed: refused, by inner'
	lines 3 tls.log 'rpc#. .* closed: refused, by inner'
	lines 3 lst.log 'rpc#. .* closed: refused, by inner'
	lines 0 tls.log 'Connection refused'
	eventually counted 0
	eventually same_fds
}

@test "a flood of failures is not a flood of lines" {
	stack "127.0.0.1:$(free_port)"
	seq 40 | xargs -P 4 -I {} curl -s --noproxy '*' --cacert "$CERTS/ca.pem" -o /dev/null "https://$ADDR/" || :
	eventually counted 0
	lines 10 con.log 'cannot connect to'
	stop lst
	ends_with 0 con
	lines 1 con.log '30 more failed dials'
}

@test "a backend that never answers the SYN: the dial ends with its deadline, and the client is reset" {
	deaf_backend
	CON_OPTS='--connect-timeout 300ms' stack "$BACKEND"
	run get
	count_fds lst tls con
	both_fail
	lines 3 con.log "cannot connect to $BACKEND: no answer within 300 ms"
	lines 3 con.log 'closed: connect-timeout'
	lines 3 tls.log 'closed: connect-timeout, by inner'
	eventually counted 0
	eventually same_fds
}

@test "a sink that never answers: the client is reset when its handshake deadline is over" {
	certs
	spawn tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from taken --handshake-timeout 700ms --to plain
	spawn deaf python3 "$HERE/peer/hostile.py" silent plain
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	count_fds tls lst
	both_fail
	lines 2 tls.log 'the consumer did not answer in time \(--handshake-timeout\)'
	lines 2 tls.log 'closed: no-answer, by us'
	await_line deaf.out 'closed 2 no-answer'
	eventually counted 0
	eventually same_fds
}

@test "a client that resets while its backend is dialled ends the dial" {
	deaf_backend
	CON_OPTS='--connect-timeout 1h' TLS_OPTS='--handshake-timeout 1h' stack "$BACKEND"
	count_fds lst tls con
	client py reset
	await_line py.out up
	go_on py
	await_line con.log 'rpc#1 .* closed: client-gone, by peer'
	await_line tls.log 'rpc#1 .* closed: client-gone, by peer'
	await_line lst.log 'rpc#1 .* closed: client-gone, by inner'
	eventually counted 0
	eventually same_fds
}

@test "a client that resets while it is joined without TLS ends the dial too" {
	deaf_backend
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    con ccf-connect --from - --connect-timeout 1h "$BACKEND"
	ADDR=$(address a.json rpc) CERTS=
	count_fds lst con
	client py plain-reset
	await_line py.out up
	go_on py
	await_line con.log 'closed: client-gone, by peer'
	await_line lst.log 'closed: client-gone, by inner'
	# A bare end of stream may be half of a conversation, which only its backend can judge.
	client half plain
	await_line half.out up
	stop half KILL
	kill -USR1 "${PID[deaf]}"
	await_line con.log 'rpc#2 .*: connected'
	eventually counted 0
	eventually same_fds
}

# --- ccf-connect ---

@test "ccf-connect killed before it could adopt: clients are reset, and its neighbours end by themselves" {
	deaf_backend
	CON_OPTS='--connect-timeout 1h' TLS_OPTS='--handshake-timeout 1h' stack "$BACKEND"
	client py hold
	await_line py.out up
	run_curl
	await_line tls.log 'rpc#2 .*: open'
	eventually counted 2
	kill -KILL "${PID[con]}"
	go_on py
	raises py
	curl_failed
	ends_with 69 tls
	ends_with 0 lst
	lines 2 tls.log 'closed: (link-lost|no-sink)'
	lines 1 tls.log 'the consumer is gone for good'
	lines 1 lst.log 'the consumer is gone for good'
}

@test "ccf-connect killed after it was adopted: what has moved arrives whole, and nobody else is served" {
	http_backend
	head -c 20M /dev/urandom >"$BACKEND_DIR/large"
	stack "$BACKEND"
	client py drip /large
	await_line py.out begun
	kill -KILL "${PID[con]}"
	await_line tls.log 'the consumer is gone for good'
	run_curl
	go_on py
	ends_with 0 py
	grep "^ended $((20 << 20))$" py.out
	ends_with 69 tls
	ends_with 0 lst
	curl_failed
}

@test "ccf-connect killed while handshakes run: no client takes that for an answer" {
	http_backend
	stack "$BACKEND"
	client one half
	client two half
	client idle silent
	await_line one.out up
	await_line two.out up
	eventually counted 3
	kill -KILL "${PID[con]}"
	await_line tls.log 'the consumer is gone for good'
	go_on one
	go_on two
	raises one
	raises two
	raises idle
	ends_with 69 tls
	ends_with 0 lst
	lines 3 tls.log 'closed: no-sink, by us'
}

@test "ccf-connect killed on a PATH: its clients are reset, and it is found again when it is back" {
	deaf_backend
	CON_OPTS='--connect-timeout 1h' TLS_OPTS='--handshake-timeout 1h' by_paths "$BACKEND"
	count_fds tls lst
	client py hold
	await_line py.out up
	await_line tls.log 'rpc#1 .*: open'
	client half half
	await_line half.out up
	stop con KILL
	go_on py
	raises py
	# Its handshake goes on without a sink, and waits for one.
	go_on half
	await_line tls.log 'rpc#2 .*: open'
	http_backend
	spawn con ccf-connect --from plain "$BACKEND"
	ends_with 0 half
	grep '^ended' half.out
	get
	eventually counted 0
	eventually same_fds
	lines 1 tls.log 'link-lost'
}

# --- neighbours ---

@test "a listener that is killed ends its pipeline, and leaves nothing behind" {
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 0777 tmp
	http_backend
	stack "$BACKEND"
	client py hold
	await_line py.out up
	run find tmp -name 'ccf-*' -type d
	[ "${#lines[@]}" = 2 ]
	kill -KILL "${PID[lst]}"
	# Its connections are no longer its own.
	go_on py
	ends_with 0 py
	ends_with 0 tls
	ends_with 0 con
	[ -z "$(ls tmp)" ]
}

@test "a terminator that is killed ends its pipeline: 69 before it, 0 behind it" {
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 0777 tmp
	http_backend
	stack "$BACKEND"
	client py hold
	await_line py.out up
	kill -KILL "${PID[tls]}"
	ends_with 69 lst
	ends_with 0 con
	lines 1 lst.log 'rpc#1 .* closed: link-lost, by inner'
	go_on py
	raises py
	[ -z "$(ls tmp)" ]
}

@test "a consumer that was told to end takes its producers along, and all of them end with 0" {
	http_backend
	stack "$BACKEND"
	get
	stop con
	[ "$ended" = 0 ]
	ends_with 0 tls
	ends_with 0 lst
}

# --- consumers ---

echoes() {	# echoes N: start an echo under the name echoN
	spawn "echo$1" ccf-tlsterm --plaintext --app echo --from taken
}

ask() {	# a word comes back
	[ "$(timeout "$LIMIT" ccf-connect "$ADDR" <<<"$1")" = "$1" ]
}

asked() {	# asked NAME: how many connections it was handed
	grep -c 'rpc#.*: open' "$1.log" || :
}

@test "of three consumers one is stopped: the others serve everybody new, and it serves again when it goes on" {
	local i n

	for i in 1 2 3; do echoes $i; done
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	eventually has_links 3
	for i in 1 2 3; do ask "$i"; done
	for i in 1 2 3; do [ "$(asked echo$i)" = 1 ]; done
	kill -STOP "${PID[echo2]}"
	for i in 4 5 6; do
		spawn "ask$i" ccf-connect --idle-timeout 1h "$ADDR" <<<"$i"
	done
	await_line lst.log 'ccf-tlsterm has not read a connection for 5 s'
	for i in $(seq 20); do ask "$i"; done
	[ "$(asked echo2)" = 1 ]
	lines 1 lst.log 'has not read a connection'
	kill -CONT "${PID[echo2]}"
	for i in 4 5 6; do ends_with 0 "ask$i"; done
	eventually counted 0
	n=$(asked echo2)
	for i in 7 8 9; do ask "$i"; done
	[ "$(asked echo2)" -gt "$n" ]
	lines 1 lst.log 'has not read a connection'
}


start_one() {	# start_one NAME: one of the tools of the next test
	case $1 in
	con) spawn con ccf-connect --from bind:plain "$BACKEND" ;;
	*) spawn "$1" ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from taken --to dial:plain ;;
	esac
}

@test "killed at random under load, twenty rounds: the listener counts what is really open" {
	local names=(tls1 tls2 con) seed=$RANDOM round name n

	RANDOM=$seed
	echo "RANDOM=$seed"
	certs
	http_backend
	python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 256)' >"$BACKEND_DIR/page"
	for name in "${names[@]}"; do start_one "$name"; done
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	eventually has_links 2
	count_fds lst
	spawn load python3 "$HERE/peer/load.py" "$CERTS/ca.pem" "$ADDR" 4 5
	for round in $(seq 20); do
		n=$(tail -n 1 load.out | tr -dc 0-9)
		await_line load.out "^ok $((${n:-0} / 10 * 10 + 20))\$"
		name=${names[RANDOM % 3]}
		stop "$name" KILL
		start_one "$name"
	done
	kill -USR1 "${PID[load]}"
	await_line load.out '^held 5 lied 0$'
	eventually counted 5
	lines 0 load.out '^held .* lied [1-9]'
	stop load
	eventually counted 0
	eventually has_links 2
	eventually same_fds
	[ "$(grep -c 'closed: link-lost' lst.log)" -gt 0 ]
}
