# connect - ccf-connect by itself: the states it goes through, what each failure ends with, and its sinks.

load helpers

# --- what the tests share ---

# path [FILE]: the way that the lines of --trace tell, as states with blanks between; one must begin where the last ended.
path() {
	awk '
		$1 != "trace:" { next }
		NF != 4 || $3 != "->" { print "not a trace:", $0; next }
		!at { printf "%s", at = $2 }
		$2 != at { printf " [%s]", $2 }
		{ printf " %s", at = $4 }
		END { print "" }' "$@"
}

# went STATE...: that is what the last `run` or expect_status has shown.
went() {
	local want="$*" was

	was=$(path <<<"$output")
	[ "$was" = "$want" ] || {
		printf 'went %s\nnot  %s\n' "$was" "$want"
		return 1
	}
}

# server STEPS...: tests/peer/scripted.py, spawned as srv; ADDR is where it listens, srv.out what it saw.
server() {
	rm -f srv.out
	spawn srv python3 "$HERE/peer/scripted.py" "${AT-127.0.0.1:0}" "$@"
	await_line srv.out .
	ADDR=$(head -n 1 srv.out)
}

# refusing: ADDR is a port that refuses: ccf-listen has it and waits for a consumer, which `serve` starts.
refusing() {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json --to link rpc=127.0.0.1:0
	ADDR=$(address a.json rpc)
}

serve() {
	spawn peer python3 "$HERE/peer/handoff.py" consume link --echo
}

# hosts TEXT: what names mean in WITH_HOSTS, a command prefix: a mount namespace with a hosts file of its own.
hosts() {
	requires netns
	printf '%b' "$1" >hosts
	echo 'hosts: files' >nsswitch
	echo 'multi on' >host.conf
	WITH_HOSTS=(unshare --mount)
	[ "$EUID" = 0 ] || WITH_HOSTS=(unshare --user --map-root-user --mount)
	WITH_HOSTS+=(sh -ec 'for f in hosts nsswitch host.conf; do
		to=/etc/${f%nsswitch}; [ "$f" != nsswitch ] || to=/etc/nsswitch.conf
		[ ! -e "$to" ] || mount --bind "$f" "$to"
	done; exec "$@"' sh)
}

# --- the states ---

@test "a connection goes FRESH, CONNECTING_RESOLVING, CONNECTING, CONNECTED, and at its end DISCONNECTED" {
	server all,say:bye
	spawn con ccf-connect --trace "$ADDR"
	ends_with 0 con
	[ "$(path con.log)" = "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED" ]
	[ "$(cat con.out)" = bye ]
}

@test "with --bind it goes by BINDING, and the server sees that address" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- sh -c 'echo from "$TCPREMOTEIP"'
	expect_status 0 ccf-connect --trace --bind 127.0.0.7 "$(address a.json rpc)" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"from 127.0.0.7"* ]]
}

@test "the first address refuses and the second is good" {
	hosts '127.44.0.2 both.test\n127.44.0.1 both.test\n'
	AT=127.44.0.1:0 server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"cannot connect to both.test:${ADDR#*:} (127.44.0.2:${ADDR#*:}): Connection refused; trying the next address"* ]]
}

@test "every address refuses: the last one's failure is told, with 7" {
	hosts '127.44.0.2 both.test\n127.44.0.1 both.test\n'
	refusing
	expect_status 7 "${WITH_HOSTS[@]}" ccf-connect --trace "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"(127.44.0.1:${ADDR#*:}): Connection refused"* ]]
}

@test "an address of another family than --bind is passed over with a line" {
	hosts '::1 both.test\n127.0.0.1 both.test\n'
	server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace --bind 127.0.0.1 "both.test:${ADDR#*:}" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"[::1]:${ADDR#*:} is passed over: it is of another family than 127.0.0.1, which is bound first"* ]]
	expect_status 7 ccf-connect --trace --bind 127.0.0.1 "[::1]:${ADDR#*:}" </dev/null
	went FRESH BINDING CONNECTING_RESOLVING CONNECTING_FAILED
	[[ $output == *"no address of it is of the family of 127.0.0.1"* ]]
}

@test "a name that does not resolve ends with 6" {
	hosts '127.0.0.1 localhost\n'
	expect_status 6 "${WITH_HOSTS[@]}" ccf-connect --trace no-such-host.test:80 </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED
	[[ $output == *"cannot resolve no-such-host.test: Name or service not known"* ]]
	expect_status 6 "${WITH_HOSTS[@]}" ccf-connect --trace --bind no-such-host.test 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED
	[[ $output == *"cannot resolve no-such-host.test, the address to bind"* ]]
}

@test "a port that is no service ends with 6, without a network" {
	expect_status 6 ccf-connect --trace 127.0.0.1:no-such-service </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED
	[[ $output == *"cannot resolve the port no-such-service"* ]]
}

@test "an address to bind that is not ours ends with 45" {
	expect_status 45 ccf-connect --trace --bind 192.0.2.1 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED
	[[ $output == *"cannot bind to 192.0.2.1: Cannot assign requested address (it is not an address of this host)"* ]]
	expect_status 45 ccf-connect --trace --bind 192.0.2.1 --retry 2 --retry-delay 1ms 127.0.0.1:80 </dev/null
	went FRESH BINDING BINDING_FAILED BINDING BINDING_FAILED BINDING BINDING_FAILED
}

@test "a name that does not resolve is looked up again as often as --retry says" {
	expect_status 6 ccf-connect --trace --retry 2 --retry-delay 1ms 127.0.0.1:no-such-service </dev/null
	went FRESH CONNECTING_RESOLVING RESOLVING_FAILED CONNECTING_RESOLVING RESOLVING_FAILED CONNECTING_RESOLVING RESOLVING_FAILED
}

@test "refused, then retried until a listener appears" {
	refusing
	echo hello >said
	SPAWN_IN=said spawn con ccf-connect --trace --retry 10000 --retry-delay 10ms --retry-max 50ms "$ADDR"
	await_line con.log 'CONNECTING_FAILED -> CONNECTING_RESOLVING'
	serve
	ends_with 0 con
	[ "$(cat con.out)" = hello ]
	[[ "$(path con.log)" =~ ^FRESH\ (CONNECTING_RESOLVING\ CONNECTING\ CONNECTING_FAILED\ )+CONNECTING_RESOLVING\ CONNECTING\ CONNECTED\ DISCONNECTED$ ]]
}

@test "what cannot be connected is tried once more than --retry says, and ends with 7" {
	refusing
	expect_status 7 ccf-connect --trace --retry 2 --retry-delay 1ms "$ADDR" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED \
	    CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to $ADDR: Connection refused"* ]]
}

@test "between retries it waits: --retry-delay doubles up to --retry-max" {
	requires strace plain
	refusing
	expect_status 124 timeout 1 strace -qq -o calls -e trace=connect \
	    ccf-connect --retry 1000000 --retry-delay 400ms "$ADDR" </dev/null
	[ "$(grep -c ECONNREFUSED calls)" -ge 1 ]
	[ "$(grep -c ECONNREFUSED calls)" -lt 30 ]
}

# --- connecting ---

@test "-z says how long each step took, sends nothing, and ends" {
	server all
	expect_status 0 ccf-connect -z "$ADDR" </dev/null
	[[ $output =~ ^connected\ to\ $ADDR:\ name\ [0-9]+\.[0-9]{3}\ ms,\ connection\ [0-9]+\.[0-9]{3}\ ms$ ]]
	await_line srv.out '^1 got 0'
	refusing
	expect_status 7 ccf-connect -z "$ADDR"
	expect_status 0 sh -c 'yes | ccf-connect -z "$1" >out' sh "$(spawn l ccf-listen --ready-fd 9 --address-file l.json --to l a=127.0.0.1:0; address a.json rpc)" || :
}

@test "--connect-timeout: no answer is status 28, and every address has its own" {
	SPAWN_OUT=deaf.address spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.address .
	ADDR=$(cat deaf.address)
	expect_status 28 ccf-connect --trace --connect-timeout 200ms "$ADDR" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to $ADDR: no answer within 200 ms"* ]]
	hosts '127.44.0.2 both.test\n127.0.0.1 both.test\n'
	expect_status 28 "${WITH_HOSTS[@]}" ccf-connect --connect-timeout 200ms "both.test:${ADDR#*:}" </dev/null
}

@test "after a timeout the next address is tried" {
	SPAWN_OUT=deaf.address spawn deaf python3 "$HERE/peer/deaf.py"
	await_line deaf.address .
	ADDR=$(cat deaf.address)
	hosts '127.0.0.1 both.test\n127.44.0.1 both.test\n'
	AT=127.44.0.1:${ADDR#*:} server all
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -v --trace --connect-timeout 200ms "both.test:${ADDR#*:}" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED DISCONNECTED
	[[ $output == *"no answer within 200 ms; trying the next address"* ]]
}

@test "--user-timeout cuts a peer that acknowledges nothing, with 18" {
	requires plain
	server wait
	head -c 64M /dev/zero >much
	SPAWN_IN=much spawn con ccf-connect --user-timeout 500ms "$ADDR"
	ends_with 18 con
	grep -q 'cut: timed-out: Connection timed out' con.log
}

@test "-4 and -6 choose the family, and a literal of the other one does not resolve" {
	requires ipv6
	hosts '127.44.0.1 both.test\n::1 both.test\n'
	server all,say:four
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -4 -z "localhost4.test:${ADDR#*:}" || :
	printf '127.0.0.1 both.test\n::1 both.test\n' >hosts
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -4 "both.test:${ADDR#*:}" </dev/null
	[ "$output" = four ]
	AT='[::1]:0' server all,say:six
	expect_status 0 "${WITH_HOSTS[@]}" ccf-connect -6 "both.test:${ADDR##*:}" </dev/null
	[ "$output" = six ]
	expect_status 6 ccf-connect -4 "$ADDR" </dev/null
	expect_status 6 ccf-connect -6 127.0.0.1:80 </dev/null
}

@test "unix: targets are connected; who is not there is 7" {
	AT=unix:$PWD/s server read:5,say:answer
	printf hello >said
	expect_status 0 ccf-connect "unix:$PWD/s" <said
	[ "$output" = answer ]
	await_line srv.out "got 5 'hello'"
	expect_status 7 ccf-connect --trace "unix:$PWD/none" </dev/null
	went FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED
	[[ $output == *"cannot connect to unix:$PWD/none: No such file or directory"* ]]
}
