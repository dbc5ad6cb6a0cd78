# nodelink_net - ccf-nodelink on a network: hosts that lose each other and find each other again, the address that it dials from,
# and what long messages and many links take of memory.
#
# two_hosts are network namespaces, near and far, each on a cable to a switch between them.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control
load nodes

# two_hosts: NEAR and FAR run a command there, at 10.7.0.1 and .2, fd07::1 and ::2, and at .8, ::8; SWITCH where the cables meet.
two_hosts() {
	requires netns
	"${NETNS[@]}" ip link add type bridge 2>/dev/null || skip "a bridge is not available here"
	spawn switch "${NETNS[@]}" sh -ec 'ip link set lo up; echo up; exec tail -f /dev/null'
	await_line switch.out '^up$'
	SWITCH=(nsenter --target "${PID[switch]}" --net)
	[ "$EUID" = 0 ] || SWITCH+=(--user --preserve-credentials)
	"${SWITCH[@]}" ip link add switch type bridge stp_state 0
	"${SWITCH[@]}" ip link set switch addrgenmode none up
	host near 1 2
	host far 8
	NEAR=("${SWITCH[@]/#${PID[switch]}/${PID[near]}}")
	FAR=("${SWITCH[@]/#${PID[switch]}/${PID[far]}}")
}

# host NAME N...: its cable is called NAME on both ends.
host() {
	local n in

	spawn "$1" "${SWITCH[@]}" unshare --net sh -ec 'ip link set lo up; echo up; exec tail -f /dev/null'
	await_line "$1.out" '^up$'
	in=("${SWITCH[@]/#${PID[switch]}/${PID[$1]}}")
	"${SWITCH[@]}" ip link add "$1" type veth peer name "$1" netns "${PID[$1]}" || skip "veth is not available here"
	"${SWITCH[@]}" ip link set "$1" master switch addrgenmode none up
	"${in[@]}" ip link set "$1" addrgenmode none up
	for n in "${@:2}"; do
		printf 'address add %s dev %s %s\n' "10.7.0.$n/24" "$1" '' "fd07::$n/64" "$1" nodad
	done >addresses
	"${in[@]}" ip -batch - <addresses 2>/dev/null || [ ! -e /proc/sys/net/ipv6 ]
	eventually has_carrier "$1" "${in[@]}"
}

has_carrier() {
	"${@:2}" ip -o link show "$1" | grep -q ' state UP '
}

# apart KIND, together KIND: silently, the cable is plugged into nothing and both hosts have their interfaces as before; down:
# the interface of the far one goes down, and everybody sees it.
apart() {
	case $1 in
	silently) "${SWITCH[@]}" ip link set far nomaster ;;
	down) "${FAR[@]}" ip link set far down ;;
	esac
}

together() {
	case $1 in
	silently) "${SWITCH[@]}" ip link set far master switch ;;
	down) "${FAR[@]}" ip link set far up && eventually has_carrier far "${FAR[@]}" ;;
	esac
}

# halt NAME: until `kill -CONT`.
halt() {
	kill -STOP "${PID[$1]}"
	eventually grep -q '^State:[[:space:]]*T' "/proc/${PID[$1]}/status"
}

ms_now() {
	echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# --- partitions ---

# noticed NAME REASON N: the Nth line of its log about a connection that ended for that reason; its time in ms.
noticed() {
	eventually has_noticed "$@" >&2 || return
	date -d "$(jq -r --arg reason "$2" 'select(.reason == $reason) | .ts' "$1.log" | sed -n "$3p")" +%s%3N
}

has_noticed() {
	[ "$(grep -c "\"reason\":\"$2\"" "$1.log")" -ge "$3" ]
}

# in_time N SINCE: for the Nth time, since then: with traffic, and without.
in_time() {
	local with without

	with=$(($(noticed plain user-timeout "$1") - $2))
	without=$(($(noticed idle timed-out "$1") - $2))
	echo "noticed after $with ms, and $without ms without traffic"
	[ "$with" -le 4000 ] && [ "$without" -le 5000 ]
}

# once_more KIND N: the same for who may not have been let run in time.
once_more() {
	local since

	apart "$1"
	since=$(ms_now)
	order plain send n1 1 again
	counted plain "$2" 'link down n1 .* user-timeout .*'
	in_time "$2" "$since"
}

# adds_up NAME PATTERN: that is what it says of n1, sooner or later.
adds_up() {
	eventually says_links "$@" || {
		links "$1"
		return 1
	}
}

says_links() {
	links "$1" | grep -q -x -E -e "peer n1 $2"
}

# in_order N: all that bulk has sent came to n1, in its order, but for what came again from some point on.
in_order() {
	sed -n 's/^message bulk consensus [0-9]* m\.0*\([0-9]\)/\1/p' n1.out | awk -v n="$1" '
		$1 > want + 1 { print $1, "came after", want; exit bad = 1 }
		{ want = $1 > want ? $1 : want }
		END { exit bad || want != n }'
}

# partition KIND: plain has traffic; retrying has, too, and keeps it; of bulk very much is under way; idle has none at all.
partition() {
	local since name late=no RETRY

	two_hosts
	NODE_IN=("${FAR[@]}")
	NODE_ADDR=10.7.0.8:0 node n1 --keepalive 1s
	NODE_IN=("${NEAR[@]}")
	caller plain -v --log json --peer "n1=${AT[n1]}" --connect-timeout 300ms
	caller idle -v --log json --peer "n1=${AT[n1]}" --keepalive 1s
	RETRY=(--retry 1000 --retry-delay 50ms --retry-max 200ms --connect-timeout 300ms)
	caller retrying --peer "n1=${AT[n1]}" "${RETRY[@]}"
	caller bulk --peer "n1=${AT[n1]}" "${RETRY[@]}" --control bulk.ctl
	for name in plain idle retrying bulk; do order "$name" send n1 1 before; done
	counted n1 4 'message [a-z]+ consensus 6 before'
	halt n1	# so that the kernel has what it can hold
	orders bulk < <(seq -f 'send n1 1 m.%099.0f' 20000)
	rows bulk 'any(.[]; .out > 50000)'
	apart "$1"
	kill -CONT "${PID[n1]}"
	since=$(ms_now)
	order plain send n1 1 lost
	order retrying send n1 1 kept-1
	order retrying send n1 1 kept-2
	told plain "link down n1 out ${AT[n1]} user-timeout delivered=1 dropped=0 unknown=1 kept=0: it did not acknowledge.*"
	told retrying "link down n1 out ${AT[n1]} user-timeout delivered=1 dropped=0 unknown=0 kept=2: it did not acknowledge.*"
	told bulk "link down n1 out ${AT[n1]} user-timeout delivered=[0-9]+ dropped=0 unknown=0 kept=[1-9][0-9]*: it did not ack.*"
	told idle "link down n1 out ${AT[n1]} timed-out delivered=1 dropped=0 unknown=0 kept=0: it does not answer.*"
	in_time 1 "$since" || late=yes
	order plain send n1 1 in vain
	told plain 'dropped n1 1 (connect-timeout|refused): .*'
	together "$1"
	told n1 'message retrying consensus 6 kept-2'
	told n1 'message bulk consensus [0-9]+ m\.0*20000'
	order plain send n1 1 after
	order idle send n1 1 after
	counted n1 2 'message [a-z]+ consensus 5 after'
	for name in plain idle retrying bulk; do
		order n1 send "$name" 1 back
		told "$name" 'message n1 consensus 4 back'
		counted n1 2 "link up $name in .*"
		counted n1 1 "link down $name in .*"
	done
	grep -E '^message retrying ' n1.out | diff - <(printf 'message retrying consensus 6 %s\n' before kept-1 kept-2)
	in_order 20000
	adds_up plain "up address=${AT[n1]} sent=4 delivered=2 dropped=1 unknown=1 waiting=0 resent=0 received=1"
	adds_up idle "up address=${AT[n1]} sent=2 delivered=2 dropped=0 unknown=0 waiting=0 resent=0 received=1"
	adds_up retrying "up address=${AT[n1]} sent=3 delivered=3 dropped=0 unknown=0 waiting=0 resent=2 received=1"
	adds_up bulk "up address=${AT[n1]} sent=20001 delivered=20001 dropped=0 unknown=0 waiting=0 resent=[1-9][0-9]* received=1"
	[ "$late" = no ] || once_more "$1" 2 || { together "$1" && meets_again && once_more "$1" 3; }
}

meets_again() {
	eventually meets plain && eventually meets idle
}

meets() {
	order "$1" send n1 1 hello
	says_links "$1" 'up .*'
}

# bats test_tags=root
@test "hosts that lose each other silently: it is noticed in time, with traffic and without, and repaired, and nothing is lost" {
	partition silently
}

# bats test_tags=root
@test "a host whose interface goes down: it is noticed in time, with traffic and without, and repaired, and nothing is lost" {
	partition down
}

# --- two links, and each host knows one of them ---

# tcp HOST STATE: its connections between nodes, FROM TO, by the port that was dialled.
tcp() {
	local -n inside=$1

	"${inside[@]}" ss -Htn state "$2" | awk '{ print $3 < $4 ? $3 " " $4 : $4 " " $3 }' | sort
}

no_fins() {
	[ -z "$(tcp NEAR fin-wait-1)$(tcp FAR fin-wait-1)" ]
}

same_links() {
	[ "$(tcp NEAR established | wc -l)" = "$1" ] && [ "$(tcp NEAR established)" = "$(tcp FAR established)" ]
}

# pair A B OPTION...: nodes in NEAR and in FAR that know of each other, and whose listeners do not come to accept anything.
pair() {
	NODE_IN=("${NEAR[@]}")
	NODE_ADDR=10.7.0.1:0 node "$1" --control "$1.ctl" "${@:3}"
	NODE_IN=("${FAR[@]}")
	NODE_ADDR=10.7.0.8:0 node "$2" --control "$2.ctl" "${@:3}"
	meet "$1" "$2"
	halt "lst_$1"
	halt "lst_$2"
}

# crossed A B: each has dialled the other, and has said something; each has what the other has said.
crossed() {
	order "$1" send "$2" 1 from-near
	order "$2" send "$1" 1 from-far
	told "$1" "link up $2 out .*"
	told "$2" "link up $1 out .*"
}

# Each takes the other's, and drops its own, for the tie-break is for those that dial at the same time.
takes_the_others() {
	told "$1" "link up $2 in .*"
	told "$1" "message $2 consensus 8 from-far"
	told "$1" "link down $2 out .* (replaced|user-timeout) delivered=1 dropped=0 unknown=0 .*"
	told "$2" "link up $1 in .*"
	told "$2" "message $1 consensus 9 from-near"
	told "$2" "link down $1 out .* (replaced|user-timeout) delivered=1 dropped=0 unknown=0 .*"
	links "$1" | grep -q -x "peer $2 up .*"
	links "$2" | grep -q -x "peer $1 up .*"
}

# bats test_tags=root
@test "CCF #8232: both ends have dropped each other's link and the FINs were lost: neither writes into a black hole" {
	local fast=(--connect-timeout 300ms --user-timeout 500ms) one

	two_hosts
	pair n0 n1 "${fast[@]}" --retry 1000 --retry-delay 50ms --retry-max 200ms
	pair m0 m1 "${fast[@]}"
	crossed n0 n1
	crossed m0 m1
	for one in n0 n1 m0 m1; do
		rows "$one" 'all(.[]; .age > 2)'
	done
	apart silently
	for one in n0 n1 m0 m1; do kill -CONT "${PID[lst_$one]}"; done
	takes_the_others n0 n1
	takes_the_others m0 m1
	eventually no_fins
	[ "$(tcp NEAR established | wc -l)" = 2 ] && [ "$(tcp FAR established | wc -l)" = 2 ]
	[ -z "$(comm -12 <(tcp NEAR established) <(tcp FAR established))" ]
	together silently
	# With --retry nothing is lost; without it the next message goes over a new link.
	order n0 send n1 1 first
	order n1 send n0 1 second
	told n1 'message n0 consensus 5 first'
	told n0 'message n1 consensus 6 second'
	order m0 send m1 1 lost
	told m0 'link down m1 in .* reset delivered=0 dropped=0 unknown=1 kept=0: .*'
	order m0 send m1 1 third
	told m1 'message m0 consensus 5 third'
	order m1 send m0 1 fourth
	told m0 'message m1 consensus 6 fourth'
	eventually same_links 2
	for one in n m; do
		order "${one}0" send "${one}1" 1 near
		order "${one}1" send "${one}0" 1 far
		told "${one}1" "message ${one}0 consensus 4 near"
		told "${one}0" "message ${one}1 consensus 3 far"
	done
}

# --- the address that it dials from ---

# everywhere NAME...: nodes in FAR, each at V4[NAME] and V6[NAME].
everywhere() {
	local name

	declare -gA V4 V6
	NODE_IN=("${FAR[@]}")
	for name; do
		NODE_ADDR=:0 node "$name"
		V4[$name]=10.7.0.8:${AT[$name]##*:} V6[$name]="[fd07::8]:${AT[$name]##*:}"
	done
	NODE_IN=("${NEAR[@]}")
}

# says PATTERN: a whole line of $output matches.
says() {
	grep -q -x -E -e "$1" <<<"$output" || {
		echo "no line matches: $1"
		echo "$output"
		return 1
	}
}

# sends STATUS TO [OPTION...]: one message from NEAR.
sends() {
	once "$1" --peer "n1=$2" --connect-timeout 300ms "${@:3}" <<<'send n1 1 hello'
}

# bats test_tags=root
@test "of two addresses the one that --bind or --client-host says is what the other side sees, of each family" {
	local from

	requires ipv6
	two_hosts
	everywhere n1
	spawn far_side "${FAR[@]}" ccf-listen --ready-fd 9 --address-file far.json any=:0 -- \
	    sh -c 'echo "from $TCPREMOTEIP" >&2; cat >/dev/null'
	for from in 10.7.0.1 10.7.0.2; do
		sends 0 "${V4[n1]}" --bind "$from"
		told n1 "link up n0 in $from:[0-9]+"
		await_line lst_n1.log "info: node#[0-9]+ $from:[0-9]+: accepted"
		sends 0 "10.7.0.8:$(address far.json any | sed 's/.*://')" --client-host "$from"
		await_line far_side.log "^from $from\$"
	done
	for from in fd07::1 fd07::2; do
		sends 0 "${V6[n1]}" --client-host "$from"
		told n1 "link up n0 in \\[$from\\]:[0-9]+"
		sends 0 "[fd07::8]:$(address far.json any | sed 's/.*://')" --bind "$from"
		await_line far_side.log "^from $from\$"
	done
	counted n1 4 'link up .*'
}

# bats test_tags=root
@test "an address that is not ours to dial from is told, and nothing is sent; as soon as it is ours it is dialled from" {
	requires ipv6
	two_hosts
	everywhere n1
	sends 45 "${V4[n1]}" --bind 10.7.0.3
	says 'dropped n1 1 cannot-bind: cannot bind to 10\.7\.0\.3: Cannot assign requested address.*'
	sends 45 "${V6[n1]}" --bind fd07::3
	says 'dropped n1 1 cannot-bind: cannot bind to fd07::3: Cannot assign requested address.*'
	sends 7 "${V4[n1]}" --bind fd07::2
	says 'dropped n1 1 refused: cannot connect to .*: no address of it is of the family of fd07::2, which is bound first'
	caller n0 --bind 10.7.0.3 --peer "n1=${V4[n1]}" --retry 1000 --retry-delay 50ms --retry-max 100ms
	order n0 send n1 1 hello
	await_line n0.log 'cannot bind to 10\.7\.0\.3'
	told_not n1 'link up .*'
	"${NEAR[@]}" ip address add 10.7.0.3/24 dev near
	told n1 'message n0 consensus 5 hello'
	counted n1 1 'link up n0 in 10\.7\.0\.3:[0-9]+'
	order n0 close n1
	told n0 'link down n1 .* closed delivered=1 .*'
	"${NEAR[@]}" ip address delete 10.7.0.3/24 dev near
	order n0 send n1 1 again
	adds_up n0 'waiting address=.* sent=2 delivered=1 .* waiting=1 .*'
	"${NEAR[@]}" ip address add 10.7.0.3/24 dev near
	told n1 'message n0 consensus 5 again'
	counted n1 2 'link up n0 in 10\.7\.0\.3:[0-9]+'
}

# gate PORT VERDICT: of what comes to FAR for that port, only what is from ::2 and .2 is let in.
gate() {
	"${FAR[@]}" nft -f - <<-END
		table inet gate
		delete table inet gate
		table inet gate {
			chain in {
				type filter hook input priority 0
				tcp dport $1 ip saddr 10.7.0.2 accept
				tcp dport $1 ip6 saddr fd07::2 accept
				tcp dport $1 $2
			}
		}
	END
}

# bats test_tags=root
@test "where netfilter admits one address, what is dialled from that passes, and from any other is refused" {
	requires ipv6
	[ -n "$(type -P nft)" ] || skip "nft is not available here"
	two_hosts
	everywhere n1
	gate "${AT[n1]##*:}" 'reject with tcp reset' || skip "netfilter is not available here"
	sends 0 "${V4[n1]}" --bind 10.7.0.2
	sends 7 "${V4[n1]}" --bind 10.7.0.1
	says "dropped n1 1 refused: cannot connect to ${V4[n1]}: Connection refused"
	sends 7 "${V4[n1]}"
	sends 0 "${V6[n1]}" --bind fd07::2
	sends 7 "${V6[n1]}" --bind fd07::1
	gate "${AT[n1]##*:}" drop
	sends 28 "${V4[n1]}" --bind 10.7.0.1
	says "dropped n1 1 connect-timeout: .*"
	sends 28 "${V6[n1]}" --bind fd07::1
	sends 0 "${V6[n1]}" --bind fd07::2
	sends 0 "${V4[n1]}" --bind 10.7.0.2
	counted n1 2 'link up n0 in 10\.7\.0\.2:[0-9]+'
	counted n1 2 'link up n0 in \[fd07::2\]:[0-9]+'
	counted n1 4 'link up .*'
	counted n1 4 'message n0 consensus 5 hello'
}

# --- memory ---

# peak NAME: the most memory it ever had, in KiB.
peak() {
	awk '/^VmHWM:/ { print $2 }' "/proc/${PID[$1]}/status"
}

small() {
	local name

	for name; do
		echo "$name: $(peak "$name") KiB"
		[ "$(peak "$name")" -lt 32768 ]
	done
}

# large FILE SIZE: sparse, with marks.
large() {
	local at

	truncate -s "$2" "$1"
	for at in 0 4095 65537 100000000 $(($(stat -c %s "$1") - 5)); do
		printf 'mark%s' "${at: -1}" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
	done
}

has_room() {
	[ "$(df -k --output=avail . | tail -n 1)" -gt $(($1 * 1048576)) ] || skip "less than $1 GiB are free here"
}

@test "a file of 1 GiB in one message takes less than 32 MiB of memory on either side, and arrives whole" {
	requires plain
	has_room 3
	large ledger 1G
	mkdir dir
	node n1 --save dir --max-frame 2G
	caller n0 --max-frame 2G --peer "n1=${AT[n1]}" --user-timeout none
	order n0 send n1 consensus file:ledger
	told n1 'message n0 consensus 1073741824 file:dir/n0-1'
	cmp ledger dir/n0-1
	small n0 n1
	rm dir/n0-1
	adds_up n0 'up .* sent=1 delivered=1 .*'
}

@test "a payload of 256 MiB to an echo and back lies on the disk, and not in memory" {
	requires plain
	has_room 3
	large ledger 256M
	node n1 --echo --max-frame 1G
	caller n0 --max-frame 1G --peer "n1=${AT[n1]}" --save . --user-timeout none
	order n0 send n1 consensus file:ledger
	told n0 'message n1 consensus 268435456 file:\./n1-1'
	cmp ledger n1-1
	small n0 n1
}

# whole FILE: front and ledger, and nothing else.
whole() {
	[ "$(stat -c %s "$1")" = $((22 + 268435456)) ]
}

@test "a payload of 256 MiB from a program to another lies on the disk, and not in memory" {
	requires plain
	has_room 3
	large ledger 256M
	listener_of n1
	node_of n1 --app n1.app --max-frame 1G
	caller n0 --app n0.app --max-frame 1G --peer "n1=${AT[n1]}" --user-timeout none
	spawn reads socat -u UNIX-CONNECT:n1.app CREATE:got
	listening n1
	printf '\2\0\0\0\0\0\0\0n1' >to
	printf '\22\0\0\20\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0n0' >front
	spawn writes sh -c 'cat to front ledger | socat -u - UNIX-CONNECT:n0.app'
	eventually whole got
	cat front ledger | cmp - got
	small n0 n1
	ends_with 0 writes
	adds_up n0 'up .* sent=1 delivered=1 .*'
}

@test "a hundred idle links take less than 16 KiB of memory each" {
	local before fd

	requires plain
	node n1
	cat >many.py <<-'END'
		import socket, struct, sys
		host, port = sys.argv[1].split(":")
		links = []
		for i in range(int(sys.argv[2]), int(sys.argv[3])):
		    links.append(socket.create_connection((host, int(port))))
		    name = b"peer%d" % i
		    links[-1].sendall(struct.pack("<IQQ", 21 + len(name), 1, len(name)) + name + b"hello")
		sys.stdin.read()
	END
	mkfifo idle
	exec {fd}<>idle	# which never ends
	SPAWN_IN=idle spawn first python3 many.py "${AT[n1]}" 0 10
	counted n1 10 'message peer[0-9]+ consensus 5 hello'
	before=$(rss_kib n1)
	SPAWN_IN=idle spawn others python3 many.py "${AT[n1]}" 10 110
	counted n1 110 'message peer[0-9]+ consensus 5 hello'
	echo "$((($(rss_kib n1) - before) * 1024 / 100)) bytes a link"
	[ $(($(rss_kib n1) - before)) -lt 1600 ]
}
