# nodelink - ccf-nodelink as one meets it at a shell: commands, events, files, statuses, signals, descriptors.
#
# (who runs this makes no difference)

load helpers
load clients
load control
load nodes

PORT_1=127.0.0.1:1	# nobody listens there

# messages NAME: what has come, as its events say it, without their first word.
messages() {
	sed -n 's/^message //p' "$1.out"
}

# has_messages NAME LINE...: these and no others, sooner or later.
has_messages() {
	printf '%s\n' "${@:2}" >"$1.want"
	eventually same_messages "$1" || {
		diff "$1.want" <(messages "$1") || :
		return 1
	}
}

same_messages() {
	messages "$1" | cmp -s - "$1.want"
}

# says PATTERN: a whole line of $output matches.
says() {
	grep -q -x -E -e "$1" <<<"$output" || {
		echo "no line matches: $1"
		echo "$output"
		return 1
	}
}

# is_ndjson FILE: every line is one JSON object.
is_ndjson() {
	jq -R -e -n '[inputs | fromjson | type == "object"] | length > 0 and all' "$1" >/dev/null
}

# stands_still NAME: nothing has been written on its connections since it was asked last.
stands_still() {
	local before=${WRITTEN-}

	answers 200 "$1" GET /connections
	WRITTEN=$(jq '[.[].out] | add' "$1.body")
	[ "$WRITTEN" = "$before" ] && [ "$WRITTEN" -gt 0 ]
}

# --- commands and events ---

# happens NAME EVENT [WORD...]: such an event, in either form, sooner or later.
happens() {
	local text="$2" json="\\{\"event\":\"$2\"" word

	for word in "${@:3}"; do
		text+=" $word"
		json+=".*\"$word\""
	done
	told "$1" "$text([ :].*)?|$json.*"
}

# scene FORMAT: every command, and every event there is without a fault; FORMAT.said is what the node says (but to `links`, which
# is in FORMAT.links) and FORMAT.other what the other one does, ports and times put out.
scene() {
	local addresses="s/127.0.0.1:[0-9]{2,}/ADDRESS/" times='s/("?ms"?[=:])[0-9]+\.[0-9]{3}/\1TIME/'

	node n1 --echo --format "$1"
	caller n0 --format "$1" --max-event 20
	orders n0 <<-END
		frobnicate
		send ghost consensus good morning
	END
	happens n0 dropped ghost
	order n0 ping ghost
	happens n0 'no pong' ghost
	orders n0 <<-END
		associate n1 ${AT[n1]}
		send n1 consensus good morning
		send n1 7 base64:AP8=
		send n1 forwarded xxxxxxxxxxxxxxxxxxxxx
	END
	happens n0 message n1 forwarded
	order n0 ping n1
	happens n0 pong n1
	order n0 close n1
	happens n0 'link down' n1
	order n0 associate n1 "$PORT_1"
	order n0 send n1 channel
	happens n0 dropped n1
	order n0 links
	happens n0 links
	happens n1 'link down' n0
	grep -E '^(peer|links) |"event":"(peer|links)"' n0.out >"$1.links"
	grep -v -F -x -f "$1.links" n0.out | sed -E -e "$addresses" -e "$times" >"$1.said"
	sed -E "$addresses" n1.out >"$1.other"
}

@test "every command, and what it tells, as words" {
	scene text
	cat >want <<-'END'
		error: "frobnicate" is no command: write associate, send, close, ping or links
		dropped ghost 1 unknown-peer: its address is not known: say associate or --peer
		dropped ghost 1 unknown-peer: its address is not known: say associate or --peer
		no pong ghost: its address is not known: say associate or --peer
		link up n1 out ADDRESS
		message n1 consensus 12 good morning
		message n1 7 2 hex:00ff
		message n1 forwarded 21 -
		pong n1 ms=TIME
		link down n1 out ADDRESS closed delivered=4 dropped=0 unknown=0 kept=0
		dropped n1 1 refused: cannot connect to 127.0.0.1:1: Connection refused
	END
	diff want text.said
	diff - text.links <<-'END'
		peer n1 down address=127.0.0.1:1 sent=5 delivered=4 dropped=1 unknown=0 waiting=0 resent=0 received=4
		links 1
	END
	diff <(grep -v '^message n0 ping ' text.other) - <<-'END'
		link up n0 in ADDRESS
		message n0 consensus 12 good morning
		message n0 7 2 hex:00ff
		message n0 forwarded 21 xxxxxxxxxxxxxxxxxxxxx
		link down n0 in ADDRESS done delivered=4 dropped=0 unknown=0 kept=0
	END
}

@test "every command, and what it tells, as JSON, an object a line" {
	scene json
	cat >want <<-'END'
		{"event":"error","error":"\"frobnicate\" is no command: write associate, send, close, ping or links"}
		{"event":"dropped","peer":"ghost","count":1,"reason":"unknown-peer","why":"its address is not known: say associate or --peer"}
		{"event":"dropped","peer":"ghost","count":1,"reason":"unknown-peer","why":"its address is not known: say associate or --peer"}
		{"event":"no pong","peer":"ghost","why":"its address is not known: say associate or --peer"}
		{"event":"link up","peer":"n1","direction":"out","address":"ADDRESS"}
		{"event":"message","from":"n1","type":"consensus","size":12,"text":"good morning"}
		{"event":"message","from":"n1","type":"7","size":2,"base64":"AP8="}
		{"event":"message","from":"n1","type":"forwarded","size":21,"file":null}
		{"event":"pong","peer":"n1","ms":TIME}
		{"event":"link down","peer":"n1","direction":"out","address":"ADDRESS","reason":"closed","delivered":4,"dropped":0,"unknown":0,"kept":0}
		{"event":"dropped","peer":"n1","count":1,"reason":"refused","why":"cannot connect to 127.0.0.1:1: Connection refused"}
	END
	diff want json.said
	diff - json.links <<-'END'
		{"event":"peer","peer":"n1","state":"down","address":"127.0.0.1:1","sent":5,"delivered":4,"dropped":1,"unknown":0,"waiting":0,"resent":0,"received":4}
		{"event":"links","count":1}
	END
	diff <(grep -v '"type":"ping"' json.other) - <<-'END'
		{"event":"link up","peer":"n0","direction":"in","address":"ADDRESS"}
		{"event":"message","from":"n0","type":"consensus","size":12,"text":"good morning"}
		{"event":"message","from":"n0","type":"7","size":2,"base64":"AP8="}
		{"event":"message","from":"n0","type":"forwarded","size":21,"text":"xxxxxxxxxxxxxxxxxxxxx"}
		{"event":"link down","peer":"n0","direction":"in","address":"ADDRESS","reason":"done","delivered":4,"dropped":0,"unknown":0,"kept":0}
	END
	is_ndjson n0.out
	is_ndjson n1.out
}

# --- payloads ---

# One a line: what is sent, behind "send ID ", and how both forms show it.
forms() {
	sed 's/^\t*//' <<-'END'
		consensus plain text as it stands|consensus 23 plain text as it stands|"consensus",23,"text","plain text as it stands"
		consensus  between  spaces |consensus 17  between  spaces |"consensus",17,"text"," between  spaces "
		channel|channel 0 |"channel",0,"text",""
		channel |channel 0 |"channel",0,"text",""
		channel text:|channel 0 |"channel",0,"text",""
		forwarded text:a%20b%25|forwarded 4 a b%|"forwarded",4,"text","a b%"
		consensus_msg hex:00fF|consensus 2 hex:00ff|"consensus",2,"base64","AP8="
		channel_msg base64:AP8=|channel 2 hex:00ff|"channel",2,"base64","AP8="
		forwarded_msg base64:AP8|forwarded 2 hex:00ff|"forwarded",2,"base64","AP8="
		18446744073709551615 text:x hex:79 base64:eg|18446744073709551615 3 xyz|"18446744073709551615",3,"text","xyz"
		0x64 text:hex%3A00|100 6 hex:6865783a3030|"100",6,"text","hex:00"
		ping x|ping 1 x|"ping",1,"text","x"
		0 "quoted" \n %41|channel 15 "quoted" \n %41|"channel",15,"text","\"quoted\" \\n %41"
		1 caf\xc3\xa9|consensus 5 hex:636166c3a9|"consensus",5,"text","café"
		1 \xff\xfe|consensus 2 hex:fffe|"consensus",2,"base64","//4="
		1 a\tb|consensus 3 hex:610962|"consensus",3,"base64","YQli"
		1 a\r|consensus 2 hex:610d|"consensus",2,"base64","YQ0="
		1 text:a\r|consensus 1 a|"consensus",1,"text","a"
		1 hex:2f file:part file:part,1,2 file:part,3,0|consensus 6 /xyzyz|"consensus",6,"text","/xyzyz"
		1 file:a%20b%25%2C1%2C2|consensus 1 q|"consensus",1,"text","q"
	END
}

@test "every form of a payload arrives as the bytes it says, and what is shown of it can be sent again" {
	printf xyz >part
	printf q >'a b%,1,2'
	node n1
	node n2 --format json
	forms | cut -d '|' -f 1 | sed 's/\\xc3\\xa9/\xc3\xa9/; s/\\xff\\xfe/\xff\xfe/; s/a\\t/a\t/; s/a\\r/a\r/' >sent
	once 0 --peer "n1=${AT[n1]}" --peer "n2=${AT[n2]}" < <(sed 's/^/send n1 /' sent; sed 's/^/send n2 /' sent)
	mapfile -t want < <(forms | cut -d '|' -f 2)
	has_messages n1 "${want[@]/#/n0 }"
	told_json n2 '.event == "link down"'
	diff <(forms | cut -d '|' -f 3) <(jq -r 'select(.event == "message") |
	    [.type, .size, (keys_unsorted[4], .[keys_unsorted[4]])] | map(tojson) | join(",")' n2.out)
	messages n1 | sed -E 's/^n0 ([^ ]*) [0-9]* /send n1 \1 /' >again
	once 0 --peer "n1=${AT[n1]}" <again
	has_messages n1 "${want[@]/#/n0 }" "${want[@]/#/n0 }"
}

@test "what another language sends arrives, and it gets what is sent, byte for byte" {
	node n1 --format json
	head -c 100 /dev/urandom >part
	peer p1 listen --from p1
	caller n0 --peer "p1=${AT[p1]}"
	order n0 send p1 consensus hex:00010203 text:head file:part
	order n0 send p1 18446744073709551615 ''
	shown p1 '.event == "frame" and .type == "18446744073709551615" and .from == "n0" and .size == 0'
	{ printf '\0\1\2\3head' && cat part; } >whole
	shown p1 '.type == "consensus" and .size == 108 and .sha256 == $sha' --arg sha "$(sha256sum whole | cut -d ' ' -f 1)"
	peer p2 dial "${AT[n1]}" --from p2 append_entries:entries=2,size=40 "forwarded:hex:00ff" "channel:text:hello" --then half-close
	ends_with 0 p2
	told_json n1 '.from == "p2" and .type == "consensus" and .size == 177 and (.base64 | startswith("AAAAAAAAAA"))'
	told_json n1 '.from == "p2" and .type == "forwarded" and .base64 == "AP8="'
	told_json n1 '.from == "p2" and .type == "channel" and .text == "hello"'
	told_json n1 '.event == "link down" and .peer == "p2" and .reason == "done"'
}

@test "10,000 messages through a pipe arrive in order, none lost and none twice" {
	node n1
	once 0 --peer "n1=${AT[n1]}" < <(seq -f 'send n1 consensus message %g' 10000)
	says 'link down n1 out .* closed delivered=10000 dropped=0 unknown=0 kept=0'
	[ ${#lines[@]} = 2 ]
	told n1 'link down n0 .* done .*'
	cmp <(messages n1 | cut -d ' ' -f 4-) <(seq -f 'message %g' 10000)
}

# --- commands that are wrong ---

wrong_ones() {
	sed 's/^\t*//' <<-'END'
		frobnicate n1|"frobnicate" is no command: write associate, send, close, ping or links
		Send n1 1 x|"Send" is no command: .*
		 links|a space is no command: .*
		links now|links: "now" is too much: write links
		send|send: no ID: write send ID TYPE PAYLOAD
		send n1|send: no TYPE: write send ID TYPE PAYLOAD
		send  n1 1 x|send: two spaces before the ID, where one stands: write send ID TYPE PAYLOAD
		send n1 gossip x|send: "gossip" is no TYPE: write channel, consensus, forwarded, ping, or a number such as 7 or 0x7
		send n1 -1 x|send: "-1" is no TYPE: .*
		send n1 18446744073709551616 x|send: "18446744073709551616" is no TYPE: .*
		send n=1 1 x|send: "n=1" is no ID: write %3D for =
		send n%zz 1 x|send: "n%zz" is no ID: write %25 for %
		send n1 1 hex:0|send: "hex:0": write two hex digits for each byte
		send n1 1 hex:0g|send: "hex:0g": g is no hex digit
		send n1 1 base64:A|send: "base64:A": a base64 digit is missing
		send n1 1 base64:A\*|send: .* \* is no base64 digit: write A-Z a-z 0-9 \+ /
		send n1 1 base64:AP9=|send: "base64:AP9=": its last digit, 9, has bits that belong to no byte
		send n1 1 text:a b|send: "b" is no part of a payload: write text:WORDS, hex:00ff, base64:AP8= or file:PATH\[,OFFSET,LENGTH\], and %20 for .*
		send n1 1 text:50%|send: "text:50%": write %25 for %
		send n1 1 file:|send: "file:": no path: write file:PATH or file:PATH,OFFSET,LENGTH
		send n1 1 file:none|send: cannot open none: No such file or directory
		send n1 1 file:dir|send: dir is no regular file, and only of one can a range be sent
		send n1 1 file:fifo|send: fifo is no regular file, and only of one can a range be sent
		send n1 1 file:/dev/null|send: /dev/null is no regular file, .*
		send n1 1 file:/proc/self/status|send: file:/proc/self/status cannot be read as far as it says it is long: nothing was sent
		send n1 1 file:ten,5,6|send: file:ten ends before byte 5 \+ 6: nothing was sent
		send n1 1 file:ten,11,0|send: file:ten ends before byte 11 \+ 0: nothing was sent
		send n1 1 text:before file:ten,0,99|send: file:ten ends before byte 0 \+ 99: nothing was sent
		send n1 1 file:ten,99999999999999999999,1|send: .*: no file has such a range: write file:PATH,OFFSET,LENGTH, in bytes
		associate n1|associate: no ADDRESS: write associate ID ADDRESS
		associate n1 nowhere|associate: .* no port: write HOST:PORT, such as nowhere:8080
		associate n1 :80|associate: :80: a host to connect to is missing, as in 127.0.0.1:80
		associate n1 udp:127.0.0.1:80|associate: .*udp.*
		associate n0 127.0.0.1:80|associate: that id is our own
		associate n1 127.0.0.1:80 81|associate: "81" is too much: write associate ID ADDRESS
		close|close: no ID: write close ID
		close nobody|close: nobody is known by that id: `links` says who is
		ping|ping: no ID: write ping ID
		ping n1 5|ping: "5" is too much: write ping ID
	END
}

@test "a command that is wrong says what is wrong with it and changes nothing, and those around it are obeyed" {
	node n1
	mkdir dir
	mkfifo fifo
	printf 0123456789 >ten
	wrong_ones | cut -d '|' -f 1 | sed 's/\\//g' >bad
	once 2 --peer "n1=${AT[n1]}" < <(echo 'send n1 1 first'; cat bad; echo 'send n1 1 last')
	paste -d '|' <(wrong_ones | cut -d '|' -f 2-) <(grep '^error: ' <<<"$output") >pairs
	while IFS='|' read -r want said; do
		[[ $said =~ ^error:\ $want$ ]] || { echo "not: $want: $said"; false; }
	done <pairs
	[ "$(wc -l <pairs)" = "$(wc -l <bad)" ]
	says 'link down n1 out .* closed delivered=2 dropped=0 unknown=0 kept=0'
	has_messages n1 'n0 consensus 5 first' 'n0 consensus 4 last'
	NODE_ID[n2]=n0
	caller n2 --from bind:n2.hub
	orders n2 <bad
	order n2 links
	told n2 'links 0'
	counted n2 "$(wc -l <bad)" 'error: .*'
	stop n2
	[ "$ended" = 0 ]
}

@test "empty lines and comments are nothing, CR LF ends a line, the last needs no end, and a line of 1 MiB is the most" {
	node n1
	{
		printf '\n\r\n# send n1 1 no\nsend n1 1 text:cr\r\n'
		head -c 1100000 /dev/zero | tr '\0' a
		printf '\nsend n1 1 a\0b\nping n\0001\nsend n1 1 end'
	} >in
	once 2 --peer "n1=${AT[n1]}" <in
	says 'error: a line of more than 1048576 bytes: send file:PATH instead'
	says 'error: ping: a NUL in the ID: write ping ID'
	[ "$(grep -c '^error' <<<"$output")" = 2 ]
	has_messages n1 'n0 consensus 2 cr' 'n0 consensus 3 hex:610062' 'n0 consensus 3 end'
}

# --- the end, and its status ---

@test "who only sends ends when all has arrived: 0; 6, 7, 28, 69 say why a message could not leave, and so does an event" {
	spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.out .
	once 6 --peer n1=127.0.0.1:no-such-service <<<'send n1 1 x'
	says 'dropped n1 1 no-such-name: cannot resolve .*'
	says 'ccf-nodelink: warn: 127.0.0.1:no-such-service: node n1: cannot resolve .*'
	once 7 --peer "n1=$PORT_1" <<<'send n1 1 x'
	says 'dropped n1 1 refused: cannot connect to 127.0.0.1:1: Connection refused'
	once 7 --peer n1=unix:none <<<'send n1 1 x'
	says 'dropped n1 1 refused: cannot connect to unix:none: No such file or directory'
	once 28 --connect-timeout 100ms --peer "n1=$(cat deaf.out)" < <(printf 'send n1 1 x\nsend n1 1 y\n')
	says 'dropped n1 2 connect-timeout: .*'
	once 69 < <(printf 'send n1 1 x\nsend n1 1 x\nsend n2 1 x\n')
	says 'dropped n1 2 unknown-peer: its address is not known: say associate or --peer'
	says 'dropped n2 1 unknown-peer: its address is not known: say associate or --peer'
	once 0 </dev/null
	once 0 --peer "n1=$PORT_1" <<<'links'
	[ "$output" = "peer n1 down address=$PORT_1 sent=0 delivered=0 dropped=0 unknown=0 waiting=0 resent=0 received=0"$'\n''links 1' ]
	# The first that failed decides.
	once 2 --peer "n1=$PORT_1" < <(printf 'nonsense\nsend n1 1 x\n')
	once 45 --app none/app </dev/null
	once 1 --commands . </dev/null
	says 'ccf-nodelink: error: cannot read the commands: Is a directory'
}

@test "18: the connection broke, and messages with it: what was not acknowledged is unknown, what was not written is dropped" {
	peer p listen --after 0:stop --rcvbuf 4k
	{ yes 'send n1 1 file:part' | head -n 30; } >many
	truncate -s 1M part
	SPAWN_IN=many spawn n0 ccf-nodelink --id n0 --peer "n1=${AT[p]}" --user-timeout none --control n0.ctl
	up n0
	rows n0 'any(.[]; .out > 1000)'
	stop p KILL
	ends_with 18 n0
	told n0 "link down n1 out ${AT[p]} reset delivered=[0-9]+ dropped=[0-9]+ unknown=[0-9]+ kept=0: .*"
	awk -F '[ =]' '/^link down/ { exit !($8 + $10 + $12 == 30 && $10 > 0) }' n0.out
}

@test "with --retry what could not be dialled again is dropped, and unknown where it had been written whole: 18" {
	peer p listen --after 0:stop --rcvbuf 4k
	head -c 100k /dev/zero >part
	echo 'send p 1 file:part' >orders
	spawn n0 ccf-nodelink --id n0 --peer "p=${AT[p]}" --user-timeout none --retry 2 --retry-delay 1ms --commands orders --control n0.ctl
	up n0
	eventually stands_still n0
	stop p KILL
	ends_with 18 n0
	told n0 "link down p out ${AT[p]} reset delivered=0 dropped=0 unknown=0 kept=1: .*"
	told n0 "unknown p 1: cannot connect to ${AT[p]}: Connection refused"
}

@test "23: standard output went away, is full, or its reader ends; without one at all it goes on" {
	local r w

	node n1
	expect_status 23 sh -c 'echo "send n1 1 x" | ccf-nodelink --id n0 --peer "n1=$1" >/dev/full' sh "${AT[n1]}"
	says 'ccf-nodelink: error: cannot write the events to standard output: No space left on device'
	make_pipe r w
	SPAWN_OUT=/proc/self/fd/$w caller n2 --from bind:n2.hub
	exec {w}>&-
	order n2 links
	read -r -t "$LIMIT" -u "$r" line
	[ "$line" = 'links 0' ]
	exec {r}<&-
	order n2 links
	ends_with 23 n2
	await_line n2.log 'error: cannot write the events to standard output: Broken pipe'
	expect_status 0 sh -c 'echo "send n1 1 unheard" | ccf-nodelink --id n0 --peer "n1=$1" >&-' sh "${AT[n1]}"
	told n1 'message n0 consensus 7 unheard'
}

@test "standard input may be a terminal, which ^D ends, or closed; standard output a terminal, too" {
	node n1
	expect_status 0 sh -c 'ccf-nodelink --id n0 --peer "n1=$1" <&-' sh "${AT[n1]}"
	[ -z "$output" ]
	cat >tty.py <<-'END'
		import os, subprocess, sys
		master, slave = os.openpty()
		child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave)
		os.close(slave)
		os.write(master, b"send n1 1 typed\n\x04")
		try:
		    while True:
		        os.write(1, os.read(master, 65536))
		except OSError:  # the terminal's last user is gone
		    sys.exit(child.wait())
	END
	expect_status 0 python3 tty.py ccf-nodelink --id n0 --peer "n1=${AT[n1]}"
	grep -q $'^link down n1 out .* closed delivered=1 dropped=0 unknown=0 kept=0\r$' <<<"$output"
	told n1 'message n0 consensus 5 typed'
}

# --- where commands come from, and how long it stays ---

@test "--linger: without --from it ends with its commands, or so long after them; with --from it stays unless told otherwise" {
	node n1
	SPAWN_IN=<(echo "send n1 1 hello") spawn n2 ccf-nodelink --id n2 --peer "n1=${AT[n1]}" --linger none
	told n1 'message n2 consensus 5 hello'
	order n1 send n2 1 answer
	told n2 'message n1 consensus 6 answer'
	stop n2
	[ "$ended" = 0 ]
	SPAWN_IN=<(echo "send n1 1 hello") spawn n3 ccf-nodelink --id n3 --peer "n1=${AT[n1]}" --linger 200ms
	ends_with 0 n3
	told n3 'link down n1 out .* closed delivered=1 .*'
	SPAWN_IN=<(echo "send n1 1 hello") spawn n4 ccf-nodelink --id n4 --from bind:n4.hub --peer "n1=${AT[n1]}" --linger 0s
	ends_with 0 n4
	told n1 'message n4 consensus 5 hello'
	SPAWN_IN=<(echo "send n1 1 hello") spawn n5 ccf-nodelink --id n5 --from bind:n5.hub --peer "n1=${AT[n1]}"
	told n5 'link up n1 .*'
	order n1 send n5 1 answer
	told n5 'message n1 consensus 6 answer'
	stop n5
	[ "$ended" = 0 ]
}

@test "--commands: a file ends, a FIFO does not with its writers, fd:N; and what cannot be is said" {
	local fd

	node n1
	echo 'send n1 1 from a file' >orders
	echo 'send n1 1 no' | once 0 --peer "n1=${AT[n1]}" --commands orders
	told n1 'message n0 consensus 11 from a file'
	exec {fd}<<<'send n1 1 from a descriptor'
	once 0 --peer "n1=${AT[n1]}" --commands "fd:$fd"
	exec {fd}<&-
	told n1 'message n0 consensus 17 from a descriptor'
	mkfifo fifo
	spawn n2 ccf-nodelink --id n2 --peer "n1=${AT[n1]}" --commands fifo
	echo 'send n1 1 one' >fifo
	told n1 'message n2 consensus 3 one'
	echo 'send n1 1 two' >fifo
	told n1 'message n2 consensus 3 two'
	stop n2
	[ "$ended" = 0 ]
	once 1 --commands none
	says 'ccf-nodelink: error: --commands none: No such file or directory'
	once 2 --commands fd:99
	says 'ccf-nodelink: error: --commands fd:99: no such descriptor is open .*'
	[ "$(messages n1 | wc -l)" = 4 ]
}

@test "--from -: standard input is the link; commands come from elsewhere, or it ends with the listener" {
	mkfifo orders
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json node=127.0.0.1:0 '|' \
	    n1 ccf-nodelink --from - --id n1 --commands orders
	once 0 --peer "n1=$(address a.json node)" <<<'send n1 1 hello'
	told n1 'message n0 consensus 5 hello'
	stop lst
	echo links >orders
	told n1 'links 0'
	stop n1
	[ "$ended" = 0 ]
	receiver n2
	once 0 --peer "n2=${AT[n2]}" <<<'send n2 1 hello'
	stop lst
	ends_with 0 n2
	once 69 --from - < <(:)
	says 'ccf-nodelink: error: .*the pipe ended before it said where the link is.*'
	expect_status 2 ccf-nodelink --id n0 --from - --commands fd:0 </dev/null
	says 'ccf-nodelink: error: --commands fd:0: --from reads that descriptor already .*'
}

# receiver NAME: it has no commands.
receiver() {
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file "$1.json" node=127.0.0.1:0 '|' \
	    "$1" ccf-nodelink --from - --id "$1"
	AT[$1]=$(address "$1.json" node)
}

# --- whom it knows ---

@test "associate: from then on that node is there; a connection that there is stays; what waits to be dialled again goes at once" {
	node n1
	caller n0 --retry 1000 --retry-delay 1h --retry-max 1h
	orders n0 <<-END
		send n1 1 lost
		associate n1 $PORT_1
		send n1 1 first
	END
	told n0 'dropped n1 1 unknown-peer: its address is not known: say associate or --peer'
	await_line n0.log "warn: $PORT_1: node n1: cannot connect"
	[[ $(links n0) == "peer n1 waiting address=$PORT_1 sent=1 "*' waiting=1 '* ]]
	order n0 associate n1 "${AT[n1]}"
	has_messages n1 'n0 consensus 5 first'
	orders n0 <<-END
		associate n1 $PORT_1
		send n1 1 second
		associate n2 [::1]:5
		links
	END
	has_messages n1 'n0 consensus 5 first' 'n0 consensus 6 second'
	told n0 'peer n1 up address=127.0.0.1:1 .*'
	told n0 'peer n2 down address=\[::1\]:5 sent=0 .*'
	told n0 'links 2'
	counted n0 1 'link .*'
}

@test "who has dialled is known without an address, and is forgotten when he is gone" {
	node n1
	caller n0 --peer "n1=${AT[n1]}"
	order n0 send n1 1 hello
	told n1 'message n0 consensus 5 hello'
	order n1 send n0 1 answer
	told n0 'message n1 consensus 6 answer'
	[[ $(links n1) == 'peer n0 up sent=1 delivered='* ]]
	stop n0
	told n1 'link down n0 in .* done delivered=1 .*'
	order n1 send n0 1 late
	told n1 'dropped n0 1 unknown-peer: its address is not known: say associate or --peer'
	[ -z "$(links n1)" ]
}

@test "close: what was sent before arrives, what is sent after it goes over a new connection; 100 links later every descriptor is back" {
	local want before_0 before_1

	node n1
	caller n0 --peer "n1=${AT[n1]}"
	mapfile -t want < <(seq -f 'n0 consensus 5 m.%03g' 200)
	seq -f %03g 0 200 | tr -d '\n' >numbers
	orders n0 <<<'send n1 1 m.001'
	told n1 'message n0 consensus 5 m.001'
	orders n0 <<<$'send n1 1 m.002\nclose n1\n'
	told n1 'link down .*'
	settled n0	# who answers has done with what was before
	settled n1
	before_0=$(fd_count n0) before_1=$(fd_count n1)
	orders n0 < <(seq -f 'send n1 1 text:m. file:numbers,%g,3' 9 3 600 | sed '0~2a close n1')
	has_messages n1 "${want[@]}"
	counted n0 100 "link up n1 out ${AT[n1]}"
	counted n0 100 "link down n1 out ${AT[n1]} closed delivered=2 dropped=0 unknown=0 kept=[0-9]+"
	counted n1 100 'link down n0 in .* delivered=0 dropped=0 unknown=0 kept=0'
	[[ $(links n0) == *' down '*' sent=200 delivered=200 dropped=0 unknown=0 waiting=0 resent=0 '* ]]
	keeps n0="$before_0" n1="$before_1"
}

@test "close of a node that is only known, and of one that is being dialled, changes nothing but the order" {
	spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.out .
	caller n0 --peer "n1=$PORT_1" --peer "n2=$(cat deaf.out)" --connect-timeout 200ms
	orders n0 <<-END
		close n1
		send n2 1 a
		close n2
		send n2 1 b
	END
	told n0 'dropped n2 2 connect-timeout: .*'
	[ "$(links n0)" = "peer n1 down address=$PORT_1 sent=0 delivered=0 dropped=0 unknown=0 waiting=0 resent=0 received=0
peer n2 down address=$(cat deaf.out) sent=2 delivered=0 dropped=2 unknown=0 waiting=0 resent=0 received=0" ]
}

@test "names and Unix sockets can be dialled, and --bind, or --client-host, is what the other side sees" {
	local form

	node n1
	NODE_ADDR=unix:n2.sock node n2
	once 0 --peer "n1=localhost:${AT[n1]#*:}" -4 <<<'send n1 1 by name'
	told n1 'message n0 consensus 7 by name'
	once 0 --peer n2=unix:n2.sock <<<'send n2 1 x'
	says 'link down n2 out unix:n2.sock closed delivered=1 dropped=0 unknown=0 kept=0'
	told n2 'link up n0 in [^ ]+'
	told n2 'link down n0 in [^ ]+ done .*'
	for form in --bind --client-host; do
		once 0 --peer "n1=${AT[n1]}" "$form" 127.0.0.2 <<<'send n1 1 bound'
	done
	counted n1 2 'link up n0 in 127.0.0.2:[0-9]+'
	once 45 --peer "n1=${AT[n1]}" --bind 192.0.2.1 <<<'send n1 1 x'
	says 'dropped n1 1 cannot-bind: cannot bind to 192.0.2.1: Cannot assign requested address .*'
}

@test "IPv6 can be dialled, and -4 and -6 choose" {
	requires ipv6
	NODE_ADDR='[::1]:0' node n6
	once 0 --peer "n6=${AT[n6]}" <<<'send n6 1 x'
	told n6 'link up n0 in \[::1\]:[0-9]+'
	once 7 --peer "n6=localhost:${AT[n6]##*:}" -4 <<<'send n6 1 x'
	once 6 --peer "n6=${AT[n6]}" -4 <<<'send n6 1 x'
	once 6 --peer "n6=$PORT_1" -6 <<<'send n6 1 x'
}

@test "an id may be any bytes, and is written with %XX, both ways, in both forms" {
	local odd='a%20b%25%3D%22%00%0A%C3%A9/' long

	NODE_ID[n1]=$odd
	node n1
	peer p1 dial "${AT[n1]}" --from 'p%201%FF' consensus:text:hello --expect 1 --then half-close
	told n1 'message p%201%FF consensus 5 hello'
	order n1 send 'p%201%ff' 1 answer
	shown p1 '.event == "frame" and .from == $odd' --arg odd "$odd"
	ends_with 0 p1
	once 0 --peer "$odd=${AT[n1]}" --format json < <(printf 'send %s 1 x\n' "${odd//%C3%A9/%c3%a9}")
	is_ndjson - <<<"$output"
	[ "$(jq -r .peer <<<"${lines[0]}")" = "$odd" ]
	long=$(printf 'i%.0s' {1..1024})
	expect_status 0 ccf-nodelink --id "$long" --peer "$odd=${AT[n1]}" <<<"send $odd 1 long"
	told n1 "message $long consensus 4 long"
	for id in '' 'a b' 'a=b' 'é' '%4' "i$long"; do
		expect_status 2 ccf-nodelink --id "$id" </dev/null
		says "ccf-nodelink: error: --id: \".*\"(\.\.\.)? is no id: 1 to 1024 bytes, of which spaces, '%', '=', '\"' and what is not ASCII are written %XX .*"
	done
}

# --- echo and ping ---

@test "--echo: each message goes back to its sender, as it was, also one that is too long for an event; nothing else is sent" {
	node n1 --echo
	head -c 300000 /dev/urandom >large
	peer p1 dial "${AT[n1]}" --from p1 18446744073709551615:hex:00ff consensus: forwarded:file:large --expect 3 --shown 10
	ends_with 0 p1
	shown p1 '.event == "frame" and .from == "n1" and .type == "18446744073709551615" and .hex == "00ff"'
	shown p1 '.event == "frame" and .from == "n1" and .type == "consensus" and .size == 0'
	shown p1 '.type == "forwarded" and .size == 300000 and .sha256 == $sha' --arg sha "$(sha256sum large | cut -d ' ' -f 1)"
	has_messages n1 'p1 18446744073709551615 2 hex:00ff' 'p1 consensus 0 ' 'p1 forwarded 300000 -'
	order n1 send p1 1 x
	order n1 ping p1
	counted n1 2 'error: with --echo nothing else is sent: two echoes would answer each other for ever'
	order n1 links
	told n1 'links [01]'
	stop n1
	[ "$ended" = 0 ]
}

@test "ping: how long there and back, by an echo; who is none, is not there or goes away is told as no pong" {
	node n1 --echo
	node n2 --ping-timeout 1m
	orders n2 <<-END
		associate n1 ${AT[n1]}
		ping n1
		ping nobody
	END
	told n2 'pong n1 ms=[0-9]+\.[0-9]{3}'
	told n2 'no pong nobody: its address is not known: say associate or --peer'
	once 0 --peer "n1=${AT[n1]}" --ping-timeout none --format json <<<'ping n1'
	[ "$(jq -r 'select(.event == "pong") | .peer, (.ms > 0 and .ms < 60000)' <<<"$output")" = $'n1\ntrue' ]
	once 28 --peer "n2=${AT[n2]}" --ping-timeout 100ms <<<'ping n2'
	says 'no pong n2: no answer in 100ms'
	told n2 'message n0 ping 16 hex:[0-9a-f]{32}'
	once 7 --peer "n1=$PORT_1" <<<'ping n1'
	says 'no pong n1: cannot connect to 127.0.0.1:1: Connection refused'
	peer p listen --after 1:reset
	orders n2 <<-END
		associate p ${AT[p]}
		ping p
		ping n1
	END
	told n2 'no pong p: the link went down'
	counted n2 2 'pong n1 .*'
	told_not n2 'message n1 .*'
	# What only looks like an answer is a message.
	peer p2 dial "${AT[n2]}" --from p2 "0x676e6970:zero:16"
	told n2 'message p2 ping 16 hex:00000000000000000000000000000000'
}

# --- long payloads, and files ---

@test "--max-event: what is longer is shown as its size; 0 shows nothing but what is empty" {
	node n1 --max-event 3
	node n2 --max-event 0 --format json
	once 0 --peer "n1=${AT[n1]}" --peer "n2=${AT[n2]}" <<-'END'
		send n1 1 abc
		send n1 1 abcd
		send n2 1 a
		send n2 1
	END
	has_messages n1 'n0 consensus 3 abc' 'n0 consensus 4 -'
	told_json n2 '.size == 1 and has("file") and .file == null and (has("text") | not)'
	told_json n2 '.size == 0 and .text == ""'
}

@test "--save: long payloads are files, whole, hidden while they arrive, called by their sender, and never in another's place" {
	local odd='a/b%20.'

	mkdir dir
	echo mine >dir/n0-1
	head -c 200000 /dev/urandom >one
	head -c 100001 /dev/urandom >two
	node n1 --save dir --max-event 100000
	node n2 --save dir --format json --max-event 0
	once 0 --peer "n1=${AT[n1]}" <<-'END'
		send n1 1 file:one
		send n1 1 file:two,1,100000
		send n1 2 file:two
	END
	told n1 'message n0 consensus 200000 file:dir/n0-1\.2'
	told n1 'message n0 consensus 100000 hex:[0-9a-f]*'
	told n1 'message n0 forwarded 100001 file:dir/n0-2'
	cmp one dir/n0-1.2
	cmp two dir/n0-2
	[ "$(cat dir/n0-1)" = mine ]
	[ "$(stat -c %a dir/n0-2)" = 600 ]
	expect_status 0 ccf-nodelink --id "$odd" --peer "n2=${AT[n2]}" <<<'send n2 1 text:x'
	told_json n2 '.event == "message" and .from == $odd and .size == 1 and .file == "dir/a%2Fb%20%2E-1"' --arg odd "$odd"
	[ "$(cat dir/a%2Fb%20%2E-1)" = x ]
	# Half of one, and then the other half.
	mkfifo half
	{ printf '\x78\x00\x00\x00\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0p1' && head -c 50 one; } >begin
	spawn p1 sh -c 'cat begin half | ccf-connect "$1"' sh "${AT[n2]}"
	eventually test -s dir/.p1-1
	[ ! -e dir/p1-1 ]
	told_not n2 '.*"message","from":"p1".*'
	tail -c +51 one | head -c 52 >half
	told_json n2 '.event == "message" and .from == "p1" and .file == "dir/p1-1"'
	head -c 102 one | cmp - dir/p1-1
	# One that never becomes whole leaves nothing.
	spawn p2 sh -c 'LC_ALL=C sed s/p1/p2/ begin | ccf-connect "$1"' sh "${AT[n2]}"
	told_json n2 '.event == "link down" and .peer == "p2" and .reason == "half-frame"'
	eventually test ! -e dir/.p2-1
	[ "$(find dir -name 'p2*')" = '' ]
	stop n1
	stop n2
	[ "$(find dir -type f -printf '%f\n' | sort | tr '\n' ' ')" = 'a%2Fb%20%2E-1 n0-1 n0-1.2 n0-2 p1-1 ' ]
}

@test "file: goes by way of sendfile, range by range, and arrives as it is in the file" {
	requires strace
	node n1 --save . --max-event 0
	head -c 1000000 /dev/urandom >ledger
	echo 'send n1 1 hex:0001 file:ledger,4096,600000 text:between file:ledger,999999,1 file:ledger,5,0' >orders
	expect_status 0 strace -f -o trace -e trace=read,pread64,sendfile,mmap,write ccf-nodelink --id n0 --peer "n1=${AT[n1]}" <orders
	{ printf '\0\1' && tail -c +4097 ledger | head -c 600000 && printf between && tail -c 1 ledger; } >want
	told n1 'message n0 consensus 600010 file:\./n0-1'
	cmp want n0-1
	grep -q 'sendfile(.*) = [1-9]' trace
	awk -F ' = ' '/ (read|pread64)\(/ && $NF > 5000 { exit 1 }' trace
}

# stuck NAME FILE...: it sends these to a peer p that reads nothing until `stop p USR1`, and has begun.
stuck() {
	peer p listen --after 0:stop --rcvbuf 64k
	printf 'send p 1 file:%s\n' "${@:2}" >"$1.orders"
	spawn "$1" ccf-nodelink --id "$1" --peer "p=${AT[p]}" --user-timeout none --control "$1.ctl" --commands "$1.orders" -v
	up "$1"
	rows "$1" 'any(.[]; .out > 30000)'
}

@test "a file that shrinks while it is sent resets the link: no whole frame arrives, and what waits behind it is dropped, too" {
	truncate -s 32M large
	echo small >small
	stuck n0 large small
	truncate -s 1M large
	kill -USR1 "${PID[p]}"
	ends_with 18 n0
	told n0 "link down p out ${AT[p]} file-shrank delivered=0 dropped=2 unknown=0 kept=0: a file became shorter while it was being sent"
	shown p '.event == "end" and .how == "reset" and .frames == 0 and .partial > 30000'
	await_line n0.log 'info: p#1 .*: closed: file-shrank, by us, .*, status 18: a file became shorter while it was being sent'
}

@test "a file that shrinks before its turn comes is dropped, and what stands around it arrives" {
	truncate -s 16M large
	echo small >small
	echo other >other
	stuck n0 large small other
	: >small
	kill -USR1 "${PID[p]}"
	ends_with 18 n0
	told n0 'dropped p 1 file-shrank'
	told n0 "link down p out ${AT[p]} closed delivered=2 dropped=0 unknown=0 kept=0"
	shown p '.event == "frame" and .size == 16777216'
	shown p '.event == "frame" and .hex == "6f746865720a"'
	shown p '.event == "end" and .how == "fin" and .frames == 2 and .partial == 0'
}

@test "--max-frame: none that is longer is sent, and one that comes ends its connection at its first four bytes; others go on" {
	node n1 --max-frame 100
	peer p1 dial "${AT[n1]}" --from p1 consensus:zero:82 --then stay
	told n1 'message p1 consensus 82 hex:0+'
	peer p2 dial "${AT[n1]}" --from p2 consensus:zero:83 --then wait --ends reset
	ends_with 0 p2
	peer p3 dial "${AT[n1]}" --from p3 consensus:text:a raw:65000000 --then wait --ends reset
	ends_with 0 p3
	told n1 'message p3 consensus 1 a'
	told n1 'link down p3 in .* protocol delivered=0 .*: a frame of 101 bytes, --max-frame is 100'
	await_line n1.log 'info: node#2 .*: closed: protocol, by us, .*: a frame of 101 bytes, --max-frame is 100'
	orders n1 <<-END
		send p1 1 $(printf 'x%.0s' {1..82})
		send p1 1 $(printf 'x%.0s' {1..83})
	END
	shown p1 '.event == "frame" and .n == 100'
	told n1 'error: send: the frame would be 101 bytes, --max-frame is 100: nothing was sent'
	counted n1 1 'link up p1 .*'
	truncate -s 4G huge
	once 2 --max-frame 4294967295 --peer "n1=${AT[n1]}" <<<'send n1 1 file:huge'
	says 'error: send: the frame would be 4294967314 bytes, --max-frame is 4294967295: nothing was sent'
}

# --- options ---

# refused SENTENCE OPTION...: status 2, and it says that.
refused() {
	expect_status 2 ccf-nodelink "${@:2}" </dev/null
	[[ $output == "ccf-nodelink: error: $1"*" (ccf-nodelink --help shows the options)" ]] || {
		echo "not: $1: $output"
		return 1
	}
}

@test "options that cannot be, or not together, are refused, each in a sentence" {
	refused '--id is missing: who we are, as in --id n0'
	refused '--peer n1: write ID=ADDRESS, like n1=127.0.0.1:9001' --id n0 --peer n1
	refused '--peer: "" is no id: 1 to 1024 bytes' --id n0 --peer =127.0.0.1:80
	refused '--peer: "a b" is no id: 1 to 1024 bytes' --id n0 --peer 'a b=127.0.0.1:80'
	refused "--peer: 'localhost' has no port: write HOST:PORT, such as localhost:8080" --id n0 --peer n1=localhost
	refused '--peer n1=:80: a host to connect to is missing, as in 127.0.0.1:80' --id n0 --peer n1=:80
	refused '--peer: UDP (udp:127.0.0.1:80) cannot be used here' --id n0 --peer n1=udp:127.0.0.1:80
	refused '--peer n0=127.0.0.1:80: that is our own --id' --id n0 --peer n0=127.0.0.1:80
	refused '--peer %6E0=127.0.0.1:80: that is our own --id' --id n0 --peer %6E0=127.0.0.1:80
	refused 'n1: there are no operands but decode FILE; where a node is, is said as --peer ID=ADDRESS' --id n0 n1
	refused '--echo answers by itself: it does not go with --app' --id n0 --echo --app s
	refused '--save writes payloads that are too long for an event: with --app programs get them' --id n0 --save . --app s
	refused '--save none: no such directory' --id n0 --save none
	refused '--max-event 17M: must be from 0 to 16M' --id n0 --max-event 17M
	refused '--max-frame 15: must be from 16 to ' --id n0 --max-frame 15
	refused '--max-frame 4G: must be from 16 to ' --id n0 --max-frame 4G
	refused '--max-queue 1: must be from 64k to ' --id n0 --max-queue 1
	refused '--linger 5: say none, or an integer and ms, s, m or h, such as 500ms' --id n0 --linger 5
	refused '--keepalive 10ms: must be from 1s to ' --id n0 --keepalive 10ms
	refused '--format xml: ' --id n0 --format xml
	refused '-4 and -6 exclude each other' --id n0 -4 -6
	refused '-q and -v exclude each other' --id n0 -q -v
	refused '--from ' --id n0 --from ''
	refused '--tap takes connections from --from: as in ccf-listen --to - :9000 | ccf-nodelink --from - --tap 127.0.0.1:1' --tap 127.0.0.1:1
	refused "--tap: 'nowhere' has no port" --from s --tap nowhere
	refused '--tap :80: a host to connect to is missing, as in 127.0.0.1:80' --from s --tap :80
	refused 'decode takes one FILE, a capture of one direction (- is standard input)' decode
	refused 'decode takes one FILE, a capture of one direction (- is standard input)' decode a b
	for with in 'decode' '--tap'; do
		operands=(decode file)
		[ "$with" = decode ] || operands=(--tap 127.0.0.1:1 --from s)
		for option in --id=n0 --app=s --commands=f --echo --peer=n1=127.0.0.1:1 --save=. --linger=1s --max-event=1 \
		    --max-queue=1M --ping-timeout=1s --retry=1 --keepalive=1s --first-frame-timeout=1s --ready-fd=9; do
			refused "${option%%=*} is for links of our own: it does not go with $with" "$option" "${operands[@]}"
		done
	done
}

# --- who waits ---

hwm_kib() {
	awk '/^VmHWM:/ { print $2 }' "/proc/${PID[$1]}/status"
}

@test "who does not read the events holds the sender up, within bounds, and loses nothing" {
	local r w

	make_pipe r w
	SPAWN_OUT=/proc/self/fd/$w node n1
	exec {w}>&-
	seq -f "send n1 1 %06g $(printf 'x%.0s' {1..1000})" 24000 >many
	SPAWN_IN=many spawn n0 ccf-nodelink --id n0 --peer "n1=${AT[n1]}" --user-timeout none --max-queue 64k --control n0.ctl
	up n0
	eventually stands_still n0
	[ "$WRITTEN" -lt 20000000 ]
	[ -n "${CCF_SAN-}" ] || { [ "$(hwm_kib n0)" -lt 16384 ] && [ "$(hwm_kib n1)" -lt 16384 ]; }
	SPAWN_IN=/proc/self/fd/$r SPAWN_OUT=n1.out spawn reader cat
	exec {r}<&-
	ends_with 0 n0
	told n0 'link down n1 out .* closed delivered=24000 dropped=0 unknown=0 kept=0'
	told n1 'link down n0 .*'
	cmp <(sed 's/^send n1 1 /message n0 consensus 1007 /' many) <(grep ^message n1.out)
}

@test "programs wait, too, while nobody reads the events" {
	local r w

	make_pipe r w
	SPAWN_OUT=/proc/self/fd/$w spawn n1 ccf-nodelink --id n1 --app n1.app --control n1.ctl
	exec {w}>&-
	up n1
	eventually test -S n1.app
	python3 -c 'import struct, sys
for k in range(20000):
	to = b"u%0900d" % k
	sys.stdout.buffer.write(struct.pack("<Q", len(to)) + to + struct.pack("<IQQ", 17, 1, 0) + b"x")' >frames
	spawn program socat -u FILE:frames UNIX-CONNECT:n1.app
	eventually loses_no_more n1
	[ "$LOST" -lt 5000 ]
	[ -n "${CCF_SAN-}" ] || [ "$(hwm_kib n1)" -lt 16384 ]
	SPAWN_IN=/proc/self/fd/$r SPAWN_OUT=n1.out spawn reader cat
	exec {r}<&-
	counted n1 20000 'dropped u0.* 1 unknown-peer: .*'
}

# loses_no_more NAME: it has dropped messages for nobody known, but none since it was asked last.
loses_no_more() {
	local before=${LOST-}

	LOST=$(figure "$1" 'ccfnet_messages_lost_total{reason="unknown-peer"}')
	[ "$LOST" = "$before" ] && [ "$LOST" -gt 100 ]
}

few_files() {
	ulimit -n 70
	exec ccf-nodelink "$@"
}

@test "--drain-timeout bounds the end of commands, too: 28" {
	local r w

	truncate -s 8M large
	node n1 --echo
	make_pipe r w
	SPAWN_IN=/proc/self/fd/$r spawn n0 ccf-nodelink --id n0 -v --app n0.app --linger 0s --drain-timeout 100ms --control n0.ctl --peer "n1=${AT[n1]}"
	up n0
	spawn program python3 -c 'import signal, socket
s = socket.socket(socket.AF_UNIX)
s.connect("n0.app")
signal.pause()'
	await_line n0.log 'program 1'
	echo 'send n1 1 file:large' >&"$w"
	rows n0 'any(.[]; .in > 8000000)'
	exec {r}<&- {w}>&-
	ends_with 28 n0
	await_line n0.log 'not drained in time .--drain-timeout.: ending now'
}

@test "out of descriptors a send waits for those of the files under way" {
	local name

	truncate -s 1M part
	for name in p q r; do
		peer "$name" listen --after 0:stop --rcvbuf 4k
		{ yes "send $name 1 file:part" || :; } | head -n 25 >>many
	done
	SPAWN_IN=many spawn n0 few_files --id n0 --peer "p=${AT[p]}" --peer "q=${AT[q]}" --peer "r=${AT[r]}" --user-timeout none --control n0.ctl
	up n0
	eventually stands_still n0
	for name in p q r; do
		kill -USR1 "${PID[$name]}"
	done
	ends_with 0 n0
	for name in p q r; do
		told n0 "link down $name out .* closed delivered=25 dropped=0 unknown=0 kept=0"
	done
	run ! grep '^error' n0.out
}

@test "an echo whose payload could not be kept is not sent, and that is told" {
	head -c 100000 /dev/zero >large
	TMPDIR=$PWD/none node n1 --echo
	caller n0
	meet n0 n1
	order n0 send n1 1 file:large
	told n1 'dropped n0 1 not-kept: .*'
	order n0 send n1 1 after
	told n0 'message n1 consensus 5 after'
	counted n0 1 'message .*'
}

@test "--user-timeout: who does not read for so long is cut, and the log says that this was the reason" {
	peer p listen --after 0:stop --rcvbuf 4k
	truncate -s 8M large
	once 18 --peer "p=${AT[p]}" --user-timeout 300ms -v <<<'send p 1 file:large'
	says 'link down p out .* user-timeout delivered=0 dropped=1 unknown=0 kept=0: it did not acknowledge, or did not read, .* 300 ms \(--user-timeout\): .*'
	says 'ccf-nodelink: info: p#1 .*: closed: user-timeout, by us, .*'
}

# --- for who starts it ---

@test "--ready-fd gets one newline when all is open, and NOTIFY_SOCKET READY=1" {
	local ready_r ready_w

	SPAWN_OUT=notified spawn sup socat -u "UNIX-RECV:$PWD/notify" STDOUT
	eventually test -S notify
	make_pipe ready_r ready_w
	NOTIFY_SOCKET=$PWD/notify KEEP_FDS=$ready_w spawn n1 ccf-nodelink --id n1 --from bind:n1.hub --app n1.app --control n1.ctl \
	    --ready-fd "$ready_w"
	exec {ready_w}>&-
	[ "$(timeout "$LIMIT" cat <&"$ready_r" | od -An -tx1)" = " 0a" ]
	[ -S n1.hub ] && [ -S n1.app ] && [ -S n1.ctl ]
	eventually grep -q '^READY=1' notified
	once 45 --app n1.app </dev/null
	once 45 --control n1.ctl </dev/null
	stop n1
	[ "$ended" = 0 ]
	[ ! -e n1.hub ] && [ ! -e n1.app ] && [ ! -e n1.ctl ]
	[ "$(cat notified)" = READY=1 ]
}

@test "--control: figures, connections by their ids, DELETE resets one, and drain" {
	node n1 --control n1.ctl --echo --first-frame-timeout none
	caller n0 --control n0.ctl --peer "n1=${AT[n1]}"
	peer p1 dial "${AT[n1]}" --from p1 --then stay
	shown p1 '.event == "open"'
	up n1 n0
	correct n1
	cp n1.body before
	orders n0 <<-END
		send n1 1 hello
		send n1 1 hello
		send n9 1 hello
	END
	told n0 'dropped n9 1 unknown-peer: its address is not known: say associate or --peer'
	counted n0 2 'message n1 .*'
	settled n0
	rows n1 'length == 2 and any(.[]; .state == "open" and .id == "node#2" and .interface == "node" and .in == 54 and .out == 54)
	    and any(.[]; .state == "first-frame" and .in == 0)'
	rows n0 'length == 1 and .[0].id == "n1#1" and .[0].state == "open" and .[0].peer == "'"${AT[n1]}"'"'
	figures n1 ccfnet_connections_taken_total=2 ccfnet_connections_active=2 'ccfnet_messages_total{direction="in"}=2' \
	    'ccfnet_messages_total{direction="out"}=2' 'ccfnet_message_bytes_total{direction="in"}=54' ccfnet_messages_waiting=0
	figures n0 'ccfnet_dials_total{result="ok"}=1' 'ccfnet_messages_total{direction="out"}=2' \
	    'ccfnet_messages_lost_total{reason="unknown-peer"}=1' ccfnet_connections_active=1 ccfnet_connections_taken_total=0
	correct n0
	correct n1
	python3 "$HERE/peer/promcheck.py" n1.body before
	refuses 404 n1 DELETE /connections/node%2399 .
	answers 200 n1 DELETE /connections/node%231
	shown p1 '.event == "end" and .how == "reset"'
	answers 200 n0 DELETE /connections/n1%231
	told n0 'link down n1 out .* control delivered=2 .*'
	told n1 'link down n0 in .* reset delivered=2 .*'
	answers 202 n1 POST /drain
	ends_with 0 n1
}

# --- signals ---

# waiting N [OPTION...]: n0 has sent N messages of 1 MiB (up to 32: more files wait as commands) to a peer p, which reads nothing until `kill -USR1`.
waiting() {
	peer p listen --after 0:stop --rcvbuf 4k --connections 0
	truncate -s 1M part
	caller n0 -v --peer "p=${AT[p]}" --user-timeout none --control n0.ctl "${@:2}"
	orders n0 < <(yes 'send p 1 file:part' | head -n "$1")
	up n0
	eventually stands_still n0
	links n0 | grep -q " sent=$1 "
}

# accounted N: when the link to p went down it was said what became of N messages.
accounted() {
	grep '^link down p ' n0.out | awk -F '[ =]' -v n="$1" '$8 + $10 + $12 != n || $14 != 0 { bad = 1; print } END { exit bad || NR != 1 }'
}

@test "TERM drains: what waits is delivered, nothing more is taken, and then the connections end" {
	waiting 30
	kill -TERM "${PID[n0]}"
	await_line n0.log 'draining'
	order n0 send p 1 late
	kill -USR1 "${PID[p]}"
	ends_with 0 n0
	told n0 "link down p out ${AT[p]} closed delivered=30 dropped=0 unknown=0 kept=0"
	shown p '.event == "end" and .how == "fin" and .frames == 30 and .partial == 0'
}

@test "at the second TERM what waits is dropped or unknown, and told; so it is after --drain-timeout: 28" {
	waiting 30
	kill -TERM "${PID[n0]}"
	await_line n0.log 'draining'
	stop n0 INT
	[ "$ended" = 28 ]
	told n0 "link down p out ${AT[p]} drain-timeout .*"
	accounted 30
	await_line n0.log 'a second signal: ending now'
	stop p
	waiting 30 --drain-timeout 100ms
	stop n0
	[ "$ended" = 28 ]
	told n0 "link down p out ${AT[p]} drain-timeout .*"
	accounted 30
	await_line n0.log 'not drained in time \(--drain-timeout\): ending now'
}

@test "USR1 says what became of the messages to each node" {
	node n1
	caller n0 --peer "n1=${AT[n1]}" --from bind:n0.hub
	orders n0 <<-END
		send n1 1 x
		send n9 1 x
	END
	told n0 'dropped n9 1 unknown-peer: its address is not known: say associate or --peer'
	settled n0
	kill -USR1 "${PID[n0]}"
	await_line n0.log 'ccf-nodelink: info: n1: up, 1 sent: 1 delivered, 0 dropped, 0 unknown, 0 waiting; 0 received'
	await_line n0.log 'ccf-nodelink: info: 1 nodes, 1 connections, 1 sources open, 1 messages to nobody known'
}

# --- the log ---

@test "the log: silent for one that ends with its commands, -v, -vv, -q; --log json has the same facts; --trace the states of a dial" {
	local plain

	node n1 -q
	once 0 --peer "n1=${AT[n1]}" <<<'send n1 1 x'
	[[ $output != *ccf-nodelink:* ]]
	once 0 --peer "n1=${AT[n1]}" -v <<<'send n1 1 x'
	says "ccf-nodelink: info: n1#1 ${AT[n1]}: connected to node n1"
	says "ccf-nodelink: info: n1#1 ${AT[n1]}: closed: closed, by us, 0 bytes in, 23 out, after [0-9.]+ s"
	once 0 --peer "n1=${AT[n1]}" -v --log json <<<'send n1 1 x'
	grep '"ts"' <<<"$output" >log
	is_ndjson log
	jq -e -s --arg at "${AT[n1]}" 'map(select(.event != "draining")) | length == 2 and all(.[]; .tool == "ccf-nodelink" and .level == "info" and .conn == "n1#1" and .peer == $at)
	    and .[0].event == "open" and .[1].event == "close" and .[1].reason == "closed" and .[1].by == "us" and .[1].out == 23' log
	once 0 --peer "n1=${AT[n1]}" --trace <<<'send n1 1 x'
	[ "$(grep ^trace <<<"$output")" = 'trace: FRESH -> CONNECTING_RESOLVING
trace: CONNECTING_RESOLVING -> CONNECTING
trace: CONNECTING -> CONNECTED' ]
	once 7 --peer "n1=$PORT_1" -q <<<'send n1 1 x'
	[[ $output == *'ccf-nodelink: warn: 127.0.0.1:1: node n1: cannot connect to 127.0.0.1:1: Connection refused'* ]]
	once 0 --peer "n1=${AT[n1]}" -vv <<<'send n1 1 x'
	told n1 'message n0 consensus 1 x'
	stop n1
	[ ! -s n1.log ]
}

# --- over TLS ---

@test "through ccf-tlsterm: nodes speak over TLS, both ways, and their links end in order" {
	certs
	mkfifo n1.in
	exec {fd}<>n1.in
	ORDERS[n1]=$fd
	pipeline lst ccf-listen --to - --ready-fd 9 --ready-when listening --address-file a.json node=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to - '|' \
	    n1 ccf-nodelink --from - --id n1 --commands n1.in
	spawn out ccf-listen --ready-fd 9 --address-file out.json out=127.0.0.1:0 -- \
	    ccf-connect --tls "$(address a.json node)" --ca "$CERTS/ca.pem"
	caller n0 --peer "n1=$(address out.json out)"
	orders n0 < <(seq -f 'send n1 1 message %g' 500)
	told n1 'message n0 consensus 11 message 500'
	orders n1 < <(seq -f 'send n0 1 answer %g' 500)
	told n0 'message n1 consensus 10 answer 500'
	cmp <(messages n1 | cut -d ' ' -f 4-) <(seq -f 'message %g' 500)
	cmp <(messages n0 | cut -d ' ' -f 4-) <(seq -f 'answer %g' 500)
	settled n1
	order n0 close n1
	told n0 'link down n1 out .* closed delivered=500 dropped=0 unknown=0 kept=0'
	told n1 'link down n0 in .* done delivered=500 dropped=0 unknown=0 kept=0'
	await_line tls.log 'closed: done'
	stop n0
	[ "$ended" = 0 ]
	stop lst
	ends_with 0 tls
	stop n1
	[ "$ended" = 0 ]
}
