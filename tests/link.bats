# link - the handoff link as a program in another language speaks it, from ccf-handoff(7) alone (tests/peer/link.py,
# handoff.py), and as a hostile one does (tests/peer/hostile.py): that one ends its own link, and nobody else's.

load helpers

# --- what the tests share ---

peer() {
	local name=$1

	shift
	spawn "$name" python3 "$HERE/peer/handoff.py" "$@"
}

hostile() {
	timeout $((LIMIT * 2)) python3 "$HERE/peer/hostile.py" "$@"
}

# echo_server: ECHO is the address of one that ends when its client does.
echo_server() {
	spawn echo ccf-listen --ready-fd 9 --ready-when listening --address-file echo.json echo=127.0.0.1:0 -- cat
	ECHO=$(address echo.json echo)
}

# says TEXT ADDRESS: TEXT comes back from there, and then the end.
says() {
	[ "$(printf %s "$1" | timeout "$LIMIT" nc -N "${2%:*}" "${2##*:}")" = "$1" ]
}

# Four tools under attack, each with a good neighbour: IT is the tool, HUB the name of its link, ROLE what a peer of it
# is, GOOD where the neighbour's echo answers.

listen_to() {
	IT=lst HUB=$PWD/hub ROLE=consumer
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to hub rpc=127.0.0.1:0
	[ -n "${PID[echo]-}" ] || echo_server
	spawn neighbour ccf-connect --from hub "$ECHO"
	await_line lst.log "rpc: listening"
	GOOD=$(address a.json rpc)
}

terminate_to() {
	IT=tls HUB=$PWD/hub ROLE=consumer
	[ -n "${PID[echo]-}" ] || echo_server
	spawn neighbour ccf-connect --from hub "$ECHO"
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --plaintext --to hub
	GOOD=$(address a.json rpc)
}

terminate_from() {
	IT=tls HUB=$PWD/hub ROLE=producer
	spawn tls ccf-tlsterm --plaintext --from bind:hub --app echo
	spawn neighbour ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to dial:hub rpc=127.0.0.1:0
	GOOD=$(address a.json rpc)
}

connect_from() {
	IT=con HUB=$PWD/hub ROLE=producer
	[ -n "${PID[echo]-}" ] || echo_server
	spawn con ccf-connect --from bind:hub "$ECHO"
	spawn neighbour ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to dial:hub rpc=127.0.0.1:0
	GOOD=$(address a.json rpc)
}

# leave: the tool and its neighbour end well, and the next may come.
leave() {
	local name

	for name in lst neighbour tls con; do
		[ -n "${PID[$name]-}" ] || continue
		stop "$name"
		[ "$ended" = 0 ]
		unset "PID[$name]"
		mv "$name.log" "$name.log.$((++LEFT))"
	done
	rm -f a.json
}

# has_fds NAME N
has_fds() {
	[ "$(fd_count "$1")" = "$2" ]
}

# endures TOOL CLASS: what a peer does of this class, in its role, is the end of its own link, for the reason in WHY,
# which is one line of the log; or of nothing, where WHY says "goes on".  A log holds ten such lines back.
endures() {
	local deeds deed base

	"$1"
	mapfile -t deeds < <(hostile deeds "$ROLE" "$2")
	[ ${#deeds[@]} -gt 0 ]
	says "before" "$GOOD"
	eventually has_fds "$IT" "$(fd_count "$IT")"
	base=$(fd_count "$IT")
	while [ ${#deeds[@]} -gt 0 ]; do
		hostile "$ROLE" "$HUB" --good "$GOOD" "${deeds[@]:0:10}" >deeds.out
		for deed in "${deeds[@]:0:10}"; do
			judged "$1" "$deed" "${WHY[$ROLE $deed]-${WHY[$deed]}}"
		done
		eventually has_fds "$IT" "$base"
		deeds=("${deeds[@]:10}")
		[ ${#deeds[@]} = 0 ] || { leave && "$1" && says "before" "$GOOD"; }
	done
	leave
}

# judged TOOL DEED WHY
judged() {
	if [ "$3" = "goes on" ]; then
		grep -qx "$2 goes on" deeds.out || { echo "$1: $2: $(grep "^$2 " deeds.out)"; return 1; }
		run ! grep -E "link with $2 ended" "$IT.log"
		return
	fi
	grep -qx "$2 ended" deeds.out || { echo "$1: $2: $(grep "^$2 " deeds.out)"; return 1; }
	[ "$(grep -c -E "link with ($2|an unknown tool) ended: $3" "$IT.log")" = 1 ] || {
		echo "$1: $2: not one line: $3"
		return 1
	}
}
