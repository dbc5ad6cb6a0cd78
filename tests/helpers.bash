# helpers - what every bats suite begins with: `load helpers`.
#
# A test runs in a directory of its own, with the tools first in PATH.  What it starts it starts with
# spawn or pipeline; all of that is dead and waited for before the next test, and a process that is
# left over fails the test.  Nobody sleeps: a test waits for the event, and every wait has a limit.
#
#	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat
#	addr=$(address a.json rpc)	# 127.0.0.1:40123
#	...
#	stop lst			# TERM, and wait
#	[ "$ended" = 0 ]
# shellcheck shell=bash disable=SC2034,SC2154	# the tests and bats use and set what seems idle here

bats_require_minimum_version 1.5.0

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)	# tests/
ROOT=${HERE%/*}
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$ROOT/$BUILD ;; esac

LIMIT=20					# seconds that a wait may last
[ -z "${CCF_SAN-}" ] || LIMIT=40
: "${BATS_TEST_TIMEOUT:=60}"
export BATS_TEST_TIMEOUT

setup() { common_setup; }
teardown() { common_teardown; }

common_setup() {
	declare -gA PID=()			# of what was spawned, by name
	SPAWNED=()
	OWNER=$BASHPID
	ended=
	unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES NOTIFY_SOCKET
	export PATH=$BUILD:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
	export TEST_MARK=$BATS_TEST_TMPDIR
	if [ -n "${CCF_SAN-}" ]; then
		export ASAN_OPTIONS=detect_leaks=1:exitcode=99:log_path=$BATS_TEST_TMPDIR/sanitizer
		export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:exitcode=99:log_path=$BATS_TEST_TMPDIR/sanitizer
	fi
	cd "$BATS_TEST_TMPDIR" || return 1
}

common_teardown() {
	local bad=0 pid more report

	for pid in "${SPAWNED[@]}"; do
		mine "$pid" || continue
		mapfile -t more < <(workers "$pid")
		kill -CONT "$pid" "${more[@]}" 2>/dev/null || :
	done
	# Not before: a leak checker that has stopped its own process would wait for ever if we let that go on.
	for pid in "${SPAWNED[@]}"; do
		mine "$pid" && kill -TERM "$pid" 2>/dev/null
	done
	for pid in "${SPAWNED[@]}"; do
		gone "$pid" 3 || kill_all "$pid"
		wait "$pid" 2>/dev/null || :
	done
	unset TEST_MARK
	if ! eventually nobody_left; then
		for pid in $(left_over); do
			echo "left running: $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
			kill -KILL "$pid" 2>/dev/null || :
		done
		bad=1
	fi
	for report in "$BATS_TEST_TMPDIR"/sanitizer.*; do
		[ -e "$report" ] || continue
		cat "$report"
		bad=1
	done
	if [ "$bad" = 1 ] || [ -z "${BATS_TEST_COMPLETED-}" ]; then
		show_logs
	fi
	cd / || :
	return "$bad"
}

show_logs() {
	local log

	for log in "$BATS_TEST_TMPDIR"/*.log; do
		[ -s "$log" ] || continue
		echo "--- ${log##*/}"
		tail -n 60 "$log"
	done
}

# Every program a test starts carries TEST_MARK; left_over says which of them still run.
left_over() {
	grep -lzsxF "TEST_MARK=$BATS_TEST_TMPDIR" /proc/[0-9]*/environ | sed 's|^/proc/||; s|/environ$||'
}

nobody_left() {
	[ -z "$(left_over)" ]
}

# --- starting and ending ---

# make_pipe R W: an anonymous pipe; its ends' numbers go into the variables R and W.
make_pipe() {
	local pipe_path pipe_rw pipe_r pipe_w

	pipe_path=$(mktemp -u "$BATS_TEST_TMPDIR/pipe.XXXXXX")
	mkfifo "$pipe_path"
	exec {pipe_rw}<>"$pipe_path"
	exec {pipe_r}<"$pipe_path"
	exec {pipe_w}>"$pipe_path"
	exec {pipe_rw}>&-
	rm "$pipe_path"
	printf -v "$1" %s "$pipe_r"
	printf -v "$2" %s "$pipe_w"
}

# launch NAME STDIN STDOUT READY CMD...: in the background with these descriptors, the log in NAME.log,
# READY (or nothing: -) as 9, and nothing else open but what KEEP_FDS names.
launch() {
	local name=$1 in=$2 out=$3 ready=$4 fd

	shift 4
	(
		exec <&"$in" >&"$out" 2>>"$name.log"
		if [ "$ready" = - ]; then exec 9>&-; else exec 9>&"$ready"; fi
		for fd in /proc/self/fd/*; do
			fd=${fd##*/}
			case " 0 1 2 9 255 ${KEEP_FDS-} " in *" $fd "*) ;; *) eval "exec $fd>&-" ;; esac
		done
		if [ "$(type -t "$1")" = function ]; then
			"$@"
			exit
		fi
		exec "$@"
	) &
	PID[$name]=$!
	SPAWNED+=("$!")
}

# pipeline NAME CMD... '|' NAME CMD...: every stage is spawned under its name, joined by pipes as a shell
# would; returns when each stage that has `--ready-fd 9` among its arguments has said that it is ready.
# The first reads SPAWN_IN (/dev/null), the last writes to SPAWN_OUT (LASTNAME.out).
pipeline() {
	local stage=() names=() waits=() in out next ready_r ready_w name i

	exec {in}<"${SPAWN_IN-/dev/null}"
	set -- "$@" '|'
	while [ $# -gt 0 ]; do
		if [ "$1" != '|' ]; then
			stage+=("$1")
			shift
			continue
		fi
		shift
		name=${stage[0]}
		if [ $# -gt 0 ]; then
			make_pipe next out
		else
			exec {out}>"${SPAWN_OUT-$name.out}"
		fi
		ready_r=- ready_w=-
		case " ${stage[*]} " in *' --ready-fd 9 '* | *' --ready-fd=9 '*) make_pipe ready_r ready_w ;; esac
		launch "$name" "$in" "$out" "$ready_w" "${stage[@]:1}"
		exec {in}<&- {out}>&-
		[ "$ready_w" = - ] || exec {ready_w}>&-
		names+=("$name")
		waits+=("$ready_r")
		in=${next-}
		stage=()
	done
	for i in "${!names[@]}"; do
		[ "${waits[i]}" != - ] || continue
		ready_r=${waits[i]}
		if ! read -r -t "$LIMIT" -u "$ready_r" _; then
			echo "${names[i]} was not ready in $LIMIT s"
			return 1
		fi
		# It closes its end next: who counts descriptors from here on counts without it.
		eventually without "${PID[${names[i]}]}" "$ready_r"
		exec {ready_r}<&-
	done
}

# without PID FD: it has not got the other end of our pipe FD as its 9 any more.
without() {
	[ ! "/proc/$1/fd/9" -ef "/proc/$BASHPID/fd/$2" ]
}

# spawn NAME CMD...: one stage.  With `--ready-fd 9` it returns when the tool says so.
spawn() {
	local name=$1

	shift
	pipeline "$name" "$@"
}

spawn_plain() { spawn "$@"; }

# mine PID: that is a process of this test.  One that has ended was reaped by the shell, and while many programs run its number
# soon belongs to somebody else, who is neither to be signalled nor to be waited for.
mine() {
	grep -qs -x "PPid:[[:space:]]*$OWNER" "/proc/$1/status"
}

# gone PID [SECONDS]: waits until it has ended.
gone() {
	mine "$1" || return 0
	timeout "${2:-$LIMIT}" tail -s 0.02 --pid="$1" -f /dev/null 2>/dev/null
}

# wait_for NAME|PID [SECONDS]: waits for a spawned process; its status is returned and is in $ended.
wait_for() {
	local pid=${PID[$1]-$1} keep=() p

	if ! gone "$pid" "${2:-$LIMIT}"; then
		echo "$1 ($pid) still runs after ${2:-$LIMIT} s:"
		ps -o pid,ppid,stat,wchan:20,time,args -p "$pid" || :
		ended=timeout
		return 124
	fi
	ended=0
	wait "$pid" || ended=$?
	for p in "${SPAWNED[@]}"; do
		[ "$p" = "$pid" ] || keep+=("$p")
	done
	SPAWNED=("${keep[@]}")
	return "$ended"
}

# ends_with STATUS NAME|PID [SECONDS]: it ends by itself, with this status.
ends_with() {
	wait_for "$2" "${3:-$LIMIT}" || :
	[ "$ended" = "$1" ] || {
		echo "$2 ended with $ended, not $1"
		return 1
	}
}

# stop NAME|PID [SIGNAL]: ends it and waits; the status is in $ended.
stop() {
	mine "${PID[$1]-$1}" || {
		echo "$1 has ended before it was stopped"
		return 1
	}
	kill "-${2:-TERM}" "${PID[$1]-$1}"
	wait_for "$1" || [ "$ended" != timeout ]
}

# --- the workers of a terminator ---

# A ccf-tlsterm that serves many is a master, which is what is spawned, and its workers (one unless -j says otherwise), which
# hold the connections: their descriptors, memory and system calls.  Where something is counted, NAME.N is the Nth worker
# of NAME: `fd_count tls.1`.

# pid_of NAME|NAME.N|PID
pid_of() {
	if [ -n "${PID[$1]-}" ]; then
		echo "${PID[$1]}"
	elif [[ $1 == *.* ]]; then
		worker "${1%.*}" "${1##*.}"
	else
		echo "$1"
	fi
}

# workers NAME|PID: those that live now, by pid, the oldest first.  (The others among its children are COMMANDs.)
workers() {
	local master=${PID[$1]-$1} children=() child

	[ "/proc/$master/exe" -ef "$BUILD/ccf-tlsterm" ] || return 0
	{ read -r -a children <"/proc/$master/task/$master/children"; } 2>/dev/null || :
	for child in "${children[@]}"; do
		[ ! "/proc/$child/exe" -ef "/proc/$master/exe" ] || echo "$child"
	done
}

# worker NAME|PID [N]: the pid of the Nth (1), once there are so many.
worker() {
	eventually has_worker "$1" "${2-1}" >&2 || return
	workers "$1" | sed -n "${2-1}p"
}

has_worker() {
	[ "$(workers "$1" | wc -l)" -ge "$2" ]
}

# kill_worker NAME|PID [N]: by SIGKILL; its pid is in $killed.  The master lives on, and starts another one.
kill_worker() {
	killed=$(worker "$@") || return
	kill -KILL "$killed"
	eventually dead "$killed"
}

# kill_master NAME: by SIGKILL, and it is waited for; its worker, whose pid is in $orphan, finishes alone.
kill_master() {
	orphan=$(worker "$1") || return
	stop "$1" KILL
}

# crash NAME|PID: a terminator is killed whole; none of its processes sees another one die.
crash() {
	local pid=${PID[$1]-$1} all

	worker "$pid" >/dev/null || return
	mapfile -t all < <(workers "$pid")
	kill_all "$pid"
	eventually dead "${all[@]}" || return
	if [ "$pid" != "$1" ]; then
		wait_for "$1" || [ "$ended" != timeout ]
	fi
}

kill_all() {	# kill_all PID: it, and its workers
	local all

	mapfile -t all < <(workers "$1")
	[ ${#all[@]} = 0 ] || kill -STOP "${all[@]}" 2>/dev/null || :
	kill -KILL "$1" "${all[@]}" 2>/dev/null || :
}

# dead PID...: they have ended, and so closed all they had, whether or not somebody has waited for them.
dead() {
	local pid

	for pid; do
		! grep -q '^State:[[:space:]]*[^XZ[:space:]]' "/proc/$pid/status" 2>/dev/null || return 1
	done
}

# expect_status N CMD...: as `run`, with a limit, and its status must be N.
expect_status() {
	local want=$1

	shift
	if [ "$(type -t "$1")" = file ]; then
		set -- timeout -k 1 "$((LIMIT * 3))" "$@"
	fi
	run "$@"
	[ "$status" = "$want" ] || {
		printf 'status %s, not %s: %s\n%s\n' "$status" "$want" "$*" "$output"
		return 1
	}
}

# --- waiting ---

# await_line FILE PATTERN [SECONDS]: until a line of FILE, which may not be there yet, matches (grep -E).
await_line() {
	timeout "${3:-$LIMIT}" tail -n +1 -F "$1" 2>/dev/null | grep -q -m 1 -E -e "$2" || {
		echo "no line of $1 matched: $2"
		return 1
	}
}

# eventually [-t SECONDS] CMD...: until CMD succeeds.  For states that announce themselves nowhere.
eventually() {
	local limit=$LIMIT end never_r='' never_w

	if [ "$1" = -t ]; then
		limit=$2
		shift 2
	fi
	end=$((SECONDS + limit))
	until "$@"; do
		[ "$SECONDS" -le "$end" ] || {
			echo "not so within $limit s: $*"
			return 1
		}
		[ -n "$never_r" ] || make_pipe never_r never_w
		read -r -t 0.03 -u "$never_r" || :
	done
	[ -z "$never_r" ] || exec {never_r}<&- {never_w}>&-
}

# summed_up N FILE LINE CLASS BEGAN: of N events FILE shows ten in ten seconds, and says how many more of the CLASS there
# were; they began when SECONDS was BEGAN, and its writer has ended.
summed_up() {
	local shown more windows=$(((SECONDS - $5) / 10 + 1))

	shown=$(grep -c -E -e "$3" "$2") || :
	more=$(sed -n -E "s/.* ([0-9]+) more $4 in 10 s.*/\1/p" "$2" | awk '{ sum += $1 } END { print sum + 0 }')
	echo "$shown shown and $more more of $1, in $windows times ten seconds"
	[ "$((shown + more))" = "$1" ] && [ "$shown" -ge 10 ] && [ "$shown" -le $((windows * 10)) ]
}

# --- asking ---

# address FILE NAME: what --address-file says, HOST:PORT.
address() {
	jq -er --arg name "$2" '.[$name]' "$1"
}

# free_port: of 127.0.0.1; the kernel gives it to nobody who does not ask for it, so it is still free a while later.
free_port() {
	python3 -c 'import random, socket
low, high = map(int, open("/proc/sys/net/ipv4/ip_local_port_range").read().split())
ports = [p for p in range(10000, 60000) if not low <= p <= high]
while True:
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", random.choice(ports or [0])))
        except OSError:
            continue
        print(s.getsockname()[1])
        break'
}

fd_count() {
	# shellcheck disable=SC2012
	ls "/proc/$(pid_of "$1")/fd" | wc -l
}

rss_kib() {
	awk '/^VmRSS:/ { print $2 }' "/proc/$(pid_of "$1")/status"
}

# requires CAPABILITY...: skips the test by the name of what is missing.
requires() {
	local what

	for what in "$@"; do
		case $what in
		root) [ "$EUID" = 0 ] ;;
		user) [ "$EUID" != 0 ] ;;
		plain) [ -z "${CCF_SAN-}" ] ;;		# not a sanitizer build: memory and flags are as shipped
		ipv6) grep -qs '^0\{31\}1 ' /proc/net/if_inet6 ;;
		netns) namespaces && "${NETNS[@]}" true 2>/dev/null ;;
		strace) [ -z "${CCF_SAN-}" ] && strace -o /dev/null true 2>/dev/null ;;	# LSan traces, too
		sudo) sudo -n true 2>/dev/null ;;
		gnutls) [ -n "$(type -P gnutls-cli)" ] ;;
		nginx | wrk | ab) [ -n "$(type -P "$what")" ] ;;
		*)
			echo "requires: there is no capability '$what'"
			return 1
			;;
		esac || skip "$what is not available here"
	done
}

# NETNS is the command that runs another in its own network and mount namespace, as root there.
namespaces() {
	NETNS=(unshare --net --mount)
	[ "$EUID" = 0 ] || NETNS=(unshare --user --map-root-user --net --mount)
}

# shared_dir: the test's directory is opened to an ordinary user, and AS_USER is the command that becomes
# one (nothing when we are one): spawn tls "${AS_USER[@]}" ccf-tlsterm ...
shared_dir() {
	local dir=$BATS_TEST_TMPDIR

	AS_USER=()
	[ "$EUID" = 0 ] || return 0
	AS_USER=(setpriv --reuid "${CCF_UID:-65534}" --regid "${CCF_UID:-65534}" --clear-groups)
	chmod 1777 "$dir"
	while dir=${dir%/*} && [ -n "$dir" ] && [ -O "$dir" ] && [ "$dir" != "${TMPDIR:-/tmp}" ]; do
		chmod a+x "$dir"
	done
}

# --- what tests talk to ---

# certs: CERTS is a directory with ca.pem chain.pem key.pem rsa.pem rsa.key client.pem client.key, made once a run.
certs() {
	CERTS=${CCF_CERTS:-$BATS_RUN_TMPDIR/certs}
	(
		flock 8
		[ -e "$CERTS/chain.pem" ] || bash "$HERE/certs.sh" "$CERTS" >"$BATS_RUN_TMPDIR/certs.log" 2>&1 || {
			cat "$BATS_RUN_TMPDIR/certs.log"
			exit 1
		}
		[ -n "${CCF_CERTS-}" ] || chmod -R a+rX "$CERTS"
	) 8>>"$BATS_RUN_TMPDIR/certs.lock"
}

# http_backend [ADDRESS]: an HTTP server that stores what is PUT (tests/peer/http_store.py): BACKEND is its
# address, BACKEND_DIR what it serves, http.log its journal of what arrived whole and what did not.
http_backend() {
	BACKEND_DIR=$BATS_TEST_TMPDIR/www
	mkdir -p "$BACKEND_DIR"
	SPAWN_OUT=http.address spawn http python3 "$HERE/peer/http_store.py" "$BACKEND_DIR" "${1:-127.0.0.1:0}"
	await_line http.address .
	BACKEND=$(cat http.address)
}

# nginx_backend: the same from a server of the world's; nginx.log is its log.
nginx_backend() {
	local port try

	BACKEND_DIR=$BATS_TEST_TMPDIR/www
	mkdir -p "$BACKEND_DIR" nginx
	for try in 1 2 3 4 5; do
		port=$(free_port)
		cat >nginx/conf <<-EOF
			$([ "$EUID" != 0 ] || echo 'user root root;')
			daemon off; worker_processes 1; pid $BATS_TEST_TMPDIR/nginx/pid; error_log stderr notice;
			events { worker_connections 2048; }
			http {
				client_body_temp_path nginx/body; proxy_temp_path nginx/1; fastcgi_temp_path nginx/2;
				uwsgi_temp_path nginx/3; scgi_temp_path nginx/4; access_log off; client_max_body_size 0;
				server { listen 127.0.0.1:$port backlog=1024; root $BACKEND_DIR; dav_methods PUT DELETE; }
			}
		EOF
		spawn nginx nginx -p "$BATS_TEST_TMPDIR" -c nginx/conf -e stderr
		# Its workers start after the port is bound; bound is what a client needs.
		if await_line nginx.log 'start worker processes|\[emerg\]' && ! grep -qs '\[emerg\]' nginx.log; then
				BACKEND=127.0.0.1:$port
			return 0
		fi
		echo "nginx: try $try: port $port"
		rm -f nginx.log
	done
	return 1
}
