#!/bin/bash
# run.sh - testssl.sh against ccf-listen | ccf-tlsterm, once with an ECDSA certificate and once with RSA.
#
#	BUILD=build tests/interop/run.sh	(what `make interop` does after building; about two minutes)
#
#	OPTIONS='--ciphers AES128-SHA'	more options for ccf-tlsterm, for example to see it fail
#
# The reports stay in BUILD/interop: KIND.json, KIND.txt, and the logs of the tools.  Fails if a protocol, cipher or
# vulnerability is found wanting, or was not looked at.  Only 127.0.0.1 is talked to.
set -u

# What is found but is no fault of ours.
declare -A EXCUSED=(
	[engine_problem]="about the openssl that testssl.sh runs: it has no GOST"
	[cert_revocation]="the certificates are our own CA's, made for this run: nobody can revoke them"
)
# What has to be in the report, so that none of it was passed over.
LOOKED_AT="SSLv2 SSLv3 TLS1 TLS1_1 TLS1_2 TLS1_3 ALPN cipherlist_NULL cipherlist_aNULL cipherlist_EXPORT cipherlist_LOW
    cipherlist_3DES_IDEA cipherlist_AVERAGE cipherlist_STRONG PFS cipher_order cert_trust cert_chain_of_trust heartbleed CCS
    ticketbleed ROBOT secure_renego secure_client_renego CRIME_TLS BREACH POODLE_SSL fallback_SCSV SWEET32 FREAK DROWN LOGJAM
    BEAST LUCKY13 RC4 scanTime"
LIMIT=400 # seconds for a run

: "${BUILD:=build}" "${OPTIONS:=}"
case $BUILD in /*) ;; *) BUILD=$(cd "$(dirname "$0")/../.." && pwd)/$BUILD ;; esac
OUT=$BUILD/interop
SCAN=$(command -v testssl || command -v testssl.sh) || {
	echo "interop: testssl.sh is not installed (make deps)" >&2
	exit 1
}
PATH=$BUILD:$PATH
DIR=$(mktemp -d "${TMPDIR:-/tmp}/ccf.XXXXXX")

# shellcheck disable=SC2317	# by the trap
finish() {
	local pids

	pids=$(jobs -p)
	# shellcheck disable=SC2086	# several
	[ -z "$pids" ] || kill $pids 2>/dev/null
	wait
	rm -rf "$DIR"
}
trap finish EXIT
trap 'exit 130' INT TERM

# leaf NAME ALGORITHM...: NAME.pem and NAME.key for localhost; longer than testssl.sh finds too short.
leaf() {
	openssl req -new -newkey "${@:2}" -nodes -keyout "$1.key" -subj /CN=localhost -out "$1.csr"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 100 -sha256 \
	    -out "$1.pem" -extfile <(
		echo "basicConstraints = critical, CA:false"
		echo "keyUsage = critical, digitalSignature"
		echo "extendedKeyUsage = serverAuth"
		echo "subjectAltName = DNS:localhost, IP:127.0.0.1"
	)
}

certificates() {
	unset OPENSSL_CONF
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj "/O=ccf-net tests/CN=root" \
	    -days 100 -sha256 -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.pem &&
	    leaf ecdsa ec -pkeyopt ec_paramgen_curve:P-256 && leaf rsa rsa:3072
}

# A request is read, and answered.
cat >"$DIR/answer" <<'END'
while read -r line && [ "${#line}" -gt 1 ]; do :; done
printf 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n'
END

# serve KIND: the pipeline; it ends when ccf-listen is told to.
serve() {
	mkfifo "$1.ready"
	# shellcheck disable=SC2086	# options
	ccf-listen --ready-fd 9 --ready-when listening --address-file "$1.json" --to - "$1=127.0.0.1:0" \
	    9>"$1.ready" 2>"$OUT/$1.listen.log" |
	    ccf-tlsterm --cert "$1.pem" --key "$1.key" $OPTIONS -- bash "$DIR/answer" 2>"$OUT/$1.tlsterm.log" &
	read -r -t 20 <"$1.ready" || {
		echo "interop: $1: not up in time" >&2
		cat "$OUT/$1".*.log >&2
		return 1
	}
}

# scan KIND: becomes testssl.sh.  HTTP headers are left out: they are the application's.
scan() {
	local port

	port=$(jq -r --arg name "$1" '.[$name]' "$1.json")
	exec timeout -k 5 "$LIMIT" "$SCAN" --quiet --color 0 --warnings off --nodns none --ip 127.0.0.1 --add-ca ca.pem --assuming-http \
	    --protocols --std --pfs --server-preference --server-defaults --vulnerable --each-cipher --grease --client-simulation \
	    --jsonfile "$OUT/$1.json" "https://localhost:${port##*:}/" >"$OUT/$1.txt" 2>&1 </dev/null
}

# judge KIND STATUS: what was found, and whether that is well.
judge() {
	local bad=0 report=$OUT/$1.json severity id finding missing

	if [ "$2" -ge 50 ] || ! jq -e type "$report" >/dev/null 2>&1; then
		echo "$1: testssl.sh ended with $2; $OUT/$1.txt says more"
		return 1
	fi
	while IFS=$'\t' read -r severity id finding; do
		if [ -n "${EXCUSED[$id]-}" ]; then
			echo "$1: $id: $finding (no fault: ${EXCUSED[$id]})"
		else
			echo "$1: $severity: $id: $finding"
			bad=1
		fi
	done < <(jq -r '.[] | select(.severity | IN("OK", "INFO") | not) | [.severity, .id, .finding] | @tsv' "$report")
	# A check may add words to its name: fallback_SCSV, cert_trust, cert_trust <cert#1>
	missing=$(jq -r --arg ids "$LOOKED_AT" '[.[].id | split(" ")[0]] as $seen | $ids | [splits("\\s+")] - $seen | .[]' "$report")
	if [ -n "$missing" ]; then
		echo "$1: not looked at: ${missing//$'\n'/ }"
		bad=1
	fi
	[ "$bad" = 1 ] || echo "$1: no protocol, cipher or vulnerability weakness in $(jq length "$report") findings"
	return "$bad"
}

mkdir -p "$OUT" && cd "$DIR" || exit 1
rm -f "$OUT"/{ecdsa,rsa}.*
certificates >certs.log 2>&1 || {
	cat certs.log
	exit 1
}
serve ecdsa && serve rsa || exit 1
failed=0
scan ecdsa &
first=$!
scan rsa &
second=$!
wait "$first"
judge ecdsa $? || failed=1
wait "$second"
judge rsa $? || failed=1
echo "reports: $OUT ($SECONDS s)"
exit "$failed"
