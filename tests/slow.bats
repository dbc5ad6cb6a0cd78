# slow - who asks slowly, or reads slowly: each ends when his time is over, and the others are served meanwhile.
#
# (who runs this makes no difference; left out of brief runs)

# shellcheck disable=SC2004,SC2086	# ADDR and TLS go by names, and those are one word each
load helpers
load clients
load stands
load web
load control

# How long they may take: no machine stands still for so long, and who is slow is slower by far.
TIME=3

# stand_web NAME tls|plain SINK [OPTION...]: `web`, with these deadlines, for `client` too.
stand_web() {
	web "$1" "$2" "$3" --request-timeout ${TIME}s --idle-timeout ${TIME}s "${@:4}"
	ADDR[$1]=${WEB[$1]}
	TLS[$1]=${CA[$1]}
}

# --- slowhttptest ---

# attacked NAME PATH OPTION...: 30 slow ones, while somebody else asks, on one connection and on many.
attacked() {
	local name=$1

	askers same "${WEB[$name]}" ${CA[$name]}
	tell same open 2
	tell same work 1 2
	await_line same.out '^round 1$'
	askers other "${WEB[$name]}" ${CA[$name]}
	tell other visit /
	await_line other.out '^round 1$'
	spawn slow slowhttptest -c 30 -r 100 -i 1 -l 15 -p 15 -u "${URL[$name]}$2" "${@:3}"
}

# served: those were, every time, and within a time that is short for a machine that does nothing else.
served() {
	local who

	for who in same other; do
		await_line $who.out "^round $(($(grep -c '^round ' $who.out) + 3))\$"
		tell $who idle
		await_line $who.out '^worked '
		grep '^worked' $who.out
		times 1 $who.out '^worked [0-9]+ rounds, 0 lost, [0-9]{1,4} ms at most$'
	done
}

# over NAME REASON N: so many connections ended like that.
over() {
	figures term_$1 "ccfnet_connections_closed_total{reason=\"$2\"}=$3"
	eventually times "$3" term_$1.log "\"event\":\"close\".*\"reason\":\"$2\",\"by\":\"us\",\"status\":28"
}

slow_heads() {
	stand_web head $1 pages --idle-timeout 60s
	attacked head / -H
	over head request-timeout 30
	figures term_head 'ccfnet_http_requests_total{code="408"}=30'
	served
	eventually times 30 head.access '"status":408,'
	ends_with 0 slow
	free_web head
}

# free_web NAME: nobody is there any more, and nothing is held.
free_web() {
	tell same end
	tell other end
	figures term_$1 ccfnet_connections_active=0 ccfnet_buffered_bytes=0
	figures lst_$1 ccfnet_connections_active=0
}

@test "slowhttptest, slow heads: each gets his 408 at its deadline, and who asks properly is served throughout" {
	slow_heads plain
}

@test "slowhttptest, slow heads over TLS: each gets his 408 at its deadline, and who asks properly is served throughout" {
	slow_heads tls
}

@test "slowhttptest, slow bodies: each gets his 408 at its deadline, and who asks properly is served throughout" {
	stand_web body plain 'cat >/dev/null; printf "Content-Type: text/plain\n\nhello\n"' --idle-timeout 60s
	attacked body / -B
	over body request-timeout 30
	figures term_body 'ccfnet_http_requests_total{code="408"}=30'
	served
	eventually times 30 body.access '"status":408,'
	ends_with 0 slow
	free_web body
	figures term_body ccfnet_cgi_running=0
}

cut_at_least() {
	[ "$(grep -c '"status":200,.*"cut":true' read.access)" -ge "$1" ]
}

@test "slowhttptest, slow readers: each is cut at its deadline, and who asks properly is served throughout" {
	stand_web read plain 'printf "Content-Type: text/plain\n\n"; [ "$PATH_INFO" = / ] || exec head -c 8000000 /dev/zero'
	attacked read /big -X -n 1 -z 32 -w 512 -y 1024
	over read idle 30
	served
	eventually cut_at_least 30 # and the probes of slowhttptest, which do not read all either
	stop slow	# it does not look whether they are still connected
	free_web read
	figures term_read ccfnet_cgi_running=0
}

# --- one by one ---

# What a COMMAND says: to a PUT only when it has read all of it; much, to a GET of /big.
# shellcheck disable=SC2016
PATIENT='cat >/dev/null; printf "Content-Type: text/plain\n"
[ "$PATH_INFO" != /big ] || { echo; exec head -c 8000000 /dev/zero; }
printf "Content-Length: 6\n\nhello\n"'

# requests: files, with a request each, or the beginning of one.
requests() {
	printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >question
	printf 'GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >get_big
	printf 'GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: %1000s' '' >begun
	printf 'PUT /patient HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n' >put
	printf 'PUT /patient HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n' >put_chunked
	printf 'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n' >post
	head -c 300000 /dev/zero >body
	{
		for _ in {1..300}; do printf '3e8\r\n%1000s\r\n' ''; done
		printf '0\r\n\r\n'
	} >chunks
}

# told WHO NAME STATUS: that was what he read, all of it, and then an end.
told() {
	await_line "$1_$2.out" '^rest [0-9]+ ended$'
	head -n 1 "$1_$2.got" | grep -q "^HTTP/1.1 $3 "
}

# late WHO NAME STATUS SECONDS: the same, when its time was over.
late() {
	told "$1" "$2" "$3"
	in_time "$1" "$2" "$4"
}

# in_time WHO NAME SECONDS: he was done when that was over (by a clock of milliseconds), and not long after it.
in_time() {
	local took

	await_line "$1_$2.out" '^took '
	took=$(sed -n 's/^took //p' "$1_$2.out")
	echo "$1_$2 took $took ms"
	[ "$took" -ge $(($3 * 1000 - 5)) ]
	[ "$took" -lt $(($3 * 10000)) ]
}

# too_late WHO NAME [SECONDS]: he reads a 408, with CCF's words, at his deadline.
too_late() {
	late "$1" "$2" 408 "${3-$TIME}"
	tail -n 1 "$1_$2.got" | jq -e '.error == {"code": "RequestTimeout", "message": "The request did not come in time"}'
	grep -q -i '^Connection: close' "$1_$2.got"
}

@test "who is silent, and whose head or body trickles, ends at his deadline, not before; whose body comes at a pace may take long; TLS and plain" {
	local how who

	requests
	for how in tls plain; do
		stand_web $how $how "$PATIENT"
		client $how silent rest took
		client $how trickles pace=begun,1,0.1 rest=trickles_$how.got took
		client $how pieces pace=begun,20,0.7 rest=pieces_$how.got took
		client $how lazy send=put pace=body,200,0.1 rest=lazy_$how.got took
		client $how bytes send=put pace=body,1,0.1 rest=bytes_$how.got took
		client $how mute send=put rest=mute_$how.got took
		client $how chunky send=put_chunked pace=chunks,200,0.1 rest=chunky_$how.got took
		client $how steady send=put pace=body,4000,0.1 rest=steady_$how.got took
		client $how brisk send=put_chunked pace=chunks,4000,0.1 rest=brisk_$how.got took
		client $how idles send=question rest=idles_$how.got took
		client $how again send=question 'until=hello\n' wait=1 pace=begun,1,0.1 rest=again_$how.got took
	done
	begin
	for how in tls plain; do
		in_time silent $how $TIME
		times 1 silent_$how.out '^rest 0 ended$'
		for who in trickles pieces lazy bytes mute chunky; do too_late $who $how; done
		times 1 idles_$how.out "^rest $(stat -c %s idles_$how.got) ended\$"
	done
	for how in tls plain; do
		late idles $how 200 $TIME
		[ "$(grep -c '^HTTP/1.1' idles_$how.got)" = 1 ]	# not a word more
		too_late again $how $((TIME + 1))
		for who in steady brisk; do
			late $who $how 200 $((TIME * 2))
			tail -n 1 ${who}_$how.got | grep -x hello
		done
		figures term_$how ccfnet_connections_active=0 ccfnet_buffered_bytes=0 ccfnet_cgi_running=0 \
		    'ccfnet_http_requests_total{code="408"}=7' 'ccfnet_http_requests_total{code="200"}=4' \
		    'ccfnet_connections_closed_total{reason="request-timeout"}=8' 'ccfnet_connections_closed_total{reason="idle"}=1'
		times 1 term_$how.log '"event":"close".*"reason":"idle","by":"us","status":0'
		times 8 term_$how.log '"event":"close".*"reason":"request-timeout","by":"us","status":28'
		times 7 $how.access '"status":408,.*"cut":false'
	done
}

@test "before a guard: a head that trickles costs no backend; a body that does is cut there, too, and never looks whole" {
	local how

	requests
	http_backend
	printf 'PUT /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n' >put
	for how in tls plain; do
		stand_web $how $how guard
		client $how trickles pace=begun,1,0.1 rest=trickles_$how.got took
		client $how lazy send=put pace=body,200,0.1 rest=lazy_$how.got took
	done
	begin
	for how in tls plain; do
		too_late trickles $how
		too_late lazy $how
		over $how request-timeout 2
	done
	eventually times 2 http.log '^PUT /slow reset [0-9]+ of 300000$'
	times 2 http.log .	# and nothing else
}

@test "who reads slowly is served whole, however long it takes; who does not read is cut, and what was held for him is free; TLS and plain" {
	local how who

	requests
	for how in tls plain; do
		stand_web $how $how "$PATIENT"
		stand_web echo-$how $how pages --max-body-size 2G
		client $how steady send=get_big sip=800000,0.7 took
		client $how deaf --small send=get_big await=over rest
		client echo-$how deaf --small send=post fill await=over rest
		client echo-$how early send=post pace=body,100,0.1 rest took
	done
	begin
	for how in tls plain; do
		for who in $how echo-$how; do
			over $who idle 1
			times 0 deaf_$who.out '^rest'
		done
		over echo-$how request-timeout 1	# the answer had begun: nothing else can be said
		await_line early_echo-$how.out '^rest [0-9]+ (reset|failed)$'
		eventually times 1 echo-$how.access '"status":200,.*"in":[0-9]00,"out":[0-9]00,.*"cut":true'
		figures term_echo-$how ccfnet_buffered_bytes=0 ccfnet_connections_active=0
	done
	touch over
	for how in tls plain; do
		for who in $how echo-$how; do await_line deaf_$who.out '^rest [0-9]+ (reset|failed)$'; done
		await_line steady_$how.out '^sip '
		times 1 steady_$how.out '^sip 80[0-9]{5} ended$'
		in_time steady $how $((TIME * 2))
		figures term_$how ccfnet_buffered_bytes=0 ccfnet_connections_active=0 ccfnet_cgi_running=0
	done
}

@test "what a crowd that does not read is owed stays within --max-buffered, does not grow, and is free when they leave" {
	local i

	requests
	stand_web crowd plain pages --max-body-size 2G --max-buffered 1M --idle-timeout 100s --request-timeout 100s
	for i in {1..24}; do client crowd deaf$i --small send=post fill await=over reset; done
	begin
	for i in {1..24}; do await_line deaf${i}_crowd.out '^fill '; done
	figures term_crowd ccfnet_connections_active=24 ccfnet_buffered_limit_bytes=1048576
	eventually held_still
	[ "$HELD" -le $((1048576 + 24 * 16384)) ]	# a record each comes on top
	touch over
	figures term_crowd ccfnet_connections_active=0 ccfnet_buffered_bytes=0
}

# held_still: ten times in a row the same is held, HELD.
held_still() {
	local n

	HELD=$(figure term_crowd ccfnet_buffered_bytes)
	[ "$HELD" -gt 100000 ] || return
	for n in {1..10}; do
		[ "$(figure term_crowd ccfnet_buffered_bytes)" = "$HELD" ] || return
	done
}
