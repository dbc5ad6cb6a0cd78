# inject - system calls that fail: with every one that a terminator makes, at the first and at a later call, no process crashes,
# spins or keeps what it should have let go, no byte is wrong, and no end of stream comes before the bytes do.
#
# tests/peer/disturb.py runs the cells of a table, and knows what is right.  The errors of a call are those it can come to.  Of
# the product of calls, errors and places a fixed part is run: each call with each of its errors, at the first and at one later
# place; CCF_INJECT=all runs it whole, in some minutes.  What is the same code with every sink is disturbed with one.  Not at
# all: calls that cannot fail (getpid), those whose failure would only be pretended (close: the descriptor would stay;
# EPOLL_CTL_DEL), and those whose errors mean that the program is wrong (getsockopt, fstat).
#
# Under a sanitizer the processes that strace was attached to end without it, so leaks are looked for.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load inject

@test "a worker with a session: whatever call fails, the client gets every byte, or sees that it does not" {
	stack "${TLS[@]}" --app echo
	disturb worker --mortal recvfrom:EINTR,EAGAIN recvfrom:ECONNRESET@1,3,7 recvfrom:ENOBUFS,ENOMEM@4 sendto:EINTR,EAGAIN,EPIPE \
	    sendto:ENOBUFS,ENOMEM,ECONNRESET@1,7 recvmmsg:EINTR,EAGAIN,ECONNRESET sendmmsg:EINTR,EAGAIN,ENOBUFS,ENOMEM,EPIPE \
	    sendmmsg:ETOOMANYREFS,ECONNRESET@1 epoll_wait:EINTR epoll_ctl:ENOMEM,ENOSPC@@1,3 setsockopt:ENOMEM@1,2 shutdown:ENOTCONN@1 \
	    ioctl:ENOMEM@1 write:EINTR,EAGAIN,ENOSPC@1
	drained tls
}

@test "a worker that hands on over a link: nor does the backend take a part for the whole" {
	backend
	stack "${TLS[@]}" --to - '|' con ccf-connect --from - "$BACKEND"
	disturb worker --mortal recvfrom:EINTR,EAGAIN,ECONNRESET@9 sendto:EINTR,EAGAIN,ENOBUFS,EPIPE@9 recvmmsg:EINTR,EAGAIN,ECONNRESET@2 \
	    sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS,EPIPE epoll_ctl:ENOMEM@@1,2,4,5 setsockopt:ENOMEM@2 shutdown:ENOTCONN@1,2
	drained backend
}

@test "a worker that hands on one end of a pair" {
	spawn con python3 "$HERE/peer/handoff.py" consume bind:plain --echo
	eventually test -S plain
	stack "${TLS[@]}" --to dial:plain
	disturb worker --mortal socketpair:EMFILE,ENFILE,ENOMEM,ENOBUFS@1 sendmmsg:EAGAIN,ETOOMANYREFS recvfrom:EINTR,EAGAIN,ECONNRESET@7 \
	    sendto:EINTR,EAGAIN,ENOBUFS@7 shutdown:ENOTCONN@1
	drained tls
}

@test "a worker without TLS: splice and its pipes" {
	HOW=(--plain)
	backend
	stack --plaintext --to - '|' con ccf-connect --from - "$BACKEND"
	disturb worker --mortal splice:EINTR,EAGAIN,ENOMEM,ECONNRESET,EPIPE recvfrom:EINTR,EAGAIN,ECONNRESET@1 sendto:EINTR,EAGAIN,EPIPE@1 \
	    shutdown:ENOTCONN@1
	[ -n "${CCF_SAN-}" ] || disturb master --event restart --follow --mortal pipe2:EMFILE,ENFILE@@1 fcntl:EPERM@@1,2
	drained backend
}

@test "COMMANDs: the worker that asks for one" {
	stack "${TLS[@]}" -- cat
	disturb worker --mortal socketpair:EMFILE,ENFILE,ENOMEM@1 sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS recvmmsg:EINTR,EAGAIN,ECONNRESET \
	    recvfrom:EINTR,EAGAIN@5+3 recvfrom:ECONNRESET@@1,3 sendto:EINTR,EAGAIN,ENOBUFS@5+3
	drained tls
}

@test "COMMANDs: the master that starts them and hears that they have ended" {
	stack "${TLS[@]}" -- cat
	disturb master vfork:EAGAIN,ENOMEM@1 recvmmsg:EINTR,EAGAIN,ECONNRESET sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS@1 \
	    read:EINTR,EAGAIN@1 waitid:EINTR wait4:EINTR@1 epoll_wait:EINTR
	drained tls
}

@test "a reload: what cannot be loaded is not, the next one is" {
	stack "${TLS[@]}" --app echo
	disturb master --event reload openat:EMFILE,ENFILE,EIO,ENOMEM@2 openat:EMFILE@1 read:EINTR@1,2 read:EIO@3 \
	    newfstatat:EACCES@3 memfd_create:EMFILE,ENOMEM@1 write:EINTR,ENOSPC@@1 fcntl:EPERM@1 sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS@1 \
	    epoll_wait:EINTR@2
	disturb worker --mortal --event reload recvmmsg:EINTR,EAGAIN,ECONNRESET@1 pread64:EINTR,EIO@1
	drained tls
}

@test "a worker is started again, as often as it takes" {
	requires plain
	stack "${TLS[@]}" -j 8 --app echo
	disturb master --event restart --follow --mortal socketpair:EMFILE@@1 clone:EAGAIN@@1 waitid:EINTR@@1 wait4:EINTR@@1 \
	    sendmmsg:ENOBUFS@@1 recvmmsg:ECONNRESET@@1 epoll_create1:EMFILE@@1 epoll_ctl:ENOMEM@@1 mmap:ENOMEM@@1
	drained tls
}

@test "links that come again: those that the master accepts, and those that it dials" {
	requires plain
	backend
	spawn con ccf-connect --from plain "$BACKEND"
	spawn tls ccf-tlsterm "${TLS[@]}" --no-sandbox -j 8 --from taken --to plain
	spawn lst ccf-listen --to taken --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	disturb master --event restart --mortal accept4:EINTR,ECONNABORTED,EMFILE,ENOBUFS@@1 socket:EMFILE@@1 \
	    connect:ECONNREFUSED,EAGAIN,EINTR@@1
	drained tls
	drained backend
}

# alone WHOM OPTION... CELL... -- PROGRAM: a process of its own for each cell.
alone() {
	[ -z "${CCF_SAN-}" ] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0	# LSan does not work in the hands of strace
	python3 "$HERE/peer/disturb.py" "${ALL[@]}" --limit "$LIMIT" --log alone.log "$1" "$CA" "${ADDR-127.0.0.1:0}" "${@:2}"
}

@test "one connection on descriptor 0" {
	alone server recvfrom:EINTR,EAGAIN,ENOMEM,ECONNRESET sendto:EINTR,EAGAIN,ENOBUFS,ECONNRESET,EPIPE epoll_wait:EINTR \
	    epoll_ctl:ENOMEM@@1,2 shutdown:ENOTCONN@1 setsockopt:ENOMEM@1 -- ccf-tlsterm "${TLS[@]}" --no-sandbox --app echo
	alone server --only "$CERTS/chain.pem" openat:EMFILE,EIO@1 read:EINTR,EIO@1 -- ccf-tlsterm "${TLS[@]}" --no-sandbox --app echo
	alone server socketpair:EMFILE,ENFILE@1 vfork:EAGAIN@1 waitid:EINTR@1 wait4:EINTR@1 signalfd4:EMFILE@1 epoll_create1:EMFILE@1 \
	    recvfrom:EAGAIN@5+3 sendto:EAGAIN@5+3 -- \
	    ccf-tlsterm "${TLS[@]}" --no-sandbox -- cat
}

@test "one connection as a client, on standard input and output" {
	stack "${TLS[@]}" --app echo
	alone client recvfrom:EINTR,EAGAIN,ECONNRESET sendto:EINTR,EAGAIN,ENOBUFS,EPIPE write:EINTR,EAGAIN,EPIPE poll:EINTR \
	    epoll_wait:EINTR epoll_ctl:ENOMEM@@1,2 -- ccf-tlsterm --client --ca "$CA" --servername localhost --no-sandbox
}

@test "a terminator that cannot start says why" {
	local start=(ccf-tlsterm "${TLS[@]}" --no-sandbox --from taken --app echo)

	: >alone.log
	alone start --status 1 --until 'chain.pem: Too many open files' --only "$CERTS/chain.pem" openat:EMFILE@@1 -- "${start[@]}"
	alone start --status 58 --until 'chain.pem: Input/output error' --only "$CERTS/chain.pem" openat:EIO@@1 read:EIO@@1 -- "${start[@]}"
	alone start --status 1 --until 'cannot keep the certificates in memory: Too many open files' memfd_create:EMFILE@@1 -- "${start[@]}"
	alone start --status 1 --until 'cannot start a worker: Resource temporarily unavailable' clone:EAGAIN@@1 -- "${start[@]}"
	alone start --status 1 --until 'cannot start a worker: Too many open files' socketpair:EMFILE@@1 -- "${start[@]}"
	alone start --status 1 --until 'cannot make an event loop: Too many open files' epoll_create1:EMFILE@@1 -- "${start[@]}"
	alone start --status 1 --until 'cannot receive signals: Too many open files' signalfd4:EMFILE@@1 -- "${start[@]}"
	start=("${start[@]/taken/bind:taken}")
	alone start --status 45 --until 'cannot bind it: Too many open files' socket:EMFILE@@1 -- "${start[@]}"
	alone start --status 45 --until 'cannot bind it: No buffer space' bind:ENOBUFS@@1 listen:ENOBUFS@@1 -- "${start[@]}"
	[ ! -e taken ]
}

# --- valgrind ---

requires_valgrind() {
	requires plain
	[ -n "$(type -P valgrind)" ] || skip "valgrind is not available here"
	TLSTERM=(valgrind --leak-check=full --show-leak-kinds=definite --log-file=valgrind.%p ccf-tlsterm)
}

# moves [CELL...]: a client's bytes go there and back, undisturbed or not.
moves() {
	python3 "$HERE/peer/disturb.py" --bytes 300000 --limit 60 --calls 20000 --noise 1000 --mortal --log tls.log --closed lst.log \
	    "worker:${PID[tls]}" "$CA" "$ADDR" "$@" || [ $? = 77 ]
}

# clean LOG...: these have come to their end, nobody with an error, or with memory that nobody knew of any more.  (Those that
# became a COMMAND have no end.)
clean() {
	cat valgrind.*
	run ! grep -E 'ERROR SUMMARY: [1-9]|definitely lost: [1-9]' valgrind.*
	[ "$(grep -l -E 'definitely lost: 0 bytes|no leaks are possible' "$@" | wc -l)" = $# ]
}

# drained_clean: the terminator and its worker end, and both are clean.
drained_clean() {
	local worker

	worker=$(cut -d ' ' -f 1 "/proc/${PID[tls]}/task/${PID[tls]}/children")
	drained tls
	clean "valgrind.${PID[tls]}" "valgrind.$worker"
}

@test "under valgrind: a session, calls that fail, a reload, a drain" {
	requires_valgrind
	stack "${TLS[@]}" --tickets 1h --app echo
	moves
	kill -HUP "${PID[tls]}"
	await_line tls.log 'loaded again'
	moves recvfrom:ECONNRESET,EAGAIN sendto:EPIPE sendmmsg:EPIPE@1
	drained_clean
}

@test "under valgrind: a link, calls that fail" {
	requires_valgrind
	backend
	stack "${TLS[@]}" --to - '|' con ccf-connect --from - "$BACKEND"
	moves
	moves recvfrom:ECONNRESET sendto:EPIPE
	drained_clean
}

@test "under valgrind: COMMANDs, calls that fail" {
	requires_valgrind
	stack "${TLS[@]}" -- cat
	moves
	moves recvfrom:ECONNRESET@3 socketpair:EMFILE@1
	drained_clean
}

@test "under valgrind: one connection, as a server and as a client" {
	requires_valgrind
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- "${TLSTERM[@]}" "${TLS[@]}" --no-sandbox --app echo
	head -c 300000 /dev/urandom >in
	expect_status 0 sh -c "ccf-connect $(address a.json rpc) -- ${TLSTERM[*]} --client --no-sandbox --ca $CA --servername localhost <in >out"
	cmp in out
	is_open 0
	clean valgrind.*
	times 2 <(cat valgrind.*) 'HEAP SUMMARY'
}
