# guard - in front of a backend: what passes byte for byte, where an answer of ours stands, and what becomes of who breaks off.
#
# (who runs this makes no difference)

# shellcheck disable=SC2004,SC2086	# what is there goes by names, and those are one word each
load helpers
load clients
load control
load web

# Ways to a backend:
#	plain, tls		ccf-listen | ccf-tlsterm | ccf-connect
#	path			the same by links with names, TLS, two workers
#	single, tls-single	a terminator for each connection, which dials ccf-connect
#	chain			between terminator and ccf-connect another terminator, which takes connections and gives none
WAYS=(plain path tls-single chain)

# guard NAME WAY [OPTION...]: like `web`, in front of BACKEND.
guard() {
	local name=$1 way=$2 with=(--plaintext) link=$1.link lst

	shift 2
	CA[$name]=
	case $way in tls* | path)
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		CA[$name]="--tls $CERTS/ca.pem"
		;;
	esac
	with+=(--app http1 --access-log "$name.access" "$@")
	lst=(lst_"$name" ccf-listen --control "lst_$name.ctl" --ready-fd 9 --address-file "$name.json" rpc=127.0.0.1:0)
	case $way in
	*single)
		spawn con_"$name" ccf-connect --from "bind:$link" "$BACKEND"
		spawn "${lst[@]}" -- ccf-tlsterm "${with[@]}" --to "dial:$link"
		;;
	path)
		spawn con_"$name" ccf-connect --from "$link" "$BACKEND"
		pipeline "${lst[@]}" --to - --ready-when listening '|' \
		    term_"$name" ccf-tlsterm --control "term_$name.ctl" "${with[@]}" -j 2 --to "$link"
		;;
	chain)
		pipeline "${lst[@]}" --to - --ready-when listening '|' \
		    term_"$name" ccf-tlsterm --control "term_$name.ctl" "${with[@]}" --to - '|' \
		    mid_"$name" ccf-tlsterm --plaintext --to - '|' con_"$name" ccf-connect --from - "$BACKEND"
		;;
	*)
		pipeline "${lst[@]}" --to - --ready-when listening '|' \
		    term_"$name" ccf-tlsterm --control "term_$name.ctl" "${with[@]}" --to - '|' \
		    con_"$name" ccf-connect --from - "$BACKEND"
		;;
	esac
	WEB[$name]=$(address "$name.json" rpc)
	URL[$name]=http${CA[$name]:+s}://${WEB[$name]}
}

# cases CASE...: peer/guard.py is the backend, and plays these when it is told against whom.
cases() {
	PLAYED=0
	rm -f back.in back.out
	mkfifo back.in
	exec {PLAYS}<>back.in
	SPAWN_IN=back.in spawn back python3 "$HERE/peer/guard.py" "$@"
	await_line back.out :
	BACKEND=$(head -n 1 back.out)
}

# plays NAME: all of the cases, and afterwards nothing is left of them.
plays() {
	local ctl=term_$1.ctl

	[ -e "$ctl" ] || ctl=-
	echo "${WEB[$1]} $(set -- ${CA[$1]}; echo "${2--}") $ctl" >&"$PLAYS"
	PLAYED=$((PLAYED + 1))
	eventually -t $((LIMIT * 2)) times $PLAYED back.out '^over$'
	! grep 'wrong: ' back.out || return
	is_free "$1"
}

is_free() {
	figures "lst_$1" 'ccfnet_interface_active{interface="rpc"}=0'
	asked "con_$1" ': 0 connections, '
	[ ! -e "term_$1.ctl" ] || figures "term_$1" ccfnet_connections_active=0 ccfnet_buffered_bytes=0
}

# each_way CASE...: on each of the WAYS.
each_way() {
	local way

	cases "$@"
	for way in "${WAYS[@]}"; do
		guard "$way" "$way"
		plays "$way"
	done
}

# --- what passes ---

@test "requests and answers pass byte for byte: odd case, obs-text, chunk extensions, trailers, interim answers, no body" {
	each_way requests answers
}

@test "an answer that is the last one ends both connections in order, one till the end as the backend does; 100 Continue is its own" {
	each_way last_answers until_end continues
}

@test "the requests of a client go over one connection, one at a time, also when they come in one write" {
	each_way keeps pipelines
}

@test "when the backend has ended, or spoken, between two requests, the next one goes over a new connection" {
	WAYS=(plain path tls-single)	# with somebody between, the one may overtake the other
	each_way renews says_before
}

@test "a websocket is a tunnel both ways, with half-closes and cuts; a 101 that was not asked for is 502" {
	each_way tunnel tunnel_ends early_frames unasked_101
}

# --- who breaks off, or says what he may not ---

@test "a backend that closes before it answers is 502, in its answer a cut" {
	each_way closes breaks
}

@test "a malformed answer is 502 and never seen, later a cut; what a backend says besides is passed to nobody" {
	each_way malformed malformed_later says_more
}

@test "our error stands after the answers to what was valid, and the backend sees nothing of what was not" {
	each_way error_in_place wrong_later
}

@test "an answer may come before the request is whole, or after the client has ended; one that leaves takes its backend with it" {
	each_way early_answer half_closed leaves
}

@test "no backend is 502 at once, each time" {
	cases nobody
	BACKEND=127.0.0.1:$(free_port)
	for way in "${WAYS[@]}"; do
		guard "$way" "$way"
		plays "$way"
	done
}

# guard_with CASE WAY: that, with a short patience.
guard_with() {
	cases "$1"
	guard "$2" "$2" --idle-timeout 3s
	plays "$2"
	stop back
}

@test "a backend that is silent is 504 after --idle-timeout, in its answer a cut; one that is slow is waited for" {
	guard_with silent tls
	guard_with trickles plain
}

@test "50 MiB for a slow reader, and to a slow backend, are never held: who sends waits" {
	cases slow_reader slow_backend
	for way in plain tls; do
		guard $way $way --max-body-size 100M
		plays $way
	done
}

# --- logs ---

@test "the access log says of each request what was answered, by whom ever, and the bytes both ways" {
	local way

	cases logged
	for way in tls single; do
		guard $way $way --log json
		plays $way
		eventually lines_of $way 8
		jq -cs 'map([.method, .target, .status, .in, if .status < 400 then .out else .out > 50 end, .cut, .conn])' $way.access | jq -c '.[]' >had
		cat >wanted <<-'E'
			["POST","/length",200,10,2,false,"rpc#1"]
			["POST","/chunks",299,15,21,false,"rpc#1"]
			["HEAD","/head",200,0,0,false,"rpc#1"]
			["GET","/cut",200,0,1,true,"rpc#1"]
			["GET","/none",502,0,true,false,"rpc#2"]
			["GET","/left",0,0,0,true,"rpc#3"]
			["GET","/ws",101,3,5,false,"rpc#4"]
			[null,null,400,0,true,false,"rpc#5"]
		E
		diff wanted had
		await_line "$([ $way = tls ] && echo term_tls.log || echo lst_single.log)" 'backend-failed.*"rpc#1".*broke off in its answer'
		await_line "$([ $way = tls ] && echo term_tls.log || echo lst_single.log)" 'backend-failed.*"rpc#2".*502: the backend closed'
	done
}

lines_of() {
	[ "$(wc -l <"$1.access")" = "$2" ]
}

# --- the world ---

# alike NAME CURL-ARGUMENT... PATH: the guard's answer is nginx's own.
alike() {
	local name=$1 path=${*: -1} curl=("${@:2:$#-2}")

	: >direct
	: >through
	fetch -D direct.head -o direct "${curl[@]}" "http://$BACKEND$path" <"${BODY-/dev/null}"
	fetch -D through.head -o through "${curl[@]}" "${URL[$name]}$path" <"${BODY-/dev/null}"
	diff <(grep -v '^Date:' direct.head) <(grep -v '^Date:' through.head)
	cmp <(grep -av "^Date:" direct) <(grep -av "^Date:" through)
}

@test "nginx behind the guard is nginx: files, ranges, conditions, uploads, all methods it has" {
	local way etag

	requires nginx
	nginx_backend
	head -c 1048576 /dev/urandom >"$BACKEND_DIR/1m"
	head -c 1048576 /dev/urandom >body
	echo small >"$BACKEND_DIR/small"
	for way in plain tls chain; do
		guard $way $way
		alike $way /1m
		alike $way --http1.0 /1m
		alike $way -I /1m
		alike $way -r 5-1000 /1m
		alike $way -r 2000000- /1m
		etag=$(fetch -I "http://$BACKEND/small" | sed -n 's/^ETag: //p' | tr -d '\r')
		alike $way -H "If-None-Match: $etag" /small
		grep -q '^HTTP/1.1 304' through.head
		alike $way /missing
		alike $way -X OPTIONS /small
		fetch -T - -o made -w '%{http_code}\n' "${URL[$way]}/put" <body | grep -qx 201		# in chunks
		cmp body "$BACKEND_DIR/put"
		BODY=body alike $way -T - /put
		cmp body "$BACKEND_DIR/put"
		alike $way -X PUT -H 'Expect: 100-continue' --data-binary @body /put
		fetch -X DELETE -o deleted -w '%{http_code}\n' "${URL[$way]}/put" | grep -qx 204
		[ ! -e "$BACKEND_DIR/put" ]
		[ "$(fetch -w '%{num_connects}' "${URL[$way]}/small" "${URL[$way]}/small" "${URL[$way]}/small")" = $'small\n1small\n0small\n0' ]
		is_free $way
	done
}

# --- who comes and goes ---

@test "ccf-connect may go and come back: live connections do not notice, requests wait for it" {
	web_backend
	guard path path
	askers c "${WEB[path]}" ${CA[path]}
	tell c open 1
	tell c ask 1 1
	saw c 1 200
	stop con_path KILL
	asked term_path .	# who answers has done what came before
	tell c ask 1 1 /again
	eventually times 2 c.out '^1 200$'
	spawn curl curl -sS --cacert "$CERTS/ca.pem" -o answer -w '%{http_code}' "${URL[path]}/waits"
	figures term_path ccfnet_connections_active=2
	spawn con_path ccf-connect --from path.link "$BACKEND"
	ends_with 0 curl
	[ "$(cat curl.out)" = 200 ]
	tell c ask 1 1 /later
	eventually times 3 c.out '^1 200$'
	tell c open 1
	tell c ask 2 2
	saw c 2 200
	tell c end
	is_free path
	times 0 term_path.log backend-failed
}

@test "when nobody leads to the backend, a request waits for --handshake-timeout, and is 504" {
	spawn term ccf-tlsterm --plaintext --app http1 --handshake-timeout 2s --from front --to back
	spawn con ccf-connect --from back 127.0.0.1:1
	spawn lst ccf-listen --to front --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	stop con KILL
	asked term .		# who answers has done what came before
	[ "$(fetch -o answer -w '%{http_code}' "http://$(address a.json rpc)")" = 504 ]
	jq -e '.error.code == "GatewayTimeout"' answer
}

# answering: BACKEND answers one request, with 5 bytes, of which 2 come when it is told to (USR1).
answering() {
	spawn back python3 "$HERE/peer/scripted.py" 127.0.0.1:0 \
	    "read:35,say:HTTP/1.1 200 OK"$'\r\n'"Content-Length: 5"$'\r\n\r\n'"ans,wait,say:we,all"
	await_line back.out :
	BACKEND=$(head -n 1 back.out)
	printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >ask
}

# client NAME STEP...: cutter.py in the background; its steps are in client.out.
client() {
	spawn client python3 "$HERE/peer/cutter.py" connect "${WEB[$1]}" ${CA[$1]} "${@:2}"
}

@test "who is asked to end, or has nobody behind him any more, passes on the answer under way first" {
	local way

	for way in tls plain; do
		answering
		guard $way $way
		client $way send=ask until=ans rest=answer
		await_line client.out '^until'
		if [ $way = tls ]; then
			kill -TERM "${PID[term_$way]}"
			await_line term_$way.log draining
		else
			stop con_$way KILL
			await_line term_$way.log 'the consumer is gone for good'
		fi
		kill -USR1 "${PID[back]}"
		await_line client.out '^rest 2 ended$'
		[ "$(cat answer)" = we ]
		wait_for term_$way || :
		[ "$ended" = "$([ $way = tls ] && echo 0 || echo 69)" ]
		stop client || :
		ends_with 0 back
		rm back.out client.out
	done
}

@test "a worker that is killed takes its clients and their backends with it, and nobody else" {
	local n victim

	certs
	http_backend
	head -c 52428800 /dev/zero >"$BACKEND_DIR/50m"
	printf 'GET /50m HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >ask
	guard path path
	asked lst_path ': 2 links, '
	for n in 1 2; do	# who answers has done what came before: by then both have granted
		asked term_path .
		asked lst_path .
	done
	for n in 1 2; do
		spawn client$n python3 "$HERE/peer/cutter.py" connect "${WEB[path]}" ${CA[path]} send=ask until=OK await=go rest
		await_line client$n.out ^until
	done
	victim=$(worker term_path 1)
	asked term_path " worker $victim: 1 connections,"
	kill -KILL "$victim"
	await_line term_path.log "$victim.* was killed by SIGKILL; 1 connection"
	: >go
	for n in 1 2; do
		wait_for client$n || :
	done
	cat client1.out client2.out >both
	times 1 both '^rest [0-9]+ (reset|bare)$' || { cat both; false; }
	times 1 both '^rest 52[0-9]{6} ended$' || { cat both; false; }
	await_line http.log 'GET /50m answer reset'
	await_line term_path.log 'worker 1 \(pid [0-9]+\) is up again'
	[ "$(fetch -o answer -w '%{http_code}' "${URL[path]}/missing")" = 404 ]
}
