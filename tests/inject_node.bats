# inject_node - system calls that fail (see inject.bats) under links between nodes: nothing is told to be delivered that was not,
# every message is delivered, dropped, refused or unknown, and told so; what cannot be saved is told; the node goes on, or ends
# with a status and a line that say what failed; nothing is kept, and nothing is tried over and over.
#
# tests/peer/disturb_node.py runs the cells.  Not disturbed, besides what inject.bats says: brk, which does not fail that way.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control
load nodes
load inject

setup() {
	requires strace plain
	common_setup
	HOW=()
	mkdir dir
}

# --- one that gets through its commands ---

# goes CELL...: a node for each cell.  HOW: its options.
goes() {
	local status=0

	python3 "$HERE/peer/disturb_node.py" --limit "$LIMIT" --save dir once "$@" -- ccf-nodelink --id n0 --peer p1=ADDRESS \
	    --format json --save dir --max-event 3000 "${HOW[@]}" >cells || status=$?
	cat cells
	[ "$status" = 0 ]
}

# all_became PATTERN: of each cell, in the last goes or fails.  became PATTERN...: of some one.
all_became() {
	run ! grep -v -x -E "[^:]+: $1; [0-9]+ injected, [0-9]+ calls" cells
}

# its CALL PATTERN: which of these calls of such a node are such (the others are the dynamic linker's).
its() {
	awk -v call="$1" -v such="$2" '
		index($0, call "(") == 1 { n++; if ($0 ~ such) at = at (at ? "," : "") n }
		END { print at; exit !at }' calls
}

# a_node: the calls of one that is not disturbed are in `calls`.
a_node() {
	peer p1 listen --connections 0 --echo --from p1 --quiet
	head -c 20000 /dev/zero >ledger.20000
	printf 'send p1 1 hello\nsend p1 1 file:ledger.20000\nping p1\n' |
	    strace -o calls -e signal=none ccf-nodelink --id n0 --peer "p1=${AT[p1]}" --save dir --max-event 3000 >/dev/null
	rm dir/*
}

@test "a node that cannot begin says why" {
	a_node
	goes epoll_create1:EMFILE@@1 signalfd4:EMFILE@@1 rt_sigprocmask:EINVAL@@1 getrandom:ENOSYS@@2 \
	    prlimit64:EPERM@@"$(its prlimit64 'NOFILE, NULL' | cut -d , -f 1)" newfstatat:EIO@@"$(its newfstatat '"dir"')"
	all_became '0 of 6, status 1: error: .*'
	became 'epoll_create1 EMFILE 1: .*: cannot make an event loop: Too many open files' \
	    'signalfd4 EMFILE 1: .*: cannot receive signals: Too many open files' \
	    'getrandom ENOSYS 2: .*: no random bytes: Function not implemented' \
	    'newfstatat EIO [0-9]+: .*: --save dir: Input/output error'
}

@test "commands that cannot be read, and events that cannot be written, end it: 1, 23" {
	a_node
	goes read:EIO@@"$(its read '^read\(0')"
	all_became '(whole|. of 6), status 1: error: cannot read the commands: Input/output error'
	goes read:EINTR,EAGAIN@@"$(its read '^read\(0')" write:EINTR,EAGAIN@@"$(its write '^write\(1' | cut -d , -f 1)"
	all_became 'whole, status 0'
	goes write:EIO,ENOSPC,EPIPE@@"$(its write '^write\(1' | cut -d , -f 1)"
	all_became '.*, status 23: error: cannot write the events to standard output: .*'
}

@test "a dial that fails is told with its reason, and what waited for it is dropped" {
	goes socket:EMFILE,ENOMEM@@1 connect:ECONNREFUSED,ENETUNREACH,EACCES@@1 setsockopt:ENOMEM@@1
	became 'connect ECONNREFUSED 1: 0 of 6, status 7: .* cannot connect to .*: Connection refused' \
	    'connect ENETUNREACH 1: 0 of 6, status 7: .* cannot connect to .*: Network is unreachable' \
	    'connect EACCES 1: 0 of 6, status 7: .* cannot connect to .*: Permission denied'
	goes setsockopt:ENOMEM@@6,8,12 getsockname:ENOBUFS@@1 getpeername:ENOTCONN@@1,2 getsockopt:ENOPROTOOPT@@1 fcntl:EBADF@@5 \
	    poll:EINTR@@1,2
	all_became 'whole, status 0'
}

@test "what is to be done once more is done, and nothing is lost and nothing comes twice" {
	goes recvmsg:EINTR@@1,2,3 sendmsg:EINTR,EAGAIN@@1,2 sendfile:EINTR,EAGAIN@@1,2 epoll_wait:EINTR@@1,2,3+2 epoll_ctl:ENOMEM@@1,2
	all_became 'whole, status 0'
}

@test "a link that fails is over, and of each message it is known what became of it" {
	goes recvmsg:ECONNRESET,ENOMEM,ETIMEDOUT@@1 sendmsg:EPIPE,ECONNRESET,ENOBUFS@@1,2 sendfile:EIO,EINVAL,ENOMEM@@1,2
	all_became '.*, status 18: .*'
	became 'sendfile EIO 2: [0-9] of 6, status 18: Input/output error' 'sendmsg EPIPE 1: 0 of 6, status 18: Broken pipe'
	goes shutdown:ENOTCONN,ENOBUFS@@1
	all_became 'whole, status 0: .*'
}

@test "what the kernel has acknowledged, and does not say so, is unknown, and not delivered" {
	peer p1 listen --after 1:close
	SPAWN_IN=<(echo 'send p1 1 hello') spawn n0 strace -D -o trace -e signal=none -e inject=ioctl:error=EINVAL:when=1+ \
	    ccf-nodelink --id n0 --peer "p1=${AT[p1]}" --user-timeout 300ms	# -D: the tool is what is spawned
	ends_with 18 n0
	told n0 'link down p1 out .* delivered=0 dropped=0 unknown=1 kept=0.*'
	shown p1 '.event == "frame" and .hex == "68656c6c6f"'
}

@test "a file that cannot be opened is refused; a payload that cannot be saved is told, and the status is not 0" {
	local opens saves

	a_node
	opens=$(its openat ledger)
	saves=$(its openat '"dir/')
	goes openat:EMFILE,EACCES@@"$opens"
	all_became '5 of 6, status 2: send: cannot open ledger.20000: .*'
	goes openat:EMFILE@@"$((saves + 1))" renameat2:ENOSPC,EIO@@1
	all_became 'whole, 1 not kept, status 1: warn: p1#1 .*: a payload of [0-9]+ bytes could not be kept: .*'
	goes --only dir/.p1-1 write:ENOSPC,EIO@@1
	all_became 'whole, 1 not kept, status 1: warn: p1#1 .*: a payload of 20000 bytes could not be kept: .*'
	goes --only dir/.p1-1 write:EINTR@@1
	all_became 'whole, status 0'
	goes renameat2:EINVAL,EEXIST,ENOSYS@@1
	all_became 'whole, status 0'
}

# --- one that stays ---

# serving OPTION...: a node, n0.  HOW: the same for disturb_node.py.
serving() {
	P1=127.0.0.1:$(free_port)
	listener_of n0
	node_of n0 --format json --max-event 3000 --peer "p1=$P1" --log text "$@"
	fails	# what is made once is made
	HELD=$(held)
	RSS=$(rss_kib n0)
}

# fails [OPTION...] CELL...: see disturb_node.py.
fails() {
	local status=0

	python3 "$HERE/peer/disturb_node.py" --limit "$LIMIT" --orders n0.in --told n0.out --log n0.log --listener lst_n0.log --dials "$P1" \
	    "${HOW[@]}" "tool:${PID[n0]}" "${AT[n0]}" "$@" >cells || status=$?
	cat cells
	[ "$status" != 77 ] || skip "strace may not be attached here"
	[ "$status" = 0 ]
}

held() {
	find "/proc/${PID[n0]}/fd" -type l -printf '%l\n' | sed 's/[0-9]*\]//' | sort | uniq -c | tr -s '\n ' ' '
}

holds_the_same() {
	[ "$(held)" = "$HELD" ]
}

# as_before: it has no descriptor and no memory more than at first; and it ends.
as_before() {
	eventually holds_the_same || {
		echo "it holds $(held), not $HELD"
		return 1
	}
	[ "$(rss_kib n0)" -lt $((RSS + 4096)) ]
	stop n0
	[ "$ended" = 0 ]
}

@test "a node that stays: what is to be done once more is done, on every link" {
	HOW=(--save dir)
	serving --save dir
	fails recvmmsg:EINTR@@1 sendmmsg:EINTR,EAGAIN@@1 recvmsg:EINTR@@1,2,3+2 sendmsg:EINTR,EAGAIN@@1,2 sendfile:EINTR,EAGAIN@@1,2 \
	    epoll_wait:EINTR@@1,2+2 epoll_ctl:ENOMEM@@1,2,3 read:EINTR,EAGAIN@@1 renameat2:EINVAL@@1 ioctl:EINVAL@@1
	all_became whole
	as_before
}

@test "a node that stays: what fails costs one link, or one message, and is told; then all is as if nothing had been" {
	HOW=(--save dir)
	serving --save dir
	fails recvmsg:ECONNRESET,ENOMEM,ETIMEDOUT@@1 shutdown:ENOTCONN@@1
	all_became 'p[12]: .*'
	fails recvmmsg:ENOMEM@@1
	all_became '(p2: .*|whole)'
	fails sendfile:EIO@@1 sendmsg:EPIPE,ENOBUFS@@1 connect:ECONNREFUSED@@1
	all_became 'p1: (dropped [1-6]|unknown [1-6]|dropped [1-5] unknown [1-5])'
	fails openat:EMFILE@@1,2,3 renameat2:ENOSPC@@1
	all_became '(p1: refused 1|p[12]: 1 not kept)'
	as_before
}

@test "an echo: what cannot be kept is not sent back as something else; a link that fails is over" {
	HOW=(--echo)
	serving --echo
	fails recvmsg:EINTR@@1,2 sendmsg:EINTR,EAGAIN@@1,2 sendfile:EINTR,EAGAIN@@1,2 epoll_wait:EINTR@@1+2
	all_became whole
	fails openat:EMFILE,ENOSPC@@1,2
	all_became 'p2: 1 not sent back'
	fails sendfile:EIO@@1,2 sendmsg:EPIPE@@1 recvmsg:ECONNRESET@@2
	all_became 'p2: [0-6] of [0-6], .*'
	as_before
}

@test "programs: what is to be done once more is done; one that cannot be served is cut, and the next one goes on" {
	HOW=(--app n0.app)
	serving --app n0.app
	fails recvmsg:EINTR@@1,2,3 sendmsg:EINTR,EAGAIN@@1,2 sendfile:EINTR,EAGAIN@@1,2,3 ioctl:EINVAL@@1
	all_became whole
	fails sendmsg:ENOBUFS@@1,2 sendfile:EIO@@1
	fails --attach accept4:EINTR,ECONNABORTED,EMFILE@@1
	all_became whole
	fails openat:EMFILE@@1,2
	all_became '(p1: refused 1|p[12]: 1 lost)'
	as_before
}

@test "out of descriptors: connections are not let in, messages wait or are refused, nothing spins; then it goes on" {
	HOW=(--save dir)
	serving --save dir
	fails nofile:EMFILE@@1,2,3
	grep -q 'Too many open files' n0.log
	as_before
}

@test "out of memory: what does not fit is refused, and what was taken is delivered" {
	local long

	peer p1 listen --after 0:stop --rcvbuf 64k --quiet
	NODE_IN=(prlimit --as=$((24 << 20)))
	caller n0 --peer "p1=${AT[p1]}" --max-queue 1G --user-timeout none
	printf -v long '%010000d' 0
	orders n0 < <(for ((i = 0; i < 3000; i++)); do echo "send p1 1 $i.$long"; done)
	told n0 'error: send: no memory'
	adds_up 'sent=[12][0-9]{3} delivered=[0-9]+ dropped=0 unknown=0 waiting=[1-9][0-9]+ .*'
	[ "$(sent)" = $((3000 - $(grep -c '^error: send: no memory' n0.out))) ]
	kill -USR1 "${PID[p1]}"
	adds_up "sent=$(sent) delivered=$(sent) dropped=0 unknown=0 waiting=0 .*"
	stop n0
	[ "$ended" = 2 ]	# commands were refused
	shown p1 ".event == \"end\" and .how == \"fin\" and .frames == $(sent)"
}

adds_up() {
	eventually says_links "$@"
}

says_links() {
	links n0 | grep -q -x -E -e "peer p1 .* $1"
}

sent() {
	sed -n 's/^peer p1 .* sent=\([0-9]*\) .*/\1/p' n0.out | tail -n 1
}
