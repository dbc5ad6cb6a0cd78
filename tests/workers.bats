# workers - a terminator's master and its workers: who has the connections, who dies, who comes after, and what each of them
# may do.
#
# (who runs this makes no difference)

load helpers
load clients

# begin N OPTION...: ccf-listen (lst) before N workers of a terminator (tls); all of them are there.
begin() {
	local n=$1

	shift
	start_tls tls -j "$n" "$@"
	listen
	linked "$n" tls
}

start_tls() {	# start_tls NAME OPTION...
	local tls=()

	certs
	case " $* " in *' --plaintext '*) ;; *) tls=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem") ;; esac
	spawn "$1" ccf-tlsterm "${tls[@]}" --from link "${@:2}"
}

listen() {
	spawn lst ccf-listen --to link --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
}

# linked N NAME...: the listener has N links, and each has granted.
linked() {
	asked lst ": $1 links, "
	granted "${@:2}"
}

# echo_behind: a backend at BACK that says everything back.
echo_behind() {
	spawn back ccf-listen --ready-fd 9 --address-file b.json --to back rpc=127.0.0.1:0
	spawn echo ccf-tlsterm --plaintext --from back --app echo
	await_line back.log 'rpc: listening'
	BACK=$(address b.json rpc)
}

# has NAME N PID: N of the terminator's connections are this worker's.
has() {
	asked "$1" " worker $3: $2 connections,"
}

# part NAME PID: how many it said it has when it was asked last.
part() {
	sed -n -E "s/.* worker $2: ([0-9]+) connections,.*/\1/p" "$1.log" | tail -n 1
}

# shared NAME TOTAL LEAST: asked, each worker has no fewer than LEAST, all of them together TOTAL.
shared() {
	local pid n sum=0

	asked "$1" ": $2 connections, "
	for pid in $(workers "$1"); do
		n=$(part "$1" "$pid")
		echo "worker $pid has $n of $2"
		[ "$n" -ge "$3" ] || return 1
		sum=$((sum + n))
	done
	[ "$sum" = "$2" ]
}

lines() {	# lines N FILE PATTERN: so many lines of FILE match
	times "$@" || {
		echo "$(grep -c -E -e "$3" "$2") lines of $2, not $1, match: $3"
		return 1
	}
}

# open_all NAME FROM TO: clients that connect, say something, and hear it.
open_all() {
	tell "$1" open $(($3 - $2 + 1))
	tell "$1" send "$2" "$3" "word$3"
	eventually times $(($3 - $2 + 1)) "$1.out" " data word$3\$"
}

# spread NAME LEAST: so many of these clients connect that each of the workers has LEAST of them; OPENED is how many there are.
# (Who has fewer gets the next, once it has granted.)
spread() {
	OPENED=0
	until [ "$OPENED" != 0 ] && shared tls "$OPENED" "$2"; do
		[ "$OPENED" -lt 200 ]
		open_all "$1" $((OPENED + 1)) $((OPENED + 6))
		OPENED=$((OPENED + 6))
	done
}

streams() {	# streams NAME N [--short]
	spawn "$1" python3 "$HERE/peer/streams.py" "$CERTS/ca.pem" "$ADDR" "${@:2}"
}

# goes_on NAME I [N]: this stream has another N (20) rounds behind it, each compared.
goes_on() {
	local n

	n=$(sed -n "s/^$2 round //p" "$1.out" | tail -n 1)
	await_line "$1.out" "^$2 round $((${n:-0} + ${3-20}))\$"
}

# said_of PID FIELD: from its status, without blanks at the ends and with single ones between.
said_of() {
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | xargs
}

all_dead() {
	local pid

	for pid; do eventually dead "$pid"; done
}

# --- death ---

@test "one of two workers is killed under load: what it had is lost and counted, the others go on byte by byte" {
	local lost i one base master

	begin 2 --app echo
	base=$(fds lst) master=$(fds tls)
	streams load 8
	for i in {1..8}; do await_line load.out "^$i round 10\$"; done
	shared tls 8 1
	one=$(worker tls)
	lost=$(part tls "$one")
	kill -KILL "$one"
	eventually times "$lost" load.out ' lost '
	await_line tls.log "warn: worker 1 \(pid $one\) was killed by SIGKILL; $lost connections? lost; starting it again in 100 ms"
	await_line tls.log 'info: worker 1 \(pid [0-9]+\) is up again: '
	is_open $((8 - lost))
	lines "$lost" lst.log 'closed: link-lost.* by inner'
	for i in {1..8}; do
		grep -q "^$i lost" load.out || goes_on load "$i"
	done

	# The new one is there like the old one was.
	linked 2 tls
	asked tls ": $((8 - lost)) connections, 2 workers "
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 8
	shared tls $((16 - lost)) 1
	is_open $((16 - lost))
	stop load
	[ "$ended" = 1 ]
	lines "$lost" load.out ' lost '
	lines $((8 - lost)) load.out ' done [0-9]+$'
	lines 0 load.out ' wrong$'
	tell cl end
	is_open 0
	asked tls ': 0 connections, 2 workers .*, 1 died; '
	lines "$lost" lst.log 'link-lost'
	keeps lst="$base" tls="$master"
	stop tls
	[ "$ended" = 0 ]
}

@test "a worker that dies again and again is started after longer and longer pauses, and clients wait for it" {
	local ms before now pid

	begin 1 --plaintext --app echo
	clients cl "$ADDR"
	for ms in 100 200 400 800; do
		pid=$(worker tls)
		before=${EPOCHREALTIME/./}
		kill -KILL "$pid"
		await_line tls.log "worker 1 \(pid $pid\) was killed by SIGKILL; [01] connections? lost; starting it again in $ms ms"
		tell cl open 1
		tell cl send 1 99 "after$ms"
		eventually times 1 cl.out " data after$ms\$"
		now=${EPOCHREALTIME/./}
		echo "$(((now - before) / 1000)) ms"
		[ $((now - before)) -ge $((ms * 1000)) ]
	done
	asked tls ': 1 connections, 1 worker .*, 4 died; '
	lines 4 tls.log 'is up again'
}

@test "a master that is killed leaves two workers to finish, and who comes is served by another terminator" {
	local one two

	begin 2 --app echo
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 10
	shared tls 10 1
	one=$(worker tls 1) two=$(worker tls 2)
	stop tls KILL
	eventually times 2 tls.log 'warn: the master is gone: taking no new connections'
	start_tls next --app echo
	linked 3 next		# the two that drain are still there
	tell cl send 1 10 still
	eventually times 10 cl.out ' data still$'
	open_all cl 11 14
	asked next ': 4 connections, '
	tell cl close 1 10
	all_dead "$one" "$two"
	tell cl send 11 14 later
	eventually times 4 cl.out ' data later$'
	is_open 4
	lines 0 lst.log 'link-lost'
}

# --- the end ---

@test "signals are for the master: TERM, INT, HUP and USR1 to a worker change nothing" {
	local sig pid said

	begin 2 --app echo
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 4
	said=$(wc -l <tls.log)
	for pid in $(workers tls); do
		for sig in TERM INT HUP USR1 USR2 PIPE; do kill "-$sig" "$pid"; done
	done
	open_all cl 5 8
	tell cl send 1 4 again
	eventually times 4 cl.out ' data again$'
	run ! grep -E 'warn|error|status|drain|worker [0-9]+:' <(tail -n +"$((said + 1))" tls.log)
	asked tls ': 8 connections, 2 workers .*, 0 died; '
}

@test "TERM to the master drains: who is there is served to his end, who comes by another, and every process ends with 0" {
	local one two i

	begin 2 --app echo
	one=$(worker tls 1) two=$(worker tls 2)
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 10
	shared tls 10 1
	kill -TERM "${PID[tls]}"
	await_line tls.log 'info: draining'
	start_tls next --app echo
	linked 3 next		# the two that drain are still there
	clients cm "$ADDR" --tls "$CERTS/ca.pem"
	open_all cm 1 4
	tell cm end
	lines 10 tls.log ': open, '
	lines 4 next.log ': open, '
	tell cl send 1 10 still
	eventually times 10 cl.out ' data still$'
	tell cl close 1 9
	is_open 1
	tell cl send 10 10 last
	saw cl 10 'data last'
	tell cl end
	ends_with 0 tls
	for i in $one $two; do dead "$i"; done
	lines 0 tls.log 'warn|error'
	is_open 0
}

@test "at the second TERM, and after --drain-timeout, all processes end, and the master with 28" {
	local one two how drain

	for how in second deadline; do
		rm -f ./*.log
		drain=1h
		[ $how = second ] || drain=300ms
		begin 2 --app echo --drain-timeout $drain
		one=$(worker tls 1) two=$(worker tls 2)
		clients cl$how "$ADDR" --tls "$CERTS/ca.pem"
		open_all cl$how 1 4
		kill -TERM "${PID[tls]}"
		await_line tls.log 'info: draining'
		[ $how = deadline ] || kill -TERM "${PID[tls]}"
		ends_with 28 tls
		dead "$one"
		dead "$two"
		eventually times 4 cl$how.out ' (reset|closed)$'
		if [ $how = second ]; then
			lines 1 tls.log 'info: a second signal: ending now'
		else
			lines 1 tls.log 'warn: not drained in time \(--drain-timeout\): ending now'
		fi
		lines 4 tls.log 'closed: drain-timeout'
		is_open 0
		stop lst
	done
}

@test "a worker that does not end when it has to is killed before the master ends" {
	local one

	begin 2 --app echo
	one=$(worker tls)
	kill -STOP "$one"
	kill -TERM "${PID[tls]}"
	await_line tls.log 'info: draining'
	kill -TERM "${PID[tls]}"
	ends_with 28 tls
	dead "$one"
	lines 1 tls.log "worker 1 \(pid $one\) was killed: it did not end when it was told to; 0 connections lost"
}

# --- one after the other ---

@test "two terminators are replaced one by one, ten times, under load: no client sees an error" {
	local round new old

	echo_behind
	spawn con ccf-connect --from bind:inner "$BACK"
	certs
	for new in 1 2; do start_tls tls$new -j 2 --to dial:inner; done
	listen
	linked 4 tls1 tls2
	streams load 6 --short
	streams also 2 --short
	goes_on load 1 10
	for round in {1..10}; do
		old=tls$round new=tls$((round + 2))
		start_tls $new -j 2 --to dial:inner
		await_line $new.log 'info: 2 workers up'
		kill -TERM "${PID[$old]}"
		goes_on load 1 10
		ends_with 0 "$old"
		lines 0 "$old.log" 'warn|error|link-lost|no-sink'
	done
	for old in load also; do
		stop "$old"
		[ "$ended" = 0 ]
		lines 0 "$old.out" 'lost|wrong'
	done
	# The last two have had their part, and every one before them.
	for round in {1..12}; do grep -q ' closed: done' "tls$round.log"; done
	awk '/ done /{ n += $3 } END { print n " connections"; exit n < 300 }' load.out also.out
	is_open 0
	asked lst ': 4 links, .* 0 lost with a link'
}

@test "a consumer that is dialled, and drains with a connection left, is succeeded at once" {
	certs
	spawn old ccf-tlsterm -j 2 --plaintext --from bind:inner --app echo
	begin 2 --to dial:inner
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	spread cl 1
	kill -TERM "${PID[old]}"
	await_line old.log 'info: draining'
	spawn new ccf-tlsterm -j 2 --plaintext --from bind:inner --app echo
	clients cm "$ADDR" --tls "$CERTS/ca.pem"
	open_all cm 1 8
	tell cl send 1 "$OPENED" still
	eventually times "$OPENED" cl.out ' data still$'
	asked new ': 8 connections'
	asked old ": $OPENED connections"
	tell cl end
	ends_with 0 old
	tell cm send 1 8 still
	eventually times 8 cm.out ' data still$'
	asked new ': 8 connections'
	is_open 8
	asked lst ': 2 links, .* 0 lost with a link'

	# So is one before whom the listener stands itself.
	spawn front ccf-listen --to dial:front --ready-fd 9 --address-file f.json rpc=127.0.0.1:0
	spawn first ccf-tlsterm --plaintext --from bind:front --app echo
	await_line front.log 'rpc: listening'
	clients cf "$(address f.json rpc)"
	open_all cf 1 1
	kill -TERM "${PID[first]}"
	await_line first.log 'info: draining'
	spawn second ccf-tlsterm --plaintext --from bind:front --app echo
	asked front ': 2 links, '
	open_all cf 2 2
	tell cf send 1 1 still
	saw cf 1 'data still'
	tell cf end
	ends_with 0 first
}

@test "under two workers the listener and ccf-connect are restarted, and both workers serve again" {
	local base one two n

	echo_behind
	spawn con ccf-connect --from bind:inner "$BACK"
	begin 2 --to dial:inner
	base=$(fds tls) one=$(fds tls.1) two=$(fds tls.2)
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	spread cl 2
	n=$OPENED

	stop lst KILL
	tell cl send 1 "$n" without
	eventually times "$n" cl.out ' data without$'
	listen
	linked 2 tls
	clients cm "$ADDR" --tls "$CERTS/ca.pem"
	open_all cm 1 6
	shared tls $((n + 6)) 4
	is_open 6

	stop con KILL		# what it has given goes on
	spawn con ccf-connect --from bind:inner "$BACK"
	clients cn "$ADDR" --tls "$CERTS/ca.pem"
	open_all cn 1 6
	shared tls $((n + 12)) 6
	tell cl send 1 "$n" still
	tell cm send 1 6 still
	eventually times "$n" cl.out ' data still$'
	eventually times 6 cm.out ' data still$'
	tell cl end
	tell cm end
	tell cn end
	is_open 0
	asked tls ': 0 connections, 2 workers .*, 0 died; '
	keeps tls="$base" tls.1="$one" tls.2="$two"
}

# --- many ---

@test "two workers behind one listener have their part of a hundred connections each" {
	begin 2 --plaintext --app echo
	clients cl "$ADDR"
	for i in 20 40 60 80 100; do open_all cl $((i - 19)) "$i"; done
	shared tls 100 45
	is_open 100
}

@test "with -j 3 each of the workers has a sink, however it is joined to ccf-connect" {
	local how

	echo_behind
	for how in dial path ticket; do
		case $how in
		dial)
			spawn con ccf-connect --from bind:inner "$BACK"
			begin 3 --plaintext --to dial:inner
			;;
		path)
			spawn con ccf-connect --from inner "$BACK"
			begin 3 --plaintext --to inner
			;;
		ticket)
			pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
			    tls ccf-tlsterm -j 3 --plaintext --to - '|' con ccf-connect --from - "$BACK"
			ADDR=$(address a.json rpc)
			linked 3 tls
			;;
		esac
		clients cl$how "$ADDR"
		spread cl$how 5
		tell cl$how end
		is_open 0
		stop lst
		[ "$ended" = 0 ]
		if [ $how = ticket ]; then
			ends_with 0 tls
			ends_with 0 con
		else
			stop tls
			[ "$ended" = 0 ]
			stop con
			[ "$ended" = 0 ]
		fi
		rm -f tls.log con.log lst.log
	done
}

# bats test_tags=root
@test "listener, terminator and ccf-connect of three users by pipes: both workers have a link of each side" {
	requires root
	local other=(setpriv --reuid 65533 --regid 65533 --clear-groups)

	shared_dir
	echo_behind
	export TMPDIR=$PWD/tmp
	unset XDG_RUNTIME_DIR
	mkdir -m 1777 tmp
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    tls "${AS_USER[@]}" ccf-tlsterm -j 2 --plaintext --to - '|' con "${other[@]}" ccf-connect --from - "$BACK"
	ADDR=$(address a.json rpc)
	linked 2 tls
	clients cl "$ADDR"
	spread cl 3
	kill_worker tls
	await_line tls.log 'is up again'
	linked 2 tls
	eventually times "$(part tls "$killed")" cl.out ' (reset|closed)$'
	tell cl end
	is_open 0
	clients cm "$ADDR"
	spread cm 3
	tell cm end
	is_open 0
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
	ends_with 0 con
	[ -z "$(ls tmp)" ]
}

@test "-j is a number from 1 to 64, or auto, and for connections that come by links" {
	local bad n

	for bad in 0 65 -1 two 1.5 '' 2x; do
		expect_status 2 ccf-tlsterm -j "$bad" --plaintext --from link --app echo
		[[ $output == *"-j $bad: write a number from 1 to 64, or auto"* ]]
	done
	run python3 "$HERE/peer/on_sockets.py" ccf-tlsterm -j 2 --plaintext --app echo </dev/null
	[ "$status" = 2 ]
	[[ $output == *'-j: there is one connection, and nothing to share'* ]]
	n=$(nproc)
	[ "$n" -le 64 ] || n=64
	spawn auto ccf-tlsterm -j auto --plaintext --from link --app echo
	await_line auto.log "info: $n workers? up: "
	spawn one taskset -c "$(taskset -pc $BASHPID | sed -E 's/.*: ([0-9]+).*/\1/')" \
	    ccf-tlsterm --workers auto --plaintext --from link --app echo
	await_line one.log 'info: 1 worker up: '
	spawn most ccf-tlsterm -j 64 --plaintext --from link --app echo
	await_line most.log 'info: 64 workers up: '
	listen
	linked 64		# as many links as there can be; who came later waits
	ccf-connect "$ADDR" </dev/null
}

# --- what they may ---

filters() {	# filters PID: how many of its system calls go through
	said_of "$1" Seccomp_filters
}

# confines: a sandbox can be looked at here; OWN is how many filters hold for us ourselves.
confines() {
	requires plain
	OWN=$(filters self)
	[ -n "$OWN" ] || skip 'this kernel does not count filters'
}

# confined PID / free PID
confined() {
	[ "$(said_of "$1" Seccomp)" = 2 ] && [ "$(filters "$1")" = $((OWN + 1)) ] && [ "$(said_of "$1" NoNewPrivs)" = 1 ]
}

unfiltered() {
	[ "$(filters "$1")" = "$OWN" ] && [ "$(said_of "$1" NoNewPrivs)" = "$(said_of self NoNewPrivs)" ]
}

no_capability() {
	local set

	for set in CapInh CapPrm CapEff CapAmb; do
		[ "$(said_of "$1" $set)" = 0000000000000000 ] || return 1
	done
}

@test "a worker is confined, has no capability and leaves no core, its master is as it was started, and one line says so" {
	local pid set

	confines
	begin 2 --app echo
	for pid in $(workers tls); do
		confined "$pid"
		no_capability "$pid"
		[ "$(prlimit --pid "$pid" --core --noheadings -o SOFT,HARD | xargs)" = '1 1' ]
		[ "$(prlimit --pid "$pid" --nofile --noheadings -o SOFT,HARD | xargs)" = "$(ulimit -Hn) $(ulimit -Hn)" ]
	done
	unfiltered "${PID[tls]}"
	for set in CapInh CapPrm CapEff CapBnd CapAmb Uid Gid Groups; do
		[ "$(said_of "${PID[tls]}" $set)" = "$(said_of self $set)" ]
	done
	[ "$(prlimit --pid "${PID[tls]}" --core --noheadings -o HARD | xargs)" = "$(ulimit -Hc)" ]
	lines 1 tls.log ' up: '
	lines 1 tls.log ' 2 workers up: confined: it opens no file, makes no socket and runs no program$'
	# So is the next one.
	kill_worker tls
	await_line tls.log 'is up again: confined: '
	for pid in $(workers tls); do
		confined "$pid"
		no_capability "$pid"
	done
}

# inject PID CALL: what came of it.
inject() {
	run python3 "$HERE/peer/inject.py" "$@"
	[ "$status" != 77 ] || skip "$output"
	echo "$output"
	[ "$status" = 0 ]
}

@test "a worker that opens, connects, binds or runs something is killed, the master says by what, and service goes on" {
	confines
	local calls=(openat open socket connect bind listen accept4 execve kill ptrace setuid unlink memfd_create mmap-exec) i pids

	begin ${#calls[@]} --app echo
	mapfile -t pids < <(workers tls)
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	spread cl 1
	inject "${pids[0]}" getpid
	[ "$output" = "getpid: ${pids[0]}" ]
	for i in "${!calls[@]}"; do
		inject "${pids[i]}" "${calls[i]}"
		[ "$output" = "${calls[i]}: killed by SIGSYS" ]
	done
	for i in "${!calls[@]}"; do
		await_line tls.log "warn: worker [0-9]+ \(pid ${pids[i]}\) was killed by SIGSYS: it called what the sandbox forbids; $(
			part tls "${pids[i]}") connections? lost; starting it again in 100 ms"
	done
	eventually times ${#calls[@]} tls.log 'is up again: confined'
	is_open 0
	linked 14 tls
	open_all cl $((OPENED + 1)) $((OPENED + 4))
	asked tls ': 4 connections, 14 workers .*, 14 died; '
}

@test "with --no-sandbox the same calls are made, and the line at the start says that nothing holds" {
	confines
	begin 2 --app echo --no-sandbox
	lines 1 tls.log ' 2 workers up: not confined \(--no-sandbox\)$'
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 4
	for pid in $(workers tls); do
		unfiltered "$pid"
		inject "$pid" openat
		[[ $output =~ ^openat:\ [0-9]+ ]]
		inject "$pid" socket
		[[ $output =~ ^socket:\ [0-9]+ ]]
		inject "$pid" mmap-exec
		[[ $output =~ ^mmap-exec:\ [0-9]+ ]]
	done
	tell cl send 1 4 still
	eventually times 4 cl.out ' data still$'
	asked tls ': 4 connections, 2 workers .*, 0 died; '
}

# calls PID: the system calls of that process since its filter was loaded, by name.
calls() {
	sed -n '/^seccomp(SECCOMP_SET_MODE_FILTER, .* = 0$/,$p' "trace.$1" | sed -n -E '2,$s/^([a-z0-9_]+)\(.*/\1/p' | sort | uniq -c
}

@test "over a reload, links dialled again and a COMMAND started, a running worker opens, connects, binds and runs nothing" {
	local w

	requires strace plain
	certs
	cp "$CERTS/chain.pem" "$CERTS/key.pem" .
	spawn tls strace -D -ff -o trace ccf-tlsterm --cert chain.pem --key key.pem --from link --to dial:inner
	spawn inner strace -D -ff -o trace ccf-tlsterm --plaintext --from bind:inner -- cat
	listen
	linked 1 tls
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 3
	tell cl close 1 2

	kill -HUP "${PID[tls]}"		# a reload, and one on change
	await_line tls.log 'certificate loaded again'
	eventually times 1 inner.log ' up: '
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=new -addext subjectAltName=DNS:localhost \
	    -keyout new.key -out new.pem 2>openssl.log
	mv new.key key.pem
	cp new.pem chain.pem
	eventually times 2 tls.log 'certificate loaded again'
	stop lst KILL			# the link of one side,
	listen
	linked 1 tls
	stop inner KILL			# and of the other
	spawn inner strace -D -ff -o trace ccf-tlsterm --plaintext --from bind:inner -- cat
	eventually times 2 inner.log ' up: '
	clients cm "$ADDR" --tls new.pem
	open_all cm 1 3
	tell cl end
	tell cm end
	is_open 0
	asked tls ': 0 connections'

	for w in tls inner; do
		worker $w
		calls "$(worker $w)" | tee $w.calls
		grep -q -w recvmmsg $w.calls
		grep -q -w epoll_wait $w.calls
		run ! grep -w -E '(v?fork|clone3?|exec.*|open.*|creat|socket|connect|bind|listen|accept4?|memfd_create|ptrace|kill|set.*id|chdir|unlink.*)$' \
		    $w.calls
	done
	# It was seen what is looked for: the masters did all that.
	grep -q '^openat(.*chain.pem' "trace.${PID[tls]}"
	grep -q '^connect(.*"link"' "trace.${PID[tls]}"
	grep -q '^connect(.*"inner"' "trace.${PID[tls]}"
	grep -q '^bind(' "trace.${PID[inner]}"
	grep -q '^vfork(' "trace.${PID[inner]}"
	grep -l '^execve("[^"]*/cat"' trace.*
}

# bats test_tags=root
@test "with --user the workers are somebody else, in no group of the master's, and cannot read the key, which is loaded again" {
	requires root plain
	local pid user=4242 group=4343

	certs
	cp "$CERTS/chain.pem" "$CERTS/key.pem" .
	chmod 600 key.pem
	spawn tls setpriv --groups 0,4,24 ccf-tlsterm -j 2 --user $user:$group --cert chain.pem --key key.pem --from link --app echo
	listen
	linked 2 tls
	lines 1 tls.log " 2 workers up: as $user, confined: "
	others() {
		for pid in $(workers tls); do
			[ "$(said_of "$pid" Uid)" = "$user $user $user $user" ] || return
			[ "$(said_of "$pid" Gid)" = "$group $group $group $group" ] || return
			[ "$(said_of "$pid" Groups)" = "${GROUPS_OF-$group}" ] || return
			no_capability "$pid" || return
			[ "$(said_of "$pid" CapBnd)" = 0000000000000000 ] || return
		done
		[ "$(workers tls | wc -l)" = 2 ]
	}
	others
	[ "$(said_of "${PID[tls]}" Uid)" = '0 0 0 0' ]
	[ "$(said_of "${PID[tls]}" Gid)" = '0 0 0 0' ]
	[ "$(said_of "${PID[tls]}" Groups)" = '0 4 24' ]
	run ! setpriv --reuid $user --regid $group --clear-groups cat key.pem
	clients cl "$ADDR" --tls "$CERTS/ca.pem"
	open_all cl 1 4

	kill -HUP "${PID[tls]}"
	await_line tls.log 'certificate loaded again'
	kill_worker tls
	await_line tls.log "is up again: as $user, confined: "
	others
	open_all cl 5 8
	tell cl end
	stop tls
	rm tls.log

	# A name has the groups of its own.
	user=$(id -u nobody) group=$(id -g nobody) GROUPS_OF=$(id -G nobody | tr ' ' '\n' | sort -n | xargs)
	spawn tls setpriv --groups 0,4,24 ccf-tlsterm -j 2 --user nobody --cert chain.pem --key key.pem --from link --app echo
	await_line tls.log ' 2 workers up: as nobody, confined: '
	others
}

@test "--user: somebody who is not there is a usage error, somebody else takes root, and oneself takes nothing" {
	local me

	expect_status 2 ccf-tlsterm --user no-such-user --plaintext --from link --app echo
	[[ $output == *'--user no-such-user: there is no user no-such-user'* ]]
	expect_status 2 ccf-tlsterm --user nobody:no-such-group --plaintext --from link --app echo
	[[ $output == *'--user nobody:no-such-group: there is no group no-such-group'* ]]
	expect_status 2 ccf-tlsterm --user 4242 --plaintext --from link --app echo
	[[ $output == *'--user 4242: user 4242 has no entry, and so no group: write 4242:GROUP'* ]]
	shared_dir
	expect_status 1 "${AS_USER[@]}" ccf-tlsterm --user root --plaintext --from bind:link --app echo
	[[ $output == *'--user root: setgroups: Operation not permitted; start it as root, or as this user: root'* ]]
	[ ! -e link ]
	me=$("${AS_USER[@]}" id -u):$("${AS_USER[@]}" id -g)
	spawn tls "${AS_USER[@]}" ccf-tlsterm --user "$me" --plaintext --from link --app echo
	await_line tls.log " 1 worker up: as ${me%:*}, "
}

@test "a COMMAND is the master's: its identity, no filter, the limits and signals that it found, nothing open" {
	local as=()

	[ "$EUID" != 0 ] || as=(--user 4242:4343)
	certs
	cat >command.sh <<-'EOF'
		read -r _
		grep -E '^(Uid|Gid|Groups|Seccomp|Seccomp_filters|NoNewPrivs|CapEff|SigBlk|SigIgn):' /proc/$$/status | tr '\t' ' '
		echo "limits $(ulimit -Sn) $(ulimit -Sc)"
		python3 -c 'import os; print("open", *[n for n in range(256) if os.path.exists(f"/proc/self/fd/{n}")])'
		env | grep -E '^(PROTO|TCP|SSL_|CCF_|OURS|LD_)' | cut -d = -f 1 | sort | xargs echo environment
	EOF
	plain=$(ulimit -Sc)
	spawn tls env OURS=1 SSL_CLIENT_VERIFY=SUCCESS prlimit --nofile=500: ccf-tlsterm -j 2 "${as[@]}" \
	    --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from link -- sh command.sh
	listen
	linked 2 tls
	echo | ccf-connect --tls --ca "$CERTS/ca.pem" "$ADDR" >said
	cat said
	for field in Uid Gid Groups CapEff; do
		[ "$(sed -n "s/^$field: *//p" said | xargs)" = "$(said_of self $field)" ]
	done
	if [ -z "${CCF_SAN-}" ]; then
		[ "$(sed -n 's/^Seccomp_filters: *//p' said | xargs)" = "$(filters self)" ]
		[ "$(sed -n 's/^NoNewPrivs: *//p' said | xargs)" = "$(said_of self NoNewPrivs)" ]
	fi
	grep -q -x 'SigBlk: 0000000000000000' said
	grep -q -x "limits 500 $plain" said
	grep -q -x 'open 0 1 2' said
	grep '^environment ' said | grep -q -w OURS
	grep '^environment ' said | grep -q -w SSL_PROTOCOL
	grep '^environment ' said | grep -q -w SSL_CLIENT_VERIFY
	[ "$(sed -n 's/^SigIgn: //p' said)" = 0000000000000000 ]
}

@test "with one connection on descriptor 0 it is confined itself, but with a COMMAND neither of the two is" {
	local pid parent

	confines
	certs
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --app echo
	clients cl "$(address a.json rpc)" --tls "$CERTS/ca.pem"
	open_all cl 1 1
	pid=$(xargs <"/proc/${PID[lst]}/task/${PID[lst]}/children")
	confined "$pid"
	no_capability "$pid"
	[ -z "$(cat "/proc/$pid/task/$pid/children")" ]
	tell cl end
	is_open 0
	stop lst

	cat >command.sh <<-'EOF'
		echo "ids $$ $PPID"
		read -r _
	EOF
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" -- sh command.sh
	clients cm "$(address a.json rpc)" --tls "$CERTS/ca.pem"
	tell cm open 1
	saw cm 1 'data ids [0-9]+ [0-9]+'
	read -r pid parent < <(sed -n 's/.* data ids //p' cm.out)
	[ "$(filters "$pid")" = "$OWN" ]
	[ "$(filters "$parent")" = "$OWN" ]
	[ "$(readlink "/proc/$parent/exe")" -ef "$BUILD/ccf-tlsterm" ]
	tell cm end
	is_open 0
}

# --- what it costs ---

@test "after fifty deaths of workers and 500 COMMANDs the master has the descriptors and the memory it had" {
	local round base pid memory before

	certs
	begin 10 --plaintext -- cat
	load() {	# load NAME N: so many connections, one after the other
		before=$(grep -c ' done$' load.out 2>/dev/null) || :
		spawn load python3 "$HERE/peer/clients.py" "$ADDR" --load 3
		await_line load.out "^$1 done\$" $((LIMIT * 2))
		stop load
		lines 0 load.out '^failed:'
		rm load.out
		is_open 0
	}
	load 50
	base=$(fds tls)
	memory=$(rss_kib tls)
	for round in {1..5}; do
		for pid in $(workers tls); do kill -KILL "$pid"; done
		eventually times $((10 * round)) tls.log 'is up again'
		linked 10 tls
	done
	load 500
	asked tls ': 0 connections, 10 workers .*, 50 died; '
	keeps tls="$base"
	[ "$(wc -w <"/proc/${PID[tls]}/task/${PID[tls]}/children")" = 10 ]
	echo "$memory KiB, then $(rss_kib tls) KiB"
	[ -n "${CCF_SAN-}" ] || [ "$(rss_kib tls)" -le $((memory + 512)) ]
}

@test "an idle master looks at its files once a second and makes no other system call, one without files makes none" {
	requires strace plain
	certs
	cp "$CERTS/chain.pem" "$CERTS/key.pem" .
	spawn lst ccf-listen --to link --ready-fd 9 --address-file a.json rpc=127.0.0.1:0
	spawn tls strace -D -o files ccf-tlsterm -j 2 --cert chain.pem --key key.pem --from link --app echo
	spawn plain strace -D -o none ccf-tlsterm -j 2 --plaintext --from link --app echo
	asked lst ': 4 links, '
	eventually calm
	lines 0 lst.log 'warn|error'
}

# calm: over four looks at the file there was nothing else; each is a call for each file, and the wait for the next.
calm() {
	local looks none files

	looks=$(grep -c chain.pem files) none=$(wc -l <none)
	files=$(wc -l <files)
	eventually looked $((looks + 4)) || return
	echo "$(($(wc -l <files) - files)) calls with files, $(($(wc -l <none) - none)) without"
	[ "$(wc -l <none)" = "$none" ] && [ $(($(wc -l <files) - files)) -le 15 ]
}

looked() {
	[ "$(grep -c chain.pem files)" -ge "$1" ]
}
