# bringup - the ways the tools are put together, what a COMMAND is told, and ports that are bound before they serve.
#
# (who runs this makes no difference; left out of brief runs)

load helpers

# An HTTP server of a COMMAND's size: what it knows is its answer.
ENV_SERVER='while read -r line && [ "$line" != "$(printf "\r")" ]; do :; done
	printf "HTTP/1.0 200 OK\r\n\r\n"; env'

tls() {	# the options of a terminator
	certs
	TLS=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
}

listen_to() {	# listen_to LINK [NAME]
	spawn "${2-lst}" ccf-listen --to "$1" --ready-fd 9 --ready-when listening \
	    --address-file "${2-lst}.json" rpc=127.0.0.1:0
	ADDR=$(address "${2-lst}.json" rpc)
}

serves() {	# what the backend has comes whole
	curl -sS --noproxy '*' --max-time "$LIMIT" --cacert "$CERTS/ca.pem" -o got "https://$ADDR/page"
	cmp got "$BACKEND_DIR/page"
}

backend() {
	http_backend
	head -c 300000 /dev/urandom >"$BACKEND_DIR/page"
}

# --- the ways ---

@test "joined by PATHs, begun from the end, each with the next one's name only" {
	tls
	backend
	spawn con ccf-connect --from plain "$BACKEND"
	await_line con.log 'nobody is there yet'
	spawn term ccf-tlsterm "${TLS[@]}" --from sealed --to plain
	listen_to sealed
	serves
	serves
	# Whatever is started again is found again.
	stop con KILL
	spawn con ccf-connect --from plain "$BACKEND"
	serves
	crash term
	spawn term ccf-tlsterm "${TLS[@]}" --from sealed --to plain
	serves
	kill_worker term	# that one is started again by its master
	serves
	stop lst
	[ "$ended" = 0 ]
	[ ! -e sealed ]
	stop term
	[ "$ended" = 0 ]
	[ ! -e plain ]
	stop con
	[ "$ended" = 0 ]
}

@test "joined by dial: and bind:, two terminators into one ccf-connect, each behind a listener of its own" {
	local first second

	tls
	backend
	listen_later one
	listen_later two
	spawn term1 ccf-tlsterm "${TLS[@]}" --from bind:one --to dial:plain
	spawn term2 ccf-tlsterm "${TLS[@]}" --from bind:two --to dial:plain
	spawn con ccf-connect --from bind:plain "$BACKEND"
	await_line one.log 'rpc: listening'
	await_line two.log 'rpc: listening'
	first=$(address one.json rpc) second=$(address two.json rpc)
	for ADDR in "$first" "$second" "$first" "$second"; do serves; done
	[ "$(grep -c ': open, TLS' term1.log)" = 2 ]
	[ "$(grep -c ': open, TLS' term2.log)" = 2 ]
	[ "$(grep -c 'connected and given on' con.log)" = 4 ]
	# The one that many feed is replaced: all of them find the next.
	stop con
	[ "$ended" = 0 ]
	[ ! -e plain ]
	spawn con2 ccf-connect --from bind:plain "$BACKEND"
	for ADDR in "$first" "$second"; do serves; done
}

listen_later() {	# listen_later NAME: bound, and its consumer comes later
	spawn "$1" ccf-listen --to "dial:$1" --ready-fd 9 --address-file "$1.json" rpc=127.0.0.1:0
}

@test "a consumer may have several sources, and one listener several terminators" {
	tls
	backend
	spawn term1 ccf-tlsterm "${TLS[@]}" --from a --from b --to dial:plain
	spawn term2 ccf-tlsterm "${TLS[@]}" --from b --to dial:plain
	spawn con ccf-connect --from bind:plain "$BACKEND"
	listen_to a a
	serves
	listen_to b b
	eventually both_serve
}

both_serve() {
	serves && grep -q ': open, TLS' term2.log && [ "$(grep -c ': open, TLS' term1.log)" -ge 2 ]
}

pair_pid() {
	awk -v n="$1" '$1 == n && NF == 2 { print $2 }' pairs.out
}

@test "joined by socketpairs: fd:N, and descriptors 0 and 1 that are the link themselves" {
	local ends

	tls
	backend
	for ends in fd own; do
		set -- lst ccf-listen --to '{to}' --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 + \
		    term ccf-tlsterm "${TLS[@]}" --from '{from}' --to '{to}' + con ccf-connect --from '{from}' "$BACKEND"
		[ "$ends" = fd ] || set -- "${@/\{*\}/-}"
		spawn pairs python3 "$HERE/peer/with_pair.py" "$@"
		ADDR=$(address a.json rpc)
		serves
		# Nobody keeps a copy of a neighbour's end: one TERM, and all of them end.
		kill -TERM "${PID[pairs]}"
		ends_with 0 pairs
		[ "$(grep -c 'ended 0$' pairs.out)" = 3 ] || { cat pairs.out; false; }
	done
}

@test "on socketpairs the neighbours of a killed terminator end by themselves: 69 before it, 0 behind it" {
	tls
	backend
	spawn pairs python3 "$HERE/peer/with_pair.py" \
	    lst ccf-listen --to '{to}' --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 + \
	    term ccf-tlsterm "${TLS[@]}" --from '{from}' --to '{to}' + con ccf-connect --from '{from}' "$BACKEND"
	ADDR=$(address a.json rpc)
	serves
	crash "$(pair_pid term)"
	ends_with 0 pairs
	[ "$(grep ended pairs.out | sort)" = $'con ended 0\nlst ended 69\nterm ended 137' ] || { cat pairs.out; false; }
}

# bats test_tags=root
@test "a descriptor that was inherited is the permission, whoever made it" {
	requires root
	shared_dir
	spawn pairs python3 "$HERE/peer/with_pair.py" \
	    lst "${AS_USER[@]}" ccf-listen --to '{to}' --ready-fd 9 --ready-when listening \
	    --address-file a.json rpc=127.0.0.1:0 + \
	    term setpriv --reuid 65533 --regid 65533 --clear-groups \
	    ccf-tlsterm --plaintext --app echo --from '{from}'
	ADDR=$(address a.json rpc)
	[ "$(ccf-connect "$ADDR" <<<hello)" = hello ]
	kill -TERM "${PID[pairs]}"
	ends_with 0 pairs
}

# bats test_tags=root
@test "sudo ccf-listen | ccf-tlsterm | ccf-connect: a listener of root's, the others of somebody else" {
	requires root
	tls
	shared_dir
	backend
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 1777 tmp
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term "${AS_USER[@]}" ccf-tlsterm "${TLS[@]}" --to - '|' con "${AS_USER[@]}" ccf-connect --from - "$BACKEND"
	ADDR=$(address a.json rpc)
	serves
	[ "$(stat -c %a tmp/ccf-*/link | sort -u)" = 666 ]
	# Without the token the same user is sent away, from a socket that anybody may connect to.
	"${AS_USER[@]}" cp "$CERTS/ca.pem" own
	spawn thief "${AS_USER[@]}" ccf-tlsterm --plaintext --app echo --from "$(stolen)"
	await_line lst.log 'link with an unknown tool ended: .*(token|--peer-user)'
	await_line thief.log 'held by user 0|without a word'
	serves
	stop thief
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 term
	ends_with 0 con
	[ -z "$(ls tmp)" ]
}

stolen() {	# the PATH in the listener's ticket
	find "$PWD/tmp" -user 0 -name link
}

@test "through sudo itself: sudo ccf-listen | ccf-tlsterm" {
	requires sudo
	tls
	backend
	pipeline lst sudo -n "$BUILD/ccf-listen" --to - --address-file "$PWD/a.json" rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${TLS[@]}" --to - '|' con ccf-connect --from - "$BACKEND"
	await_line lst.log 'rpc: listening'
	ADDR=$(address a.json rpc)
	serves
	sudo -n kill -TERM "$(pgrep -P "${PID[lst]}" ccf-listen || echo "${PID[lst]}")"
	ends_with 0 term
	ends_with 0 con
}

# --- what a COMMAND is told ---

# told NAME=PATTERN...: the answer has a line NAME=... that matches; untold NAME...: it has none.
told() {
	local pair

	for pair; do
		grep -q -x -E -e "$pair" got || { echo "no $pair in:"; cat got; return 1; }
	done
}

untold() {
	local name

	for name; do
		! grep -e "^$name=" got || return 1
	done
}

planted() {	# what a caller, or a hostile producer, would like a COMMAND to believe
	export SSL_CLIENT_VERIFY=SUCCESS SSL_CLIENT_S_DN=CN=root SSL_CLIENT_CERT=x SSL_PROTOCOL=TLSv9 SSL_TLS_SNI=x \
	    CCF_CAPPED=1 CCF_ALPN=h2 CCF_OMITTED=x \
	    PROTO=UDP TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=1 TCPREMOTEHOST=x TCPLOCALHOST=x
}

said() {	# what everybody is told of a client without a certificate
	told PROTO=TCP "TCPLOCALIP=127.0.0.1" "TCPLOCALPORT=${ADDR##*:}" TCPREMOTEIP=127.0.0.1 'TCPREMOTEPORT=[1-9][0-9]+' \
	    CCF_INTERFACE=rpc 'CCF_CONN_ID=rpc#[0-9]+' 'CCF_ACCEPTED=[0-9]+' \
	    SSL_PROTOCOL=TLSv1.3 SSL_CIPHER=TLS_AES_256_GCM_SHA384 SSL_TLS_SNI_SERVERNAME=localhost \
	    CCF_ALPN=http/1.1 SSL_CLIENT_VERIFY=NONE
	untold SSL_CLIENT_S_DN SSL_CLIENT_CERT CCF_CAPPED TCPREMOTEHOST TCPLOCALHOST CCF_OMITTED SSL_TLS_SNI
	# none twice
	[ -z "$(grep -o -E '^(PROTO|TCP|SSL_|CCF_)[A-Z_]*=' got | sort | uniq -d)" ]
}

@test "per connection, ccf-listen -- ccf-tlsterm -- COMMAND: it sees UCSPI and SSL names, none that was planted" {
	tls
	planted
	spawn lst ccf-listen --ready-fd 9 --address-file lst.json rpc=127.0.0.1:0 -- \
	    ccf-tlsterm "${TLS[@]}" -- sh -c "$ENV_SERVER"
	ADDR=$(address lst.json rpc)
	asks
	said
	asks --cert "$CERTS/client.pem" --key "$CERTS/client.key"
	certified
}

@test "per connection, from a caller that plants: what belongs to TLS is unset before it is known" {
	tls
	spawn lst ccf-listen --ready-fd 9 --address-file lst.json rpc=127.0.0.1:0 -- \
	    env SSL_CLIENT_VERIFY=SUCCESS SSL_CLIENT_S_DN=CN=root SSL_CLIENT_CERT=x SSL_TLS_SNI=x CCF_ALPN=h2 \
	    ccf-tlsterm "${TLS[@]}" -- sh -c "$ENV_SERVER"
	ADDR=$(address lst.json rpc)
	asks
	said
	asks --no-alpn
	untold CCF_ALPN
}

asks() {
	curl -sS --noproxy '*' --max-time "$LIMIT" --cacert "$CERTS/ca.pem" -o got \
	    --resolve "localhost:${ADDR##*:}:127.0.0.1" "$@" "https://localhost:${ADDR##*:}/"
}

certified() {
	told 'SSL_CLIENT_S_DN=CN=client one,O=ccf-net tests' SSL_CLIENT_VERIFY=GENEROUS SSL_PROTOCOL=TLSv1.3
	grep -q '^SSL_CLIENT_CERT=-----BEGIN CERTIFICATE-----' got
}

@test "over links, a COMMAND sees the same" {
	tls
	planted
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file lst.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${TLS[@]}" -- sh -c "$ENV_SERVER"
	ADDR=$(address lst.json rpc)
	asks
	said
	asks --cert "$CERTS/client.pem" --key "$CERTS/client.key"
	certified
}

@test "over two links, what belongs to TLS is vouched for by nobody but the tool that ended it" {
	tls
	planted
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file lst.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${TLS[@]}" --to - '|' plain ccf-tlsterm --plaintext -- sh -c "$ENV_SERVER"
	ADDR=$(address lst.json rpc)
	asks
	told CCF_INTERFACE=rpc TCPREMOTEIP=127.0.0.1 'CCF_CONN_ID=rpc#1'
	untold SSL_CLIENT_S_DN SSL_CLIENT_CERT CCF_CAPPED TCPREMOTEHOST CCF_OMITTED
}

@test "a hostile producer plants nothing: LD_PRELOAD, PATH, IFS, SSL names, names without a name" {
	local planted=(LD_PRELOAD=/none.so LD_LIBRARY_PATH=/none PATH=/none IFS=x ENV=/none BASH_ENV=/none PS4=x HOME=/none
		SSL_CLIENT_VERIFY=SUCCESS SSL_CLIENT_S_DN=CN=root SSL_CERT_FILE=/none SSL_CERT_DIR=/none OPENSSL_CONF=/none
		SSLKEYLOGFILE=keys PROTOX=x TCPREMOTEIP=192.0.2.7 CCF_INTERFACE=theirs 'BASH_FUNC_env%%=() { echo bad; }')

	export SSL_CERT_FILE=/mine
	unset LD_PRELOAD LD_LIBRARY_PATH ENV BASH_ENV SSL_CERT_DIR OPENSSL_CONF SSLKEYLOGFILE
	spawn term ccf-tlsterm --plaintext --from path -- env
	spawn bad python3 "$HERE/peer/planter.py" path "${planted[@]}"
	ends_with 0 bad
	mv bad.out got
	# What may travel is the producer's word; the rest is ours.
	told TCPREMOTEIP=192.0.2.7 CCF_INTERFACE=theirs "PATH=$PATH" SSL_CERT_FILE=/mine
	untold LD_PRELOAD LD_LIBRARY_PATH IFS ENV BASH_ENV PS4 SSL_CLIENT_VERIFY SSL_CLIENT_S_DN SSL_CERT_DIR OPENSSL_CONF \
	    SSLKEYLOGFILE PROTOX 'BASH_FUNC_env%%'
	run ! grep -e '=/none' -e bad got
}

# --- ports that are bound, and do not serve yet ---

PORTS='import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
for reuse in 0, 1:
	s = socket.socket()
	s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
	try:
		s.bind((host, int(port)))
	except OSError as e:
		print(e.errno)
	else:
		print("bound with SO_REUSEADDR", reuse)
	s.close()
s = socket.socket()
print("connect", s.connect_ex((host, int(port))))'

# refuses: the port is taken, with and without SO_REUSEADDR, and a client is refused by the kernel (98, 98, 111).
refuses() {
	[ "$(python3 -c "$PORTS" "$ADDR")" = $'98\n98\nconnect 111' ]
}

@test "no certificate yet: the port is ours and refuses; when the file appears, the same port serves" {
	local with port

	tls
	backend
	for with in 0 given; do
		rm -f lst.json ./*.log node.pem node.key
		port=0
		[ "$with" = 0 ] || port=$(free_port)
		pipeline lst ccf-listen --to - --ready-fd 9 --address-file lst.json "rpc=127.0.0.1:$port" '|' \
		    term ccf-tlsterm --cert node.pem --key node.key --to - '|' con ccf-connect --from - "$BACKEND"
		ADDR=$(address lst.json rpc)
		await_line term.log 'node.pem is not there; taking no connections until it is'
		refuses
		cp "$CERTS/chain.pem" new.pem
		mv new.pem node.pem
		refuses
		cp "$CERTS/key.pem" new.key
		mv new.key node.key
		await_line lst.log 'rpc: listening'
		serves
		[ "$(grep -c 'taking no connections' term.log)" = 1 ]
		stop lst
		ends_with 0 con
	done
}

@test "nobody consuming yet: the same, until the whole chain can serve" {
	tls
	backend
	spawn lst ccf-listen --to sealed --ready-fd 9 --address-file lst.json rpc=127.0.0.1:0
	ADDR=$(address lst.json rpc)
	refuses
	# A consumer that has no sink grants nothing either.
	spawn term ccf-tlsterm "${TLS[@]}" --from sealed --to plain
	await_line term.log 'certificate loaded'
	eventually linked
	refuses
	spawn con ccf-connect --from plain "$BACKEND"
	await_line lst.log 'rpc: listening'
	serves
}

linked() {	# the listener has a link
	kill -USR1 "${PID[lst]}"
	grep -q ' 1 links, ' lst.log
}

@test "every way to write an address refuses until somebody consumes, and then serves" {
	local address

	set -- 127.0.0.1:0 "127.0.0.1:$(free_port)" :0
	requires_v6 || set -- "$@" '[::1]:0'
	for address; do
		rm -f path
		spawn lst ccf-listen --to path --ready-fd 9 --address-file lst.json "rpc=$address"
		ADDR=127.0.0.1:$(address lst.json rpc | sed 's/.*://')
		case $address in
		'[::1]'*)
			run ccf-connect "[::1]:${ADDR##*:}" </dev/null
			[ "$status" = 7 ]
			;;
		*) refuses ;;
		esac
		spawn echo ccf-tlsterm --plaintext --app echo --from path
		await_line lst.log 'rpc: listening'
		[ "$(ccf-connect "$(address lst.json rpc | sed 's/^\[::\]/127.0.0.1/; s/^0.0.0.0/127.0.0.1/')" <<<hello)" = hello ]
		stop echo
		stop lst
		rm -f lst.log lst.json
	done
}

requires_v6() {	# as a condition: there is no ::1
	! grep -qs '^0\{31\}1 ' /proc/net/if_inet6
}

@test "the consumer gone for five seconds: refused again, the port still ours, and back when it returns" {
	local began

	spawn echo ccf-tlsterm --plaintext --app echo --from path
	spawn lst ccf-listen --to path --ready-fd 9 --ready-when listening --address-file lst.json rpc=127.0.0.1:0
	ADDR=$(address lst.json rpc)
	echo waited >waited
	[ "$(ccf-connect "$ADDR" <<<hello)" = hello ]
	crash echo
	# Meanwhile a client waits, and is served if one comes back in time.
	SPAWN_IN=waited spawn waits ccf-connect "$ADDR"
	spawn echo ccf-tlsterm --plaintext --app echo --from path
	ends_with 0 waits
	[ "$(cat waits.out)" = waited ]
	run ! grep refused lst.log
	began=$SECONDS
	crash echo
	SPAWN_IN=waited spawn waits ccf-connect "$ADDR"
	await_line lst.log 'rpc: no consumer: connections are refused until one comes' $((LIMIT * 2))
	[ $((SECONDS - began)) -ge 4 ]
	ends_with 18 waits
	refuses
	spawn echo ccf-tlsterm --plaintext --app echo --from path
	eventually listens_again
	[ "$(ccf-connect "$ADDR" <<<hello)" = hello ]
	[ "$(address lst.json rpc)" = "$ADDR" ]
}

listens_again() {
	[ "$(grep -c 'rpc: listening$' lst.log)" = 2 ]
}

@test "a restart over TIME_WAIT, over live connections, and over both" {
	local port

	port=$(free_port)
	ADDR=127.0.0.1:$port
	start() {
		spawn lst ccf-listen --ready-fd 9 rpc="$ADDR" -- sh -c 'echo hello; exec "$@"' sh "$@"
	}
	mkfifo words
	exec {talk}<>words
	# The COMMAND ends first: TIME_WAIT is on our side.
	start true
	SPAWN_IN=words spawn brief ccf-connect "$ADDR"
	eventually state 05
	exec {talk}>&-
	ends_with 0 brief
	eventually state 06
	stop lst
	start cat
	# A live one outlives its listener.
	exec {talk}<>words
	SPAWN_IN=words spawn held ccf-connect "$ADDR"
	await_line held.out hello
	stop lst KILL
	state 01
	start cat
	echo still here >&"$talk"
	await_line held.out 'still here'
	[ "$(ccf-connect "$ADDR" <<<'new here')" = $'hello\nnew here' ]
	stop held
	exec {talk}>&-
	stop lst
	# Bound over remains, it is as much ours as ever.
	spawn lst ccf-listen --to nobody --ready-fd 9 "rpc=$ADDR"
	refuses
}

state() {	# some TCP connection of our port is in this state
	local hex

	hex=$(printf '%04X' "${ADDR##*:}")
	awk -v port=":$hex" -v st="$1" 'index($2, port) && $4 == st { found = 1 } END { exit !found }' /proc/net/tcp
}

@test "of two on one port one ends with 45, whatever the other is doing" {
	spawn echo ccf-tlsterm --plaintext --app echo --from path
	spawn lst ccf-listen --to path --ready-fd 9 --ready-when listening --address-file lst.json rpc=127.0.0.1:0
	ADDR=$(address lst.json rpc)
	second 'while it listens'
	stop lst
	spawn lst ccf-listen --to other --ready-fd 9 --address-file lst.json rpc=127.0.0.1:0
	ADDR=$(address lst.json rpc)
	second 'while it is bound and refuses'
	stop lst
	# Begun at the same moment.
	ADDR=127.0.0.1:$(free_port)
	spawn one ccf-listen "rpc=$ADDR" -- cat
	spawn two ccf-listen "rpc=$ADDR" -- cat
	set -- one two
	eventually eval 'decided one two || decided two one'
	decided one two || set -- two one
	ends_with 45 "$2"
	stop "$1"
	[ "$ended" = 0 ]
}

# decided ONE OTHER: they have said who has it.
decided() {
	grep -q 'rpc: listening' "$1.log" && grep -q 'Address already in use' "$2.log"
}

second() {
	expect_status 45 ccf-listen "rpc=$ADDR" -- cat
	[[ $output == *"$ADDR"*'Address already in use'* ]] || { echo "$1: $output"; return 1; }
	expect_status 45 ccf-listen --to none "rpc=$ADDR"
	[ ! -e none ]
	expect_status 45 ccf-listen other=127.0.0.1:0 "rpc=:${ADDR##*:}" -- cat
}
