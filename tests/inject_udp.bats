# inject_udp - system calls that fail (see inject.bats) under datagrams: what an echo has read it answers, or counts as dropped
# and says so; a peer's session goes on, or a new one begins; a new program takes over, or the old one goes on; a client says what
# failed; and nothing is kept.
#
# tests/peer/disturb_udp.py runs the cells.  Not disturbed, besides what inject.bats says: a receive from peers by EAGAIN, which
# would be a lie to who is called again only when more comes (WATCH_EDGE); and EINTR and EAGAIN are nothing that lasts.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control
load inject

setup() {
	strace -o /dev/null true 2>/dev/null || skip "strace is not available here"
	common_setup
	HOW=()
}

# echo_stack ARG...: ccf-udpecho, with these arguments; ADDR.  What it holds then it has to hold at the end.
echo_stack() {
	spawn e ccf-udpecho --control e.ctl --ready-fd 9 --address-file a.json "$@"
	ADDR=$(address a.json e)
	fails	# what is made once is made
	HELD=$(held)
	RSS=$(rss_kib e)
}

# fails [OPTION...] CELL...: see disturb_udp.py.  HOW: how clients ask.
fails() {
	local status=0

	python3 "$HERE/peer/disturb_udp.py" --log e.log --control e.ctl --limit "$LIMIT" "${HOW[@]}" "tool:${PID[e]}" "$ADDR" "$@" \
	    >cells || status=$?
	cat cells
	[ "$status" != 77 ] || skip "strace may not be attached here"
	[ "$status" = 0 ]
}

# all_became PATTERN: of each cell, in the last fails.
all_became() {
	run ! grep -v -x -E "[^:]+: $1; [0-9]+ injected, [0-9]+ calls" cells
}

held() {
	find "/proc/${PID[e]}/fd" -type l -printf '%l\n' | sed 's/[0-9]*\]//' | sort | uniq -c | tr -s '\n ' ' '
}

holds_the_same() {
	echo "it holds $(held), not $HELD"
	[ "$(held)" = "$HELD" ] && [ -z "$(cat "/proc/${PID[e]}/task/${PID[e]}/children")" ]
}

# as_before: it has no descriptor, no child and no memory more than at first; and it ends.
as_before() {
	eventually holds_the_same
	[ -n "${CCF_SAN-}" ] || [ "$(rss_kib e)" -lt $((RSS + 4096)) ]
	stop e
	[ "$ended" = 0 ]
}

# --- the echo ---

@test "the echo: a receive that fails is tried again, and no datagram is lost" {
	HOW=(--peers 3 --window 2)
	echo_stack e=127.0.0.1:0
	fails recvmmsg:EINTR@@1,2+2 recvmmsg:ENOMEM@@1,3 recvmmsg:ECONNREFUSED,EIO@@2 epoll_wait:EINTR@@1,2+2 read:EINTR,EAGAIN@@1
	all_became whole
	times 2 e.log 'warn: e: cannot receive: Cannot allocate memory'
	times 1 e.log 'warn: e: cannot receive: Connection refused'
	times 1 e.log 'warn: e: cannot receive: Input/output error'
	as_before
}

@test "the echo: receives that fail for a while keep it from nothing but receiving, and then it answers" {
	HOW=(--peers 3 --window 4)
	echo_stack e=127.0.0.1:0
	fails recvmmsg:ENOMEM,ECONNREFUSED,EIO@@1+
	all_became whole
	as_before
}

@test "the echo: answers for which there is no room are kept, and none is lost" {
	HOW=(--peers 3 --window 4 --batch)
	echo_stack e=127.0.0.1:0
	fails sendmmsg:EINTR@@1,2 sendmmsg:EAGAIN@@1,2+2,1..3
	all_became whole
	HOW+=(--also sendmmsg:error=EAGAIN:when=1)
	fails epoll_ctl:ENOMEM@@1,2	# for writing, and for reading again
	all_became whole
	HOW=(--peers 3 --window 4 --also recvmmsg:error=EIO:when=1)
	fails epoll_ctl:ENOMEM@@2	# it is back from its rest
	all_became whole
	as_before
}

@test "the echo: an answer that is refused is counted and said, and the others of its batch go" {
	local why

	HOW=(--peers 3 --window 4 --batch)
	echo_stack e=127.0.0.1:0
	fails sendmmsg:ENOBUFS,EPERM,ENETUNREACH,EMSGSIZE@@1 sendmmsg:EINVAL@@1,2
	all_became 'dropped 1'
	for why in 'No buffer space available' 'Operation not permitted' 'Network is unreachable' 'Message too long'; do
		times 1 e.log "info: 127\.0\.0\.1:[0-9]+: e: dropped: $why"
	done
	times 2 e.log "info: 127\.0\.0\.1:[0-9]+: e: dropped: Invalid argument"
	HOW=(--peers 3 --window 4)
	fails sendmmsg:ENOBUFS,EPERM@@1+
	all_became 'dropped [0-9]+'
	as_before
}

# --- sessions ---

@test "a session that cannot begin costs its first datagram, and the next one begins it" {
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails socketpair:EMFILE,ENFILE,ENOMEM@@1 bind:ENOMEM@@1 sendto:EAGAIN,ENOBUFS,EPIPE@@1 ioctl:EPERM@@1 vfork:EAGAIN,ENOMEM@@1
	all_became 'dropped 1'
	times 1 e.log 'warn: cannot start a session: Too many open files; what new peers send is dropped until descriptors are free'
	times 1 e.log 'error: cannot run /bin/cat: Operation not permitted'
	times 1 e.log 'error: cannot run /bin/cat: Resource temporarily unavailable'
	times 1 e.log 'error: cannot run /bin/cat: Cannot allocate memory'
	fails setsockopt:ENOMEM@@1 epoll_ctl:ENOMEM@@1
	all_became whole
	as_before
}

@test "a COMMAND that cannot be run costs a datagram, and is run when it can" {
	requires plain
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails --follow execve:ENOENT,EACCES,ENOMEM@@1+ dup2:EBUSY@@1+
	all_became 'dropped 1'
	times 1 e.log 'error: cannot run /bin/cat: No such file or directory'
	times 1 e.log 'error: cannot run /bin/cat: Permission denied'
	times 1 e.log 'error: cannot run /bin/cat: Cannot allocate memory'
	times 1 e.log 'error: cannot run /bin/cat: Device or resource busy'
	as_before
}

# With one peer, and one question at a time, odd receives are from the peer, and even ones from its COMMAND; and so are sends the
# other way round.
@test "a session that runs: what fails costs at most one datagram, and the peer is answered again" {
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails recvmmsg:EINTR@@1,2 recvmmsg:EAGAIN@@2 recvmmsg:ENOMEM@@1 recvmmsg:ECONNRESET@@2,6 sendmmsg:EINTR@@1,2 \
	    epoll_wait:EINTR@@1,2+2
	all_became whole
	fails sendmmsg:EAGAIN,ENOBUFS,ENOMEM,EMSGSIZE@@2 sendmmsg:EAGAIN,EPERM@@1,3
	all_became 'dropped 1'
	times 2 e.log 'info: 127\.0\.0\.1:[0-9]+: e: dropped: the socket is full'
	times 2 e.log 'info: 127\.0\.0\.1:[0-9]+: e: dropped: Operation not permitted'
	run ! grep -E 'closed: (closed|exited|killed)' e.log
	figures e 'ccfnet_datagrams_dropped_total{reason="queue-full"}=4' 'ccfnet_datagrams_dropped_total{reason="send-full"}=2' \
	    'ccfnet_datagrams_dropped_total{reason="send-failed"}=2'
	as_before
}

# What the COMMAND had said when a receive from it failed is lost.
@test "a session whose socket fails is over, and what the peer sends begins the next one" {
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails sendmmsg:EPIPE,ECONNRESET@@2
	all_became whole
	eventually times 2 e.log 'closed: (exited|closed), by inner'
	fails recvmmsg:ENOMEM@@2,6
	all_became 'over 1'
	eventually times 4 e.log 'closed: (exited|closed), by inner'
	as_before
}

@test "sessions that are cut: their COMMANDs are waited for, whatever fails" {
	HOW=(--event cut)
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails kill:EPERM,ESRCH@@1 waitid:EINTR@@1,2 wait4:EINTR@@1 read:EINTR,EAGAIN@@1 \
	    accept4:EINTR,ECONNABORTED@@1 epoll_wait:EINTR@@2+2
	all_became 'whole, cut'
	as_before
}

@test "a drain in which a COMMAND cannot be told is cut in time" {
	[ -z "${CCF_SAN-}" ] || export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0	# it ends in the hands of strace
	echo_stack --drain-timeout 300ms e=127.0.0.1:0 -- /bin/cat
	spawn u python3 "$HERE/peer/udp.py" ask 127.0.0.1 "${ADDR##*:}" 100
	ends_with 0 u
	spawn st strace -o /dev/null -e signal=none -e trace=shutdown -e inject=shutdown:error=ENOTCONN -p "${PID[e]}"
	eventually grep -qs 'strace:' st.log
	grep -q 'attached' st.log || skip "strace may not be attached here"
	kill -TERM "${PID[e]}"
	ends_with 28 e
	await_line e.log 'warn: not drained in time'
	await_line e.log 'closed: drain-timeout, by us'
	gone "${PID[st]}"
}

# --- a new program ---

@test "USR2: what cannot be taken over is not, one line says why, and sessions go on" {
	HOW=(--event renew)
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails memfd_create:EMFILE@@1,2 memfd_create:ENOMEM@@1 write:ENOSPC@@1,2 write:EIO@@1 fcntl:EPERM@@1,2,3 access:EACCES@@1 \
	    clone:EAGAIN,ENOMEM@@1 execve:EACCES,ENOMEM@@1
	became 'memfd_create EMFILE [12]: whole, \(Too many open files\)' 'memfd_create ENOMEM 1: whole, \(Cannot allocate memory\)' \
	    'write ENOSPC [12]: whole, \(No space left on device\)' 'write EIO 1: whole, \(Input/output error\)' \
	    'fcntl EPERM [13]: whole, \(Operation not permitted\)' 'fcntl EPERM 2: whole, \(it has not read the state\)' \
	    'access EACCES 1: whole, \(Permission denied\)' 'clone EAGAIN 1: whole, \(Resource temporarily unavailable\)' \
	    'clone ENOMEM 1: whole, \(Cannot allocate memory\)' 'execve EACCES 1: whole, \(Permission denied\)' \
	    'execve ENOMEM 1: whole, \(Cannot allocate memory\)'
	all_became 'whole, \(.*\)'
	times 14 e.log 'does not take over'
	run ! grep -E 'renewed:|closed: [^c]' e.log
	as_before
}

@test "USR2: what is to be done once more is done, and no session notices" {
	HOW=(--event renew)
	echo_stack e=127.0.0.1:0 -- /bin/cat
	fails write:EINTR@@1,2 kill:EPERM@@1 epoll_wait:EINTR@@1,2+2 read:EINTR,EAGAIN@@1 waitid:EINTR@@1 wait4:EINTR@@1 \
	    recvmmsg:EINTR@@1,2 sendmmsg:EINTR@@1
	all_became 'whole, renewed'
	run ! grep -E 'does not take over|closed: [^c]' e.log
	as_before
}

@test "USR2: a new program that cannot be run, or has not what it needs, is not taken" {
	requires plain
	HOW=(--event renew --follow)
	echo_stack e=127.0.0.1:0
	fails execve:ENOENT,ENOMEM@@1 epoll_create1:EMFILE@@1 getsockname:ENOBUFS@@1
	became 'execve (ENOENT|ENOMEM) 1: whole, \(status 126\)' 'epoll_create1 EMFILE 1: whole, \(status 1\)'
	all_became 'whole, \(status [0-9]+\)'
	times 1 e.log 'error: cannot run .*/ccf-udpecho: No such file or directory'
	times 1 e.log 'error: cannot make an event loop: Too many open files'
	as_before
}

# --- at the start ---

# start STATUS PATTERN CELL... -- ARG...: a ccf-udpecho for each cell.
start() {
	local opts=(--status "$1" --until "$2")

	[ -z "${CCF_SAN-}" ] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0	# LSan does not work in the hands of strace
	: >>start.log
	python3 "$HERE/peer/disturb.py" --limit "$LIMIT" --log start.log "${opts[@]}" --plain start - 127.0.0.1:0 "${@:3}"
}

# places CALL PATTERN ADDRESS: which of these calls at a start are such.
places() {
	[ -z "${CCF_SAN-}" ] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
	strace -o calls -e signal=none -e "trace=$1" ccf-udpecho "$3" none=fd:99 2>/dev/null || [ $? = 45 ]
	grep -n -E "$2" calls | cut -d : -f 1 | paste -s -d ,
}

@test "an echo that cannot start says why" {
	local at='error: cannot bind 127\.0\.0\.1:0: '

	start 45 "$at"'(Too many open files|Cannot allocate memory)' socket:EMFILE,ENFILE,ENOMEM@@1 -- ccf-udpecho 127.0.0.1:0
	start 45 "$at"'Address already in use \(ss -lunp says by whom\)' bind:EADDRINUSE@@1 -- ccf-udpecho 127.0.0.1:0
	start 45 "$at"'Permission denied' bind:EACCES@@1 -- ccf-udpecho 127.0.0.1:0
	start 45 "$at"'No buffer space' getsockname:ENOBUFS@@1 -- ccf-udpecho 127.0.0.1:0
	start 1 'cannot make an event loop: Too many open files' epoll_create1:EMFILE@@1 -- ccf-udpecho 127.0.0.1:0
	start 1 'cannot receive signals: Too many open files' signalfd4:EMFILE@@1 -- ccf-udpecho 127.0.0.1:0
	start 45 'cannot use fd:0: Too many open files' "fcntl:EMFILE@@$(places fcntl F_DUPFD fd:0)" -- ccf-udpecho fd:0
}

@test "an echo that would not be told which address was asked does not start" {
	local which

	which=$(places setsockopt IP_PKTINFO 0.0.0.0:0)
	start 45 'error: cannot bind 0\.0\.0\.0:0: ' "setsockopt:ENOPROTOOPT,ENOMEM@@$which" -- ccf-udpecho 0.0.0.0:0
	requires ipv6
	which=$(places setsockopt 'PKTINFO|V6ONLY' '[::]:0')
	[[ $which == *,*,* ]]
	start 45 'error: cannot bind \[::\]:0: ' "setsockopt:ENOPROTOOPT@@$which" -- ccf-udpecho '[::]:0'
	which=$(places setsockopt PKTINFO :0)
	start 45 'error: cannot bind :0 \(\[::\]:0\): ' "setsockopt:ENOPROTOOPT@@$which" -- ccf-udpecho :0
}

@test "an echo whose receive buffer cannot be raised says so, and answers" {
	local which

	which=$(places setsockopt SO_RCVBUF 127.0.0.1:0)
	[ -z "${CCF_SAN-}" ] || export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
	# -D: the tool is what is spawned
	spawn e strace -D -o trace -e signal=none -e "inject=setsockopt:error=ENOBUFS:when=${which%%,*}+" \
	    ccf-udpecho --receive-buffer 4M --ready-fd 9 --address-file a.json e=127.0.0.1:0
	python3 "$HERE/peer/udp.py" rounds 127.0.0.1 "$(address a.json e | sed 's/.*://')" 3
	grep -q 'SO_RCVBUF.*INJECTED' trace
	times 1 e.log 'info: e: the kernel gives a receive buffer of [0-9]+ bytes, not 4194304'
	stop e
	[ "$ended" = 0 ]
}

# --- the client ---

# asks [OPTION...] CELL...: ccf-connect for each cell.
asks() {
	local status=0

	[ -z "${CCF_SAN-}" ] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
	python3 "$HERE/peer/disturb_udp.py" --limit "$LIMIT" client "$ADDR" "$@" -- ccf-connect --window 8 "udp:$ADDR" >cells ||
	    status=$?
	cat cells
	[ "$status" = 0 ]
}

@test "a client that cannot begin says why" {
	echo_stack e=127.0.0.1:0
	asks socket:EMFILE@@1 connect:ECONNREFUSED,ENETUNREACH,EACCES@@1 epoll_create1:EMFILE@@1
	became 'socket EMFILE 1: 0 of 60 lines, status 7: cannot connect to udp:[^ ]+: Too many open files' \
	    'connect ECONNREFUSED 1: 0 of 60 lines, status 7: .*: Connection refused' \
	    'connect ENETUNREACH 1: 0 of 60 lines, status 7: .*: Network is unreachable' \
	    'connect EACCES 1: 0 of 60 lines, status 7: .*: Permission denied' \
	    'epoll_create1 EMFILE 1: 0 of 60 lines, status 1: cannot make an event loop: Too many open files'
	asks setsockopt:ENOMEM@@1,2,3 getsockname:ENOBUFS@@1
	all_became 'whole, status 0'
	as_before
}

@test "a client whose socket fails says so, and what it has printed is right" {
	echo_stack e=127.0.0.1:0
	asks recvmmsg:EINTR,EAGAIN@@1,3 sendmmsg:EINTR,EAGAIN@@1,3 epoll_wait:EINTR@@1,3 epoll_ctl:ENOMEM@@1,2
	all_became 'whole, status 0'
	asks recvmmsg:ENOMEM,EIO@@1,3 sendmmsg:ENOBUFS,EPERM,EMSGSIZE@@1,3
	all_became '[0-9]+ of 60 lines, status 1: cannot send to udp:[^ ]+: .*'
	asks recvmmsg:ECONNREFUSED@@1,3 sendmmsg:ECONNREFUSED,ENETUNREACH@@1,3
	all_became '[0-9]+ of 60 lines, status 7: .*'
	became 'recvmmsg ECONNREFUSED 3: .*: nobody receives at udp:[^ ]+ \(port unreachable\)' \
	    'sendmmsg ENETUNREACH 1: 0 of .*: Network is unreachable'
	as_before
}

@test "a client whose input or output fails says so" {
	echo_stack e=127.0.0.1:0
	asks --only in.fifo read:EINTR,EAGAIN@@1,2 poll:EINTR@@1
	all_became 'whole, status 0'
	asks --only out.fifo write:EINTR,EAGAIN@@1,3 poll:EINTR@@1
	all_became 'whole, status 0'
	asks --only in.fifo read:EIO@@1
	all_became '0 of 60 lines, status 1: cannot read standard input: Input/output error'
	asks --only in.fifo read:EIO@@2
	all_became '.*, status 1: cannot read standard input: Input/output error'
	asks --only out.fifo write:EIO,ENOSPC,EPIPE@@1,3
	all_became '[02] of 60 lines, status 23: standard output went away: .*; [0-9]+ answers had come'
	as_before
}
