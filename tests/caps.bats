# caps - how many sessions an interface lets in, who counts them, and how several terminators share them.

load helpers
load clients

setup() {
	common_setup
	CAPPED='echo "capped=${CCF_CAPPED-no}"; cat'
}

# --- the caps ---

@test "exactly soft connections are unmarked, then they are marked up to hard, then closed at accept" {
	local i

	spawn lst ccf-listen --ready-fd 9 --address-file a.json --max-open-sessions-soft 3 --max-open-sessions-hard 5 \
	    rpc=127.0.0.1:0 -- sh -c "$CAPPED"
	base=$(fds lst)
	clients cl "$(address a.json rpc)"
	tell cl open 7
	for i in 1 2 3; do saw cl $i 'data capped=no'; done
	for i in 4 5; do saw cl $i 'data capped=1'; done
	for i in 6 7; do saw cl $i closed; done
	asked lst 'rpc: listening, 5 open, peak 5, soft 3, hard 5, accepted 5, capped 2, refused 2$'

	tell cl send 1 5 on
	for i in 1 2 3 4 5; do saw cl $i 'data on'; done
	tell cl close 2 2
	is_open 4
	tell cl open 2
	saw cl 8 'data capped=1'
	saw cl 9 closed
	tell cl close 1 9
	is_open 0
	tell cl open 1
	saw cl 10 'data capped=no'
	tell cl end
	is_open 0
	asked lst 'accepted 7, capped 3, refused 3$'
	keeps lst="$base"
}

@test "a COMMAND that is killed is not counted any more" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- cat
	base=$(fds lst)
	clients cl "$(address a.json rpc)"
	tell cl open 3
	tell cl send 1 3 hello
	eventually times 3 cl.out ' data hello$'
	kill -KILL "$(pgrep -o -P "${PID[lst]}")"
	saw cl 1 closed
	is_open 2
	tell cl end
	is_open 0
	keeps lst="$base"
}

@test "a COMMAND behind the terminator sees the mark, with TLS and without" {
	local how i

	certs
	for how in tls plain; do
		mkdir $how
		if [ $how = tls ]; then
			how_term=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem") how_cl=(--tls "$CERTS/ca.pem")
		else
			how_term=(--plaintext) how_cl=()
		fi
		pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json \
		    --max-open-sessions-soft 2 --max-open-sessions-hard 4 rpc=127.0.0.1:0 '|' \
		    term ccf-tlsterm "${how_term[@]}" -- sh -c "$CAPPED"
		base=$(fds term) worker=$(fds term.1)
		clients cl-$how "$(address a.json rpc)" "${how_cl[@]}"
		tell cl-$how open 4
		for i in 1 2; do saw cl-$how $i 'data capped=no'; done
		for i in 3 4; do saw cl-$how $i 'data capped=1'; done
		asked lst 'rpc: listening, 4 open, peak 4, soft 2, hard 4, accepted 4, capped 2, refused 0$'
		tell cl-$how end
		is_open 0
		asked term '^ccf-tlsterm: info: 0 connections'
		keeps term="$base" term.1="$worker"
		stop lst
		[ "$ended" = 0 ]
		ends_with 0 term
	done
}

@test "above the soft cap the echo session closes at the first bytes, with TLS and without" {
	local how i

	certs
	for how in tls plain; do
		if [ $how = tls ]; then
			how_term=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem") how_cl=(--tls "$CERTS/ca.pem")
		else
			how_term=(--plaintext) how_cl=()
		fi
		pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json \
		    --max-open-sessions-soft 2 --max-open-sessions-hard 4 rpc=127.0.0.1:0 '|' \
		    term ccf-tlsterm "${how_term[@]}" --app echo
		clients cl-$how "$(address a.json rpc)" "${how_cl[@]}"
		tell cl-$how open 4
		saw cl-$how 4 connected
		is_open 4
		tell cl-$how send 1 4 hello
		for i in 1 2; do saw cl-$how $i 'data hello'; done
		for i in 3 4; do saw cl-$how $i closed; done
		is_open 2
		run ! grep -E '^[34] data' cl-$how.out
		tell cl-$how open 1
		saw cl-$how 5 connected
		is_open 3
		tell cl-$how send 1 2 still
		for i in 1 2; do saw cl-$how $i 'data still'; done
		tell cl-$how end
		is_open 0
		stop lst
		ends_with 0 term
	done
}

@test "every interface has its own caps" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --max-open-sessions-soft 1 --max-open-sessions-hard 2 \
	    one=127.0.0.1:0 two=127.0.0.1:0 -- sh -c "$CAPPED"
	clients one "$(address a.json one)"
	clients two "$(address a.json two)"
	tell one open 3
	saw one 3 closed
	is_open 2 one
	is_open 0 two
	tell two open 1
	saw two 1 'data capped=no'
	tell one end
	is_open 0 one
	is_open 1 two
}

@test "without credit nobody is accepted, but who is above the hard cap is closed all the same" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link --max-open-sessions-soft 2 \
	    --max-open-sessions-hard 3 rpc=127.0.0.1:0
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo --credit 2
	await_line lst.log 'rpc: listening'
	clients cl "$(address a.json rpc)"
	tell cl open 3
	saw cl 3 connected
	is_open 2
	tell cl send 1 3 hello
	saw cl 2 'data hello'
	asked lst ' 2 open, .*accepted 2, capped 0, refused 0$'		# the third waits in the kernel
	tell cl close 1 1		# its end brings one more credit
	saw cl 3 'data hello'
	is_open 2
	stop peer KILL
	is_open 0
	saw cl 2 '(closed|reset)'

	spawn peer2 python3 "$HERE/peer/handoff.py" consume link --echo --credit 3
	asked lst ' 1 links, '
	asked lst 'rpc: listening'
	tell cl open 5
	saw cl 8 connected
	tell cl send 4 8 again
	saw cl 6 'data again'
	saw cl 7 '(closed|reset)'	# full, and no credit is left
	saw cl 8 '(closed|reset)'
	asked lst ' 3 open, .*refused 2$'
}

@test "the count returns to zero when the consumer is killed, and the next one serves" {
	killed_and_followed crash
}

@test "the count returns to zero when its worker is killed, and the next worker serves" {
	killed_and_followed kill_worker
}

# killed_and_followed crash|kill_worker
killed_and_followed() {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link --max-open-sessions-soft 8 \
	    --max-open-sessions-hard 10 rpc=127.0.0.1:0
	base=$(fds lst)
	spawn term ccf-tlsterm --plaintext --from link --app echo
	await_line lst.log 'rpc: listening'
	clients cl "$(address a.json rpc)"
	tell cl open 12
	saw cl 12 closed
	asked lst ' 10 open, .*capped 2, refused 2$'
	tell cl send 1 8 hello
	saw cl 8 'data hello'
	"$1" term
	is_open 0
	eventually times 12 cl.out ' (closed|reset)$'
	asked lst ' [01] links, 0 connections there, 10 lost with a link'
	if [ "$1" = crash ]; then
		keeps lst="$base"
		asked lst ' 0 links, '
		spawn term2 ccf-tlsterm --plaintext --from link --app echo
	fi
	keeps lst=$((base + 1))
	asked lst ' 1 links, 0 connections'
	asked lst 'rpc: listening'
	tell cl open 10
	saw cl 22 connected
	is_open 10
	tell cl send 1 99 hello
	saw cl 20 'data hello'
	saw cl 22 closed
	asked lst ' 8 open, peak 10, .*accepted 20, capped 4, refused 2$'
}

@test "when the consumer's master is killed, who is served goes on being served and counted until he ends" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	base=$(fds lst)
	spawn term ccf-tlsterm --plaintext --from link --app echo
	await_line lst.log 'rpc: listening'
	clients cl "$(address a.json rpc)"
	tell cl open 5
	tell cl send 1 5 hello
	eventually times 5 cl.out ' data hello$'
	kill_master term
	await_line term.log 'the master is gone'
	spawn term2 ccf-tlsterm --plaintext --from link --app echo
	asked lst ' 2 links, 5 connections there, 0 lost'
	tell cl send 1 5 again
	eventually times 5 cl.out ' data again$'
	is_open 5
	tell cl close 1 4
	is_open 1
	tell cl end
	is_open 0
	eventually dead "$orphan"
	asked lst ' 1 links, 0 connections there, 0 lost'
	keeps lst=$((base + 1))
}

@test "the count returns to zero when a third process, that the consumer handed on to, is killed" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to first --max-open-sessions-soft 8 \
	    --max-open-sessions-hard 10 rpc=127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --from first --to second
	spawn third ccf-tlsterm --plaintext --from second --app echo
	await_line lst.log 'rpc: listening'
	asked term '^ccf-tlsterm: info: 0 connections'
	base=$(fds term) worker=$(fds term.1)
	clients cl "$(address a.json rpc)"
	tell cl open 6
	tell cl send 1 6 hello
	saw cl 6 'data hello'
	is_open 6
	crash third
	is_open 0
	eventually times 6 cl.out ' reset$'	# never a clean end
	keeps term="$base" term.1=$((worker - 1))	# its link to the third has gone, too

	spawn third2 ccf-tlsterm --plaintext --from second --app echo
	tell cl open 3
	tell cl send 7 9 again
	saw cl 9 'data again'
	is_open 3
	tell cl end
	is_open 0
	keeps term="$base" term.1="$worker"
}

@test "a connection that was given outlives the one who gave it, and is counted until it ends" {
	spawn back ccf-listen --ready-fd 9 --address-file b.json back=127.0.0.1:0 -- cat
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to first rpc=127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --from first --to second
	spawn conn ccf-connect --from second "$(address b.json back)"
	await_line lst.log 'rpc: listening'
	base=$(fds lst)
	clients cl "$(address a.json rpc)"
	tell cl open 5
	tell cl send 1 5 hello
	eventually times 5 cl.out ' data hello$'
	asked conn '^ccf-connect: info: 0 connections'
	stop conn KILL
	tell cl send 1 5 again
	eventually times 5 cl.out ' data again$'
	is_open 5
	tell cl end
	is_open 0
	keeps lst="$base"
}

@test "what the next tool refuses is not counted for long" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to first rpc=127.0.0.1:0
	spawn term ccf-tlsterm --plaintext --from first --to second
	spawn conn ccf-connect --from second "127.0.0.1:$(free_port)"
	await_line lst.log 'rpc: listening'
	clients cl "$(address a.json rpc)"
	tell cl open 40
	eventually times 40 cl.out ' reset$'
	is_open 0
	asked lst 'accepted 40,'
	asked term '^ccf-tlsterm: info: 0 connections'
	asked conn '^ccf-connect: info: 0 connections'
}

@test "clients that come and go in a hurry leave no count and no descriptor" {
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app echo
	lst=$(fds lst) term=$(fds term) worker=$(fds term.1)
	for i in 1 2 3; do
		clients cl$i "$(address a.json rpc)"
		tell cl$i open 200
		tell cl$i send 1 100 hello
		tell cl$i close 50 150
		[ $i = 2 ] || tell cl$i end
	done
	for i in 1 3; do ends_with 0 cl$i; done
	is_open 99
	stop cl2 KILL
	is_open 0
	asked lst 'accepted 600, capped 0, refused 0$'
	asked term '^ccf-tlsterm: info: 0 connections'
	keeps lst="$lst" term="$term" term.1="$worker"
}

# --- several terminators ---

# share NAME: how many connections a terminator holds.
share() {
	ask "$1" . || return
	sed -n 's/.*info: \([0-9]*\) connections, .*/\1/p' "$1.log" | tail -n 1
}

@test "two terminators on one PATH, both held open, share 1,000 connections evenly" {
	local one two n

	[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 2200 ] || skip "2200 descriptors are not allowed here"
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	spawn one ccf-tlsterm --plaintext --from link --app echo
	spawn two ccf-tlsterm --plaintext --from link --app echo
	asked lst ' 2 links, 0 connections'
	granted one two
	base=$(fds lst) base_one=$(fds one.1) base_two=$(fds two.1)
	clients cl "$(address a.json rpc)"
	for n in {50..1000..50}; do
		tell cl open 50
		tell cl send $((n - 49)) "$n" hello
		eventually times "$n" cl.out ' data hello$'	# so both have read theirs, and grant more
	done
	is_open 1000
	one=$(share one) two=$(share two)
	echo "one has $one, two has $two"
	[ $((one + two)) = 1000 ]
	[ "$one" -ge 450 ] && [ "$two" -ge 450 ] || false
	asked lst ' 1000 open, .*capped 0, refused 0$'
	tell cl end
	is_open 0
	keeps lst="$base" one.1="$base_one" two.1="$base_two"
}

@test "a terminator is drained and replaced under load, and no client sees an error" {
	local done_before

	certs
	tls=(ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --from link --to dial:inner)
	spawn back ccf-listen --ready-fd 9 --address-file b.json --to back rpc=127.0.0.1:0
	spawn echo ccf-tlsterm --plaintext --from back --app echo
	spawn conn ccf-connect --from bind:inner "$(address b.json rpc)"
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	spawn one "${tls[@]}"
	spawn two "${tls[@]}"
	asked lst ' 2 links, 0 connections'
	granted one two

	clients held "$(address a.json rpc)" --tls "$CERTS/ca.pem"
	tell held open 4
	saw held 4 connected
	tell held send 1 4 hello
	eventually times 4 held.out ' data hello$'
	spawn load python3 "$HERE/peer/clients.py" "$(address a.json rpc)" --tls "$CERTS/ca.pem" --load 6 --bytes 20000
	await_line load.out '^20 done'

	kill -TERM "${PID[one]}"
	await_line one.log 'draining'
	await_line load.out '^40 done'
	spawn three "${tls[@]}"
	asked lst ' 3 links, '		# the drained one stays as long as its clients
	tell held send 1 4 again
	eventually times 4 held.out ' data again$'
	tell held end
	ends_with 0 one
	asked three '[1-9][0-9]* connections'	# the new one has its part

	kill -TERM "${PID[two]}"
	ends_with 0 two
	done_before=$(grep -c ' done$' load.out)
	await_line load.out "^$((done_before * 10 + 30)) done"
	stop load
	tail -n 1 load.out
	grep -q -E '^in all: [0-9]+ done, 0 failed$' load.out
	run ! grep failed: load.out
	is_open 0
	asked lst ' 0 lost with a link'
}
