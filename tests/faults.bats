# faults - what breaks around the pipeline, and what its tools then say, do, and end with.
#
# (who runs this makes no difference)

load helpers
load clients

# stack BACKEND: the three tools joined by shell pipes in front of BACKEND; TLS_OPTS and CON_OPTS are for two of them.
stack() {
	certs
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" "${TLS_OPTS[@]}" --to - '|' \
	    con ccf-connect --from - "${CON_OPTS[@]}" "$1"
	ADDR=$(address a.json rpc)
}

# by_paths BACKEND: the same three joined by PATHs: each can be started again.
by_paths() {
	certs
	spawn con ccf-connect --from plain "${CON_OPTS[@]}" "$1"
	start_tls
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
}

start_tls() {
	spawn tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from taken "${TLS_OPTS[@]}" --to plain
}

# start_one NAME: ccf-connect (con), or a terminator before it; any number of these may be there at a time.
start_one() {
	case $1 in
	con) spawn con ccf-connect --from bind:plain "$BACKEND" ;;
	*) spawn "$1" ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from taken --to dial:plain ;;
	esac
}

get() {
	curl -sS --noproxy '*' --max-time "$LIMIT" --cacert "$CERTS/ca.pem" -o got "https://$ADDR/"
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
	SPAWN_OUT=/dev/null spawn curl curl -sS --noproxy '*' --max-time 30 --cacert "$CERTS/ca.pem" "https://$ADDR/"
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

count_fds() {	# count_fds NAME|NAME.N...: remembers how many descriptors each has without a connection
	local name

	declare -gA FDS=()
	for name; do
		asked "${name%.*}" '[,:] 0 (open|connections)'
		FDS[$name]=$(fd_count "$name")
	done
}

same_fds() {
	local name

	for name in "${!FDS[@]}"; do
		[ "$(fd_count "$name")" = "${FDS[$name]}" ] || return 1
	done
}

# --- the backend ---

@test "the backend is down: clients are reset, each tool says why once, and no descriptor stays" {
	stack "127.0.0.1:$(free_port)"
	run get
	count_fds lst tls tls.1 con
	both_fail
	is_open 0	# each tool says what it knows before the next one hears of it
	lines 3 con.log 'cannot connect to .*: Connection refused'
	lines 3 con.log 'rpc#. .* closed: refused.* by inner'
	lines 3 tls.log 'rpc#. .* closed: refused.* by inner'
	lines 3 lst.log 'rpc#. .* closed: refused.* by inner'
	lines 0 tls.log 'Connection refused'
	eventually same_fds
}

@test "a flood of failures is not a flood of lines" {
	local began=$SECONDS

	stack "127.0.0.1:$(free_port)"
	seq 40 | xargs -P 4 -I {} curl -s --noproxy '*' --cacert "$CERTS/ca.pem" -o /dev/null "https://$ADDR/" || :
	is_open 0
	stop lst
	ends_with 0 con
	summed_up 40 con.log 'cannot connect to' 'failed dials' "$began"
}

@test "a backend that never answers the SYN: the dial ends with its deadline, and the client is reset" {
	deaf_backend
	CON_OPTS=(--connect-timeout 300ms)
	stack "$BACKEND"
	run get
	count_fds lst tls tls.1 con
	both_fail
	is_open 0
	lines 3 con.log "cannot connect to $BACKEND: no answer within 300 ms"
	lines 3 con.log 'closed: connect-timeout'
	lines 3 tls.log 'closed: connect-timeout.* by inner'
	eventually same_fds
}

@test "a sink that never answers: the client is reset when its handshake deadline is over" {
	certs
	TLS_OPTS=(--handshake-timeout 2s)
	start_tls
	spawn deaf python3 "$HERE/peer/hostile.py" silent plain
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	count_fds tls tls.1 lst
	both_fail
	is_open 0
	lines 2 tls.log 'the consumer did not answer in time \(--handshake-timeout\)'
	lines 2 tls.log 'closed: no-answer.* by us'
	await_line deaf.out 'closed 2 no-answer'
	eventually same_fds
}

@test "a client that resets while its backend is dialled ends the dial" {
	deaf_backend
	CON_OPTS=(--connect-timeout 1h)
	TLS_OPTS=(--handshake-timeout 1h)
	stack "$BACKEND"
	count_fds lst tls tls.1 con
	client py reset
	await_line py.out up
	await_line tls.log 'rpc#1 .*: open'
	go_on py
	await_line con.log 'rpc#1 .* closed: client-gone.* by peer'
	await_line tls.log 'rpc#1 .* closed: client-gone.* by peer'
	await_line lst.log 'rpc#1 .* closed: client-gone.* by inner'
	is_open 0
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
	await_line con.log 'closed: client-gone.* by peer'
	await_line lst.log 'closed: client-gone.* by inner'
	# A bare end of stream may be half of a conversation, which only its backend can judge.
	client half plain
	await_line half.out up
	stop half KILL
	kill -USR1 "${PID[deaf]}"
	await_line con.log 'rpc#2 .*: connected'
	is_open 0
	eventually same_fds
}

# --- ccf-connect ---

@test "ccf-connect killed before it could adopt: clients are reset, and its neighbours end by themselves" {
	deaf_backend
	CON_OPTS=(--connect-timeout 1h)
	TLS_OPTS=(--handshake-timeout 1h)
	stack "$BACKEND"
	client py hold
	await_line py.out up
	run_curl
	await_line tls.log 'rpc#2 .*: open'
	is_open 2
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
	is_open 3
	kill -KILL "${PID[con]}"
	await_line tls.log 'the consumer is gone for good'
	go_on one
	go_on two
	raises one
	raises two
	raises idle
	ends_with 69 tls
	ends_with 0 lst
	lines 3 tls.log 'closed: no-sink.* by us'
}

@test "ccf-connect killed on a PATH: its clients are reset, and it is found again when it is back" {
	deaf_backend
	CON_OPTS=(--connect-timeout 1h)
	TLS_OPTS=(--handshake-timeout 1h)
	by_paths "$BACKEND"
	count_fds tls tls.1 lst
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
	is_open 0
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
	crash tls
	ends_with 69 lst
	ends_with 0 con
	lines 1 lst.log 'rpc#1 .* closed: link-lost.* by inner'
	go_on py
	raises py
	[ -z "$(ls tmp)" ]
}

@test "a worker that is killed loses its connections and nobody else's, and the pipeline goes on with another" {
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 0777 tmp
	http_backend
	echo page >"$BACKEND_DIR/index.html"
	stack "$BACKEND"
	get
	count_fds lst tls tls.1 con
	client py hold
	await_line py.out up
	await_line tls.log 'rpc#2 .*: open'
	kill_worker tls
	go_on py
	raises py
	get
	cmp got "$BACKEND_DIR/index.html"
	is_open 0
	lines 1 lst.log 'rpc#2 .* closed: link-lost.* by inner'
	lines 1 tls.log "warn: worker 1 \(pid $killed\) was killed by SIGKILL; 1 connection lost; starting it again in 100 ms"
	await_line tls.log 'info: worker 1 \(pid [0-9]+\) is up again: '
	asked tls 'info: 0 connections, 1 worker \(pid [0-9]+\), 1 died; '
	eventually same_fds
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
	ends_with 0 con
	[ -z "$(ls tmp)" ]
}

@test "a master that is killed leaves its worker to finish: who is there is served, who comes is not, and all end" {
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 0777 tmp
	http_backend
	head -c 20M /dev/urandom >"$BACKEND_DIR/large"
	stack "$BACKEND"
	client py drip /large
	await_line py.out begun
	kill_master tls
	await_line tls.log 'the master is gone: taking no new connections'
	await_line lst.log 'rpc: no consumer: connections are refused' $((LIMIT * 2))	# after five seconds
	run -7 get
	go_on py
	ends_with 0 py
	grep "^ended $((20 << 20))$" py.out
	eventually dead "$orphan"
	ends_with 0 lst
	ends_with 0 con
	lines 0 lst.log 'link-lost'
	[ -z "$(ls tmp)" ]
}

@test "a master that is killed on a PATH: its worker serves who is there, and another terminator who comes" {
	certs
	http_backend
	echo page >"$BACKEND_DIR/index.html"
	start_one con
	start_one tls
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	get
	count_fds lst con
	client py hold
	await_line py.out up
	await_line tls.log 'rpc#2 .*: open'
	kill_master tls
	await_line tls.log 'the master is gone: taking no new connections'
	start_one tls
	get
	cmp got "$BACKEND_DIR/index.html"
	kill -0 "$orphan"
	go_on py
	ends_with 0 py
	eventually dead "$orphan"
	is_open 0
	lines 0 lst.log 'link-lost'
	eventually same_fds
}

@test "a producer whose consumer never came, or went without a word, ends with 69" {
	local cmd

	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir tmp
	for cmd in false true 'head -n 1' 'ccf-tlsterm --no-such-option'; do
		pipeline lst ccf-listen --to - --address-file a.json rpc=127.0.0.1:0 '|' end sh -c "$cmd"
		ends_with 69 lst
		wait_for end || :
		pipeline term ccf-tlsterm --plaintext --from p --to - '|' end sh -c "$cmd"
		ends_with 69 term
		wait_for end || :
		# Nobody was connected to for it.
		pipeline con ccf-connect --to - 127.0.0.1:1 '|' end sh -c "$cmd"
		ends_with 69 con
	done
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

echoed() {	# a word comes back
	[ "$(timeout "$LIMIT" ccf-connect "$ADDR" <<<"$1")" = "$1" ]
}

handed() {	# handed NAME: how many connections it was
	grep -c 'rpc#.*: open' "$1.log" || :
}

@test "of three consumers one is stopped: the others serve everybody new, and it serves again when it goes on" {
	local i n

	for i in 1 2 3; do echoes $i; done
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	asked lst ' 3 links, '
	granted echo1 echo2 echo3
	for i in 1 2 3; do echoed "$i"; done
	for i in 1 2 3; do [ "$(handed echo$i)" = 1 ]; done
	is_open 0
	kill -STOP "$(worker echo2)"
	for i in 4 5 6; do
		echo "$i" >"$i"
		SPAWN_IN=$i spawn "ask$i" ccf-connect "$ADDR"
	done
	await_line lst.log 'ccf-tlsterm has not read a connection for 5 s' $((LIMIT * 2))
	for i in $(seq 20); do echoed "$i"; done
	[ "$(handed echo2)" = 1 ]
	lines 1 lst.log 'has not read a connection'
	kill -CONT "$(worker echo2)"
	for i in 4 5 6; do
		ends_with 0 "ask$i"
		cmp "$i" "ask$i.out"
	done
	is_open 0
	n=$(handed echo2)
	for i in 7 8 9; do echoed "$i"; done
	[ "$(handed echo2)" -gt "$n" ]
	lines 1 lst.log 'has not read a connection'
}

# kill_one NAME: it, and it is started again; of a terminator sometimes the worker alone, or the master.
kill_one() {
	local how=stop

	[ "$1" = con ] || case $((RANDOM % 3)) in
	0) how=crash ;;
	1) how=kill_master ;;
	2) how=kill_worker ;;
	esac
	case $how in
	stop) stop "$1" KILL ;;
	*) $how "$1" ;;
	esac
	[ $how = kill_worker ] || start_one "$1"
}

@test "killed at random under load, twenty rounds: the listener counts what is really open" {
	local names=(tls1 tls2 con) seed=$RANDOM round n

	RANDOM=$seed
	echo "RANDOM=$seed"
	certs
	http_backend
	python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 256)' >"$BACKEND_DIR/page"
	for name in "${names[@]}"; do start_one "$name"; done
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	asked lst ' 2 links, '
	count_fds lst
	spawn load python3 "$HERE/peer/load.py" "$CERTS/ca.pem" "$ADDR" 4 5
	for round in $(seq 20); do
		n=$(tail -n 1 load.out | tr -dc 0-9)
		await_line load.out "^ok $((${n:-0} / 10 * 10 + 20))\$"
		kill_one "${names[RANDOM % 3]}"
	done
	kill -USR1 "${PID[load]}"
	await_line load.out '^held 5 lied 0$' $((LIMIT * 3))	# who was in the midst of something may wait for long
	is_open 5
	lines 0 load.out '^held .* lied [1-9]'
	stop load
	is_open 0
	asked lst ' 2 links, '
	eventually same_fds
	[ "$(grep -c 'closed: link-lost' lst.log)" -gt 0 ]
}

@test "a link that is closed without a word is said once, and dialled less and less often" {
	local role

	for role in --from --to; do
		rm -f path term.log
		spawn rude python3 -c 'import os, socket, time
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind("new")
server.listen()
os.rename("new", "path")
first = server.accept()
begun = time.monotonic()
del first
for _ in range(5):
    server.accept()
print("five more in", round(time.monotonic() - begun, 1), flush=True)
while True:
    server.accept()'
		eventually test -S path
		if [ "$role" = --from ]; then
			spawn term ccf-tlsterm --plaintext --from path --app echo
		else
			spawn term ccf-tlsterm --plaintext --from p --to dial:path
		fi
		await_line rude.out 'five more in (1\.[4-9]|[2-9]|[1-9][0-9])'
		lines 1 term.log "$role path: the other side closed the link without a word; trying on"
		stop term
		stop rude
	done
}

# --- what ccf-tlsterm ends with ---

# per_connection ARG...: a listener that starts `ccf-tlsterm ARG...` for each connection; statuses go to STATUS.
per_connection() {
	certs
	: >status
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    sh -c 'ccf-tlsterm "$@" 2>>single.log; echo "status $?" >>status' sh "$@"
	ADDR=$(address a.json rpc)
}

once() {	# once STATUS [CURL-OPTION...]: curl asks, and the terminator of this connection ends with STATUS
	local want=$1

	shift
	curl -s --noproxy '*' --max-time "$LIMIT" --cacert "$CERTS/ca.pem" -o /dev/null "$@" "https://$ADDR/" || :
	await_line status "^status $want\$" || {
		cat status single.log
		return 1
	}
	stop lst
}

@test "on descriptor 0: a handshake that fails is 35, one that does not end is 28" {
	certs
	per_connection --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --app echo
	once 35 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0
	lines 1 single.log 'handshake failed: .*TLS 1.1'
	per_connection --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --app echo
	spawn hello bash -c 'printf "GET / HTTP/1.0\r\n\r\n" | ccf-connect "$1" >/dev/null' bash "$ADDR"
	await_line status '^status 35$'
	lines 1 single.log 'handshake failed: .*HTTP'
	stop lst
	per_connection --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --handshake-timeout 200ms --app echo
	client idle silent
	raises idle
	await_line status '^status 28$'
}

@test "on descriptor 0: the COMMAND's status is passed on, and says when it cannot be run or was killed" {
	local http='read -r x; printf "HTTP/1.0 200 OK\r\n\r\n"'

	certs
	set -- --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --
	touch plain-file
	per_connection "$@" sh -c "$http"
	once 0
	per_connection "$@" sh -c "$http; exit 3"
	once 3
	per_connection "$@" ./none
	once 127
	per_connection "$@" no-such-command
	once 127
	per_connection "$@" ./plain-file
	once 126
	per_connection "$@" sh -c "$http; kill -TERM \$\$"
	once 143
	per_connection "$@" sh -c "$http; kill -KILL \$\$"
	once 137
	# What it closes before it ends is an end of stream, and its status is waited for.
	per_connection "$@" sh -c "$http; exec >&-; trap '' HUP; read -r y; exec sh -c 'exit 9'"
	once 9
}

@test "on descriptor 0: a cut outranks the COMMAND's 0" {
	certs
	per_connection --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" -- \
	    sh -c 'trap "" HUP; echo begun >&2; cat; echo done >&2; exit 0'
	client py reset
	await_line py.out up
	await_line single.log begun
	go_on py
	await_line status '^status 18$'
	lines 1 single.log '^done'
	lines 1 single.log 'closed: reset.* by peer'
}

@test "on descriptor 0: with --to, what the consumer says is passed on" {
	certs
	set -- --cert "$CERTS/chain.pem" --key "$CERTS/key.pem"
	spawn con ccf-connect --from bind:plain "127.0.0.1:$(free_port)"
	per_connection "$@" --to dial:plain
	once 7
	lines 1 single.log 'closed: refused.* by inner'
	stop con
	http_backend
	spawn con ccf-connect --from bind:plain "$BACKEND"
	per_connection "$@" --to dial:plain
	once 0
	stop con
	per_connection "$@" --to dial:plain --handshake-timeout 2s
	once 28
	lines 1 single.log 'no consumer had room in time \(--handshake-timeout\)'
}

@test "a certificate or key that is there and unusable is 58, at once or when it appears" {
	certs
	echo nonsense >junk.pem
	mkdir dir.pem
	expect_status 58 ccf-tlsterm --cert junk.pem --from p --app echo
	[[ $output == *'junk.pem: does not hold a certificate in PEM form'* ]]
	expect_status 58 ccf-tlsterm --cert dir.pem --from p --app echo
	[[ $output == *'dir.pem: Is a directory'* ]]
	expect_status 58 ccf-tlsterm --cert "$CERTS/chain.pem" --key junk.pem --from p --app echo
	[[ $output == *'junk.pem: does not hold a private key in PEM form'* ]]
	expect_status 58 ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/client.key" --from p --app echo
	[[ $output == *'client.key: the private key does not match the certificate in '*chain.pem* ]]
	expect_status 58 ccf-tlsterm --cert none.pem --cert-timeout 200ms --from p --app echo
	[[ $output == *'info: none.pem is not there; taking no connections until it is'* ]]
	[[ $output == *'error: none.pem is not there; waited for it in vain (--cert-timeout)'* ]]
	per_connection --cert none.pem --app echo
	once 58
	grep 'error: none.pem is not there' single.log
	spawn tls ccf-tlsterm --cert later.pem --from bind:p --to bound
	await_line tls.log 'later.pem is not there; taking no connections'
	eventually test -S p
	mv junk.pem later.pem
	ends_with 58 tls
	[ ! -e p ]
	[ ! -e bound ]
}

@test "usage errors are 2, and say in one sentence what to write" {
	local n=0

	says() {	# says SENTENCE ARG...
		local want=$1

		shift
		expect_status 2 ccf-tlsterm "$@"
		[[ $output == *"$want"* ]] || { echo "$output"; return 1; }
		[ "${#lines[@]}" = 1 ]
		n=$((n + 1))
	}
	certs
	exec </dev/null
	says 'say what becomes of the plaintext: --to LINK, --app NAME, or -- COMMAND' --plaintext --from p
	says '--to, --app and a COMMAND exclude each other' --plaintext --from p --app echo --to q
	says '--cert FILE is missing (or --plaintext)' --from p --app echo
	says '--plaintext goes with no --cert' --plaintext --cert x --from p --app echo
	says '--plaintext goes with no --cert' --plaintext --verify require --from p --app echo
	says 'a COMMAND is missing after --' --plaintext --from p --
	says '127.0.0.1:80: this tool takes no operands; a COMMAND stands after --' --plaintext --app echo 127.0.0.1:80
	says '--app http9: say echo' --plaintext --app http9 --from p
	says '--handshake-timeout 5: say 5s (or 5ms, 5m)' --plaintext --from p --app echo --handshake-timeout 5
	says '--from fd:77: descriptor 77 is not a SEQPACKET socket' --plaintext --from fd:77 --app echo
	says '--to fd:x: write fd: and the number of a descriptor' --plaintext --from p --to fd:x
	says '--to dial:: a path of 1 to 107 bytes is wanted' --plaintext --from p --to dial:
	says 'standard input is neither a pipe nor a link' --plaintext --app echo
	says '--alpn: a name has 1 to 255 bytes' --cert x --from p --app echo --alpn ''
	says '--socket-mode 999: write an octal mode up to 0777, like 0660' \
	    --plaintext --from bind:p --app echo --socket-mode 999
	says 'there is no such user' --plaintext --from p --app echo --peer-user no-such-user
	# Nothing was begun for one of them before another turned out wrong.
	says '--to fd:77' --plaintext --from bind:p --to fd:77
	[ ! -e p ]
	[ "$n" = 17 ]
	expect_status 2 python3 -c 'import os, socket
s = socket.socket()
s.listen()
os.dup2(s.fileno(), 0)
os.execvp("ccf-tlsterm", ["ccf-tlsterm", "--plaintext", "--app", "echo"])'
	[[ $output == *'standard input is a listening socket: let ccf-listen accept'* ]]
	expect_status 2 script -qec 'ccf-tlsterm --plaintext --app echo' /dev/null
	[[ $output == *'standard input is a terminal: pipe a tool into this one, as in `ccf-listen --to - :8443 | ...`'* ]]
	expect_status 2 script -qec 'ccf-tlsterm --plaintext --from p --to -' /dev/null
	[[ $output == *'standard output is a terminal: pipe it into the next tool'* ]]
}

@test "a PATH that somebody holds, or that cannot be bound, is 45" {
	spawn held ccf-tlsterm --plaintext --from bind:held --app echo
	eventually test -S held
	expect_status 45 ccf-tlsterm --plaintext --from bind:held --app echo
	[[ $output == *'--from held: cannot bind it: another tool listens there'* ]]
	expect_status 45 ccf-tlsterm --plaintext --from bind:mine --to held
	[ ! -e mine ]
	touch file
	expect_status 45 ccf-tlsterm --plaintext --from bind:file --app echo
	[[ $output == *'there is a file that is no socket'* ]]
	[ -f file ]
	expect_status 45 ccf-tlsterm --plaintext --from p --to none/path
	# A name that a killed tool left behind is nobody's.
	crash held
	[ -S held ]
	spawn again ccf-tlsterm --plaintext --from bind:held --app echo
	spawn lst ccf-listen --to dial:held --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	echoed hello
}

@test "a link that speaks nonsense is 76 where no other can come: on fd:N and on a ticket" {
	expect_status 76 ccf-tlsterm --plaintext --app echo <<<nonsense
	[[ $output == *"standard input is not a link's ticket: pipe a tool with --to - into this one"* ]]
	expect_status 76 ccf-tlsterm --plaintext --app echo <<<'ccf-handoff 7'
	expect_status 69 ccf-tlsterm --plaintext --app echo < <(:)
	[[ $output == *'the pipe ended before it said where the link is'* ]]
	expect_status 0 python3 "$HERE/peer/hostile.py" pair producer half ccf-tlsterm --plaintext --app echo --from '{fd}'
	[[ $output == *76* ]]
	pipeline bad python3 "$HERE/peer/hostile.py" ticket half '|' tls ccf-tlsterm --plaintext --app echo
	ends_with 76 tls
	expect_status 0 python3 "$HERE/peer/hostile.py" pair consumer half ccf-tlsterm --plaintext --from p --to '{fd}'
	[[ $output == *76* ]]
}
