# cgi - a COMMAND a request (RFC 3875): what it is told, what becomes of what it says, how many run at once, and how they end.
#
# (who runs this makes no difference)

# shellcheck disable=SC2004,SC2094	# what is there goes by names; nobody writes what he reads
load helpers
load clients
load control
load web

# Each way a request can come to a script: TLS and plain; by a link to a worker, whose master starts it, and on the one
# connection of a process.
WAYS=(tls plain tls-single plain-single)
BOTH=(tls plain-single)				# each of these once

# cgi NAME WAY [OPTION...] -- COMMAND...: like `web`; the terminator of a single connection is started by lst_NAME, and has its log.
# FRONT (env ...) starts the tools.
cgi() {
	local name=$1 way=$2 with=(--plaintext) scheme=http

	shift 2
	CA[$name]=
	if [[ $way = tls* ]]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		CA[$name]="--tls $CERTS/ca.pem"
		scheme=https
	fi
	with+=(--app http1 --access-log "$name.access" "$@")
	if [[ $way = *-single ]]; then
		LOG[$name]=lst_$name.log
		spawn lst_"$name" "${FRONT[@]}" ccf-listen --ready-fd 9 --address-file "$name.json" rpc=127.0.0.1:0 -- ccf-tlsterm "${with[@]}"
	else
		LOG[$name]=term_$name.log
		pipeline lst_"$name" "${FRONT[@]}" ccf-listen --to - --ready-fd 9 --ready-when listening --address-file "$name.json" \
		    rpc=127.0.0.1:0 '|' term_"$name" "${FRONT[@]}" ccf-tlsterm --control "term_$name.ctl" "${with[@]}"
	fi
	WEB[$name]=$(address "$name.json" rpc)
	URL[$name]=$scheme://${WEB[$name]}
}

setup() {
	declare -gA LOG=()
	FRONT=()
	common_setup
}

# script NAME: a shell script of standard input.
script() {
	{ echo '#!/bin/sh'; cat; } >"$1"
	chmod +x "$1"
}

# got CODE CURL-ARGUMENT...: that is the answer; got and got.head are its parts.
got() {
	local code

	code=$(fetch -o got -D got.head -w '%{http_code}' "${@:2}")
	[ "$code" = "$1" ] || {
		echo "$code, not $1: ${*:2}"
		cat got
		return 1
	}
}

# failed CODE JSON-CODE CURL-ARGUMENT...: the same of an error of ours.
failed() {
	got "$1" "${@:3}"
	jq -e --arg code "$2" '.error.code == $code and (.error.message | length) > 0' got >/dev/null
}

# is TEXT: the body is that.
is() {
	[ "$(cat got; echo x)" = "${1}x" ] || {
		echo "the answer is not $1:"
		cat got
		return 1
	}
}

# raw NAME STEP...: cutter.py, which is a client of NAME: its steps are in raw.out, what it got in the file of rest=FILE.
raw() {
	# shellcheck disable=SC2086	# two words or none
	timeout "$LIMIT" python3 "$HERE/peer/cutter.py" connect "${WEB[$1]}" ${CA[$1]} "${@:2}" >raw.out || [ $? = 18 ]
}

# start_raw WHO NAME STEP...: the same in the background, with its steps in WHO.out.
start_raw() {
	# shellcheck disable=SC2086	# two words or none
	spawn "$1" python3 "$HERE/peer/cutter.py" connect "${WEB[$2]}" ${CA[$2]} "${@:3}"
}

random() {	# random FILE BYTES
	head -c "$2" /dev/urandom >"$1"
}

# request FILE METHOD TARGET [FIELD...]: without a body.
request() {
	printf '%s\r\n' "$2 $3 HTTP/1.1" 'Host: localhost' "${@:4}" '' >"$1"
}

# happens N WORD: scripts have said it so often, sooner or later.
happens() {
	eventually times "$1" events "^$2\$" || {
		cat events
		return 1
	}
}

# base: how many processes of this test there are; nobody has a request.
base() {
	left_over | wc -l
}

is_base() {
	[ "$(base)" = "$1" ]
}

# What a script does that waits to be told: `. ./waits` defines say (into events) and hold (until `release`).
waits() {
	mkfifo never gate
	exec {GATE}<>gate
	cat >waits <<-'E'
		exec 3<>never 4<gate
		say() { echo "$1" >>events; }
		hold() { read -r _ <&4; }	# byte by byte, as a shell reads a pipe
		ever() { while :; do read -r _ <&3; done; }
	E
	: >events
}

release() {	# release [N]: so many of those who hold
	printf '%0*d' "${1-1}" 0 | tr 0 '\n' >&"$GATE"
}

# --- what it is told ---

# tells NAME WAY ARGUMENT...: a script that says its environment, of tools that are themselves told much.
tells() {
	local keep

	script environ <<-'E'
		printf 'Content-Type: application/octet-stream\n\n'
		cat "/proc/$$/environ"
	E
	KEPT=("PATH=$PATH" "TEST_MARK=$TEST_MARK" COLOR=blue http_proxy=http://proxy.example LD_PRELOAD= HTTPS_PROXY=x)
	for keep in ASAN_OPTIONS UBSAN_OPTIONS; do
		[ -z "${!keep-}" ] || KEPT+=("$keep=${!keep}")
	done
	FRONT=(env -i "${KEPT[@]}" HTTP_=planted HTTP_X=planted HTTP_PROXY=planted HTTP_COOKIE=planted REQUEST_METHOD=BREW CONTENT_LENGTH=999
	    CONTENT_TYPE=planted AUTH_TYPE=Basic REMOTE_USER=root REMOTE_IDENT=root PATH_TRANSLATED=/etc/passwd PATH_INFO=/planted
	    QUERY_STRING=planted HTTPS=on GATEWAY_INTERFACE=planted SERVER_NAME=planted SSL_CLIENT_S_DN=CN=root
	    SSL_CLIENT_VERIFY=SUCCESS SSL_PROTOCOL=TLSv9 SSL_X=planted PROTO=planted TCPREMOTEIP=192.0.2.1 TCPREMOTEINFO=planted
	    CCF_INTERFACE=planted CCF_X=planted)
	cgi "$@" -- ./environ
}

# told NAME CURL-ARGUMENT... -- VARIABLE...: the environment of that request is what is kept, what every one has, and these.
told() {
	local name=$1 ask=() port=${WEB[$1]##*:} mine

	shift
	while [ "$1" != -- ]; do
		ask+=("$1")
		shift
	done
	shift
	mine=$(fetch -A tests -H 'Accept:' -o got -w '%{local_port}' "${ask[@]}")
	sed -z -E -i 's/^(CCF_ACCEPTED|CCF_CONN_ID)=(rpc#)?[0-9]+$/\1=\2N/' got
	printf '%s\0' "${KEPT[@]}" GATEWAY_INTERFACE=CGI/1.1 "SERVER_SOFTWARE=$(ccf-tlsterm --version | sed -n -E '1s/^ccf-tlsterm \(ccf-net\) ([0-9.]+),.*/ccf-net\/\1/p')" \
	    SERVER_PROTOCOL=HTTP/1.1 "SERVER_PORT=$port" REMOTE_ADDR=127.0.0.1 REMOTE_HOST=127.0.0.1 "REMOTE_PORT=$mine" SCRIPT_NAME= \
	    HTTP_USER_AGENT=tests PROTO=TCP TCPLOCALIP=127.0.0.1 "TCPLOCALPORT=$port" TCPREMOTEIP=127.0.0.1 "TCPREMOTEPORT=$mine" \
	    CCF_INTERFACE=rpc CCF_CONN_ID=rpc#N CCF_ACCEPTED=N "$@" | sort -z | tr '\0' '\n' >wanted
	sort -z got | tr '\0' '\n' >had
	diff wanted had
}

@test "a script's environment is what the request, the connection and the caller say, and nothing besides" {
	local way

	for way in plain plain-single; do
		tells "$way" "$way"
		told "$way" "${URL[$way]}" -- REQUEST_METHOD=GET REQUEST_URI=/ PATH_INFO=/ QUERY_STRING= SERVER_NAME=127.0.0.1 \
		    "HTTP_HOST=${WEB[$way]}"
		told "$way" "${URL[$way]}/a%20b/%C3%A4//c;d?x=1&y=%2f%00?" -H 'Host: Some.Where:99' --data abc \
		    -H 'Content-Type: text/odd; a="b"' -H 'Proxy: http://evil.example' -H 'PROXY: twice' -H 'X_Under: no' -H 'X.Dot: no' \
		    -H 'X-Forwarded-For: 192.0.2.1' -H 'Authorization: Basic YTpi' -H 'Proxy-Authorization: Basic YTpi' -H 'Empty;' \
		    -H 'X-Two: 1' -H 'x-tWO: 2' -H 'Cookie: a=1' -H 'X-Two: 3' -H 'Cookie: b=2' -H 'LD-PRELOAD: evil.so' \
		    -H 'Remote-User: root' -H 'Https: on' -H 'Ssl-Client-S-Dn: CN=root' -H 'X-Shell: () { :;}; $(reboot)' \
		    -H 'CCF_X: evil' -H 'LD_PRELOAD: evil.so' -H 'Connection: keep-alive' -H $'X-High: \xe4"=' \
		    -- REQUEST_METHOD=POST 'REQUEST_URI=/a%20b/%C3%A4//c;d?x=1&y=%2f%00?' 'PATH_INFO=/a b/ä//c;d' \
		    'QUERY_STRING=x=1&y=%2f%00?' SERVER_NAME=Some.Where HTTP_HOST=Some.Where:99 CONTENT_LENGTH=3 \
		    'CONTENT_TYPE=text/odd; a="b"' HTTP_X_FORWARDED_FOR=192.0.2.1 HTTP_EMPTY= 'HTTP_X_TWO=1, 2, 3' \
		    'HTTP_COOKIE=a=1; b=2' HTTP_LD_PRELOAD=evil.so HTTP_REMOTE_USER=root HTTP_HTTPS=on 'HTTP_SSL_CLIENT_S_DN=CN=root' \
		    'HTTP_X_SHELL=() { :;}; $(reboot)' $'HTTP_X_HIGH=\xe4"='
	done
}

# cert_variables: of $CERTS/client.pem, with the verdict.
cert_variables() {
	THEIRS=("SSL_CLIENT_VERIFY=$1" "SSL_CLIENT_CERT=$(openssl x509 -in "$CERTS/client.pem")"$'\n'
	    'SSL_CLIENT_S_DN=CN=client one,O=ccf-net tests' 'SSL_CLIENT_I_DN=CN=intermediate,O=ccf-net tests'
	    'SSL_PEER_CERT_CN=client one'
	    "CCF_CLIENT_SHA256=$(openssl x509 -in "$CERTS/client.pem" -outform der | sha256sum | cut -d ' ' -f 1)")
}

@test "over TLS it also has what TLS says; who was verified is REMOTE_USER, and nobody else is" {
	local way ours

	certs
	for way in tls tls-single; do
		tells "$way" "$way" --client-ca "$CERTS/ca.pem"
		ours=(REQUEST_METHOD=GET REQUEST_URI=/ PATH_INFO=/ QUERY_STRING= SERVER_NAME=localhost "HTTP_HOST=localhost:${WEB[$way]##*:}"
		    HTTPS=on SSL_PROTOCOL=TLSv1.3 SSL_CIPHER=TLS_AES_256_GCM_SHA384 SSL_SESSION_RESUMED=Initial
		    SSL_TLS_SNI_SERVERNAME=localhost CCF_ALPN=http/1.1)
		URL[$way]=https://localhost:${WEB[$way]##*:}
		told "$way" "${URL[$way]}" -- "${ours[@]}" SSL_CLIENT_VERIFY=NONE
		cert_variables SUCCESS
		told "$way" "${URL[$way]}" --cert "$CERTS/client.pem" --key "$CERTS/client.key" \
		    -- "${ours[@]}" "${THEIRS[@]}" AUTH_TYPE=ClientCert 'REMOTE_USER=CN=client one,O=ccf-net tests'
		tells "$way"-let-in "$way"
		ours=("${ours[@]/localhost:*/localhost:${WEB[$way-let-in]##*:}}")
		cert_variables GENEROUS
		told "$way"-let-in "https://localhost:${WEB[$way-let-in]##*:}" --cert "$CERTS/client.pem" --key "$CERTS/client.key" \
		    -- "${ours[@]}" "${THEIRS[@]}"
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=client one/O=ccf-net tests' \
		    -keyout own.key -out own.pem 2>openssl.log
		got 200 "${URL[$way]}" --cert own.pem --key own.key
		tr '\0' '\n' <got >had
		grep -qx 'SSL_CLIENT_S_DN=O=ccf-net tests,CN=client one' had
		grep -q '^SSL_CLIENT_VERIFY=FAILED:' had
		run ! grep -E '^(REMOTE_USER|AUTH_TYPE)=' had
	done
}

@test "a path is decoded; one that a script could take for another is 400, and starts none" {
	local path

	script says <<-'E'
		echo ran >>events
		printf 'Content-Type: text/plain\n\n%s|%s|%s' "$PATH_INFO" "$QUERY_STRING" "$REQUEST_URI"
	E
	cgi plain plain -- ./says
	got 200 --path-as-is "${URL[plain]}/%41%2e%2E%7e/...//..a/./?%00/../%2f"
	is '/A..~/...//..a/./|%00/../%2f|/%41%2e%2E%7e/...//..a/./?%00/../%2f'
	got 200 -X OPTIONS --request-target '*' "${URL[plain]}"
	is '||*'
	got 200 --request-target "${URL[plain]}/x?y" "${URL[plain]}"
	is "/x|y|${URL[plain]}/x?y"
	for path in '%00' 'a%2fb' 'a%2Fb' '%' '%4' '%4g' '..' 'a/../b' 'a/..' '%2e%2e/a' 'a/.%2E'; do
		failed 400 InvalidInput --path-as-is "${URL[plain]}/$path"
	done
	happens 3 ran
}

@test "a script has 0 and 1 on the request, 2 on the log, and nothing else of ours: no descriptor, mask or ignored signal" {
	local way

	for way in "${WAYS[@]}"; do
		cgi "$way" "$way" -- sh -c 'printf "Content-Type: text/plain\n\n"; ls "/proc/$$/fd"; echo "to the log" >&2
		    grep ^flags: "/proc/$$/fdinfo/0"; grep -E "^Sig(Blk|Ign)" /proc/self/status; readlink /proc/$$/fd/0 /proc/$$/fd/1 | uniq | wc -l'
		got 200 "${URL[$way]}"
		tr -s '\t ' ' ' <got >had
		printf '%s\n' 0 1 2 'flags: 02' 'SigBlk: 0000000000000000' 'SigIgn: 0000000000000000' 1 >wanted
		diff wanted had
		await_line "${LOG[$way]}" '^to the log$'
	done
}

# --- what it is sent ---

@test "a body comes as it is: with a length, in chunks, of 1 MiB both ways, of nothing, after 100 Continue" {
	local way url

	script echoes <<-'E'
		printf 'Content-Type: application/octet-stream\nX-Length: %s\nX-Coding: %s\n\n' "${CONTENT_LENGTH-none}" "${HTTP_TRANSFER_ENCODING-none}"
		exec cat
	E
	random 1m 1048576
	for way in "${WAYS[@]}"; do
		cgi "$way" "$way" -- ./echoes
		url=${URL[$way]}
		echoed 1m 1048576 --data-binary @1m "$url"
		run ! grep -q '^HTTP/1.1 100' got.head
		echoed 1m none -T - "$url" <1m
		echoed 1m 1048576 --http1.0 --data-binary @1m "$url"
		echoed 1m 1048576 -H 'Expect: 100-continue' --expect100-timeout "$LIMIT" --data-binary @1m "$url"
		grep -q '^HTTP/1.1 100 Continue' got.head
		echoed 1m none -T - -H 'Expect: 100-continue' --expect100-timeout "$LIMIT" "$url" <1m
		grep -q '^HTTP/1.1 100 Continue' got.head
		echoed /dev/null 0 -d '' "$url"
		echoed /dev/null none -T - "$url" </dev/null
		echoed /dev/null none -X POST "$url"
		echoed /dev/null none "$url"
	done
}

# echoed FILE LENGTH CURL-ARGUMENT...: what comes back is that, and CONTENT_LENGTH was this.
echoed() {
	got 200 "${@:3}"
	cmp "$1" got
	grep -q "^X-Length: $2"$'\r' got.head && grep -q '^X-Coding: none' got.head
}

@test "chunks, their extensions and trailers are no part of a body" {
	script echoes <<-'E'
		printf 'Content-Type: text/plain\nX-Trailer: %s\n\n' "${HTTP_X_TRAILER-none}"
		exec cat
	E
	cgi plain plain -- ./echoes
	request chunked POST / 'Transfer-Encoding: Chunked' 'Connection: close'
	printf '5;a=b;c="d"\r\nhello\r\n00001\r\n \r\n5\r\nworld\r\n0;last\r\nX-Trailer: t\r\n\r\n' >>chunked
	raw plain send=chunked rest=answer
	grep -q '^rest [0-9]* ended$' raw.out
	grep -q '^X-Trailer: none' answer
	[ "$(sed '1,/^\r$/d' answer | tr -d '\r\n')" = '5hello11 5world0' ] || [ "$(sed '1,/^\r$/d' answer | tr -d '\r\n')" = 'bhello world0' ] || {
		cat answer
		false
	}
}

@test "a script that does not read its body, or not all of it, has its answer delivered" {
	local way i

	script ignores <<-'E'
		printf 'Content-Type: text/plain\nContent-Length: 6\n\nenough'
	E
	script half <<-'E'
		head -c 1000 >/dev/null
		printf 'Content-Type: text/plain\n\nenough'
	E
	random 1m 1048576
	random 1k 1024
	for way in "${BOTH[@]}"; do
		cgi "$way" "$way" -- ./ignores
		cgi "$way-half" "$way" -- ./half
		for i in 1 2; do
			got 200 --data-binary @1m "${URL[$way]}"
			is enough
			got 200 -T - "${URL[$way]}" <1m
			is enough
			got 200 --data-binary @1m "${URL[$way-half]}"
			is enough
		done
		# what is small is read and dropped, and the connection goes on
		[ "$(fetch --data-binary @1k -w ' %{num_connects} ' "${URL[$way]}" "${URL[$way]}")" = 'enough 1 enough 0 ' ]
	done
}

@test "an answer goes out while the request is still coming" {
	local way

	script early <<-'E'
		printf 'Content-Type: text/plain\n\nearly\n'
		wc -c
	E
	random body 5000
	request head POST / 'Content-Length: 5000' 'Connection: close'
	for way in "${BOTH[@]}"; do
		cgi "$way" "$way" -- ./early
		raw "$way" send=head until=early send=body rest=answer
		grep -q '^rest [0-9]* ended$' raw.out
		grep -q '^5000' answer
	done
}

# --- what it says ---

# sayings NAME WAY: a script that says what is in the file that the query names.
sayings() {
	script says <<<'cat "$QUERY_STRING"'
	cgi "$1" "$2" -- ./says
}

# becomes NAME METHOD-AND-VERSION LINE...: the file `it` on that connection becomes this answer, but for Date; it ends in order.
becomes() {
	local name=$1 method=${2% *} version=${2#* }

	shift 2
	printf '%s\r\n' "$method /?it HTTP/$version" 'Host: localhost' 'Connection: close' '' >ask
	raw "$name" send=ask rest=answer
	grep -q '^rest [0-9]* ended$' raw.out
	grep -q -E '^Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT'$'\r$' answer
	grep -av '^Date: ' answer >had || :
	if [ -n "${1-}" ]; then printf '%s\r\n' "$@"; fi >wanted
	diff -a wanted had
}

@test "Status, Location and fields of its own become the answer's; what is ours to say stays ours" {
	local way

	for way in "${BOTH[@]}"; do
		sayings "$way" "$way"
		printf 'Content-Type: text/plain\n\nhi' >it
		becomes "$way" 'GET 1.1' 'HTTP/1.1 200 OK' 'Content-Type: text/plain' 'Transfer-Encoding: chunked' 'Connection: close' '' 2 hi 0 ''
		becomes "$way" 'HEAD 1.1' 'HTTP/1.1 200 OK' 'Content-Type: text/plain' 'Transfer-Encoding: chunked' 'Connection: close' ''
		printf 'x-a:1\r\nStatus: 404 Gone Fishing\r\nContent-length: 4\r\nX-A:  2 \t\r\n\r\nhi\r\n' >it
		becomes "$way" 'GET 1.1' 'HTTP/1.1 404 Gone Fishing' 'x-a: 1' 'X-A: 2' 'Content-Length: 4' 'Connection: close' '' hi
		becomes "$way" 'GET 1.0' 'HTTP/1.1 404 Gone Fishing' 'x-a: 1' 'X-A: 2' 'Content-Length: 4' 'Connection: close' '' hi
		becomes "$way" 'HEAD 1.1' 'HTTP/1.1 404 Gone Fishing' 'x-a: 1' 'X-A: 2' 'Content-Length: 4' 'Connection: close' ''
	done
	sayings more plain
	printf 'Content-Type: text/plain\n\nhi\r\n' >it
	becomes more 'GET 1.0' 'HTTP/1.1 200 OK' 'Content-Type: text/plain' 'Connection: close' '' hi
	printf 'Location: /else?x\n\n' >it
	becomes more 'GET 1.1' 'HTTP/1.1 302 Found' 'Location: /else?x' 'Transfer-Encoding: chunked' 'Connection: close' '' 0 ''
	printf 'Location: http://else.example/\nStatus: 301\n\n' >it
	becomes more 'GET 1.1' 'HTTP/1.1 301 Moved Permanently' 'Location: http://else.example/' 'Transfer-Encoding: chunked' \
	    'Connection: close' '' 0 ''
	printf 'Status: 204\nX: y\n\nnobody wants this' >it
	becomes more 'GET 1.1' 'HTTP/1.1 204 No Content' 'X: y' 'Connection: close' ''
	printf 'Status: 304\nContent-Length: 5\n\nhello' >it
	becomes more 'GET 1.1' 'HTTP/1.1 304 Not Modified' 'Connection: close' ''
	printf 'Status: 599 \nContent-Length: 0\n\n' >it
	becomes more 'GET 1.1' 'HTTP/1.1 599 ' 'Content-Length: 0' 'Connection: close' ''
	printf '%s\n' 'Connection: keep-alive' 'connection: x' 'Transfer-Encoding: gzip' 'Keep-Alive: 5' 'Upgrade: h2c' 'Trailer: x' \
	    'Date: never' 'Set-Cookie: a' 'Server: me' 'Set-Cookie: b' 'Content-Length: 1' '' >it
	printf x >>it
	becomes more 'HEAD 1.1' 'HTTP/1.1 200 OK' 'Set-Cookie: a' 'Server: me' 'Set-Cookie: b' 'Content-Length: 1' 'Connection: close' ''
}

@test "1 MiB of answer comes whole with a length, in chunks, and till the end of an HTTP/1.0 connection" {
	local way

	random 1m 1048576
	{ printf 'Content-Type: text/plain\n\n'; cat 1m; } >open
	{ printf 'Content-Length: 1048576\n\n'; cat 1m; } >framed
	for way in "${BOTH[@]}"; do
		sayings "$way" "$way"
		got 200 "${URL[$way]}?open"
		cmp 1m got
		got 200 --http1.0 "${URL[$way]}?open"
		cmp 1m got
		got 200 "${URL[$way]}?framed"
		cmp 1m got
	done
}

# unusable WHY FORMAT [ARGUMENT...]: what that prints is no answer, and the log says why.
unusable() {
	TRIED=$((TRIED + 1))
	# shellcheck disable=SC2059	# it is one
	printf "${@:2}" >"it.$TRIED"
	failed 500 InternalError "${URL[$WAY]}?it.$TRIED"
	jq -er .error.message got | grep -qF "$1"
	await_line "${LOG[$WAY]}" "warn: rpc#[0-9]+ 127.0.0.1:[0-9]+: ./says has given an answer that cannot be used: .*$1"
}

@test "an answer that is none is 500, and the log says why; nothing of it reaches the client" {
	TRIED=0
	for WAY in "${BOTH[@]}"; do
		sayings "$WAY" "$WAY"
		unusable 'it said nothing' ''
		unusable 'before its header did' 'Content-Type: text/plain'
		unusable 'there is no colon' 'HTTP/1.1 200 OK\nContent-Type: text/plain\n\nhello'
	done
	WAY='more'
	sayings more plain
	unusable 'before its header did' 'Content-Type: text/plain\n'
	unusable 'no field at all' '\nhello'
	unusable 'no name before the colon' ': x\n\nhello'
	unusable 'no name before the colon' 'X : x\n\nhello'
	unusable 'no name before the colon' ' folded: x\n\nhello'
	unusable 'a control character' 'X: a\rSet-Cookie: b\n\nhello'
	unusable 'a control character' 'X: a\000b\n\nhello'
	unusable 'Status is not a number' 'Status: 99\n\nhello'
	WAY=rest
	sayings rest plain	# another one: of more than ten lines of a kind the log has a sum
	unusable 'Status is not a number' 'Status: 101 Switching\n\nhello'
	unusable 'Status is not a number' 'Status: 200OK\n\nhello'
	unusable 'Content-Length is not a number' 'Content-Length: -1\n\nhello'
	unusable 'Content-Length is not a number' 'Content-Length: 5,5\n\nhello'
	unusable 'is there twice' 'Content-Length: 5\nContent-Length: 5\n\nhello'
	unusable 'is there twice' 'Location: /a\nLocation: /b\n\n'
	unusable 'longer than' 'X: %065536d\n\n'
	unusable 'more than' '%b\n\n' "$(yes 'X: y' | head -n 257)"
}

@test "less than its Content-Length cuts the client, more is dropped, and the log says both" {
	local way

	script says <<<'echo Content-Length: "${QUERY_STRING}"; echo; printf 0123456789'
	for way in "${BOTH[@]}"; do
		cgi "$way" "$way" -- ./says
		got 200 "${URL[$way]}?10"
		is 0123456789
		[ "$(fetch "${URL[$way]}?4" "${URL[$way]}?4")" = 01230123 ]		# the connection goes on in step
		await_line "${LOG[$way]}" './says says more than its Content-Length: 4; the rest is dropped$'
		got 200 "${URL[$way]}?0"
		is ''
		request less GET '/?11'
		cut_off "$way" less 0123456789
		await_line "${LOG[$way]}" './says has said 10 bytes, and Content-Length: 11$'
		got 200 -I "${URL[$way]}?11"
	done
}

# cut_off NAME REQUEST TEXT: the answer begins, ends with that, and is cut: by a reset, over TLS after an alert.
cut_off() {
	raw "$1" send="$2" rest=answer
	grep -q -E '^rest [1-9][0-9]* (reset|failed)$' raw.out || {
		cat raw.out
		return 1
	}
	head -n 1 answer | grep -q '^HTTP/1.1 200 '
	printf %s "$3" >last
	tail -c ${#3} answer | cmp - last
}

@test "how a script ends: any status will do after a whole answer; a signal cuts it; before one all are 500" {
	local way

	script ends <<-'E'
		answer() { printf 'Content-Type: text/plain\n\nwhole'; }
		case $QUERY_STRING in
		3) answer; exit 3 ;;
		none3) exit 3 ;;
		none9) kill -KILL $$ ;;
		part) printf 'Content-'; kill -TERM $$ ;;
		cut) answer; kill -KILL $$ ;;
		length) printf 'Content-Length: 5\n\nwhole'; kill -SEGV $$ ;;
		esac
	E
	for way in "${BOTH[@]}"; do
		cgi "$way" "$way" -- ./ends
		got 200 "${URL[$way]}?3"
		is whole
		await_line "${LOG[$way]}" 'warn: rpc#[0-9]+ .*: ./ends ended with status 3$'
		failed 500 InternalError "${URL[$way]}?none3"
		failed 500 InternalError "${URL[$way]}?none9"
		jq -er .error.message got | grep -q 'killed by signal 9'
		failed 500 InternalError "${URL[$way]}?part"
		jq -er .error.message got | grep -q 'killed by signal 15'
		await_line "${LOG[$way]}" './ends was killed by signal 15$'
		request get GET '/?cut'
		cut_off "$way" get $'5\r\nwhole\r\n'
		printf 'GET /?cut HTTP/1.0\r\n\r\n' >old
		cut_off "$way" old whole
		request length GET '/?length'
		cut_off "$way" length whole
	done
	figures term_tls 'ccfnet_http_requests_total{code="500"}=3' 'ccfnet_commands_total{result="failed"}=7' \
	    'ccfnet_commands_total{result="ok"}=0'
	[ "$(grep -c '" 500 ' tls.access)" = 3 ]
}

@test "what a child of a script still says belongs to the answer" {
	local way

	waits
	script parent <<-'E'
		. ./waits
		printf 'Content-Type: text/plain\n\nparent'
		{ say waiting; hold; printf ' and child'; } &
	E
	for way in "${BOTH[@]}"; do
		: >events
		cgi "$way" "$way" -- ./parent
		spawn "curl_$way" curl -sS --cacert "${CERTS-}/ca.pem" "${URL[$way]}"
		happens 1 waiting
		release
		ends_with 0 "curl_$way"
		[ "$(cat "curl_$way.out")" = 'parent and child' ]
	done
}

@test "a COMMAND that is not there, or not ours to run, is an error at the start; one that is gone later 500 each time" {
	local way

	printf '#!/nowhere/sh\n' >interpreter
	printf 'echo\n' >unexecutable
	chmod +x interpreter
	run -127 ccf-tlsterm --plaintext --from link --app http1 -- ./missing
	[ "$output" = 'ccf-tlsterm: error: cannot run ./missing: No such file or directory' ]
	run -126 ccf-tlsterm --plaintext --from link --app http1 -- ./unexecutable
	[ "$output" = 'ccf-tlsterm: error: cannot run ./unexecutable: Permission denied' ]
	for way in "${BOTH[@]}"; do
		cgi "none-$way" "$way" -- ./interpreter
		failed 500 InternalError "${URL[none-$way]}"
		await_line "${LOG[none-$way]}" 'error: rpc#1 .*: cannot run ./interpreter: No such file or directory$'
		script goes <<<'printf "Content-Type: text/plain\n\nhere"'
		cgi "$way" "$way" -- ./goes
		got 200 "${URL[$way]}"
		mv goes gone
		[[ $way = *-single ]] || failed 500 InternalError --data-binary x "${URL[$way]}"
		[[ $way = *-single ]] || await_line "${LOG[$way]}" 'error: rpc#2 .*: cannot run ./goes: No such file or directory$'
		mv gone goes
		got 200 "${URL[$way]}"
		is here
	done
	figures term_tls 'ccfnet_commands_total{result="failed"}=1' 'ccfnet_commands_total{result="ok"}=2' ccfnet_cgi_running=0
}

# --- how long, and how many ---

@test "a script that takes longer than --cgi-timeout gets SIGTERM, and its client 504; in mid-answer the client is cut" {
	local way

	waits
	script slow <<-'E'
		. ./waits
		trap 'say term; exit' TERM
		[ "$QUERY_STRING" != begun ] || printf 'Content-Type: text/plain\n\npart'
		ever
	E
	request begun GET '/?begun'
	for way in "${BOTH[@]}"; do
		: >events
		cgi "$way" "$way" --cgi-timeout 2s -- ./slow
		start_raw "begun_$way" "$way" send=begun rest="answer_$way"
		failed 504 GatewayTimeout "${URL[$way]}"
		await_line "${LOG[$way]}" 'warn: rpc#[0-9]+ .*: ./slow takes longer than 2000 ms, and is ended$'
		happens 2 term
		await_line "begun_$way.out" '^rest [1-9][0-9]* (reset|failed)$'
		printf '4\r\npart\r\n' >last
		tail -c 9 "answer_$way" | cmp - last
	done
}

@test "a script that does not heed SIGTERM is killed, at the latest when we end" {
	local way

	waits
	script stubborn <<-'E'
		. ./waits
		trap '' TERM
		say "pid $$"
		ever
	E
	request get GET /
	for way in "${BOTH[@]}"; do
		cgi "$way" "$way" --cgi-timeout 2s --cgi-max 1 -- ./stubborn
		start_raw "client_$way" "$way" send=get until='HTTP/1.1 504 '
	done
	happens 2 'pid [0-9]*'
	for way in "${BOTH[@]}"; do
		await_line "client_$way.out" '^until$'
	done
	# shellcheck disable=SC2046	# they are two words
	eventually dead $(sed -n 's/^pid //p' events)
	figures term_tls ccfnet_cgi_running=0 'ccfnet_commands_total{result="failed"}=1'
	: >events
	start_raw again tls send=get until='HTTP/1.1 504 '
	await_line again.out '^until$'
	kill -TERM "${PID[term_tls]}"
	await_line term_tls.log draining
	kill -TERM "${PID[term_tls]}"
	wait_for term_tls || :		# 28, or 0 if that was after the end of all
	eventually dead "$(sed -n 's/^pid //p' events)"
}

# posts N URL: so many clients who send 100 KiB each; the answer of the Ith is cI.body.
posts() {
	local i

	random body 102400
	for i in $(seq "$1"); do
		spawn "c$i" curl -sS --cacert "${CERTS-}/ca.pem" --data-binary @body -o "c$i.body" -w '%{http_code}' "$2"
	done
}

# most: of the scripts that said begin and end, how many ran at once.
most() {
	awk '$1 == "begin" && ++n > most { most = n } $1 == "end" { n-- } END { print most, n }' events
}

@test "no more than --cgi-max run at once, the others have their turn, whole; two workers share the number" {
	local way i j

	waits
	script turn <<-'E'
		. ./waits
		say begin
		hold
		printf 'Content-Type: application/octet-stream\n\n'
		cat
		say end
	E
	for way in tls plain; do
		: >events
		[ $way = tls ] && j=1 || j=2
		cgi "$way" "$way" -j "$j" --cgi-max 2 -- ./turn
		posts 6 "${URL[$way]}"
		happens 2 begin
		figures "term_$way" ccfnet_cgi_running=2 ccfnet_cgi_waiting=4
		for i in 1 2 3 4; do
			release
			happens "$i" end
			happens $((i + 2)) begin
		done
		release 2
		happens 6 end
		for i in 1 2 3 4 5 6; do
			ends_with 0 "c$i"
			[ "$(cat "c$i.out")" = 200 ]
			cmp body "c$i.body"
		done
		[ "$(most)" = '2 0' ]
		figures "term_$way" ccfnet_cgi_running=0 ccfnet_cgi_waiting=0 'ccfnet_commands_total{result="ok"}=6'
	done
}

@test "who waits for a turn longer than --cgi-timeout gets 503; who leaves meanwhile gives the turn up" {
	waits
	script occupies <<-'E'
		. ./waits
		[ "$QUERY_STRING" ] || { printf 'Content-Type: text/plain\n\nserved'; exit; }
		printf 'Content-Type: text/plain\n\nanswered'
		exec <&- >&-
		say occupied
		hold
		say free
	E
	request get GET /
	cgi tls tls --cgi-max 1 --cgi-timeout 3s -- ./occupies
	got 200 "${URL[tls]}?occupy"		# and goes on in the background
	is answered
	happens 1 occupied
	failed 503 ServiceUnavailable --data-binary @get "${URL[tls]}"
	grep -q '^Retry-After: [0-9]' got.head
	start_raw leaver tls send=get await=leave reset
	figures term_tls ccfnet_cgi_running=1 ccfnet_cgi_waiting=1
	: >leave
	figures term_tls ccfnet_cgi_running=1 ccfnet_cgi_waiting=0 ccfnet_connections_active=0
	release
	happens 1 free
	figures term_tls ccfnet_cgi_running=0 ccfnet_cgi_waiting=0
	got 200 "${URL[tls]}"
	is served
	figures term_tls 'ccfnet_commands_total{result="ok"}=2'
}

# --- who leaves ---

@test "a client that leaves: its script gets SIGHUP in every stage, and nothing is left of either" {
	local way stage before fds fds1

	waits
	script heeds <<-'E'
		. ./waits
		trap 'say hup; exit' HUP
		case $QUERY_STRING in
		half) say up; ever ;;
		silent) cat >/dev/null; say up; ever ;;
		begun) cat >/dev/null; printf 'Content-Type: text/plain\n\npart'; say up; ever ;;
		flood) cat >/dev/null; say up; trap - HUP; printf 'Content-Type: text/plain\n\n'; exec cat /dev/zero ;;
		esac
	E
	random part 5000
	for stage in silent begun flood; do
		request $stage GET "/?$stage"
	done
	request half POST '/?half' 'Content-Length: 10000'
	for way in "${WAYS[@]}"; do
		: >events
		cgi "$way" "$way" -- ./heeds
		before=$(base)
		[[ $way = *-single ]] || fds=$(fds "term_$way") fds1=$(fds "term_$way.1")
		leaves silent send=silent
		leaves begun send=begun until=part
		leaves half send=half send=part
		happens 3 hup
		leaves flood send=flood until='\0'
		happens 3 hup
		eventually is_base "$before"
		await_line "${LOG[$way]}" 'rpc#3 .*: closed: reset, by peer, .*, status 18$'
		[[ $way = *-single ]] || keeps "term_$way=$fds" "term_$way.1=$fds1"
	done
	figures term_tls ccfnet_cgi_running=0 ccfnet_connections_active=0 ccfnet_buffered_bytes=0
}

# leaves STAGE STEP...: a client that does that, and resets its connection when the script is up.
leaves() {
	local n

	rm -f leave
	n=$(grep -c '^up$' events) || :
	start_raw "$1_$way" "$way" "${@:2}" await=leave reset
	happens $((n + 1)) up
	: >leave
	ends_with 0 "$1_$way"
}

@test "a client that ends in the middle of its body gets 400, and the script SIGHUP; after the whole request it gets the answer" {
	local way

	waits
	script counts <<-'E'
		. ./waits
		trap 'say hup; exit' HUP
		say up
		: >up
		n=$(wc -c)
		printf 'Content-Type: text/plain\n\n%s' "$n"
		[ "$CONTENT_LENGTH" = 5000 ] || ever
	E
	random part 5000
	request half POST / 'Content-Length: 10000'
	request whole POST / 'Content-Length: 5000'
	for way in "${BOTH[@]}"; do
		: >events
		rm -f up
		cgi "$way" "$way" -- ./counts
		raw "$way" send=half send=part await=up end rest=answer
		grep -q '^rest [0-9]* ended$' raw.out
		head -n 1 answer | grep -q '^HTTP/1.1 400 '
		happens 1 up
		happens 1 hup
		raw "$way" send=whole send=part end rest=answer
		grep -q '^rest [0-9]* ended$' raw.out
		head -n 1 answer | grep -q '^HTTP/1.1 200 '
		grep -q '^5000' answer
		happens 2 up
	done
}

# --- one connection, many requests ---

@test "requests of one connection have a script each, in order, also when they come in one write" {
	local way i

	script numbered <<-'E'
		printf 'Content-Type: text/plain\n\n%s:%s:%s\n' "$QUERY_STRING" "$(cat)" "$$"
	E
	for i in 1 2 3 4 5; do
		request one POST "/?$i" 'Content-Length: 2' "$([ $i != 5 ] || echo Connection: close)"
		sed -i '/^\r$/{$!d}' one
		{ cat one; printf b%s "$i"; } >>all
	done
	for way in "${WAYS[@]}"; do
		cgi "$way" "$way" -- ./numbered
		fetch -w '%{num_connects}\n' "${URL[$way]}?[1-5]" >got
		[ "$(grep -c ^0 got)" = 4 ] && [ "$(grep -c ^1$ got)" = 1 ]
		[ "$(grep : got | cut -d : -f 1 | tr '\n' ' ')" = '1 2 3 4 5 ' ]
		[ "$(grep : got | cut -d : -f 3 | sort -u | wc -l)" = 5 ]
		raw "$way" send=all rest=answer
		grep -q '^rest [0-9]* ended$' raw.out
		[ "$(sed -n -E 's/^([0-9]:b[0-9]):.*/\1/p' answer | tr '\n' ' ')" = '1:b1 2:b2 3:b3 4:b4 5:b5 ' ]
		[ "$(grep -c '^HTTP/1.1 200 OK' answer)" = 5 ]
		eventually times 10 "$way.access" '"(GET|POST) /\?[1-5] HTTP/1.1" 200 '
	done
}

# --- the end ---

@test "who is asked to end answers first: the script of a request under way goes on to its end" {
	local way

	waits
	script last <<-'E'
		. ./waits
		say up
		hold
		printf 'Content-Type: text/plain\n\n%s' "$(cat)"
	E
	for way in tls plain; do
		: >events
		cgi "$way" "$way" -- ./last
		spawn "curl_$way" curl -sS --cacert "${CERTS-}/ca.pem" -d 'the last one' "${URL[$way]}"
		happens 1 up
		kill -TERM "${PID[term_$way]}"
		await_line "term_$way.log" draining
		release
		ends_with 0 "curl_$way"
		[ "$(cat "curl_$way.out")" = 'the last one' ]
		ends_with 0 "term_$way"
	done
}

@test "who is told twice to end cuts the client, and the script gets SIGHUP; so does a single connection's at the first" {
	local way single

	waits
	script heeds <<-'E'
		. ./waits
		trap 'say hup; exit' HUP
		trap '' TERM
		say up
		ever
	E
	request get GET /
	for way in "${WAYS[@]}"; do
		: >events
		cgi "$way" "$way" -- ./heeds
		start_raw "client_$way" "$way" send=get rest
		happens 1 up
		if [[ $way = *-single ]]; then
			single=$(pgrep -P "${PID[lst_$way]}")
			kill -TERM "$single"
			eventually dead "$single"
		else
			kill -TERM "${PID[term_$way]}"
			await_line "term_$way.log" drain
			kill -TERM "${PID[term_$way]}"
			ends_with 28 "term_$way"
		fi
		happens 1 hup
		await_line "client_$way.out" '^rest 0 (reset|failed)$'
	done
}

@test "a script that has answered and goes on: a single connection lasts as long as it, a tool of many tells it to end" {
	local single

	waits
	script goes_on <<-'E'
		. ./waits
		trap 'say term; exit' TERM
		printf 'Content-Type: text/plain\n\nanswered'
		exec <&- >&-
		say up
		hold
		say free
	E
	cgi single plain-single -- ./goes_on
	got 200 "${URL[single]}"
	is answered
	happens 1 up
	await_line lst_single.log 'ccf-tlsterm: info: rpc#1 .*: closed: done, '
	single=$(pgrep -P "${PID[lst_single]}")
	release
	happens 1 free
	eventually dead "$single"
	await_line lst_single.log 'ccf-listen: info: rpc#1 .*: closed: exited, .* s$'
	cgi tls tls -- ./goes_on
	got 200 "${URL[tls]}"
	is answered
	happens 2 up
	stop term_tls
	[ "$ended" = 0 ]
	happens 1 term
}

@test "a worker that is killed: its scripts get SIGHUP, the others' go on, and new ones are served" {
	local way victim

	waits
	script heeds <<-'E'
		. ./waits
		trap 'say "hup $CCF_CONN_ID"; exit' HUP
		say "up $CCF_CONN_ID"
		hold
		printf 'Content-Type: text/plain\n\nserved'
	E
	request get GET / 'Connection: close'
	for way in tls plain; do
		: >events
		cgi "$way" "$way" -j 2 -- ./heeds
		asked "lst_$way" ': 2 links, '
		for _ in 1 2; do	# who answers has done what came before: by then both have granted
			asked "term_$way" .
			asked "lst_$way" .
		done
		start_raw "a_$way" "$way" send=get rest
		happens 1 'up rpc#1'
		start_raw "b_$way" "$way" send=get rest
		happens 1 'up rpc#2'
		victim=$(worker "term_$way" 1)
		kill -KILL "$victim"
		eventually times 1 events '^hup rpc#[12]$'
		release
		await_line "term_$way.log" "worker [12] \(pid $victim\) was killed by SIGKILL; 1 connection"
		eventually one_of_each "$way"
		times 1 events '^hup'
		spawn "c_$way" curl -sS --cacert "${CERTS-}/ca.pem" "${URL[$way]}"
		happens 1 'up rpc#3'
		release
		ends_with 0 "c_$way"
		[ "$(cat "c_$way.out")" = served ]
	done
}

# one_of_each WAY: one client was cut, the other one served.
one_of_each() {
	[ "$(cat "a_$1.out" "b_$1.out" | grep -c -E '^rest 0 (reset|failed)$')" = 1 ] && [ "$(cat "a_$1.out" "b_$1.out" | grep -c '^rest [1-9][0-9]* ended$')" = 1 ]
}

# bats test_tags=root
@test "with --user the workers are nobody, and scripts are who started us" {
	requires root
	script who <<<'printf "Content-Type: text/plain\n\n%s" "$(id -u)"'
	cgi tls tls --user nobody -j 2 -- ./who
	for i in 1 2 3 4; do
		got 200 "${URL[tls]}"
		is 0
	done
	[ "$(stat -c %u "/proc/$(worker term_tls 1)")" = "$(id -u nobody)" ]
	[ "$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "/proc/$(worker term_tls 2)/status")" = "$(id -u nobody | sed 's/.*/& & & &/')" ]
}
