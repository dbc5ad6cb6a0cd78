# ends - how a connection ends: half-close works both ways, and a cut stays a cut, with its exit status.
#
# (who runs this makes no difference)

load helpers

# --- peers ---

# face ROLE [OPTION...] -- [--tls CA] [--small] STEP...: `tool` is ccf-connect or ccf-listen (ROLE) with these options, on
# TOOL_IN and TOOL_OUT, below VIA; `peer` at the other end takes these steps (peer/cutter.py; peer.out is what it has done).
face() {
	local role=$1 options=()

	shift
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	if [ "$role" = connect ]; then
		peer "$@"
		tool ccf-connect "${options[@]}" "$PEER"
	else
		tool ccf-listen --ready-fd 9 --address-file a.json "${options[@]}" rpc=127.0.0.1:0
		spawn peer python3 "$HERE/peer/cutter.py" connect "$(address a.json rpc)" "$@"
	fi
}

tool() {
	SPAWN_IN=${TOOL_IN-/dev/null} SPAWN_OUT=${TOOL_OUT-tool.out} spawn tool "${VIA[@]}" "$@"
}

peer() {
	spawn peer python3 "$HERE/peer/cutter.py" listen 127.0.0.1:0 "$@"
	await_line peer.out :
	PEER=$(head -n 1 peer.out)
}

random() {	# random FILE BYTES
	head -c "$2" /dev/urandom >"$1"
}

# from_pipe CMD...: what CMD says is TOOL_IN, a pipe.
from_pipe() {
	local r w

	make_pipe r w
	SPAWN_OUT=/dev/fd/$w spawn feeder "$@"
	exec {w}>&-
	TOOL_IN=/dev/fd/$r
}

# to_pipe CMD...: TOOL_OUT is a pipe that CMD reads.
to_pipe() {
	local r w

	make_pipe r w
	SPAWN_IN=/dev/fd/$r spawn taker "$@"
	exec {r}<&-
	TOOL_OUT=/dev/fd/$w
}

# let_go: of the pipes; without that nobody sees their end.
let_go() {
	local fd

	for fd in "${TOOL_IN-}" "${TOOL_OUT-}"; do
		case $fd in /dev/fd/*) eval "exec ${fd#/dev/fd/}<&-" ;; esac
	done
	unset TOOL_IN TOOL_OUT
}

# --- half-close ---

@test "tar through ccf-connect and ccf-listen moves a tree, either way" {
	mkdir -p tree/a/b there back
	random tree/one 3000000
	random tree/a/two 70000
	: >tree/a/b/empty
	ln -s one tree/link

	to_pipe tar -x -C there
	tool ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	let_go
	tar -c tree | ccf-connect "$(address a.json rpc)"
	ends_with 0 tool
	ends_with 0 taker
	diff -r --no-dereference tree there/tree

	from_pipe tar -c tree
	tool ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	let_go
	ccf-connect "$(address a.json rpc)" </dev/null | tar -x -C back
	ends_with 0 tool
	diff -r --no-dereference tree back/tree
}

# What stands behind a tool that is not the ASKER: hears the question to its end, waits a second, and answers.
answer() {
	case $2 in
	ccf-*) cat ;;
	*) head -c "$(stat -c %s question)" ;;	# they keep their standard output open
	esac >"heard.$1"
	sleep 1
	cat reply
}

listens() {
	grep -q "^ *[0-9]*: 0100007F:$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp
}

# asks ASKER SERVER CLIENT: the two begin to talk over port PORT (a word of both); ASKER (one of `server` and `client`)
# says its question and ends.
asks() {
	local asker=$1 qr qw rr rw role port in out
	local -A says=([server]=$2 [client]=$3)

	port=$(free_port)
	make_pipe qr qw
	make_pipe rr rw
	for role in server client; do
		if [ "$role" = "$asker" ]; then
			in=question out=got.$asker
		else
			in=/dev/fd/$rr out=/dev/fd/$qw
			SPAWN_IN=/dev/fd/$qr SPAWN_OUT=/dev/fd/$rw spawn "answer.$asker" answer "$asker" "${says[$role]}"
		fi
		# shellcheck disable=SC2086	# words
		SPAWN_IN=$in SPAWN_OUT=$out spawn "$role.$asker" ${says[$role]//PORT/$port}
		[ "$role" = client ] || eventually listens "$port"
	done
	exec {qr}<&- {qw}<&- {rr}<&- {rw}<&-
}

# asked ASKER: what is answered a second later arrives whole, and so did the question.
asked() {
	local name

	for name in server client answer; do
		ends_with 0 "$name.$1"
	done
	cmp question "heard.$1"
	cmp reply "got.$1"
}

questions() {
	random question 100000
	random reply 3000000
}

both_ways() {
	questions
	asks client "$@"
	asks server "$@"
	asked client
	asked server
}

@test "half-close both ways: ccf-listen and ccf-connect" {
	both_ways 'ccf-listen 127.0.0.1:PORT' 'ccf-connect 127.0.0.1:PORT'
}

@test "half-close both ways: ccf-listen and nc -N" {
	both_ways 'ccf-listen 127.0.0.1:PORT' 'nc -N 127.0.0.1 PORT'
}

@test "half-close both ways: ccf-listen and ncat" {
	both_ways 'ccf-listen 127.0.0.1:PORT' 'ncat 127.0.0.1 PORT'
}

@test "half-close both ways: ccf-listen and socat -t 30" {
	both_ways 'ccf-listen 127.0.0.1:PORT' 'socat -t 30 - TCP:127.0.0.1:PORT'
}

# nc -l and ncat -l (also with --exec) leave as soon as they have read an end, whatever they still have to say: what can be
# asked of them is that they ask.
@test "half-close: nc -N -l asks, ccf-connect answers" {
	questions
	asks server 'nc -N -l 127.0.0.1 PORT' 'ccf-connect 127.0.0.1:PORT'
	asked server
}

@test "half-close: ncat -l asks, ccf-connect answers" {
	questions
	asks server 'ncat -l 127.0.0.1 PORT' 'ccf-connect 127.0.0.1:PORT'
	asked server
}

@test "half-close both ways: socat -t 30 and ccf-connect" {
	both_ways 'socat -t 30 TCP-LISTEN:PORT,bind=127.0.0.1 -' 'ccf-connect 127.0.0.1:PORT'
}

# --- half-close over TLS ---

# stack SINK...: listener, terminator and what takes the plaintext, joined by `-`.
stack() {
	certs
	truncate -s 0 counts
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
		term ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" "${TERM_OPTIONS[@]}" --to - '|' \
		sink "$@"
	ADDRESS=$(address a.json rpc)
}

# single COMMAND...: ccf-tlsterm with one connection, on descriptor 0; the file status gets what it ends with.
single() {
	certs
	truncate -s 0 status counts term.log	# there before they are waited for
	# shellcheck disable=SC2016
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
		sh -c 'ccf-tlsterm "$@" 2>>term.log; echo $? >status' sh \
		--cert "$CERTS/chain.pem" --key "$CERTS/key.pem" "${TERM_OPTIONS[@]}" -- "$@"
	ADDRESS=$(address a.json rpc)
}

# client STEP...: over TLS; it does them all before this returns.  client_runs: in the background, as `client`.
client() {
	expect_status "${STATUS-0}" python3 "$HERE/peer/cutter.py" connect "$ADDRESS" --tls "$CERTS/ca.pem" "$@"
}

client_runs() {
	spawn client python3 "$HERE/peer/cutter.py" connect "$ADDRESS" --tls "$CERTS/ca.pem" "$@"
}

ended_whole() {
	[[ $output == *$'\nrest 3000000 ended' ]] || { echo "$output"; return 1; }
	cmp question heard
	cmp reply got
}

@test "half-close over TLS, with close_notify and with a bare FIN, to an adopted connection" {
	questions
	peer rest=heard wait=1 send=reply end again rest=heard wait=1 send=reply end
	stack ccf-connect --from - "$PEER"
	client send=question end rest=got
	ended_whole
	rm got heard
	client send=question bare rest=got
	ended_whole
	ends_with 0 peer
	await_line term.log 'closed: done'
	await_line term.log 'closed: no-close-notify'
}

@test "half-close over TLS, with close_notify and with a bare FIN, to a stream that was taken" {
	questions
	stack ccf-tlsterm --plaintext --from - -- sh -c 'cat >heard; sleep 1; cat reply'
	client send=question end rest=got
	ended_whole
	rm got heard
	client send=question bare rest=got
	ended_whole
	await_line term.log 'closed: done'
	await_line term.log 'closed: no-close-notify'
}

@test "half-close over TLS, with close_notify and with a bare FIN, to a COMMAND; the bare one is 18" {
	questions
	single sh -c 'cat >heard; sleep 1; cat reply'
	client send=question end rest=got
	ended_whole
	await_line status '^0$'
	rm got heard
	: >status
	client send=question bare rest=got
	ended_whole
	await_line status '^18$'
}

@test "half-close over TLS: the server ends first, the client goes on for a second" {
	random question 100000
	single python3 -c 'if True:
		import socket
		sock = socket.socket(fileno=0)
		sock.sendall(b"hello\n")
		sock.shutdown(socket.SHUT_WR)
		open("heard", "wb").write(sock.makefile("rb").read())'
	client rest wait=1 send=question end
	[[ $output == $'rest 6 ended\n'* ]]
	await_line status '^0$'
	cmp question heard
}

# --- cuts ---

# What the tool reads and writes, in the three ways that bytes take: by splice from or to a pipe; by splice through a pipe of
# ours (after 64 KiB in one read); through a buffer (a socket of somebody else's takes no splice).
way() {
	VIA=() TOOL_IN=${2-/dev/null} TOOL_OUT=taken
	rm -f taken
	case $1 in
	direct)
		[ "$TOOL_IN" = /dev/null ] || from_pipe cat "$TOOL_IN"
		to_pipe sh -c 'cat >taken'
		;;
	copied) VIA=(python3 "$HERE/peer/on_sockets.py") ;;
	esac
}

# each CASE: with every role and every way.
each() {
	local role way

	for role in connect listen; do
		for way in direct spliced copied; do
			echo "$1: $role, $way"
			"$1" "$role" "$way"
		done
	done
}

only_writing() {
	way "$2" endless
	face "$1" -- end read=3000000 reset
	let_go
	ends_with 18 tool
	ends_with 0 peer
}

@test "reset while we only write is 18, on both sides, with and without splice" {
	truncate -s 100G endless
	each only_writing
}

only_reading() {
	way "$2"
	face "$1" -- rest send=data acked reset
	let_go
	ends_with 18 tool
	ends_with 0 peer
	eventually cmp data taken
}

@test "reset while we only read is 18, after all that came before it, on both sides, with and without splice" {
	random data 200000
	each only_reading
}

# LAST_ACK or CLOSING: who ended first is not in our hands.
waiting() {
	way "$2" data
	face "$1" -- --small end state=09,0B reset
	let_go
	ends_with 18 tool
	ends_with 0 peer
}

waiting_too() {
	way "$2" data
	face "$1" -- --small state=04 end state=0B reset
	let_go
	ends_with 18 tool
	ends_with 0 peer
}

@test "reset while we only wait for the last byte to be acknowledged is 18, on both sides, with and without splice" {
	random data 200000
	each waiting
	waiting_too connect direct
	waiting_too listen copied
}

@test "reset while both talk is 18, on both sides" {
	local role

	for role in connect listen; do
		from_pipe tail -f /dev/null
		face "$role" -- reset
		let_go
		ends_with 18 tool
	done
}

@test "reset after its end, before it could have seen ours, is 18, whichever the tool sees first" {
	local role

	for role in connect listen; do
		rm -f go
		rm -f over
		mkfifo over
		from_pipe sh -c 'echo; read -r _ <over'
		face "$role" -- read=1 await=go end reset
		let_go
		await_line peer.out '^read'
		kill -STOP "${PID[tool]}"
		touch go
		echo >over
		ends_with 0 peer
		ends_with 0 feeder
		kill -CONT "${PID[tool]}"
		ends_with 18 tool

		from_pipe tail -f /dev/null
		face "$role" -- end reset
		let_go
		ends_with 18 tool
	done
}

@test "whoever reads from a tool that was killed sees a cut, and not an end" {
	local role

	random data 100000
	for role in connect listen; do
		from_pipe sh -c 'cat data; exec tail -f /dev/null'
		face "$role" -- read=100000 rest
		let_go
		await_line peer.out '^read'
		stop tool KILL
		ends_with 0 peer
		await_line peer.out '^rest 0 reset'
	done
}

# --- standard output ---

@test "23 when standard output went away, and the peer sees a cut" {
	local role

	truncate -s 64M data		# more than a pipe takes by reference
	for role in connect listen; do
		from_pipe tail -f /dev/null
		to_pipe head -c 1000
		face "$role" -- send=data rest
		let_go
		ends_with 23 tool
		await_line peer.out '^rest 0 reset'
	done
}

@test "23 when standard output takes nothing: a full disk, a socket that nobody reads any more" {
	random data 100000
	peer send=data rest
	TOOL_OUT=/dev/full
	tool ccf-connect "$PEER"
	ends_with 23 tool
	await_line tool.log 'standard output went away: stdout-failed: No space left'

	unset TOOL_OUT
	peer send=data rest
	expect_status 23 python3 - "$PEER" <<-'END'
		import socket, subprocess, sys
		here, there = socket.socketpair()
		here.close()
		sys.exit(subprocess.call(["ccf-connect", sys.argv[1]], stdin=subprocess.DEVNULL, stdout=there))
	END
}

@test "a standard input that was cut is a cut: 18, and the peer sees one" {
	peer read=5 rest
	expect_status 18 python3 - "$PEER" <<-'END'
		import os, socket, struct, subprocess, sys
		with socket.create_server(("127.0.0.1", 0)) as server:
		    here = socket.create_connection(server.getsockname())
		    there = server.accept()[0]
		child = subprocess.Popen(["ccf-connect", sys.argv[1]], stdin=there, stdout=subprocess.DEVNULL)
		here.sendall(b"hello")
		while not "read" in open("peer.out").read():
		    pass
		here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		here.close()
		sys.exit(child.wait())
	END
	await_line peer.out '^rest 0 reset'
}

@test "bulk goes where no splice can: to /dev/null, and to a file that is open for appending" {
	random data 3000000
	for TOOL_OUT in /dev/null taken; do
		peer send=data end rest
		if [ "$TOOL_OUT" = taken ]; then
			echo before >taken
			expect_status 0 sh -c "ccf-connect $PEER </dev/null >>taken"
			cmp <(tail -n +2 taken) data
		else
			expect_status 0 sh -c "ccf-connect $PEER </dev/null >/dev/null"
		fi
		ends_with 0 peer
	done
}

@test "what was received before a cut is written, though standard output was full and standard input went on" {
	local role acked r w

	for role in connect listen; do
		make_pipe r w
		TOOL_IN=/dev/zero TOOL_OUT=/dev/fd/$w
		rm -f go
		face "$role" -- fill=1000000 await=go fill reset
		let_go
		await_line peer.out '^fill'
		kill -STOP "${PID[tool]}"	# so that what is acknowledged does not become more before the reset
		eventually stopped
		touch go
		await_line peer.out '^reset'
		kill -CONT "${PID[tool]}"
		SPAWN_IN=/dev/fd/$r SPAWN_OUT=taken spawn taker cat
		exec {r}<&-
		ends_with 18 tool
		ends_with 0 taker
		acked=$(sed -n 's/^fill [0-9]* //p' peer.out | tail -n 1)
		[ "$acked" -gt 1000000 ]
		[ "$(stat -c %s taken)" = "$acked" ] || {
			echo "$(stat -c %s taken) of $acked"
			return 1
		}
	done
}

stopped() {
	grep -q '^State:.T' "/proc/${PID[tool]}/status"
}

# idles: while fifty programs run, what is traced makes next to no system call.
idles() {
	local before i

	before=$(wc -l <trace)
	for i in {1..50}; do
		/bin/true
	done
	[ $(($(wc -l <trace) - before)) -lt 20 ] || {
		tail -n +"$before" trace | cut -d '(' -f 1 | sort | uniq -c
		return 1
	}
}

@test "a tool with a full standard output does not spin, neither before nor after the cut" {
	requires strace plain
	local r w

	make_pipe r w
	VIA=(python3 "$HERE/peer/on_sockets.py" strace -D -o trace)
	from_pipe cat /dev/zero
	TOOL_OUT=/dev/fd/$w
	face connect -- fill await=go reset
	let_go
	await_line peer.out '^fill'
	eventually idles	# who spins never does
	touch go
	await_line trace 'EPIPE|ECONNRESET'
	eventually idles
	exec {r}<&-
	ends_with 18 tool
}

@test "a standard output that somebody else holds open, too, is let go of and does not make us spin" {
	requires strace plain
	local r w

	make_pipe r w
	# shellcheck disable=SC2016
	VIA=(sh -c '"$@"; exit $?' sh strace -D -o trace)
	from_pipe tail -f /dev/null
	TOOL_OUT=/dev/fd/$w
	face connect -- fill end rest
	await_line peer.out '^end'
	# slower than the tool, which so waits for room when it comes to the end
	# shellcheck disable=SC2016
	SPAWN_IN=/dev/fd/$r spawn taker \
		sh -c 'while [ "$(head -c 300000 | wc -c)" != 0 ]; do sleep 0.03; done'
	let_go
	exec {r}<&-
	await_line trace 'dup2'
	eventually idles
	stop feeder
	ends_with 0 tool
}

# --- a link in between ---

# seen PATTERN...: the last step of `peer` and of `client` was such.
seen() {
	await_line peer.out "^rest 0 $1\$"
	await_line client.out "^rest 0 $2\$"
}

@test "ccf-tlsterm killed in mid-upload: who was adopted sees a reset, the client sees one, and nobody an end" {
	random half 500000
	peer read=500000 rest
	stack ccf-connect --from - "$PEER"
	client_runs send=half rest
	await_line peer.out '^read'
	crash term
	seen reset reset
	ends_with 69 lst
	ends_with 0 sink
}

@test "its worker killed in mid-upload: the same two see a reset, and the next client is served by the next worker" {
	random half 500000
	peer read=500000 rest again rest=heard send=half end
	stack ccf-connect --from - "$PEER"
	client_runs send=half rest
	await_line peer.out '^read'
	kill_worker term
	seen reset reset
	await_line term.log "warn: worker 1 \(pid $killed\) was killed by SIGKILL; 1 connection lost; starting it again in "
	client send=half end rest=got
	cmp half heard
	cmp half got
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 term
	ends_with 0 sink
}

@test "its master killed in mid-upload: the worker takes nothing new, finishes the upload, and the pipeline ends" {
	random half 500000
	cat half half >whole
	peer read=500000 rest=heard send=half end
	stack ccf-connect --from - "$PEER"
	client_runs send=half await=go send=half end rest=got
	await_line peer.out '^read'
	kill_master term
	await_line term.log 'warn: the master is gone: taking no new connections'
	touch go
	ends_with 0 client
	cmp half got
	ends_with 0 peer
	cmp half heard
	ends_with 0 lst
	ends_with 0 sink
	eventually dead "$orphan"
}

@test "ccf-tlsterm or its worker killed in mid-upload: who took the stream knows that it was cut" {
	local kills

	random half 500000
	for kills in crash kill_worker; do
		stack python3 "$HERE/peer/handoff.py" consume - --echo
		client_runs send=half read=500000 rest
		await_line client.out '^read'
		$kills term
		await_line sink.out '^closed 1 cut 18 500000 500000$'
		await_line client.out '^rest 0 reset$'
		ends_with 0 client
		wait_for sink || [ "$ended" != timeout ]
		rm sink.out client.out
	done
}

# A COMMAND that counts what it hears; it knows an end from a cut.
COUNTS='
import os, signal, sys
def cut(*_):
	os.write(3, b"cut\n")
	os._exit(0)
signal.signal(signal.SIGHUP, cut)
os.dup2(os.open("counts", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 3)
got = 0
while data := os.read(0, 65536):
	got += len(data)
	os.write(3, b"%d\n" % got)
os.write(3, b"end\n")'

@test "ccf-tlsterm or its worker killed in mid-upload: a COMMAND behind another one is told, and sees no end" {
	local kills

	random half 500000
	for kills in crash kill_worker; do
		stack ccf-tlsterm --plaintext --from - -- python3 -c "$COUNTS"
		client_runs send=half rest
		await_line counts '^500000$'
		$kills term
		await_line counts '^cut$'
		run ! grep end counts
		await_line sink.log 'closed: reset'
		[ "$kills" = crash ] || stop lst
		ends_with 0 sink
		rm sink.log
	done
}

# commanded COMMAND...: listener and terminator, which starts the COMMAND for each.
commanded() {
	certs
	truncate -s 0 counts
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
		term ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" -- "$@"
	ADDRESS=$(address a.json rpc)
}

@test "a worker of ccf-tlsterm killed in mid-upload: its COMMAND is told, and the next client has one that is not" {
	random half 500000
	commanded python3 -c "$COUNTS"
	client_runs send=half rest
	await_line counts '^500000$'
	kill_worker term
	await_line counts '^cut$'
	run ! grep end counts
	await_line client.out '^rest 0 reset$'
	truncate -s 0 counts
	client send=half end rest
	await_line counts '^end$'
	run ! grep cut counts
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 term
}

@test "its master killed in mid-upload: the COMMAND hears all of it, and is told nothing" {
	random half 500000
	commanded python3 -c "$COUNTS"
	client_runs send=half await=go send=half end rest
	await_line counts '^500000$'
	kill_master term
	await_line term.log 'the master is gone'
	touch go
	await_line counts '^1000000$'
	await_line counts '^end$'
	ends_with 0 client
	await_line client.out '^rest 0 ended$'
	run ! grep cut counts
	ends_with 0 lst
	eventually dead "$orphan"
}

@test "ccf-connect killed in mid-upload: who is behind it and who is before it see a reset" {
	random half 500000
	peer read=500000 rest
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
		con ccf-connect --from - "$PEER"
	spawn client python3 "$HERE/peer/cutter.py" connect "$(address a.json rpc)" send=half rest
	await_line peer.out '^read'
	stop con KILL
	seen reset reset
}

@test "ccf-connect as a COMMAND of ccf-listen: ends are ends, and killed it is a reset on both sides" {
	random half 500000
	peer rest=heard send=half end again read=500000 rest
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
		sh -c 'echo $$ >pid; exec ccf-connect "$1"' sh "$PEER"
	expect_status 0 python3 "$HERE/peer/cutter.py" connect "$(address a.json rpc)" send=half end rest=got
	[[ $output == *$'\nrest 500000 ended' ]]
	cmp half heard
	cmp half got
	spawn client python3 "$HERE/peer/cutter.py" connect "$(address a.json rpc)" send=half rest
	await_line peer.out '^read'
	kill -KILL "$(cat pid)"
	seen reset reset
}

@test "standard input and output on one TCP socket: a clean end is one there, too" {
	local option

	random half 500000
	VIA=(python3 "$HERE/peer/on_sockets.py" --tcp)
	for option in '' --reconnect; do
		TOOL_IN=half
		rm -f tool.log
		face connect $option -- send=half rest=heard end
		ends_with 0 tool
		cmp half tool.out
		cmp half heard
		[ ! -s tool.log ]
	done
	TOOL_IN=half
	face listen -k -- send=half rest=heard end
	ends_with 0 peer
	eventually cmp half tool.out
	stop tool
	[ "$ended" = 0 ]
	run ! grep reset tool.log
}

@test "a client that resets in mid-upload, to an adopted connection: the backend sees a reset" {
	random half 500000
	peer read=500000 rest
	stack ccf-connect --from - "$PEER"
	client_runs send=half await=go reset
	await_line peer.out '^read'
	touch go
	await_line peer.out '^rest 0 reset$'
	await_line term.log 'closed: reset, by peer, 500000 bytes in'
}

@test "a client that resets in mid-upload, to a stream that was taken: it was cut, and a COMMAND is told" {
	random half 500000
	stack ccf-tlsterm --plaintext --from - -- python3 -c "$COUNTS"
	client_runs send=half await=go reset
	await_line counts '^500000$'
	touch go
	await_line counts '^cut$'
	run ! grep end counts
	stop sink
	stack python3 "$HERE/peer/handoff.py" consume - --echo
	rm go
	client_runs send=half read=500000 await=go reset
	await_line client.out '^read'
	touch go
	await_line sink.out '^closed 1 cut 18 500000 500000$'
}

@test "a client that resets in mid-upload, without TLS: the backend sees a reset" {
	random half 500000
	peer read=500000 rest
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
		con ccf-connect --from - "$PEER"
	spawn client python3 "$HERE/peer/cutter.py" connect "$(address a.json rpc)" send=half await=go reset
	await_line peer.out '^read'
	touch go
	await_line peer.out '^rest 0 reset$'
	await_line con.log 'closed: reset, by peer, 500000 bytes in'
}

@test "an end of stream inside a record is a cut, whoever is behind" {
	random half 100000
	peer rest
	stack ccf-connect --from - "$PEER"
	client torn=half bare rest
	await_line peer.out '^rest [0-9]* reset$'
	await_line term.log 'closed: reset, by peer'
	single python3 -c "$COUNTS"
	client_runs torn=half await=go bare
	await_line counts '^98304$'
	touch go
	await_line status '^18$'
	await_line counts '^cut$'
	run ! grep end counts
}

@test "a real server behind the pipeline journals no clean end of an upload that was cut" {
	local r w

	http_backend
	certs
	stack ccf-connect --from - "$BACKEND"
	make_pipe r w
	SPAWN_IN=/dev/fd/$r spawn curl curl -sS --cacert "$CERTS/ca.pem" -T . "https://localhost:${ADDRESS#*:}/x"
	exec {r}<&-
	head -c 500000 /dev/zero >&"$w"
	eventually arrived 500000
	crash term
	await_line http.log '^PUT /x reset 500000 of None$'
	wait_for curl || :
	[ "$ended" != 0 ] && [ "$ended" != timeout ]
	exec {w}>&-
	run ! grep -E 'stored|ended' http.log
}

arrived() {
	[ "$(cat "$BACKEND_DIR"/*.part 2>/dev/null | wc -c)" = "$1" ]
}

# --- COMMANDs ---

@test "a COMMAND is told of a cut by SIGHUP, and of nothing at an end" {
	random half 500000
	single python3 -c "$COUNTS"
	client_runs send=half await=go reset
	await_line counts '^500000$'
	touch go
	await_line counts '^cut$'
	await_line status '^18$'
	truncate -s 0 counts status
	client send=half end rest
	await_line status '^0$'
	await_line counts '^end$'
	run ! grep cut counts
}

@test "a single ccf-tlsterm that is told to end cuts: its COMMAND is told, and sees no end" {
	local signal

	certs
	random half 500000
	for signal in TERM INT HUP; do
		truncate -s 0 counts
		# shellcheck disable=SC2016
		spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
			sh -c 'echo $$ >pid; exec ccf-tlsterm "$@"' sh \
			--cert "$CERTS/chain.pem" --key "$CERTS/key.pem" -- python3 -c "$COUNTS"
		ADDRESS=$(address a.json rpc)
		client_runs send=half rest
		await_line counts '^500000$'
		kill -$signal "$(cat pid)"
		await_line counts '^cut$'
		run ! grep end counts
		await_line client.out '^rest 0 (failed|reset)'
		await_line lst.log 'closed: exited, .*, status 28$'
		stop lst
		[ "$ended" = 0 ]
		rm lst.log
	done
}

@test "--require-close-notify makes a bare FIN a cut" {
	random half 500000
	TERM_OPTIONS=(--require-close-notify)
	single python3 -c "$COUNTS"
	client_runs send=half bare rest
	await_line status '^18$'
	await_line counts '^cut$'
	run ! grep end counts
	await_line term.log 'closed: no-close-notify'
}

@test "a COMMAND that does not read what it is sent is heard all the same" {
	random half 200000	# who is gone listens to no more than 256 KiB
	single sh -c 'echo hello'
	client send=half end rest=got
	[[ $output == *$'\nrest 6 ended' ]]
	await_line status '^0$'
	[ "$(cat got)" = hello ]
}

@test "when the COMMAND is gone a client that stays is not waited for" {
	single echo hello
	client_runs rest await=never
	await_line client.out '^rest 6 ended'
	await_line status '^0$'
}

# --- deadlines ---

@test "28 when the last byte is not acknowledged in --flush-timeout, and the peer sees a cut" {
	local role

	random data 200000
	for role in connect listen; do
		rm -f go
		TOOL_IN=data
		face "$role" --flush-timeout 200ms -- --small end await=go rest
		ends_with 28 tool
		touch go
		await_line peer.out '^rest [0-9]* reset'
	done
}

@test "who takes the last bytes slowly is waited for: neither --flush-timeout nor --idle-timeout is over while he does" {
	random data 30000
	TOOL_IN=data
	face connect --flush-timeout 1500ms -- --small end slow=65536
	ends_with 0 tool
	ends_with 0 peer
	await_line peer.out '^slow 30000 ended'

	from_pipe sh -c 'cat data; exec tail -f /dev/null'
	face connect --idle-timeout 1500ms -- --small slow=65536
	let_go
	ends_with 28 tool
	await_line peer.out '^slow 30000 reset'
}

@test "--half-close-timeout counts from the end, not from what was said before it" {
	random reply 1000
	from_pipe sleep 2.5
	face connect --half-close-timeout 2s -- rest wait=0.3 send=reply end
	let_go
	ends_with 0 tool
	cmp reply tool.out
}

@test "28 when TLS is silent: ccf-tlsterm of one connection, and its COMMAND is told" {
	TERM_OPTIONS=(--idle-timeout 2s)
	single python3 -c "$COUNTS"
	client_runs knock=counts rest	# before it is up, the COMMAND could not say that it was told
	await_line status '^28$'
	await_line counts '^cut$'
	await_line client.out '^rest 0 (failed|reset)'
}
