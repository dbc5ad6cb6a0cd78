# generations - certificates that follow one another, and a terminator that reads them: `load generations` after clients.
# shellcheck shell=bash disable=SC2154	# what helpers set

GENERATIONS=20

# MADE has a root, ca.pem, and certificates c0 to c20 (NAME.pem, NAME.key), each with a key and an intermediate of its own.
setup_file() {
	load helpers
	local i

	mkdir "$BATS_FILE_TMPDIR/made"
	{
		echo 'ca cn=root'
		for ((i = 0; i <= GENERATIONS; i++)); do
			echo "ca-$i by=ca cn=between-$i"
			echo "c$i by=ca-$i cn=c$i san=DNS:localhost key=own"
		done
		echo 'near by=ca cn=near san=DNS:localhost key=own from=-86400 to=3600'
		echo 'past by=ca cn=past san=DNS:localhost key=own from=-7200 to=-3600'
		echo 'early by=ca cn=early san=DNS:localhost key=own from=3600'
		echo 'ca-short by=ca cn=short from=-90000 to=7200'
		echo 'above by=ca-short cn=above san=DNS:localhost key=own'
		echo 'client by=ca-1 cn=someone use=client'
		echo 'ca-other cn=other'
	} | python3 "$HERE/peer/certify.py" "$BATS_FILE_TMPDIR/made"
	chmod -R a+rX "$BATS_FILE_TMPDIR/made"
}

setup() {
	common_setup
	MADE=$BATS_FILE_TMPDIR/made
	CA=$MADE/ca.pem
}

# put NAME [FILE]: that certificate and its key are node.pem now, or FILE, at one stroke.
put() {
	cat "$MADE/$1.pem" "$MADE/$1.key" >new.pem
	mv -fT new.pem "${2-node.pem}"
}

# front NAME [OPTION...] -- TERM...: a listener with these options and behind it a terminator, NAME, with those; ADDR.
front() {
	local name=$1 options=()

	shift
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	pipeline "lst$name" ccf-listen --to - --ready-fd 9 --ready-when listening --address-file "$name.json" \
	    "${options[@]}" rpc=127.0.0.1:0 '|' "term$name" "${AS[@]}" ccf-tlsterm "$@"
	ADDR=$(address "$name.json" rpc)
}

# echoing [OPTION...]: an echo behind node.pem.
echoing() {
	front '' -- --cert node.pem --app echo "$@"
}

# served [OPTION...]: who answers at ADDR, by common name, if its chain leads to the root.
served() {
	openssl s_client -connect "$ADDR" -servername localhost -CAfile "$CA" -verify_return_error "$@" \
	    </dev/null 2>s_client.log | openssl x509 -noout -subject -nameopt RFC2253 | sed 's/^subject=CN=//'
}

is_served() {
	[ "$(served "${@:2}")" = "$1" ]
}

# hup [NAME]: now, not when somebody looks next.
hup() {
	kill -HUP "${PID[${1-term}]}"
}

# counted [PATTERN]: the status says how often they were loaded and how often that failed, as the log does; behind it PATTERN.
counted() {
	eventually counts "${1-\$}"
}

counts() {
	ask term "certificate loaded, valid until [0-9-]+, $(lines 'certificate loaded.* from') loads?, $(lines 'not loaded again') failed$1"
}

# lines PATTERN: how many such lines the terminator has written.
lines() {
	grep -c -E -e "$1" term.log || :
}

# reloaded N: so often, or more often.
reloaded() {
	[ "$(lines 'loaded again from')" -ge "$1" ]
}
