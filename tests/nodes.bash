# nodes - nodes that tests talk through: `load nodes` after helpers, and after control, whose `node` is something else.
#
#	node n1 --format json			# a listener, and behind it a node; AT[n1] is where it is dialled
#	caller n0 --peer "n1=${AT[n1]}"		# a node that only dials
#	order n0 send n1 consensus good morning	# a command to it
#	told n0 'link up n1 out .*'		# an event of it (text), sooner or later
#	told_json n1 '.event == "message" and .text == "good morning"'
#	n0=$(links n0)				# its `peer` lines as of now
#	stop n0 && [ "$ended" = 0 ]		# TERM: it drains
#
# node NAME [OPTION...]: `ccf-listen --to NAME.hub` as lst_NAME, and node_of NAME, which takes its connections.  Returns when the port
#	listens.  NODE_ADDR (127.0.0.1:0) is the address, NODE_ID[NAME] (NAME) its --id; NODE_IN is the command that runs these
#	elsewhere.
# node_of NAME [OPTION...]: the node alone, again: after `stop NAME KILL` while lst_NAME goes on.  Returns when all is open; NAME.out
#	begins anew.
# caller NAME [OPTION...]: a node without a listener.
#	Of all these: events are in NAME.out, the log in NAME.log; commands come from the FIFO NAME.in, which never ends, so they stay until
#	`stop NAME`.  AT[NAME] is HOST:PORT.  With --format json the events are told_json's, else told's.
# order NAME COMMAND...: one line to NAME.  orders NAME: all of standard input.
# told NAME PATTERN: a whole line of NAME.out matches (grep -E), sooner or later.  told_not NAME PATTERN: none does now.
# told_json NAME FILTER [JQ OPTION...]: FILTER is true of an event.
# counted NAME N PATTERN: N whole lines match, sooner or later; no more do then.
# links NAME: what it answers to `links`, without the last line.
# settled NAME: nothing waits any more, for nobody.
# listening NAME: as long as told: lst_NAME listens (node has waited for that; after node_of it may take a moment).
# meet NAME...: each that takes orders is told where each of the others is (associate).
# once STATUS OPTION...: `ccf-nodelink --id n0 OPTION...` with our standard input ends with STATUS; $output is what it said, both ways.
# peer NAME VERB ...: tests/peer/node.py; what it says is in NAME.out.  Of `listen` AT[NAME] is the address.
# shown NAME FILTER [JQ OPTION...]: told_json, of a peer.
# shellcheck shell=bash disable=SC2034,SC2154	# tests use them, and helpers has the others

declare -gA AT=() ORDERS=() NODE_ID=()
NODE_IN=()

node() {
	listener_of "$1"
	node_of "$@"
	listening "$1"
}

listener_of() {
	spawn lst_"$1" "${NODE_IN[@]}" ccf-listen --ready-fd 9 --address-file "$1.json" --to "$1.hub" node="${NODE_ADDR-127.0.0.1:0}"
	AT[$1]=$(address "$1.json" node)
}

listening() {
	eventually grep -q -s ' node: listening' "lst_$1.log"
}

node_of() {
	caller "$1" --from "$1.hub" "${@:2}"
}

caller() {
	local fd

	if [ -z "${ORDERS[$1]-}" ]; then
		mkfifo "$1.in"
		exec {fd}<>"$1.in"
		ORDERS[$1]=$fd
	fi
	spawn "$1" "${NODE_IN[@]}" ccf-nodelink --id "${NODE_ID[$1]-$1}" --commands "$1.in" --ready-fd 9 "${@:2}"
}

order() {
	printf "%s\n" "${*:2}" >&"${ORDERS[$1]}"
}

orders() {
	cat >&"${ORDERS[$1]}"
}

told() {
	eventually grep -q -s -x -E -e "$2" "$1.out" || {
		echo "no line of $1.out matches: $2"
		tail -n 20 "$1.out" | cut -c 1-500
		return 1
	}
}

told_not() {
	run ! grep -E -x -e "$2" "$1.out"
}

told_json() {
	eventually told_json_now "$@" || {
		echo "--- $1.out"
		tail -n 20 "$1.out" | cut -c 1-500
		return 1
	}
}

# Of whole lines: the last one may still be on its way.
told_json_now() {
	head -n "$(wc -l <"$1.out")" "$1.out" | jq -e -s "${@:3}" "any(.[] | select(type == \"object\"); $2)" >/dev/null
}

shown() { told_json "$@"; }

counted() {
	eventually has_lines "$@" || {
		echo "$(grep -c -E -x -e "$3" "$1.out") lines of $1.out, not $2: $3"
		tail -n 20 "$1.out" | cut -c 1-500
		return 1
	}
}

has_lines() {
	[ "$(grep -c -E -x -e "$3" "$1.out")" = "$2" ]
}

LINKS_LINE='(links [0-9]+|\{"event":"links",.*)'

links() {
	local before

	before=$(grep -c -E -x -e "$LINKS_LINE" "$1.out") || :
	order "$1" links
	eventually has_lines "$1" "$((before + 1))" "$LINKS_LINE" >&2 || return
	tac "$1.out" | awk '/^(links |\{"event":"links")/ { if (n++) exit; next } /^(peer |\{"event":"peer")/' | tac
}

settled() {
	eventually nothing_waits "$1"
}

nothing_waits() {
	local said

	said=$(links "$1") || return
	[ -z "$said" ] || ! grep -q -v -E -e ' waiting=0 |"waiting":0,' <<<"$said"
}

meet() {
	local one other

	for one; do
		[ -n "${ORDERS[$one]-}" ] || continue
		for other; do
			[ "$one" = "$other" ] || order "$one" associate "${NODE_ID[$other]-$other}" "${AT[$other]}"
		done
	done
}

once() {
	expect_status "$1" "${NODE_IN[@]}" ccf-nodelink --id n0 "${@:2}"
}

peer() {
	local name=$1

	spawn "$name" python3 "$HERE/peer/node.py" "${@:2}"
	if [ "$2" = listen ]; then
		await_line "$name.out" '^[0-9]+$'
		AT[$name]=127.0.0.1:$(head -n 1 "$name.out")
	fi
}
