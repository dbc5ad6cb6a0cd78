# link - the handoff link as a program in another language speaks it, from ccf-handoff(7) alone (tests/peer/link.py,
# handoff.py), and as a hostile one does (tests/peer/hostile.py): that one ends its own link, and nobody else's.
#
# (who runs this makes no difference)

load helpers
load clients

# --- what the tests share ---

# peer NAME ...: a program of another language at one end of a link.
peer() {
	local name=$1

	shift
	spawn "$name" python3 "$HERE/peer/handoff.py" "$@"
}

hostile() {
	timeout $((LIMIT * 6)) python3 "$HERE/peer/hostile.py" "$@"
}

# echo_server: ECHO is the address of one that ends when its client does.
echo_server() {
	[ -z "${PID[echo]-}" ] || return 0
	spawn echo ccf-listen --ready-fd 9 --ready-when listening --address-file echo.json echo=127.0.0.1:0 -- cat
	ECHO=$(address echo.json echo)
}

# says TEXT ADDRESS: TEXT comes back from there, and then a clean end.
says() {
	[ "$(printf %s "$1" | timeout "$LIMIT" ccf-connect "$2")" = "$1" ]
}

# says_tls TEXT ADDRESS: the same over TLS, with close_notify both ways.
says_tls() {
	printf %s "$1" >said
	expect_status 0 over_tls "$2" send=said "read=${#1}" end rest
	[ "${lines[-1]}" = "rest 0 ended" ]
}

# cut_tls ADDRESS: there comes what may, and then a cut.
cut_tls() {
	run over_tls "$1" rest
	echo "$output"
	[[ ${lines[-1]} =~ ^rest\ [0-9]+\ (bare|reset|failed)$ ]]
}

over_tls() {
	timeout "$LIMIT" python3 "$HERE/peer/cutter.py" connect "$1" --tls "$CERTS/ca.pem" "${@:2}"
}

# listener LINK: a ccf-listen that hands on; LISTEN is its address.
listener() {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to "$1" rpc=127.0.0.1:0
	LISTEN=$(address a.json rpc)
}

# terminator LINK: ccf-listen and a ccf-tlsterm that hands on.
terminator() {
	certs
	pipeline lst ccf-listen --ready-fd 9 --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to "$1"
	LISTEN=$(address a.json rpc)
}

# at_peer PEER: where it listens, once it says so.
at_peer() {
	await_line "$1.out" '^listening'
	LISTEN=$(sed -n 's/^listening //p' "$1.out")
}

# --- the contract, from the page alone ---

@test "a consumer in another language takes TCP connections from ccf-listen" {
	listener hub
	peer one consume hub --echo --env
	await_line lst.log "rpc: listening"
	says "hello" "$LISTEN"
	await_line one.out '^conn 1 rpc#1 take$'
	await_line one.out '^closed 1 done 0 5 5$'
	await_line one.out "^env 1 CCF_ACCEPTED=[0-9]+ CCF_CONN_ID=rpc#1 CCF_INTERFACE=rpc PROTO=TCP TCPLOCALIP=127.0.0.1 \
TCPLOCALPORT=${LISTEN##*:} TCPREMOTEIP=127.0.0.1 TCPREMOTEPORT=[0-9]+\$"
	await_line lst.log 'rpc#1 .*closed: done, by inner, 5 bytes in, 5 out'
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 one
}

@test "a consumer in another language takes AF_UNIX streams with their eof from ccf-tlsterm" {
	terminator hub
	peer one consume hub --echo --env
	await_line lst.log "rpc: listening"
	says_tls "hello" "$LISTEN"
	await_line one.out '^conn 1 rpc#1 take$'
	await_line one.out '^env 1 .*CCF_CONN_ID=rpc#1 .*SSL_PROTOCOL=TLSv1.3'
	await_line one.out '^closed 1 done 0 5 5$'
	await_line tls.log 'rpc#1 .*closed: done, by peer, 5 bytes in, 5 out'
}

@test "a consumer in another language takes the connection that ccf-connect made" {
	echo_server
	spawn con ccf-connect --to hub "$ECHO"
	peer one consume hub
	await_line one.out "^closed 1 done 0 [0-9]+ [0-9]+$"
	ends_with 0 con
	ends_with 0 one
}

@test "a consumer in another language gives its own connection, and keeps no part in it" {
	echo_server
	terminator hub
	peer one consume hub --give "$ECHO" --modes take,give
	await_line lst.log "rpc: listening"
	says_tls "hello" "$LISTEN"
	await_line one.out '^conn 1 rpc#1 give$'
	await_line one.out '^over 1 done 0$'
	run ! grep -q '^closed' one.out
	await_line tls.log 'closed: done, by peer, 5 bytes in, 5 out'
}

@test "a consumer in another language gives one end of a stream, whose ends are declared both ways" {
	terminator hub
	peer one consume hub --echo --modes give
	await_line lst.log "rpc: listening"
	says_tls "hello" "$LISTEN"
	await_line one.out '^closed 1 done 0 5 5$'
	await_line one.out '^over 1 done 0$'
}

@test "a consumer that cannot give says why, and the client is reset" {
	terminator hub
	peer one consume hub --give "127.0.0.1:$(free_port)" --modes take,give
	await_line lst.log "rpc: listening"
	cut_tls "$LISTEN"
	await_line one.out '^closed 1 refused 7 0 0$'
	await_line tls.log 'rpc#1 .*closed: refused, by inner'
	await_line lst.log 'rpc#1 .*closed: refused, by inner'
}

@test "a producer in another language hands TCP connections to ccf-connect" {
	echo_server
	peer one produce hub --listen 127.0.0.1:0 --count 2
	spawn con ccf-connect --from hub "$ECHO"
	at_peer one
	says "hello" "$LISTEN"
	says "you too" "$LISTEN"
	await_line one.out '^closed 1 done 0 5 5$'
	await_line one.out '^closed 2 done 0 7 7$'
	await_line con.log 'peer#1 127.0.0.1:[0-9]+: closed: done'
	ends_with 0 one
}

@test "a producer in another language hands AF_UNIX streams with their eof to ccf-connect and ccf-tlsterm" {
	echo_server
	peer one produce hub --listen 127.0.0.1:0 --pair
	spawn con ccf-connect --from hub "$ECHO"
	at_peer one
	says "hello" "$LISTEN"
	await_line one.out '^moved 1 done 0 5 5$'
	await_line one.out '^closed 1 done 0 5 5$'

	peer two produce hub2 --listen 127.0.0.1:0 --pair
	spawn tls ccf-tlsterm --plaintext --from hub2 --app echo
	at_peer two
	says "hello" "$LISTEN"
	await_line two.out '^moved 1 done 0 5 5$'
	await_line two.out '^closed 1 done 0 5 5$'
}

@test "a producer in another language has its TLS ended by ccf-tlsterm, on a TCP connection and on a stream" {
	certs
	peer one produce hub --listen 127.0.0.1:0 --count 2
	spawn tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from hub -- \
	    sh -c 'cat; echo "$PROTO $CCF_CONN_ID" >>seen'
	at_peer one
	says_tls "hello" "$LISTEN"
	says_tls "hello" "$LISTEN"
	await_line seen 'TCP peer#2'
	await_line one.out '^closed 2 done 0 5 5$'

	peer two produce hub2 --listen 127.0.0.1:0 --pair
	spawn tls2 ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from hub2 --app echo
	at_peer two
	says_tls "hello" "$LISTEN"
	await_line two.out '^closed 1 done 0 5 5$'
}

@test "a producer in another language asks ccf-connect to give, a TCP backend and one on a path" {
	echo_server
	peer one produce hub --listen 127.0.0.1:0 --ask
	spawn con ccf-connect --from hub "$ECHO"
	at_peer one
	says "hello" "$LISTEN"
	await_line one.out '^adopt 1$'
	await_line one.out '^closed 1 done 0 5 5$'
	ends_with 0 one

	spawn store ccf-listen --ready-fd 9 --ready-when listening unix:store -- cat
	peer two produce hub2 --listen 127.0.0.1:0 --ask
	spawn con2 ccf-connect --from hub2 unix:store
	at_peer two
	says "hello" "$LISTEN"
	await_line two.out '^adopt 1$'
	await_line two.out '^closed 1 done 0 5 5$'
}

@test "ccf-connect answers a question that it cannot give an answer to" {
	peer one produce hub --listen 127.0.0.1:0 --ask
	spawn con ccf-connect --from hub "127.0.0.1:$(free_port)"
	at_peer one
	run timeout "$LIMIT" ccf-connect "$LISTEN" </dev/null
	await_line one.out '^closed 1 refused 7 0 0$'
	ends_with 0 one
}

@test "an end of stream without eof is a cut, whoever reads it" {
	terminator hub
	peer one consume hub --mute
	await_line lst.log "rpc: listening"
	cut_tls "$LISTEN"
	stop one || :
	peer two consume hub --mute --modes give
	await_line two.out '^link'
	cut_tls "$LISTEN"
	await_line two.out '^over 1 reset 18$'

	SPAWN_OUT=backend.out spawn backend python3 "$HERE/peer/cutter.py" listen 127.0.0.1:0 rest
	await_line backend.out '^127'
	peer three produce hub3 --listen 127.0.0.1:0 --pair --mute
	spawn con ccf-connect --from hub3 "$(head -n 1 backend.out)"
	at_peer three
	printf 'hello' | run timeout "$LIMIT" ccf-connect "$LISTEN"
	await_line backend.out '^rest [05] reset$'
	await_line three.out '^closed 1 reset 18 '
}

@test "both roles go by a ticket on a pipe" {
	echo_server
	pipeline lst ccf-listen --ready-fd 9 --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    one python3 "$HERE/peer/handoff.py" consume - --echo
	LISTEN=$(address a.json rpc)
	await_line lst.log "rpc: listening"
	says "hello" "$LISTEN"
	stop lst
	ends_with 0 one

	pipeline two python3 "$HERE/peer/handoff.py" produce - --listen 127.0.0.1:0 '|' \
	    con ccf-connect --from - "$ECHO"
	await_line two.log '^listening'
	says "hello" "$(sed -n 's/^listening //p' two.log)"
	ends_with 0 two
	ends_with 0 con
}

@test "both roles go the other way round, by dial: and bind:" {
	echo_server
	listener dial:hub
	peer one consume bind:hub --echo
	await_line lst.log "rpc: listening"
	says "hello" "$LISTEN"

	spawn con ccf-connect --from bind:hub2 "$ECHO"
	peer two produce dial:hub2 --listen 127.0.0.1:0
	at_peer two
	says "hello" "$LISTEN"
	ends_with 0 two
}

@test "both roles go by an inherited descriptor" {
	spawn pair python3 "$HERE/peer/with_pair.py" \
	    lst ccf-listen --ready-fd 9 --address-file a.json --to '{to}' rpc=127.0.0.1:0 + \
	    one python3 "$HERE/peer/handoff.py" consume '{from}' --echo
	await_line lst.log "rpc: listening"
	says "hello" "$(address a.json rpc)"
	stop pair
	cat pair.out
	[ "$(grep -c 'ended 0$' pair.out)" = 2 ]

	echo_server
	spawn pair2 python3 "$HERE/peer/with_pair.py" \
	    two sh -c 'exec python3 "$0" produce "$1" --listen 127.0.0.1:0 >two.out' "$HERE/peer/handoff.py" '{to}' + \
	    con ccf-connect --from '{from}' "$ECHO"
	at_peer two
	says "hello" "$LISTEN"
	ends_with 0 pair2
	cat pair2.out
	[ "$(grep -c 'ended 0$' pair2.out)" = 2 ]
}

# --- credit, drain, the number of links ---

@test "nobody is sent more connections than he granted" {
	local clients

	make_pipe clients_r clients
	listener hub
	peer one consume hub --echo --credit 3
	await_line lst.log "rpc: listening"
	SPAWN_IN=/dev/fd/$clients_r spawn clients python3 "$HERE/peer/clients.py" "$LISTEN"
	echo "open 5" >&"$clients"
	await_line clients.out '^5 connected'
	await_line one.out '^conn 3 '
	echo "send 1 3 x" >&"$clients"
	await_line clients.out '^3 data x'
	[ "$(grep -c '^conn' one.out)" = 3 ]
	kill -USR1 "${PID[lst]}"
	await_line lst.log '1 links, 3 connections there'
	echo "close 2 2" >&"$clients"
	await_line one.out '^conn 4 rpc#4'
	[ "$(grep -c '^conn' one.out)" = 4 ]
	echo "end" >&"$clients"
	ends_with 0 clients
}

@test "a grant that no number can hold is the largest there is" {
	listener hub
	spawn one python3 "$HERE/peer/hostile.py" grants hub 1 4294967295
	await_line lst.log "rpc: listening"
	say_often 5 "$LISTEN"
}

say_often() {
	local i

	for i in $(seq "$1"); do
		says "$i" "$2"
	done
}

@test "a consumer in another language that drains is sent no more, and is served until then" {
	echo_server
	listener hub
	peer one consume hub --echo --count 1
	await_line lst.log "rpc: listening"
	says "hello" "$LISTEN"
	await_line one.out '^end$'
	ends_with 0 one
	spawn con ccf-connect --from hub "$ECHO"
	await_line lst.log "rpc: listening"
	says "and you" "$LISTEN"
	[ "$(grep -c '^conn' one.out)" = "$(grep -c '^closed' one.out)" ]
	run ! grep -q 'link-lost' lst.log
}

@test "a tool that drains serves what it was sent, says closed for each, and closes" {
	local mode clients clients_r

	echo_server
	for mode in --count=3 --pair --ask; do
		make_pipe clients_r clients
		peer one produce hub --listen 127.0.0.1:0 --count 3 "$mode"
		spawn con ccf-connect --from hub "$ECHO"
		at_peer one
		SPAWN_IN=/dev/fd/$clients_r spawn clients python3 "$HERE/peer/clients.py" "$LISTEN"
		echo "open 2" >&"$clients"
		await_line one.out '^conn 2'
		echo "send 1 2 x" >&"$clients"
		await_line clients.out '^1 data x'
		await_line clients.out '^2 data x'
		kill -TERM "${PID[con]}"
		await_line one.out '^drain$'
		echo "send 1 2 y" >&"$clients"
		await_line clients.out '^1 data y'
		await_line clients.out '^2 data y'
		echo "end" >&"$clients"
		ends_with 0 clients
		ends_with 0 con
		ends_with 0 one
		[ "$(grep -c '^conn' one.out)" = 2 ]
		[ "$(grep -c -E '^closed [12] done 0 4 4$' one.out)" = 2 ]
		exec {clients}>&- {clients_r}<&-
		rm one.out clients.out
	done
}

@test "who dials opens as many links as the other side says it is made of" {
	local role

	echo_server
	peer one several producer hub 3
	spawn con ccf-connect --from hub "$ECHO"
	await_line one.out '^links 3$'
	ends_with 0 one
	peer two several consumer hub2 3
	listener dial:hub2
	await_line two.out '^links 3$'
	ends_with 0 two
	pipeline three python3 "$HERE/peer/handoff.py" several producer - 3 '|' con3 ccf-connect --from - "$ECHO"
	await_line three.log '^links 3$'
	ends_with 0 three
	ends_with 0 con3
}

# --- hostile peers ---

# Four tools under attack, each with a good neighbour on the same name: IT is the tool, GOOD where the neighbour's echo
# answers.  What is hostile dials hub.

listen_to() {
	IT=lst
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to hub rpc=127.0.0.1:0
	spawn neighbour ccf-connect --from hub "$ECHO"
	await_line lst.log "rpc: listening"
	GOOD=$(address a.json rpc)
}

terminate_to() {
	IT=tls
	spawn neighbour ccf-connect --from hub "$ECHO"
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --plaintext --to hub
	GOOD=$(address a.json rpc)
}

terminate_from() {
	IT=tls
	spawn tls ccf-tlsterm --plaintext --from bind:hub --app echo
	spawn neighbour ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to dial:hub rpc=127.0.0.1:0
	GOOD=$(address a.json rpc)
}

connect_from() {
	IT=con
	spawn con ccf-connect --from bind:hub "$ECHO"
	spawn neighbour ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to dial:hub rpc=127.0.0.1:0
	GOOD=$(address a.json rpc)
}

declare -gA ROLE=([listen_to]=consumer [terminate_to]=consumer [terminate_from]=producer [connect_from]=producer)

# attacked TOOL: it is there, has served, and BASE is how many descriptors it holds; a terminator's worker, too.
attacked() {
	echo_server
	"$1"
	says "before" "$GOOD"
	await_line "$IT.log" closed
	BASE=("$IT=$(fds "$IT")")
	[ "$IT" != tls ] || BASE+=("tls.1=$(fds tls.1)")
}

# spared: nothing is left of the attack; tool and neighbour end well.
spared() {
	local name

	says "after" "$GOOD"
	keeps "${BASE[@]}"
	for name in lst neighbour tls con; do
		[ -n "${PID[$name]-}" ] || continue
		if mine "${PID[$name]}"; then
			kill "${PID[$name]}" # or it has ended with its source
		fi
		ends_with 0 "$name"
		unset "PID[$name]"
		cat "$name.log" >>before.log
		rm "$name.log"
	done
	rm a.json
}

# endures TOOL CLASS: what a peer of it does of this class ends the peer's own link, for the reason in WHY, which is in
# one line of the log; or nothing, where WHY says "goes on".  A log shows ten such lines and counts the others: so many at
# a time.
endures() {
	local deeds batch deed

	mapfile -t deeds < <(hostile deeds "${ROLE[$1]}" "$2")
	[ ${#deeds[@]} -gt 0 ]
	while [ ${#deeds[@]} -gt 0 ]; do
		batch=("${deeds[@]:0:10}")
		deeds=("${deeds[@]:10}")
		attacked "$1"
		hostile "${ROLE[$1]}" "$PWD/hub" --good "$GOOD" "${batch[@]}" >deeds.out
		for deed in "${batch[@]}"; do
			judge "$deed" "${WHY[$1 $deed]-${WHY[$deed]}}"
		done
		[ "$(grep -c 'link with .* ended:' "$IT.log")" = "$(grep -c ' ended$' deeds.out)" ]
		spared
	done
}

# judge DEED WHY
judge() {
	local want=ended

	[ "$2" != "goes on" ] || want=$2
	grep -qx "$1 $want" deeds.out || {
		echo "$IT: $(grep "^$1 " deeds.out)"
		return 1
	}
	[ "$want" = "goes on" ] || grep -q -E "link with ($1|an unknown tool) ended: $2\$" "$IT.log" || {
		echo "$IT: $1: no line: $2"
		return 1
	}
}

all_endure() {
	local tool

	for tool in listen_to terminate_to terminate_from connect_from; do
		endures "$tool" "$1"
	done
}

@test "a malformed message ends its own link only, with one line that says why" {
	local -A WHY=(
		[half]='the last string is not ended' [no-end]='the last string is not ended'
		[no-verb]='the first string is not a verb' [odd-verb]='the first string is not a verb'
		[empty-string]='an empty string' [no-equals]='a field without ='
		[no-name]='a field whose name does not begin with a letter'
		[missing]='ready: n= is missing' [twice]='ready: n= is there twice'
		[no-number]='ready: n= is not what it should be' [large-number]='ready: n= is not what it should be'
		[odd-reason]='closed: reason= is not what it should be'
		[after-environment]='a field after the environment' [many]='more than 512 strings'
		[oversized]='a message of the wrong shape .*'
	)

	all_endure shape
}

@test "a message out of place ends its own link only, with one line that says why" {
	local -A WHY=(
		[conn]='a conn from a consumer' [bare-adopt]='an adopt without its descriptor'
		[ready]='a ready from a producer' [drain]='a drain from a producer' [adopt]='an adopt from a producer'
		[second-hello]='a second hello'
		[id-zero]='a connection number that is not larger than the last'
		[same-id]='a connection number that is not larger than the last'
		[smaller-id]='a connection number that is not larger than the last'
		[bare-conn]='a conn without its descriptor' ["connect_from bare-conn"]='goes on'
		[withdrawn]='a conn without its descriptor' ["connect_from withdrawn"]='goes on'
		[never-reads]='more connections than were granted'
	)

	all_endure place
}

@test "a hello that is none ends its own link only, with one line that says why" {
	local -A WHY=(
		[too-early]='something before its hello' [unknown-first]='something before its hello'
		[same-role]='the other side is a (consumer|producer) too'
		[version-0]='hello: version= is not what it should be \(we need 1\)'
		[no-tool]='hello: tool= is missing' [odd-tool]='hello: tool= is not what it should be'
		[odd-token]='hello: token= is not what it should be'
		[with-descriptor]='a descriptor where none belongs'
	)

	all_endure hello
}

@test "a descriptor that does not belong there is closed, and ends its own link only" {
	local -A WHY=(
		[on-eof]='a descriptor where none belongs' [on-closed]='a descriptor where none belongs'
		[on-ready]='a descriptor where none belongs' [on-drain]='a descriptor where none belongs'
		[two]='a message of the wrong shape .*' [many-descriptors]='a message of the wrong shape .*'
		[two-on-an-unknown]='a message of the wrong shape .*'
		[not-a-socket]='an? (conn|adopt) whose descriptor is not a stream socket'
		[not-a-stream]='an? (conn|adopt) whose descriptor is not a stream socket'
	)

	all_endure descriptor
}

@test "what is unknown, late or said twice is ignored" {
	local -A WHY
	local deed

	for deed in $(hostile deeds consumer harmless) $(hostile deeds producer harmless); do
		WHY[$deed]='goes on'
	done
	all_endure harmless
}

@test "what a consumer says of a connection that is not open, or not his to give, is ignored" {
	local -A WHY=(
		[adopts-twice]='goes on' [speaks-after-closed]='goes on' [adopts-a-dead-one]='goes on'
		[grants-much-with-everything]='goes on'
	)

	endures listen_to conn
	endures terminate_to conn
}

@test "a connection that nobody granted ends its own link only" {
	local why='more connections than were granted'

	spawn tls ccf-tlsterm --plaintext --from bind:hub --to nobody
	hostile producer "$PWD/hub" uncredited uncredited-question >deeds.out
	IT=tls
	judge uncredited "$why"
	judge uncredited-question "$why"
	stop tls
	[ "$ended" = 0 ]
}

@test "an empty packet is the end of its own link only" {
	local tool

	for tool in listen_to connect_from; do
		attacked "$tool"
		hostile "${ROLE[$tool]}" "$PWD/hub" --good "$GOOD" empty empties empty-with-descriptor empty-first >deeds.out
		[ "$(grep -c ' ended$' deeds.out)" = 4 ]
		spared
	done
}

@test "who says no hello is closed after five seconds, and the others are served meanwhile" {
	local name

	echo_server
	terminate_from
	spawn con ccf-connect --from bind:hub2 "$ECHO"
	spawn lst ccf-listen --to hub3 rpc=127.0.0.1:0
	spawn pair python3 "$HERE/peer/hostile.py" pair producer silence ccf-connect --from '{fd}' "$ECHO"
	spawn quiet python3 "$HERE/peer/hostile.py" speechless --good "$GOOD" hub hub2 hub3
	ends_with 0 quiet $((LIMIT * 2))
	ends_with 0 pair
	grep -qx 'status 76' pair.out # no other link can come
	[ "$(grep -c closed quiet.out)" = 3 ]
	for name in tls con lst; do
		[ "$(grep -c 'link with an unknown tool ended: no hello in time' "$name.log")" = 1 ]
	done
	says "hello" "$GOOD"
}

@test "of a thousand links sixty-four are kept, and those who were there are served" {
	local tool

	for tool in listen_to terminate_from connect_from; do
		attacked "$tool"
		spawn many python3 "$HERE/peer/hostile.py" thousand "${ROLE[$tool]}" hub --good "$GOOD"
		await_line many.out '^closed'
		grep -qx 'closed 937 open 63' many.out
		[ "$(grep -c 'more than 64 links' "$IT.log")" = 1 ]
		says "meanwhile" "$GOOD"
		kill -USR1 "${PID[many]}"
		ends_with 0 many
		spared
	done
}

@test "thirty-two connections with 32 KiB of environment each are connections like others" {
	local tool

	for tool in terminate_from connect_from; do
		attacked "$tool"
		hostile environment hub
		spared
	done
	spawn tls ccf-tlsterm --plaintext --from bind:before --to after
	hostile through before after
}

@test "a flood holds nobody up" {
	local tool

	for tool in listen_to terminate_from connect_from; do
		attacked "$tool"
		hostile flood "${ROLE[$tool]}" hub --good "$GOOD"
		spared
	done
}

@test "a flood of broken links is summed up in the log" {
	local deeds began

	attacked listen_to
	mapfile -t deeds < <(yes half | head -n 30)
	began=$SECONDS
	hostile consumer hub --good "$GOOD" "${deeds[@]}" >deeds.out
	[ "$(grep -c ' ended$' deeds.out)" = 30 ]
	spared
	summed_up 30 before.log 'link with half ended' 'broken links' "$began"
}

@test "a consumer that reads nothing is passed over after five seconds, until it reads" {
	local clients clients_r

	make_pipe clients_r clients
	echo_server
	listen_to
	spawn dead python3 "$HERE/peer/hostile.py" unread hub 32
	await_line dead.out '^up$'
	SPAWN_IN=/dev/fd/$clients_r spawn clients python3 "$HERE/peer/clients.py" "$GOOD"
	printf 'open 8\nsend 1 8 x\n' >&"$clients"
	await_line lst.log 'unread has not read a connection for 5 s' $((LIMIT * 2))
	eventually has_lines 4 'data x' clients.out
	printf 'open 4\nsend 9 12 y\n' >&"$clients"
	eventually has_lines 4 'data y' clients.out
	kill -USR1 "${PID[dead]}"
	eventually has_lines 8 'data x' clients.out
	eventually gets_more
	echo "end" >&"$clients"
	ends_with 0 clients
	[ "$(grep -c 'has not read' lst.log)" = 1 ]
}

# gets_more: the consumer that was dead has the fewest connections, so it is given new ones.
gets_more() {
	echo "open 1" >&"$clients"
	grep -qx 'echo 5' dead.out
}

has_lines() {
	[ "$(grep -c "$2" "$3")" = "$1" ]
}

@test "a consumer that dies with connections unread: their clients are reset, and the counts go back" {
	local clients clients_r

	make_pipe clients_r clients
	echo_server
	listen_to
	spawn dead python3 "$HERE/peer/hostile.py" unread hub 32
	await_line dead.out '^up$'
	SPAWN_IN=/dev/fd/$clients_r spawn clients python3 "$HERE/peer/clients.py" "$GOOD"
	printf 'open 8\nsend 1 8 x\n' >&"$clients"
	eventually has_lines 4 'data x' clients.out
	await_line lst.log 'rpc#8 .*accepted'
	stop dead KILL || :
	eventually has_lines 4 ' reset$' clients.out
	eventually has_lines 4 'closed: link-lost' lst.log
	kill -USR1 "${PID[lst]}"
	await_line lst.log 'rpc: listening, 4 open'
	await_line lst.log '1 links, 4 connections there, 4 lost with a link'
	echo "end" >&"$clients"
	ends_with 0 clients
	eventually says_status 'rpc: listening, 0 open'
}

# says_status PATTERN: the listener, when it is asked.
says_status() {
	kill -USR1 "${PID[lst]}"
	grep -q "$1" lst.log
}

# --- who may, and how it ends ---

as_user() {
	"${AS_USER[@]}" timeout $((LIMIT * 2)) python3 "$HERE/peer/hostile.py" "$@"
}

# bats test_tags=root
@test "another user is refused, whoever dialled, and let in by --peer-user" {
	requires root
	shared_dir
	spawn lst ccf-listen --ready-fd 9 --socket-mode 0666 --to hub rpc=127.0.0.1:0
	as_user consumer hub version-99 >deeds.out
	grep -qx 'version-99 ended' deeds.out
	[ "$(grep -c 'ended: its user is neither ours nor root (--peer-user allows another)' lst.log)" = 1 ]
	spawn lst2 ccf-listen --ready-fd 9 --socket-mode 0666 --peer-user "${CCF_UID:-65534}" --to hub2 rpc=127.0.0.1:0
	as_user consumer hub2 version-99 | grep -qx 'version-99 goes on'

	echo_server
	spawn one "${AS_USER[@]}" python3 "$HERE/peer/handoff.py" produce "$PWD/hub3" --listen 127.0.0.1:0
	eventually test -S hub3
	chmod 0666 hub3
	spawn con setpriv --reuid 65533 --regid 65533 --clear-groups ccf-connect --from "$PWD/hub3" "$ECHO"
	await_line con.log "it is held by user ${CCF_UID:-65534}, neither ours nor root"
	[ ! -s one.out ]
}

# bats test_tags=root
@test "the token of a ticket lets another user in, and nothing else does" {
	local pipe token path

	requires root
	shared_dir
	mkfifo out
	exec {pipe}<>out
	SPAWN_OUT=out spawn lst ccf-listen --ready-fd 9 --to - rpc=127.0.0.1:0
	read -r -t "$LIMIT" -u "$pipe" _ _ token path
	as_user consumer "$path" version-99 | grep -qx 'version-99 ended'
	as_user consumer "$path" --token "${token//?/0}" version-99 | grep -qx 'version-99 ended'
	[ "$(grep -c "ended: its user is neither ours nor root, and its token is not the ticket's" lst.log)" = 2 ]
	as_user consumer "$path" --token "$token" version-99 | grep -qx 'version-99 goes on'
	hostile consumer "$path" version-99 | grep -qx 'version-99 goes on' # root needs none
	exec {pipe}>&-
	ends_with 0 lst
	[ ! -e "${path%/*}" ]
}

# ends_pair STATUS ROLE DEED CMD...
ends_pair() {
	local status=$1

	shift
	hostile pair "$@" >pair.out 2>>pair.log
	grep -qx "status $status" pair.out || {
		cat pair.out pair.log
		return 1
	}
}

@test "a breach on an inherited descriptor ends the tool with 76, and an end of the link with 0" {
	echo_server
	ends_pair 76 consumer no-end ccf-listen --to '{fd}' rpc=127.0.0.1:0
	ends_pair 76 producer no-end ccf-connect --from '{fd}' "$ECHO"
	ends_pair 76 producer no-end ccf-tlsterm --plaintext --from '{fd}' --app echo
	ends_pair 76 consumer no-end ccf-tlsterm --plaintext --from bind:hub --to '{fd}'
	ends_pair 76 consumer version-0 ccf-connect --to '{fd}' "$ECHO"
	ends_pair 0 consumer version-99 ccf-listen --to '{fd}' rpc=127.0.0.1:0
	ends_pair 0 producer version-99 ccf-connect --from '{fd}' "$ECHO"
	ends_pair 0 producer version-99 ccf-tlsterm --plaintext --from '{fd}' --app echo
}

@test "after a breach a ticket is dialled again; it is the end, with 76, when the pipe has ended" {
	echo_server
	pipeline bad python3 "$HERE/peer/hostile.py" ticket no-end again '|' con ccf-connect --from - "$ECHO"
	ends_with 0 bad
	grep -qx 'no-end ended' bad.log
	grep -qx 'again goes on' bad.log
	ends_with 0 con
	pipeline bad2 python3 "$HERE/peer/hostile.py" ticket no-end '|' con2 ccf-connect --from - "$ECHO"
	ends_with 76 con2
	pipeline lst ccf-listen --ready-fd 9 --to - rpc=127.0.0.1:0 '|' bad3 python3 "$HERE/peer/hostile.py" reads no-end
	ends_with 76 lst
}

@test "what is no ticket is said, and what is half of one" {
	local token=0123456789abcdef0123456789abcdef

	no_ticket 76 'not a link.s ticket: pipe a tool' 'hello\n'
	no_ticket 76 'not a link.s ticket: pipe a tool' 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
	no_ticket 76 'not a link.s ticket: pipe a tool' "ccf-handoff 1 $token relative/path\n"
	no_ticket 76 'not a link.s ticket: pipe a tool' "ccf-handoff 1 ${token%?}G /tmp/x\n"
	no_ticket 76 'not a link.s ticket: pipe a tool' "ccf-handoff 1 $token /$(printf 'x%.0s' {1..200})\n"
	no_ticket 76 'not a link.s ticket of a version we know \(1\)' "ccf-handoff 2 $token /tmp/x\n"
	no_ticket 69 'the pipe ended before it said where the link is' ''
	no_ticket 69 'the pipe ended before it said where the link is' "ccf-handoff 1 $token /tmp"
}

# no_ticket STATUS PATTERN TEXT
no_ticket() {
	run --separate-stderr timeout "$LIMIT" ccf-connect --from - 127.0.0.1:9 < <(printf %b "$3")
	[ "$status" = "$1" ]
	[[ $stderr =~ $2 ]]
	[ "${#stderr_lines[@]}" = 1 ]
}

@test "what follows the ticket on its pipe is not read, and its end is the end" {
	local ticket out in_r in

	echo_server
	mkfifo out
	exec {ticket}<>out
	SPAWN_OUT=out spawn one python3 "$HERE/peer/handoff.py" produce - --listen 127.0.0.1:0 --count 9
	make_pipe in_r in
	read -r -t "$LIMIT" -u "$ticket" out
	printf '%s\nccf-handoff 1 second line\n' "$out" >&"$in"
	SPAWN_IN=/dev/fd/$in_r spawn con ccf-connect --from - "$ECHO"
	await_line one.log '^listening'
	says "hello" "$(sed -n 's/^listening //p' one.log)"
	read -r -t "$LIMIT" -u "$in_r" out
	[ "$out" = "ccf-handoff 1 second line" ]
	kill -KILL "${PID[one]}"
	wait_for one || :
	exec {in}>&-
	ends_with 0 con
}

# --- the page ---

@test "the numbers of ccf-handoff(7) are those of the code" {
	says_page "a packet" "$(defined wire/note.h NOTE_MAX) bytes"
	says_page "strings in a packet" "$(defined wire/note.h NOTE_STRINGS_MAX)"
	says_page "outstanding credit of one link" "$(defined flow/link.h LINK_WINDOW)"
	says_page "links at one name" "$(defined flow/name.h NAME_LINKS_MAX) (a further one is closed)"
	says_page "time for the other side's hello" "$(($(defined flow/link.h LINK_HELLO_MS) / 1000)) seconds"
	says_page "a conn may lie unread for" "$(($(defined flow/link.h LINK_STALE_MS) / 1000)) seconds"
	says_page "reason" "$(($(defined wire/note.h NOTE_REASON_MAX) - 1)) bytes"
	says_page "a value of the environment" "$(defined base/env.h ENV_VALUE_MAX) bytes"
	says_page "names in the environment" "$(defined base/env.h ENV_NAMES_MAX)"
	says_page "the environment" "$(defined base/env.h ENV_TOTAL_MAX) bytes"
	says_page "client certificates, together" "$(defined base/env.h ENV_CERT_MAX) bytes"
	grep -qx "$(python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True
from link import encode; print(encode("ready", n=4).hex(" "))' "$HERE/peer")" "$ROOT/man/ccf-handoff.7"
}

# says_page WHAT HOW-MUCH: a row of its LIMITS.
says_page() {
	grep -qxF ".It $1 Ta $2" "$ROOT/man/ccf-handoff.7" || {
		echo "not in the page: $1: $2"
		return 1
	}
}

# defined HEADER NAME: the number, evaluated.
defined() {
	echo $(($(sed -n "s|^#define $2[[:space:]]*||p" "$ROOT/lib/$1" | sed 's|/\*.*||')))
}
