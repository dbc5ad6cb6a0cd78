# renew - USR2: the program file of a running ccf-udpecho is replaced under it.  A new program is a copy of the same one: it is
# another file, and that is how it is told from the old one.
#
# (who runs this makes no difference)

load helpers
load clients
load control

# --- what the tests share ---

setup() {
	common_setup
	mkdir bin
	cp "$BUILD/ccf-udpecho" bin/ccf-udpecho
	cat >counts <<-'END'
		#!/usr/bin/env python3
		# A COMMAND that answers "N WORD" to its Nth datagram; some words it obeys.
		import os, resource, sys
		n = 0
		while True:
		    said = os.read(0, 65536)
		    if not said:
		        break
		    n += 1
		    answer = {b"pid": os.getpid, b"limit": lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
		              b"renew": lambda: os.environ.get("CCF_RENEW"),
		              b"fds": lambda: " ".join(sorted(os.listdir("/proc/self/fd")))}.get(said, said.decode)()
		    os.write(1, f"{n} {answer}".encode())
		if len(sys.argv) > 1:
		    open(sys.argv[1]).read()
	END
	chmod +x counts
}

# serving ARG...: ccf-udpecho from bin/, with its control socket; PORT is where e is.
serving() {
	spawn udp "${AS[@]-bin/ccf-udpecho}" --ready-fd 9 --address-file a.json --control udp.ctl "$@"
	at_e
}

at_e() {
	ADDR=$(address a.json e)
	PORT=${ADDR##*:}
}

# The file is there at once or not at all.
replaced() {
	cp "$BUILD/ccf-udpecho" bin/next
	mv bin/next bin/ccf-udpecho
}

# program: what stands on standard input becomes the program.
program() {
	cat >bin/next
	chmod +x bin/next
	mv bin/next bin/ccf-udpecho
}

# holding: a program that becomes ccf-udpecho in the end, but first, where there is a fifo hold.check or hold.real, says that it
# came (came.check, came.real) and waits there.  Unlike a shell it leaves signals alone.
holding() {
	program <<-END
		#!$(type -P python3)
		import os, sys
		how = "check" if os.environ["CCF_RENEW"].startswith("check") else "real"
		if os.path.exists("hold." + how):
		    open("came." + how, "w").close()
		    open("hold." + how).read()
		${1-}
		os.execv("$BUILD/ccf-udpecho", sys.argv)
	END
}

# lines PATTERN: how many lines of the log match.
lines() {
	grep -cE -e "$1" udp.log || :
}

# said N PATTERN: sooner or later there are N such lines.
said() {
	eventually has_lines "$1" "$2"
}

has_lines() {
	[ "$(lines "$2")" = "$1" ]
}

usr2() {
	mine "${PID[udp]}"
	kill -USR2 "${PID[udp]}"
}

# renewed: it goes on as what stands in bin/ by now.
renewed() {
	local before

	before=$(lines ' renewed: ')
	usr2
	said $((before + 1)) ' renewed: '
	runs bin/ccf-udpecho
	up udp
}

runs() {
	[ "/proc/${PID[udp]}/exe" -ef "$1" ]
}

# stays WHY: USR2 does not take, for this reason, said in one line; and it answers as before.
stays() {
	local before all

	before=$(lines ' does not take over ') all=$(wc -l <udp.log)
	usr2
	said $((before + 1)) ' does not take over '
	tail -n 1 udp.log | grep -qE "^ccf-udpecho: warn: $PWD/bin/ccf-udpecho does not take over \($1\): going on as before\$"
	[ "$(wc -l <udp.log)" = $((all + ${2-1})) ]
	up udp
	answered
}

answered() {
	python3 "$HERE/peer/udp.py" rounds 127.0.0.1 "$PORT" 3 --timeout "$LIMIT"
}

children_of() {
	local all=()

	{ read -r -a all <"/proc/${PID[$1]}/task/${PID[$1]}/children"; } 2>/dev/null || :
	echo "${all[*]}"
}

has_children() {
	[ "$(children_of udp | wc -w)" = "$1" ]
}

has_sockets() {
	[ "$(find "/proc/${PID[udp]}/fd" -lname 'socket:*' | wc -l)" = "$1" ]
}

stay_open_at_exec() {
	local fd

	for fd in "/proc/${PID[udp]}/fd"/*; do
		[[ $(readlink "$fd") != socket:* ]] || grep -q '^flags:.*2......$' "/proc/${PID[udp]}/fdinfo/${fd##*/}" || return 0
	done
	return 1
}

# alone: nothing that a test has started runs any more.
alone() {
	(unset TEST_MARK && nobody_left)
}

# talker NAME: peers that obey `tell NAME [N] VERB ...` (peer/udp.py).
talker() {
	local fd

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	TELL[$1]=$fd
	SPAWN_IN=$1.in spawn "$1" python3 "$HERE/peer/udp.py" talk 127.0.0.1 "$PORT" --timeout "$LIMIT"
}

# hears NAME N QUESTION ANSWER: the Nth peer asks that, and is answered that.
hears() {
	tell "$1" "$2 send $3"
	await_line "$1.out" "^$2 got [0-9]*: $4\$"
}

# state LINE...: a ccf-udpecho (with OPTIONS) that is told to go on from these lines.
state() {
	OPTIONS=${OPTIONS-} python3 - "$@" <<-'END'
		import fcntl, os, sys
		fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
		os.write(fd, "".join(line + "\n" for line in sys.argv[1:]).encode())
		if sys.argv[1:2] != ["unsealed"]:
		    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
		os.set_inheritable(fd, True)
		os.environ["CCF_RENEW"] = str(fd)
		os.execvp("ccf-udpecho", ["ccf-udpecho", *os.environ["OPTIONS"].split(), "e=127.0.0.1:0"])
	END
}

HEAD='ccf-renew version=1 tool=ccf-udpecho from=0 soft=1024 hard=1024 level=2'

# --- what goes on ---

@test "USR2: the new program goes on at the same port, with the same pid, and not one datagram is lost" {
	local pid before fds

	serving e=127.0.0.1:0
	pid=${PID[udp]} before=$(<a.json) fds=$(fd_count udp)
	SPAWN_IN=<(eventually test -e enough) spawn peer python3 "$HERE/peer/steady.py" 127.0.0.1 "$PORT"
	await_line peer.out began
	for _ in 1 2 3; do
		replaced
		run ! runs bin/ccf-udpecho
		renewed
		[ "$(<a.json)" = "$before" ]
	done
	touch enough
	ends_with 0 peer
	await_line peer.out ' asked and answered'
	[ "${PID[udp]}" = "$pid" ] && mine "$pid"
	keeps udp="$fds"
	has_children 0
	stop udp
	[ "$ended" = 0 ]
	[ ! -e udp.ctl ]
}

@test "figures go on, and the log level that was set while it ran" {
	serving e=127.0.0.1:0
	answered
	figures udp 'ccfnet_datagrams_total{direction="in"}=3' 'ccfnet_datagrams_total{direction="out"}=3'
	answers 200 udp PUT /log-level -d debug
	replaced
	renewed
	figures udp 'ccfnet_datagrams_total{direction="in"}=3' 'ccfnet_datagrams_total{direction="out"}=3'
	answered
	figures udp 'ccfnet_datagrams_total{direction="in"}=6' 'ccfnet_datagrams_total{direction="out"}=6'
	correct udp
	answers 200 udp GET /log-level
	[ "$(<udp.body)" = debug ]
}

@test "sessions go on: the same COMMANDs with what they know, their peers, their ids, and room for no more of them" {
	local pids

	serving e=127.0.0.1:0 --max-open-sessions-hard 3 -- ./counts
	talker peer
	hears peer 1 pid '1 [0-9]*'
	hears peer 2 one '1 one'
	pids=$(children_of udp)
	replaced
	renewed
	[ "$(children_of udp)" = "$pids" ]
	hears peer 1 pid "2 ${pids% *}"
	hears peer 2 two '2 two'
	rows udp 'map([.id, .in, .state]) == [["e#1", 6, "open"], ["e#2", 6, "open"]]'
	replaced
	renewed
	hears peer 3 three '1 three'
	hears peer 2 four '3 four'
	tell peer '4 send five'
	said 1 'dropped: at the hard cap of 3 sessions'
	figures udp 'ccfnet_interface_active{interface="e"}=3' 'ccfnet_interface_accepted_total{interface="e"}=3' \
	    'ccfnet_connections_taken_total=3' 'ccfnet_commands_total{result="ok"}=3'
	rows udp 'map(.id) == ["e#1", "e#2", "e#3"]'
	stop udp
	[ "$ended" = 0 ]
	said 3 'closed: exited, by inner'
}

@test "a COMMAND that the new program starts has the limits that the first one found, nothing open, and no word of this" {
	limited() {
		ulimit -S -n 300
		exec bin/ccf-udpecho "$@"
	}
	AS=limited serving e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 limit '1 300'
	for _ in 1 2; do
		replaced
		renewed
	done
	[ "$(awk '/^Max open files/ { print $4 == $5 }' "/proc/${PID[udp]}/limits")" = 1 ]
	hears peer 2 limit '1 300'
	hears peer 2 fds '2 0 1 2 3'			# 3 is how it looks
	hears peer 2 renew '3 None'
}

@test "descriptors and children are as many as before, whether it was renewed or not" {
	local fds n=0

	serving e=127.0.0.1:0 f=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	hears peer 2 one '1 one'
	up udp
	replaced
	renewed
	eventually has_children 2
	eventually has_sockets 5			# e, f, two sessions, control
	run ! stay_open_at_exec
	fds=$(fd_count udp)
	for _ in 1 2 3; do
		replaced
		renewed
		program <<<$'#!/bin/sh\nexit 3'
		usr2
		said "$((++n))" "does not take over"
		keeps udp="$fds"
		has_children 2
	done
	said 3 'does not take over \(status 3\)'
}

@test "a supervisor's sockets are kept, by their names" {
	spawn udp python3 "$HERE/peer/activate.py" --kind dgram --names e:f 127.0.0.1:0 127.0.0.1:0 -- \
	    bin/ccf-udpecho --address-file a.json --control udp.ctl
	eventually test -e a.json
	up udp
	at_e
	replaced
	renewed
	answered
	PORT=$(address a.json f) PORT=${PORT##*:}
	answered
	figures udp 'ccfnet_datagrams_total{direction="in"}=6'
	said 2 ': e: receiving'
	said 2 ': f: receiving'
}

@test "the log of the new program has the old one's form" {
	serving --log json e=127.0.0.1:0
	replaced
	usr2
	await_line udp.log '"renewed"'
	jq -se 'any(.event == "renewed" and .level == "info" and (.msg | test("^renewed: [0-9.]+, was [0-9.]+$")))' udp.log
	up udp
	answered
}

# --- the control socket ---

# on_control: a client that has connected to it, and says nothing; it ends when it is cut.
on_control() {
	spawn held python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("udp.ctl")
print("connected", flush=True)
s.recv(1)'
	await_line held.out connected
}

@test "the control socket is never away: who connects between the two is answered by the new one, who had connected is cut" {
	local file

	serving e=127.0.0.1:0
	file=$(stat -c %d:%i udp.ctl)
	replaced
	renewed
	on_control
	eventually has_sockets 3
	mkfifo hold.real
	holding
	usr2
	eventually test -e came.real
	ends_with 0 held
	spawn curl curl -v --max-time "$LIMIT" --unix-socket udp.ctl http://localhost/metrics
	await_line curl.log 'Connected to'
	echo go >hold.real
	ends_with 0 curl
	grep -q '^ccfnet_datagrams_total' curl.out
	[ "$(stat -c %d:%i udp.ctl)" = "$file" ]
	stop udp
	[ "$ended" = 0 ]
	[ ! -e udp.ctl ]
}

@test "the directory of the control socket is gone, or another file is in its place: all goes on, and the file is left alone" {
	serving e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	rm udp.ctl
	echo mine >udp.ctl
	replaced
	usr2
	said 1 ' renewed: '
	runs bin/ccf-udpecho
	hears peer 1 two '2 two'
	stop udp
	[ "$ended" = 0 ]
	[ "$(<udp.ctl)" = mine ]
	stop peer
	rm -r udp.log a.json udp.ctl peer.*

	mkdir dir
	spawn udp bin/ccf-udpecho --ready-fd 9 --address-file a.json --control dir/udp.ctl e=127.0.0.1:0 -- ./counts
	at_e
	talker peer
	hears peer 1 one '1 one'
	rm -r dir
	replaced
	usr2
	said 1 ' renewed: '
	runs bin/ccf-udpecho
	hears peer 1 two '2 two'
	eventually has_sockets 3
	stop udp
	[ "$ended" = 0 ]
}

@test "at the limit of descriptors it goes on as the new program with one to spare, and as the old one with none" {
	local n

	requires plain		# a sanitizer opens files of its own
	serving --peer-user 0 e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	hears peer 2 one '1 one'
	up udp
	eventually has_sockets 4
	n=$(fd_count udp)
	[ ! -e "/proc/${PID[udp]}/fd/$n" ]		# they are 0 to n - 1
	prlimit --pid "${PID[udp]}" --nofile=$((n + 1)):$((n + 1))
	replaced
	renewed
	hears peer 1 two '2 two'
	hears peer 2 two '2 two'
	eventually has_sockets 4
	on_control
	eventually has_sockets 5
	usr2
	said 1 'does not take over \(Too many open files\)'
	hears peer 1 three '3 three'
	hears peer 2 three '3 three'
	stop held
	renewed
	hears peer 1 four '4 four'
	rows udp 'map(.id) == ["e#1", "e#2"]'
	stop udp
	[ "$ended" = 0 ]
	[ ! -e udp.ctl ]
}

# --- which program ---

@test "it is looked for where it was found: in PATH, by a link that leads elsewhere by now, from a relative path" {
	mkdir v1 v2
	cp bin/ccf-udpecho v1/
	cp bin/ccf-udpecho v2/
	ln -s v1 current
	AS=current/ccf-udpecho serving e=127.0.0.1:0
	ln -sfn v2 current
	usr2
	said 1 ' renewed: '
	runs v2/ccf-udpecho
	stop udp
	rm -f udp.log a.json
	PATH=/nowhere:bin:$PATH AS=ccf-udpecho serving e=127.0.0.1:0
	replaced
	renewed
	answered
}

@test "whatever it was called, its own file is found" {
	named() {
		exec -a nothing bin/ccf-udpecho "$@"
	}
	AS=named serving e=127.0.0.1:0
	replaced
	renewed
	replaced
	renewed
	[ "$(tr '\0' ' ' <"/proc/${PID[udp]}/cmdline" | cut -d ' ' -f 1)" = nothing ]
}

# --- what does not take over ---

@test "a new program that does not work leaves the old one in its place, and one line says why" {
	local fds

	serving e=127.0.0.1:0
	fds=$(fd_count udp)
	program <<<$'#!/bin/sh\nexit 1'
	stays 'status 1'
	program <<<$'#!/bin/sh\nkill -SEGV $$'
	stays 'killed by signal 11'
	program <<<$'#!/bin/sh\nexit 0'
	stays 'it has not read the state'
	cp "$(type -P true)" bin/next
	mv bin/next bin/ccf-udpecho
	stays 'it has not read the state'
	program <<<$'#!/nowhere/sh'
	stays 'status 126' 2
	grep -q "error: cannot run $PWD/bin/ccf-udpecho: No such file or directory" udp.log
	chmod -x bin/ccf-udpecho
	stays 'Permission denied'
	rm bin/ccf-udpecho
	stays 'No such file or directory'
	mkdir bin/ccf-udpecho
	stays 'status 126' 2
	rmdir bin/ccf-udpecho
	keeps udp="$fds"
	has_children 0
	replaced
	renewed
	answered
}

@test "a new program that knows our options no more says which, and does not take over" {
	serving e=127.0.0.1:0
	holding 'sys.argv[1:1] = ["--nonsense"]'
	stays 'status 2' 2
	grep -q 'ccf-udpecho: error: .*nonsense' udp.log
}

@test "one that passed the check and cannot be run then: the control socket is the same, and all goes on" {
	local file

	serving e=127.0.0.1:0 -- ./counts
	file=$(stat -c %d:%i:%a udp.ctl)
	talker peer
	hears peer 1 one '1 one'
	holding 'os.chmod(sys.argv[0], 0o644)'
	usr2
	said 1 'does not take over \(Permission denied\): going on as before'
	up udp
	hears peer 1 two '2 two'
	rows udp 'map(.id) == ["e#1"]'
	[ "$(stat -c %d:%i:%a udp.ctl)" = "$file" ]
}

@test "a check that says nothing in 5 s is ended, with all it has started, and all goes on" {
	serving e=127.0.0.1:0
	program <<<$'#!/bin/sh\ntouch hangs\nsleep 1000 &\nwait'
	usr2
	eventually test -e hangs
	answered
	[ "$(lines 'does not take over')" = 0 ]
	await_line udp.log 'does not take over \(no answer in 5 s\)'
	eventually has_children 0
	replaced
	renewed
}

@test "a check that hangs does not outlive the tool, which ends at TERM" {
	serving e=127.0.0.1:0
	mkfifo hold.check
	holding
	usr2
	eventually test -e came.check
	stop udp
	[ "$ended" = 0 ]
	eventually alone
}

# --- signals and the moments they come at ---

@test "USR2 while a new program is being checked is ignored, and says so; afterwards it is heard again" {
	serving e=127.0.0.1:0
	mkfifo hold.check
	holding
	usr2
	eventually test -e came.check
	usr2
	said 1 'being renewed already: USR2 is ignored'
	answered
	rm came.check
	echo go >hold.check
	said 1 ' renewed: '
	runs "$BUILD/ccf-udpecho"
	up udp
	answered
}

@test "USR2 again and again: each is heard, or one that came meanwhile stands for it" {
	serving e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	for _ in {1..20}; do
		usr2
	done
	eventually -t "$LIMIT" settled
	hears peer 1 two '2 two'
	usr2
	eventually settled
	hears peer 1 three '3 three'
	[ "$(lines 'does not take over')" = 0 ]
	stop udp
	[ "$ended" = 0 ]
}

# What was asked for has happened: the last USR2 was heard by who runs now.
settled() {
	has_children 1 && up udp && [ "$(lines ' renewed: ')" -gt 0 ]
}

@test "a TERM that comes together with USR2, or while the new program is checked, ends it with 0" {
	serving e=127.0.0.1:0
	kill -STOP "${PID[udp]}"
	usr2
	kill -TERM "${PID[udp]}"
	kill -CONT "${PID[udp]}"
	ends_with 0 udp
	rm -f udp.log a.json

	serving e=127.0.0.1:0 -- ./counts finish
	talker peer
	mkfifo hold.check finish
	holding
	hears peer 1 one '1 one'
	usr2
	eventually test -e came.check
	kill -TERM "${PID[udp]}"
	await_line udp.log draining
	echo go >hold.check
	said 1 'does not take over \(draining\)'
	usr2
	said 1 'draining: USR2 is ignored'
	echo go >finish
	ends_with 0 udp
	run ! grep ' renewed: ' udp.log
}

@test "a TERM that comes between the old program and the new one is not lost, nor does it kill" {
	serving e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	mkfifo hold.real
	holding
	usr2
	eventually test -e came.real
	kill -TERM "${PID[udp]}"
	kill -USR1 "${PID[udp]}"
	echo go >hold.real
	ends_with 0 udp
	said 1 ' renewed: '
	said 1 ' draining'
	said 1 'e: at udp:127.0.0.1:'
	said 1 'closed: exited, by inner'
}

under_way() {
	has_children 1 || has_lines 1 ' renewed: '
}

@test "a TERM at any moment after USR2 ends it with 0" {
	local try i

	export ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0	# who is ended while it looks for leaks has a report to make
	for try in {1..8}; do
		rm -f udp.log a.json
		serving e=127.0.0.1:0
		usr2
		case $((try % 4)) in
		0) eventually under_way ;;
		1) said 1 ' renewed: ' ;;
		2) for ((i = RANDOM / 4; i > 0; i--)); do :; done ;;
		esac
		kill -TERM "${PID[udp]}"
		ends_with 0 udp
	done
}

@test "a COMMAND that ends between the old program and the new one is reaped, and its session is over" {
	local pid

	serving e=127.0.0.1:0 -- ./counts
	talker peer
	hears peer 1 one '1 one'
	pid=$(children_of udp)
	mkfifo hold.real
	holding
	usr2
	eventually test -e came.real
	kill -KILL "$pid"
	eventually dead "$pid"
	echo go >hold.real
	said 1 'closed: killed, by inner'
	has_children 0
	up udp
	rows udp 'length == 0'
	hears peer 1 two '1 two'
}

# --- what is read ---

@test "CCF_RENEW that we have not set is refused in a sentence" {
	local word fd

	for word in '' x 1 -1 99999999999 ' 3' 'check' 'check ' 'check 77' 77; do
		expect_status 2 env "CCF_RENEW=$word" ccf-udpecho e=127.0.0.1:0
		[ "${#lines[@]}" = 1 ]
		[[ $output == "ccf-udpecho: error: CCF_RENEW=$word: there is no state of a running ccf-udpecho "*': unset it '* ]]
	done
	exec {fd}<"$HERE/helpers.bash"
	expect_status 2 env "CCF_RENEW=$fd" ccf-udpecho e=127.0.0.1:0
	expect_status 2 state unsealed "$HEAD"
	[[ $output == *': there is no state of a running ccf-udpecho '* ]]
}

@test "a state that cannot be read ends it with a sentence" {
	refuses_state() {
		expect_status 1 state "${@:2}"
		[[ "${#lines[@]}" = 1 && $output =~ ^"ccf-udpecho: error: "$1 ]] || {
			echo "$output"
			false
		}
	}
	refuses_state 'the state is malformed at byte 0'
	refuses_state 'the state is malformed at byte 0' ''
	refuses_state 'this is no state of a running ccf-udpecho' hello
	refuses_state 'this is no state of a running ccf-udpecho' "${HEAD/udpecho/listen}"
	refuses_state "0 has written its state in a form that [0-9.]* does not read" "${HEAD/version=1/version=2}"
	refuses_state 'the first line of the state is malformed' "${HEAD/soft=/so=}"
	refuses_state "the state is malformed at byte $((${#HEAD} + 1))" "$HEAD" 'socket  fd=7'
	refuses_state 'the state: socket: descriptor 77 is not open' "$HEAD" 'socket fd=77 name=e'
	refuses_state 'the state: socket: descriptor 1 is not open' "$HEAD" 'socket fd=1 name=e'
	refuses_state 'the state: socket: .' "$HEAD" 'socket name=e'
	refuses_state 'the state: session: descriptor 77 is not open' "$HEAD" 'session fd=77'
	refuses_state 'the state: control: descriptor 77 is not open' "$HEAD" 'control fd=77'
	refuses_state 'the state: control: a field is missing or out of range' "$HEAD" 'control path=c dev=1 ino=1 user=0'
	refuses_state 'the state: control: there is one, and no --control' "$HEAD" 'control fd=3 path=c dev=1 ino=1 user=0'
	OPTIONS='--control c'
	refuses_state 'the state: control: descriptor 3 is no Unix socket that listens' "$HEAD" 'control fd=3 path=c dev=1 ino=1 user=0'
	refuses_state 'the state: control: a field is missing or out of range' "$HEAD" "control fd=3 path=$(printf '%0108d' 0) dev=1 ino=1 user=0"
	expect_status 2 state "$HEAD" session
	expect_status 2 state "$HEAD" nonsense
}
