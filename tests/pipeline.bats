# pipeline - the main job: HTTPS from real clients through ccf-listen | ccf-tlsterm | ccf-connect to a real server,
# what TLS says on the way, how the whole ends, and that nothing spins while nothing happens.
#
# (who runs this makes no difference)

# shellcheck disable=SC2153	# LIMIT is the helpers'

load helpers

setup() {
	common_setup
	declare -gA TALK=() REST=()
}

# --- what the tests share ---

# three [OPTION...]: the pipeline of the issue in front of BACKEND, with more options for ccf-tlsterm.
three() {
	certs
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to - "$@" '|' \
	    con ccf-connect --from - "$BACKEND"
	located
}

# terminated [OPTION...] SINK...: a listener and a terminator, which is the end of the line: --app NAME, or -- COMMAND.
terminated() {
	certs
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" "$@"
	located
}

located() {
	ADDR=$(address a.json rpc)
	PORT=${ADDR##*:}
	URL=https://localhost:$PORT
}

# fetch CURL-OPTION... URL
fetch() {
	curl -sS --noproxy '*' --max-time $((LIMIT * 4)) --resolve "localhost:$PORT:127.0.0.1" --cacert "$CERTS/ca.pem" "$@"
}

# random FILE BYTES
random() {
	head -c "$2" /dev/urandom >"$1"
}

# at_once N CMD...: CMD 1 to CMD N, all at the same time; each must succeed.
at_once() {
	local i pid pids=() bad=0

	for i in $(seq "$1"); do
		"${@:2}" "$i" &
		pids+=("$!")
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || bad=$((bad + 1))
	done
	[ "$bad" = 0 ] || {
		echo "$bad of $1 failed"
		return 1
	}
}

# talk NAME CMD...: an interactive client: `type_in NAME TEXT` is its input until `hang_up NAME`; NAME.out what it prints.
talk() {
	local both fd

	mkfifo "$1.in"
	exec {both}<>"$1.in"
	SPAWN_IN=$1.in spawn "$@"
	exec {fd}>"$1.in" {both}>&-
	TALK[$1]=$fd
}

type_in() {
	echo "${@:2}" >&"${TALK[$1]}"
}

hang_up() {
	local fd=${TALK[$1]}

	exec {fd}>&-
}

# hears NAME CMD...: this client hears what it says.
hears() {
	talk "$@"
	type_in "$1" "said by $1"
	await_line "$1.out" "^said by $1\$"
	type_in "$1" "and once more"
	await_line "$1.out" "^and once more\$"
}

# echoes NAME CMD...: and its end of input ends it well.
echoes() {
	hears "$@"
	hang_up "$1"
	ends_with 0 "$1"
}

# tcp_held NAME|NAME.N [STATE]: how many TCP sockets it holds (01: connections, 0A: listening).
tcp_held() {
	local inodes

	inodes=$(readlink "/proc/$(pid_of "$1")"/fd/* | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
	awk -v state="${2-}" -v inodes="$inodes" '
		BEGIN { n = split(inodes, list, "\n"); for (i = 1; i <= n; i++) mine[list[i]] = 1 }
		$10 in mine && (state == "" || $4 == state) { held++ }
		END { print held + 0 }' /proc/net/tcp /proc/net/tcp6
}

holds() {
	[ "$(tcp_held "$1" "${3-}")" = "$2" ] || {
		echo "$1 holds $(tcp_held "$1" "${3-}") TCP sockets, not $2"
		return 1
	}
}

s_client() {
	openssl s_client -connect "$ADDR" -servername localhost -verify_return_error -CAfile "$CERTS/ca.pem" "$@"
}

# watched NAME|NAME.N...: their system calls are written down, from when this returns until unwatched.
watched() {
	local name

	for name in "$@"; do
		spawn "watch.$name" strace -f -p "$(pid_of "$name")" -o "$name.calls"
		await_line "watch.$name.log" attached
	done
}

unwatched() {
	local name

	for name in "$@"; do
		stop "watch.$name" INT
	done
}

# calls NAME: how many were written down.
calls() {
	grep -c -E '^[0-9]+ +[a-z0-9_]+\(|resumed>' "$1.calls"
}

# moved NAME: the bytes that reading and writing calls moved.
moved() {
	sed -n -E 's/^[0-9]+ +(read|write|readv|writev|recvfrom|sendto|recvmsg|sendmsg|splice|sendfile)\(.* = ([0-9]+)$/\2/p' "$1.calls" |
	    awk '{ sum += $1 } END { print sum + 0 }'
}

# --- bytes ---

@test "100 MiB of random bytes are put through the pipeline and come back intact" {
	requires nginx
	nginx_backend
	three
	random sent 104857600
	fetch -T sent "$URL/stored"
	cmp sent "$BACKEND_DIR/stored"
	fetch -o back "$URL/stored"
	cmp sent back
	rm sent back "$BACKEND_DIR/stored"
	stop lst
	[ "$ended" = 0 ]
	grep -E 'closed: done, by [a-z]+, 1048[0-9]{5} bytes in' tls.log
}

@test "200 curls at once all get their page" {
	http_backend
	random "$BACKEND_DIR/page" 20000
	three --handshake-timeout 1m	# the last of them has waited for all the others
	page() {
		fetch -o "page.$1" -w '%{http_code}' "$URL/page" >"code.$1" && [ "$(cat "code.$1")" = 200 ] &&
		    cmp "page.$1" "$BACKEND_DIR/page"
	}
	at_once 200 page
	stop lst
	[ "$ended" = 0 ]
	[ "$(grep -c 'closed: done' lst.log)" = 200 ]
}

@test "a plain relay of two tools carries 100 MiB each way intact" {
	http_backend
	random sent 104857600
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    con ccf-connect --from - "$BACKEND"
	located
	curl -sS --noproxy '*' --max-time $((LIMIT * 4)) -T sent "http://$ADDR/stored"
	curl -sS --noproxy '*' --max-time $((LIMIT * 4)) -o back "http://$ADDR/stored"
	cmp sent "$BACKEND_DIR/stored"
	cmp sent back
	rm sent back "$BACKEND_DIR/stored"
	await_line http.log '^PUT /stored stored 104857600$'
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 con
}

@test "while bytes are on their way only ccf-tlsterm's worker holds the connection" {
	http_backend
	random "$BACKEND_DIR/large" 33554432
	three
	unread client fetch "$URL/large"	# under way, and it stays there until somebody reads
	holds tls.1 2 01
	holds tls 0
	eventually holds con 0		# who gives something away closes it afterwards
	eventually holds lst 1
	holds lst 1 0A
	rest client >back
	ends_with 0 client
	cmp back "$BACKEND_DIR/large"
	eventually holds tls.1 0
}

@test "ccf-listen and ccf-connect make no system call for the bytes" {
	requires strace
	http_backend
	random sent 33554432
	three
	fetch -o /dev/null "$URL/nothing"	# what is done once is done
	watched lst con
	fetch -T sent "$URL/stored"
	fetch -o back "$URL/stored"
	eventually holds tls.1 0
	unwatched lst con
	cmp sent back
	# Two connections of 32 MiB each: hundreds of calls if they moved the bytes, and above all the bytes.
	[ "$(calls lst)" -lt 120 ]
	[ "$(calls con)" -lt 120 ]
	[ "$(moved lst)" -lt 16384 ]
	[ "$(moved con)" -lt 16384 ]
}

# --- TLS, as clients see it ---

@test "the certificate chain is whole: a client that knows the root alone is content" {
	terminated --app echo
	s_client </dev/null >said 2>&1
	grep 'Verification: OK' said
	openssl s_client -connect "$ADDR" -servername localhost -showcerts </dev/null 2>/dev/null >chain
	[ "$(grep -c 'BEGIN CERTIFICATE' chain)" = 2 ]
	echoes gnutls gnutls-cli --x509cafile="$CERTS/ca.pem" -p "$PORT" localhost
}

@test "a leaf without its intermediate is sent as it is, and refused by the client" {
	certs
	openssl x509 -in "$CERTS/chain.pem" -out leaf.pem
	http_backend
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert leaf.pem --key "$CERTS/key.pem" --to - '|' con ccf-connect --from - "$BACKEND"
	located
	expect_status 60 fetch "$URL/"
	await_line tls.log 'handshake failed: .*alert: unknown CA'
}

@test "every client echoes over TLS: openssl, gnutls, ncat; and over --plaintext: curl, ncat" {
	terminated --app echo
	echoes openssl s_client -quiet -no_ign_eof
	echoes gnutls gnutls-cli --x509cafile="$CERTS/ca.pem" -p "$PORT" localhost
	echoes ncat ncat --ssl-verify --ssl-trustfile "$CERTS/ca.pem" --ssl-servername localhost 127.0.0.1 "$PORT"
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
	run ! grep -E 'closed: (reset|protocol)' tls.log

	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --plaintext --app echo
	located
	hears curl curl -sS -N --noproxy '*' "telnet://$ADDR"
	stop curl	# it does not notice the end of a pipe
	echoes ncat_plain ncat 127.0.0.1 "$PORT"
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
	[ "$(grep -c 'closed: done' tls.log)" -ge 2 ]
}

@test "--alpn: the first name of ours that the client offers, and none where there is none" {
	terminated --alpn ccf/2 --alpn http/1.1 -- sh -c 'echo "agreed on ${CCF_ALPN-nothing}"'
	agreed() {
		s_client -ign_eof "${@:2}" </dev/null >said 2>&1
		grep -x "agreed on $1" said
	}
	agreed http/1.1 -alpn h2,http/1.1
	grep -x 'ALPN protocol: http/1.1' said
	agreed ccf/2 -alpn http/1.1,ccf/2
	agreed nothing -alpn h2,spdy/3
	grep -x 'No ALPN negotiated' said
	agreed nothing
	agreed http/1.1 -tls1_2 -alpn http/1.1
}

@test "without --alpn it is http/1.1, which curl takes" {
	terminated -- sh -c 'read -r line; printf "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s\n" "$CCF_ALPN"'
	[ "$(fetch "$URL/")" = http/1.1 ]
}

@test "TLS 1.3 and 1.2 are spoken, and nothing older" {
	terminated -- sh -c 'read -r line; printf "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s\n" "$SSL_PROTOCOL"'
	[ "$(fetch --tlsv1.3 "$URL/")" = TLSv1.3 ]
	[ "$(fetch --tlsv1.2 --tls-max 1.2 "$URL/")" = TLSv1.2 ]
	expect_status 35 fetch --tlsv1.0 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 "$URL/"
	await_line tls.log 'handshake failed: .*protocol version .*at most TLS 1.1'
}

@test "terminators in a chain pass on ends as ends, both ways" {
	random sent 300000
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    outer ccf-tlsterm --plaintext --to - '|' inner ccf-tlsterm --plaintext -- cksum
	located
	[ "$(timeout "$LIMIT" nc -N 127.0.0.1 "$PORT" <sent)" = "$(cksum <sent)" ]
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 inner
	for log in lst outer inner; do
		[ "$(grep -c 'closed: done' $log.log)" = 1 ]
	done
}

# --- the handshake's deadline counts from accept, in whatever tool that was ---

@test "CCF_ACCEPTED says when the connection was accepted, through every tool" {
	certs
	clock() { python3 -c 'import time; print(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000))'; }
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    outer ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to - '|' \
	    inner ccf-tlsterm --plaintext -- sh -c 'echo "at $CCF_ACCEPTED"'
	located
	before=$(clock)
	s_client -ign_eof </dev/null >said 2>&1
	after=$(clock)
	at=$(sed -n 's/^at //p' said)
	[ "$before" -le "$at" ]
	[ "$at" -le "$after" ]
}

@test "--handshake-timeout runs from accept, so what was accepted long ago has no time left" {
	certs
	cat >producer.py <<-'END'
		import socket, ssl, sys, time
		sys.dont_write_bytecode = True
		sys.path.insert(0, sys.argv[1])
		from link import Link, listen
		listener = listen("link")
		print("bound", flush=True)
		link = Link(listener.accept()[0], "producer")
		link.greet()
		credit = link.recv(10).fields["n"]
		assert credit >= 6, credit
		now = int(time.monotonic() * 1000)
		server = socket.create_server(("127.0.0.1", 0))
		context = ssl.create_default_context(cafile=sys.argv[2])
		for id, (name, accepted) in enumerate([("late", now - 15000), ("now", now), ("future", now + 9999999),
		    ("garbage", "yesterday"), ("negative", -5), ("unsaid", None)], 1):
		    client = socket.create_connection(server.getsockname())
		    client.settimeout(10)
		    env = {"PROTO": "TCP", "CCF_CONN_ID": name}
		    if accepted is not None:
		        env["CCF_ACCEPTED"] = accepted
		    link.conn(id, env, server.accept()[0].detach())
		    try:
		        with context.wrap_socket(client, server_hostname="localhost") as tls:
		            tls.sendall(b"x")
		            print(name, "heard", tls.recv(1).decode(), flush=True)
		            tls.unwrap()
		    except OSError as e:
		        print(name, "failed", flush=True)
		    while (said := link.recv(10)).verb != "closed":
		        pass
		    print(name, "closed", said.fields["reason"], said.fields["status"], flush=True)
	END
	spawn producer python3 producer.py "$HERE/peer" "$CERTS/ca.pem"
	await_line producer.out bound
	spawn tls ccf-tlsterm --from link --handshake-timeout 15s --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --app echo
	ends_with 0 producer
	grep -x 'late failed' producer.out
	grep -x 'late closed handshake-timeout 28' producer.out
	for name in now future garbage negative unsaid; do
		grep -x "$name heard x" producer.out
		grep -x "$name closed done 0" producer.out
	done
	grep 'late.* handshake not finished in time (--handshake-timeout)' tls.log
}

@test "a ccf-tlsterm of one connection takes the deadline from its environment, and ends with 28" {
	certs
	spawn lst ccf-listen --log json --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    sh -c 'CCF_ACCEPTED=$((CCF_ACCEPTED - 15000)) exec ccf-tlsterm --log json --handshake-timeout 15s "$@"' term \
	    --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --app echo
	located
	run ! fetch "$URL/"
	await_line lst.log '"reason":"exited"'
	[ "$(jq 'select(.event == "close") | .status' lst.log)" = $'28\n28' ]	# what it says itself, and what its listener hears
}

# --- the end ---

@test "one TERM to any of the three drains all three: what runs is finished, and each ends with 0" {
	http_backend
	random "$BACKEND_DIR/large" 16777216
	for first in lst tls con; do
		three
		unread "client.$first" fetch "$URL/large"
		kill -TERM "${PID[$first]}"
		await_line "$first.log" draining
		# The consumers of a listener may come back: it goes on refusing nobody for five seconds.
		[ "$first" != lst ] || eventually refuses
		kill -0 "${PID[tls]}"
		rest "client.$first" >back
		ends_with 0 "client.$first"
		cmp back "$BACKEND_DIR/large"
		for tool in lst tls con; do
			ends_with 0 "$tool" || { echo "after a TERM to $first"; return 1; }
		done
		rm ./*.log
	done
}

# refuses: the kernel refuses a connection to ADDR.
refuses() {
	expect_status 7 curl -sS --noproxy '*' --max-time 5 "http://$ADDR/"
}

@test "an idle pipeline ends at once, and with it every name it made" {
	http_backend
	mkdir tmp
	export TMPDIR=$PWD/tmp
	three
	[ -n "$(find tmp -type s)" ]
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
	ends_with 0 con
	[ -z "$(find tmp -mindepth 1)" ]
}

# --- nothing spins ---

# while_silent NAME...: their system calls are written down while one silent client runs into the deadline of its
# handshake (--handshake-timeout 3s, which leaves the others time for theirs): who spins makes thousands of calls meanwhile.
while_silent() {
	local before silent

	before=$(grep -c 'handshake not finished in time' tls.log) || :
	watched "$@"
	exec {silent}<>"/dev/tcp/127.0.0.1/$PORT"
	eventually longer_log "$before"
	exec {silent}>&-
	unwatched "$@"
}

# rests NAME: it does not run while twenty programs do.
rests() {
	local stat before i

	stat=/proc/$(pid_of "$1")/schedstat
	before=$(cut -d ' ' -f 1 "$stat")
	for i in {1..20}; do
		/bin/true
	done
	[ "$(cut -d ' ' -f 1 "$stat")" = "$before" ]
}

longer_log() {
	[ "$(grep -c 'handshake not finished in time' tls.log)" -gt "$1" ]
}

# calm LIMIT NAME...: none of them made more calls than that meanwhile.
calm() {
	local limit=$1 name n bad=0

	shift
	for name in "$@"; do
		eventually rests "$name"	# what was on its way has filled what there is to fill
	done
	while_silent "$@"
	for name in "$@"; do
		n=$(calls "$name")
		[ "$n" -le "$limit" ] || {
			echo "$name made $n system calls while nothing happened:"
			sed -E 's/^[0-9]+ +([a-z0-9_]+).*/\1/' "$name.calls" | sort | uniq -c | sort -rn | head -n 5
			bad=1
		}
	done
	return "$bad"
}

@test "50 idle connections cost no system call" {
	requires strace
	http_backend
	three --handshake-timeout 3s
	mkfifo clients.in
	exec {orders}<>clients.in
	SPAWN_IN=clients.in spawn clients python3 "$HERE/peer/clients.py" "$ADDR" --tls "$CERTS/ca.pem"
	echo 'open 50' >&"$orders"
	await_line clients.out '^50 connected'
	eventually holds tls.1 100
	calm 60 lst tls tls.1 con
	echo end >&"$orders"
	ends_with 0 clients
	eventually holds tls.1 0
}

# unread NAME CMD...: a client whose output nobody reads after its first bytes; rest NAME reads the rest.
unread() {
	local both fd

	mkfifo "$1.pipe"
	exec {both}<>"$1.pipe"
	SPAWN_OUT=$1.pipe spawn "$@"
	exec {fd}<"$1.pipe" {both}>&-
	head -c 1000 <&"$fd" >"$1.begun"
	REST[$1]=$fd
}

rest() {
	local fd=${REST[$1]}

	cat "$1.begun" - <&"$fd"
	exec {fd}<&-
}

@test "clients that do not read, half-closed ones among them, cost no system call" {
	requires strace
	http_backend
	random "$BACKEND_DIR/large" 33554432
	three --handshake-timeout 3s
	for i in 1 2 3; do
		unread "reader$i" fetch "$URL/large"
		printf 'GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >request
		SPAWN_IN=request unread "half$i" ncat --ssl 127.0.0.1 "$PORT"
	done
	calm 1000 lst tls tls.1 con
	for i in 1 2 3; do
		rest "reader$i" | cmp - "$BACKEND_DIR/large"
		rest "half$i" | tail -c 33554432 | cmp - "$BACKEND_DIR/large"
	done
}

@test "a backend that does not read costs no system call" {
	requires strace
	cat >deaf.py <<-'END'
		import signal, socket
		server = socket.create_server(("127.0.0.1", 0))
		print("127.0.0.1:%d" % server.getsockname()[1], flush=True)
		client = server.accept()[0]
		signal.pause()
	END
	spawn deaf python3 deaf.py
	await_line deaf.out .
	BACKEND=$(cat deaf.out)
	random large 33554432
	three --handshake-timeout 3s
	spawn put curl -sS --noproxy '*' --resolve "localhost:$PORT:127.0.0.1" --cacert "$CERTS/ca.pem" -H 'Expect:' \
	    -T large "$URL/large"
	await_line tls.log ' open, '
	calm 1000 lst tls tls.1 con
	kill -0 "${PID[put]}"
	stop deaf
	wait_for put || [ "$ended" != 0 ]
	await_line tls.log 'closed: reset'
}

@test "a plain relay to clients that do not read costs no system call, until --idle-timeout ends it" {
	requires strace
	http_backend
	random "$BACKEND_DIR/large" 33554432
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    con ccf-connect --idle-timeout 2s --half-close-timeout 2s --from - "$BACKEND"
	located
	watched lst con
	unread reader curl -sS --noproxy '*' "http://$ADDR/large"
	printf 'GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >request
	SPAWN_IN=request unread half nc -N 127.0.0.1 "$PORT"
	await_line con.log 'rpc#1 .*closed: idle, by us'
	await_line con.log 'rpc#2 .*closed: half-close-timeout, by us'
	unwatched lst con
	[ "$(calls con)" -le 1000 ]
	[ "$(calls lst)" -le 100 ]
	rest reader >back
	ends_with 56 reader
	[ "$(wc -c <back)" -lt 33554432 ]
}

# --- make demo ---

# clean_tree DIR: the sources alone.
clean_tree() {
	mkdir "$1"
	tar -C "$ROOT" -c --exclude=./.git --exclude='./build*' --exclude=./shared . | tar -C "$1" -xo
}

# tree DIR: every file below it that is not a build's, and what it holds.
tree() {
	(cd "$1" && find . -path './build*' -prune -o -type f -exec cksum {} + | sort)
}

# nothing_marked: no process runs that the demo has started.
nothing_marked() {
	run ! grep -lzsxF "DEMO_MARK=$PWD" /proc/[0-9]*/environ
}

@test "make demo, in a clean tree, says what ran and what came back, and leaves nothing behind" {
	requires plain
	clean_tree tree
	mkdir home tmp run
	tree tree >before
	LIMIT=$((LIMIT * 3)) expect_status 0 env -u BUILD -u MAKEFLAGS -u MAKELEVEL DEMO_MARK="$PWD" HOME="$PWD/home" TMPDIR="$PWD/tmp" XDG_RUNTIME_DIR="$PWD/run" \
	    make -C tree -j2 CFLAGS=-O0 demo
	echo "$output" >said
	nothing_marked
	tree tree | diff before -
	[ -z "$(find home tmp run -mindepth 1)" ]
	for line in 'ccf-listen --to - --address-file a\.json rpc=127\.0\.0\.1:0 \|$' \
	    'ccf-tlsterm --cert chain\.pem --key key\.pem --to - \|$' 'ccf-connect --from - 127\.0\.0\.1:[0-9]+$' \
	    'curl --cacert ca\.pem https://localhost:[0-9]+/$' 'What came back .*200 over HTTPS, certificate check 0' \
	    'A page of plain HTTP' 'nothing is left behind'; do
		grep -E "$line" said
	done
}

@test "a demo that fails says so, says why, and leaves nothing behind" {
	mkdir broken tmp
	ln -s "$BUILD/ccf-listen" "$BUILD/ccf-tlsterm" broken
	printf '#!/bin/sh\necho "no luck today" >&2\nexit 1\n' >broken/ccf-connect
	chmod +x broken/ccf-connect
	expect_status 1 env BUILD="$PWD/broken" TMPDIR="$PWD/tmp" DEMO_MARK="$PWD" "$HERE/demo.sh"
	[[ $output == *"no luck today"* ]]
	[[ $output == *"The demo failed."* ]]
	[ -z "$(find tmp -mindepth 1)" ]
	nothing_marked
}
