# inject_http - system calls that fail (see inject.bats) under HTTP: a client gets the right answer whole, or an error answer of ours,
# or sees that it is cut; who comes after it is served; and nothing is kept.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control
load inject

# http_stack OPTION...: with control sockets; what clients do is requests.
http_stack() {
	LISTEN=(--control lst.ctl)
	HOW+=(--http --bytes 200000)
	stack --app http1 --control tls.ctl "$@"
}

# page_backend: answers what the built-in pages answer.
page_backend() {
	HOW+=(--http --bytes 200000)
	backend
}

# a_script: says what it reads.
a_script() {
	cat >script <<-'EOF'
		#!/bin/sh
		printf 'Content-Type: text/plain\r\n\r\n'
		[ "$REQUEST_METHOD" != POST ] || exec cat
		echo 'The page of rpc#0.'
	EOF
	chmod +x script
}

# calm [SERIES=VALUE...]: nobody is served any more, and no script is left.
calm() {
	figures tls ccfnet_connections_active=0 ccfnet_buffered_bytes=0 "$@"
	figures lst 'ccfnet_interface_active{interface="rpc"}=0'
	eventually no_scripts
}

no_scripts() {
	[ "$(wc -w <"/proc/${PID[tls]}/task/${PID[tls]}/children")" = 1 ]
}

# In the order of epoll_ctl's calls here every second one or so is EPOLL_CTL_DEL (see inject.bats); the places are those of others.

@test "the pages that are built in" {
	http_stack "${TLS[@]}"
	disturb worker --mortal recvfrom:EINTR@1,7 recvfrom:EAGAIN@5+3 recvfrom:ECONNRESET@1,7,10 recvfrom:ENOMEM@9 \
	    sendto:EINTR@7 sendto:EAGAIN@5+3 sendto:EPIPE@1,5+3 sendto:ENOBUFS@5 recvmmsg:EINTR,EAGAIN@1 \
	    sendmmsg:EAGAIN,ENOBUFS@1 epoll_wait:EINTR@5+3 epoll_ctl:ENOMEM@@1,3 setsockopt:ENOMEM@1 shutdown:ENOTCONN@1
	calm
	drained tls
}

@test "the pages that are built in, without TLS" {
	HOW=(--plain)
	http_stack --plaintext
	disturb worker --mortal recvfrom:EINTR,EAGAIN,ECONNRESET sendto:EAGAIN,EPIPE sendto:ENOBUFS@3 epoll_ctl:ENOMEM@@1 \
	    shutdown:ENOTCONN@1
	calm
	drained tls
}

@test "a guard: the backend is never given a part for the whole" {
	page_backend
	http_stack "${TLS[@]}" --to - '|' con ccf-connect --from - "$BACKEND"
	disturb worker --mortal recvmmsg:EINTR,EAGAIN,ECONNRESET@2 sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS@2+3 \
	    sendmmsg:EPIPE@1,3 recvfrom:EINTR@7 recvfrom:EAGAIN@5+3 recvfrom:ECONNRESET@3,9,15 sendto:EINTR@7 \
	    sendto:EAGAIN@5+3 sendto:EPIPE@@1 sendto:ENOBUFS@5,12 epoll_ctl:ENOMEM@@1,3,4 setsockopt:ENOMEM@2 \
	    shutdown:ENOTCONN@1
	calm
	drained tls
	drained backend
}

@test "a guard that hands on one end of a pair: without one it answers 502, for want of descriptors 503, and then it serves" {
	http_stack "${TLS[@]}" --to - '|' back ccf-tlsterm --plaintext --no-sandbox --from - --app http1
	disturb worker --mortal socketpair:EMFILE,ENFILE,ENOMEM@@1 sendmmsg:EAGAIN,ETOOMANYREFS@2+3 \
	    recvfrom:EINTR,EAGAIN,ECONNRESET@11 sendto:EINTR,EAGAIN@11 sendto:ENOBUFS@5,11 epoll_ctl:ENOMEM@@3,4
	became 'socketpair E(M|N)FILE 1: cut told 503' 'socketpair ENOMEM 1: cut told 502'
	calm
	drained tls
}

# Not disturbed: shutdown, which does not fail on a pair (the script would not learn that its input has ended), and EPIPE, which
# comes only if it reads no more.
@test "CGI: the worker that asks for a script, and hears and tells it" {
	a_script
	http_stack "${TLS[@]}" -- ./script
	disturb worker --mortal socketpair:EMFILE,ENFILE,ENOMEM@@1 sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS@5+3 \
	    recvmmsg:EINTR,EAGAIN@1 recvmmsg:ECONNRESET@2 recvfrom:EINTR@7 recvfrom:EAGAIN@5+3 \
	    recvfrom:ECONNRESET,ENOMEM@5,13,18 sendto:EINTR,EAGAIN@9 sendto:ENOBUFS@3,9,12 epoll_ctl:ENOMEM@@1,3,4
	became 'socketpair E(M|N)FILE 1: cut told 503' 'socketpair ENOMEM 1: cut told 500'
	calm ccfnet_cgi_running=0 ccfnet_cgi_waiting=0
	drained tls
}

@test "CGI: the master that starts scripts, tells them to go, and hears that they have ended" {
	a_script
	http_stack "${TLS[@]}" -- ./script
	disturb master --leave vfork:EAGAIN@1 vfork:EAGAIN,ENOMEM@@2 ioctl:EPERM@@2 recvmmsg:EINTR,EAGAIN,ECONNRESET@5+3 \
	    sendmmsg:EINTR,EAGAIN,ENOBUFS,ETOOMANYREFS@1 read:EINTR@1 waitid:EINTR@1 wait4:EINTR@1 kill:ESRCH@@1 \
	    epoll_wait:EINTR@5+3
	became 'vfork E(AGAIN|NOMEM) 2: cut told 500' 'ioctl EPERM 2: cut told 500'
	if [ -z "${CCF_SAN-}" ]; then
		disturb master --follow execve:EACCES@@1 dup2:EBUSY@@1
		became 'execve EACCES 1: cut told 500(, 500)*' 'dup2 EBUSY 1: cut told 500(, 500)*'
	fi
	calm ccfnet_cgi_running=0 ccfnet_cgi_waiting=0
	drained tls
}

@test "the control socket of a terminator: it answers again, and its connections are served all the time" {
	http_stack "${TLS[@]}"
	disturb master --control tls.ctl accept4:EINTR,ECONNABORTED,EMFILE,ENOMEM@@1 recvfrom:EINTR,EAGAIN,ECONNRESET@1 \
	    sendto:EINTR,EAGAIN,ENOBUFS,EPIPE@1 sendmmsg:EAGAIN,ENOBUFS@1 recvmmsg:EINTR,EAGAIN@1 epoll_ctl:ENOMEM@@1
	calm
	drained tls
}

@test "the control socket of a listener, and its connections" {
	http_stack "${TLS[@]}"
	disturb lst --control lst.ctl accept4:EINTR,ECONNABORTED@@1 accept4:EMFILE@@1,2,3 accept4:ENOMEM@@2 \
	    recvfrom:EINTR,EAGAIN,ECONNRESET@1 sendto:EINTR,EAGAIN,ENOBUFS,EPIPE@1 epoll_ctl:ENOMEM@@1
	calm
	drained lst
	ends_with 0 tls
}

# requests_with_lines: each request has its line, but those that are said to be lost.
requests_with_lines() {
	local lost

	lost=$(sed -n -E 's/.*--access-log: works again; ([0-9]+) lines? w.*/\1/p' tls.log | awk '{ n += $1 } END { print n + 0 }')
	[ "$(figure tls 'ccfnet_http_requests_total{code="200"}')" = $(($(wc -l <access) + lost)) ]
	run ! grep -v -E '" 200 [0-9]+ "-" "-" rpc#[0-9]+ [0-9.]+$' access
}

@test "an access log that cannot be written: requests are served, it is said once, and lines come again" {
	http_stack "${TLS[@]}" --access-log access
	disturb worker writev:ENOSPC,EIO,EAGAIN@@1+ writev:ENOSPC@@2+2 writev:EINTR@@1,2+2
	eventually requests_with_lines
	times 3 tls.log 'error: --access-log: cannot write: No space left on device'
	times 1 tls.log 'error: --access-log: cannot write: Input/output error'
	times 1 tls.log 'error: --access-log: cannot write: Resource temporarily unavailable'
	times 3 tls.log 'warn: --access-log: works again; 5 lines were lost'
	calm
	drained tls
}
