# deferred - a certificate that is not there yet.
#
# (who runs this makes no difference)

load helpers
load clients
load generations

@test "no certificate yet, below and above the caps: refused by the kernel, then served, capped, closed; as without TLS" {
	local how sink options

	for how in 'tls echo' 'tls command' 'plain echo' 'plain command'; do
		rm -f node.pem ./*.log
		options=(--cert node.pem) how_cl=(--tls "$CA")
		[ "${how% *}" = tls ] || options=(--plaintext) how_cl=()
		sink=(--app echo)
		[ "${how#* }" = echo ] || sink=(-- sh -c 'echo "capped=${CCF_CAPPED-no}"; cat')
		pipeline lst ccf-listen --to - --ready-fd 9 --address-file a.json --max-open-sessions-soft 2 \
		    --max-open-sessions-hard 3 rpc=127.0.0.1:0 '|' term ccf-tlsterm "${options[@]}" "${sink[@]}"
		ADDR=$(address a.json rpc)
		how=${how// /-}
		clients "$how" "$ADDR" "${how_cl[@]}"
		if [ "${how%-*}" = tls ]; then
			await_line term.log 'info: node.pem is not there; taking no connections until it is$'
			await_line term.log '1 worker up'
			tell "$how" open 5		# as many as above the hard cap
			eventually times 5 "$how.out" ' refused$'
			asked lst 'rpc: [a-z, ]*, 0 open, peak 0, soft 2, hard 3, accepted 0, capped 0, refused 0$'
			asked term '0 connections, 1 worker .*; certificate awaited$'
			put c0
		else
			tell "$how" close 1 5
		fi
		await_line lst.log 'rpc: listening'
		n=$(grep -c ' refused$' "$how.out") || :
		tell "$how" open 5
		for i in 4 5; do saw "$how" $((n + i)) '(closed|reset|failed: .*)'; done
		if [ "${how#*-}" = echo ]; then
			tell "$how" send $((n + 1)) $((n + 3)) hello
			for i in 1 2; do saw "$how" $((n + i)) 'data hello'; done
			saw "$how" $((n + 3)) '(closed|reset)'
			asked lst '2 open, peak 3, soft 2, hard 3, accepted 3, capped 1, refused 2$'
		else
			for i in 1 2; do saw "$how" $((n + i)) 'data capped=no'; done
			saw "$how" $((n + 3)) 'data capped=1'
			asked lst '3 open, peak 3, soft 2, hard 3, accepted 3, capped 1, refused 2$'
		fi
		tell "$how" end
		asked lst ' 0 open, '
		[ "$(lines 'killed|crashed [^0]| error: ')" = 0 ]
		stop lst
		ends_with 0 term
	done
}

@test "two terminators at one listener, one without its certificate: the other serves alone, and the caps hold" {
	put c1 c1.pem
	spawn lst ccf-listen --to link --ready-fd 9 --address-file a.json --max-open-sessions-soft 2 \
	    --max-open-sessions-hard 3 rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	spawn term ccf-tlsterm --cert node.pem --app echo --from link
	await_line term.log 'node.pem is not there; taking no connections until it is$'
	spawn other ccf-tlsterm --cert c1.pem --app echo --from link
	await_line lst.log 'rpc: listening'
	clients cl "$ADDR" --tls "$CA"
	tell cl open 4
	saw cl 4 '(closed|reset|failed: .*)'
	asked lst ' 3 open, peak 3, .*accepted 3, capped 1, refused 1$'
	asked term '^ccf-tlsterm: info: 0 connections'
	# The one that serves drains: at the hard cap nobody comes in, and below it nobody is left who could take them.
	kill -TERM "${PID[other]}"
	await_line other.log draining
	tell cl close 1 4
	ends_with 0 other
	is_open 0
	put c0
	await_line term.log 'certificate loaded from node.pem'
	granted term
	tell cl open 2
	tell cl send 5 6 hello
	eventually times 2 cl.out ' data hello$'
	asked term '^ccf-tlsterm: info: 2 connections'
	is_open 2
}

@test "while the certificate is awaited, clients of a socket that listens already wait, and each is served by the caps" {
	spawn lst python3 "$HERE/peer/activate.py" --names rpc 127.0.0.1:0 -- \
	    ccf-listen --to link --max-open-sessions-soft 1 --max-open-sessions-hard 2
	eventually test -s activated
	spawn term ccf-tlsterm --cert node.pem --from link -- sh -c 'echo "capped=${CCF_CAPPED-no}"; cat'
	await_line term.log 'node.pem is not there; taking no connections until it is$'
	for i in 1 2 3; do
		SPAWN_OUT=cl$i.out spawn cl$i python3 "$HERE/peer/tls_client.py" get "$CA" "localhost:$(sed 's/.*://' activated)"
	done
	asked lst 'rpc: [a-z, ]*, 0 open, '
	put c0
	await_line term.log 'certificate loaded'
	asked lst ' accepted 2, capped 1, refused 1$'
	eventually grep -q raised cl1.out cl2.out cl3.out
}

@test "a certificate that is written slowly, or before its key, is waited for until it is whole" {
	local said=0

	waits() {	# waits WHAT: that is said, once
		said=$((said + 1))
		await_line term.log "info: $1\$"
		[ "$(lines 'taking no connections')" = "$said" ]
	}

	pipeline lst ccf-listen --to - --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm --cert node.pem --key node.key --app echo
	ADDR=$(address a.json rpc)
	waits 'node.pem is not there; taking no connections until it is'
	head -c 300 "$MADE/c0.pem" >node.pem
	hup
	waits 'node.pem: is cut off in the middle of a block; taking no connections until it is whole'
	tail -c +301 "$MADE/c0.pem" >>node.pem
	hup
	waits 'node.key is not there; taking no connections until it is'
	: >node.key
	waits 'node.key: is empty; taking no connections until it is whole'
	asked term '; certificate awaited$'
	expect_status 7 ccf-connect -z "$ADDR"
	cat "$MADE/c0.key" >node.key
	await_line lst.log 'rpc: listening'
	eventually is_served c0
	counted
	[ "$(lines 'taking no connections')" = "$said" ]
}

@test "who waits too long for a certificate ends with 58, and so does who has one connection at once" {
	expect_status 58 ccf-tlsterm --cert node.pem --cert-timeout 300ms --from bind:p --app echo
	[ "$(grep -c 'node.pem is not there; taking no connections until it is$' <<<"$output")" = 1 ]
	[[ $output == *'error: node.pem is not there; waited for it in vain (--cert-timeout)' ]]
	head -c 300 "$MADE/c0.pem" >half.pem
	expect_status 58 ccf-tlsterm --cert half.pem --from p --app echo
	[[ $output == *'error: half.pem: is cut off in the middle of a block' ]]
	spawn term ccf-tlsterm --cert node.pem --cert-timeout 5s --from bind:p --app echo
	await_line term.log 'taking no connections'
	cp half.pem node.pem
	await_line term.log 'error: node.pem: is cut off in the middle of a block; waited for it in vain \(--cert-timeout\)'
	ends_with 58 term
	rm node.pem
	expect_status 58 python3 "$HERE/peer/on_sockets.py" ccf-tlsterm --cert node.pem --app echo
	[ "$output" = 'ccf-tlsterm: error: node.pem is not there' ]
	expect_status 58 python3 "$HERE/peer/on_sockets.py" ccf-tlsterm --cert node.pem --cert-timeout 1h --app echo
}
