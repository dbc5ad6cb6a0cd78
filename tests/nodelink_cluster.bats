# nodelink_cluster - several nodes that talk to each other: order, accounts, retries, and which connection stays when there are two.
#
# (who runs this makes no difference; left out of brief runs)
#
# Messages are `RUN NUMBER ...`, and tests/peer/cluster.py keeps the books (see there).

# shellcheck disable=SC2034,SC2046,SC2154	# names of nodes are words; ended, output, PID, HERE, ORDERS: the helpers'

load helpers
load clients
load control
load nodes

PORT_1=127.0.0.1:1	# nobody listens there
AGAIN=(--retry 100000 --retry-delay 10ms --retry-max 50ms)

declare -gA GATE=()

# --- what the tests share ---

# gated NAME: what NAME is going to tell comes to NAME.out by a gate, which is shut; `let_pass NAME N` lets N lines more pass, until
# it is shut again, or "all".
gated() {
	local fd

	rm -f "$1.ev" "$1.gate"
	mkfifo "$1.ev" "$1.gate"
	exec {fd}<>"$1.gate"
	GATE[$1]=$fd
	SPAWN_OUT=$1.out spawn "gate_$1" python3 "$HERE/peer/cluster.py" gate "$1"
}

let_pass() {
	rm -f "$1.shut"
	echo "$2" >&"${GATE[$1]}"
}

shut() {
	[ -e "$1.shut" ]
}

# numbered RUN FIRST COUNT BYTES PEER...: orders to send that many messages to each of these, in turn.
numbered() {
	# shellcheck disable=SC2016
	exec awk -v run="$1" -v first="$2" -v count="$3" -v bytes="$4" -v names="${*:5}" '
		BEGIN {
			n = split(names, peer, " ")
			for (; length(pad) < bytes; pad = pad "0123456789abcdef") ;
			for (i = first; i < first + count; i++)
				for (j = 1; j <= n; j++)
					print "send " peer[j] " consensus " run " " i " " substr(pad, 1, bytes)
		}'
}

# feed NAME RUN FIRST COUNT BYTES PEER...: the same, to NAME, in the background.
feed() {
	SPAWN_OUT=$1.in spawn "feed_$2" numbered "${@:2}"
}

# others NAME: of three.
others() {
	echo n0 n1 n2 | sed "s/$1 \\?//"
}

# peers NAME: options that say where the others are.
peers() {
	local other

	for other in $(others "$1"); do echo "--peer $other=${AT[$other]}"; done
}

# cluster VERB ...: tests/peer/cluster.py; what it says is in $output.
cluster() {
	expect_status 0 python3 "$HERE/peer/cluster.py" "$@"
}

# books OPTION... NAME=FILE...: each NAME has settled its accounts, ends, and the books are right.
books() {
	local word names=()

	for word; do
		[[ $word != *=* || " ${names[*]} " == *" ${word%%=*} "* ]] || names+=("${word%%=*}")
	done
	for word in "${names[@]}"; do settled "$word"; done
	for word in "${names[@]}"; do
		stop "$word"
		[ "$ended" = 0 ] || [ -z "${PID[lst_$word]-}" ]	# else it says what became of single messages
		[ -z "${GATE[$word]-}" ] || ends_with 0 "gate_$word"
	done
	cluster ledger "$@"
	echo "$output"
}

# heard NAME: somebody else will read what it tells, in NAME.ev.
heard() {
	local fd

	mkfifo "$1.ev"
	exec {fd}<>"$1.ev"
}

# player NAME [OPTION...]: a node for cluster.py's hands; $player is what it is called there.
player() {
	heard "$1"
	listener_of "$1"
	echo "${AT[$1]}" >"$1.addr"
	SPAWN_OUT=$1.ev node_of "$1" --format json --control "$1.ctl" "${@:2}"
	listening "$1"
	up "$1"
	player=$1:${PID[$1]}:${PID[lst_$1]}
}

# peer_line NAME PEER: what NAME says of it now.
peer_line() {
	links "$1" | grep "^peer $2 "
}

# says NAME PEER PATTERN: sooner or later.
says() {
	eventually says_now "$@" || {
		links "$1"
		return 1
	}
}

says_now() {
	peer_line "$1" "$2" | grep -q -E -e "$3"
}

# --- three nodes ---

@test "three nodes send each other 100,000 messages each way while one's reader stops and goes on: all come, in order, once" {
	local name to

	gated n2
	for name in n0 n1 n2; do listener_of "$name"; done
	node_of n0 --user-timeout 60s --control n0.ctl
	node_of n1 --user-timeout 60s --control n1.ctl
	SPAWN_OUT=n2.ev node_of n2 --user-timeout 60s --control n2.ctl
	meet n0 n1 n2
	for name in n0 n1 n2; do listening "$name"; done
	up n0 n1 n2
	for name in n0 n1 n2; do feed "$name" "$name.1" 0 100000 30 $(others "$name"); done
	# Each time the others have exchanged 10,000 more, 20,000 lines of n2's are read.
	for to in {1..9}; do
		eventually reached n0 'ccfnet_messages_total{direction="in"}' "$((to * 10000))"
		let_pass n2 20000
	done
	let_pass n2 all
	for name in n0 n1 n2; do
		figures "$name" 'ccfnet_messages_total{direction="in"}=200000' 'ccfnet_messages_total{direction="out"}=200000'
		ends_with 0 "feed_$name.1"
	done
	books --sent 100000 --whole --once --no-gaps n0=n0.out n1=n1.out n2=n2.out
}

reached() {
	answers 200 "$1" GET /metrics && figure_of "$1.body" "$2" | awk -v n="$3" '{ exit !($1 >= n) }'
}

@test "in whichever order three nodes start, over TCP or Unix sockets, all messages come, in order, once, and nothing is sent again" {
	local order name

	for order in 'n2 n1 n0' 'n1 n2 n0' 'n2 n0 n1'; do
		mkdir "${order// /}"
		cd "${order// /}"
		ORDERS=()
		for name in n0 n1 n2; do
			if [[ $order == n1* ]]; then
				AT["$name"]=unix:$name.sock
			else
				listener_of "$name"	# it refuses until its node is there
			fi
		done
		for name in $order; do
			[[ $order != n1* ]] || NODE_ADDR=${AT[$name]} listener_of "$name"
			node_of "$name" "${AGAIN[@]}" $(peers "$name")
			numbered "$name.1" 0 300 30 $(others "$name") | orders "$name"
		done
		for name in n0 n1 n2; do counted "$name" 600 'message .*'; done
		books --sent 300 --whole --once --no-gaps n0=n0.out n1=n1.out n2=n2.out
		[ "$(grep -c '"again": 0, .*"resent": 0' <<<"$output")" = 6 ]
		cd "$BATS_TEST_TMPDIR"
	done
}

# --- a reader that stops for long ---

# paused_for_long OPTION...: n0 and n2, which have these, send 10,000 messages to n1 and each other, n1 to them; n1's reader stops until
# both have cut it.
paused_for_long() {
	local name n

	gated n1
	for name in n0 n1 n2; do listener_of "$name"; done
	node_of n0 --user-timeout 300ms "$@"
	SPAWN_OUT=n1.ev node_of n1 "$@"
	node_of n2 --user-timeout 300ms "$@"
	meet n0 n1 n2
	for name in n0 n1 n2; do
		listening "$name"
		feed "$name" "$name.1" 0 10000 1000 $(others "$name")
	done
	for name in n0 n2; do
		await_line "$name.log" "user-timeout, by us, .* did not read, what was sent for 300 ms .--user-timeout"
	done
	for n in 1 10 100 200; do
		let_pass n1 "$n"
		eventually shut n1
	done
	let_pass n1 all
	for name in n0 n1 n2; do ends_with 0 "feed_$name.1"; done
}

@test "a reader that stops for longer than the others' --user-timeout is cut, the log says so, and with --retry nothing is lost" {
	paused_for_long "${AGAIN[@]}"
	books --sent 10000 --whole --no-gaps n0=n0.out n1=n1.out n2=n2.out
	run ! grep -v '"dropped": 0, "unknown": 0, "waiting": 0' <<<"$output"
}

@test "without --retry what a cut took along is counted as dropped or unknown, one by one, and the rest comes in order" {
	paused_for_long
	books --sent 10000 --once n0=n0.out n1=n1.out n2=n2.out
	for name in n0 n2; do
		grep -E '^link down n1 .* user-timeout delivered=[0-9]+ (dropped=[1-9]|dropped=0 unknown=[1-9]).* kept=0: ' "$name.out"
	done
}

@test "who dials anew 600 times while our reader has stopped loses nothing of what was said on each, nor does one who ends none" {
	gated n1
	listener_of n1
	SPAWN_OUT=n1.ev node_of n1 --control n1.ctl
	listening n1
	up n1
	spawn p python3 "$HERE/peer/cluster.py" crowd "${AT[n1]}" p 40
	await_line p.out said
	spawn q python3 "$HERE/peer/cluster.py" crowd "${AT[n1]}" q 600 --close
	await_line q.out said
	for i in {1..20}; do answers 200 n1 GET /connections; done	# it has its turns
	let_pass n1 all
	told n1 'message p consensus [0-9]+ p.1 539 .*'
	told n1 'message q consensus [0-9]+ q.1 1099 .*'
	sed -n 's/^message p consensus [0-9]* p.1 \([0-9]*\) .*/\1/p' n1.out | cmp - <(seq 0 539)
	sed -n 's/^message q consensus [0-9]* q.1 \([0-9]*\) .*/\1/p' n1.out | cmp - <(seq 0 1099)
}

# --- one of three is killed ---

# killed_and_restarted OPTION...: n0 and n2 live on, and while all send n1 is killed, again and again, and started anew: as soon as
# the others have got so many lines, or stopped before, so that what the others have for it is on its way.
killed_and_restarted() {
	local name i at

	for name in n0 n2; do
		gated "$name"
		listener_of "$name"
	done
	listener_of n1
	for name in n0 n2; do
		SPAWN_OUT=$name.ev node_of "$name" "$@" --user-timeout 60s --control "$name.ctl" $(peers "$name")
	done
	RANDOM=6
	files=()
	for i in 1 2 3 4; do
		node_of n1 "$@" --user-timeout 60s $(peers n1)
		at=$((RANDOM % 1500))
		if [ $((i % 2)) = 0 ]; then
			feed n1 "n1.$i" 0 1500 1000 n0 n2
			told n0 "message n1 consensus [0-9]+ n1.$i .*"
			kill -STOP "${PID[n1]}"
		else
			for name in n0 n2; do let_pass "$name" "$((at + 1))"; done
			feed n1 "n1.$i" 0 1500 1000 n0 n2
		fi
		for name in n0 n2; do feed "$name" "$name.1" $(((i - 1) * 1500)) 1500 1000 $(others "$name"); done
		for name in n0 n2; do
			if [ $((i % 2)) = 0 ]; then
				ends_with 0 "feed_$name.1"
			else
				eventually shut "$name"
			fi
		done
		stop n1 KILL
		stop "feed_n1.$i" KILL >/dev/null 2>&1 || :
		for name in n0 n2; do
			let_pass "$name" all
			ends_with 0 "feed_$name.1"
		done
		mv n1.out "n1.$i.out"
		rm n1.in
		unset 'ORDERS[n1]'
		files+=("n1=n1.$i.out")
	done
	node_of n1 "$@" --user-timeout 60s $(peers n1)
	# In peace again; what waits for the one that is gone waits for the one that is there.
	for name in n0 n2 n0; do settled "$name"; done
	feed n1 n1.5 0 500 1000 n0 n2
	for name in n0 n2; do told "$name" 'message n1 consensus [0-9]+ n1.5 499 .*'; done
	for name in n0 n2; do feed "$name" "$name.1" 6000 500 1000 $(others "$name"); done
	for name in n0.1 n2.1 n1.5; do ends_with 0 "feed_$name"; done
	books --sent 1500 --sent n0.1:6500 --sent n2.1:6500 --sent n1.5:500 "${rules[@]}" \
	    n0=n0.out "${files[@]}" n1=n1.out n2=n2.out
}

@test "kill -9 and restart one of three while all send, again and again: links come back, and every message has one fate" {
	rules=(--tail 500 --once)
	killed_and_restarted
	echo "$output"
	grep '"from": "n0.1", "to": "n2".*"dropped": 0, "unknown": 0, "waiting": 0, "resent": 0' <<<"$output"
}

@test "the same with --retry: nothing is dropped or unknown, and what comes twice was sent again" {
	rules=(--tail 500 --no-gaps)
	killed_and_restarted "${AGAIN[@]}"
	[ "$(grep -c '"dropped": 0, "unknown": 0, "waiting": 0' <<<"$output")" = 6 ]
	grep '"from": "n0.1", "to": "n2".*"resent": 0' <<<"$output"
}

# --- both dial at once ---

@test "two nodes dial each other at once, 100 times over: one connection is left, the lesser id's, used both ways, and nothing is lost" {
	player n0
	set -- "$player"
	player n1
	cluster meet --rounds 50 "$1" "$player"
	echo "$output"
	player n9 "${AGAIN[@]}"
	set -- "$player"
	player n10 "${AGAIN[@]}"
	cluster meet --rounds 50 "$1" "$player"
	echo "$output"
}

@test "a node dials, and is dialled by, one that does both at once, whichever id is less: one connection is left" {
	player n9
	cluster raw --rounds 9 "$player" n10 n8 n91
	echo "$output"
}

@test "who dials anew two seconds later takes the place of a connection that he does not close" {
	player n9
	set -- "$player"
	player n0
	set -- "$@" "$player"
	player n1
	cluster late "$@" "$player" n8 n91
	echo "$output"
}

# --- what becomes of what cannot be delivered ---

# total NAME PATTERN: of the messages dropped, by the events that match.
total() {
	awk -v pattern="^dropped $2\$" '$0 ~ pattern { n += $3 } END { print n + 0 }' "$1.out"
}

is_total() {
	[ "$(total "$1" "$2")" = "$3" ]
}

@test "without --retry a dial that fails drops what waits, and the next send dials again" {
	listener_of n1		# it is bound, and refuses
	caller n0 --peer "n1=${AT[n1]}" --control n0.ctl
	numbered n0.1 0 3 10 n1 | orders n0
	eventually is_total n0 'n1 [0-9]+ refused: .* Connection refused' 3
	says n0 n1 ' down .* sent=3 delivered=0 dropped=3 unknown=0 waiting=0'
	node_of n1
	listening n1
	numbered n0.1 3 1 10 n1 | orders n0
	told n1 'message n0 consensus [0-9]+ n0.1 3 .*'
	counted n0 1 'link up .*'
	figures n0 'ccfnet_messages_lost_total{reason="refused"}=3' 'ccfnet_dials_total{result="ok"}=1'
	books --sent n0.1:4 --tail 1 --once n0=n0.out n1=n1.out
}

@test "with --retry N a message is dropped when N + 1 dials in a row have failed; the next one has as many" {
	caller n0 --peer "n1=$PORT_1" --retry 3 --retry-delay 1ms --retry-max 4ms --control n0.ctl
	order n0 send n1 consensus first
	told n0 'dropped n1 1 refused: .*'
	figures n0 'ccfnet_dials_total{result="failed"}=4'
	orders n0 <<<$'send n1 consensus second\nsend n1 consensus third'
	eventually is_total n0 'n1 [0-9]+ refused: .*' 3
	says n0 n1 ' down .* sent=3 delivered=0 dropped=3 unknown=0 waiting=0'
	figures n0 'ccfnet_messages_lost_total{reason="refused"}=3'
	figure n0 'ccfnet_dials_total{result="failed"}' | grep -x -E '8|12'	# the third may have come for itself
}

@test "between two retries nobody dials: what is sent waits, and what --max-queue has no room for is dropped" {
	listener_of n1
	caller n0 --peer "n1=${AT[n1]}" --retry 9 --retry-delay 1000h --retry-max 1000h --max-queue 64k --control n0.ctl
	numbered n0.1 0 1 10 n1 | orders n0
	says n0 n1 ' waiting .* sent=1 .* waiting=1 '
	numbered n0.1 1 100 2000 n1 | orders n0
	says n0 n1 ' waiting .* sent=101 delivered=0 dropped=67 unknown=0 waiting=34 '	# 33 * 2030 > 64k
	eventually is_total n0 'n1 [0-9]+ queue-full' 67
	figures n0 'ccfnet_dials_total{result="failed"}=1' 'ccfnet_messages_lost_total{reason="queue-full"}=67'
	node_of n1
	listening n1
	order n0 associate n1 "${AT[n1]}"
	told n1 'message n0 consensus [0-9]+ n0.1 33 .*'
	books --sent n0.1:101 --once --no-gaps n0=n0.out n1=n1.out
	[[ $output == *'"got": 34, '*'"resent": 0'* ]]
}

@test "a full queue waits, while the link is up or is being dialled: nothing is dropped for it" {
	gated n1
	listener_of n1
	SPAWN_OUT=n1.ev node_of n1
	listening n1
	spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.out .
	caller n0 --peer "n1=${AT[n1]}" --max-queue 64k --user-timeout none --control n0.ctl
	caller n2 --peer "n1=$(cat deaf.out)" --max-queue 64k --connect-timeout 100ms --control n2.ctl
	up n0 n2
	feed n0 n0.1 0 5000 2000 n1
	feed n2 n2.1 0 100 2000 n1
	rows n0 '.[0].held >= 65536 and .[0].held < 65536 + 2100'
	# 33 at most as each dial fails.
	eventually is_total n2 'n1 [0-9]+ connect-timeout: .*' 100
	[ "$(total n2 'n1 .*')" = 100 ]
	[ "$(figure n2 'ccfnet_dials_total{result="failed"}')" -ge 4 ]
	rows n0 '.[0].held >= 65536 and .[0].held < 65536 + 2100'
	mine "${PID[feed_n0.1]}"
	let_pass n1 all
	ends_with 0 feed_n0.1
	books --sent n0.1:5000 --whole --once --no-gaps n0=n0.out n1=n1.out
}

# stopped_and_killed OPTION...: n1 has got message 0 of n0, and is stopped when the others come: what its kernel takes, what is written,
# and what is not.  Then it is killed, and another one is started.
stopped_and_killed() {
	node n1
	caller n0 --peer "n1=${AT[n1]}" --user-timeout none --max-queue 1M --control n0.ctl "$@"
	numbered n0.1 0 1 10 n1 | orders n0
	told n1 'message n0 consensus [0-9]+ n0.1 0 .*'
	kill -STOP "${PID[n1]}"
	feed n0 n0.1 1 1000 10000 n1
	rows n0 '.[0].held >= 1048576'
	stop n1 KILL
	told n0 'link down .*'
	mv n1.out n1.1.out
	node_of n1
	told n1 'message n0 consensus [0-9]+ n0.1 1000 .*'
	ends_with 0 feed_n0.1
	books --sent n0.1:1001 --tail 20 --once --no-gaps n0=n0.out n1=n1.1.out n1=n1.out
	[ "$(grep -c '^message ' n1.1.out)" = 1 ]
	first=$(grep -m 1 '^message ' n1.out | cut -d ' ' -f 6)
}

# cut_off FATE: of so many messages n0's links have said that when they were reset.
cut_off() {
	sed -n -E "s/^link down n1 out .* reset .*$1=([0-9]+).*/\\1/p" n0.out | awk '{ n += $1 } END { print n + 0 }'
}

@test "of one that is killed: what its kernel took is delivered, what was written unknown, what was not dropped, and the rest goes to the next" {
	stopped_and_killed
	for fate in delivered dropped unknown; do
		[ "$(cut_off "$fate")" -gt 0 ]
	done
	# Another connection may have come to the one that is gone, or have found nobody.
	gone=$(total n0 'n1 .*')
	[ "$(($(cut_off delivered) + $(cut_off dropped) + $(cut_off unknown) + gone))" = "$first" ]
	[[ $output == *"\"got\": $((1001 - first + 1)), "*"\"dropped\": $(($(cut_off dropped) + gone)), "* ]]
	[[ $output == *"\"unknown\": $(cut_off unknown), "*'"resent": 0'* ]]
}

@test "the same with --retry: what was not acknowledged is sent again, from the first such message on, in order and once" {
	stopped_and_killed "${AGAIN[@]}"
	[ "$(cut_off delivered)" = "$first" ]
	[[ $output == *"\"got\": $((1001 - first + 1)), "*'"dropped": 0, "unknown": 0, "waiting": 0, "resent": '[1-9]* ]]
}
