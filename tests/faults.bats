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
	[[ $after == *" $1 open, "* ]]
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
	seq 40 | xargs -P 4 -I . curl -s --noproxy '*' --cacert "$CERTS/ca.pem" -o /dev/null "https://$ADDR/" || :
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
	lines 3 con.log "cannot connect to $BACKEND: .*(timed out|in time)"
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
	client py hold
	await_line py.out up
	stop py KILL
	await_line con.log 'closed: client-gone'
	count_fds lst tls con
	client py reset
	await_line py.out up
	go_on py
	await_line con.log 'rpc#2 .* closed: client-gone, by peer'
	await_line tls.log 'rpc#2 .* closed: client-gone, by peer'
	await_line lst.log 'rpc#2 .* closed: client-gone, by inner'
	eventually counted 0
	eventually same_fds
}

@test "a client that resets while it is joined without TLS ends the dial too" {
	deaf_backend
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    con ccf-connect --from - --connect-timeout 1h "$BACKEND"
	ADDR=$(address a.json rpc) CERTS=
	count_fds lst con
	client py plain
	await_line py.out up
	stop py KILL
	client py plain
	await_line py.out up
	eventually -t 5 counted 1
	stop py KILL
	# A bare end of stream may be half of a conversation: it is the reset that ends a dial.
	eventually counted 1
	go_on deaf
	eventually counted 0
	eventually same_fds
}
