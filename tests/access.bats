# access - the access log: a line a request.
#
# (who runs this makes no difference)

load helpers
load clients
load control

# --- the access log ---
# four_requests: one that is answered, one for what is not there, one that is malformed, one whose client leaves in the middle of
# the answer; with what may stand in a value.  For http1 at ADDR.
four_requests() {
	printf 'GET /?a=b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a"b\\c\td \377\303\251e\r\nReferer: http://x/"\r\nConnection: close\r\n\r\n' >ok
	printf 'GET /none HTTP/1.0\r\n\r\n' >none
	printf 'GET /\33[2J HTTP/1.1\r\nHost: localhost\r\n\r\n' >bad
	printf 'POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n0123456789' >left
	askers cl "$ADDR"
	tell cl open 4
	tell cl say 1 1 ok
	tell cl rest 1 1
	await_line cl.out '^1 rest [0-9]+ ended'
	tell cl say 2 2 none
	tell cl rest 2 2
	await_line cl.out '^2 rest [0-9]+ ended'
	tell cl say 3 3 bad
	tell cl rest 3 3
	await_line cl.out '^3 rest [0-9]+ ended'
	tell cl say 4 4 left
	figures term ccfnet_connections_active=1
	tell cl end
	figures term ccfnet_connections_active=0
}

@test "--access-log: a line a request, in the combined form, the client's bytes escaped" {
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app http1 --control term.ctl --access-log access
	ADDR=$(address a.json rpc)
	four_requests
	eventually times 4 access .
	cat access
	local date='\[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} \+0000\]'
	times 1 access "^127\.0\.0\.1 - - $date \"GET /\?a=b HTTP/1\.1\" 200 [0-9]+ \"http://x/\\\\\"\" \"a\\\\\"b\\\\\\\\c\\\\x09d \\\\xff\\\\xc3\\\\xa9e\" rpc#1 [0-9]+\.[0-9]{6}\$"
	times 1 access "^127\.0\.0\.1 - - $date \"GET /none HTTP/1\.0\" 404 [0-9]+ \"-\" \"-\" rpc#2 [0-9]+\.[0-9]{6}\$"
	times 1 access "^127\.0\.0\.1 - - $date \"-\" 400 [0-9]+ \"-\" \"-\" rpc#3 [0-9]+\.[0-9]{6}\$"
	times 1 access "^127\.0\.0\.1 - - $date \"POST /echo HTTP/1\.1\" 200 10 \"-\" \"-\" rpc#4 [0-9]+\.[0-9]{6}\$"
	[ "$(stat -c %a access)" = 640 ]
	run ! grep -P '[^\n -~]' access
}

@test "--access-log with --log json: a line a request, each an object with the same keys, the client's bytes escaped" {
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app http1 --control term.ctl --log json --access-log access
	ADDR=$(address a.json rpc)
	four_requests
	eventually times 4 access .
	cat access
	jq -e -s 'length == 4 and all(.[]; .iface == "rpc" and (.conn | test("^rpc#[1-4]$")) and (.peer | test("^127[.]0[.]0[.]1:[0-9]+$"))
	    and (.ts | test("^[0-9-]{10}T[0-9:.]{12}Z$")) and (.seconds | type == "number" and . >= 0) and (.in | type) == "number")' access
	jq -e -s '.[0] | .method == "GET" and .target == "/?a=b" and .protocol == "HTTP/1.1" and .status == 200 and .in == 0 and .out > 50
	    and .cut == false and .referer == "http://x/\"" and (.agent | startswith("a\"b\\c\td ")) and (.agent | endswith("ée"))' access
	jq -e -s '.[1] | .target == "/none" and .protocol == "HTTP/1.0" and .status == 404 and (has("agent") | not)' access
	jq -e -s '.[2] | .status == 400 and (has("target") | not) and .cut == false' access
	jq -e -s '.[3] | .method == "POST" and .status == 200 and .in == 10 and .out == 10 and .cut == true' access
	run ! grep -P '[\x00-\x09\x0b-\x1f\x7f]' access
	python3 -c 'import json, sys
for line in open("access", encoding="utf-8", errors="strict"): json.loads(line)'
}

# ask_all FROM TO: each of these clients asks once more, and is answered.
ask_all() {
	local before

	before=$(grep -c ' 200$' cl.out) || :
	tell cl ask "$1" "$2"
	eventually times $((before + $2 - $1 + 1)) cl.out ' 200$'
}

@test "--access-log: after mv and HUP, or POST /reload, both workers write to the new file, and no line is lost or in both" {
	local n

	spawn term ccf-tlsterm --plaintext --from link --control term.ctl -j 2 --app http1 --access-log access
	spawn lst ccf-listen --to link --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	asked lst ': 2 links, '
	granted term
	askers cl "$(address a.json rpc)"
	tell cl open 8
	ask_all 1 8
	asked term ': 8 connections'
	for n in 1 2; do	# both have some of them
		[ "$(sed -n -E "s/.* worker $(worker term $n): ([0-9]+) connections,.*/\1/p" term.log | tail -n 1)" -ge 2 ]
	done
	eventually times 8 access '"GET / HTTP/1.1" 200'

	mv access access.1
	ask_all 1 8
	eventually times 16 access.1 '"GET / HTTP/1.1" 200'
	[ ! -e access ]
	kill -HUP "${PID[term]}"
	eventually test -e access
	answers 200 term GET /metrics	# whoever answers that has heard what was said before it
	ask_all 1 8
	eventually times 8 access '"GET / HTTP/1.1" 200'
	times 16 access.1 .

	mv access access.2
	answers 202 term POST /reload
	eventually test -e access
	kill_worker term 1
	await_line term.log 'worker 1 .* is up again'
	tell cl open 8
	eventually times 16 cl.out ' up$'
	ask_all 9 16
	eventually times 8 access '"GET / HTTP/1.1" 200'
	times 8 access.2 .
	times 16 access.1 .

	# where it cannot be: the one before stays
	rm access
	mkdir access
	answers 202 term POST /reload
	await_line term.log 'error: --access-log access: Is a directory; the one before stays in use'
	ask_all 9 16
	tell cl end
	figures term 'ccfnet_http_requests_total{code="200"}='"$((8 * 5))"
}

@test "--access-log -: among the lines of the log; one that cannot be opened is said at once; one that is full is said once" {
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app http1 --control term.ctl --access-log -
	askers cl "$(address a.json rpc)"
	tell cl open 2
	ask_all 1 2
	eventually times 2 term.log '^127\.0\.0\.1 - - \[.*"GET / HTTP/1\.1" 200 '
	tell cl end
	ends_with 0 cl
	stop lst
	ends_with 0 term

	expect_status 1 ccf-tlsterm --plaintext --app http1 --from link --access-log nowhere/access
	[[ $output == *'--access-log nowhere/access: No such file or directory'* ]]
	expect_status 2 ccf-tlsterm --plaintext --app echo --from link --access-log access
	[ ! -e access ]

	rm cl.in
	pipeline lst2 ccf-listen --to - --ready-fd 9 --ready-when listening --address-file b.json rpc=127.0.0.1:0 '|' \
	    term2 ccf-tlsterm --plaintext --app http1 --access-log /dev/full
	askers cl "$(address b.json rpc)"
	tell cl open 4
	ask_all 1 4
	await_line term2.log 'error: --access-log: cannot write: No space left on device; lines are lost until it works again'
	ask_all 1 4
	times 1 term2.log access-log
}
