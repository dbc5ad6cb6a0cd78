#!/bin/bash
# run - BUILD=build REPS=3 tests/bench/run.sh: what the pipeline costs beside others, CPU of all processes of each for a
# unit of work.  Who is not installed is left out.  Compare within one run only: from run to run one peer moves by 10 to 15 %.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$(realpath "${BUILD:-build}"):$PATH:/usr/sbin PART=268435456
work=$(mktemp -d "${TMPDIR:-/tmp}/ccf-bench.XXXXXX")
session='' backend='' TIMEFORMAT='%U %S'
trap 'over; kill $backend; rm -rf "$work"' EXIT
cd "$work"
sh "$here/../certs.sh" . >certs.log 2>&1 && cat chain.pem key.pem >both.pem
python3 "$here/load.py" backend $PART >ports &
backend=$!
until [ -s ports ]; do kill -0 "$backend"; done
read -r echo source sink <ports

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

cpu() {
	for pid in $(ps -o pid= --sid "$session"); do cat "/proc/$pid/schedstat"; done |
	    awk '{ ns += $1 } END { printf "%.0f", ns }'
}

# served NAME PER WHAT tls|plain N BACKEND-PORT PEER...: NAME is what is printed; CPU in ns is divided by PER.
served() {
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

# filtered NAME BYTES CMD...: a filter with so many bytes on its standard input; what comes out is thrown away.
filtered() {
	[ -n "$(type -P "$3")" ] || return 0
	# shellcheck disable=SC2094,SC2238
	head -c "$2" /dev/zero | { time "${@:3}" 2>>peers.log; } 2>time | cat >/dev/null
	awk '{ printf "%.2f\n", ($1 + $2) * 4 }' time >>"$1.$3"
}

for _ in $(seq "${REPS:-3}"); do
	served 'TLS handshake and echo, us' 2000000 connect tls 2000 "$echo" ccf hitch haproxy
	served 'TLS down, s per GiB' 1000000000 down tls $PART "$source" ccf hitch haproxy
	served 'TLS up, s per GiB' 1000000000 up tls $PART "$sink" ccf hitch haproxy
	served 'TLS round trip of 64, us' 50000000 rtt tls 50000 "$echo" ccf hitch haproxy
	served 'plain connection and echo, us' 2000000 connect plain 2000 "$echo" ccf haproxy
	served 'plain down, s per GiB' 1000000000 down plain $PART "$source" ccf haproxy
	filtered 'stdin to TCP, s per GiB' $PART ccf-connect "127.0.0.1:$sink"
	filtered 'stdin to TCP, s per GiB' $PART nc -N 127.0.0.1 "$sink"
	filtered 'TCP to stdout, s per GiB' 0 ccf-connect "127.0.0.1:$source"
	filtered 'TCP to stdout, s per GiB' 0 nc -d 127.0.0.1 "$source"
done
for file in *' '*.*; do
	sort -n "$file" | awk -v "what=${file%.*}" -v "who=${file##*.}" '{ v[NR] = $1 } END {
		printf "%-32s %-12s %8.2f  (%.2f to %.2f)\n", what, who, v[int((NR + 1) / 2)], v[1], v[NR] }'
done
