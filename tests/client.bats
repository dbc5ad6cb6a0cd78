# client - the client's side of TLS, against servers of the world: `ccf-connect --tls`, and `ccf-connect ... --
# ccf-tlsterm --client`.  Whom it trusts, what each failure ends with and says, and what a COMMAND gets.
#
# (who runs this makes no difference; left out of brief runs)

# shellcheck disable=SC2153	# LIMIT is the helpers'

load helpers

setup_file() {
	export PKI=$BATS_FILE_TMPDIR/pki

	mkdir -p "$PKI/cas"
	python3 "$HERE/peer/certify.py" "$PKI" <<-'EOF'
		ca
		ca-inter	by=ca
		ca-other
		good		by=ca-inter san=DNS:good.example,DNS:localhost
		address		by=ca san=DNS:other.example,IP:127.0.0.1
		wild		by=ca san=DNS:*.wild.example
		expired		by=ca san=DNS:good.example from=-172800 to=-86400
		early		by=ca san=DNS:good.example from=86400 to=172800
		purpose		by=ca san=DNS:good.example use=client
		foreign		by=ca-other san=DNS:good.example
		self		san=DNS:good.example key=own
		odd		by=ca san=DNS:good.example cn='a\nb\x00c () { :; }; echo'
		huge		by=ca san=DNS:good.example pad=120000
		me		by=ca-inter use=client cn='client one'
		stranger	by=ca-other use=client
		late		by=ca use=client from=-172800 to=-86400
	EOF
	cp "$PKI/ca-other.pem" "$PKI/ca.pem" "$PKI/cas"
	# a server that has forgotten its chain
	sed '/-END/q' "$PKI/good.pem" >"$PKI/alone.pem"
	cp "$PKI/good.key" "$PKI/alone.key"
	openssl ec -aes256 -in "$PKI/me.key" -passout pass:secret -out "$PKI/locked.key" 2>/dev/null
	chmod -R a+rX "$PKI"
}

# --- what the tests share ---

# serve CERT CONNECTION...: tests/peer/tls_server.py with the options in SERVE; ADDR is where it listens, server.out
# what it saw.
serve() {
	rm -f server.out
	SPAWN_OUT=server.out spawn server python3 "$HERE/peer/tls_server.py" "${SERVE[@]}" "$PKI/$1.pem" "$PKI/$1.key" "${@:2}"
	await_line server.out .
	ADDR=$(head -n 1 server.out)
}

# serve_openssl CERT OPTION...: openssl s_server, which turns lines round.
serve_openssl() {
	rm -f server.out
	SPAWN_OUT=server.out spawn server openssl s_server -accept 127.0.0.1:0 -rev -cert "$PKI/$1.pem" \
	    -cert_chain "$PKI/$1.pem" -key "$PKI/$1.key" "${@:2}"
	await_line server.out '^ACCEPT'
	ADDR=$(sed -n 's/^ACCEPT //p;T;q' server.out)
}

# serve_gnutls CERT OPTION...: gnutls-serv, which echoes.
serve_gnutls() {
	local try port

	requires gnutls
	for try in 1 2 3 4 5; do
		rm -f server.out
		port=$(free_port)
		SPAWN_OUT=server.out spawn server gnutls-serv --port "$port" --echo --x509certfile "$PKI/$1.pem" \
		    --x509keyfile "$PKI/$1.key" "${@:2}"
		ADDR=127.0.0.1:$port
		# It says so before it listens.
		if eventually listens_or_not "$port" && runs server; then
			return 0
		fi
		echo "gnutls-serv: try $try: port $port"
	done
	return 1
}

listens_or_not() {
	grep -q "^ *[0-9]*: 00000000:$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp || ! runs server
}

runs() {
	kill -0 "${PID[$1]}" 2>/dev/null
}

# serve_nginx CERT DIRECTIVE...: nginx, with the files of www.
serve_nginx() {
	local try port

	requires nginx
	mkdir -p nginx www
	for try in 1 2 3 4 5; do
		port=$(free_port)
		cat >nginx/conf <<-EOF
			$([ "$EUID" != 0 ] || echo 'user root root;')
			daemon off; worker_processes 1; pid $BATS_TEST_TMPDIR/nginx/pid; error_log stderr notice;
			events { worker_connections 64; }
			http {
				client_body_temp_path nginx/body; proxy_temp_path nginx/1; fastcgi_temp_path nginx/2;
				uwsgi_temp_path nginx/3; scgi_temp_path nginx/4; access_log off; client_max_body_size 0;
				server {
					listen 127.0.0.1:$port ssl; root $BATS_TEST_TMPDIR/www; dav_methods PUT;
					ssl_certificate $PKI/$1.pem; ssl_certificate_key $PKI/$1.key; ${@:2}
				}
			}
		EOF
		spawn nginx nginx -p "$BATS_TEST_TMPDIR" -c nginx/conf -e stderr
		if await_line nginx.log 'start worker processes|\[emerg\]' && ! grep -qs '\[emerg\]' nginx.log; then
			ADDR=127.0.0.1:$port
			return 0
		fi
		rm -f nginx.log
	done
	return 1
}

# serve_ours CERT OPTION... SINK...: ccf-listen and ccf-tlsterm, one process a connection.
serve_ours() {
	spawn lst ccf-listen --ready-fd 9 --address-file a.json rpc=127.0.0.1:0 -- ccf-tlsterm -v --no-sandbox \
	    --cert "$PKI/$1.pem" --key "$PKI/$1.key" "${@:2}"
	ADDR=$(address a.json rpc)
}

# scripted CONNECTION...: what speaks no TLS (tests/peer/scripted.py).
scripted() {
	rm -f server.out
	SPAWN_OUT=server.out spawn server python3 "$HERE/peer/scripted.py" 127.0.0.1:0 "$@"
	await_line server.out .
	ADDR=$(head -n 1 server.out)
}

# limited CMD...: from IN to out and err; the status is in $status.
limited() {
	status=0
	timeout -k 1 $((LIMIT * 3)) "$@" <"${IN-/dev/null}" >out 2>err || status=$?
}

# ends STATUS: what `limited` did.
ends() {
	[ "$status" = "$1" ] || {
		echo "status $status, not $1"
		head -c 2000 out
		cat err
		return 1
	}
}

# tls STATUS OPTION... [-- COMMAND...]: to ADDR, trusting our CA, for good.example, if OPTIONs say nothing else.
tls() {
	limited ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example "${@:2}"
	ends "$1"
}

# bare STATUS ARG...: ccf-connect --tls ARG...
bare() {
	limited ccf-connect --tls "${@:2}"
	ends "$1"
}

# says PATTERN: standard error is one line of an error, with that in it, and standard output is empty.
says() {
	if [ ! -s out ] && [ "$(wc -l <err)" = 1 ] && grep -qE "^ccf-(tlsterm|connect): error: .*$1" err; then
		return
	fi
	echo "not so: one line with: $1"
	head -c 1000 out
	cat err
	return 1
}

quiet() {
	[ ! -s err ] || {
		cat err
		return 1
	}
}

# saw PATTERN: the server has a line with that, sooner or later.
saw() {
	await_line server.out "$1"
}

random() {
	head -c "$2" /dev/urandom >"$1"
}

sum() {
	sha256sum "$1" | cut -d ' ' -f 1
}

# pin_of CERT [base64]: of its key, as --pin wants it.
pin_of() {
	openssl x509 -in "$PKI/$1.pem" -noout -pubkey | openssl pkey -pubin -outform DER >spki
	if [ "${2-}" = base64 ]; then
		echo "sha256:$(openssl dgst -sha256 -binary spki | base64)"
	else
		echo "sha256:$(sum spki)"
	fi
}

# --- whom it believes ---

@test "the host of ADDRESS is asked for and looked for, and a trailing dot does not count" {
	serve good all,say:hello,bye all,say:hello,bye
	bare 0 --ca "$PKI/ca.pem" "localhost:${ADDR##*:}"
	quiet
	[ "$(cat out)" = hello ]
	saw '^1 up .* sni=localhost '
	tls 0 --servername good.example.
	saw '^2 up .* sni=good.example '
	ends_with 0 server

	serve address all all all
	bare 60 --ca "$PKI/ca.pem" "localhost:${ADDR##*:}"
	says "the server's certificate is for other names \(DNS:other.example, IP:127.0.0.1\), not for localhost .*--servername"
	saw '^1 failed'
	tls 60
	says 'other names .*, not for good.example'
	tls 60 --servername example
	says 'other names .*, not for example '
}

@test "an address is looked for among the certificate's addresses, and is no server name" {
	serve address all,say:hello,bye all,say:hello,bye all
	bare 0 --ca "$PKI/ca.pem" "$ADDR"
	saw '^1 up .* sni=- '
	[ "$(cat out)" = hello ]
	tls 0 --servername other.example
	saw '^2 up .* sni=other.example '
	tls 60 --servername ::1
	says 'other names .*, not for (::1|0:0:0:0:0:0:0:1) '
	ends_with 0 server
	serve good all
	bare 60 --ca "$PKI/ca.pem" "$ADDR"
	says 'other names \(DNS:good.example, DNS:localhost\), not for 127.0.0.1 '
}

@test "a wildcard stands for one label" {
	serve wild all,bye all,bye all all all
	tls 0 --servername a.wild.example
	tls 0 --servername B.WILD.example
	tls 60 --servername a.b.wild.example
	says 'other names \(DNS:\*.wild.example\), not for a.b.wild.example'
	tls 60 --servername wild.example
	tls 60 --servername awild.example
}

@test "where nothing says who was connected to, --servername has to" {
	spawn lst ccf-listen --ready-fd 9 rpc=unix:sock -- ccf-tlsterm --no-sandbox --cert "$PKI/good.pem" --key "$PKI/good.key" -- cat
	ADDR=unix:sock
	echo hello >in
	bare 2 --ca "$PKI/ca.pem" "$ADDR"
	says 'servername NAME is missing'
	IN=in tls 0
	[ "$(cat out)" = hello ]
	IN=in bare 0 --no-verify "$ADDR"
	[ "$(cat out)" = hello ]
	limited env TCPREMOTEHOST=good.example ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem"
	ends 2
	says 'servername NAME is missing'
}

@test "--ca is a file or a directory, of roots, of an intermediate, or of the server's own certificate" {
	local ca

	serve good all,bye all,bye all,bye all all,bye
	for ca in ca.pem cas ca-inter.pem; do
		tls 0 --ca "$PKI/$ca"
		quiet
	done
	tls 60 --ca "$PKI/ca-other.pem"
	says 'was refused: unable to get (local )?issuer certificate .*CN=good, SHA-256 [0-9a-f]{64}; .*--ca FILE says who is trusted'
	tls 0 --ca "$PKI/good.pem"
	ends_with 0 server
	serve self all,bye
	tls 0 --ca "$PKI/self.pem"
}

@test "without --ca those are trusted whom the system trusts, and with it nobody else" {
	serve good all,bye all all
	limited env "SSL_CERT_FILE=$PKI/ca.pem" ccf-connect --tls "$ADDR" --servername good.example
	ends 0
	limited env "SSL_CERT_FILE=$PKI/ca-other.pem" "SSL_CERT_DIR=$PWD" ccf-connect --tls "$ADDR" --servername good.example
	ends 60
	says 'issuer certificate .*--ca FILE says who is trusted'
	limited env "SSL_CERT_FILE=$PKI/ca.pem" ccf-connect --tls "$ADDR" --servername good.example --ca "$PKI/ca-other.pem"
	ends 60
}

@test "a certificate that is past its end, not yet valid, for another purpose or signed by nobody we know ends it with 60" {
	local cert

	for cert in expired early purpose foreign alone self; do
		serve "$cert" all,say:hello all,say:hello,bye
		tls 60
		case $cert in
		expired) says "the server's certificate expired on 20[0-9-]* [0-9:]* UTC .*--no-verify goes on" ;;
		early) says "the server's certificate is not valid before 20[0-9-]* [0-9:]* UTC .*--no-verify goes on" ;;
		purpose) says "the server's certificate was refused: (unsupported|unsuitable) certificate purpose .*--no-verify" ;;
		foreign | alone) says 'was refused: unable to get local issuer certificate .*--ca FILE' ;;
		self) says 'was refused: self[- ]signed certificate .*--ca FILE' ;;
		esac
		saw '^1 failed .*ALERT'
		bare 0 --no-verify "$ADDR"
		[ "$(cat out)" = hello ]
		quiet
		ends_with 0 server
	done
}

@test "--pin is met by the key or by the certificate, in hex or in base64, and one of several is enough" {
	local none=sha256:0000000000000000000000000000000000000000000000000000000000000000 key leaf

	key=$(pin_of good)
	leaf=sha256:$(openssl x509 -in "$PKI/good.pem" -outform DER | sha256sum | cut -d ' ' -f 1)
	serve good all,bye all,bye all,bye all,bye all,bye
	tls 0 --pin "$key"
	tls 0 --pin "sha256:$(tr a-f A-F <<<"${key#sha256:}")"
	tls 0 --pin "$(pin_of good base64)"
	tls 0 --pin "$leaf"
	tls 0 --pin "$none" --pin "$key"
	quiet
	ends_with 0 server
}

@test "a --pin that is not met ends it with 90 and says the server's; one that is met replaces no other check" {
	local none=sha256:0000000000000000000000000000000000000000000000000000000000000000 said

	serve good all all all all all,bye
	tls 90 --pin "$none"
	says "no --pin is met by the server's certificate .*; its key is sha256:[0-9a-f]{64}\$"
	said=$(sed 's/.* //' err)
	[ "$said" = "$(pin_of good)" ]
	bare 90 --pin "$none" --no-verify "$ADDR"
	tls 60 --pin "$said" --servername else.example
	says 'other names'
	tls 60 --pin "$said" --ca "$PKI/ca-other.pem"
	says 'issuer certificate'
	tls 0 --pin "$said"
	ends_with 0 server

	# Anybody, but for the one who has that key.
	serve self all all,say:hello,bye
	bare 90 --no-verify --pin "$said" "$ADDR"
	bare 0 --no-verify --pin "$(pin_of self)" "$ADDR"
	[ "$(cat out)" = hello ]
}

# --- who we are ---

@test "a client certificate is shown to who wants one, with its chain, in TLS 1.2 and 1.3" {
	local max

	cat "$PKI/me.pem" "$PKI/me.key" >both.pem
	for max in 1.2 1.3; do
		SERVE=(--client-ca "$PKI/ca.pem" --max "$max")
		serve good all,say:hello,bye all,bye
		tls 0 --cert "$PKI/me.pem" --key "$PKI/me.key"
		[ "$(cat out)" = hello ]
		quiet
		saw "^1 up TLSv$max .* client=client one\$"
		tls 0 --cert both.pem
		ends_with 0 server
	done
	SERVE=()
	serve good all,bye
	tls 0 --cert "$PKI/me.pem" --key "$PKI/me.key"
	saw '^1 up .* client=-$'
}

# turned_away PATTERN OPTION...: ADDR refuses us, on stdin and stdout, with much to say, and with a COMMAND: 35.
turned_away() {
	local pattern=$1

	shift
	tls 35 "$@"
	says "$pattern"
	IN=/dev/zero tls 35 "$@"
	says "$pattern"
	tls 35 "$@" -- sh -c 'exec cat /dev/zero >&7 2>cat.log'
	says "$pattern"
	tls 35 "$@" -- sh -c 'cat <&6'
	says "$pattern"
}

# turns_us_away: by whoever is at ADDR, who wants a certificate of our CA.
turns_us_away() {
	turned_away 'the server (wants a certificate, with alert: certificate required|refused, with alert: .* it asked for a certificate).*--cert'
	turned_away "the server refused our certificate, with alert: .*--cert and --key" \
	    --cert "$PKI/stranger.pem" --key "$PKI/stranger.key"
}

@test "a server that refuses our certificate, or wants one, is 35 and says so: openssl, TLS 1.2" {
	serve_openssl good -tls1_2 -CAfile "$PKI/ca.pem" -Verify 3 -verify_return_error
	turns_us_away
}

@test "a server that refuses our certificate, or wants one, is 35 and says so: openssl, TLS 1.3" {
	serve_openssl good -tls1_3 -CAfile "$PKI/ca.pem" -Verify 3 -verify_return_error
	turns_us_away
	grep -q 'closed: handshake-failed, by peer, .*, status 35: the server refused our certificate' err
	tls 35 --cert "$PKI/late.pem" --key "$PKI/late.key"
	grep -q 'warn: .*late.pem: the certificate expired on ' err
	sed -i 1d err
	says 'the server refused our certificate, with alert: certificate expired'
	tls 35 --log json
	[ "$(jq -r '[.event, .reason, .status] | join(" ")' err)" = 'close handshake-failed 35' ]
	[[ $(jq -r .why err) == 'the server wants a certificate, with alert: certificate required'* ]]
}

@test "a server that refuses our certificate, or wants one, is 35 and says so: gnutls, TLS 1.2 and 1.3" {
	local v

	for v in 1.2 1.3; do
		serve_gnutls good --priority "NORMAL:-VERS-ALL:+VERS-TLS$v" --x509cafile "$PKI/ca.pem" \
		    --require-client-cert --verify-client-cert
		turns_us_away
		stop server
	done
}

@test "a server that refuses our certificate, or wants one, is 35 and says so: python, TLS 1.2 and 1.3" {
	local max

	for max in 1.2 1.3; do
		SERVE=(--client-ca "$PKI/ca.pem" --max "$max")
		serve good all all all all all all all all
		turns_us_away
		ends_with 0 server
	done
}

@test "a server that refuses our certificate, or wants one, is 35 and says so: ours, TLS 1.2 and 1.3" {
	serve_ours good --verify require --client-ca "$PKI/ca.pem" -- cat
	turns_us_away
	turned_away 'the server refused our certificate' --cert "$PKI/stranger.pem" --key "$PKI/stranger.key" --max-version 1.2
	echo hello >in
	IN=in tls 0 --cert "$PKI/me.pem" --key "$PKI/me.key"
	[ "$(cat out)" = hello ]
}

@test "nginx, which asks in HTTP, gets the certificate and knows it" {
	serve_nginx good "ssl_client_certificate $PKI/ca.pem; ssl_verify_client on; ssl_verify_depth 3;" \
	    'location = /who { return 200 "$ssl_client_s_dn $ssl_server_name\n"; }'
	tls 0 --cert "$PKI/me.pem" --key "$PKI/me.key" -- sh -c 'printf "GET /who HTTP/1.0\r\n\r\n" >&7; cat <&6'
	grep -q '^CN=client one good.example$' out
	tls 0 -- sh -c 'printf "GET /who HTTP/1.0\r\n\r\n" >&7; cat <&6'
	grep -q 'No required SSL certificate was sent' out
}

@test "an own certificate or key that cannot be used ends it with 58, and names the file" {
	scripted all all all all all all all all
	echo nonsense >bad.pem
	: >empty.pem
	tls 58 --cert nowhere.pem
	says 'nowhere.pem'
	tls 58 --cert "$PKI/me.pem" --key nowhere.key
	says 'nowhere.key'
	tls 58 --cert "$PKI/me.pem"
	says 'me.pem: .*private key'
	tls 58 --cert "$PKI/me.pem" --key "$PKI/ca.key"
	says 'ca.key: .*does not match .*me.pem'
	tls 58 --cert bad.pem --key "$PKI/me.key"
	says 'bad.pem'
	tls 58 --ca nowhere
	says 'nowhere: No such file'
	tls 58 --ca empty.pem
	says 'empty.pem'
	tls 58 --ca "$PKI/me.key"
	says 'me.key: '
}

@test "the passphrase of our key comes from a variable, a file or a descriptor, and no COMMAND sees it" {
	local k=(--cert "$PKI/me.pem" --key "$PKI/locked.key") i bye=all,bye

	SERVE=(--client-ca "$PKI/ca.pem")
	serve good "$bye" "$bye" "$bye" "$bye" "$bye"
	echo secret >pass
	export WORD=secret
	tls 0 "${k[@]}" --passphrase env:WORD
	tls 0 "${k[@]}" --passphrase file:pass
	tls 0 "${k[@]}" --passphrase fd:9 9<pass
	IN=pass tls 0 "${k[@]}" --passphrase fd:0
	tls 0 "${k[@]}" --passphrase env:WORD -- sh -c 'env; tr "\0" "\n" </proc/$PPID/environ; cat /proc/$PPID/cmdline'
	grep -q '^CCF_SERVER_VERIFY=\|^SSL_SERVER_VERIFY=SUCCESS$' out
	run ! grep -q secret out
	for i in 1 2 3 4 5; do
		saw "^$i up .* client=client one\$"
	done
	ends_with 0 server
}

@test "a passphrase that is wrong, or not there, is 58; a source that is none is 2 and is not shown" {
	local k=(--cert "$PKI/me.pem" --key "$PKI/locked.key")

	scripted all all all all all all all
	echo wrong >wrong
	: >empty
	tls 58 "${k[@]}" --passphrase file:wrong
	says 'locked.key: wrong passphrase'
	tls 58 "${k[@]}" --passphrase file:empty
	says 'file:empty is empty'
	tls 58 "${k[@]}" --passphrase file:nowhere
	says 'file:nowhere: No such file'
	tls 58 "${k[@]}" --passphrase env:NOWHERE
	says 'env:NOWHERE: it is not set'
	limited setsid -w ccf-connect --tls "$ADDR" "${k[@]}" --servername x
	ends 58
	says 'locked.key: .*no terminal to ask \(--passphrase env:NAME, file:PATH or fd:N\)'
	tls 2 "${k[@]}" --passphrase secret
	says '--passphrase is not the passphrase but says where it is'
	run ! grep -q secret err
	tls 2 "${k[@]}" --passphrase fd:77
	says '--passphrase fd:77: no such descriptor is open'
	limited ccf-connect --tls "$ADDR" "${k[@]}" --servername x --passphrase fd:6 6<wrong
	ends 2
	says '6 and 7 are the connection'
}

# --- what is agreed on ---

@test "ALPN: what the server chose is in CCF_ALPN, none in common goes on without, and a server may refuse" {
	SERVE=(--alpn 'two,three')
	serve good all,bye all,bye all,bye
	tls 0 --alpn one --alpn three --alpn two -- sh -c 'echo "<$CCF_ALPN>"'
	[ "$(cat out)" = '<two>' ]
	tls 0 --alpn one -- sh -c 'echo "<${CCF_ALPN-none}>"'
	[ "$(cat out)" = '<none>' ]
	tls 0 -- sh -c 'echo "<${CCF_ALPN-none}>"'
	[ "$(cat out)" = '<none>' ]
	saw '^1 up .* alpn=two '
	saw '^2 up .* alpn=- '
	saw '^3 up .* alpn=- '
	ends_with 0 server
	serve_openssl good -alpn two
	tls 35 --alpn one --alpn http/1.1
	says 'the server refused, with alert: no application protocol .*ALPN one,http/1.1; .*--alpn says'
}

# agreed VERSION CIPHER OPTION...
agreed() {
	tls 0 "${@:3}" -- sh -c 'echo "$SSL_PROTOCOL $SSL_CIPHER"'
	[ "$(cat out)" = "$1 $2" ] || {
		echo "$(cat out), not $1 $2"
		return 1
	}
}

@test "versions: the best of both, and --min-version and --max-version say which are ours" {
	serve_openssl good
	agreed TLSv1.3 TLS_AES_256_GCM_SHA384
	agreed TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 --max-version 1.2
	stop server
	serve_openssl good -tls1_2
	agreed TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384
	tls 35 --min-version 1.3
	says 'the server refused, with alert: protocol version \(we offered TLS 1.3; .*--min-version and --max-version'
	stop server
	serve_openssl good -tls1_3
	tls 35 --max-version 1.2
	says 'the server refused, with alert: protocol version \(we offered TLS 1.2; .*--min-version and --max-version'
}

@test "a server of TLS 1.1 finds no client in us" {
	serve_openssl good -tls1_1 -cipher DEFAULT@SECLEVEL=0
	tls 35
	says '(alert: (protocol version|handshake failure)|no shared protocol version)'
}

@test "suites and groups: ours are CCF's, and others where they are asked for" {
	serve_openssl good -tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305
	tls 35
	says 'alert: handshake failure .*; it may want other --ciphers, --ciphersuites or --groups'
	agreed TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305 --ciphers ECDHE-ECDSA-CHACHA20-POLY1305
	stop server
	serve_openssl good -tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256
	tls 35
	says 'alert: handshake failure .*--ciphersuites'
	agreed TLSv1.3 TLS_CHACHA20_POLY1305_SHA256 --ciphersuites TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256
	stop server
	serve_openssl good -tls1_3 -groups X448
	tls 35
	says 'alert: handshake failure .*--groups'
	agreed TLSv1.3 TLS_AES_256_GCM_SHA384 --groups P-256:X448
}

@test "gnutls and we agree, in TLS 1.2 and 1.3" {
	local v

	serve_gnutls good
	echo hello >in
	for v in 1.2 1.3; do
		IN=in tls 0 --max-version "$v" --min-version "$v"
		quiet
		[ "$(cat out)" = hello ]
		agreed "TLSv$v" "$([ "$v" = 1.2 ] && echo ECDHE-ECDSA-AES256-GCM-SHA384 || echo TLS_AES_256_GCM_SHA384)" \
		    --max-version "$v"
	done
}

@test "SSLKEYLOGFILE gets what the server's own has, in a file of mode 0600" {
	local max

	for max in 1.2 1.3; do
		rm -f theirs ours
		SERVE=(--max "$max" --keylog theirs)
		serve good all,bye all,bye
		(umask 0; SSLKEYLOGFILE=ours tls 0)
		[ "$(stat -c %a ours)" = 600 ]
		SSLKEYLOGFILE=ours tls 0
		ends_with 0 server
		[ "$(wc -l <ours)" -ge 2 ]
		diff <(sort ours) <(grep -v '^#' theirs | sort)
	done
	grep -q '^CLIENT_TRAFFIC_SECRET_0 [0-9a-f]* [0-9a-f]*$' ours
	serve good all
	SSLKEYLOGFILE=nowhere/keys tls 1
	says 'SSLKEYLOGFILE: nowhere/keys: No such file'
}

# --- how it ends ---

@test "a server's close_notify is an end, a bare FIN is 18 and no-close-notify, and what came is there" {
	serve good all,say:all,bye all,say:most,fin,gone all,say:most,fin,gone say:part,half,fin,gone say:part,reset
	tls 0
	[ "$(cat out)" = all ]
	quiet
	tls 18
	[ "$(cat out)" = most ]
	grep -q 'error: .*closed: no-close-notify, by peer, 4 bytes in, .*status 18: the server ended without close_notify' err
	tls 18 --require-close-notify
	[ "$(cat out)" = most ]
	grep -q 'error: .*closed: .*, by peer, 4 bytes in, .*status 18' err
	IN=/dev/zero tls 18
	[ "$(cat out)" = part ]
	grep -q 'error: .*closed: reset, by peer, 4 bytes in, .*status 18' err
	tls 18
	grep -q 'error: .*closed: reset, by peer, .*status 18' err
	[ "$(wc -l <err)" = 1 ]
}

@test "data cut in the middle of a record is 18 and says so" {
	mkfifo in
	exec {hold}<>in
	serve good say:part,half,fin,gone
	IN=in tls 18
	[ "$(cat out)" = part ]
	grep -q 'closed: reset, by peer, 4 bytes in, .*status 18: cut in the middle of a record$' err
	exec {hold}>&-
}

@test "an alert of the server's ends it with 18 and is named" {
	# Before it resets, who gives up says so with an alert.
	mkfifo in
	exec {hold}<>in
	serve_ours good --idle-timeout 200ms --app echo
	IN=in tls 18
	exec {hold}>&-
	says 'closed: protocol, by peer, .*status 18: the server ended it with alert: internal error$'
}

@test "silence is 28 after --handshake-timeout, before and within the server's answer; --idle-timeout is for later" {
	scripted all "say:$(printf '\026\003\003\001'),all"
	tls 28 --handshake-timeout 300ms
	says 'handshake not finished in time \(--handshake-timeout\): the server said nothing \('
	tls 28 --handshake-timeout "$((LIMIT / 5))s"
	says 'handshake not finished in time \(--handshake-timeout\): stopped while waiting for the server.s hello'
	serve good gone
	mkfifo in
	exec {hold}<>in
	IN=in tls 28 --idle-timeout 300ms
	exec {hold}>&-
	says 'closed: idle, by us, .*status 28'
}

@test "what is no TLS server is 35, and the line says what it is" {
	local noise

	noise=$(printf '\001\002\177\033[31mred\n() { :; }')
	scripted 'say:SSH-2.0-OpenSSH_9.2,all' 'say:HTTP/1.1 400 Bad Request,close' 'say:220 mail ESMTP,all' "say:$noise,all" \
	    close reset "say:$(printf '\026\003\001\002'),close" "say:$(printf '\025\003\003')"
	tls 35
	says 'handshake failed: the server does not speak TLS: it said "SSH-2"; its TLS may be on another port$'
	tls 35
	says 'handshake failed: the server spoke plain HTTP, not TLS; its TLS may be on another port$'
	tls 35
	says 'handshake failed: the server does not speak TLS: it said "220 m"'
	tls 35
	says 'handshake failed: the server does not speak TLS: it said "[?]+\[?"'
	run ! grep -q "$(printf '\033')" err
	tls 35
	says 'handshake failed: (the server closed the connection without a word|Connection reset by peer) \(we offered'
	tls 35
	says 'handshake failed: Connection reset by peer \(we offered'
	tls 35
	says 'handshake failed: (the handshake was cut in the middle of a record|Connection reset by peer) \(we offered'
	tls 35
	says 'handshake failed: '
}

@test "a certificate with a line feed, a NUL and a shell function in its subject harms neither log nor COMMAND" {
	serve odd all,bye all all
	tls 0 -- sh -c 'env | grep -a "^SSL_SERVER_S_DN="; env | grep -ac "^b.*() {"; printf "%s\n" "$SSL_PEER_CERT_CN"'
	[ "$(sed -n 1p out)" = 'SSL_SERVER_S_DN=CN=a\0Ab\00c () { :\; }\; echo' ]
	[ "$(sed -n 2p out)" = 0 ]
	[[ $(sed -n 3p out) == 'a\0Ab\00c'* ]]
	[ "$(wc -l <out)" = 3 ]
	tls 60 --servername else.example
	says 'other names .*CN=a.*0Ab.*00c \(\) \{ :.*SHA-256 [0-9a-f]{64}; '
	tls 60 --servername else.example --log json
	jq -e '.event == "handshake-failed" and (.msg | contains("\n") | not)' err
}

@test "a chain that is too large is refused" {
	serve huge all all
	tls 35
	says "the server's certificates are too large"
	bare 35 --no-verify "$ADDR"
	says "the server's certificates are too large"
}

@test "nobody there is 7, and ccf-connect says so itself" {
	ADDR=127.0.0.1:$(free_port)
	tls 7
	says 'cannot connect to .*Connection refused'
	grep -q '^ccf-connect: ' err
}

# --- standard input and output ---

@test "16 MiB each way at once, and each arrives as it was" {
	random data $((16 << 20))
	serve good "give:$((16 << 20)),all,bye" echo,bye
	IN=data tls 0
	quiet
	saw "^1 got 16777216 $(sum data) close_notify gave 16777216 $(sum out)\$"
	IN=data tls 0
	saw "^2 got 16777216 $(sum data) close_notify gave 16777216 $(sum data)\$"
	cmp data out
}

@test "16 MiB each way through a server of ours" {
	random data $((16 << 20))
	serve_ours good -- cat
	IN=data tls 0
	quiet
	cmp data out
	IN=data tls 0 --max-version 1.2
	cmp data out
}

@test "16 MiB to and from nginx" {
	serve_nginx good
	random data $((16 << 20))
	{
		printf 'PUT /put HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n' $((16 << 20))
		cat data
	} >in
	# To nginx a client that has ended its direction has left: ours waits for the answer.
	tls 0 -- sh -c 'cat in >&7; cat <&6'
	grep -q '^HTTP/1.1 201' out
	cmp data www/put
	tls 0 -- sh -c 'printf "GET /put HTTP/1.0\r\nHost: x\r\n\r\n" >&7; cat <&6'
	[ "$(tail -c $((16 << 20)) out | sha256sum)" = "$(sha256sum <data)" ]
}

@test "the end of our input is one for the server, whose answer still comes" {
	echo question >in
	serve good "all,give:1000000,bye"
	IN=in tls 0
	saw "^1 got 9 $(sum in) close_notify gave 1000000 $(sum out)\$"
}

@test "the end of the server's output is one for ours, and what we say after it still arrives" {
	mkfifo in
	exec {hold}<>in
	serve good say:hello,bye,all
	SPAWN_IN=in spawn client ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example
	eventually grep -q hello client.out
	closed() { [ "$(readlink "/proc/${PID[client]}/fd/1")" != "$PWD/client.out" ]; }
	eventually closed
	echo 'after it' >&"$hold"
	exec {hold}>&-
	ends_with 0 client
	saw "^1 got 9 $(echo 'after it' | sha256sum | cut -d ' ' -f 1) close_notify "
}

@test "standard output that goes away is 23" {
	serve good give:16777216,gone
	run -23 --separate-stderr bash -o pipefail -c 'timeout 30 ccf-connect --tls "$1" --ca "$2" --servername good.example </dev/null |
	    head -c 1 >/dev/null' sh "$ADDR" "$PKI/ca.pem"
	[[ $stderr == *'closed: stdout-gone, by '*'status 23'* ]]
}

@test "a signal ends it as it would end any filter" {
	mkfifo in
	exec {hold}<>in
	serve good gone
	SPAWN_IN=in spawn client ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example
	saw '^1 up '
	stop client
	[ "$ended" = 143 ]
	exec {hold}>&-
}

# filters PID: how many filters of system calls it has.
filters() {
	sed -n 's/^Seccomp_filters:[[:space:]]*//p' "/proc/$1/status"
}

has_filters() {
	[ "$(filters "$1")" = "$2" ]
}

@test "on standard input and output it is confined, with a COMMAND neither of the two is" {
	local own

	requires plain
	own=$(filters self)
	[ -n "$own" ] || skip 'this kernel does not count filters'
	mkfifo in
	exec {hold}<>in
	serve good gone gone gone
	SPAWN_IN=in spawn client ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example
	saw '^1 up '
	eventually has_filters "${PID[client]}" $((own + 1))
	grep -q '^Seccomp:[[:space:]]*2$' "/proc/${PID[client]}/status"
	grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/${PID[client]}/status"
	[ "$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/${PID[client]}/status")" = 0000000000000000 ]
	stop client
	SPAWN_IN=in spawn client ccf-connect "$ADDR" -- ccf-tlsterm --client --no-sandbox --ca "$PKI/ca.pem" --servername good.example
	saw '^2 up '
	has_filters "${PID[client]}" "$own"
	stop client
	SPAWN_OUT=pids spawn client ccf-connect --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example \
	    -- sh -c 'echo $$; read -r line <&6'
	await_line pids .
	has_filters "${PID[client]}" "$own"
	has_filters "$(cat pids)" "$own"
	exec {hold}>&-
}

# --- a COMMAND ---

@test "COMMAND has the plaintext on 6 and 7, standard input and output as they were, and nothing else" {
	echo input >in
	serve good read:4,say:pong,all,bye read:4,say:pong,all,bye
	cat >command.bash <<-'EOF'
		read -r mine
		printf ping >&7
		exec 7>&-
		echo "$mine $(head -c 4 <&6)"
		ls /proc/$$/fd >fds
		sort -n fds | tr '\n' ' '
		echo
		exit 7
	EOF
	IN=in tls 7 -- bash command.bash
	[ "$(sed -n 1p out)" = 'input pong' ]
	[ "$(sed -n 2p out)" = '0 1 2 6 255 ' ]
	quiet
	limited ccf-connect "$ADDR" -- ccf-tlsterm --client --ca "$PKI/ca.pem" --servername good.example -- bash command.bash
	ends 7
	saw '^2 got 4 .* close_notify gave 4'
}

@test "COMMAND's environment says whom it talks to, and holds nothing that the caller planted" {
	local name

	serve good all,bye all
	export SSL_CLIENT_VERIFY=SUCCESS SSL_SERVER_VERIFY=planted SSL_PLANTED=planted CCF_PLANTED=planted \
	    TCPREMOTEHOST=good.example TCPREMOTEIP=192.0.2.1 CCF_ALPN=planted SSL_CLIENT_S_DN=planted OTHER=kept
	tls 0 -- env
	for name in SSL_PROTOCOL=TLSv1.3 SSL_CIPHER=TLS_AES_256_GCM_SHA384 SSL_SERVER_VERIFY=SUCCESS SSL_SESSION_RESUMED=Initial \
	    'SSL_SERVER_S_DN=CN=good' 'SSL_SERVER_I_DN=CN=ca-inter' SSL_PEER_CERT_CN=good SSL_TLS_SNI_SERVERNAME=good.example \
	    'CCF_SERVER_SANS=DNS:good.example, DNS:localhost' PROTO=TCP TCPREMOTEIP=127.0.0.1 "TCPREMOTEPORT=${ADDR##*:}" \
	    TCPREMOTEHOST=127.0.0.1 TCPLOCALIP=127.0.0.1 "CCF_INTERFACE=$ADDR" "CCF_CONN_ID=$ADDR#1" OTHER=kept \
	    "CCF_SERVER_SHA256=$(openssl x509 -in "$PKI/good.pem" -outform DER | sha256sum | cut -d ' ' -f 1)"; do
		grep -qxF "$name" out || {
			echo "missing: $name"
			sort out
			return 1
		}
	done
	run ! grep -q '=planted\|^SSL_CLIENT\|192.0.2.1\|^CCF_ALPN' out
	sed -n '/^SSL_SERVER_CERT=/,/^-----END/p' out | sed 's/^SSL_SERVER_CERT=//' >cert
	diff <(openssl x509 -in cert -outform DER | sha256sum) <(openssl x509 -in "$PKI/good.pem" -outform DER | sha256sum)
	# The name to look for is that of ADDRESS, whatever the caller says.
	bare 60 --ca "$PKI/ca.pem" "$ADDR"
	says 'other names .*, not for 127.0.0.1 '
}

@test "an unverified server is GENEROUS, one that met a pin is not" {
	serve self all,bye all,bye
	bare 0 --no-verify "$ADDR" -- sh -c 'echo "$SSL_SERVER_VERIFY"'
	[ "$(cat out)" = GENEROUS ]
	bare 0 --no-verify --pin "$(pin_of self)" "$ADDR" -- sh -c 'echo "$SSL_SERVER_VERIFY"'
	[ "$(cat out)" = SUCCESS ]
}

@test "COMMAND's status is ours, also when it ends early or is killed, and the server gets a close_notify" {
	serve good all all all,say:unheard,bye
	tls 3 -- sh -c 'exit 3'
	tls 137 -- sh -c 'kill -KILL $$'
	tls 0 -- sh -c 'printf hello >&7'
	saw '^1 got 0 .* close_notify '
	saw '^3 got 5 .* close_notify '
}

@test "a server that is cut takes the COMMAND's carrier: HUP, and 18 though COMMAND ends with 0" {
	cat >command.py <<-'EOF'
		import os, signal
		signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
		os.write(7, b"x")
		signal.sigwait([signal.SIGHUP])
		print("hung up")
	EOF
	serve good read:1,half,fin,gone read:1,reset
	tls 18 -- python3 command.py
	[ "$(cat out)" = 'hung up' ]
	grep -q 'closed: reset, by peer, .*status 18: cut in the middle of a record$' err
	tls 18 -- python3 command.py
	[ "$(cat out)" = 'hung up' ]
}

@test "a bare FIN is an end to the COMMAND, and 18 in the end; --require-close-notify makes it a cut" {
	serve good say:hello,fin,all say:hello,fin,gone
	tls 18 -- sh -c 'cat <&6'
	[ "$(cat out)" = hello ]
	grep -q 'closed: no-close-notify, by peer, 5 bytes in, 0 out, .*status 18' err
	tls 18 --require-close-notify -- sh -c 'cat <&6'
}

@test "a COMMAND that is not there is 127, one that cannot be run 126, and nobody is connected to" {
	echo true >file
	scripted close
	tls 127 -- nosuchcommand
	says 'cannot run nosuchcommand: No such file'
	tls 126 -- ./file
	says 'cannot run ./file: Permission denied'
	run ! grep -q accepted server.out
	limited ccf-connect "$ADDR" -- ccf-tlsterm --client --servername x -- nosuchcommand
	ends 127
	says 'cannot run nosuchcommand'
}

@test "--tls without ccf-tlsterm is 127, and finds it beside itself" {
	mkdir bin
	cp "$BUILD/ccf-connect" bin
	limited env PATH=/usr/bin:/bin bin/ccf-connect --tls 127.0.0.1:1
	ends 127
	says 'cannot run ccf-tlsterm'
	serve good all,bye
	limited env PATH=/usr/bin:/bin "$BUILD/ccf-connect" --tls "$ADDR" --ca "$PKI/ca.pem" --servername good.example
	ends 0
}

# --- the command line ---

# misused TOOL PATTERN ARG...: 2, and one line.
misused() {
	limited "$1" "${@:3}"
	ends 2
	says "$2"
}

@test "usage errors of the client's options are 2, and one sentence" {
	local c=(--servername x --no-verify) t='ccf-tlsterm --client' option

	for option in alpn ca cert ciphers ciphersuites groups handshake-timeout key max-version min-version passphrase pin servername; do
		misused ccf-connect "--$option goes with --tls" "--$option" x 127.0.0.1:1
	done
	misused ccf-connect '--no-verify goes with --tls' --no-verify 127.0.0.1:1
	misused ccf-connect '--require-close-notify goes with --tls' --require-close-notify 127.0.0.1:1
	misused ccf-connect 'an ADDRESS is missing' --tls
	misused ccf-connect 'write example.org:443' --tls example.org 443
	misused ccf-connect 'is a URL: write HOST:PORT' --tls https://example.org/
	for option in '--from link' '--to link' -z --reconnect; do
		# shellcheck disable=SC2086	# two words
		misused ccf-connect '--tls is for standard input and output, or a COMMAND' --tls $option 127.0.0.1:1
	done
	misused ccf-tlsterm 'descriptor 6 is no connection: write .ccf-connect HOST:PORT -- ccf-tlsterm --client' --client
	misused ccf-tlsterm '--ca, --servername, --no-verify and --pin are for --client' --cert x --app echo --ca x

	# shellcheck disable=SC2046	# many words
	serve good $(yes all | head -n 30)
	bad() {
		limited ccf-connect --tls "$ADDR" "${@:2}"
		ends 2
		says "$1"
	}
	bad '--ca verifies what --no-verify does not' --no-verify --ca "$PKI/ca.pem"
	bad '--key goes with a --cert' "${c[@]}" --key "$PKI/me.key"
	bad '--pin sha256:00: write sha256: and 64 hex digits' "${c[@]}" --pin sha256:00
	bad '--pin 0+: write sha256:' "${c[@]}" --pin 0000000000000000000000000000000000000000000000000000000000000000
	bad '--min-version 1.1: say 1.2 or 1.3' "${c[@]}" --min-version 1.1
	bad '--max-version TLSv1.3: say 1.2 or 1.3' "${c[@]}" --max-version TLSv1.3
	bad '--min-version 1.3 is above --max-version 1.2' "${c[@]}" --min-version 1.3 --max-version 1.2
	bad '--ciphers.*NOSUCH' "${c[@]}" --ciphers NOSUCH
	bad '--ciphersuites.*NOSUCH' "${c[@]}" --ciphersuites NOSUCH
	bad '--groups: OpenSSL knows no group "X25518"' "${c[@]}" --groups X25518
	bad '--alpn' "${c[@]}" --alpn ''
	bad '--handshake-timeout 5: say 5s' "${c[@]}" --handshake-timeout 5
	bad '--servername : write a host name' --servername '' --no-verify
	bad '--servername good.example:443: write a host name or an address, without a port' --servername good.example:443
	bad '--servername https://x: write a host name' --servername https://x
	client() {
		limited ccf-connect "$ADDR" -- ccf-tlsterm --client "${@:2}"
		ends 2
		says "$1"
	}
	client 'descriptors 6 and 7: it takes no --from' --from link
	client 'for the server.s side' --tickets 1m
	client 'for the server.s side' --plaintext
	client 'for the server.s side' --client-ca "$PKI/ca.pem"
	client 'for the server.s side' --verify require
	client '-j: there is one connection' "${c[@]}" -j 2
	client 'takes no operands; a COMMAND stands after --' "${c[@]}" cat
	client 'exclude each other' "${c[@]}" --app echo -- cat
}

@test "-v, -q and --log go on to ccf-tlsterm" {
	serve good all,bye all,bye all,bye all
	tls 0 -v
	grep -q '^ccf-tlsterm: info: .*: open, TLSv1.3 TLS_AES_256_GCM_SHA384$' err
	grep -q '^ccf-tlsterm: info: .*: closed: done, by peer, 0 bytes in, 0 out' err
	tls 0 -q
	quiet
	tls 0 --log json -v
	jq -s -e 'map(select(.tool == "ccf-tlsterm") | .event) == ["open", "close"]' err
	tls 60 -q --servername else.example
	says 'other names'
}
