# deadlines - who is silent, slow or greedy: each ends when his time is over, for the reason that the log says; his place is
# free again, nobody else waits for him, and what he is owed he gets.
#
# (who runs this makes no difference; left out of brief runs)

# shellcheck disable=SC2004,SC2086	# TLS and ADDR go by names, and those are one word each
load helpers
load clients
load stands

# echoing: BACKEND says back what it hears.
echoing() {
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- cat
	BACKEND=$(address b.json rpc)
}

# scripted STEPS...: BACKEND is scripted.py.
scripted() {
	spawn back python3 "$HERE/peer/scripted.py" 127.0.0.1:0 "$@"
	await_line back.out :
	BACKEND=$(head -n 1 back.out)
}

# --- the handshake ---

@test "a handshake that is not over in time: how far it came is in its line, and who trickles has no more time than who is silent" {
	local sink

	scripted wait
	for sink in echo cat link; do
		stand $sink tls "${sink/cat/exec cat}" --handshake-timeout 2s
		TLS[$sink]=	# they bring their own
		client $sink silent rest
		client $sink trickles trickle
		client $sink begins hello rest
	done
	begin
	for sink in echo cat link; do
		await_line silent_$sink.out '^rest 0 reset$'
		await_line trickles_$sink.out '^trickle reset$'
		await_line begins_$sink.out '^rest [1-9][0-9]* reset$'
		ended $sink 3 'handshake-timeout, by us, 0 bytes in, 0 out'
		said $sink 1 'the client said nothing'
		said $sink 1 'stopped before a whole hello came'
		said $sink 1 "stopped while waiting for the client's answer \(client offered at most TLS 1\.3; server name localhost\)"
		free $sink
	done
}

# said NAME N WHAT: about N handshakes.
said() {
	times "$2" "term_$1.log" "rpc#[0-9]+ [0-9.:]+: handshake not finished in time \(--handshake-timeout\): $3" || {
		grep handshake "term_$1.log"
		return 1
	}
}

@test "deadlines count from accept, which may be long ago: of the handshake, and --lifetime" {
	certs
	scripted wait
	spawn handshake ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --handshake-timeout 50s --from handshake --app echo
	spawn lifetime ccf-tlsterm --plaintext --lifetime 50s --from lifetime --app echo
	spawn young ccf-tlsterm --plaintext --lifetime 50s --from young --app echo
	spawn age1 python3 "$HERE/peer/handoff.py" produce handshake --connect "$BACKEND" --age 60
	spawn age2 python3 "$HERE/peer/handoff.py" produce lifetime --connect "$BACKEND" --age 60
	spawn age3 python3 "$HERE/peer/handoff.py" produce young --connect "$BACKEND" --age 1
	await_line handshake.log 'peer#1 .*: handshake not finished in time \(--handshake-timeout\): the client said nothing$'
	await_line handshake.log 'peer#1 .*: closed: handshake-timeout, by us, .*, status 28$'
	await_line lifetime.log 'peer#1 .*: closed: lifetime, by us, .*, status 28$'
	await_line young.log 'peer#1 .*: open$'
	asked young 'worker [0-9]+: 1 connections'
}

past() {	# past NANOSECONDS: of date
	[ "$(date +%s%N)" -gt "$1" ]
}

@test "the time of a handshake runs while the terminator is kept from taking the connection" {
	local at

	stand tls tls echo --handshake-timeout 2s
	kill -STOP "$(worker term_tls)"
	TLS[tls]=
	client tls silent rest
	begin
	await_line lst_tls.log 'rpc#1 .*: accepted'
	at=$(date +%s%N)
	eventually past $((at + 2200000000))
	kill -CONT "$(worker term_tls)"
	await_line silent_tls.out '^rest 0 reset$'
	await_line term_tls.log 'rpc#1 .*: closed: handshake-timeout, by us, .*, after [01]\.[0-9]* s, status 28$'
	free tls
}

# --- silence, and half of it ---

# stands OPTION...: one with TLS and one without for each of SINKS (COMMAND is one); their names, HOW-SINK, are STANDS.
stands() {
	local sink how

	STANDS=()
	for sink in "${SINKS[@]}"; do
		for how in tls plain; do
			stand $how-"$sink" $how "${sink/#COMMAND/$COMMAND}" "$@"
			STANDS+=("$how-$sink")
		done
	done
}

@test "who is silent, takes nothing, or not the last, ends in time: before a session, a COMMAND, a link; TLS and plain" {
	local at silent

	random some 20000	# the kernel takes it, though not theirs
	: >never
	echoing
	SINKS=(echo COMMAND link) COMMAND='exec cat'
	stands --idle-timeout 2s --flush-timeout 2s
	for at in "${STANDS[@]}"; do
		client $at silent rest
		client $at stuck --small fill await=over rest
		client $at flush --small send=some end await=over rest
	done
	stand flood tls 'cat >/dev/null & exec cat /dev/zero' --idle-timeout 2s
	client flood knocks --small knock=never		# who takes nothing is not kept by what he says
	client tls-echo trickles trickle=some		# and is silent, when his record does not end
	begin
	ended flood 1 'idle, by us, [1-9][0-9]* bytes in, [1-9][0-9]* out'
	await_line knocks_flood.out '^knock reset$'
	await_line trickles_tls-echo.out '^trickle reset$'
	for at in "${STANDS[@]}"; do
		[ $at = tls-echo ] && silent=2 || silent=1
		ended $at $silent 'idle, by us, 0 bytes in, 0 out'
		ended $at 1 'idle, by us, [1-9][0-9]* bytes in, [1-9][0-9]* out'
		ended $at 1 'flush-timeout, by us, 20000 bytes in, 20000 out'
		await_line silent_$at.out '^rest 0 (reset|failed)$'
	done
	touch over
	for at in "${STANDS[@]}"; do
		await_line stuck_$at.out '^rest [0-9]+ (reset|failed)$'
		await_line flush_$at.out '^rest [0-9]+ (reset|failed)$'
	done
	free flood "${STANDS[@]}"
}

@test "who ends his half and is answered nothing ends in time, before a COMMAND and a link; TLS and plain" {
	local at kind

	random some 20000
	scripted wait
	SINKS=(COMMAND link) COMMAND='cat >/dev/null; exec tail -f /dev/null'
	stands --half-close-timeout 2s
	for at in "${STANDS[@]}"; do
		for kind in end bare; do
			client $at $kind send=some $kind rest
		done
	done
	begin
	for at in "${STANDS[@]}"; do
		ended $at 2 'half-close-timeout, by us, 20000 bytes in, 0 out'
		for kind in end bare; do
			await_line ${kind}_$at.out '^rest 0 (reset|failed)$'
		done
	done
	free "${STANDS[@]}"
}

@test "who has ended his half gets the whole answer, however late it comes: of a COMMAND and of a backend; TLS and plain" {
	local at kind late='cat >/dev/null; sleep 2.5; cat answer'

	random question 500000
	random answer 3000000
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- sh -c "$late"
	BACKEND=$(address b.json rpc)
	SINKS=(COMMAND link) COMMAND=$late
	stands --idle-timeout 2s --half-close-timeout 40s
	for at in "${STANDS[@]}"; do
		for kind in end bare; do
			client $at $kind send=question $kind rest=${kind}_$at.got
		done
	done
	begin
	for at in "${STANDS[@]}"; do
		for kind in end bare; do
			await_line ${kind}_$at.out '^rest 3000000 ended$'
			cmp answer ${kind}_$at.got
		done
		if [[ $at == plain-* ]]; then
			ended $at 2 'done, by peer, 500000 bytes in, 3000000 out' ''
		else
			ended $at 1 'done, by peer, 500000 bytes in, 3000000 out' ''
			ended $at 1 'no-close-notify, by peer, 500000 bytes in, 3000000 out' ', status 18'
		fi
	done
	free "${STANDS[@]}"
}

@test "who has ended his half gets the whole answer: of a session" {
	local at kind

	random said 300000
	SINKS=(echo)
	stands
	for at in "${STANDS[@]}"; do
		for kind in end bare; do
			client $at $kind send=said $kind rest=${kind}_$at.got
		done
	done
	begin
	for at in "${STANDS[@]}"; do
		for kind in end bare; do
			await_line ${kind}_$at.out '^rest 300000 ended$'
			cmp said ${kind}_$at.got
		done
	done
	free "${STANDS[@]}"
}

# --- --lifetime ---

@test "who is older than --lifetime is cut, whatever he does: before a session, a COMMAND, a link; TLS and plain" {
	local at

	: >never
	echoing
	SINKS=(echo COMMAND link) COMMAND='exec cat'
	stands --lifetime 2s --idle-timeout 40s
	for at in "${STANDS[@]}"; do
		client $at knocks knock=never
	done
	begin
	for at in "${STANDS[@]}"; do
		ended $at 1 'lifetime, by us, [1-9][0-9]* bytes in, [0-9]+ out'
		await_line knocks_$at.out '^knock reset$'
	done
	free "${STANDS[@]}"
}

# --- an answer that comes early ---

# early SINK: it answers the first thousand bytes, and closes; the client goes on for 200 KiB, and reads then.
early() {
	local how n=0

	random question 1000
	random more 204800
	random answer 20000
	for how in tls plain; do
		n=$((n + 1))
		rm -f answered
		stand $how $how "$1"
		client $how hasty send=question await=answered send=more rest=got end
		begin
		if [ "$1" = link ]; then
			eventually times $n back.out '^close$'
			touch answered
		fi
		await_line hasty_$how.out '^end$'
		times 1 hasty_$how.out '^rest 20000 ended$'
		cmp answer got
	done
	free tls plain
}

@test "who is answered before he has said all reads the whole answer and its end, and no reset: of a COMMAND" {
	early 'head -c 1000 >/dev/null; cat answer; : >answered'
	ended tls 1 'done, by peer, 205800 bytes in, 20000 out' ''
	ended plain 1 'done, by peer, 205800 bytes in, 20000 out' ''
}

@test "who is answered before he has said all reads the whole answer and its end, and no reset: of a backend" {
	random answer 20000
	SPAWN_OUT=back.out spawn back python3 "$HERE/peer/cutter.py" listen 127.0.0.1:0 \
	    read=1000 send=answer close again read=1000 send=answer close
	await_line back.out :
	BACKEND=$(head -n 1 back.out)
	early link
	ended tls 1 'reset, by inner, [0-9]+ bytes in, 20000 out' ', status 18'	# it has not heard all
	ended plain 1 'reset, by inner, [0-9]+ bytes in, 20000 out' ', status 18'
}

@test "who is ended by a session before he has said all reads that end, and no reset while he goes on for 200 KiB" {
	local how

	random question 1000
	random more 204800
	LISTEN=(--max-open-sessions-soft 1 --max-open-sessions-hard 2)
	for how in tls plain; do
		stand $how $how echo
		client $how first await=over
		begin
		await_line term_$how.log 'rpc#1 .*: open'
		client $how hasty send=question rest send=more acked end	# above the soft cap
		begin
		await_line hasty_$how.out '^end$'
		times 1 hasty_$how.out '^rest 0 ended$'
		times 0 hasty_$how.out reset
		ended $how 1 'capped, by us, 205800 bytes in, 0 out' ', status 69'
	done
	touch over
	free tls plain
}

# --- an end without a word ---

# bare SINK: clients whose end is a bare FIN, and one who does it properly; the sink says back what it hears.
bare() {
	local how

	random said 100000
	for how in tls plain strict; do
		if [ $how = strict ]; then
			stand strict tls "$1" --require-close-notify
		else
			stand $how $how "$1"
		fi
		client $how bare send=said bare rest=$how.got
	done
	client strict end send=said end rest
	begin
	for how in tls plain; do
		await_line bare_$how.out '^rest 100000 ended$'
		cmp said $how.got
	done
	await_line bare_strict.out '^rest [0-9]+ (reset|failed)$'
	await_line end_strict.out '^rest 100000 ended$'
	ended tls 1 'no-close-notify, by peer, 100000 bytes in, 100000 out' ', status 18'
	ended plain 1 'done, by peer, 100000 bytes in, 100000 out' ''
	ended strict 1 'no-close-notify, by peer, 100000 bytes in, [0-9]+ out' ', status 18'
	ended strict 1 'done, by peer, 100000 bytes in, 100000 out' ''
	free tls plain strict
}

@test "a bare FIN is an end of stream and is called no-close-notify, with --require-close-notify it is a cut: before a session" {
	bare echo
}

@test "a bare FIN is an end of stream and is called no-close-notify, with --require-close-notify it is a cut: before a COMMAND" {
	bare 'exec cat'
}

@test "a bare FIN is an end of stream and is called no-close-notify, with --require-close-notify it is a cut: before a link" {
	echoing
	bare link
}

# --- one connection: the status says the same ---

# lone NAME tls|plain OPTION...: for each connection a ccf-tlsterm on descriptor 0; what it ends with goes into NAME.status.
lone() {
	local name=$1 how=$2 with=(--plaintext)

	shift 2
	TLS[$name]=
	if [ "$how" = tls ]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		TLS[$name]="--tls $CERTS/ca.pem"
	fi
	touch "$name.status" "term_$name.log"	# there before they are waited for
	# shellcheck disable=SC2016
	spawn lst_"$name" ccf-listen --ready-fd 9 --address-file "$name.json" rpc=127.0.0.1:0 -- \
	    sh -c 'name=$1; shift; ccf-tlsterm "$@" 2>>term_$name.log; echo $? >>$name.status' sh "$name" "${with[@]}" "$@"
	ADDR[$name]=$(address "$name.json" rpc)
}

@test "with one connection a deadline is 28, a bare FIN 18, and the line says why" {
	local name
	declare -A step=([silent]=rest [idle]=rest [half]='end rest' [flush]='--small send=some end await=over' [life]=knock=never
	    [bare]='send=some bare rest' [end]='send=some end rest') status=([bare]=18 [end]=0) reason=([silent]=handshake-timeout
	    [idle]=idle [half]=half-close-timeout [flush]=flush-timeout [life]=lifetime [bare]=no-close-notify [end]='done')

	random some 20000
	: >never
	lone silent tls --handshake-timeout 2s --app echo
	TLS[silent]=
	lone idle tls --idle-timeout 2s --app echo
	lone half tls --half-close-timeout 2s -- tail -f /dev/null
	lone flush plain --flush-timeout 2s --app echo
	lone life plain --lifetime 2s --app echo
	lone bare tls --app echo
	lone end tls --app echo
	for name in "${!step[@]}"; do
		# shellcheck disable=SC2086
		client "$name" one ${step[$name]}
	done
	begin
	for name in "${!step[@]}"; do
		await_line "$name.status" "^${status[$name]-28}\$"
		await_line "term_$name.log" "closed: ${reason[$name]}, by "
	done
}
