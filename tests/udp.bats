# udp - ccf-udpecho without a COMMAND: what comes goes back, from where it was asked, as often as it may; how it is bound,
# asked about, and ended.
#
# (who runs this makes no difference)

load helpers
load clients
load control

# --- what the tests share ---

# echoing ARG...: ccf-udpecho, spawned as udp with a new log, an address file and a control socket (udp.ctl); ADDR is where
# echo is, if that is one of its interfaces.
echoing() {
	rm -f udp.log a.json
	spawn udp "${INSIDE[@]}" ccf-udpecho --control udp.ctl --ready-fd 9 --address-file a.json "$@"
	at echo
}

# at NAME: ADDR, HOST (as it is asked: a socket at every address by loopback) and PORT are that interface's.
at() {
	ADDR=$(jq -r --arg name "$1" '.[$name] // empty' a.json)
	HOST=${ADDR%:*} PORT=${ADDR##*:}
	HOST=${HOST#[} HOST=${HOST%]}
	case $HOST in
	0.0.0.0) HOST=127.0.0.1 ;;
	::) HOST=::1 ;;
	esac
}

# peer COMMAND ARG...: tests/peer/udp.py; what it says has to hold.
peer() {
	expect_status 0 "${INSIDE[@]}" python3 "$HERE/peer/udp.py" "$@"
}

# talking NAME HOST PORT [OPTION...]: `udp.py talk`, which obeys `tell NAME COMMAND...`; what happens is in NAME.out.
talking() {
	local fd

	rm -f "$1.in"
	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	TELL[$1]=$fd
	SPAWN_IN=$1.in spawn "$1" "${INSIDE[@]}" python3 "$HERE/peer/udp.py" talk "${@:2}"
}

# repeat N NAME COMMAND...: told so often; numbered: and with a number behind it.
repeat() {
	local i

	for i in $(seq "$1"); do
		tell "${@:2}"
	done
}

numbered() {
	local i

	for i in $(seq "$1"); do
		tell "${@:2}" "$i"
	done
}

# sent NAME N: all that was told before is in the kernel; what this says of its own comes from a new socket, N.
sent() {
	tell "$1" "$2" send "behind it"
	await_line "$1.out" "^$2 from "
}

# halt NAME, go_on NAME: what is sent meanwhile waits in the kernel, and is then received at one moment, 64 at a time.
halt() {
	kill -STOP "${PID[$1]}"
	eventually grep -q '^State:[[:space:]]*T' "/proc/${PID[$1]}/status"
}

go_on() {
	kill -CONT "${PID[$1]}"
}

# count NAME in|out: datagrams, at this moment.
count() {
	figure "$1" "ccfnet_datagrams_total{direction=\"$2\"}"
}

# until_now: what udp has counted; IN and OUT are that.
until_now() {
	IN=$(count udp in)
	OUT=$(count udp out)
}

more_than() {
	[ "$(count udp in)" -gt "$1" ]
}

# counted NAME IN OUT [REASON=N...]: sooner or later so many datagrams came and went, and were dropped, and for no other reason.
counted() {
	local pair want=()

	for pair in "${@:4}"; do
		want+=("ccfnet_datagrams_dropped_total{reason=\"${pair%=*}\"}=${pair#*=}")
	done
	figures "$1" "ccfnet_datagrams_total{direction=\"in\"}=$2" "ccfnet_datagrams_total{direction=\"out\"}=$3" "${want[@]}"
	[ "$(reasons "$1.body")" = $(($# - 3)) ] || {
		grep '^ccfnet_datagrams_dropped_total' "$1.body"
		return 1
	}
}

reasons() {
	grep -c '^ccfnet_datagrams_dropped_total.* [1-9]' "$1" || :
}

# apart: a network namespace of our own, where we are root; INSIDE is the command that runs another there.
apart() {
	requires netns ipv6
	"${NETNS[@]}" ip link set lo up 2>/dev/null || skip "a network of our own is not available here"
	spawn here "${NETNS[@]}" sh -ec 'ip link set lo up; echo up; exec tail -f /dev/null'
	await_line here.out '^up$'
	INSIDE=(nsenter --target "${PID[here]}" --net)
	[ "$EUID" = 0 ] || INSIDE+=(--user --preserve-credentials)
}

# two_hosts: such a namespace, and another behind a cable; FAR runs a command in that one.  Each has two addresses of each
# family, and of IPv6 two of the link, on one interface.
two_hosts() {
	apart
	spawn there "${INSIDE[@]}" unshare --net sh -ec 'ip link set lo up; echo up; exec tail -f /dev/null'
	await_line there.out '^up$'
	FAR=("${INSIDE[@]/#${PID[here]}/${PID[there]}}")
	"${INSIDE[@]}" ip link add near type veth peer name far netns "${PID[there]}" || skip "veth is not available here"
	"${INSIDE[@]}" ip link set near addrgenmode none up
	"${FAR[@]}" ip link set far addrgenmode none up
	addressed near 1 2 "${INSIDE[@]}"
	addressed far 8 9 "${FAR[@]}"
}

# addressed DEVICE A B IN...: once the cable is plugged in.
addressed() {
	local host

	eventually is_up "$1" "${@:4}"
	for host in "$2" "$3"; do
		"${@:4}" ip address add "10.7.0.$host/24" broadcast + dev "$1"
		"${@:4}" ip address add "fd07::$host/64" dev "$1" nodad
		"${@:4}" ip address add "fe80::$host/64" dev "$1" nodad
	done
	"${@:4}" ip route add default dev "$1"
}

is_up() {
	"${@:2}" ip -o link show "$1" | grep -q ' state UP '
}

setup() {
	common_setup
	INSIDE=()
	has_ipv6=no
	! grep -qs '^0\{31\}1 ' /proc/net/if_inet6 || has_ipv6=yes
}

# --- the echo ---

@test "ten rounds from new sockets are each answered within three seconds" {
	echoing echo=127.0.0.1:0
	peer rounds "$HOST" "$PORT" 10
	counted udp 10 10
}

@test "ten rounds over IPv6, and over both families of one :PORT" {
	requires ipv6
	echoing 'echo=[::1]:0' both=:0
	peer rounds "$HOST" "$PORT" 10
	at both
	[ "$ADDR" = "[::]:$PORT" ]
	peer rounds ::1 "$PORT" 10
	peer rounds 127.0.0.1 "$PORT" 10
	counted udp 30 30
}

# mine_back NAME COMMAND...: it gets back what it sent, a datagram of its own after the other.
mine_back() {
	local fd i

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	SPAWN_IN=$1.in spawn "$@"
	: >"$1.sent"
	for i in 1 2 3; do
		{
			head -c 1000 /dev/urandom
			echo "$1 $i"
		} >datagram
		cat datagram >>"$1.sent"
		cat datagram >&"$fd"
		eventually cmp -s "$1.sent" "$1.out"
	done
	exec {fd}>&-
}

@test "ncat, socat and netcat get their own bytes back" {
	requires ipv6
	echoing echo=:0
	mine_back ncat ncat -u 127.0.0.1 "$PORT"
	mine_back netcat nc -u 127.0.0.1 "$PORT"
	mine_back socat4 socat - "UDP4:127.0.0.1:$PORT"
	mine_back socat6 socat - "UDP6:[::1]:$PORT"
	counted udp 12 12
}

@test "ten thousand peers get their own bytes back, none merged and none crossed" {
	echoing echo=127.0.0.1:0
	peer many "$HOST" "$PORT" 10000 --rounds 1 --bind "127.$((RANDOM % 250 + 1)).$((RANDOM % 250)).1" # nobody else needs ports there
	[[ $output == "10000 peers in "*" 10000 answered"* ]]
	[ "$(count udp out)" -ge 10000 ]
	# and one thing of many sizes from each of a few, with many open at once
	peer many "$HOST" "$PORT" 300 --rounds 5 --window 300 --sizes 0-64
	stop udp
	[ "$ended" = 0 ]
}

@test "datagrams from 0 to 65507 bytes come back whole, an empty one as an empty one, and as many bytes go out as came in" {
	local all=$((1 + 1472 + 1473 + 9000 + 65507)) where=(echo=127.0.0.1:0) i

	[ "$has_ipv6" = no ] || where+=('six=[::1]:0')
	echoing "${where[@]}"
	for i in "${where[@]}"; do
		at "${i%=*}"
		peer ask "$HOST" "$PORT" 0 1 1472 1473 9000 65507
	done
	i=${#where[@]}
	counted udp $((6 * i)) $((6 * i))
	figures udp "ccfnet_datagram_bytes_total{direction=\"in\"}=$((all * i))" \
	    "ccfnet_datagram_bytes_total{direction=\"out\"}=$((all * i))"
}

@test "an IPv6 datagram of more than 65507 bytes is counted, and not answered" {
	requires ipv6
	echoing 'echo=[::1]:0'
	peer ask --unanswered "$HOST" "$PORT" 65508 65520 65527
	counted udp 6 3 too-large=3
	await_line udp.log '^ccf-udpecho: info: \[::1\]:[0-9]+: echo: dropped: more than 65507 bytes$'
}

@test "what was read is answered in the order in which it came, however much there was at once" {
	echoing echo=127.0.0.1:0
	talking cl "$HOST" "$PORT"
	halt udp
	numbered 150 cl 1 send "this is number"
	sent cl 2
	go_on udp
	numbered 150 cl 1 expect "this is number"
	tell cl 2 echo
	await_line cl.out '^2 ok'
	counted udp 151 151
}

# --- from where it was asked ---

@test "the answer comes from the address that was asked, at a socket that is bound to every address" {
	requires ipv6
	echoing echo=0.0.0.0:0 both=:0 'six=[::]:0'
	peer rounds 127.0.0.1 "$PORT" 1		# their sockets hear their peer only
	peer rounds 127.0.0.2 "$PORT" 1
	peer rounds 127.0.0.3 "$PORT" 1 --bind 127.0.0.4
	at both
	peer rounds 127.0.0.2 "$PORT" 1
	peer rounds 127.0.0.3 "$PORT" 1 --bind 127.0.0.4
	peer rounds ::1 "$PORT" 1
	at six
	peer rounds ::1 "$PORT" 1
	counted udp 7 7
}

# from_where PORT TO,FROM...: each TO is asked from FROM, over there, by a socket that hears anybody; it says who answers.
from_where() {
	cat >from_where.py <<-'END'
		import socket, sys

		def at(host, port):
		    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][::4]

		for pair in sys.argv[2:]:
		    to, _, bound = pair.partition(",")
		    family, address = at(to, sys.argv[1])
		    with socket.socket(family, socket.SOCK_DGRAM) as sock:
		        sock.bind(at(bound, 0)[1])
		        sock.settimeout(1)
		        for again in range(10):
		            sock.sendto(pair.encode(), address)
		            try:
		                got, who = sock.recvfrom(65536)
		                break
		            except TimeoutError:
		                pass
		        assert got == pair.encode()
		        print(pair, "answered by", who[0].partition("%")[0])
	END
	"${FAR[@]}" timeout "$LIMIT" python3 from_where.py "$@"
}

# bats test_tags=root
@test "of two addresses on one interface the one that was asked answers, whoever asks, of each family and of the link" {
	local pairs=() to from

	two_hosts
	echoing echo=:0 four=0.0.0.0:0
	for to in 1 2; do
		for from in 8 9; do
			pairs+=("10.7.0.$to,10.7.0.$from" "fd07::$to,fd07::$from" "fe80::$to%far,fe80::$from%far")
		done
	done
	from_where "$PORT" "${pairs[@]}" >said
	cat said
	for to in "${pairs[@]}"; do
		from=${to%,*}
		grep -qFx "$to answered by ${from%\%far}" said
	done
	[ "$(wc -l <said)" = 12 ]
	at four
	from_where "$PORT" 10.7.0.1,10.7.0.8 10.7.0.2,10.7.0.8 10.7.0.2,10.7.0.9 >said
	[ "$(cut -d' ' -f4 said | tr '\n' ' ')" = "10.7.0.1 10.7.0.2 10.7.0.2 " ]
	INSIDE=("${FAR[@]}")
	peer rounds 10.7.0.2 "$PORT" 2 --bind 10.7.0.9	# a socket that is connected hears nobody else
}

# bats test_tags=root
@test "while the way out is full nothing more is read, and all that was read is answered, in its order" {
	two_hosts
	"${INSIDE[@]}" tc qdisc add dev near root tbf rate 10mbit burst 10k limit 10m || skip "tbf is not available here"
	echoing echo=10.7.0.2:0
	INSIDE=("${FAR[@]}")
	peer rounds "$HOST" "$PORT" 1	# they know each other
	talking cl "$HOST" "$PORT"
	halt udp
	repeat 150 cl size 1400		# more than a socket may have on its way
	sent cl 2
	go_on udp
	repeat 150 cl echo
	tell cl 2 echo
	await_line cl.out '^2 ok$'
	counted udp 152 152
	halt udp
	repeat 150 cl size 1400
	sent cl 3
	go_on udp
	stop udp		# it does not wait for the rest to go
	[ "$ended" = 0 ]
}

# bats test_tags=root
@test "an answer that the kernel refuses is counted, and those behind it go" {
	apart
	echoing echo=127.0.0.1:0
	talking cl "$HOST" "$PORT"
	halt udp
	tell cl send one
	sent cl 2
	peer spoof "$HOST" "$PORT" 2 0 --from 192.0.2.1:5000	# to where there is no way
	tell cl send two
	sent cl 3
	go_on udp
	tell cl echo
	tell cl echo
	tell cl 3 echo
	await_line cl.out '^3 ok$'
	counted udp 6 4 send-failed=2
	await_line udp.log '^ccf-udpecho: info: 192\.0\.2\.1:5000: echo: dropped: Network is unreachable$'
}

# --- what could go round for ever ---

# bats test_tags=root
@test "what was sent to a broadcast or multicast address is dropped and counted, and who asks one address is answered" {
	two_hosts
	echoing echo=:0 four=0.0.0.0:0 bound=10.7.0.255:0
	INSIDE=("${FAR[@]}")
	peer spoof 10.7.0.255 "$PORT" 1 0 --from 10.7.0.8:5000
	peer spoof 255.255.255.255 "$PORT" 1 0 --from 10.7.0.8:5000
	peer spoof ff02::1%far "$PORT" 1 0 --from '[fd07::8]:5000'
	peer rounds 10.7.0.1 "$PORT" 1
	peer rounds fd07::1 "$PORT" 1
	at four		# the kernel gives a dual-stack socket none that it has not asked for
	peer spoof 224.0.0.1 "$PORT" 1 0 --from 10.7.0.8:5000
	at bound
	peer spoof "$HOST" "$PORT" 1 0 --from 10.7.0.9:5000
	counted udp 7 2 loop=5
}

# bats test_tags=root
@test "what seems to come from a service that answers all, from ourselves, or from no port, is dropped and counted" {
	local port one two any

	apart
	echoing one=127.0.0.1:0 two=127.0.0.2:0 any=:0
	at any
	any=$PORT
	at two
	two=$PORT
	at one
	one=$PORT
	for port in 0 7 13 17 19 37 "$one"; do
		peer spoof 127.0.0.1 "$one" 1 0 --from "127.0.0.1:$port"
	done
	peer spoof 127.0.0.1 "$one" 1 0 --from "127.0.0.2:$two"	# another of ours
	peer spoof 127.0.0.2 "$two" 1 0 --from "127.0.0.9:$any"	# which sends from every address
	peer spoof 127.0.0.2 "$any" 1 0 --from "127.0.0.2:$any"
	peer spoof ::1 "$any" 1 0 --from "[::1]:$any"
	peer spoof ::1 "$any" 1 0 --from '[::1]:7'
	# nobody special: a port of ours at another address, and the port beside a service's
	peer ask 127.0.0.1 "$one" 5 --bind "127.0.0.3:$two"
	peer ask 127.0.0.2 "$two" 5 --bind 127.0.0.1:6
	counted udp 14 2 loop=12
	await_line udp.log '^ccf-udpecho: info: 127\.0\.0\.1:19: one: dropped: an answer would reach no one, or go round for ever$'
}

# bats test_tags=root
@test "two echos of which each seems to ask the other go round for good, and only until it is too often with --rate" {
	local other

	apart
	spawn two "${INSIDE[@]}" ccf-udpecho --ready-fd 9 --address-file two.json echo=127.0.0.2:0
	other=$(address two.json echo)
	echoing echo=127.0.0.1:0
	peer spoof "$HOST" "$PORT" 1 0 --from "$other"
	eventually more_than 1000
	stop udp
	echoing --rate 50 echo=127.0.0.1:0
	peer spoof "$HOST" "$PORT" 1 0 --from "$other"
	figures udp 'ccfnet_datagrams_dropped_total{reason="rate"}=1'
	until_now
	[ "$IN" -gt 50 ]
	peer rounds "$HOST" "$PORT" 1
	counted udp $((IN + 1)) $((OUT + 1)) rate=1
}

# bats test_tags=root
@test "what seems to come from another address of ours goes round nowhere, over IPv6 neither, nor with a COMMAND that echoes" {
	local command near

	two_hosts
	near=("${INSIDE[@]}")
	for command in '' '-- cat'; do
		# shellcheck disable=SC2086
		echoing echo=:0 $command
		INSIDE=("${FAR[@]}")
		peer spoof fd07::2 "$PORT" 1 0 --from "[fd07::1]:$PORT"
		peer spoof fe80::2%far "$PORT" 1 0 --from "[fe80::1]:$PORT"
		peer spoof fd07::1 "$PORT" 1 0 --from "[fe80::2]:$PORT"
		peer rounds fd07::2 "$PORT" 5	# they come behind them
		INSIDE=("${near[@]}")
		counted udp 8 5 loop=3
		stop udp
	done
}

# bats test_tags=root
@test "two echos at the same port of two hosts: one invented datagram has no answer that the other could answer" {
	local near

	two_hosts
	near=("${INSIDE[@]}")
	echoing echo=:7777
	spawn twin "${FAR[@]}" ccf-udpecho --control twin.ctl --ready-fd 9 "echo=:$PORT"
	INSIDE=("${FAR[@]}")
	peer spoof 10.7.0.1 "$PORT" 1 0 --from "10.7.0.8:$PORT"
	peer spoof fd07::1 "$PORT" 1 0 --from "[fd07::8]:$PORT"
	peer rounds 10.7.0.1 "$PORT" 2
	INSIDE=("${near[@]}")
	peer rounds 10.7.0.8 "$PORT" 2
	counted udp 4 2 loop=2
	counted twin 2 2
}

# bats test_tags=root
@test "answers to hosts of our own network that were invented keep back nobody else's" {
	local near

	requires root		# others may have no larger buffer
	two_hosts
	near=("${INSIDE[@]}")
	echoing echo=10.7.0.1:0
	INSIDE=("${FAR[@]}")
	peer rounds "$HOST" "$PORT" 1
	spawn flood "${FAR[@]}" python3 "$HERE/peer/udp.py" spoof "$HOST" "$PORT" 600 2 --of 10.7.0.128/26 \
	    --text "$(head -c 1400 /dev/zero | tr '\0' x)"
	eventually more_than 100	# more than a socket of the usual size may have on its way
	peer burst "$HOST" "$PORT" 50 --over 1 --between 40 50
	ends_with 0 flood
}

# bats test_tags=root
@test "a way out that stays full is not waited for: what was to go is dropped and counted" {
	two_hosts
	echoing --receive-buffer 64k echo=10.7.0.1:0	# and no more than usual for what is sent
	INSIDE=("${FAR[@]}")
	peer spoof "$HOST" "$PORT" 300 0.5 --of 10.7.0.128/26 --text "$(head -c 1400 /dev/zero | tr '\0' x)"
	eventually has_dropped send-full
}

has_dropped() {
	[ "$(figure udp "ccfnet_datagrams_dropped_total{reason=\"$1\"}" || echo 0)" -gt 0 ]
}

# --- whom it answers, and how often ---

@test "--allow and --deny: others are dropped and counted, and IPv4 at a dual-stack socket counts as IPv4" {
	requires ipv6
	echoing --allow 127.0.0.0/8 --allow ::1 --deny 127.0.0.9 echo=:0
	peer burst 127.0.0.1 "$PORT" 2 --bind 127.0.0.9 --between 0 0
	peer rounds 127.0.0.1 "$PORT" 1 --bind 127.0.0.8
	peer rounds ::1 "$PORT" 1
	counted udp 4 2 denied=2
	await_line udp.log '^ccf-udpecho: info: 127\.0\.0\.9:[0-9]+: echo: dropped: not allowed from there \(--allow, --deny\)$'
	stop udp
	echoing --allow 127.0.0.8/32 echo=:0
	peer burst ::1 "$PORT" 1 --between 0 0
	peer rounds 127.0.0.1 "$PORT" 1 --bind 127.0.0.8
	counted udp 2 1 denied=1
}

# again NAME N: that one is answered again, sooner or later.
again() {
	eventually once_more "$@"
}

once_more() {
	tell "$1" "$2" send again
	grep -q "^$2 got 5: again" "$1.out"
}

@test "--rate: of what a peer sends at once so many are answered and the others counted; nobody else is touched, and it goes on" {
	echoing --rate 20 echo=127.0.0.1:0
	talking cl "$HOST" "$PORT"
	halt udp
	numbered 60 cl send burst
	sent cl 2
	go_on udp
	numbered 20 cl expect burst
	tell cl 2 echo
	await_line cl.out '^2 ok$'
	counted udp 61 21 rate=40
	again cl 1
	await_line udp.log '^ccf-udpecho: info: 127\.0\.0\.1:[0-9]+: echo: dropped: above --rate$'
}

@test "--rate-host: all ports of a host have so many together, another host has its own" {
	requires ipv6
	echoing --rate-host 20 echo=:0
	talking cl 127.0.0.1 "$PORT"
	talking other 127.0.0.1 "$PORT" --bind 127.0.0.3:0
	talking six ::1 "$PORT"
	halt udp
	numbered 15 cl 1 send one
	numbered 15 cl 2 send two
	sent cl 3
	sent other 1
	sent six 1
	tell other 2 send sent
	await_line other.out '^2 from'
	tell six 2 send sent
	await_line six.out '^2 from'
	go_on udp
	numbered 15 cl 1 expect one
	numbered 5 cl 2 expect two
	tell other 1 echo
	tell six 1 echo
	await_line other.out '^1 ok$'
	await_line six.out '^1 ok$'
	counted udp 35 24 rate-host=11
	again cl 2
}

# bats test_tags=root
@test "--rate-host: 64 bits of an IPv6 address are a host" {
	apart
	"${INSIDE[@]}" sh -ec 'for a; do ip address add $a/128 dev lo; done' sh fd07:0:0:1::1 fd07:0:0:1::2 fd07:0:0:2::1
	echoing --rate-host 10 'echo=[::]:0'
	talking a fd07:0:0:1::1 "$PORT" --bind fd07:0:0:1::1
	talking b fd07:0:0:1::1 "$PORT" --bind fd07:0:0:1::2
	talking c fd07:0:0:1::1 "$PORT" --bind fd07:0:0:2::1
	halt udp
	numbered 8 a send x
	sent a 2
	numbered 8 b send x
	sent b 2
	numbered 8 c send x
	sent c 2
	go_on udp
	numbered 8 a expect x
	numbered 8 c expect x
	await_line c.out '^1 ok$'
	counted udp 27 19 rate-host=8
	await_line udp.log '\[fd07:0:0:1::2\]:[0-9]+: echo: dropped: above --rate-host$'
	run ! grep -F '[fd07:0:0:2::1]' udp.log
}

@test "--rate-all: so many in all; and what one limit drops uses up nothing of another" {
	echoing --rate 5 --rate-all 12 echo=127.0.0.1:0
	talking cl "$HOST" "$PORT"
	halt udp
	numbered 20 cl 1 send x
	numbered 20 cl 2 send x
	numbered 20 cl 3 send x
	sent cl 4
	go_on udp
	numbered 5 cl 1 expect x
	numbered 5 cl 2 expect x
	numbered 2 cl 3 expect x
	counted udp 61 12 rate=30 rate-all=19
	again cl 3
}

# --- where it is ---

@test "several addresses, named or not, with the port each got; all of them are answered" {
	local name

	echoing echo=127.0.0.1:0 node-2=udp:127.0.0.3:0 127.0.0.1:0 name=localhost:0 -4
	[ "$(jq -r 'keys | join(" ")' a.json)" = "127.0.0.1:0 echo name node-2" ]
	[[ $(address a.json node-2) =~ ^127\.0\.0\.3:[1-9][0-9]*$ ]]
	[[ $(address a.json name) =~ ^127\.0\.0\.1:[1-9][0-9]*$ ]]
	for name in echo node-2 127.0.0.1:0 name; do
		at "$name"
		peer rounds "$HOST" "$PORT" 1
		await_line udp.log "^ccf-udpecho: info: $name: receiving\$"
	done
	counted udp 4 4
	[ "$(echo a.json*)" = a.json ]
}

@test "-4 and -6 choose: :PORT is then of one family" {
	requires ipv6
	echoing -4 echo=:0
	[ "$ADDR" = "0.0.0.0:$PORT" ]
	peer rounds 127.0.0.1 "$PORT" 1
	talking cl ::1 "$PORT"
	tell cl send x
	tell cl refused
	await_line cl.out '^1 ok$'
	stop udp
	echoing -6 echo=:0
	[ "$ADDR" = "[::]:$PORT" ]
	peer rounds ::1 "$PORT" 1
	talking other 127.0.0.1 "$PORT"
	tell other send x
	tell other refused
	await_line other.out '^1 ok$'
}

@test "--ready-fd gets one newline when all is bound, and NOTIFY_SOCKET READY=1" {
	make_pipe ready_r ready_w
	SPAWN_OUT=told spawn sup socat -u "UNIX-RECV:$PWD/notify" STDOUT
	eventually grep -q " $PWD/notify\$" /proc/net/unix
	NOTIFY_SOCKET=$PWD/notify KEEP_FDS=$ready_w spawn udp ccf-udpecho --ready-fd "$ready_w" --address-file a.json echo=127.0.0.1:0
	exec {ready_w}>&-
	[ "$(timeout "$LIMIT" od -An -c <&"$ready_r" | tr -d ' ')" = '\n' ]
	at echo
	peer rounds "$HOST" "$PORT" 1
	eventually grep -q '^READY=1' told
	stop udp
	[ "$ended" = 0 ]
	[ "$(cat told)" = READY=1 ]
}

@test "a port that somebody has is status 45, and is not shared, nor is the other family's taken instead" {
	echoing "echo=127.0.0.1:$(free_port)"
	expect_status 45 ccf-udpecho "$ADDR"
	[[ $output == *"error: cannot bind $ADDR: Address already in use (ss -lunp says by whom)" ]]
	expect_status 45 ccf-udpecho --address-file b.json free=127.0.0.1:0 ":$PORT"
	[[ $output == *"cannot bind :$PORT ("*"): Address already in use"* ]]
	[ ! -e b.json ]
	if [ "$has_ipv6" = yes ]; then	# IPv4 alone would be free
		spawn six ccf-udpecho --ready-fd 9 --address-file six.json 'six=[::]:0'
		expect_status 45 ccf-udpecho ":$(address six.json six | sed 's/.*://')"
	fi
	expect_status 45 ccf-udpecho 192.0.2.1:0
	[[ $output == *"cannot bind 192.0.2.1:0: Cannot assign requested address (it is not an address of this host)" ]]
	peer rounds "$HOST" "$PORT" 1
	counted udp 1 1
	stop udp
	echoing "echo=$ADDR"	# and is free afterwards
	peer rounds "$HOST" "$PORT" 1
}

@test "a low port needs a right, and the message says which" {
	requires user
	[ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -gt 9 ] || skip "every port is free here"
	expect_status 45 ccf-udpecho 127.0.0.1:9
	[[ $output == *"cannot bind 127.0.0.1:9: Permission denied (a port this low needs CAP_NET_BIND_SERVICE)" ]]
}

@test "what is written wrongly is a usage error that shows the right form, a name without meaning is 6" {
	usage() {
		expect_status "${status_wanted-2}" ccf-udpecho "${@:2}"
		[[ $output == *"$1"* ]] || {
			echo "$output"
			return 1
		}
	}
	usage "write 127.0.0.1:7777" 127.0.0.1 7777
	usage "write [::1]:7777" ::1 7777
	usage "write [::1]:80" ::1:80
	usage "write :7777 (every address) or 127.0.0.1:7777" 7777
	usage "an ADDRESS is missing: write HOST:PORT, like 127.0.0.1:7777, or :7777 for every address"
	usage "unix:/x is no UDP address: write HOST:PORT, or :PORT" unix:/x
	usage "x: two interfaces have that name" x=127.0.0.1:0 x=127.0.0.1:0
	usage "'a.b' is no name" a.b=127.0.0.1:0
	usage "a COMMAND is missing after --" 127.0.0.1:0 --
	usage "--rate 0: must be from 1 to 100000000" --rate 0 127.0.0.1:0
	usage "--receive-buffer 1: must be from 4k to 1G" --receive-buffer 1 127.0.0.1:0
	usage "--allow 127.0.0.1/8: write an address and a prefix length" --allow 127.0.0.1/8 127.0.0.1:0
	usage "--deny localhost: write an address and a prefix length" --deny localhost 127.0.0.1:0
	usage "--idle-timeout is for the sessions of a COMMAND" --idle-timeout 1s 127.0.0.1:0
	usage "--max-queue is for the sessions of a COMMAND" --max-queue 1M 127.0.0.1:0
	usage "--max-open-sessions-hard is for the sessions of a COMMAND" --max-open-sessions-hard 5 127.0.0.1:0
	usage "--amplification is for the sessions of a COMMAND" --amplification 5 127.0.0.1:0
	usage "--ready-fd 77: that descriptor is not open" --ready-fd 77 127.0.0.1:0
	usage "did you mean --rate-host?" --rate-hots 5 127.0.0.1:0
	usage "-4 and -6 exclude each other" -4 -6 127.0.0.1:0
	status_wanted=6
	usage "cannot resolve the port no-such-service" 127.0.0.1:no-such-service
	usage "cannot resolve ::1" -4 '[::1]:0'
}

# --- sockets that somebody else has bound ---

# activated ARG...: tests/peer/activate.py, which becomes the echo; AT is where its sockets are.
activated() {
	rm -f activated
	spawn udp python3 "$HERE/peer/activate.py" --kind dgram "$@"
	eventually test -e a.json
	mapfile -t AT <activated
}

@test "sockets of a supervisor are served under their names, beside an address, and every address of theirs answers" {
	activated --names web:api 0.0.0.0:0 127.0.0.1:0 -- ccf-udpecho --address-file a.json --control udp.ctl own=127.0.0.1:0
	[ "$(jq -r 'keys | join(" ")' a.json)" = "api own web" ]
	[ "$(address a.json web)" = "${AT[0]}" ] && [ "$(address a.json api)" = "${AT[1]}" ]
	at web
	peer rounds 127.0.0.1 "$PORT" 1
	peer rounds 127.0.0.2 "$PORT" 1
	at api
	peer rounds "$HOST" "$PORT" 1
	at own
	peer rounds "$HOST" "$PORT" 1
	counted udp 4 4
	stop udp
	[ "$ended" = 0 ]
}

@test "a supervisor's dual-stack socket answers both families; without names sockets have their numbers" {
	requires ipv6
	activated '[::]:0' 127.0.0.1:0 -- ccf-udpecho --address-file a.json
	[ "$(jq -r 'keys | join(" ")' a.json)" = "fd3 fd4" ]
	at fd3
	peer rounds 127.0.0.2 "$PORT" 1
	peer rounds ::1 "$PORT" 1
	at fd4
	peer rounds 127.0.0.1 "$PORT" 1
}

@test "a socket that blocks holds nothing up: TERM is heard, and what waited before the start is answered" {
	cat >early.py <<-'END'
		import os, socket, sys
		a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
		a.bind(("127.0.0.1", 0))
		b.connect(a.getsockname())
		b.send(b"early")
		if os.fork() == 0:
		    b.settimeout(20)
		    print(b.recv(100).decode(), flush=True)
		    os._exit(0)
		os.dup2(a.fileno(), 3)
		os.set_inheritable(3, True)
		os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
		os.execvp(sys.argv[1], sys.argv[1:])
	END
	spawn udp python3 early.py ccf-udpecho --address-file a.json
	await_line udp.out '^early$'
	stop udp
	[ "$ended" = 0 ]
}

@test "what is no bound UDP socket is refused in one sentence, with 2 from a supervisor" {
	local activate="$HERE/peer/activate.py"

	expect_status 2 python3 "$activate" 127.0.0.1:0 -- ccf-udpecho
	[[ $output == *"error: LISTEN_FDS: descriptor 3 (fd3) is a listening stream socket, not a UDP one (systemd: ListenDatagram=)" ]]
	expect_status 2 python3 "$activate" --names rpc --bound 127.0.0.1:0 -- ccf-udpecho
	[[ $output == *"error: LISTEN_FDS: descriptor 3 (rpc) is a "*", not a UDP socket" ]]
	expect_status 2 python3 "$activate" --kind dgram "unix:$PWD/s" -- ccf-udpecho
	[[ $output == *"error: LISTEN_FDS: descriptor 3 (fd3) is a Unix socket, not a UDP one" ]]
	expect_status 2 python3 "$activate" --kind dgram --count 64 127.0.0.1:0 -- ccf-udpecho
	[[ $output == *"LISTEN_FDS=64: descriptor "*" is not open"* ]]
	expect_status 2 python3 "$activate" --kind dgram --names a:b 127.0.0.1:0 -- ccf-udpecho
	[[ $output == *"LISTEN_FDNAMES has 2 names for 1 descriptors"* ]]
	expect_status 2 python3 "$activate" --kind dgram --names rpc 127.0.0.1:0 -- ccf-udpecho rpc=127.0.0.1:0
	[[ $output == *"rpc: two interfaces have that name"* ]]
	expect_status 2 python3 "$activate" --kind dgram --pid 1 127.0.0.1:0 -- ccf-udpecho
	[[ $output == *"an ADDRESS is missing"* ]]
}

@test "fd:N is a socket that we inherited, and stays as it is for whoever has it too; anything else is 45" {
	activated 127.0.0.1:0 -- env -u LISTEN_PID ccf-udpecho --address-file a.json echo=fd:3
	at echo
	[ "$ADDR" = "${AT[0]}" ]
	peer rounds "$HOST" "$PORT" 1
	stop udp
	[ "$ended" = 0 ]
	expect_status 45 ccf-udpecho fd:77
	[[ $output == *"error: cannot use fd:77: Bad file descriptor" ]]
	expect_status 45 ccf-udpecho fd:0 </dev/null
	[[ $output == *"error: fd:0 is not a socket; a UDP socket that is bound is needed" ]]
	expect_status 45 python3 "$HERE/peer/activate.py" 127.0.0.1:0 -- env -u LISTEN_PID ccf-udpecho fd:3
	[[ $output == *"error: fd:3 is a listening stream socket, not a UDP one (systemd: ListenDatagram=)" ]]
	for what in 'bind|connect|is connected to one peer; a UDP socket that is only bound is needed' \
	    '||is a UDP socket that is not bound to a port'; do
		expect_status 45 python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1]:
    s.bind(("127.0.0.1", 0))
    s.connect(("127.0.0.1", 9999))
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.execvp("ccf-udpecho", ["ccf-udpecho", "fd:3"])' "${what%%|*}"
		[[ $output == *"error: fd:3 ${what##*|}" ]]
	done
}

# --- what it says when asked ---

@test "the control socket: figures in Prometheus' format, no connections, the log's level, and an end by POST /drain" {
	echoing --deny 127.0.0.9 echo=127.0.0.1:0
	peer ask "$HOST" "$PORT" 100 0 17
	peer burst "$HOST" "$PORT" 3 --bind 127.0.0.9 --between 0 0
	counted udp 6 3 denied=3
	figures udp 'ccfnet_datagram_bytes_total{direction="in"}=138' 'ccfnet_datagram_bytes_total{direction="out"}=117'
	correct udp
	cp udp.body before
	peer rounds "$HOST" "$PORT" 1
	counted udp 7 4 denied=3
	correct udp
	python3 "$HERE/peer/promcheck.py" udp.body before
	answers 200 udp GET /connections
	jq -e '. == []' udp.body
	refuses 404 udp DELETE /connections/echo%231 'no connection echo#1'
	refuses 404 udp GET /node/metrics 'an echo has no sessions: they come with a COMMAND'
	answers 200 udp PUT /log-level --data warn
	await_line udp.log '/log-level warn$'
	peer burst "$HOST" "$PORT" 1 --bind 127.0.0.9 --between 0 0
	counted udp 8 4 denied=4
	[ "$(grep -c ': dropped: ' udp.log)" = 3 ]
	answers 202 udp POST /drain
	ends_with 0 udp
	[ ! -e udp.ctl ]
}

@test "what the kernel had no room for is counted, and nothing else is missing" {
	local sent

	echoing --receive-buffer 4k echo=127.0.0.1:0
	halt udp
	peer flood "$HOST" "$PORT" 0.2 --size 1000
	sent=${output% sent}
	go_on udp
	eventually adds_up "$sent"
	peer rounds "$HOST" "$PORT" 1
	adds_up $((sent + 1))
	[ "$(figure udp 'ccfnet_datagrams_dropped_total{reason="kernel"}')" -gt 0 ]
	[ "$(reasons udp.body)" = 1 ]
}

adds_up() {
	came && [ "$CAME" = "$1" ]
}

at_least() {
	came && [ "$CAME" -ge "$1" ]
}

# came: CAME is how many datagrams reached the socket, with those that it had no room for.
came() {
	local in lost

	in=$(count udp in) || return
	lost=$(figure_of udp.body 'ccfnet_datagrams_dropped_total{reason="kernel"}') || lost=0
	CAME=$((in + lost))
	echo "$in came in, $lost had no room"
}

@test "--receive-buffer: as much as the kernel gives, said where it is less, and never less than there was" {
	echoing --receive-buffer 1G echo=127.0.0.1:0
	[ "$(buffer)" -gt "$(cat /proc/sys/net/core/rmem_default)" ]
	if [ "$(buffer)" -lt $((1 << 30)) ]; then
		await_line udp.log "echo: the kernel gives a receive buffer of $(buffer) bytes, not 1073741824: a burst may be lost"
	fi
	stop udp
	echoing --receive-buffer 4k echo=127.0.0.1:0
	[ "$(buffer)" = "$(cat /proc/sys/net/core/rmem_default)" ]
	run ! grep 'the kernel gives' udp.log
}

buffer() {
	ss -Hulnm "src = $ADDR" | sed -n 's/.*,rb\([0-9]*\),.*/\1/p'
}

# --- how it ends ---

@test "TERM ends it at once under a flood, with 0; meanwhile it has the descriptors it had before" {
	local i before began

	echoing "echo=127.0.0.1:$(free_port)"
	before=$(fd_count udp)
	for i in 1 2; do
		spawn "flood$i" python3 "$HERE/peer/udp.py" flood "$HOST" "$PORT" 60
	done
	eventually more_than 5000
	keeps udp="$before"
	began=$SECONDS
	stop udp
	[ "$ended" = 0 ]
	[ $((SECONDS - began)) -lt 10 ]
	mine "${PID[flood1]}"
	await_line udp.log '^ccf-udpecho: info: draining$'
	echoing "echo=$ADDR"		# the port is free, the flood goes on, and so does the next one
	eventually more_than 1000
}

@test "after INT nothing more is read, whatever comes" {
	rm -f a.json
	spawn udp env --default-signal=INT ccf-udpecho --trace --ready-fd 9 --address-file a.json echo=127.0.0.1:0
	at echo
	spawn flood python3 "$HERE/peer/udp.py" flood "$HOST" "$PORT" 60
	await_line udp.log ' out 64 bytes$'
	stop udp INT
	[ "$ended" = 0 ]
	sed -n '/info: draining$/,$p' udp.log >after
	head after
	[ "$(wc -l <after)" = 1 ]
	[ "$(grep -c ' in 64 bytes$' udp.log)" = "$(grep -c ' out 64 bytes$' udp.log)" ]
}

# bats test_tags=root
@test "a flood of invented senders leaves the memory bounded, and who asks is answered meanwhile" {
	local before i

	requires plain
	apart
	echoing --rate 20 --rate-host 10000 echo=127.0.0.1:0
	peer rounds "$HOST" "$PORT" 5
	before=$(rss_kib udp)
	for i in 1 2; do
		spawn "spoof$i" "${INSIDE[@]}" python3 "$HERE/peer/udp.py" spoof "$HOST" "$PORT" 20000 1
	done
	eventually more_than 2000
	peer many "$HOST" "$PORT" 100 --rounds 1 --window 4
	ends_with 0 spoof1
	ends_with 0 spoof2
	eventually at_least 40000
	echo "$before KiB before, $(rss_kib udp) after"
	[ "$(rss_kib udp)" -lt $((before + 4096)) ]	# all of them would be twice that
	peer many "$HOST" "$PORT" 100 --rounds 1
}

# --- what it logs ---

@test "a flood of denied senders is not a flood of lines" {
	local began=$SECONDS

	echoing --deny 127.0.0.0/8 echo=127.0.0.1:0
	peer burst "$HOST" "$PORT" 40 --between 0 0
	counted udp 40 0 denied=40
	stop udp
	summed_up 40 udp.log 'echo: dropped: not allowed' 'datagrams denied' "$began"
}

@test "USR1 says each interface, and how many datagrams there were" {
	echoing --deny 127.0.0.9 echo=127.0.0.1:0 other=127.0.0.2:0
	peer rounds "$HOST" "$PORT" 2
	peer burst "$HOST" "$PORT" 1 --bind 127.0.0.9 --between 0 0
	counted udp 3 2 denied=1
	kill -HUP "${PID[udp]}"
	kill -USR1 "${PID[udp]}"
	await_line udp.log '^ccf-udpecho: info: 3 datagrams in, 2 out, 1 dropped$'
	grep -q -x "ccf-udpecho: info: echo: at udp:$ADDR, 0 sessions, .*" udp.log
	grep -q -E "^ccf-udpecho: info: other: at udp:127\.0\.0\.2:[0-9]+, " udp.log
}

@test "--trace shows each datagram, in text and in JSON, and its bytes nowhere" {
	local log from

	for log in text json; do
		echoing --log "$log" --trace -v -v --deny 127.0.0.9 echo=127.0.0.1:0
		rm -f cl.out
		talking cl "$HOST" "$PORT"
		tell cl hex 1b5b33316d0a0d6363662d7564706563686f3a206572726f723a20666f726765640a
		tell cl echo
		await_line cl.out '^1 ok$'
		from=$(sed -n 's/^1 from //p' cl.out)
		peer burst "$HOST" "$PORT" 1 --bind 127.0.0.9 --between 0 0
		counted udp 2 1 denied=1
		stop udp
		run ! grep -P '[\x00-\x08\x0b-\x1f\x7f]' udp.log
		run ! grep forged udp.log
		if [ "$log" = text ]; then
			[ "$(grep -F "$from" udp.log)" = "trace: echo $from in 34 bytes"$'\n'"trace: echo $from out 34 bytes" ]
			grep -q -E '^trace: echo 127\.0\.0\.9:[0-9]+ denied 7 bytes$' udp.log
		else
			[ "$(jq -r --arg from "$from" 'select(.peer == $from) | "\(.tool) \(.level) \(.event) \(.iface) \(.what) \(.bytes)"' udp.log)" = \
			    $'ccf-udpecho info trace echo in 34\nccf-udpecho info trace echo out 34' ]
			jq -es 'any(.event == "dropped" and .reason == "denied" and .iface == "echo" and .level == "info" and
			    (.peer | startswith("127.0.0.9:")) and (.ts | test("^20..-..-..T..:..:......Z$")))' udp.log
			[ "$(jq -r 'select(.event == "receiving" or .event == "draining").msg' udp.log)" = $'echo: receiving\ndraining' ]
		fi
	done
}

@test "with -q only warnings and errors are logged" {
	echoing -q --deny 127.0.0.0/8 echo=127.0.0.1:0
	peer burst "$HOST" "$PORT" 20 --between 0 0
	counted udp 20 0 denied=20
	stop udp
	[ ! -s udp.log ]
}

@test "a supervisor's name forges no line of the log, and no JSON" {
	activated --names $'a"b\\c\e[31m\nforged' 127.0.0.1:0 -- \
	    ccf-udpecho --address-file a.json --control udp.ctl
	PORT=${AT[0]##*:}
	[ "$(jq -r '.[]' a.json)" = "${AT[0]}" ]
	peer rounds 127.0.0.1 "$PORT" 1
	correct udp
	kill -USR1 "${PID[udp]}"
	await_line udp.log '1 datagrams in'
	run ! grep -P '[\x00-\x08\x0b-\x1f\x7f]' udp.log
	run ! grep '^forged' udp.log
}
