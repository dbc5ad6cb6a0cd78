# control - the control socket of the tools that stay running: what can be asked there, by whom, and what it does.
#
# (who runs this makes no difference)

# shellcheck disable=SC2086	# names are one word each
load helpers
load clients
load control

# --- what can be asked ---

@test "GET / of each tool says what can be asked for, and all of that can be" {
	local name method path rest

	stack plain
	for name in $TOOLS; do
		answers 200 $name GET /
		head -n 1 $name.body | grep -E '^ccf-(listen|tlsterm|connect) [0-9.]+$'
		sed 1d $name.body >routes
		for path in /metrics /connections /connections/ID /drain /log-level; do grep -q -E " $path +[a-z]" routes; done
		while read -r method path rest; do
			[ -n "$rest" ]
			case $path in
			/drain | /reload | /connections/ID) refuses 405 $name PATCH $path "does not take PATCH, but .*$method" ;;
			*) [ "$method" != GET ] || answers 200 $name GET $path ;;
			esac
		done <routes
		answers 200 $name HEAD / --head
		[ ! -s $name.body ] || grep -q '^HTTP/1.1 200' $name.body
		answers 200 $name GET '/?what=ever'
	done
	answers 200 lst GET /node/metrics
	for name in term con; do refuses 404 $name GET /node/metrics 'there is no /node/metrics here; there is .*GET /metrics'; done
}

@test "a wrong path, method or body is refused with CCF's JSON, which says what there is" {
	local name path long

	printf -v path %1000s ''
	printf -v long %5000s ''
	stack plain
	for name in $TOOLS; do
		refuses 404 $name GET /nothing 'there is no /nothing here; there is GET /, GET /metrics, .*POST /drain.*PUT /log-level'
		jq -e '.error.code == "ResourceNotFound"' $name.body
		refuses 404 $name GET /metrics/ 'there is no /metrics/ here'
		refuses 414 $name GET "/${long// /x}" 'too large'
		refuses 404 $name GET "/${path// /x}" 'there is no /x{63}[.]{3} here'
		refuses 405 $name POST /metrics '/metrics does not take POST, but GET, HEAD'
		jq -e '.error.code == "UnsupportedHttpVerb"' $name.body
		grep -q -i $'^Allow: GET, HEAD\r$' $name.head
		refuses 405 $name GET /drain 'does not take GET, but POST'
		refuses 400 $name PUT /log-level 'write error, warn, info or debug' --data loud
		refuses 400 $name PUT /log-level 'write error, warn, info or debug' --data 'info debug'
		refuses 413 $name PUT /log-level 'too large' --data "$long"
		refuses 400 $name GET /metrics . -H 'Content-Length: 1' -H 'Content-Length: 2'
		refuses 400 $name GET /metrics . -H 'Space : x'
		# and it goes on
		answers 200 $name GET /log-level
		[ "$(cat $name.body)" = info ]
	done
	refuses 404 lst POST /reload 'ccf-listen has nothing to reload'
	refuses 404 con POST /reload 'ccf-connect has nothing to reload'
	refuses 404 term POST /reload 'ccf-tlsterm has nothing to reload'
	refuses 405 lst DELETE /connections/rpc%231 'ccf-listen does not hold .*ccf-tlsterm or ccf-connect'
	for name in term con; do
		refuses 404 $name DELETE /connections/rpc%231 'no connection rpc#1: GET /connections shows'
		refuses 400 $name DELETE /connections/rpc%2 'escaped wrongly'
		refuses 400 $name DELETE "/connections/${path// /y}" 'too long'
	done
}

@test "--control where a tool does not stay running is a usage error that says what would" {
	expect_status 2 ccf-listen --control x.ctl 127.0.0.1:0
	[[ $output == *'give --to, a COMMAND or -k'* ]]
	expect_status 2 ccf-connect --control x.ctl 127.0.0.1:1
	[[ $output == *--from* ]]
	expect_status 2 ccf-connect --control x.ctl 127.0.0.1:1 -- cat
	expect_status 2 python3 "$HERE/peer/on_sockets.py" ccf-tlsterm --plaintext --control x.ctl --app echo
	[[ $output == *'there is one connection'* ]]
	[ ! -e x.ctl ]
}

# --- connections ---

# A row has these keys, and no others.
KEYS='["age", "held", "id", "idle", "in", "interface", "out", "peer", "state", "tls"]'

@test "GET /connections: who is there, since when, over which TLS, what has moved; what a tool does not know is null" {
	local name

	stack tls
	answers 200 lst GET /connections
	[ "$(jq -c . lst.body)" = '[]' ]
	talk 2
	tell cl send 2 2 more
	saw cl 2 'data more'
	rows term 'length == 2 and all(.[]; keys == '"$KEYS"') and ([.[].id] | sort) == ["rpc#1", "rpc#2"]'
	grep -qi '^Content-Type: application/json' term.head
	rows term 'all(.[]; .interface == "rpc" and .state == "open" and .tls == "TLSv1.3 TLS_AES_256_GCM_SHA384")'
	rows term 'all(.[]; .age >= .idle and .idle >= 0 and .age < 100 and .held >= 0 and (.held | floor) == .held)'
	rows term '[.[] | select(.id == "rpc#1" and .in == 6 and .out == 6)] | length == 1'
	rows term '[.[] | select(.id == "rpc#2" and .in == 11 and .out == 11)] | length == 1'
	rows term '([.[].peer] | unique | length) == 2 and all(.[]; .peer | test("^127[.]0[.]0[.]1:[0-9]+$"))'
	jq -r '.[].peer' term.body | sort >peers
	rows lst 'length == 2 and all(.[]; keys == '"$KEYS"' and .state == "handed" and .interface == "rpc")'
	rows lst 'all(.[]; .tls == null and .in == null and .out == null and .held == null and .idle == null and .age >= 0)'
	jq -r '.[].peer' lst.body | sort | cmp peers
	rows con 'length == 0'		# it has given them on
	tell cl end
	for name in $TOOLS; do rows $name 'length == 0'; done
}

@test "GET /connections: a handshake, who waits, who is asked for, who is dialled, who is joined, whose COMMAND it is" {
	local full name

	certs
	spawn full python3 "$HERE/peer/deaf.py"
	await_line full.out :
	full=$(cat full.out)

	# a handshake; then nobody has room; then somebody is asked, and dials
	spawn lst ccf-listen --to first --control lst.ctl --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	spawn con ccf-connect --control con.ctl --from second --connect-timeout 50s "$full"
	spawn term ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from first --to second --control term.ctl \
	    --handshake-timeout 50s
	asked lst 'rpc: listening'
	askers cl "$(address a.json rpc)" --tls "$CERTS/ca.pem"
	tell cl knock 1
	rows term 'map([.id, .state, .tls, .in]) == [["rpc#1", "handshake", null, 0]]'
	tell cl open 1
	rows term '[.[] | select(.id == "rpc#2")] | map([.state, .tls]) == [["asked", "TLSv1.3 TLS_AES_256_GCM_SHA384"]]'
	rows con 'map([.id, .state, .in]) == [["rpc#2", "dialling", null]]'
	rows lst 'map(.state) == ["handed", "handed"]'

	# each of them can be cut
	answers 200 term DELETE /connections/rpc%231
	answers 200 con DELETE /connections/rpc%232
	for name in $TOOLS; do rows $name 'length == 0'; done
	await_line term.log 'rpc#1 .*: closed: control, by us, 0 bytes in, 0 out, .*, status 18$'
	await_line con.log 'rpc#2 .*: closed: control, by us, '
	figures term ccfnet_connections_active=0 'ccfnet_tls_handshakes_total{result="other"}=1'

	# nobody has room: the consumer is stopped
	stop con KILL
	tell cl open 1
	rows term 'map([.id, .state]) == [["rpc#3", "waiting"]]'
	answers 200 term DELETE /connections/rpc%233
	rows term 'length == 0'

	spawn back ccf-listen --ready-fd 9 --address-file b.json --control back.ctl back=127.0.0.1:0 -- cat
	spawn join ccf-listen --ready-fd 9 --address-file c.json --to third rpc=127.0.0.1:0
	spawn mid ccf-connect --control mid.ctl --from third "$(address b.json back)"
	asked join 'rpc: listening'
	clients here "$(address c.json rpc)"
	tell here open 1
	tell here send 1 1 hello
	saw here 1 'data hello'
	rows mid 'map([.id, .interface, .state, .in, .out]) == [["rpc#1", "rpc", "joined", 6, 6]]'
	rows back 'map([.id, .interface, .state]) == [["back#1", "back", "command"]]'
	refuses 405 back DELETE /connections/back%231 'each COMMAND has its own; end it'
	answers 200 mid DELETE /connections/rpc%231
	saw here 1 '(closed|reset)'
	rows mid 'length == 0'
	rows back 'length == 0'
}

@test "GET /connections shows 300 live ones, each once; two workers' together" {
	[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 1200 ] || skip "1200 descriptors are not allowed here"
	spawn lst ccf-listen --control lst.ctl --to first --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --control term.ctl -j 2 --from first --app echo
	asked lst ': 2 links, '
	granted term
	clients cl "$(address a.json rpc)"
	tell cl open 300
	tell cl send 1 300 hello
	eventually times 300 cl.out ' data hello$'
	rows term 'length == 300 and ([.[].id] | unique | length) == 300 and all(.[]; .in == 6 and .out == 6 and .state == "open")'
	rows lst 'length == 300 and ([.[].peer] | unique | length) == 300'
	answers 200 term DELETE /connections/rpc%23100
	[ "$(jq -r .cut term.body)" = 'rpc#100' ]
	rows term 'length == 299 and all(.[]; .id != "rpc#100")'
	rows lst 'length == 299 and all(.[]; .id != "rpc#100")'
	refuses 404 term DELETE /connections/rpc%23100 'no connection rpc#100'
	saw cl 100 '(closed|reset)'
	tell cl send 1 99 again
	eventually times 99 cl.out ' data again$'
	tell cl end
	rows term 'length == 0'
}

# cut_off HOW: rpc#2 of three is cut by the terminator; its client hears no end, the others go on.
cut_off() {
	local said

	pipeline lst ccf-listen --to - --control lst.ctl --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${@:2}" --control term.ctl --app http1
	askers cl "$(address a.json rpc)" "${TLS[@]}"
	tell cl open 3
	tell cl ask 1 3
	eventually times 3 cl.out ' 200$'
	answers 200 term DELETE /connections/rpc%232
	tell cl rest 2 2
	await_line cl.out '^2 rest 0 (bare|failed|reset)$'
	await_line term.log 'rpc#2 .*: closed: control, by us, 35 bytes in, [0-9]+ out, .*, status 18$'
	await_line lst.log 'rpc#2 .*: closed: control, by inner, .*, status 18$'
	await_line term.log 'info: --control: user [0-9]+: /connections/rpc#2 cut$'
	figures term 'ccfnet_connections_closed_total{reason="control"}=1'
	refuses 404 term DELETE /connections/rpc%232 'no connection rpc#2'
	refuses 404 term DELETE /connections/rpc%2399 'no connection rpc#99'
	tell cl ask 1 1
	tell cl ask 3 3
	eventually times 5 cl.out ' 200$'
	tell cl end
	ends_with 0 cl
	stop lst
	ends_with 0 term
}

@test "DELETE /connections/ID: the client sees a reset, and over TLS no close_notify; the others go on; once more is 404" {
	certs
	TLS=()
	cut_off plain --plaintext
	TLS=(--tls "$CERTS/ca.pem")
	rm -f cl.in
	cut_off tls --cert "$CERTS/chain.pem" --key "$CERTS/key.pem"
}

@test "DELETE /connections/ID: ccf-listen -k cuts the one on standard input and output, and goes on with the next" {
	make_pipe in out
	SPAWN_IN=/proc/$$/fd/$in SPAWN_OUT=got spawn lst ccf-listen -k --control lst.ctl --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	clients cl "$(address a.json rpc)"
	tell cl open 1
	tell cl send 1 1 one
	await_line got one
	rows lst 'map([.id, .state, .in, .out]) == [["rpc#1", "joined", 4, 0]]'
	refuses 404 lst DELETE /connections/rpc%232 'no connection rpc#2'
	answers 200 lst DELETE /connections/rpc%231
	saw cl 1 reset
	tell cl open 1
	tell cl send 2 2 two
	await_line got two
	rows lst 'map(.id) == ["rpc#2"]'
	figures lst ccfnet_connections_active=1 ccfnet_connections_taken_total=2 'ccfnet_connections_closed_total{reason="control"}=1'
	answers 202 lst POST /drain
}

@test "ccf-connect --to: the one it handed on is shown, and is not its to cut; it can be drained" {
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- cat
	spawn con ccf-connect --control con.ctl --to link "$(address b.json rpc)"
	up con
	rows con 'length == 0'
	figures con ccfnet_connections_active=0 'ccfnet_dials_total{result="ok"}=0'
	spawn term ccf-tlsterm --plaintext --from link --app echo --control term.ctl
	rows con 'length == 1 and .[0].state == "handed" and .[0].in == null'
	rows term 'length == 1 and .[0].state == "open"'
	figures con ccfnet_connections_active=1 'ccfnet_dials_total{result="ok"}=1'
	correct con
	refuses 405 con DELETE /connections/x 'ccf-connect does not hold .*ask the one that took it'
	refuses 404 con GET /nothing 'there is no /nothing here; there is '
	answers 202 con POST /drain
	answers 200 con GET /connections
	jq -r '.[0].id' con.body >id
	answers 200 term DELETE "/connections/$(jq -rR @uri id)"
	ends_with 18 con
	[ ! -e con.ctl ]
}

# --- what can be done ---

@test "POST /drain: nothing new is taken, who is there finishes while questions are answered, then the tool ends and its socket is gone" {
	local name

	stack plain
	talk 2
	for name in $TOOLS; do
		answers 200 $name GET /connections
		answers 202 $name POST /drain
		[ "$(cat $name.body)" = draining ]
		await_line $name.log 'info: --control: user [0-9]+: /drain asked for$'
		await_line $name.log 'info: draining$'
		[ $name = con ] || rows $name 'length == 2'
		[ $name = con ] || correct $name
		[ $name = con ] || answers 202 $name POST /drain
		[ $name = con ] || await_line $name.log 'info: --control: user [0-9]+: /drain again$'
	done
	ends_with 0 con		# it has given away what it had
	tell cl open 1
	saw cl 3 refused
	tell cl send 1 2 still
	eventually times 2 cl.out ' data still$'
	tell cl end
	ends_with 0 lst
	ends_with 0 term
	for name in $TOOLS; do [ ! -e $name.ctl ]; done
}

# served_by: the common name, or the kind of key, of who answers at ADDR.
served_by() {
	openssl s_client -connect "$ADDR" -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -text 2>/dev/null |
	    sed -n 's/^ *Public Key Algorithm: //p'
}

is_served_by() {
	[ "$(served_by)" = "$1" ]
}

@test "POST /reload: the next handshake gets the new certificate, a live session stays; what is wrong is said, and the old one stays" {
	certs
	cat "$CERTS/chain.pem" "$CERTS/key.pem" >node.pem
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --cert node.pem --control term.ctl -j 2 --app echo
	ADDR=$(address a.json rpc)
	TLS=(--tls "$CERTS/ca.pem")
	talk 1
	is_served_by id-ecPublicKey

	answers 202 term POST /reload
	await_line term.log 'info: --control: user [0-9]+: /reload asked for$'
	eventually times 1 term.log 'certificate loaded again from'

	cat "$CERTS/rsa.pem" "$CERTS/rsa.key" >new.pem
	mv new.pem node.pem
	answers 202 term POST /reload
	eventually is_served_by rsaEncryption
	tell cl send 1 1 still
	saw cl 1 'data still'

	echo nothing >new.pem
	mv new.pem node.pem
	answers 202 term POST /reload
	await_line term.log 'warn: not loaded again: node.pem'
	is_served_by rsaEncryption
	tell cl send 1 1 again
	saw cl 1 'data again'
}

# level NAME WORD
level() {
	answers 200 "$1" PUT /log-level --data "$2"
	[ "$(cat "$1.body")" = "$2" ]
	answers 200 "$1" GET /log-level
	[ "$(cat "$1.body")" = "$2" ]
}

@test "PUT /log-level takes effect at once, in each tool, in both workers and in those who come after them" {
	local name

	spawn con ccf-connect --control con.ctl --from second 127.0.0.1:1
	spawn term ccf-tlsterm --plaintext --from first --to second --control term.ctl -j 2
	up term con
	level term debug
	spawn lst ccf-listen --to first --control lst.ctl --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	eventually times 2 term.log 'debug: --from first: link with '

	for name in $TOOLS; do
		level $name warn
		await_line $name.log 'info: --control: user [0-9]+: /log-level warn$' # who silences it is still said
	done
	clients cl "$(address a.json rpc)"
	tell cl open 8
	eventually times 8 cl.out ' reset$'
	figures lst ccfnet_connections_active=0 ccfnet_connections_taken_total=8
	figures term ccfnet_connections_active=0 ccfnet_connections_taken_total=8
	for name in $TOOLS; do times 0 $name.log ' info: rpc#'; done
	kill_worker term 1
	await_line term.log 'warn: worker 1 '
	figures term ccfnet_worker_deaths_total=1 ccfnet_workers_silent=0
	worker term 2
	tell cl open 4
	eventually times 12 cl.out ' reset$'
	figures term ccfnet_connections_taken_total=12
	times 0 term.log ' info: rpc#'

	for name in $TOOLS; do level $name info; done
	tell cl open 4
	eventually times 16 cl.out ' reset$'
	for name in $TOOLS; do eventually times 4 $name.log ' info: rpc#[0-9]+ .*: closed: '; done
	await_line term.log 'info: --control: user [0-9]+: /log-level info$'
}

# --- the socket ---

# other CURL-ARGUMENT...: curl, as an ordinary user who is not us.
other() {
	setpriv --reuid "${CCF_UID:-65534}" --regid "${CCF_UID:-65534}" --clear-groups curl -sS --max-time "$LIMIT" "$@"
}

# bats test_tags=root
@test "another user may not ask, even if he may connect, unless --peer-user says so" {
	requires root
	shared_dir
	spawn lst ccf-listen -k --control lst.ctl --socket-mode 0666 127.0.0.1:0
	spawn peer ccf-listen -k --control peer.ctl --socket-mode 0666 --peer-user "${CCF_UID:-65534}" 127.0.0.1:0
	spawn shut ccf-listen -k --control shut.ctl 127.0.0.1:0
	up lst peer shut
	run ! other --unix-socket lst.ctl http://localhost/
	await_line lst.log "info: --control lst.ctl: user ${CCF_UID:-65534} may not"
	run ! other --unix-socket shut.ctl http://localhost/
	times 0 shut.log 'may not'	# the mode keeps him away
	expect_status 0 other --unix-socket peer.ctl http://localhost/
	[[ $output == *'GET    /metrics'* ]]
	for name in lst peer shut; do answers 200 $name GET /; done
	answers 202 peer POST /drain
	await_line peer.log 'user 0: /drain asked for'
}

@test "the socket has mode 0600, or --socket-mode, in each tool, and is gone at the end" {
	local name

	spawn lst ccf-listen --control lst.ctl --to first 127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --control term.ctl --from first --app echo
	spawn con ccf-connect --control con.ctl --from second 127.0.0.1:1
	spawn wide ccf-listen --control wide.ctl --socket-mode 0640 --to second 127.0.0.1:0
	up lst term con wide
	for name in $TOOLS; do [ "$(stat -c %a,%F $name.ctl)" = 600,socket ]; done
	[ "$(stat -c %a wide.ctl)" = 640 ]
	for name in con term lst wide; do
		stop $name
		[ ! -e $name.ctl ]
	done
}

@test "a stale socket is reclaimed, a live one is not, and no other file either; at the end only our own is removed" {
	local first

	spawn lst ccf-listen -k --control lst.ctl 127.0.0.1:0
	up lst
	first=$(stat -c %i lst.ctl)
	expect_status 45 ccf-listen -k --control lst.ctl 127.0.0.1:0
	[[ $output == *'--control lst.ctl: cannot bind it: somebody listens there'* ]]
	expect_status 45 ccf-tlsterm --plaintext --from nobody --app echo --control lst.ctl
	expect_status 45 ccf-connect --from nobody --control lst.ctl 127.0.0.1:1
	[ "$(stat -c %i lst.ctl)" = "$first" ]
	up lst

	stop lst KILL
	[ -S lst.ctl ]
	spawn lst ccf-listen -k --control lst.ctl 127.0.0.1:0
	up lst

	echo kept >file
	expect_status 1 ccf-listen -k --control file 127.0.0.1:0
	[[ $output == *'another kind of file is there'* ]]
	[ "$(cat file)" = kept ]
	expect_status 1 ccf-listen -k --control nowhere/x 127.0.0.1:0
	[[ $output == *'No such file or directory'* ]]

	rm lst.ctl
	spawn next ccf-listen -k --control lst.ctl 127.0.0.1:0
	up lst
	first=$(stat -c %i lst.ctl)
	stop lst
	[ "$(stat -c %i lst.ctl)" = "$first" ]
	stop next
	[ ! -e lst.ctl ]
}

# holds PID PATH: that process has a socket of this path open: the one that listens, or a client's.
holds() {
	find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null >has || :
	awk -v path="$2" '$8 == path { print "socket:[" $7 "]" }' /proc/net/unix | grep -q -x -F -f has
}

@test "neither a worker nor a COMMAND has the control socket or one of its clients; when a worker ends it stays" {
	local pid others

	pipeline lst ccf-listen --to - --control lst.ctl --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --control term.ctl -j 2 -- sh -c 'echo $$ >>pids; exec cat'
	spawn top ccf-listen --control top.ctl --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- sh -c 'echo $$ >>pids; exec cat'
	up lst term top
	clients quiet unix:term.ctl
	clients quiet2 unix:top.ctl
	tell quiet open 2
	tell quiet2 open 2
	saw quiet 2 connected
	saw quiet2 2 connected
	kill_worker term 1
	await_line term.log 'worker 1 .* is up again'
	holds "${PID[term]}" term.ctl
	holds "${PID[top]}" top.ctl

	clients cl "$(address a.json rpc)"
	clients cl2 "$(address b.json rpc)"
	tell cl open 2
	tell cl2 open 2
	eventually times 4 pids .
	mapfile -t others < <(cat pids; workers term)
	[ ${#others[@]} = 6 ]
	for pid in "${others[@]}"; do
		run ! holds "$pid" term.ctl
		run ! holds "$pid" top.ctl
	done
	kill_worker term 2
	[ -S term.ctl ]
	up term
}

@test "sixteen clients that say nothing keep neither the next one waiting for ever, nor a tool from ending" {
	local name

	spawn lst ccf-listen --control lst.ctl --to first 127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --control term.ctl --from first --app echo
	spawn con ccf-connect --control con.ctl --from second 127.0.0.1:1
	up lst term con
	for name in $TOOLS; do
		clients quiet-$name unix:$name.ctl
		tell quiet-$name open 16
		saw quiet-$name 16 connected
	done
	for name in $TOOLS; do
		spawn ask-$name curl -sS --max-time $((LIMIT * 3)) --unix-socket $name.ctl http://localhost/
	done
	for name in $TOOLS; do
		ends_with 0 ask-$name $((LIMIT * 3))
		grep '/connections' ask-$name.out
	done
	for name in $TOOLS; do
		eventually times 16 quiet-$name.out ' closed$'
		tell quiet-$name open 16
		saw quiet-$name 32 connected
	done
	for name in con lst term; do
		kill -TERM "${PID[$name]}"
		ends_with 0 $name 8
		eventually times 32 quiet-$name.out ' (closed|reset)$'
	done
}
