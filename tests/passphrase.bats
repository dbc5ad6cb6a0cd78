# passphrase - keys that only the master can open, and files that only it can read.
#
# (who runs this makes no difference)

load helpers
load clients
load generations

# locked NAME HOW PASSPHRASE [FILE]: its certificate and its key, encrypted; HOW is new (PKCS#8) or old.
locked() {
	local how=()

	[ "$2" = new ] || how=(-traditional)
	{
		cat "$MADE/$1.pem"
		openssl pkey -in "$MADE/$1.key" -aes256 -passout "pass:$3" "${how[@]}"
	} >new.pem
	grep -q -F "$([ "$2" = new ] && echo 'BEGIN ENCRYPTED PRIVATE KEY' || echo 'DEK-Info: AES-256')" new.pem
	mv new.pem "${4-node.pem}"
}

@test "a key of either form is opened by a variable, a file or a descriptor, again at each load; a wrong one is 58" {
	local how from

	passing() {	# becomes a terminator with PW and descriptor 7
		export PW=$1
		exec 7<<<"$1"
		shift
		exec "$@"
	}

	for how in new old; do
		for from in env:PW file:pass fd:7; do
			echo "$from $how" >pass
			locked c0 $how "$from $how"
			rm -f term.log
			AS=(passing "$from $how")
			front '' -- --cert node.pem --passphrase $from -- \
			    sh -c '{ env; echo fd /proc/self/fd/*; } >new; mv new env; cat'
			is_served c0
			eventually grep -q '^CCF_CONN_ID=' env
			[ $from = env:PW ] || sed -i '/^PW=/d' env	# which nobody spoke of
			run ! grep -E "^PW=|$from $how|^fd .*/7" env
			locked c1 $how "$from $how"
			hup
			eventually is_served c1
			stop lst
			ends_with 0 term
			AS=()
			expect_status 58 env PW=wrong bash -c "echo wrong >pass; exec 7<<<wrong; exec ccf-tlsterm --cert node.pem --passphrase $from --from p --app echo"
			[[ $output == *'error: node.pem: wrong passphrase for the private key ('* ]]
		done
	done
	expect_status 58 env -u PW ccf-tlsterm --cert node.pem --passphrase env:PW --from p --app echo
	[[ $output == *'the passphrase from env:PW: it is not set' ]]
	expect_status 58 ccf-tlsterm --cert node.pem --passphrase file:none --from p --app echo
	expect_status 58 ccf-tlsterm --cert node.pem --passphrase fd:7 --from p --app echo 7<&-
	expect_status 58 setsid -w ccf-tlsterm --cert node.pem --from p --app echo
	[[ $output == *'node.pem: the private key is protected by a passphrase, and there is no terminal to ask'* ]]
}

# at_terminal TEXT -- ARG...: a terminator with a terminal of its own where that is typed; tty is its journal.
at_terminal() {
	local text=$1

	shift
	AS=(python3 "$HERE/peer/typist.py" tty "$text")
	front '' "$@"
}

leaves() {	# it may not read yet when it is told
	kill -TERM "$1" 2>/dev/null || :
	dead "$1"
}

@test "a terminal is asked once, shows nothing of what is typed, and nobody is asked while we serve" {
	locked c0 new 'open sesame'
	at_terminal 'open sesame\n' -- --cert node.pem --app echo
	is_served c0
	locked c1 old 'open sesame'
	hup
	eventually is_served c1
	# With another passphrase it is not taken; the first one is not forgotten.
	locked c2 new 'another'
	hup
	await_line term.log 'not loaded again: node.pem: wrong passphrase for the private key '
	is_served c1
	locked c3 new 'open sesame'
	hup
	eventually is_served c3
	stop lst
	ends_with 0 term
	await_line tty '^shown '
	[ "$(grep -c '^prompt$' tty)" = 1 ]
	[[ $(tail -n 1 tty) == *"Passphrase for node.pem: "* ]]
	run ! grep sesame tty term.log
	# A wrong one is not asked for twice, and who does not want to answer can leave.
	rm tty
	expect_status 58 python3 "$HERE/peer/typist.py" tty 'wrong\n' ccf-tlsterm --cert node.pem --from bind:p --app echo
	[[ $output == *'error: node.pem: wrong passphrase for the private key ('* ]]
	for how in '\x03 130' 'TERM 143'; do
		rm -f tty
		spawn left python3 "$HERE/peer/typist.py" tty "${how% *}" ccf-tlsterm --cert node.pem --from bind:p --app echo
		await_line tty '^prompt$'
		[ "${how% *}" != TERM ] || eventually leaves "${PID[left]}"
		ends_with "${how#* }" left
		[ ! -e p ]
	done
}

# bats test_tags=root
@test "nobody can read the passphrase: not in the arguments, the environment or the memory of a worker, at any time" {
	local from how worker

	requires root plain
	secret=$(openssl rand -hex 12)

	passing() {
		[ "$from" != env:PW ] || export PW=$secret
		[ "$from" != fd:7 ] || exec 7<<<"$secret"
		exec "$@"
	}

	hidden() {	# no worker knows it
		mapfile -t known < <(workers term)
		[ "${#known[@]}" = 2 ] && python3 - "$secret" "${known[@]}" <<-'EOF'
			import sys
			secret = sys.argv[1].encode()
			for pid in sys.argv[2:]:
			    for name in "environ", "cmdline":
			        with open(f"/proc/{pid}/{name}", "rb") as f:
			            assert secret not in f.read(), name
			    seen = 0
			    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
			        for line in maps:
			            words = line.split()
			            first, last = (int(x, 16) for x in words[0].split("-"))
			            if words[1][0] != "r" or words[-1] in ("[vvar]", "[vsyscall]"):
			                continue
			            try:
			                mem.seek(first)
			                data = mem.read(last - first)
			            except OSError:	# a page that is nobody's
			                continue
			            seen += len(data)
			            assert secret not in data, line
			    assert seen > 1 << 20
		EOF
	}

	echo "$secret" >pass
	for how in 'env:PW there' 'env:PW later' 'file:pass there' 'fd:7 later' 'terminal there'; do
		from=${how% *} how=${how#* }
		rm -f ./*.log node.pem tty
		[ "$how" = later ] || locked c0 new "$secret"
		set -- --passphrase "$from"
		AS=(passing)
		[ "$from" != terminal ] || AS=(python3 "$HERE/peer/typist.py" tty "$secret\n")
		[ "$from" != terminal ] || set --
		pipeline lst ccf-listen --to - --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 '|' \
		    term "${AS[@]}" ccf-tlsterm -j 2 --cert node.pem --app echo "$@"
		ADDR=$(address a.json rpc)
		await_line term.log '2 workers up'
		hidden
		[ "$how" = there ] || locked c0 new "$secret"
		await_line lst.log 'rpc: listening'
		eventually is_served c0
		locked c1 old "$secret"
		hup
		eventually is_served c1
		hidden
		kill_worker term
		await_line term.log 'is up again'
		hidden
		run ! grep -z "$secret" "/proc/${PID[term]}/environ" "/proc/${PID[term]}/cmdline"
		run ! grep "$secret" term.log
		stop lst
		ends_with 0 term
	done
}

# bats test_tags=root
@test "workers that may not read the files serve what the master reads, and what it reads again" {
	local worker

	requires root
	put c0
	chmod 600 node.pem
	cp "$CA" clients.pem
	chmod 600 clients.pem
	echoing -j 2 --user nobody --client-ca clients.pem
	for worker in $(workers term); do
		[ "$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$worker/status")" = '65534 65534 65534' ]
	done
	is_served c0
	put c1
	chmod 600 node.pem
	hup
	eventually is_served c1
	kill_worker term
	await_line term.log 'is up again'
	[ "$(served)" = c1 ]
	[ "$(served)" = c1 ]
	run ! setpriv --reuid 65534 --clear-groups cat node.pem
}

@test "who waits for a passphrase that does not come can be told to end" {
	mkfifo silent
	locked c0 new secret
	spawn term bash -c 'exec 7<>silent; exec ccf-tlsterm --cert node.pem --passphrase fd:7 --from p --app echo'
	# It has begun to take signals as events.
	eventually grep -q '^SigBlk:.*[1-9a-f]' "/proc/${PID[term]}/status"
	kill -TERM "${PID[term]}"
	ends_with 143 term
}
