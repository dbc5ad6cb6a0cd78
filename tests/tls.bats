# tls - what clients of all kinds get of ccf-tlsterm, what it logs of them, and what its COMMAND is told: tables of clients, one
# for each dimension (versions, suites, groups, certificates, names, protocols), and every cell of them is asserted.
#
# A line of a table is a client with its options, and after => what becomes of it:
#
#	CLIENT[@NAME] OPTION... => VERSION SUITE GROUP CERTIFICATE ALPN NAME VERIFY
#	CLIENT[@NAME] OPTION... => refused ALERT REGEX
#
# CLIENT is openssl, gnutls or curl; NAME the server name that it asks for (localhost; openssl@ asks for none).  GROUP is ?
# where the client does not tell; CERTIFICATE is the common name in what the server showed; ALPN, NAME and VERIFY are what
# COMMAND is told, and - is nothing.  ALERT is the number that the client got, REGEX what the terminator logs as the reason.
#
# (who runs this makes no difference; left out of brief runs)

load helpers

setup_file() {
	certs
	export PKI=$BATS_FILE_TMPDIR/pki
	mkdir -p "$PKI/dir"
	python3 "$HERE/peer/certify.py" "$PKI" <<-'END'
		ca cn='a root'
		known by=ca san=DNS:known.example
		wild by=ca san=DNS:*.wild.example
		exact by=ca san=DNS:exact.wild.example
		good by=ca use=client
		expired by=ca use=client from=-7200 to=-3600
		early by=ca use=client from=36000 to=72000
		server by=ca use=server
		ca2 cn='another root'
		other by=ca2 use=client
		self use=client
		facts by=ca use=client cn='Zo\u00eb "the first", of\x2b us\\' san=DNS:a.example,IP:192.0.2.7,IP:2001:db8::7,DNS:b.example
		big by=ca use=client pad=20000
		large by=ca use=client pad=29600
		huge by=ca use=client pad=40960
		evil by=ca use=client cn='a\nSSL_CLIENT_VERIFY=SUCCESS\nccf-tlsterm: error: forged\0\rSSL_CIPHER=NONE\x1b[31m () { :; }; echo forged'
		program by=ca use=client cn='() { :; }; echo forged'
	END
	cat "$CERTS/ca.pem" "$PKI/ca.pem" >"$PKI/all.pem"
	cp "$PKI/ca.pem" "$PKI/dir/one.pem"
	cp "$CERTS/ca.pem" "$PKI/dir/another.pem"
}

setup() {
	common_setup
	certs
	mkfifo hold
	exec {HOLD}<>hold	# the input of a client that ends when the server does
	ECDSA=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
	RSA=(--cert "$CERTS/rsa.pem" --key "$CERTS/rsa.key")
}

# --- the terminator ---

SAYS='printf "HTTP/1.0 200 OK\r\n\r\n"; exec env'	# what a COMMAND is told, as an answer

# serves OPTION...: a listener, and a terminator with a COMMAND that says what it is told.
serves() {
	rm -f ./*.log
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm "$@" -- sh -c "$SAYS"
	located
}

located() {
	ADDR=$(address a.json rpc)
	PORT=${ADDR##*:}
	CELLS=0
	ROW=() WANT=() HAD=() TALK=()

}

# --- the clients ---

# ask CLIENT[@NAME] OPTION...: its status; what it says is in SAID.
ask() {
	local client=${1%%@*} name=localhost as=() status=0

	[[ $1 != *@* ]] || name=${1#*@}
	shift
	case $client in
	openssl)
		as=(-noservername)
		[ -z "$name" ] || as=(-servername "$name")
		bounded openssl s_client -connect "$ADDR" "${as[@]}" -CAfile "$PKI/all.pem" -verify_return_error -ign_eof "$@" \
		    </dev/null >said 2>&1 || status=$?
		;;
	gnutls)
		as=(--disable-sni)
		[ -z "$name" ] || as=(--sni-hostname="$name")
		bounded gnutls-cli --insecure -p "$PORT" "${as[@]}" "$@" 127.0.0.1 <&"$HOLD" >said 2>&1 || status=$?
		;;
	curl)
		bounded curl -sS -v -k --noproxy '*' --resolve "*:$PORT:127.0.0.1" "$@" "https://${name:-127.0.0.1}:$PORT/" \
		    >said 2>&1 || status=$?
		;;
	esac
	{ SAID=$'\n'$(<said); } 2>/dev/null	# it warns of NULs
	return "$status"
}

bounded() { timeout -k 1 $((LIMIT * 3)) "$@"; }

# found VARIABLE REGEX: what its last group matches in SAID, or -.
found() {
	local value=-

	[[ ! $SAID =~ $2 ]] || value=${BASH_REMATCH[-1]}
	printf -v "$1" %s "$value"
}

# got_CLIENT: what it says it has, in the words of openssl: VERSION SUITE GROUP CERTIFICATE ALPN.
got_openssl() {
	found version '(New|Reused), (TLSv1\.[0-9]), Cipher is'
	found suite ', Cipher is ([A-Z0-9_-]+)'
	found group 'Server Temp Key: (ECDH, )?([A-Za-z0-9]+)'
	found cert $'\nsubject=[^\n]*CN = ([^\n]+)'
	found alpn 'ALPN protocol: ([^[:space:]]+)'
}

got_gnutls() {
	local parts='Description: \(TLS(1\.[0-9])-X\.509\)-\(ECDHE-([A-Z0-9]+)\)-\(([A-Z]+)[^)]*\)-\(AES-([0-9]+)-GCM\)'
	local hash=SHA384

	found cert 'Certificate\[0\] info:[^a-z]*subject `[^'\'']*CN=([^,'\'']+)'
	found alpn 'Application protocol: ([^[:space:]]+)'
	version=- suite=- group=-
	[[ $SAID =~ $parts ]] || return 0
	version=TLSv${BASH_REMATCH[1]} group=${BASH_REMATCH[2]} suite=ECDHE-${BASH_REMATCH[3]}-AES${BASH_REMATCH[4]}-GCM
	[ "${BASH_REMATCH[4]}" = 256 ] || hash=SHA256
	suite+=-$hash
	[ "$version" != TLSv1.3 ] || suite=TLS_AES_${BASH_REMATCH[4]}_GCM_$hash
}

got_curl() {
	found version 'SSL connection using (TLSv1\.[0-9]) / '
	found suite 'SSL connection using TLSv1\.[0-9] / ([A-Z0-9_-]+)'
	found cert $'subject:[^\n]*CN=([^\n;]+)'
	found alpn 'ALPN: server accepted ([^[:space:]]+)'
	group='?'
}

# got CLIENT: the same, and NAME VERIFY, which COMMAND was told, in GOT.
got() {
	local version suite group cert alpn name verify said

	"got_$1"
	case $group in
	secp521r1 | SECP521R1) group=P-521 ;;
	secp384r1 | SECP384R1) group=P-384 ;;
	prime256v1 | SECP256R1) group=P-256 ;;
	esac
	found verify $'\nSSL_CLIENT_VERIFY=([^\n]+)'
	found name $'\nSSL_TLS_SNI_SERVERNAME=([^\n]+)'
	GOT="$version $suite $group ${cert// /_} $alpn $name $verify"
	# What COMMAND was told of the same has to be the same.
	found said $'\nSSL_PROTOCOL=([^\n]+)'
	[ "$said" = "$version" ] || GOT+=" SSL_PROTOCOL=$said"
	found said $'\nSSL_CIPHER=([^\n]+)'
	[ "$said" = "$suite" ] || GOT+=" SSL_CIPHER=$said"
	found said $'\nCCF_ALPN=([^\n]+)'
	[ "$said" = "$alpn" ] || GOT+=" CCF_ALPN=$said"
	found said $'\nCCF_CONN_ID=([^\n]+)'
	[ "$said" = "rpc#$CELLS" ] || GOT+=" CCF_CONN_ID=$said"
}

# refusal: the alert that the client was refused with, in GOT.
refusal() {
	local alert reason

	found alert 'Received alert \[([0-9]+)\]'
	found reason 'error:0A000([0-9A-F]{3}):'	# OpenSSL's number for an alert is 1000 more
	[ "$reason" = - ] || alert=$((16#$reason - 1000))
	found reason 'IN\), TLS alert, [^(]*\(([0-9]+)\)'	# curl's has the level, 2, above it
	[ "$reason" = - ] || alert=$((reason - 512))
	GOT="refused $alert"
}

# --- the tables ---

# cells: what becomes of the clients of a table, one after the other, and of the terminator, which ends then.  Ten of them may
# be refused: more are summed up.
cells() {
	local row words want status

	while read -r row; do
		[[ -n $row && $row != '#'* ]] || continue
		CELLS=$((CELLS + 1))
		read -r -a words <<<"${row%%=>*}"
		ROW[CELLS]=$row
		read -r want <<<"${row##*=>}"
		WANT[CELLS]=$want
		status=0
		ask "${words[@]}" || status=$?
		if [[ $SAID == *$'\nSSL_PROTOCOL='* ]]; then
			got "${words[0]%%@*}"
			[ "$status" = 0 ] || GOT+=" and ended with $status"
		else
			refusal
			[ "$status" != 0 ] || GOT+=" and ended with 0"
		fi
		HAD[CELLS]=$GOT
		TALK[CELLS]=$SAID
	done
	eventually logged "$CELLS" 'closed: ' || :
	judge
	stop lst
	[ "$ended" = 0 ]
	ends_with 0 tls
}

all_are_closed() {
	[ "$(grep -c 'closed: ' lst.log)" = "$1" ]
}

# logged N TEXT: so many connections have a line that begins with TEXT.
logged() {
	[ "$(grep -c "^ccf-tlsterm: info: rpc#[0-9]* [0-9.:]*: $2" tls.log)" = "$1" ]
}

# judge: whether every client had what it should have, and the log has two lines of each, which say so.
judge() {
	local line id log=() bad=0

	[ "$CELLS" -gt 0 ]

	while IFS= read -r line; do
		[[ $line =~ ^ccf-tlsterm:\ info:\ rpc#([0-9]+)\ [0-9.:]+:\ (.*)$ ]] || continue
		log[BASH_REMATCH[1]]+=${BASH_REMATCH[2]}$'\n'
	done <tls.log
	for id in "${!ROW[@]}"; do
		right "${WANT[id]}" "${HAD[id]}" "${log[id]}" && continue
		printf '%s\ngot: %s\nlog: %s\n' "${ROW[id]}" "${HAD[id]}" "${log[id]}"
		grep -E -i '^(SSL_|CCF_)|error|alert|cipher is|subject|description' <<<"${TALK[id]}" || :
		bad=$((bad + 1))
	done
	[ "$bad" = 0 ] || {
		echo "$bad of $CELLS are not as they should be"
		return 1
	}
}

# right WANT HAD LOG
right() {
	local version suite alert why

	if [[ $1 == refused* ]]; then
		read -r _ alert why <<<"$1"
		[ "$2" = "refused $alert" ] &&
		    [[ $3 =~ ^'handshake failed: '${why}[^$'\n']*$'\n''closed: handshake-failed, '[^$'\n']*', status 35'$'\n'$ ]]
	else
		read -r version suite _ <<<"$1"
		[ "$2" = "$1" ] &&
		    [[ $3 =~ ^"open, $version $suite"$'\n''closed: '(done|no-close-notify)', '[^$'\n']*$'\n'$ ]]
	fi
}

# --- versions, suites, groups ---

E256=ECDHE-ECDSA-AES256-GCM-SHA384 E128=ECDHE-ECDSA-AES128-GCM-SHA256
R256=ECDHE-RSA-AES256-GCM-SHA384 R128=ECDHE-RSA-AES128-GCM-SHA256
T256=TLS_AES_256_GCM_SHA384 T128=TLS_AES_128_GCM_SHA256

# How a client is held to a version, and what it gets then.
declare -gA OPTIONS=(
	["openssl TLSv1.2"]=-tls1_2 ["openssl TLSv1.3"]=-tls1_3
	["curl TLSv1.2"]='--tls-max 1.2' ["curl TLSv1.3"]=--tlsv1.3
	["gnutls TLSv1.2"]='--priority NORMAL:-VERS-TLS1.3' ["gnutls TLSv1.3"]='--priority NORMAL:-VERS-ALL:+VERS-TLS1.3'
)
declare -gA USUAL=(
	["openssl TLSv1.2"]="TLSv1.2 $E256 P-521" ["openssl TLSv1.3"]="TLSv1.3 $T256 P-521"
	["curl TLSv1.2"]="TLSv1.2 $E256 ?" ["curl TLSv1.3"]="TLSv1.3 $T256 ?"
	["gnutls TLSv1.2"]="TLSv1.2 $E256 P-521" ["gnutls TLSv1.3"]="TLSv1.3 $T256 P-256"
)

@test "every suite goes with every group, in TLS 1.2 and 1.3, for every client" {
	local suite group gnutls kx cert also bits

	gnutls=NONE:+MAC-ALL:+SIGN-ALL:+CTYPE-X509:+COMP-NULL
	declare -A names=([P-521]=SECP521R1 [P-384]=SECP384R1 [P-256]=SECP256R1)
	rows() {
		for group in P-521 P-384 P-256; do
			for suite in $T256 $T128; do
				printf '%s => %s\n' "openssl -tls1_3 -ciphersuites $suite -groups $group" \
				    "TLSv1.3 $suite $group localhost - localhost NONE" \
				    "curl --tlsv1.3 --tls13-ciphers $suite --curves $group" \
				    "TLSv1.3 $suite ? localhost http/1.1 localhost NONE" \
				    "gnutls --priority $gnutls:+VERS-TLS1.3:+AES-${suite:8:3}-GCM:+GROUP-${names[$group]}" \
				    "TLSv1.3 $suite $group localhost - localhost NONE"
			done
			for suite in $E256 $E128 $R256 $R128; do
				# A client that does not know the curve of a key, P-256, cannot be shown it.
				kx=ECDSA cert=localhost also=:P-256 bits=256
				[[ $suite != *AES128* ]] || bits=128
				[ $group != P-256 ] || also=
				[[ $suite == *ECDSA* ]] || kx=RSA cert=localhost_with_RSA also=
				printf '%s => %s\n' "openssl -tls1_2 -cipher $suite -groups $group$also" \
				    "TLSv1.2 $suite $group $cert - localhost NONE" \
				    "curl --tls-max 1.2 --ciphers $suite --curves $group$also" \
				    "TLSv1.2 $suite ? $cert http/1.1 localhost NONE" \
				    "gnutls --priority $gnutls:+VERS-TLS1.2:+ECDHE-$kx:+AES-$bits-GCM:+GROUP-${names[$group]}${also:+:+GROUP-SECP256R1}" \
				    "TLSv1.2 $suite $group $cert - localhost NONE"
			done
		done
	}
	serves "${ECDSA[@]}" "${RSA[@]}"
	cells < <(rows)
}

@test "the server's order of suites decides; of groups in TLS 1.2 the server's, in TLS 1.3 the client's first" {
	serves "${ECDSA[@]}" "${RSA[@]}"
	cells <<-END
		openssl -tls1_2 -cipher $R128:$R256:$E128:$E256 -groups P-256:P-384:P-521	=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -tls1_2 -cipher $R256:$E128 -groups P-256:P-384	=> TLSv1.2 $E128 P-384 localhost - localhost NONE
		openssl -tls1_2 -cipher $R128:$R256	=> TLSv1.2 $R256 P-521 localhost_with_RSA - localhost NONE
		openssl -tls1_2				=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -tls1_3 -ciphersuites $T128:$T256 -groups P-256:P-384:P-521	=> TLSv1.3 $T256 P-256 localhost - localhost NONE
		openssl -tls1_3 -groups P-384:P-521	=> TLSv1.3 $T256 P-384 localhost - localhost NONE
		# Where the client has guessed wrongly the server asks for one of its own order.
		openssl -tls1_3 -groups X25519:P-384:P-521	=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		openssl					=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		curl --tls-max 1.2 --ciphers $R128:$E128 --curves P-256:P-521	=> TLSv1.2 $E128 ? localhost http/1.1 localhost NONE
		curl --tls13-ciphers $T128:$T256	=> TLSv1.3 $T256 ? localhost http/1.1 localhost NONE
		gnutls --priority NORMAL:-VERS-ALL:+VERS-TLS1.2	=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		gnutls --priority NORMAL:-GROUP-ALL:+GROUP-SECP384R1:+GROUP-SECP521R1	=> TLSv1.3 $T256 P-384 localhost - localhost NONE
		gnutls --priority NORMAL:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM	=> TLSv1.3 $T256 P-256 localhost - localhost NONE
	END
}

@test "other suites are refused: ChaCha, CBC, CCM, those without forward secrecy" {
	local why='no shared cipher \(client offered at most TLS 1.[23]; server name localhost; choosing parameters; alert sent: handshake failure\)$'
	local gnutls=NORMAL:-CIPHER-ALL

	serves "${ECDSA[@]}" "${RSA[@]}"
	cells <<-END
		openssl -tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305	=> refused 40 $why
		openssl -tls1_2 -cipher ECDHE-RSA-CHACHA20-POLY1305	=> refused 40 $why
		openssl -tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384	=> refused 40 $why
		openssl -tls1_2 -cipher ECDHE-RSA-AES128-SHA		=> refused 40 $why
		openssl -tls1_2 -cipher AES256-GCM-SHA384		=> refused 40 $why
		openssl -tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384	=> refused 40 $why
		openssl -tls1_2 -cipher ECDHE-ECDSA-AES256-CCM		=> refused 40 $why
		openssl -tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0		=> refused 40 $why
		openssl -tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256	=> refused 40 $why
		openssl -tls1_3 -ciphersuites TLS_AES_128_CCM_SHA256	=> refused 40 $why
		openssl -tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256:$T128	=> TLSv1.3 $T128 P-521 localhost - localhost NONE
		openssl -tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305:AES256-SHA:$R128	=> TLSv1.2 $R128 P-521 localhost_with_RSA - localhost NONE
	END
	serves "${ECDSA[@]}" "${RSA[@]}"
	cells <<-END
		curl --tls-max 1.2 --ciphers ECDHE-ECDSA-CHACHA20-POLY1305	=> refused 40 ${why/choosing/ALPN h2,http/1.1; choosing}
		curl --tls-max 1.2 --ciphers ECDHE-RSA-AES256-SHA384	=> refused 40 ${why/choosing/ALPN h2,http/1.1; choosing}
		curl --tlsv1.3 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256	=> refused 40 ${why/choosing/ALPN h2,http/1.1; choosing}
		gnutls --priority $gnutls:+CHACHA20-POLY1305:-VERS-ALL:+VERS-TLS1.2	=> refused 40 $why
		gnutls --priority $gnutls:+CHACHA20-POLY1305:-VERS-ALL:+VERS-TLS1.3	=> refused 40 $why
		gnutls --priority $gnutls:+AES-128-CBC:-VERS-ALL:+VERS-TLS1.2	=> refused 40 $why
		gnutls --priority $gnutls:+AES-128-CCM:-VERS-ALL:+VERS-TLS1.3	=> refused 40 $why
	END
}

@test "other groups are refused: X25519, X448, finite fields" {
	serves "${ECDSA[@]}" "${RSA[@]}"
	cells <<-END
		openssl -tls1_3 -groups X25519	=> refused 40 no shared group \(client offered at most TLS 1.3; server name localhost; choosing parameters; alert sent: handshake failure\)$
		openssl -tls1_3 -groups X448	=> refused 40 no shared group
		openssl -tls1_3 -groups ffdhe2048:X448:X25519	=> refused 40 no shared group
		openssl -tls1_2 -groups X25519	=> refused 40 no shared cipher
		openssl -tls1_2 -groups X448 -cipher $R256	=> refused 40 no shared cipher
		curl --tlsv1.3 --curves X25519	=> refused 40 no shared group
		curl --tls-max 1.2 --curves X25519:X448	=> refused 40 no shared cipher
		gnutls --priority NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519	=> refused 40 no shared group
		gnutls --priority NORMAL:-VERS-ALL:+VERS-TLS1.2:-GROUP-ALL:+GROUP-X25519	=> refused 40 no shared cipher
		openssl -tls1_3 -groups X448:X25519:P-521	=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		openssl -tls1_2 -groups X25519:P-256	=> TLSv1.2 $E256 P-256 localhost - localhost NONE
	END
}

@test "TLS 1.0 and 1.1 are refused with the line that says so" {
	local old=DEFAULT@SECLEVEL=0
	local why='no shared protocol version \(client offered at most TLS 1.1, the minimum is TLS 1.2; server name localhost; '

	serves "${ECDSA[@]}" "${RSA[@]}"
	cells <<-END
		openssl -tls1_1 -cipher $old	=> refused 70 ${why}choosing parameters; alert sent: protocol version\)$
		openssl -tls1 -cipher $old	=> refused 70 ${why/1.1/1.0}choosing parameters
		openssl -no_tls1_3 -no_tls1_2 -cipher $old	=> refused 70 $why
		curl --tlsv1.0 --tls-max 1.1 --ciphers $old	=> refused 70 ${why}ALPN h2,http/1.1; 
		curl --tlsv1.0 --tls-max 1.0 --ciphers $old	=> refused 70 ${why/1.1/1.0}ALPN h2,http/1.1; 
		gnutls --priority NORMAL:-VERS-ALL:+VERS-TLS1.1	=> refused 70 $why
		gnutls --priority NORMAL:-VERS-ALL:+VERS-TLS1.0	=> refused 70 ${why/1.1/1.0}
		openssl -tls1_2		=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -no_tls1_3	=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -tls1_3		=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		curl --tls-max 1.2	=> TLSv1.2 $E256 ? localhost http/1.1 localhost NONE
		curl --tlsv1.0		=> TLSv1.3 $T256 ? localhost http/1.1 localhost NONE
		gnutls			=> TLSv1.3 $T256 P-256 localhost - localhost NONE
	END
}

# --- names and protocols ---

@test "SNI: an exact name, then a wildcard of one label, then the default, for every client" {
	local version

	serves "${ECDSA[@]}" --cert "known.example:$PKI/known.pem" --key "$PKI/known.key" --cert "*.wild.example:$PKI/wild.pem" \
	    --cert "exact.wild.example:$PKI/exact.pem"
	rows() {
		local client name cert alpn

		for client in "${!USUAL[@]}"; do
			alpn=-
			[[ $client != curl* ]] || alpn=http/1.1
			while read -r name cert; do
				echo "${client% *}@${name#-} ${OPTIONS[$client]} => ${USUAL[$client]} $cert $alpn $name NONE"
			done <<-END
				known.example		known
				www.wild.example	wild
				exact.wild.example	exact
				a.b.wild.example	localhost
				wild.example		localhost
				unknown.example		localhost
				-			localhost
			END
		done
	}
	cells < <(rows)
}

@test "a server name is told as it was sent, and compared without regard to case" {
	serves "${ECDSA[@]}" --cert "Known.example:$PKI/known.pem" --key "$PKI/known.key"
	cells <<-END
		openssl@KNOWN.Example -tls1_2	=> TLSv1.2 $E256 P-521 known - KNOWN.Example NONE
		openssl@KNOWN.Example -tls1_3	=> TLSv1.3 $T256 P-521 known - KNOWN.Example NONE
		openssl@known.example.	=> TLSv1.3 $T256 P-521 localhost - known.example. NONE
		openssl@x%0a[!	=> TLSv1.3 $T256 P-521 localhost - x%0a[! NONE
	END
}

@test "where every certificate has a name, the first name's is the default" {
	serves --cert "known.example:$PKI/known.pem" --key "$PKI/known.key" --cert "*.wild.example:$PKI/wild.pem"
	cells <<-END
		openssl@	=> TLSv1.3 $T256 P-521 known - - NONE
		openssl@unknown.example -tls1_2	=> TLSv1.2 $E256 P-521 known - unknown.example NONE
		openssl@known.example	=> TLSv1.3 $T256 P-521 known - known.example NONE
		openssl@a.wild.example	=> TLSv1.3 $T256 P-521 wild - a.wild.example NONE
		curl@a.wild.example --tls-max 1.2	=> TLSv1.2 $E256 ? wild http/1.1 a.wild.example NONE
		gnutls@wild.example	=> TLSv1.3 $T256 P-256 known - wild.example NONE
	END
}

@test "ECDSA and RSA side by side: a client that takes only one gets it, for every name" {
	local rsa=rsa_pss_rsae_sha256:RSA+SHA256 ecdsa=ECDSA+SHA256 gnutls=NORMAL:-SIGN-ALL

	serves "${RSA[@]}" "${ECDSA[@]}" --cert "known.example:$CERTS/rsa.pem" --cert "known.example:$PKI/known.pem" --key "$PKI/known.key"
	cells <<-END
		openssl -tls1_3 -sigalgs $ecdsa	=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		openssl -tls1_3 -sigalgs $rsa	=> TLSv1.3 $T256 P-521 localhost_with_RSA - localhost NONE
		openssl -tls1_2 -sigalgs $ecdsa	=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -tls1_2 -sigalgs $rsa	=> TLSv1.2 $R256 P-521 localhost_with_RSA - localhost NONE
		openssl -tls1_2 -cipher $R128	=> TLSv1.2 $R128 P-521 localhost_with_RSA - localhost NONE
		openssl@known.example -tls1_3 -sigalgs $ecdsa	=> TLSv1.3 $T256 P-521 known - known.example NONE
		openssl@known.example -tls1_3 -sigalgs $rsa	=> TLSv1.3 $T256 P-521 localhost_with_RSA - known.example NONE
		openssl@known.example -tls1_2 -cipher $R256	=> TLSv1.2 $R256 P-521 localhost_with_RSA - known.example NONE
		openssl@known.example -tls1_2 -cipher $E128	=> TLSv1.2 $E128 P-521 known - known.example NONE
		curl --tls-max 1.2 --ciphers $R256	=> TLSv1.2 $R256 ? localhost_with_RSA http/1.1 localhost NONE
		curl@known.example --tls-max 1.2 --ciphers $E256	=> TLSv1.2 $E256 ? known http/1.1 known.example NONE
		gnutls --priority $gnutls:+SIGN-RSA-PSS-RSAE-SHA256	=> TLSv1.3 $T256 P-256 localhost_with_RSA - localhost NONE
		gnutls@known.example --priority $gnutls:+SIGN-ECDSA-SECP256R1-SHA256	=> TLSv1.3 $T256 P-256 known - known.example NONE
	END
	serves "${ECDSA[@]}"
	cells <<-END
		openssl -tls1_3 -sigalgs $rsa	=> refused 40 no suitable signature algorithm \(
		openssl -tls1_2 -cipher $R256	=> refused 40 no shared cipher \(
	END
	serves "${RSA[@]}"
	cells <<-END
		openssl -tls1_3 -sigalgs $ecdsa	=> refused 40 no suitable signature algorithm \(
		openssl -tls1_2 -cipher $E256	=> refused 40 no shared cipher \(
	END
}

@test "two certificates of one kind for one name are refused with 58" {
	refuses() {
		local why=$1

		shift
		expect_status 58 ccf-tlsterm --from bind:link --app echo "$@"
		[[ $output == *"$why"* ]] || { echo "$output"; return 1; }
		[ ! -e link ]
	}
	refuses "/chain.pem and $PKI/known.pem: two certificates with the same kind of key" \
	    "${ECDSA[@]}" --cert "$PKI/known.pem" --key "$PKI/known.key"
	refuses "two certificates with the same kind of key for known.example" \
	    "${ECDSA[@]}" --cert "known.example:$PKI/known.pem" --cert "KNOWN.example:$PKI/exact.pem" --key "$PKI/known.key"
	refuses "two certificates with the same kind of key for *.wild.example" \
	    --cert "*.wild.example:$PKI/known.pem" --cert "*.wild.example:$PKI/exact.pem" --key "$PKI/known.key"
}

@test "ALPN: http/1.1 where the client offers it, and nothing otherwise" {
	serves "${ECDSA[@]}"
	rows() {
		local client offer alpn

		for client in "openssl TLSv1.2" "openssl TLSv1.3" "gnutls TLSv1.2" "gnutls TLSv1.3"; do
			while read -r offer alpn; do
				if [ "$offer" = - ]; then
					offer=
				elif [[ $client == openssl* ]]; then
					offer="-alpn $offer"
				else
					offer=--alpn=${offer//,/ --alpn=}
				fi
				echo "${client% *} ${OPTIONS[$client]} $offer => ${USUAL[$client]} localhost $alpn localhost NONE"
			done <<-END
				http/1.1	http/1.1
				h2,http/1.1	http/1.1
				http/1.1,h2	http/1.1
				h2		-
				http/1.0,h2,spdy/3	-
				HTTP/1.1	-
				-		-
			END
		done
		cat <<-END
			curl			=> TLSv1.3 $T256 ? localhost http/1.1 localhost NONE
			curl --http1.1		=> TLSv1.3 $T256 ? localhost http/1.1 localhost NONE
			curl --no-alpn		=> TLSv1.3 $T256 ? localhost - localhost NONE
			curl --tls-max 1.2	=> TLSv1.2 $E256 ? localhost http/1.1 localhost NONE
			curl --tls-max 1.2 --no-alpn	=> TLSv1.2 $E256 ? localhost - localhost NONE
		END
	}
	cells < <(rows)
}

# --- the client's certificate ---

# What each certificate of a client is refused for, and the alert that it gets then.
declare -gA REASON=(
	[expired]='certificate has expired' [early]='certificate is not yet valid' [other]='unable to get local issuer certificate'
	[self]='self-signed certificate' [server]='unsuitable certificate purpose'
)
declare -gA ALERT=([expired]=45 [early]=42 [other]=48 [self]=48 [server]=43)

# certified OPTION... -- VERDICT...: what becomes of clients without a certificate, and with the one called good, expired, early,
# other, self and server: NONE, GENEROUS, SUCCESS, FAILED, or refused; of every client and in both versions.
certified() {
	local options=() version

	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	for version in TLSv1.2 TLSv1.3; do	# each its own terminator, because of the ten
		serves "${ECDSA[@]}" "${options[@]}"
		cells < <(
			certified_rows "openssl $version" "$@"
			certified_rows "curl $version" "$1" "$2" "$3"
			certified_rows "gnutls $version" "$1" "$2"
		)
	done
}

certified_rows() {
	local client=$1 version=${1#* } name options alpn=- as

	shift
	[[ $client != curl* ]] || alpn=http/1.1
	for name in none good expired early other self server; do
		[ $# -gt 0 ] || return 0
		case $name,$client in
		none,*) options= ;;
		*,openssl*) options="-cert $PKI/$name.pem -key $PKI/$name.key" ;;
		*,curl*) options="--cert $PKI/$name.pem --key $PKI/$name.key" ;;
		*,gnutls*) options="--x509certfile=$PKI/$name.pem --x509keyfile=$PKI/$name.key" ;;
		esac
		as="${USUAL[$client]} localhost $alpn localhost $1"
		case $1,$name in
		refused,none)
			as="refused 116 the client sent no certificate \\(.*alert sent: certificate required\\); --verify require wants one$"
			[ "$version" = TLSv1.3 ] || as=${as/116/40} as=${as/certificate required/handshake failure}
			;;
		refused,expired) as="refused 45 the client's certificate expired on .* UTC \\(CN=expired, SHA-256 $(sha256 expired); .*\\)$" ;;
		refused,early) as="refused 42 the client's certificate is not valid before .* UTC \\(CN=early, SHA-256 $(sha256 early); " ;;
		refused,*)
			as="refused ${ALERT[$name]} the client's certificate was refused: ${REASON[$name]} \\(CN=$name, SHA-256 $(sha256 "$name"); "
			as+=".*server name localhost; .*\\); --client-ca says who is trusted$"
			;;
		FAILED,*) as+=":${REASON[$name]}" ;;
		esac
		echo "${client% *} ${OPTIONS[$client]} $options => $as"
		shift
	done
}

# sha256 NAME: of that certificate, as openssl says it.
sha256() {
	openssl x509 -in "$PKI/$1.pem" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f
}

@test "--verify none does not ask for a client's certificate" {
	certified --verify none -- NONE NONE NONE NONE NONE NONE NONE
}

@test "by default any certificate of a client will do, and none: NONE, GENEROUS" {
	certified -- NONE GENEROUS GENEROUS GENEROUS GENEROUS GENEROUS GENEROUS
}

@test "--client-ca FILE judges a client's certificate and leaves the decision: SUCCESS, FAILED:reason" {
	certified --verify request --client-ca "$PKI/ca.pem" -- NONE SUCCESS FAILED FAILED FAILED FAILED FAILED
}

@test "--client-ca DIR is each file in it" {
	certified --client-ca "$PKI/dir" -- NONE SUCCESS FAILED FAILED FAILED FAILED FAILED
	serves "${ECDSA[@]}" --client-ca "$PKI/dir"
	cells <<-END	# the other CA there, and a chain
		openssl -cert $CERTS/client.pem -cert_chain $CERTS/client.pem -key $CERTS/client.key	=> TLSv1.3 $T256 P-521 localhost - localhost SUCCESS
		curl --tls-max 1.2 --cert $CERTS/client.pem --key $CERTS/client.key	=> TLSv1.2 $E256 ? localhost http/1.1 localhost SUCCESS
		openssl -cert $CERTS/client.pem -key $CERTS/client.key	=> TLSv1.3 $T256 P-521 localhost - localhost FAILED:unable to get local issuer certificate
	END
}

@test "--verify require without --client-ca: any certificate will do, but one there has to be" {
	certified --verify require -- refused GENEROUS GENEROUS GENEROUS GENEROUS GENEROUS GENEROUS
}

@test "--verify require with --client-ca: only one that stands up is let in" {
	certified --verify require --client-ca "$PKI/ca.pem" -- refused SUCCESS refused refused refused refused refused
}

@test "--verify require with --client-ca DIR: the same" {
	certified --verify require --client-ca "$PKI/dir" -- refused SUCCESS refused refused refused refused refused
}

@test "names of CAs are sent with --client-ca alone" {
	names() {
		local want=$1

		shift
		serves "${ECDSA[@]}" "$@"
		for version in -tls1_2 -tls1_3; do
			ask openssl $version || :
			[ "$(sed -n '/^Acceptable client certificate CA names/,/^\(Client Certificate Types\|Requested Signature\)/p' said |
			    grep -v -e ^Acceptable -e '^Client Cert' -e ^Requested | sort)" = "$want" ] || { cat said; return 1; }
			[ -n "$want" ] || grep -x 'No client certificate CA names sent' said
		done
		stop lst
		ends_with 0 tls
	}
	names ''
	names '' --verify require
	names 'CN = a root' --client-ca "$PKI/ca.pem"
	names 'CN = a root' --client-ca "$PKI/ca.pem" --verify require
	names $'CN = a root\nO = ccf-net tests, CN = root' --client-ca "$PKI/dir"
}

# facts FILE: what a COMMAND or a consumer was told, as NAME=VALUE with a NUL after each, into FACT.
facts() {
	local pair all=()

	declare -gA FACT=()
	mapfile -d '' -t all <"$1"
	for pair in "${all[@]}"; do
		[[ $pair != [A-Z]*=* ]] || FACT[${pair%%=*}]=${pair#*=}
	done
}

# is NAME VALUE: the fact is there, and that it is.  isnt NAME...: they are not there.
is() {
	[ "${FACT[$1]-(nothing)}" = "$2" ] || {
		printf '%s is not %q but %q\n' "$1" "$2" "${FACT[$1]-(nothing)}"
		return 1
	}
}

isnt() {
	local name

	for name; do
		[ -z "${FACT[$name]+there}" ] || { echo "$name is ${FACT[$name]}"; return 1; }
	done
}

# told_of CERTIFICATE VERDICT: the facts are those of this certificate.
told_of() {
	local file=$PKI/$1.pem

	is SSL_CLIENT_VERIFY "$2"
	is SSL_CLIENT_CERT "$(openssl x509 -in "$file")"$'\n'
	is SSL_CLIENT_S_DN "$(openssl x509 -in "$file" -noout -subject -nameopt RFC2253 | sed s/subject=//)"
	is SSL_CLIENT_I_DN "CN=a root"
	is CCF_CLIENT_SHA256 "$(sha256 "$1")"
	[ "$(openssl x509 -noout -fingerprint -sha256 <<<"${FACT[SSL_CLIENT_CERT]}" | sed 's/.*=//; s/://g' | tr A-F a-f)" = "$(sha256 "$1")" ]
	isnt CCF_OMITTED
}

untold() {
	is SSL_CLIENT_VERIFY NONE
	isnt SSL_CLIENT_CERT SSL_CLIENT_S_DN SSL_CLIENT_I_DN SSL_PEER_CERT_CN CCF_CLIENT_SHA256 CCF_CLIENT_SANS CCF_OMITTED
}

# with NAME: the options of openssl to show that certificate.
with() {
	WITH=(-cert "$PKI/$1.pem" -key "$PKI/$1.key")
}

# tells OPTION...: as serves, and what COMMAND was told is in the file said, after a NUL.
tells() {
	SAYS='printf "\0"; exec env -0' serves "${ECDSA[@]}" "$@"
}

# hands_on OPTION...: a consumer of the terminator's link is told instead: a line of con.out for each connection.
hands_on() {
	cat >told.py <<-'END'
		import json, socket, sys
		sys.dont_write_bytecode = True
		sys.path.insert(0, sys.argv[1])
		from link import Link, dial
		link = Link(dial("link"), "consumer")
		link.greet()
		link.ready(32)
		while m := link.recv():
		    if m.verb == "conn":
		        print(json.dumps(m.env), flush=True)
		        with socket.socket(fileno=m.fd) as sock:
		            sock.setblocking(True)
		            sock.sendall(b"handed on\n")
		            link.finish(m.id, sock)
		            while sock.recv(4096):
		                pass
		        link.closed(m.id, "done", 0, 0, 10)
	END
	rm -f ./*.log
	spawn con python3 told.py "$HERE/peer"	# it waits for the link
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm "${ECDSA[@]}" --to link "$@"
	located
}

# handed_on: what the consumer was told of the newest connection, as facts.
handed_on() {
	eventually times_told "$1"
	tail -n 1 con.out | jq -j 'to_entries[] | "\(.key)=\(.value)\u0000"' >facts
	facts facts
}

times_told() { [ "$(wc -l <con.out)" = "$1" ]; }

@test "a COMMAND is told the certificate's facts, as openssl says them" {
	tells
	with facts
	for version in -tls1_2 -tls1_3; do
		ask openssl $version "${WITH[@]}"
		facts said
		told_of facts GENEROUS
		is SSL_PEER_CERT_CN "Zo\\C3\\AB \"the first\", of+ us\\\\"
		is CCF_CLIENT_SANS 'DNS:a.example, IP:192.0.2.7, IP:2001:db8::7, DNS:b.example'
	done
	with good
	ask openssl "${WITH[@]}"
	facts said
	told_of good GENEROUS
	isnt CCF_CLIENT_SANS
	ask openssl
	facts said
	untold
}

@test "a consumer on a link is told the same" {
	local n=0

	hands_on --client-ca "$PKI/ca.pem"
	for version in -tls1_2 -tls1_3; do
		with facts
		ask openssl $version "${WITH[@]}"
		grep -x 'handed on' said
		handed_on $((n += 1))
		told_of facts SUCCESS
		is CCF_CLIENT_SANS 'DNS:a.example, IP:192.0.2.7, IP:2001:db8::7, DNS:b.example'
		with expired
		ask openssl $version "${WITH[@]}"
		handed_on $((n += 1))
		told_of expired 'FAILED:certificate has expired'
		ask openssl $version -alpn http/1.1
		handed_on $((n += 1))
		untold
		is SSL_TLS_SNI_SERVERNAME localhost
		is CCF_ALPN http/1.1
	done
	is SSL_PROTOCOL TLSv1.3
	is SSL_CIPHER $T256
	is SSL_SESSION_RESUMED Initial
}

@test "a certificate of 27 KiB arrives whole, one of 40 KiB fails the handshake, and it says so" {
	local way

	for way in tells hands_on; do
		$way
		with big
		ask openssl "${WITH[@]}" || { cat said; return 1; }
		if [ $way = tells ]; then
			facts said
		else
			handed_on 1
		fi
		told_of big GENEROUS
		for version in -tls1_2 -tls1_3; do
			for name in large huge; do
				with $name
				! ask openssl $version "${WITH[@]}" || { cat said; return 1; }
			done
		done
		eventually logged 4 "handshake failed: the client's certificates are larger than 32 KiB \\(.*client offered at most TLS 1.*; server name localhost; reading the client's certificate; alert sent: .*\\)$"
		logged 2 "handshake failed: .*(CN=large, SHA-256 $(sha256 large); "
		logged 4 'handshake failed: '
		stop lst
		[ "$ended" = 0 ]
		ends_with 0 tls
		[ $way = tells ] || ends_with 0 con
	done
}

@test "a subject with LF, NUL and () { forges no line of the log and no variable" {
	local s

	tells
	for name in evil program; do
		with $name
		for version in -tls1_2 -tls1_3; do
			ask openssl $version "${WITH[@]}"
			facts said
			told_of $name GENEROUS
			[ "$(tr '\0' '\n' <said | grep -a -c '^SSL_CLIENT_VERIFY=')" = 1 ]
			[ "$(tr '\0' '\n' <said | grep -a -c '^SSL_CIPHER=')" = 1 ]
			for s in "${FACT[SSL_CLIENT_S_DN]}" "${FACT[SSL_PEER_CERT_CN]}"; do
				[[ $s != *[[:cntrl:]]* && $s != '() {'* && $s == *forged* ]]
			done
		done
	done
	stop lst
	ends_with 0 tls
	for form in text json; do
		serves "${ECDSA[@]}" --log $form --verify require --client-ca "$CERTS/ca.pem"
		for name in evil program; do
			with $name
			! ask openssl "${WITH[@]}" || { cat said; return 1; }
		done
		eventually logs 2 'the client.s certificate was refused: self-signed certificate in certificate chain .CN=.*forged.*, SHA-256 '
		[ "$(wc -l <tls.log)" = "$((2 + 2 * 2))" ]	# what it says at the start, and two lines of each
		run ! grep -a -P '[\x00-\x08\x0b-\x1f\x7f]' tls.log
		run ! grep '^ccf-tlsterm: error' tls.log
		[ $form = text ] || jq -es 'map(select(.event == "handshake-failed")) | length == 2' tls.log
		stop lst
		ends_with 0 tls
	done
}

logs() { [ "$(grep -c -E -e "$2" tls.log)" = "$1" ]; }

logs_at_least() { [ "$(grep -c -E -e "$2" tls.log)" -ge "$1" ]; }

# --- what others say of the peer ---

PLANTED=(SSL_CLIENT_VERIFY=SUCCESS SSL_CLIENT_S_DN=CN=root SSL_CLIENT_I_DN=CN=root SSL_CLIENT_CERT=x SSL_PEER_CERT_CN=root
	CCF_CLIENT_SHA256=0 CCF_CLIENT_SANS=DNS:root SSL_PROTOCOL=TLSv9 SSL_CIPHER=NULL SSL_TLS_SNI_SERVERNAME=planted
	SSL_SESSION_RESUMED=Resumed SSL_SERVER_VERIFY=SUCCESS CCF_SERVER_SHA256=0 CCF_ALPN=planted)

unplanted() {
	isnt SSL_CLIENT_CERT SSL_CLIENT_S_DN SSL_CLIENT_I_DN SSL_PEER_CERT_CN CCF_CLIENT_SHA256 CCF_CLIENT_SANS CCF_ALPN \
	    SSL_SERVER_VERIFY CCF_SERVER_SHA256 SSL_TLS_SNI_SERVERNAME
}

@test "an inherited SSL_CLIENT_VERIFY=SUCCESS is gone: on descriptor 0, with TLS and without" {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    env "${PLANTED[@]}" ccf-tlsterm "${ECDSA[@]}" -- sh -c 'printf "\0"; exec env -0'
	located
	ask openssl@
	facts said
	is SSL_CLIENT_VERIFY NONE
	is SSL_PROTOCOL TLSv1.3
	is SSL_CIPHER $T256
	is SSL_SESSION_RESUMED Initial
	unplanted
	is CCF_CONN_ID 'rpc#1'
	stop lst

	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- \
	    env "${PLANTED[@]}" ccf-tlsterm --plaintext -- sh -c 'printf "\0"; exec env -0'
	located
	bounded nc -d 127.0.0.1 "$PORT" >said
	facts said
	is CCF_CONN_ID 'rpc#1'
	isnt SSL_CLIENT_VERIFY SSL_PROTOCOL SSL_CIPHER SSL_SESSION_RESUMED
	unplanted
}

@test "an inherited SSL_CLIENT_VERIFY=SUCCESS is gone: of the terminator itself, over links" {
	export "${PLANTED[@]}"
	tells
	ask openssl@
	facts said
	is SSL_CLIENT_VERIFY NONE
	unplanted
	stop lst
	ends_with 0 tls
	hands_on
	ask openssl@
	handed_on 1
	is SSL_CLIENT_VERIFY NONE
	unplanted
}

@test "a planted SSL_CLIENT_VERIFY=SUCCESS is gone: in the conn of a link, with TLS and without" {
	cat >producer.py <<-'END'
		import socket, ssl, sys
		sys.dont_write_bytecode = True
		sys.path.insert(0, sys.argv[1])
		from link import Link, listen
		listener = listen(sys.argv[2])
		print("bound", flush=True)
		link = Link(listener.accept()[0], "producer")
		link.greet()
		assert link.recv(10).fields["n"] >= 1
		server = socket.create_server(("127.0.0.1", 0))
		client = socket.create_connection(server.getsockname(), timeout=20)
		link.conn(1, {"PROTO": "TCP", "CCF_CONN_ID": "by#hand", **dict(pair.split("=", 1) for pair in sys.argv[4:])},
		    server.accept()[0].detach())
		if sys.argv[3] == "tls":
		    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
		    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
		    client = context.wrap_socket(client)
		while data := client.recv(65536):
		    sys.stdout.buffer.write(data)
		sys.stdout.flush()
	END
	for how in tls plain; do
		terminator=(ccf-tlsterm --from "$how.link" "${ECDSA[@]}")
		[ $how = tls ] || terminator=(ccf-tlsterm --from "$how.link" --plaintext)
		spawn "made.$how" python3 producer.py "$HERE/peer" "$how.link" $how "${PLANTED[@]}"
		await_line "made.$how.out" bound
		spawn "term.$how" "${terminator[@]}" -- sh -c 'printf "\0"; exec env -0'
		ends_with 0 "made.$how"
		facts "made.$how.out"
		is CCF_CONN_ID 'by#hand'
		[ $how = plain ] || is SSL_CLIENT_VERIFY NONE
		[ $how = tls ] || isnt SSL_CLIENT_VERIFY SSL_PROTOCOL SSL_CIPHER SSL_SESSION_RESUMED
		unplanted
		stop "term.$how"
	done
}

# --- renegotiation, resumption, early data ---

@test "renegotiation is refused, and the next client is served" {
	SAYS='exec cat' serves "${ECDSA[@]}"
	mkfifo in
	exec {in}<>in
	SPAWN_IN=in spawn openssl openssl s_client -connect "$ADDR" -servername localhost -tls1_2 -legacy_renegotiation
	echo "before" >&"$in"
	await_line openssl.out '^before$'
	echo R >&"$in"
	wait_for openssl || [ "$ended" = 1 ]
	await_line openssl.log 'RENEGOTIATING'
	await_line openssl.log 'no renegotiation|alert number 100'
	await_line tls.log 'rpc#1 .*closed: '

	SPAWN_IN=hold spawn gnutls gnutls-cli --insecure --rehandshake --priority NORMAL:-VERS-TLS1.3 -p "$PORT" 127.0.0.1
	wait_for gnutls || [ "$ended" = 1 ]
	await_line gnutls.log 'ReHandshake has failed'
	await_line tls.log 'rpc#2 .*closed: '

	SPAWN_IN=in spawn again openssl s_client -connect "$ADDR" -quiet -tls1_2
	echo "after" >&"$in"
	await_line again.out '^after$'
}

# comes OPTION...: a client; its session, if it got one, is in session afterwards.
comes() {
	rm -f session
	ask openssl -sess_out session "$@"
	[[ $SAID == *$'\nSSL_SESSION_RESUMED=Initial\n'* ]]
}

# comes_back FILE HOW OPTION...: one with the session in FILE, and how that went for it and for COMMAND: "Reused Resumed", or
# "New Initial".
comes_back() {
	local shaken told

	ask openssl -sess_in "$1" "${@:3}"
	found shaken $'\n(New|Reused), TLSv1'
	found told $'\nSSL_SESSION_RESUMED=([A-Za-z]+)'
	[ "$shaken $told" = "$2" ] || {
		echo "$shaken $told, not $2"
		return 1
	}
}

# foreign FILE OPTION...: a session of another server, which offers everything; OPTIONs are the client's, those after -- the
# server's.
foreign() {
	local file=$1 client=()

	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		client+=("$1")
		shift
	done
	rm -f server.out "$file"
	spawn server openssl s_server -accept 127.0.0.1:0 -cert "$CERTS/chain.pem" -key "$CERTS/key.pem" -www "${@:2}"
	await_line server.out '^ACCEPT '
	printf 'GET / HTTP/1.0\r\n\r\n' >request
	bounded openssl s_client -connect "$(sed -n 's/^ACCEPT //p' server.out)" -servername localhost -sess_out "$file" -ign_eof \
	    "${client[@]}" <request >foreign.said 2>&1
	[ -s "$file" ]
	stop server
}

@test "by default nothing is resumed: no session id and no ticket, in either version" {
	serves "${ECDSA[@]}"
	for version in -tls1_2 -tls1_3; do
		comes $version -msg
		[ ! -e session ]
		run ! grep -a NewSessionTicket said
		[ $version = -tls1_3 ] || grep -x ' *Session-ID: *' said
		# A client that insists, by a ticket or an id that another server gave it.
		foreign ticket $version
		comes_back ticket "New Initial" $version
	done
	foreign id -tls1_2 -- -no_ticket
	comes_back id "New Initial" -tls1_2
	ask openssl -tls1_2 -reconnect || :
	[ "$(grep -a -c '^New, TLSv1.2' said)" = 6 ]
	run ! grep -a '^Reused' said
	for version in TLSv1.2 TLSv1.3; do
		# shellcheck disable=SC2086	# several
		ask gnutls --resume ${OPTIONS[gnutls $version]}
		grep 'Resume Handshake was completed' said
		run ! grep 'This is a resumed session' said
	done
}

@test "--tickets: a session is resumed, in both versions, by every client that can" {
	serves "${ECDSA[@]}" --tickets 1h
	for version in -tls1_2 -tls1_3; do
		comes $version
		grep -a 'ticket lifetime hint: 3600 (seconds)' said
		comes_back session "Reused Resumed" $version
		comes_back session "Reused Resumed" $version
		found name $'\nSSL_TLS_SNI_SERVERNAME=([^\n]+)'
		[ "$name" = localhost ]
		# Under another name it is another session, and no name is told but the one that was asked for.
		comes_back session "New Initial" $version -servername other.example
		found name $'\nSSL_TLS_SNI_SERVERNAME=([^\n]+)'
		[ "$name" = other.example ]
		foreign ticket $version
		comes_back ticket "New Initial" $version
	done
	foreign id -tls1_2 -- -no_ticket
	comes_back id "New Initial" -tls1_2
	for version in TLSv1.2 TLSv1.3; do
		# shellcheck disable=SC2086	# several
		ask gnutls --resume ${OPTIONS[gnutls $version]}
		grep 'This is a resumed session' said
	done
	run ! grep 'handshake failed' tls.log
}

@test "a resumed session has the certificate and the verdict of its first handshake" {
	tells --tickets 1h --client-ca "$PKI/ca.pem"
	for version in -tls1_2 -tls1_3; do
		for name in good expired; do
			with $name
			rm -f session
			ask openssl $version "${WITH[@]}" -sess_out session
			ask openssl $version -sess_in session
			grep -a "^Reused, TLSv1" said
			facts said
			is SSL_SESSION_RESUMED Resumed
			if [ $name = good ]; then
				told_of good SUCCESS
			else
				told_of expired 'FAILED:certificate has expired'
			fi
		done
	done
}

# holds NAME [OPTION...]: a client that stays; NAME.out is what it says.
holds() {
	SPAWN_IN=hold spawn "$1" openssl s_client -connect "$ADDR" -servername localhost -CAfile "$PKI/all.pem" "${@:2}"
	await_line "$1.out" '^SSL_SESSION_RESUMED='
}

@test "--tickets -j 2: another worker resumes the session as well" {
	load clients
	SAYS='env; exec cat' serves "${ECDSA[@]}" --tickets 1h -j 2
	granted tls
	for version in -tls1_2 -tls1_3; do
		# Who has no connection is given the next one, so each worker has one in the end.
		holds "one$version" $version -sess_out session
		await_line session 'END SSL SESSION'
		holds "two$version" $version -sess_in session
		grep -a '^Reused, TLSv1' "two$version.out"
		grep -a -x 'SSL_SESSION_RESUMED=Resumed' "two$version.out"
		asked tls 'worker [0-9]+: 1 connections'
		[ "$(grep -E 'worker [0-9]+: [0-9]+ connections' tls.log | tail -n 2 | grep -c ': 1 connections')" = 2 ]
		stop "one$version"
		stop "two$version"
		eventually logged "$((CELLS += 2))" 'closed: '
	done
}

@test "--tickets: a session is resumed after the certificate was loaded again, and after the key was exchanged" {
	local resumed=no begun rotations

	cp "$CERTS/chain.pem" "$CERTS/key.pem" .
	serves --cert chain.pem --key key.pem --tickets 1h
	for version in -tls1_2 -tls1_3; do
		comes $version
		mv session "session$version"
	done
	cp "$PKI/known.pem" chain.pem
	cp "$PKI/known.key" key.pem
	kill -HUP "${PID[tls]}"
	await_line tls.log 'loaded again'
	for version in -tls1_2 -tls1_3; do
		eventually shows known $version
		comes_back "session$version" "Reused Resumed" $version
	done
	stop lst
	ends_with 0 tls

	# The key is exchanged each half of the time.  If this machine has stood still until the session was too old, once more.
	serves "${ECDSA[@]}" -v -v --tickets 6s
	for _ in 1 2 3; do
		begun=$SECONDS
		comes -tls1_3
		mv session session.new
		comes -tls1_2
		rotations=$(grep -c 'a new key for tickets' tls.log) || :
		eventually logs_at_least $((rotations + 1)) 'a new key for tickets'
		if comes_back session.new "Reused Resumed" -tls1_3 && comes_back session "Reused Resumed" -tls1_2; then
			resumed=yes
			break
		fi
		[ $((SECONDS - begun)) -ge 5 ]
	done
	[ $resumed = yes ]
}

@test "--tickets: a session that is too old is not resumed" {
	local rotations

	serves "${ECDSA[@]}" -v -v --tickets 1s
	comes -tls1_3
	mv session session.new
	comes -tls1_2
	rotations=$(grep -c 'a new key for tickets' tls.log) || :
	eventually logs_at_least $((rotations + 3)) 'a new key for tickets'
	comes_back session.new "New Initial" -tls1_3
	comes_back session "New Initial" -tls1_2
}

# shows CERTIFICATE OPTION...: that is what the server shows now.
shows() {
	ask openssl "${@:2}"
	found cert $'\nsubject=[^\n]*CN = ([^\n]+)'
	[ "$cert" = "$1" ]
}

@test "early data is refused: passed over, with a ticket of ours as with another server's" {
	cat >allow.py <<-'END'
		"""A session in whose ticket early data was not allowed: now it is."""
		import base64, sys
		lines = open("session").read().split()
		der = base64.b64decode("".join(line for line in lines if "-" not in line and line not in ("BEGIN", "END", "SSL", "SESSION")))
		def head(at):
		    n = der[at + 1]
		    size = n & 0x7f if n & 0x80 else 0
		    return at + 2 + size, int.from_bytes(der[at + 2:at + 2 + size], "big") if size else n
		at, n = head(0)
		parts = []
		while at < len(der):
		    body, n = head(at)
		    parts.append(der[at:body + n])
		    at = body + n
		assert not any(part[0] == 0xaf for part in parts)
		before = [part for part in parts if part[0] < 0xaf]
		body = b"".join(before) + bytes.fromhex("af0402024000") + b"".join(parts[len(before):])
		text = base64.encodebytes(b"\x30\x82" + len(body).to_bytes(2, "big") + body).decode()
		open("session", "w").write("-----BEGIN SSL SESSION PARAMETERS-----\n" + text + "-----END SSL SESSION PARAMETERS-----\n")
	END
	echo 'said too early' >early
	mkfifo in
	exec {in}<>in
	SAYS='env; exec cat' serves "${ECDSA[@]}" --tickets 1h
	for whose in ours theirs; do
		if [ $whose = ours ]; then
			holds first -tls1_3 -sess_out session
			await_line session 'END SSL SESSION'
			stop first
			python3 allow.py
		else
			foreign session -tls1_3 -- -max_early_data 16384
		fi
		openssl sess_id -in session -noout -text | grep 'Max Early Data: 16384'
		SPAWN_IN=in spawn $whose openssl s_client -connect "$ADDR" -servername localhost -sess_in session -early_data early
		echo 'said in time' >&"$in"
		await_line $whose.out '^said in time$'
		grep 'Early data was rejected' $whose.out
		run ! grep 'said too early' $whose.out
		stop $whose
	done
	grep '^Reused' ours.out
	grep '^New' theirs.out
	run ! grep 'handshake failed' tls.log
}

# --- what is asked for ---

@test "--min-version, --max-version, --ciphers, --ciphersuites, --groups and --alpn each narrow what they say" {
	local chacha=ECDHE-ECDSA-CHACHA20-POLY1305 chacha13=TLS_CHACHA20_POLY1305_SHA256

	serves "${ECDSA[@]}" --min-version 1.3
	cells <<-END
		openssl			=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		openssl -tls1_2		=> refused 70 no shared protocol version \(client offered at most TLS 1.2, the minimum is TLS 1.3; server name localhost; choosing parameters; alert sent: protocol version\)$
		curl --tls-max 1.2	=> refused 70 no shared protocol version \(client offered at most TLS 1.2, the minimum is TLS 1.3;
	END
	serves "${ECDSA[@]}" --max-version 1.2
	cells <<-END
		openssl			=> TLSv1.2 $E256 P-521 localhost - localhost NONE
		openssl -tls1_3		=> refused 70 no shared protocol version \(client offered at most TLS 1.3, the maximum is TLS 1.2; server name localhost; choosing parameters; alert sent: protocol version\)$
		gnutls			=> TLSv1.2 $E256 P-521 localhost - localhost NONE
	END
	serves "${ECDSA[@]}" --ciphers "$E128:$chacha"
	cells <<-END
		openssl -tls1_2		=> TLSv1.2 $E128 P-521 localhost - localhost NONE
		openssl -tls1_2 -cipher $chacha:$E128	=> TLSv1.2 $E128 P-521 localhost - localhost NONE
		openssl -tls1_2 -cipher $chacha	=> TLSv1.2 $chacha P-521 localhost - localhost NONE
		openssl -tls1_2 -cipher $E256	=> refused 40 no shared cipher \(
		openssl -tls1_3		=> TLSv1.3 $T256 P-521 localhost - localhost NONE
	END
	serves "${ECDSA[@]}" --ciphersuites "$chacha13:$T128"
	cells <<-END
		openssl -tls1_3		=> TLSv1.3 $chacha13 P-521 localhost - localhost NONE
		openssl -ciphersuites $T256:$T128	=> TLSv1.3 $T128 P-521 localhost - localhost NONE
		openssl -tls1_3 -ciphersuites $T256	=> refused 40 no shared cipher \(
		openssl -tls1_2		=> TLSv1.2 $E256 P-521 localhost - localhost NONE
	END
	serves "${ECDSA[@]}" --groups "?X-no-such:X25519:P-256"
	cells <<-END
		openssl -tls1_2		=> TLSv1.2 $E256 X25519 localhost - localhost NONE
		openssl -tls1_3 -groups P-256:X25519	=> TLSv1.3 $T256 P-256 localhost - localhost NONE
		openssl -tls1_3 -groups P-521:X25519:P-256	=> TLSv1.3 $T256 X25519 localhost - localhost NONE
		openssl -tls1_3 -groups P-521:P-384	=> refused 40 no shared group \(
		openssl -tls1_2 -groups P-521:P-384	=> refused 40 no shared cipher \(
	END
	serves "${ECDSA[@]}" --alpn ccf/2 --alpn h2 --alpn http/1.1
	cells <<-END
		openssl -alpn http/1.1,h2,ccf/2	=> TLSv1.3 $T256 P-521 localhost ccf/2 localhost NONE
		openssl -tls1_2 -alpn http/1.1,h2	=> TLSv1.2 $E256 P-521 localhost h2 localhost NONE
		openssl -alpn http/1.1	=> TLSv1.3 $T256 P-521 localhost http/1.1 localhost NONE
		openssl -alpn http/1.0	=> TLSv1.3 $T256 P-521 localhost - localhost NONE
		gnutls --alpn=http/1.1 --alpn=ccf/2	=> TLSv1.3 $T256 P-256 localhost ccf/2 localhost NONE
		curl --http1.1	=> TLSv1.3 $T256 ? localhost http/1.1 localhost NONE
	END
	serves "${ECDSA[@]}" --min-version 1.2 --max-version 1.2 --ciphers "$E128" --groups P-384:P-256
	cells <<-END
		openssl	=> TLSv1.2 $E128 P-384 localhost - localhost NONE
	END
}

@test "a bad value is a usage error that names the option and the piece, before anything is bound" {
	local option value want long

	long=$(printf 'x%.0s' {1..256})
	while IFS='|' read -r option value want; do
		[ -n "$option" ] || continue
		expect_status 2 ccf-tlsterm --from bind:link --app echo "${ECDSA[@]}" "$option" "${value//LONG/$long}"
		[[ ${lines[0]} == "ccf-tlsterm: error: "*"$want"* ]] || { echo "$option $value: $output"; return 1; }
		[ ! -e link ]
	done <<-'END'
		--ciphers|ECDHE-ECDSA-AES256-GCM-SHA384:NO-SUCH|--ciphers: OpenSSL knows no cipher "NO-SUCH"
		--ciphers||--ciphers: "" leaves no suite for TLS 1.2
		--ciphers|TLS_AES_128_GCM_SHA256|--ciphers: "TLS_AES_128_GCM_SHA256" is no suite of TLS 1.2; those of TLS 1.3 stand in --ciphersuites
		--ciphers|ALL:!ALL|--ciphers: "ALL:!ALL" leaves no suite for TLS 1.2
		--ciphersuites|TLS_AES_128_GCM_SHA256:TLS_NO_SUCH|--ciphersuites: OpenSSL knows no suite of TLS 1.3 called "TLS_NO_SUCH"
		--ciphersuites|ECDHE-ECDSA-AES256-GCM-SHA384|called "ECDHE-ECDSA-AES256-GCM-SHA384"
		--ciphersuites|TLS_AES_128_GCM_SHA256:|called ""
		--ciphersuites||--ciphersuites: "" leaves no suite for TLS 1.3
		--groups|P-256:P-999|--groups: OpenSSL knows no group "P-999"
		--groups|?P-999|--groups: OpenSSL knows none of "?P-999"
		--groups|P-256:P-256|--groups: "P-256" stands there twice
		--groups||--groups: OpenSSL knows no group ""
		--min-version|1.1|1.1
		--min-version|TLSv1.2|TLSv1.2
		--max-version|1.4|1.4
		--alpn||--alpn: a name has 1 to 255 bytes
		--alpn|LONG|has 256
		--verify|maybe|maybe
		--max-buffered|1k|--max-buffered 1k: must be at least 64k
		--tickets|8d|8d
		--tickets|169h|169h
		--tickets|10|10
		--cert|*x.example:chain.pem|--cert *x.example:chain.pem: before the ':' stands a host name, or *. and one
	END
	expect_status 2 ccf-tlsterm --from bind:link --app echo "${ECDSA[@]}" --min-version 1.3 --max-version 1.2
	[[ ${lines[0]} == *"--min-version 1.3 is above --max-version 1.2"* ]]
	expect_status 2 ccf-tlsterm --from bind:link --app echo "${ECDSA[@]}" --client-ca "$PKI/ca.pem" --verify none
	[[ ${lines[0]} == *"--client-ca verifies what --verify none does not ask for"* ]]
	[ ! -e link ]
	# CAs that are not there, or none, are no usage: they are files.
	expect_status 58 ccf-tlsterm --from bind:link --app echo "${ECDSA[@]}" --client-ca none.pem
	[[ $output == *none.pem* ]]
	mkdir empty
	expect_status 58 ccf-tlsterm --from bind:link --app echo "${ECDSA[@]}" --client-ca empty
	[[ $output == *empty* ]]
	[ ! -e link ]
}

# --- handshakes that fail ---

@test "each handshake that fails is one line: reason, leaf, versions, name, protocols, stage, alert, what to try" {
	local n=0 line offered client

	cat >raw.py <<-'END'
		"""Says some bytes, ends its direction, and reads to the end: raw.py PORT HEX"""
		import socket, sys
		with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as sock:
		    sock.sendall(bytes.fromhex(sys.argv[2]))
		    sock.shutdown(socket.SHUT_WR)
		    while sock.recv(4096):
		        pass
	END
	http=$(printf 'GET / HTTP/1.0\r\n\r\n' | od -An -v -tx1 | tr -d ' \n')
	junk=$(printf 'EHLO "x"\n' | od -An -v -tx1 | tr -d ' \n')

	# fails REGEX CMD...: it does not succeed, and that is the whole line about it.
	fails() {
		n=$((n + 1))
		if bounded "${@:2}" </dev/null >said 2>&1 && [ "$2" != python3 ]; then
			cat said
			return 1
		fi
		eventually logged $n 'closed: handshake-failed, '
		line=$(sed -n "s/^ccf-tlsterm: info: rpc#$n [0-9.:]*: handshake failed: //p" tls.log)
		[[ $line =~ ^$1$ ]] || { printf 'line: %s\n' "$line"; cat said; return 1; }
	}
	serves "${ECDSA[@]}" --verify require --client-ca "$PKI/ca.pem"
	client=(openssl s_client -connect "$ADDR" -servername name.example -alpn 'h2,http/1.1')
	offered='server name name.example; ALPN h2,http/1.1'
	with other
	fails "the client's certificate was refused: unable to get local issuer certificate \\(CN=other, SHA-256 $(sha256 other); client offered at most TLS 1.3; $offered; reading the client's certificate; alert sent: unknown CA\\); --client-ca says who is trusted" \
	    "${client[@]}" -ign_eof "${WITH[@]}"
	with expired
	fails "the client's certificate expired on 20[0-9 :-]* UTC \\(CN=expired, SHA-256 $(sha256 expired); client offered at most TLS 1.2; $offered; reading the client's certificate; alert sent: certificate expired\\)" \
	    "${client[@]}" -tls1_2 -ign_eof "${WITH[@]}"
	fails "the client sent no certificate \\(client offered at most TLS 1.3; $offered; reading the client's certificate; alert sent: certificate required\\); --verify require wants one" \
	    "${client[@]}" -ign_eof
	fails "no shared protocol version \\(client offered at most TLS 1.1, the minimum is TLS 1.2; $offered; choosing parameters; alert sent: protocol version\\)" \
	    "${client[@]}" -tls1_1 -cipher DEFAULT@SECLEVEL=0
	with good
	fails "the client refused, with alert: unknown CA \\(client offered at most TLS 1.3; $offered; waiting for the client's answer\\)" \
	    "${client[@]}" -CAfile "$PKI/ca2.pem" -verify_return_error "${WITH[@]}"
	fails "the client refused, with alert: unknown CA \\(client offered at most TLS 1.2; $offered; waiting for the client's answer\\)" \
	    "${client[@]}" -tls1_2 -CAfile "$PKI/ca2.pem" -verify_return_error "${WITH[@]}"
	fails 'the client spoke plain HTTP, not TLS' python3 raw.py "$PORT" "$http"
	fails 'the client does not speak TLS: it said "EHLO "' python3 raw.py "$PORT" "$junk"
	fails 'the client closed the connection without a word' python3 raw.py "$PORT" ''
	fails 'the handshake was cut in the middle of a record \(before a hello came\)' python3 raw.py "$PORT" 160301
	[ "$(grep -c 'handshake failed' tls.log)" = 10 ]
	run ! grep ': open' tls.log
}

@test "in JSON a handshake that fails is one object" {
	serves "${ECDSA[@]}" --log json
	! ask openssl -tls1_1 -cipher DEFAULT@SECLEVEL=0 || return 1
	eventually logs 1 '"event":"close"'
	jq -es 'map(select(.event == "handshake-failed")) | length == 1 and (.[0] | .conn == "rpc#1" and .iface == "rpc" and
	    .level == "info" and (.peer | startswith("127.0.0.1:")) and (.msg | contains("client offered at most TLS 1.1")))' tls.log
	jq -es 'map(select(.event == "close")) | length == 1 and .[0].reason == "handshake-failed" and .[0].status == 35' tls.log
}

@test "200 handshakes that fail are summed up, and a good one is served meanwhile" {
	local began=$SECONDS

	cat >flood.py <<-'END'
		import socket, sys
		for i in range(200):
		    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as sock:
		        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
		        while sock.recv(4096):
		            pass
	END
	serves "${ECDSA[@]}"
	spawn flood python3 flood.py "$PORT"
	ask openssl
	ends_with 0 flood 60
	eventually all_are_closed 201
	stop lst
	ends_with 0 tls
	summed_up 200 tls.log 'handshake failed: the client spoke plain HTTP' 'failed handshakes' "$began"
	[ "$(grep -c 'closed: handshake-failed' tls.log)" = "$(grep -c 'handshake failed:' tls.log)" ]
}
