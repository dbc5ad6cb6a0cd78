#!/bin/bash
# run - BUILD=build REPS=3 T=WORD tests/bench/run.sh: what the tools cost beside others, CPU of all processes of each for a
# unit of work; T: only rows with that word.  Who is not installed is left out.  Compare within one run only: from run to run
# one peer moves by 10 to 15 %.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$(realpath "${BUILD:-build}"):$PATH:/usr/sbin PART=268435456
udp=${PATH%%:*}/tests/bench/udp frames=${PATH%%:*}/tests/bench/frames
work=$(mktemp -d "${TMPDIR:-/tmp}/ccf-bench.XXXXXX")
session='' backend='' TIMEFORMAT='%U %S'
trap 'over; kill $backend; wait; rm -rf "$work"' EXIT
cd "$work"
sh "$here/../certs.sh" . >certs.log 2>&1 && cat chain.pem key.pem >both.pem
python3 "$here/load.py" backend $PART >ports &
backend=$!
until [ -s ports ]; do kill -0 "$backend"; done
read -r echo source sink <ports

# nginx LISTEN LOCATION: a configuration with one server
nginx_conf() {
	printf '%s\n' 'daemon off; worker_processes 1; error_log stderr crit;' "pid ${1##*[: ]}.pid;" 'events { worker_connections 1024; }' 'http {' \
	    'access_log off; keepalive_requests 10000000; ssl_certificate chain.pem; ssl_certificate_key key.pem;' \
	    "upstream b { server $to; keepalive 256; }" "server { listen $1; location / { $2 } } }"
}

# web PEER plain|tls return|pass: what says a small answer itself, or fetches it from a backend.
web() {
	local ssl='' crt='' plain=--plaintext sink='' front=

	[ "$2" = plain ] || ssl=' ssl' crt=' ssl crt both.pem' plain='--cert chain.pem --key key.pem'
	case $1.$3 in
	ccf.return) sink='--app http1' front= ;;
	ccf.pass) sink='--app http1 --to -' front="| ccf-connect -q --from - $to" ;;
	nginx.return) nginx_conf "$at$ssl" 'return 200 "hello, world\n";' >peer.conf ;;
	nginx.pass) nginx_conf "$at$ssl" "proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection '';" >peer.conf ;;
	haproxy.*) printf '%s\n' global ' nbthread 1' defaults ' mode http' ' timeout connect 9s' ' timeout client 99s' ' timeout server 99s' \
	    'listen l' " bind $at$crt" "$([ "$3" = pass ] && echo " server s $to" || echo ' http-request return status 200 content-type text/plain string hello')" >haproxy.cfg ;;
	esac
	case $1 in
	ccf) setsid sh -c "ccf-listen -q --to - $at | ccf-tlsterm -q $plain $sink $front" & ;;
	nginx) setsid nginx -p "$work" -c peer.conf & ;;
	haproxy) setsid haproxy -db -f haproxy.cfg & ;;
	esac >>peers.log 2>&1 </dev/null
	session=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$session"; done
}

# asked NAME plain|tls return|pass PEER...: requests on 32 connections that are kept, in thousands a CPU second.
asked() {
	wanted "$1" && [ -n "$(type -P wrk)" ] || return 0
	for peer in "${@:4}"; do
		[ "$peer" = ccf ] || [ -n "$(type -P "$peer")" ] || continue
		port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
		at=127.0.0.1:$port to=127.0.0.1:$store
		web "$peer" "$2" "$3"
		before=$(cpu)
		wrk -t1 -c32 -d3s "http$([ "$2" = plain ] || echo s)://$at/" >wrk.out
		after=$(cpu)
		if grep 'Non-2xx' wrk.out; then exit 1; fi
		awk -v "ns=$((after - before))" '/requests in/ { printf "%.1f\n", $1 * 1000000 / ns }' wrk.out >>"$1.$peer"
		over
	done
}

# start PEER tls|plain PORT BACKEND-PORT
start() {
	at=127.0.0.1:$3 to=127.0.0.1:$4 user=
	[ "$EUID" != 0 ] || user=--user=nobody	# hitch wants one
	printf '%s\n' global ' nbthread 1' defaults ' mode tcp' ' timeout connect 9s' ' timeout client 99s' ' timeout server 99s' \
	    'listen l' " bind $at $([ "$2" = plain ] || echo ssl crt both.pem)" " server s $to" >haproxy.cfg
	case $1.$2 in
	ccf.tls) setsid sh -c "ccf-listen -q --to - $at | ccf-tlsterm -q --cert chain.pem --key key.pem --to - | ccf-connect -q --from - $to" & ;;
	ccf.plain) setsid sh -c "ccf-listen -q --to - $at | ccf-connect -q --from - $to" & ;;
	hitch.tls) setsid hitch $user --frontend="[127.0.0.1]:$3" --backend="[127.0.0.1]:$4" both.pem & ;;
	haproxy.*) setsid haproxy -db -f haproxy.cfg & ;;
	esac >>peers.log 2>&1 </dev/null
	session=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$3") 2>/dev/null; do kill -0 "$session"; done
}

over() {
	[ -z "$session" ] || ps -o pid= --sid "$session" | xargs -r kill 2>/dev/null || :
	session=
}

# Also of the children that are gone, in ticks of 10 ms: for who has one for each datagram.
cpu() {
	for pid in $(ps -o pid= --sid "$session"); do cat "/proc/$pid/schedstat" "/proc/$pid/stat" || :; done 2>/dev/null |
	    awk 'sub(/.*[)] /, "") { ns += ($14 + $15) * 10000000; next } { ns += $1 } END { printf "%.0f", ns }'
}

wanted() { [[ $1 == *${T:-}* ]]; }

# served NAME PER WHAT tls|plain N BACKEND-PORT PEER...: NAME is what is printed; CPU in ns is divided by PER.
served() {
	wanted "$1" || return 0
	for peer in "${@:7}"; do
		[ "$peer" = ccf ] || [ -n "$(type -P "$peer")" ] || continue
		port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
		start "$peer" "$4" "$port" "$6"
		before=$(cpu)
		python3 "$here/load.py" "$3" "$port" "$4" "$5"
		awk -v "ns=$(($(cpu) - before))" -v "per=$2" 'BEGIN { printf "%.2f\n", ns / per }' >>"$1.$peer"
		over
	done
}

# echoed NAME PEERS WINDOW SIZE TIME PEER...: datagrams to and fro for so long, CPU for each that was answered; of two processors the
# peer has one and the load the other.  loop and mmsg are bare echoes.  Who loses, glues or cuts any is told on.
echoed() {
	local at server on=() off=()

	wanted "$1" || return 0
	! taskset -c 1 true 2>/dev/null || on=(taskset -c 1) off=(taskset -c 0)
	for peer in "${@:6}"; do
		at=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(type=2); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
		case $peer in
		ccf) server=(ccf-udpecho -q "$at") ;;
		loop | mmsg) server=("$udp" "$peer" "$at") ;;
		socat) server=(socat "UDP4-LISTEN:${at#*:},bind=127.0.0.1,fork" PIPE) ;;
		socat-fork) server=(socat "UDP4-RECVFROM:${at#*:},bind=127.0.0.1,fork" PIPE) ;;
		ncat) server=(ncat -n -u -l -k -m 100 -e /bin/cat "${at%:*}" "${at#*:}") ;;
		esac
		[ -n "$(type -P "${server[0]}")" ] || continue
		setsid "${on[@]}" "${server[@]}" >>peers.log 2>&1 </dev/null &
		session=$!
		until ss -Hlun "sport = :${at#*:}" | grep -q .; do kill -0 "$session"; done
		"$udp" load "$at" 1 1 "$4" 0.05s >load.out || : # by then it has started
		before=$(cpu)
		"${off[@]}" "$udp" load "$at" "$2" "$3" "$4" "$5" >load.out || case $peer in socat* | ncat) ;; *) cat load.out && exit 1 ;; esac
		awk -v "ns=$(($(cpu) - before))" '$4 { printf "%.2f\n", ns / 1000 / $4 }' load.out >>"$1.$peer"
		awk -v "who=$1.$peer" '$6 + $8 + $14 { print who, $0 }' load.out >>odd
		over
	done
}

# messages NAME SIZE BARE COUNT: from one program to another, BARE over a connection between the two, COUNT over two nodes; CPU ns a
# message of each process that has a part in it, and how many thousands of them a CPU second is enough for.
messages() {
	wanted "$1" || return 0
	"$frames" bare "$2" "$3" >frames.out
	if [ -n "$(type -P ccf-nodelink)" ]; then
		port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
		rm -f n0.app n1.app
		setsid sh -c "ccf-listen -q --to n1.link 127.0.0.1:$port & ccf-nodelink -q --from n1.link --id n1 --app n1.app & echo \$! >n1.pid
		    exec ccf-nodelink -q --id n0 --peer n1=127.0.0.1:$port --retry 100 --app n0.app" >>peers.log 2>&1 </dev/null &
		session=$!
		until [ -S n0.app ] && [ -S n1.app ]; do kill -0 "$session"; done	# n1 takes connections when its program is there
		"$frames" app "$2" "$4" n0 n0.app "$session" n1 n1.app "$(cat n1.pid)" >>frames.out
		over
	fi
	while read -r who ns; do
		echo "$ns" >>"$1, CPU ns.$who"
		awk -v "ns=$ns" 'BEGIN { printf "%.1f\n", 1000000 / ns }' >>"$1, 1000 a CPU s.$who"
	done <frames.out
}

# filtered NAME BYTES CMD...: a filter with so many bytes on its standard input; what comes out is thrown away.
filtered() {
	wanted "$1" && [ -n "$(type -P "$3")" ] || return 0
	# shellcheck disable=SC2094,SC2238
	head -c "$2" /dev/zero | { time "${@:3}" 2>>peers.log; } 2>time | cat >/dev/null
	awk '{ printf "%.2f\n", ($1 + $2) * 4 }' time >>"$1.$3"
}

store=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])') to=127.0.0.1:1
nginx_conf "127.0.0.1:$store" 'return 200 "hello, world\n";' >store.conf
nginx -p "$work" -c store.conf >>peers.log 2>&1 </dev/null &
backend="$backend $!"

for _ in $(seq "${REPS:-3}"); do
	served 'TLS handshake and echo, us' 2000000 connect tls 2000 "$echo" ccf hitch haproxy
	served 'TLS down, s per GiB' 1000000000 down tls $PART "$source" ccf hitch haproxy
	served 'TLS up, s per GiB' 1000000000 up tls $PART "$sink" ccf hitch haproxy
	served 'TLS round trip of 64, us' 50000000 rtt tls 50000 "$echo" ccf hitch haproxy
	served 'plain connection and echo, us' 2000000 connect plain 2000 "$echo" ccf haproxy
	served 'plain down, s per GiB' 1000000000 down plain $PART "$source" ccf haproxy
	asked 'HTTP page, 1000 a CPU s' plain return ccf nginx haproxy
	asked 'HTTP to a backend, 1000 a CPU s' plain pass ccf nginx haproxy
	asked 'HTTPS page, 1000 a CPU s' tls return ccf nginx haproxy
	asked 'HTTPS to a backend, 1000 a CPU s' tls pass ccf nginx haproxy
	filtered 'stdin to TCP, s per GiB' $PART ccf-connect "127.0.0.1:$sink"
	filtered 'stdin to TCP, s per GiB' $PART nc -N 127.0.0.1 "$sink"
	filtered 'TCP to stdout, s per GiB' 0 ccf-connect "127.0.0.1:$source"
	filtered 'TCP to stdout, s per GiB' 0 nc -d 127.0.0.1 "$source"
	messages 'messages of 64 B' 64 60000000 2000000
	messages 'messages of 1 KiB' 1024 5000000 600000
	messages 'messages of 64 KiB' 65536 80000 20000
	for size in 64 512 1400; do
		echoed "UDP $size B, 16 peers x 8, us" 16 8 $size 1s mmsg ccf loop socat socat-fork ncat
		# Most of it is a processor that falls asleep and wakes up, as it likes: many short rounds, to see the rest.
		for _ in 1 2 3 4 5 6; do echoed "UDP $size B, 1 x 1, us" 1 1 $size 0.3s mmsg ccf loop; done
		echoed "UDP $size B, 1 x 1, us" 1 1 $size 0.3s socat socat-fork ncat
	done
done
# Beside a bare recvmmsg: the median of what the two were in each round.
for file in *' '*.*; do
	ratio=''
	[ ! -s "${file%.*}.mmsg" ] || ratio=$(paste "$file" "${file%.*}.mmsg" | awk 'NF == 2 { print $1 / $2 }' | sort -n |
	    awk '{ v[NR] = $1 } END { printf "  %.2f x mmsg", v[int((NR + 1) / 2)] }')
	sort -n "$file" | awk -v "what=${file%.*}" -v "who=${file##*.}" -v "ratio=$ratio" '{ v[NR] = $1 } END {
		printf "%-32s %-12s %8.2f  (%.2f to %.2f)%s\n", what, who, v[int((NR + 1) / 2)], v[1], v[NR], ratio }'
done
[ ! -s odd ] || sort odd | awk -F ' sent ' '{ split($2, n, " "); of[$1] += n[3]; glued[$1] += n[5]; lost[$1] += n[7]; foreign[$1] += n[11]; cut[$1] += n[13] }
	END { for (who in of) printf "%s: of %d answered %d were glued; %d lost, %d foreign, %d cut\n", who, of[who], glued[who], lost[who], foreign[who], cut[who] }' | sort
