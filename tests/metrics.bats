# metrics - what the tools count, as Prometheus and as CCF want it said.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load clients
load control

# --- Prometheus' ---

@test "/metrics of ccf-listen: what it let in, marked, refused and turned away, by interface; COMMANDs; and in Prometheus' format" {
	spawn lst ccf-listen --control lst.ctl --ready-fd 9 --address-file a.json --max-open-sessions-soft 2 \
	    --max-open-sessions-hard 3 --deny 127.0.0.9 rpc=127.0.0.1:0 other=127.0.0.1:0 -- cat
	clients cl "$(address a.json rpc)"
	tell cl open 5
	saw cl 5 '(closed|reset)'
	ccf-connect --bind 127.0.0.9 "$(address a.json rpc)" </dev/null || :
	figures lst 'ccfnet_interface_active{interface="rpc"}=3' 'ccfnet_interface_active{interface="other"}=0' \
	    'ccfnet_interface_peak{interface="rpc"}=3' 'ccfnet_interface_peak{interface="other"}=0' \
	    'ccfnet_interface_accepted_total{interface="rpc"}=3' 'ccfnet_interface_capped_total{interface="rpc"}=1' \
	    'ccfnet_interface_refused_total{interface="rpc",reason="hard-cap"}=2' \
	    'ccfnet_interface_refused_total{interface="rpc",reason="denied"}=1' \
	    'ccfnet_interface_refused_total{interface="other",reason="denied"}=0' \
	    'ccfnet_interface_listening{interface="rpc"}=1' 'ccfnet_interface_listening{interface="other"}=1' \
	    'ccfnet_interface_soft_cap{interface="other"}=2' 'ccfnet_interface_hard_cap{interface="other"}=3' \
	    ccfnet_connections_taken_total=3 ccfnet_connections_active=3 ccfnet_connections_peak=3 \
	    ccfnet_connections_capped_total=1 'ccfnet_connections_refused_total{reason="hard-cap"}=2' \
	    'ccfnet_connections_refused_total{reason="denied"}=1' 'ccfnet_commands_total{result="ok"}=3' \
	    'ccfnet_commands_total{result="failed"}=0' ccfnet_connection_seconds_count=0
	correct lst
	cp lst.body before
	grep -q -x "process_open_fds $(fd_count lst)" lst.body || grep process_open_fds lst.body
	tell cl end
	ends_with 0 cl
	figures lst 'ccfnet_interface_active{interface="rpc"}=0' ccfnet_connections_active=0 ccfnet_connections_peak=3 \
	    'ccfnet_connections_closed_total{reason="exited"}=3' ccfnet_connection_seconds_count=3
	correct lst
	python3 "$HERE/peer/promcheck.py" lst.body before
}

@test "/metrics of ccf-connect: dials that worked and that did not, what moved, and in Prometheus' format" {
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- cat
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0 '|' \
	    con ccf-connect --control con.ctl --from - "$(address b.json rpc)"
	ADDR=$(address a.json rpc)
	talk 3
	figures con ccfnet_connections_taken_total=3 ccfnet_connections_active=3 ccfnet_connections_peak=3 \
	    'ccfnet_dials_total{result="ok"}=3' 'ccfnet_dials_total{result="failed"}=0' ccfnet_dial_seconds_count=3
	correct con
	cp con.body before
	tell cl close 1 2
	figures con ccfnet_connections_active=1 'ccfnet_connections_closed_total{reason="done"}=2' ccfnet_connection_seconds_count=2 \
	    'ccfnet_connection_bytes_total{direction="in"}=12' 'ccfnet_connection_bytes_total{direction="out"}=12'
	tell cl close 3 3
	stop back
	tell cl open 1
	saw cl 4 reset
	figures con 'ccfnet_dials_total{result="ok"}=3' 'ccfnet_dials_total{result="failed"}=1' ccfnet_connections_peak=3 \
	    'ccfnet_connections_closed_total{reason="refused"}=1' ccfnet_dial_seconds_count=3 ccfnet_connections_active=0
	correct con
	python3 "$HERE/peer/promcheck.py" con.body before
}

# ended_at FILE: until when a certificate is valid, in seconds.
ended_at() {
	date -d "$(openssl x509 -in "$1" -noout -enddate | cut -d= -f2)" +%s
}

@test "/metrics of ccf-tlsterm: handshakes by result, closes by reason, bytes, requests, loads, and until when its certificates are valid" {
	certs
	cat "$CERTS/chain.pem" "$CERTS/key.pem" >node.pem
	cat "$CERTS/rsa.pem" "$CERTS/rsa.key" >rsa.pem
	spawn term ccf-tlsterm --from link --control term.ctl --cert node.pem --cert localhost:rsa.pem --handshake-timeout 2s --app http1
	spawn lst ccf-listen --to link --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	figures term 'ccfnet_tls_reloads_total{result="ok"}=1' 'ccfnet_tls_reloads_total{result="failed"}=0' ccfnet_workers=1 \
	    ccfnet_workers_silent=0 ccfnet_worker_deaths_total=0 ccfnet_buffered_limit_bytes=67108864 \
	    'ccfnet_tls_certificate_not_after_seconds{file="node.pem",servername=""}='"$(ended_at node.pem)" \
	    'ccfnet_tls_certificate_not_after_seconds{file="rsa.pem",servername="localhost"}='"$(ended_at rsa.pem)"

	askers cl "$ADDR" --tls "$CERTS/ca.pem"
	tell cl open 3
	tell cl ask 1 3
	tell cl ask 1 1 /nothing
	eventually times 1 cl.out '^1 404$'
	tell cl knock 4
	printf 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' >plain
	tell cl say 4 5 plain		# no TLS
	tell cl rest 4 5
	tell cl close 6 6		# gone; and 7 says nothing
	figures term 'ccfnet_tls_handshakes_total{result="ok"}=3' 'ccfnet_tls_handshakes_total{result="failed"}=2' \
	    'ccfnet_tls_handshakes_total{result="client-gone"}=1' 'ccfnet_tls_handshakes_total{result="timeout"}=1' \
	    ccfnet_tls_handshake_seconds_count=3 ccfnet_connections_taken_total=7 ccfnet_connections_active=3 \
	    'ccfnet_connections_closed_total{reason="handshake-failed"}=3' 'ccfnet_connections_closed_total{reason="handshake-timeout"}=1' \
	    'ccfnet_http_requests_total{code="200"}=3' 'ccfnet_http_requests_total{code="404"}=1' ccfnet_http_request_seconds_count=4
	correct term
	cp term.body before

	printf 'GET / HTTP/1.1\r\nHost : x\r\n\r\n' >bad
	tell cl say 3 3 bad
	tell cl close 1 3
	figures term ccfnet_connections_active=0 ccfnet_buffered_bytes=0 'ccfnet_connections_closed_total{reason="done"}=2' \
	    'ccfnet_connections_closed_total{reason="parsing"}=1' 'ccfnet_http_errors_total{class="parsing"}=1' \
	    'ccfnet_http_requests_total{code="400"}=1' "ccfnet_connection_bytes_total{direction=\"in\"}=$((35 * 3 + 42 + $(stat -c %s bad)))"
	[ "$(figure_of term.body 'ccfnet_connection_bytes_total{direction="out"}')" -gt 500 ]

	# loads: a good one, a bad one
	answers 202 term POST /reload
	figures term 'ccfnet_tls_reloads_total{result="ok"}=2' 'ccfnet_tls_reloads_total{result="failed"}=0'
	echo nothing >rsa.tmp
	mv rsa.tmp rsa.pem
	answers 202 term POST /reload
	figures term 'ccfnet_tls_reloads_total{result="ok"}=2'
	eventually reload_failed
	correct term
	python3 "$HERE/peer/promcheck.py" term.body before
	stop lst
	stop term
}

reload_failed() {
	[ "$(figure term 'ccfnet_tls_reloads_total{result="failed"}')" -ge 1 ]
}

@test "figures are those of both workers together, and no counter goes down when one is killed and another takes its place" {
	local lost

	spawn term ccf-tlsterm --plaintext --from link --control term.ctl -j 2 --app http1
	spawn lst ccf-listen --to link --control lst.ctl --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	asked lst ': 2 links, '
	granted term
	ADDR=$(address a.json rpc)
	askers cl "$ADDR"
	tell cl open 8
	tell cl ask 1 8
	eventually times 8 cl.out ' 200$'
	figures term ccfnet_connections_active=8 ccfnet_connections_taken_total=8 ccfnet_workers=2 ccfnet_workers_silent=0 \
	    'ccfnet_http_requests_total{code="200"}=8' ccfnet_http_request_seconds_count=8 ccfnet_buffered_limit_bytes=67108864
	tell cl close 1 2
	figures term ccfnet_connections_active=6 'ccfnet_connections_closed_total{reason="done"}=2'
	asked term ': 6 connections'
	lost=$(sed -n -E "s/.* worker $(worker term 1): ([0-9]+) connections,.*/\1/p" term.log | tail -n 1)
	[ "$lost" -ge 1 ]
	[ "$lost" -le 5 ]
	correct term
	cp term.body before

	kill_worker term 1
	await_line term.log 'worker 1 \(pid [0-9]+\) is up again'
	figures term ccfnet_worker_deaths_total=1 ccfnet_connections_active=$((6 - lost)) ccfnet_connections_taken_total=8 \
	    "ccfnet_connections_closed_total{reason=\"worker-died\"}=$lost" 'ccfnet_http_requests_total{code="200"}=8' \
	    ccfnet_workers=2 ccfnet_workers_silent=0
	correct term
	python3 "$HERE/peer/promcheck.py" term.body before
	figures lst "ccfnet_connections_closed_total{reason=\"link-lost\"}=$lost" ccfnet_connections_active=$((6 - lost))

	asked lst ': 2 links, '
	granted term
	tell cl open 6
	tell cl ask 9 14
	eventually times 14 cl.out ' 200$'
	figures term ccfnet_connections_active=$((12 - lost)) ccfnet_connections_taken_total=14 \
	    'ccfnet_http_requests_total{code="200"}=14' ccfnet_http_request_seconds_count=14
	kill_worker term 2
	figures term ccfnet_worker_deaths_total=2 ccfnet_connections_taken_total=14 'ccfnet_http_requests_total{code="200"}=14'
	correct term
	python3 "$HERE/peer/promcheck.py" term.body before
}

@test "a worker that does not answer keeps nobody waiting for long: what it last said stands, and that it is silent" {
	spawn term ccf-tlsterm --plaintext --from link --control term.ctl -j 2 --app http1
	spawn lst ccf-listen --to link --ready-fd 9 --ready-when listening --address-file a.json rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
	asked lst ': 2 links, '
	granted term
	askers cl "$ADDR"
	tell cl open 8
	tell cl ask 1 8
	eventually times 8 cl.out ' 200$'
	figures term ccfnet_connections_active=8 ccfnet_workers_silent=0
	kill -STOP "$(worker term 1)"
	figures term ccfnet_workers_silent=1 ccfnet_connections_active=8 'ccfnet_http_requests_total{code="200"}=8'
	correct term
	answers 200 term GET /connections
	jq -e '.[-1].missing == "1 of 2 workers did not answer in time" and length > 1' term.body
	refuses 504 term DELETE /connections/rpc%2399 'rpc#99 is not found, but 1 of 2 workers did not answer in time'
	answers 202 term POST /drain
	kill -CONT "$(worker term 1)"
	tell cl end
	ends_with 0 term
}

# --- CCF's ---

@test "/node/metrics has every field of CCF's, of the right type, and no other; the global peak is not the sum of the peaks" {
	local n

	pipeline lst ccf-listen --to - --control lst.ctl --max-open-sessions-soft 10 --ready-fd 9 --ready-when listening \
	    --address-file a.json one=127.0.0.1:0 two=127.0.0.1:0 '|' \
	    term ccf-tlsterm --plaintext --app http1 --max-body-size 1k --max-header-size 100
	node lst '. == {"sessions": {"active": 0, "peak": 0, "interfaces": {
	    "one": {"active": 0, "peak": 0, "soft_cap": 10, "hard_cap": 20, "errors": {"parsing": 0, "request_payload_too_large": 0, "request_header_too_large": 0}},
	    "two": {"active": 0, "peak": 0, "soft_cap": 10, "hard_cap": 20, "errors": {"parsing": 0, "request_payload_too_large": 0, "request_header_too_large": 0}}}}}'
	grep -qi '^Content-Type: application/json' lst.head
	python3 - lst.body <<-'EOF'
		import json, sys

		def checked(found, fields):
		    assert set(found) == set(fields), (set(found), set(fields))
		    for name, kind in fields.items():
		        assert type(found[name]) is kind, (name, found[name])

		whole = json.load(open(sys.argv[1]), object_pairs_hook=lambda pairs: (dict(pairs), len(pairs) == len(dict(pairs)) or sys.exit("twice"))[0])
		checked(whole, {"sessions": dict})
		checked(whole["sessions"], {"active": int, "peak": int, "interfaces": dict})
		assert set(whole["sessions"]["interfaces"]) == {"one", "two"}
		for interface in whole["sessions"]["interfaces"].values():
		    checked(interface, {"active": int, "peak": int, "soft_cap": int, "hard_cap": int, "errors": dict})
		    checked(interface["errors"], {"parsing": int, "request_payload_too_large": int, "request_header_too_large": int})
	EOF

	clients one "$(address a.json one)"
	clients two "$(address a.json two)"
	tell one open 3
	node lst '.sessions.active == 3 and .sessions.peak == 3 and .sessions.interfaces.one.active == 3 and .sessions.interfaces.two.active == 0'
	tell one close 1 3
	node lst '.sessions.active == 0'
	tell two open 2
	node lst '.sessions.active == 2'
	node lst '.sessions | .peak == 3 and .interfaces.one.peak == 3 and .interfaces.two.peak == 2 and .interfaces.one.active == 0 and .interfaces.two.active == 2'

	printf 'GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n' >parsing
	printf 'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n' >payload
	printf 'GET / HTTP/1.1\r\nHost: x\r\nA: %101s.\r\n\r\n' '' | tr ' ' x | sed 's/^GETx/GET /; s/xHTTP/ HTTP/; s/:x/: /' >header
	askers cl "$(address a.json two)"
	tell cl open 6
	tell cl say 1 1 parsing
	tell cl say 2 3 payload
	tell cl say 4 6 header
	tell cl rest 1 6
	for n in {1..6}; do await_line cl.out "^$n rest"; done
	grep -q '^HTTP/1.1 400 ' rest.1
	for n in 2 3; do grep -q '^HTTP/1.1 413 ' rest.$n; done
	for n in 4 5 6; do grep -q '^HTTP/1.1 431 ' rest.$n; done
	tell cl end
	node lst '.sessions.interfaces.two.errors == {"parsing": 1, "request_payload_too_large": 2, "request_header_too_large": 3}'
	node lst '.sessions.interfaces.one.errors == {"parsing": 0, "request_payload_too_large": 0, "request_header_too_large": 0}'
	node lst '.sessions | .active == 2 and .peak <= ([.interfaces[].peak] | add)'
	figures lst 'ccfnet_interface_http_errors_total{interface="two",class="request-header-too-large"}=3' \
	    'ccfnet_interface_http_errors_total{interface="two",class="request-payload-too-large"}=2' \
	    'ccfnet_interface_http_errors_total{interface="two",class="parsing"}=1' \
	    'ccfnet_interface_http_errors_total{interface="one",class="parsing"}=0'
	correct lst
}
