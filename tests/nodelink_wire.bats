# nodelink_wire - ccf-nodelink on the wire: its frames and those of an encoder in another language (tests/peer/node.py), both ways
# and byte for byte; what is no frame, or not from whom it should be; --tap and decode, which show what passes; programs (--app).
#
# (who runs this makes no difference; left out of brief runs)

# shellcheck disable=SC2154	# ended, output, PID, HERE, LIMIT: the helpers'

load helpers
load clients
load nodes

EVERY=(init response final append_entries:entries=3 append_entries_response append_entries_signed_response request_vote
	request_vote_response propose_request_vote request_pre_vote request_pre_vote_response forwarded_cmd_v1 forwarded_response_v1
	forwarded_cmd_v2 forwarded_response_v2 forwarded_cmd_v3 forwarded_response_v3)
SIZES=(channel consensus:random:1 forwarded:random:15 consensus:random:16 consensus:random:17 consensus:random:65535
	consensus:random:65536 consensus:random:65537 forwarded:zero:64k)
WORDS=('0:text:good morning' '1:text: two  blanks ' '2:text:hex:zz' '3:text:file:/etc/passwd' '100:text:text:a%20b' '7:text:say "%41" \n'
	'8:text:grüße' '9:hex:610d' '10:hex:00' '11:hex:610a62' '12:hex:ff' 18446744073709551615:text:most 0x676e6970:hex:0102)

HALF=64000000010000000000000002000000000000006e3001020304	# 26 bytes of a frame of n0's that has 104

# --- what the tests share ---

# frames FILE FRAME...: a stream, by the independent encoder.
frames() {
	python3 "$HERE/peer/node.py" encode --out "$1" "${@:2}"
}

# receiver NAME [SHELL]: keeps what is said to it, as it is, in NAME.raw (or is these words of a shell); AT[NAME] is where.
receiver() {
	spawn "$1" ccf-listen --ready-fd 9 --address-file "$1.json" raw=127.0.0.1:0 -- sh -c "${2-cat >>$1.raw}"
	AT[$1]=$(address "$1.json" raw)
}

# same FILE BYTES: sooner or later FILE is, byte for byte, what the file BYTES is.
same() {
	eventually cmp -s "$1" "$2" || {
		cmp "$1" "$2"
		return 1
	}
}

# as_commands NAME ID: the messages that NAME has shown, as commands that send the same to ID.
as_commands() {
	if grep -q '^{' "$1.out"; then
		jq -r --arg to "$2" 'select(.event == "message") | "send \($to) \(.type) " +
			if has("base64") then "base64:" + .base64 elif has("file") then "file:" + .file
			else "text:" + (.text | gsub("%"; "%25") | gsub(" "; "%20")) end' "$1.out"
	else
		sed -n -E "s/^message [^ ]+ ([^ ]+) [0-9]+ ?/send $2 \\1 /p" "$1.out"
	fi
}

# passed_on NAME N FILE: the N messages that NAME has shown, sent once more by a node of the id n0, are FILE byte for byte.
passed_on() {
	eventually has_messages "$1" "$2"
	receiver "to_$1"
	NODE_ID[from_$1]=n0
	caller "from_$1" --peer "r=${AT[to_$1]}"
	as_commands "$1" r | orders "from_$1"
	same "to_$1.raw" "$3"
}

has_messages() {
	[ "$(grep -c -E '^(message |\{"event":"message")' "$1.out")" = "$2" ]
}

# says NAME PATTERN: a line of its log.
says() {
	await_line "$1.log" "$2"
}

# xx HEX: these bytes.
xx() {
	# shellcheck disable=SC2001	# bats sees each turn of a loop here, which takes long
	printf %b "$(sed 's/../\\x&/g' <<<"$1")"
}

# le N...: each as a u64 of the wire, in hexadecimal.
le() {
	local n h

	for n; do
		printf -v h %016x "$n"
		printf %s "${h:14:2}${h:12:2}${h:10:2}${h:8:2}${h:6:2}${h:4:2}${h:2:2}${h:0:2}"
	done
}

# hex TEXT
hex() {
	printf %s "$1" | od -An -v -tx1 | tr -d ' \n'
}

# frame SENDER TYPE TEXT: in hexadecimal.
frame() {
	local n

	n=$(le $((16 + ${#1} + ${#3})))
	echo "${n:0:8}$(le "$2" ${#1})$(hex "$1$3")"
}

# say NAME HEX...: on a connection of its own to NAME; FD is left open.
say() {
	exec {FD}<>"/dev/tcp/${AT[$1]/://}"
	xx "$(printf %s "${@:2}")" >&"$FD"
}

# cut_off: the connection of say is reset; hung_up: we end, and then the other side.
cut_off() {
	run ! timeout "$LIMIT" cat <&"$FD"
	exec {FD}>&-
}

# xxtext: lines of hexadecimal as text, a blank behind each.
xxtext() {
	local line

	while read -r line; do
		xx "$line"
		echo -n ' '
	done
}

stopped() {
	grep -q '^State:[[:space:]]*T' "/proc/$1/status"
}

# --- frames ---

@test "every message of CCF's, every size and every kind of payload comes in and goes out again byte for byte" {
	local all=("${EVERY[@]}" "${SIZES[@]}" "${WORDS[@]}") form

	frames all.bin "${all[@]}"
	for form in text json; do
		mkdir $form.d
		node $form --format $form --save $form.d
	done
	peer one dial "${AT[text]}" "${all[@]}"
	peer other dial "${AT[json]}" rawfile:all.bin
	for form in text json; do
		passed_on $form "${#all[@]}" all.bin
	done
	# And as it is shown, of a sender, a type and a size.
	python3 "$HERE/peer/node.py" decode all.bin | jq -r '"\(.from) \(.type) \(.size)"' | sed 's/ 1735289200 / ping /' >want
	sed -n -E 's/^message (n0 [^ ]+ [0-9]+).*/\1/p' text.out | diff want -
	jq -r 'select(.event == "message") | "\(.from) \(.type) \(.size)"' json.out | diff want -
	ends_with 0 one
	ends_with 0 other
}

@test "the entries of an append_entries are affixed from a file, and arrive as the ledger has them" {
	local range head

	python3 "$HERE/peer/node.py" encode --payload --out ledger entries:3000:1000
	python3 "$HERE/peer/node.py" encode --payload --out head append_entries:idx=20,prev_idx=0,entries=0
	head=$(od -An -v -tx1 head | tr -d ' \n')
	for range in 0,3024000 1008,20160 3023999,1; do
		frames one.bin "append_entries:idx=20,prev_idx=0,file=ledger,$range"
		cat one.bin >>want.bin
	done
	frames one.bin append_entries:idx=20,prev_idx=0,entries=0 "consensus:hex:${head}31202500ff3120" "3:file:ledger,0,10"
	cat one.bin >>want.bin
	receiver r
	caller n0 --peer "r=${AT[r]}"
	order n0 send r consensus "hex:$head" file:ledger
	order n0 send r consensus "hex:${head^^}" file:ledger,1008,20160
	order n0 send r 1 "base64:$(base64 -w0 head)" file:ledger,3023999,1
	order n0 send r consensus_msg file:head file:ledger,3024000,0
	printf '1 %%\0\377' >part
	order n0 send r 0x1 file:head file:part,0,3 hex:00FF text:1%20
	order n0 send r 3 file:ledger,0,10
	same r.raw want.bin
}

@test "a frame of --max-frame bytes is taken, one of a byte more is refused by its prefix alone" {
	node n1 --max-frame 1000
	node big --max-frame 4294967295
	peer one dial "${AT[n1]}" consensus:random:982 raw:e9030000 --then wait --ends reset
	ends_with 0 one
	told n1 'message n0 consensus 982 hex:.*'
	says n1 'node#1 .* closed: protocol, by us, 1008 bytes in, .*: a frame of 1001 bytes, --max-frame is 1000$'
	# Of the largest there is, nothing is kept before it comes.
	peer two dial "${AT[big]}" "raw:ffffffff${HALF:8}"
	ends_with 0 two
	says big 'node#1 .* closed: half-frame, .*: 26 of 4294967299 bytes of a frame$'
	[ -n "${CCF_SAN-}" ] || [ "$(rss_kib big)" -lt 32768 ]
	# And of our own.
	order n1 associate n2 "${AT[big]}"
	order n1 send n2 7 "hex:$(printf '%01966d' 0)"
	order n1 send n2 7 "hex:$(printf '%01964d' 0)"
	told big 'message n1 7 982 hex:0*'
	told n1 'error: send: the frame would be 1001 bytes, --max-frame is 1000: nothing was sent'
}

@test "a stream byte by byte, and many frames in one write, to a node that took the connection and to one that dialled it" {
	local bytes=() byte

	frames few.bin request_vote consensus '100:text:a b' final
	frames many.bin '2000*consensus:random:40'
	cat few.bin many.bin >all.bin
	for byte in $(od -An -v -tx1 few.bin); do
		bytes+=(--send "raw:$byte")
	done
	node took
	peer slow dial "${AT[took]}" rawfile:few.bin --chunk 1
	ends_with 0 slow
	peer fast dial "${AT[took]}" rawfile:many.bin
	passed_on took 2004 all.bin
	peer both listen "${bytes[@]}" --send rawfile:many.bin --quiet
	caller dialled --peer "n0=${AT[both]}"
	order dialled send n0 consensus hello
	passed_on dialled 2004 all.bin
}

@test "an echo sends each payload back as it came, in order, long ones too" {
	local all=(consensus:random:200000 '3*1:random:50' forwarded:random:70000 100:zero:65536 5 consensus:random:1000000 2:text:last)

	node n1 --echo
	frames want.bin "${all[@]}"
	peer asks dial "${AT[n1]}" "${all[@]}" --expect 9
	ends_with 0 asks
	python3 "$HERE/peer/node.py" decode want.bin | jq -c '{type, size, sha256}' >want
	jq -c 'select(.event == "frame") | {type, size, sha256}' asks.out | diff want -
	[ "$(jq -r 'select(.event == "frame").from' asks.out | sort -u)" = n1 ]
}

@test "what is saved has its sender's name and no other file's place, wherever that would lead" {
	mkdir s
	echo mine >s/n0-1
	node n1 --save s --max-event 3
	say n1 "$(frame n0 1 first)" "$(frame n0 1 abc)" "$(frame n0 1 second)"
	told n1 'message n0 consensus 5 file:s/n0-1.2'
	told n1 'message n0 consensus 3 abc'
	told n1 'message n0 consensus 6 file:s/n0-2'
	exec {FD}>&-
	say n1 "$(frame ../../up 1 third)"
	told n1 'message ../../up consensus 5 file:s/%252E%252E%252F%252E%252E%252Fup-1'
	exec {FD}>&-
	[ "$(cat s/n0-1 s/n0-1.2 s/n0-2 s/%2E%2E%2F%2E%2E%2Fup-1)" = "$(printf 'mine\nfirstsecondthird')" ]
}

# --- what is no frame, or not from whom it should be ---

# steady: n1, with --echo, and a link to it on which ten balls go there and back all the time.
# still_steady: and still do; and all that n1 has opened for anybody else is closed.
steady() {
	node n1 --echo
	peer steady dial "${AT[n1]}" --from steady --echo --slow 500 --then stay --quiet consensus:text:ball-{0..9}
	still_steady 0
	BASE=$(fds n1)
}

still_steady() {
	local i mark=${1-$(wc -l <n1.out)}

	for i in {0..9}; do
		eventually ball "$i" "$mark" || return
	done
	[ -n "${1-}" ] || keeps "n1=$BASE"
}

ball() {
	tail -n "+$(($2 + 1))" n1.out | grep -q -x "message steady consensus 6 ball-$1"
}

# verdicts NAME: of each of its connections, why it was closed: one line with its number, in their order.
verdicts() {
	sed -n -E 's/.* node#([0-9]+) [^ ]+ closed: ([a-z-]+),.*/\1 \2/p' "$1.log" | sort -n
}

# judged FILE: sooner or later n1's verdicts, after those of the steady link and of the witness, are those of FILE.
judged() {
	eventually so_judged "$1" || {
		so_judged "$1"
		diff judged "$1"
	}
}

so_judged() {
	verdicts n1 | awk '$1 > 2 { print $2 }' >judged
	cmp -s judged "$1"
}

@test "each malformed message ends its connection, with one line that says why; the others go on" {
	steady
	peer junk junk "${AT[n1]}" --beside witness
	ends_with 0 junk
	jq -r 'if .name == "prefix-0" then "done" else {refused: "protocol", nameless: "protocol", incomplete: "half-frame",
		legal: "done"}[.judgement] end' junk.out >want
	judged want
	still_steady
	# What is in order ends in order, too.
	[ "$(jq -r 'select(.ended == "fin").name' junk.out | tr '\n' ' ')" = "prefix-0 type-100 sender-1-of-4 " ]
	# Why: by name.
	says n1 'node#5 .* half-frame, .*: 2 bytes of a frame$'
	says n1 'node#11 .* protocol, .*: a frame of 4 bytes, its headers alone are 16$'
	says n1 'protocol, .*: a frame without a sender$'
	says n1 'protocol, .*: a sender of 5 bytes in a frame that has room for 4$'
	says n1 'protocol, .*: a sender of 18446744073709551615 bytes in a frame that has room for 100$'
	says n1 'protocol, .*: a sender of 12 bytes in a frame that has room for 4$'
	says n1 'half-frame, .*: 4 of 104 bytes of a frame$'
	says n1 'half-frame, .*: 60 of 124 bytes of a frame$'
	says n1 'protocol, .* 4 bytes in, .*: a frame of 67108865 bytes, --max-frame is 67108864$'
}

@test "a stream that is cut after any of its bytes is a half frame, except where one ends" {
	local stream=('append_entries:entries=1,size=20' request_vote 'response:key_share=aa,signature=bb,cert=cc' consensus:text:last 100)

	steady
	peer cut cut "${AT[n1]}" --beside witness "${stream[@]}"
	ends_with 0 cut
	frames whole.bin "${stream[@]}"
	python3 "$HERE/peer/node.py" decode whole.bin | jq -s --argjson size "$(stat -c %s whole.bin)" -r '
		([0] + [.[] | .offset + .n + 4]) as $ends | range($size + 1) | if IN($ends[]) then "done" else "half-frame" end' >want
	[ "$(grep -c -x "done" want)" = 6 ]
	judged want
	# What was whole before has come; where nothing was cut, the end was in order.
	counted n1 "$(jq .whole cut.out)" 'message n0 .*'
	[ "$(jq .fin cut.out)" = 6 ]
	still_steady
	says n1 'node#4 .* half-frame, .* 1 bytes in, .*: 1 bytes of a frame$'
	says n1 'node#7 .* half-frame, .* 4 bytes in, .*: 4 of 131 bytes of a frame$'
}

@test "a stream that is reset after any of its bytes leaves one line, and nothing behind" {
	steady
	peer cut cut "${AT[n1]}" --end reset append_entries:entries=1,size=20 consensus:text:last
	ends_with 0 cut
	await_line lst_n1.log "node#$(($(jq .connections cut.out) + 1)) .* accepted"
	asked lst_n1 'node: [a-z, ]*, 1 open, '
	still_steady
	verdicts n1 >ends
	[ -z "$(cut -d ' ' -f 1 ends | uniq -d)" ]
	run ! grep -v -E ' (reset|refused)$' ends
	[ "$(wc -l <ends)" = "$(grep -c closed: lst_n1.log)" ]
}

@test "a frame is judged by who sent it; one of a type that nobody knows is delivered" {
	local long most=18446744073709551615

	long=$(printf 'x%.0s' {1..1024})
	node n1
	say n1 "$(frame type 100 one)" "$(frame type $most two)" "$(frame type 1 three)"
	exec {FD}>&-
	counted n1 1 'message type 100 3 one'
	counted n1 1 "message type $most 3 two"
	counted n1 1 'message type consensus 5 three'
	says n1 'node#1 .* closed: done, by peer,'
	# The first one is who it is: another one later on is not delivered, and neither is what comes after.
	say n1 "$(frame one 1 mine)" "$(frame other 1 his)" "$(frame one 1 after)"
	cut_off
	counted n1 1 'message one consensus 4 mine'
	says n1 'node#2 .* closed: protocol, by us, .* status 76: a frame from other on the connection of one$'
	say n1 "$(frame n1 1 self)"
	cut_off
	says n1 'node#3 .* closed: protocol, by us, .* status 76: a frame from n1, which is our own id$'
	say n1 "$(frame n0 1 first)" "$(frame n1 1 self)"
	cut_off
	says n1 'node#4 .* closed: protocol, by us, .* status 76: a frame from n1, which is our own id$'
	say n1 "$(frame '' 1 none)"
	cut_off
	says n1 'node#5 .* closed: protocol, by us, .* status 76: a frame without a sender$'
	say n1 "$(frame "$long" 1 longest)"
	counted n1 1 "message $long consensus 7 longest"
	exec {FD}>&-
	say n1 "$(frame "y$long" 1 longer)"
	cut_off
	says n1 'node#7 .* closed: protocol, by us, .* status 76: a sender of 1025 bytes, 1024 is the most$'
	# Any bytes are an id, and are written as commands take them.
	say n1 "1d000000$(le 1 8)00ff2025223d0a7f$(hex bytes)"
	counted n1 1 'message %00%FF%20%25%22%3D%0A%7F consensus 5 bytes'
	exec {FD}>&-
	counted n1 7 'message .*'
}

# dialled N HEX REASON WHY: who is dialled as pN answers this; then the connection ends so.
dialled() {
	xx "$2" >answer
	order n1 associate "p$1" "${AT[bad]}"
	order n1 send "p$1" consensus hello
	told n1 "link down p$1 out ${AT[bad]} $3 .*: $4"
}

@test "a node that was dialled has to be who was meant, and to speak in frames" {
	node n1
	peer good listen --from good --echo --connections 0 --quiet
	receiver bad 'head -c 27 >/dev/null; cat answer'
	order n1 associate good "${AT[good]}"
	order n1 send good consensus before
	told n1 'message good consensus 6 before'
	order n1 associate self "${AT[n1]}"
	order n1 send self consensus hello
	says n1 'closed: protocol, by us, .*: a frame from n1, which is our own id$'
	told n1 'link down self out .*'
	BASE=$(fds n1)
	dialled 1 "$(frame zz 1 x)" protocol 'a frame from zz on the connection of p1: the address leads to somebody else'
	dialled 2 "$(frame n1 1 x)" protocol 'a frame from n1, which is our own id: the address leads to ourselves'
	dialled 3 "$HALF" protocol 'a frame from n0 on the connection of p3: the address leads to somebody else'
	dialled 4 01000004 protocol 'a frame of 67108865 bytes, --max-frame is 67108864'
	dialled 5 0f000000 protocol 'a frame of 15 bytes, its headers alone are 16'
	dialled 6 100000 half-frame '3 bytes of a frame'
	dialled 7 "${HALF/6e30/7037}" half-frame '26 of 104 bytes of a frame'
	keeps "n1=$BASE"
	order n1 send good consensus after
	told n1 'message good consensus 5 after'
	told_not n1 'message p.*|link down good .*'
}

@test "who does not say whose it is in time is cut, and who has said it is not" {
	local head part none

	node n1 --first-frame-timeout 200ms
	# Stopped: what is written meanwhile is there when it begins to count.
	kill -STOP "${PID[n1]}"
	eventually stopped "${PID[n1]}"
	exec {head}<>"/dev/tcp/${AT[n1]/://}" {part}<>"/dev/tcp/${AT[n1]/://}" {none}<>"/dev/tcp/${AT[n1]/://}"
	xx "$HALF" >&"$head"
	xx "${HALF:0:42}" >&"$part"
	kill -CONT "${PID[n1]}"
	says n1 'node#2 .* closed: first-frame, by us, 21 bytes in, .* status 28: no whole head of a frame came in time'
	says n1 'node#3 .* closed: first-frame, by us, 0 bytes in, .* status 28: no whole head of a frame came in time'
	run ! cat <&"$part"
	run ! cat <&"$none"
	run ! grep 'node#1 .* closed' n1.log
	printf '%078d' 0 >&"$head"
	told n1 'message n0 consensus 82 hex:01020304(30)*'
	exec {head}>&- {part}>&- {none}>&-
	says n1 'node#1 .* closed: done, by peer'
}

# --- what passes ---

# tap NAME ADDRESS [OPTION...]: a tap in front of that one; AT[NAME] is where.
tap() {
	listener_of "$1"
	spawn "$1" ccf-nodelink --tap "$2" --from "$1.hub" "${@:3}"
	listening "$1"
}

# through NAME FILE: a connection to that tap on which the bytes of FILE are said; what is answered goes to standard output.
through() {
	timeout "$LIMIT" ccf-connect "${AT[$1]}" <"$2"
}

# ours FILE: what decode --format json has to say of the frames of this stream, by the independent decoder.
ours() {
	python3 "$HERE/peer/node.py" decode --shown 1M "$1" | jq -S -c '
		.message as $m | .hex as $hex | .size as $size
		| ({append_entries: 57, append_entries_response: 25, append_entries_signed_response: 8, request_vote: 32,
		    request_vote_response: 17, propose_request_vote: 16, request_pre_vote: 32, request_pre_vote_response: 17,
		    forwarded_cmd_v1: 9, forwarded_response_v1: 9, forwarded_cmd_v2: 17, forwarded_response_v2: 17,
		    forwarded_cmd_v3: 25, forwarded_response_v3: 18, init: 16, response: 16, final: 8}[$m // ""] // 0) as $struct
		| ($struct + if .fields.tag then 24 else 0 end) as $said
		| {event, offset, type, from, size, hex: $hex[2 * $said:2 * $said + 128], more: ([$size - $said - 64, 0] | max)}
		+ if $m then {message: ({init: "key_exchange_init", response: "key_exchange_response", final: "key_exchange_final"}[$m] // $m),
			fields: (.fields | if has("success") then .success = (["OK", "FAIL"][.success]) else . end
				| if .entries then (if .behind > 0 then .trailing = .behind else . end)
					| (if .entries != [] then .sizes = .entries else . end) | .entries |= length | del(.flags, .behind)
				else with_entries(if .key | IN("key_share", "signature", "cert", "salt") then .value |= length / 2 else . end) end)}
		else {} end'
}

# in_words: lines of --format json as they are in text.
in_words() {
	jq -r '[.event, (.offset // .conn), .direction, .type, .from, .size, .message,
		((.fields // {}) | to_entries[] | "\(.key)=\(.value | if type == "array" then map(tostring) | join(",") else . end)"),
		(if .got then "got=\(.got)" else null end),
		(if .hex != "" then "hex:" + .hex else null end), (if .more > 0 then "+\(.more)" else null end)] | map(select(. != null) | tostring) | join(" ")'
}

@test "a tap passes every byte unchanged, both ways, be it frames or not, and each end of stream" {
	frames up.bin "${EVERY[@]}" "${SIZES[@]}" '500*consensus:random:100' raw:ffffffff
	head -c 1500000 /dev/urandom >>up.bin
	frames down.bin '3*request_vote' raw:0100000002
	head -c 1500000 /dev/urandom >>down.bin
	# It answers when it has heard all: the end of the one direction is none of the other.
	receiver there 'cat >up.got; cat down.bin'
	tap tap "${AT[there]}"
	through tap up.bin >down.got
	cmp up.bin up.got
	cmp down.bin down.got
	counted tap 526 'frame node#1 in .*'
	counted tap 3 'frame node#1 out consensus n0 56 request_vote .*'
	told tap 'unframed node#1 in got=[0-9]+ hex:ffffffff.*: a frame of 4294967295 bytes, --max-frame is 67108864'
	told tap 'unframed node#1 out got=[0-9]+ hex:0100000002.*: a frame of 1 bytes, its headers alone are 16'
	# All of it is counted as such, and nothing twice.
	eventually unframed in 1500004
	eventually unframed out 1500005
}

unframed() {	# DIRECTION BYTES
	[ "$(sed -n -E "s/^unframed node#1 $1 got=([0-9]+) .*/\1/p" tap.out | awk '{ n += $1 } END { print n }')" = "$2" ]
}

@test "decode shows what an independent decoder finds, as text, as JSON, from a file and from standard input, and the tap the same" {
	local all=(init:cert=aabb response:cert=aabb "${EVERY[@]:2}" append_entries:entries=0 'append_entries:entries=1,size=0' 'append_entries:entries=3,size=90'
		consensus:text:abc forwarded 77 18446744073709551615:random:300 '%00x@propose_request_vote' other@100:hex:00ff)

	frames all.bin "${all[@]}"
	ours all.bin >want
	expect_status 0 ccf-nodelink --format json decode all.bin
	jq -S -c . <<<"$output" | diff want -
	in_words <<<"$output" >words
	expect_status 0 ccf-nodelink decode all.bin
	diff words - <<<"$output"
	expect_status 0 ccf-nodelink decode - <all.bin
	diff words - <<<"$output"
	receiver there
	tap text "${AT[there]}"
	tap json "${AT[there]}" --format json
	through text all.bin
	through json all.bin
	sed -E 's/^frame [0-9]+ /frame node#1 in /' words >want.text
	same text.out want.text
	expect_status 0 ccf-nodelink --format json decode all.bin
	sed -E 's/"offset":[0-9]+/"conn":"node#1","direction":"in"/' <<<"$output" >want.json
	same json.out want.json
}

# shows FRAME... <<LINES: what decode says of them, behind their offsets.
shows() {
	frames shown.bin "$@"
	run ccf-nodelink decode shown.bin
	diff - <(sed -E 's/^([a-z]+) [0-9]+ /\1 /' <<<"$output")
}

GCM=00112233445566778899aabbccddeeff0001000000000000
SEALED='tag=00112233445566778899aabbccddeeff nonce=1'

@test "consensus, channel and forwarded headers stand there by name, with the values that were put in" {
	local most=18446744073709551615
	local ae='idx=12 prev_idx=11 term=2 prev_term=1 leader_commit_idx=10 term_of_idx=2 contains_new_view=1'
	local buffers=0300000000000000aabbcc0200000000000000dddd0100000000000000ee040000000000000001020304

	shows "1:hex:$(le 0 12 11 2 1 10 2)01${GCM}0101030000000000aabbcc0102000000000000" "1:hex:$(le 1 7 $most)00$GCM" \
	    "1:hex:$(le 1 7 8)01$GCM" "1:hex:$(le 1 7 8)02${GCM%000000}00000f" "1:hex:$(le 2)" "1:hex:$(le 3 4 5 6)$GCM" \
	    "1:hex:$(le 4 5)01$GCM" "1:hex:$(le 5 9)$GCM" "1:hex:$(le 6 4 5 6)$GCM" "1:hex:$(le 7 5)00$GCM" <<-END
		frame consensus n0 100 append_entries $ae $SEALED entries=2 sizes=3,0 hex:0101030000000000aabbcc0102000000000000
		frame consensus n0 49 append_entries_response term=7 last_log_idx=$most success=OK $SEALED
		frame consensus n0 49 append_entries_response term=7 last_log_idx=8 success=FAIL $SEALED
		frame consensus n0 49 append_entries_response term=7 last_log_idx=8 success=2 ${SEALED%1}4222124650659841
		frame consensus n0 8 append_entries_signed_response
		frame consensus n0 56 request_vote term=4 last_committable_idx=5 term_of_last_committable_idx=6 $SEALED
		frame consensus n0 41 request_vote_response term=5 granted=1 $SEALED
		frame consensus n0 40 propose_request_vote term=9 $SEALED
		frame consensus n0 56 request_pre_vote term=4 last_committable_idx=5 term_of_last_committable_idx=6 $SEALED
		frame consensus n0 41 request_pre_vote_response term=5 granted=0 $SEALED
	END
	shows "0:hex:$(le 0 1)$buffers" "0:hex:$(le 1 1)${buffers%04*04}" "0:hex:$(le 2 4)01020304" \
	    "2:hex:$(le 0)00${GCM}aa" "2:hex:$(le 1)00${GCM}" "2:hex:$(le 2)00$(le 42)$GCM" "2:hex:$(le 3)01$(le 42)$GCM" \
	    "2:hex:$(le 4)00$(le 42 3)${GCM}0102" "2:hex:$(le 5)00$(le 42)01$GCM" <<-END
		frame channel n0 58 key_exchange_init version=1 key_share=3 signature=2 cert=1 salt=4 hex:$buffers
		frame channel n0 46 key_exchange_response version=1 key_share=3 signature=2 cert=1 hex:${buffers%04*04}
		frame channel n0 20 key_exchange_final signature=4 hex:040000000000000001020304
		frame forwarded n0 34 forwarded_cmd_v1 frame_format=0 $SEALED hex:aa
		frame forwarded n0 33 forwarded_response_v1 frame_format=0 $SEALED
		frame forwarded n0 41 forwarded_cmd_v2 frame_format=0 command_id=42 $SEALED
		frame forwarded n0 41 forwarded_response_v2 frame_format=1 command_id=42 $SEALED
		frame forwarded n0 51 forwarded_cmd_v3 frame_format=0 command_id=42 active_view=3 $SEALED hex:0102
		frame forwarded n0 42 forwarded_response_v3 frame_format=0 command_id=42 terminate_session=1 $SEALED
	END
}

@test "what cannot be understood is shown as what it is" {
	local head zero most=18446744073709551615
	local ae="append_entries idx=1 prev_idx=1 term=1 prev_term=1 leader_commit_idx=1 term_of_idx=1 contains_new_view=0 $SEALED"

	head=$(le 0 1 1 1 1 1 1)00$GCM
	zero=$(printf '%0128d' 0)
	shows "77:hex:0102" 1 1:hex:030000 "1:hex:$(le 99 1)" "1:hex:$(le 0 12)aabb" "1:hex:$(le 1 7)" "1:hex:$head$(le 65537)" \
	    "1:hex:${head}02" "1:hex:$head$(le 2)" "1:hex:$(le 5 9)${GCM/0001/0901}" "0:hex:$(le 0)" "0:hex:$(le 2 5)01020304" \
	    "0:hex:$(le 2 1)010203" "0:hex:$(le 2 0)" "0:hex:$(le 2 $most)" "2:hex:$(le 5)" "2:hex:$(le 6)" %00%20%3D%C3@2:text:x \
	    0:zero:72 9:zero:600 "1:hex:$head$(le 65536001)$(printf '%02000d' 0)" "0:hex:$(le 2 600)$(printf '%01200d' 0)" <<-END
		frame 77 n0 2 hex:0102
		frame consensus n0 0
		frame consensus n0 3 hex:030000
		frame consensus n0 16 hex:63000000000000000100000000000000
		frame consensus n0 18 append_entries idx=12 short=6 hex:aabb
		frame consensus n0 16 append_entries_response term=7 short=8
		frame consensus n0 89 $ae entries=0 trailing=8 hex:0100010000000000
		frame consensus n0 82 $ae entries=0 trailing=1 hex:02
		frame consensus n0 89 $ae entries=0 trailing=8 hex:0200000000000000
		frame consensus n0 40 propose_request_vote term=9 ${SEALED%nonce*}iv0=9 nonce=1
		frame channel n0 8 key_exchange_init short=8
		frame channel n0 20 key_exchange_final signature=5 short=1 hex:050000000000000001020304
		frame channel n0 19 key_exchange_final signature=1 trailing=2 hex:0100000000000000010203
		frame channel n0 16 key_exchange_final signature=0 hex:0000000000000000
		frame channel n0 16 key_exchange_final signature=$most short=$most hex:ffffffffffffffff
		frame forwarded n0 8 forwarded_response_v3 short=1
		frame forwarded n0 8 hex:0600000000000000
		frame forwarded %00%20%3D%C3 1 hex:78
		frame channel n0 72 key_exchange_init version=0 key_share=0 signature=0 cert=0 salt=0 trailing=24 hex:${zero:16:112}
		frame 9 n0 600 hex:$zero +536
		frame consensus n0 1089 $ae entries=1 sizes=1000 hex:0100e80300000000${zero:16} +944
		frame channel n0 616 key_exchange_final signature=600 hex:5802000000000000${zero:16} +544
	END
}

@test "where a stream ends within a frame, or goes on without one, that is said, and decode's status says it" {
	local size ends

	frames two.bin consensus:text:abc "p@1:hex:$(le 5 9)"
	receiver there
	tap tap "${AT[there]}"
	tap json "${AT[there]}" --format json
	# After each of its bytes.
	for size in $(seq 0 "$(stat -c %s two.bin)"); do
		head -c "$size" two.bin >cut.bin
		ends=18
		case $size in 0 | 25 | 62) ends=0 ;; esac
		ended=0
		ccf-nodelink decode cut.bin >>all.out || ended=$?
		[ "$ended" = "$ends" ]
	done
	[ "$(grep -c '^cut 0 ' all.out)" = 24 ]
	[ "$(grep -c '^cut 25 ' all.out)" = 36 ]
	[ "$(grep -c '^frame ' all.out)" = 39 ]
	grep -q -x 'cut 0 got=3 hex:150000' all.out
	grep -q -x 'cut 0 got=21 of=25 hex:15000000010000000000000002000000000000006e' all.out
	grep -q -x 'cut 0 consensus n0 3 got=0' all.out
	grep -q -x 'cut 0 consensus n0 3 got=2 hex:6162' all.out
	grep -q -x 'cut 25 consensus p 16 got=12 propose_request_vote unseen=4 hex:09000000' all.out
	# The tap says the same, and passes it on as it is.
	head -c 58 two.bin >cut.bin
	through tap cut.bin
	through json cut.bin
	told tap 'cut node#1 in consensus p 16 got=12 propose_request_vote unseen=4 hex:09000000'
	told_json json '. == {event: "cut", conn: "node#1", direction: "in", type: "consensus", from: "p", size: 16, got: 12,
		message: "propose_request_vote", fields: {unseen: 4}, hex: "09000000", more: 0}'
	cat cut.bin cut.bin >both.bin
	same there.raw both.bin
	# What is no frame.
	xx 0f00000041 >>one.bin
	expect_status 76 ccf-nodelink decode one.bin
	[ "$output" = 'unframed 0 got=5 hex:0f00000041: a frame of 15 bytes, its headers alone are 16' ]
	expect_status 76 ccf-nodelink --format json decode - <one.bin
	jq -e '.event == "unframed" and .offset == 0 and .got == 5 and .why == "a frame of 15 bytes, its headers alone are 16"' <<<"$output"
	expect_status 76 ccf-nodelink --max-frame 32 decode two.bin
	[[ $output == *$'\nunframed 25 got=37 hex:'*': a frame of 33 bytes, --max-frame is 32' ]]
	cat two.bin one.bin >three.bin
	expect_status 76 ccf-nodelink decode three.bin
	[ "$(grep -c '^frame ' <<<"$output")" = 2 ]
	[[ $output == *$'\nunframed 62 got=5 '* ]]
}

@test "decode says what it cannot read or write" {
	: >empty
	expect_status 0 ccf-nodelink decode empty
	[ -z "$output" ]
	expect_status 1 ccf-nodelink decode nowhere
	[[ $output == *'cannot open nowhere: No such file or directory' ]]
	expect_status 1 ccf-nodelink decode .
	[[ $output == *'cannot read .: Is a directory' ]]
	frames one.bin request_vote
	expect_status 23 sh -c 'ccf-nodelink decode one.bin >/dev/full'
	[[ $output == *'cannot write to standard output: No space left on device' ]]
	expect_status 2 ccf-nodelink decode
	expect_status 2 ccf-nodelink decode one.bin one.bin
	expect_status 2 ccf-nodelink --id n0 decode one.bin
}

@test "ends and resets pass through a tap as they are" {
	local fd n

	# The side that was dialled ends first, and is still heard.
	peer half listen --after 0:half-close
	tap to_half "${AT[half]}"
	exec {fd}<>"/dev/tcp/${AT[to_half]/://}"
	[ -z "$(timeout "$LIMIT" cat <&"$fd")" ]
	xx "${HALF:0:42}30$(printf '%0164d' 0)" >&"$fd"
	shown half '.event == "frame" and .size == 82'
	exec {fd}>&-
	ends_with 0 half
	shown half '.event == "end" and .how == "fin"'
	told to_half 'frame node#1 in consensus n0 82 .*'
	says to_half 'node#1 .* closed: done, '
	# A reset by who dialled, by who was dialled, and of what it lies between in mid-frame.
	peer victim listen --answer 100
	tap to_victim "${AT[victim]}"
	peer resets dial "${AT[to_victim]}" request_vote "raw:$HALF" --expect 1 --then reset
	shown victim '.event == "end" and .how == "reset"'
	told to_victim 'cut node#1 in consensus n0 82 got=4 .*'
	says to_victim 'node#1 .* closed: reset, '
	peer culprit listen --after 1:reset
	tap to_culprit "${AT[culprit]}"
	peer suffers dial "${AT[to_culprit]}" request_vote --then wait --ends reset
	ends_with 0 suffers
	says to_culprit 'node#1 .* closed: reset, '
	# Nobody there: the client is told, and the tap goes on.
	tap to_nobody unix:nobody
	for n in 1 2; do
		run ! through to_nobody /dev/null
		says to_nobody "node#$n .* closed: refused, "
	done
	asked to_nobody ' 0 connections, 1 sources open'
	stop to_nobody
	[ "$ended" = 0 ]
}

# shut_out ADDRESS: a connection to it waits to send: nobody reads what has been sent, and the window is shut.
shut_out() {
	awk -v port="$(printf %04X "${1##*:}")" '$3 ~ ":" port "$" && $6 ~ /^04:/ { found = 1 } END { exit !found }' /proc/net/tcp
}

@test "while nobody reads its lines a tap reads nothing, and none is lost" {
	local fd n=60000

	frames many.bin "$n*consensus:random:40"
	receiver there
	mkfifo tap.out
	exec {fd}<>tap.out
	tap tap "${AT[there]}"
	SPAWN_IN=many.bin spawn writer ccf-connect "${AT[tap]}"
	eventually shut_out "${AT[tap]}"
	[ "$(stat -c %s there.raw)" -lt 3000000 ]
	SPAWN_IN=tap.out SPAWN_OUT=lines spawn reader cat
	exec {fd}>&-
	ends_with 0 writer
	cmp many.bin there.raw
	stop tap
	ends_with 0 reader
	[ "$(wc -l <lines)" = "$n" ]
	ccf-nodelink decode many.bin | sed -E 's/^frame [0-9]+ /frame node#1 in /' | cmp - lines
}

# --- programs ---

# program NAME NODE [OPTION...]: node.py app at NODE's --app socket; what it says is in NAME.out.
program() {
	peer "$1" app "$2.app" "${@:3}"
}

# attached NODE N: so many programs have been let in there.
attached() {
	says "$1" "program $2 \\(user [0-9]+\\) attached"
}

# pair [OPTION...]: the nodes a and b, each of which wants programs, and knows where the other one is.
# met: they have them, and so they listen.  begin PROGRAM...: these send (--when-told).
pair() {
	listener_of a
	listener_of b
	node_of a --app a.app --peer "b=${AT[b]}" "$@"
	node_of b --app b.app --peer "a=${AT[a]}" "$@"
}

met() {
	listening a
	listening b
}

begin() {
	local name

	for name; do
		kill -USR1 "${PID[$name]}"
	done
}

# got NAME FROM N: it has said that a program of FROM sent it N messages, none of which was lost, came twice or late.
got() {
	shown "$1" '.event == "received" and .from == $from and .messages == $n and .lost == 0 and .twice == 0 and .late == 0' \
	    --arg from "$2" --argjson n "$3"
}

# all_arrived NODE N: of N messages that were sent, and of as many that came, as it tells now.
all_arrived() {
	settled "$1"
	links "$1" | grep -E " sent=$2 delivered=$2 dropped=0 unknown=0 waiting=0 resent=0 received=${3-$2}\$"
}

@test "programs at two nodes send each other 20,000 messages at the same time: all arrive, in order" {
	pair
	program one a --size 20:600 --send b:20000 --receive b:20000 --when-told
	program other b --size 20:600 --send a:20000 --receive a:20000 --when-told
	met
	begin one other
	ends_with 0 one 60
	ends_with 0 other 60
	got one b 20000
	got other a 20000
	all_arrived a 20000
	all_arrived b 20000
	# Messages are for programs alone.
	told_not a 'message .*'
	told_not b 'message .*'
}

@test "every program hears everything, and all of several may send" {
	pair
	program hears1 b --until-end --receive a:1
	program hears2 b --until-end --receive a:1
	program answers b --receive a:300 --send a:300 --when-told
	program sends1 a --size 10:5000 --send b:300 --receive b:300 --when-told
	program sends2 a --size 10:5000 --send b:300 --receive b:300 --when-told
	attached a 2
	attached b 3
	met
	begin answers sends1 sends2
	ends_with 0 sends1
	ends_with 0 sends2
	ends_with 0 answers
	all_arrived a 600 300
	# At the drain each gets what is for it, and then the end.
	stop b
	for name in hears1 hears2; do
		ends_with 0 "$name"
		got "$name" a 300
		[ "$(grep -c '"event":"received"' "$name.out")" = 2 ]
		shown "$name" '.event == "end" and .how == "fin" and .partial == 0'
	done
	got sends1 b 300
	got sends2 b 300
	says a 'program [12] .* detached: it closed; messages: 300 in, 300 out$'
	run ! grep ' lost' a.log
}

@test "what a program sends has the sender that it says it has, if that is us, or none and then ours" {
	receiver r
	caller a --app a.app --peer "r=${AT[r]}"
	frames want.bin consensus:text:named 9 consensus:text:nameless @consensus:hex: --from a
	frames want.bin --from a consensus:text:named 9 consensus:text:nameless 2:zero:100000
	program good a --from a --to r consensus:text:named @9 @consensus:text:nameless @2:zero:100000
	ends_with 0 good
	same r.raw want.bin
	program other a --to r zz@consensus:text:forged
	says a 'program 2 \(user [0-9]+\) detached: a frame of sender zz, but we are a; messages: 0 in, 0 out'
	program nobody a --from a --to nobody consensus:text:lost
	ends_with 0 nobody
	told a 'dropped nobody 1 unknown-peer: its address is not known: say associate or --peer'
	told_not a 'message .*'
	cmp r.raw want.bin
}

# raw_program FILE: these bytes are what a program says, before it ends its direction; it goes on until the node has ended.
raw_program() {
	timeout "$LIMIT" ccf-connect unix:a.app <"$1"
}

# malformed N HEX WHY: the Nth program says that.
malformed() {
	xx "$2" >bad
	run raw_program bad
	says a "program $1 .* detached: $3; messages: 0 in, 0 out"
}

@test "a program that breaks the form ends alone, with a line that says why" {
	local base to

	to=$(le 1)$(hex r)
	receiver r
	caller a --app a.app --peer "r=${AT[r]}" --max-frame 1000
	program good a --until-end --others
	attached a 1
	base=$(fds a)
	malformed 2 "$(le 0)" 'a frame without a destination'
	malformed 3 "$(le 1025)" 'a destination of 1025 bytes, 1024 is the most'
	malformed 4 "$(le 18446744073709551615)" 'a destination of 18446744073709551615 bytes, 1024 is the most'
	malformed 5 "${to}e9030000" 'a frame of 1001 bytes, --max-frame is 1000'
	malformed 6 "${to}0f000000" 'a frame of 15 bytes, its headers alone are 16'
	malformed 7 "${to}11000000$(le 1 2)" 'a sender of 2 bytes in a frame that has room for 1'
	malformed 8 "$to$(frame b 1 '')" 'a frame of sender b, but we are a'
	malformed 9 "${to}e8030000$(le 1 0)" 'with our id a frame of 1001 bytes, --max-frame is 1000'
	keeps "a=$base"
	xx "$to$(frame a 1 whole)" >last.bin
	program last a rawfile:last.bin
	ends_with 0 last
	xx "$(frame a 1 whole)" >want.bin
	same r.raw want.bin
	run ! grep 'program 1 .* detached' a.log
}

@test "a program that ends within a frame ends alone, and nothing of that frame goes anywhere" {
	local base size n=1 whole of

	receiver r
	caller a --app a.app --peer "r=${AT[r]}"
	program good a --until-end --others
	attached a 1
	base=$(fds a)
	whole=$(le 1)$(hex r)$(frame a 1 cut)
	for size in 1 9 13 25 32; do
		of=33
		[ $size -ge 13 ] || of='its head'
		malformed $((n += 1)) "${whole:0:2 * size}" "it ended within a frame, $size bytes of $of"
	done
	keeps "a=$base"
	xx "$whole" >last.bin
	program last a rawfile:last.bin
	ends_with 0 last
	says a 'program 7 .* detached: it closed; messages: 1 in, 0 out$'
	xx "${whole:18}" >want.bin
	same r.raw want.bin
	run ! grep 'program 1 .* detached' a.log
}

@test "a program that does not read holds up all the others; when it reads, or goes, nobody else has lost anything" {
	pair --user-timeout none
	program fast b --receive a:1500 --until-end
	program slow b --receive a:1500 --until-end --after 1:stop
	program dies b --receive a:1500 --until-end --after 1:stop
	attached b 3
	program reads a --until-end --others
	met
	program sends a --size 16000 --send b:1500
	# What nobody takes is not read: the window is shut.
	eventually shut_out "${AT[b]}"
	kill -KILL "${PID[dies]}"
	says b 'program [123] .* detached: it closed.*, [0-9]+ lost'
	links b >held
	grep 'peer a .* received=' held
	run ! grep ' received=1500$' held
	begin slow
	ends_with 0 sends
	all_arrived a 1500 0
	stop b
	got fast a 1500
	got slow a 1500
}

@test "a program that sends to a full queue waits, and one that sends to somebody else does not" {
	receiver r
	peer stops listen --after 1:stop --quiet
	caller a --app a.app --user-timeout none --max-queue 1M --peer "r=${AT[r]}" --peer "stops=${AT[stops]}"
	program waits a --from a --size 16000 --send stops:1000
	eventually shut_out "${AT[stops]}"
	program goes a --from a --to r '500*consensus:random:1000'
	ends_with 0 goes
	frames want.bin --from a '500*consensus:random:1000'
	same r.raw want.bin
	run ! grep -q sent waits.out
	begin stops
	ends_with 0 waits
	settled a
	links a | grep 'peer stops .* sent=1000 delivered=1000 '
}

@test "payloads too long for memory cross between programs by way of files that nobody sees, in order with the others" {
	local base

	mkdir spool
	TMPDIR=$PWD/spool pair
	program one a --size 20:200k --send b:120 --receive b:120 --when-told
	program other b --size 20:200k --send a:120 --receive a:120 --when-told
	attached a 1
	attached b 1
	base=$(fds a)
	met
	begin one other
	ends_with 0 one
	ends_with 0 other
	got one b 120
	got other a 120
	all_arrived a 120
	all_arrived b 120
	# The program has gone, and a connection has come.
	keeps "a=$base"
	[ -z "$(ls spool)" ]
}

@test "a payload that cannot be kept is lost with a line that says so, and the others are not" {
	TMPDIR=$PWD/nowhere pair
	program hears b --print --expect 2 --shown 0
	program sends a --from a --to b consensus:text:before 2:zero:100000 consensus:text:after --when-told
	met
	begin sends
	ends_with 0 sends
	ends_with 0 hears
	jq -s -e '[.[] | select(.event == "frame").size] == [6, 5]' hears.out
	says a 'warn: --app a.app: a message from program 1 was dropped: No such file or directory$'
}

@test "while no program is there nothing is taken, and nothing is lost" {
	local i

	listener_of b
	node_of b --app b.app
	caller c --peer "b=${AT[b]}" --retry 1000 --retry-delay 20ms --retry-max 50ms --user-timeout none
	for i in 1 2 3; do
		order c send b consensus early "$i"
	done
	says c 'cannot connect to .*: Connection refused'
	links c | grep 'peer b .* sent=3 delivered=0 dropped=0 unknown=0 waiting=3 '
	program one b --expect 3 --print
	ends_with 0 one
	[ "$(jq -r 'select(.event == "frame").hex' one.out | xxtext)" = 'early 1 early 2 early 3 ' ]
	says b 'program 1 .* detached: it closed; messages: 0 in, 3 out'
	# The connection is there, and is not read.
	for i in 1 2 3 4 5; do
		order c send b consensus later "$i"
	done
	settled c
	links b | grep 'peer c .* received=3$'
	program two b --expect 5 --print
	ends_with 0 two
	[ "$(jq -r 'select(.event == "frame").hex' two.out | xxtext)" = 'later 1 later 2 later 3 later 4 later 5 ' ]
	links c | grep 'peer b .* sent=8 delivered=8 dropped=0 unknown=0 waiting=0 '
}

@test "the socket of a node that was killed is taken over, one that is in use is not, and at its end there is none" {
	caller a --app a.app
	[ "$(stat -c '%F %a' a.app)" = "socket 600" ]
	once 45 --app a.app
	[[ $output == *'--app a.app: cannot bind it: somebody listens there' ]]
	stop a KILL
	[ -S a.app ]
	caller a --app a.app --socket-mode 0620
	[ "$(stat -c %a a.app)" = 620 ]
	program works a
	ends_with 0 works
	stop a
	[ "$ended" = 0 ]
	[ ! -e a.app ]
	echo mine >a.app
	once 45 --app a.app
	[[ $output == *'--app a.app: cannot bind it: another kind of file is there' ]]
	[ "$(cat a.app)" = mine ]
	once 45 --app nowhere/a.app
}

# bats test_tags=root
@test "a program of another user is let in if --peer-user says so, and told apart if not" {
	requires root
	shared_dir
	cp "$HERE/peer/node.py" .
	caller a --app a.app --socket-mode 0666
	caller b --app b.app --socket-mode 0666 --peer-user "${CCF_UID:-65534}"
	spawn stranger "${AS_USER[@]}" python3 node.py app a.app --until-end
	ends_with 0 stranger
	says a "user ${CCF_UID:-65534} may not \\(--peer-user\\)"
	shown stranger '.event == "end"'
	spawn friend "${AS_USER[@]}" python3 node.py app b.app
	ends_with 0 friend
	says b "program 1 \\(user ${CCF_UID:-65534}\\) attached"
	program own a
	ends_with 0 own
	says a 'program 1 \(user 0\) attached'
}
