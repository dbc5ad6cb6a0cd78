# certs - certificates, keys and CAs as they are read: waited for, read again while clients come, kept where the new ones
# are no good.
#
#	CCF_SHAKES=10000 bats tests/certs.bats		rotation under at least so many handshakes
#
# (who runs this makes no difference)

load helpers
load clients
load generations

# --- new ones ---

@test "while the certificate changes twenty times no handshake fails, and each sees an old or a new one whole" {
	local i kind one two at_least=${CCF_SHAKES:-1000}

	store() {	# store I: a directory of that generation, as a volume is laid out
		mkdir "v$1"
		cp "$MADE/c$1.pem" "v$1/node.pem"
		cp "$MADE/c$1.key" "v$1/node.key"
	}

	change() {	# change KIND I
		case $1 in
		swap)
			store "$2"
			ln -s "v$2" ..new
			mv -T ..new ..data
			;;
		rename)
			cp "$MADE/c$2.pem" "$MADE/c$2.key" .
			mv "c$2.key" ..data/node.key
			mv "c$2.pem" ..data/node.pem
			;;
		rewrite)
			cat "$MADE/c$2.pem" >..data/node.pem
			cat "$MADE/c$2.key" >..data/node.key
			;;
		pair)
			cp "$MADE/c$2.pem" "c$2.pem"
			mv "c$2.pem" ..data/node.pem
			cat "$MADE/c$2.key" >>..data/node.key.new
			mv ..data/node.key.new ..data/node.key
			;;
		esac
	}

	changed() {	# both have it, and it has been used
		await_line shake.out "^saw c$i $one\$"
		await_line shake.out "^saw c$i $two\$"
		eventually -t $((LIMIT + at_least / 100)) at $((i * at_least / GENERATIONS))
	}

	at() {
		[ "$(sed -n 's/^at //p' shake.out | tail -n 1)" -ge "$1" ]
	}

	store 0
	ln -s v0 ..data
	ln -s ..data/node.pem node.pem
	ln -s ..data/node.key node.key
	set -- --cert node.pem --key node.key --app echo
	front 1 -- "$@"
	one=$ADDR
	front 2 -- -j 2 "$@"
	two=$ADDR
	SPAWN_OUT=shake.out spawn shake python3 "$HERE/peer/shake.py" "$CA" "$at_least" "$one" "$two" -- "$MADE"/c[0-9]*.pem
	i=0
	changed
	for kind in {swap,rename,rewrite,pair}' '{1..4}; do
		i=$((i + 1))
		change "${kind% *}" $i
		hup term1
		hup term2
		changed
	done
	for kind in rewrite rename pair swap; do	# and nobody says so
		i=$((i + 1))
		change $kind $i
		changed
	done
	[ "$i" = "$GENERATIONS" ]
	kill -TERM "${PID[shake]}"
	wait_for shake $((LIMIT + at_least / 50))
	tail -n 1 shake.out
	[ "$(sed -n 's/^done \([0-9]*\) failed 0$/\1/p' shake.out)" -ge "$at_least" ]
	for i in 1 2; do
		run ! grep -E 'failed:|handshake failed| error: |worker [0-9]' term$i.log
		[ "$(grep -c 'loaded again from' term$i.log)" -ge "$GENERATIONS" ]
	done
	for ADDR in "$one" "$two" "$two"; do
		eventually is_served "c$GENERATIONS"
	done
}

# --- no good ones ---

# kept PATTERN: after HUP the log says that, and who was served is served on.
kept() {
	local before

	before=$(wc -l <term.log)
	hup
	eventually says_why "$before" ": not loaded again: $1; what was loaded before stays in use\$"
	[ "$(served)" = "$old" ]
	n=$((n + 1))
}

says_why() {	# says_why AFTER PATTERN
	tail -n "+$(($1 + 1))" term.log | grep -q -E -e "$2"
}

@test "a set that cannot be used is not taken, whatever is wrong with it; the log says what, it is counted, and once repaired it is" {
	local file what n=0 old=c0

	cp "$MADE/c0.pem" node.pem
	cp "$MADE/c0.key" node.key
	front '' -- --cert node.pem --key node.key --app echo
	counted
	for file in pem key; do
		what='a certificate'
		[ $file = pem ] || what='a private key'
		head -c 150 "$MADE/c9.$file" >new
		mv new node.$file
		kept "node.$file: is cut off in the middle of a block"
		: >new
		mv new node.$file
		kept "node.$file: is empty"
		echo 'not what you think' >node.$file
		kept "node.$file: does not hold $what in PEM form"
		rm node.$file
		kept "node.$file is not there"
		mkdir node.$file
		kept "node.$file: Is a directory"
		rmdir node.$file
		mkfifo node.$file
		kept "node.$file: is not a regular file"
		rm node.$file
		ln -s node.$file node.$file
		kept "node.$file: Too many levels of symbolic links"
		rm node.$file
		head -c 1100000 /dev/zero >node.$file
		kept "node.$file: is too large"
		if [ "$EUID" != 0 ]; then
			rm node.$file
			install -m 0 "$MADE/c0.$file" node.$file
			kept "node.$file: Permission denied"
		fi
		rm -f node.$file
		sed '2s/./_/' "$MADE/c9.$file" >node.$file
		kept "node.$file: (a certificate in it|its private key) is unusable: .*"
		cp "$MADE/c9.$file" node.$file
		kept 'node.key: the private key does not match the certificate in node.pem'
		old=c$((${old#c} + 1))
		cp "$MADE/$old.pem" node.pem
		cp "$MADE/$old.key" node.key
		hup
		eventually is_served "$old"
		counted
	done
	[ "$n" -ge 20 ]
	[ "$(lines 'not loaded again')" -ge "$n" ]
	[ "$(lines ' error: ')" = 0 ]
}

@test "a broken file is told once a change, though nobody asked, and the next good one is taken" {
	put c0
	echoing
	: >new
	mv new node.pem
	await_line term.log 'warn: not loaded again: node.pem: is empty; what was loaded before stays in use$'
	[ "$(served)" = c0 ]
	put c1
	eventually is_served c1
	[ "$(lines 'not loaded again')" = 1 ]
	[ "$(lines 'loaded again from')" = 1 ]
	counted
}

@test "certificate and CA are one unit: with a CA that is no good the new certificate is not taken either" {
	local n=0 old=c0

	is_verdict() {
		[ "$(verdict)" = "$1" ]
	}

	verdict() {	# what a session hears of our client
		"${ask[@]}" <<<x 2>/dev/null
	}

	put c0
	cp "$MADE/ca-other.pem" clients.pem
	front '' -- --cert node.pem --client-ca clients.pem -- sh -c 'echo "$SSL_CLIENT_VERIFY"; cat >/dev/null'
	ask=(ccf-connect --tls --ca "$CA" --servername localhost --cert "$MADE/client.pem" --key "$MADE/client.key" "$ADDR")
	[[ $(verdict) == FAILED* ]]
	put c1
	: >clients.pem
	kept 'clients.pem: does not hold a certificate in PEM form'
	rm clients.pem
	kept 'clients.pem: No such file or directory'
	head -c 300 "$CA" >clients.pem
	kept 'clients.pem: is cut off in the middle of a block'
	{
		cat "$MADE/ca-other.pem"
		sed 2s/M/_/ "$CA"
	} >clients.pem
	kept 'clients.pem: a certificate in it is unusable: .*'
	[[ $(verdict) == FAILED* ]]
	# Both, though nobody says so; a directory stands for what is in it.
	rm clients.pem
	mkdir new
	cp "$CA" new/one
	mv -T new clients.pem
	eventually is_served c1
	eventually is_verdict SUCCESS
	counted
	# The certificate is no good: nor is the CA taken.
	cp "$MADE/ca-other.pem" clients.pem/one
	: >node.pem
	old=c1
	kept 'node.pem: is empty'
	[ "$(verdict)" = SUCCESS ]
}

@test "a certificate near its end, past it, or not valid yet is served, with a warning when it is loaded and in the status" {
	local when='[0-9-]{10} [0-9:]{8} UTC' name says

	put c0
	echoing
	for name in 'near the certificate expires on' 'past the certificate expired on' \
	    'early the certificate is not valid before' 'above a certificate of its chain expires on'; do
		says="node.pem: ${name#* } $when"
		put "${name%% *}"
		hup
		await_line term.log "warn: $says\$"
		counted "; $says\$"
	done
	eventually is_served above
	put c1
	hup
	eventually is_served c1
	counted
	[ "$(grep ' warn: ' term.log | sort -u | wc -l)" = 4 ]
	stop lst
	ends_with 0 term
	# At the start it is the same.
	rm term.log
	put past
	echoing
	grep -E "warn: node.pem: the certificate expired on $when" term.log
	asked term "; certificate loaded, .*, 1 loads?, 0 failed; node.pem: the certificate expired on $when\$"
}

@test "open sessions and handshakes that have begun are not touched by a reload, nor a drain by HUP" {
	put c0
	echoing --drain-timeout 60s
	clients cl "$ADDR" --tls "$CA"
	tell cl open 3
	saw cl 3 connected
	SPAWN_OUT=half.out spawn half python3 "$HERE/peer/tls_client.py" half "$CA" "localhost:${ADDR##*:}"
	await_line half.out up
	put c1
	hup
	eventually is_served c1
	tell cl send 1 3 still
	eventually times 3 cl.out ' data still$'
	kill -USR1 "${PID[half]}"
	await_line term.log '^ccf-tlsterm: info: rpc#4 .*: open, TLS'
	kill -TERM "${PID[lst]}"
	await_line lst.log draining
	kill -TERM "${PID[term]}"
	await_line term.log draining
	put c2
	hup
	eventually reloaded 2
	tell cl send 1 3 on
	eventually times 3 cl.out ' data on$'
	tell cl end
	stop half
	ends_with 0 term
	ends_with 0 lst
}

@test "a worker that is started again serves what was loaded last" {
	put c0
	echoing -j 2
	put c1
	hup
	eventually is_served c1
	kill_worker term
	kill_worker term
	eventually times 2 term.log 'is up again'
	[ "$(served)" = c1 ]
	[ "$(served)" = c1 ]
}

@test "short of descriptors new certificates are not taken, it is said once, and they are when there are some" {
	local n=3 all

	put c0
	echoing
	all=$(fds term)
	while [ -e "/proc/${PID[term]}/fd/$n" ]; do
		n=$((n + 1))
	done
	prlimit --pid "${PID[term]}" --nofile="$n:"
	put c1
	await_line term.log 'not loaded again: node.pem: Too many open files; what was loaded before stays in use'
	asked term ' 1 loads?, 1 failed'
	[ "$(served)" = c0 ]
	prlimit --pid "${PID[term]}" --nofile="$(ulimit -Hn):"
	eventually is_served c1
	[ "$(lines 'Too many open files')" = 1 ]
	counted
	keeps term="$all"
}
