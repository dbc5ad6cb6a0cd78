#!/bin/sh
# usage: certs.sh DIR
# Makes, in DIR: ca.pem (the root), chain.pem (leaf and intermediate) and key.pem for localhost,
# client.pem and client.key for a client, EC P-256; rsa.pem and rsa.key, the leaf once more, RSA.
# Only the openssl command is needed.
# Nothing with a date in it is checked in: tests make theirs on the spot.
set -eu

[ $# -eq 1 ] || { echo "usage: certs.sh DIR" >&2; exit 2; }
mkdir -p "$1"
cd "$1"

unset OPENSSL_CONF
log=certs.log
umask 077

request() {	# request NAME SUBJECT [ALGORITHM OPTION]
	openssl req -new -newkey "${3:-ec}" -pkeyopt "${4:-ec_paramgen_curve:P-256}" -nodes -utf8 \
	    -keyout "$1.key" -subj "$2" -out "$1.csr" 2>>"$log"
}

sign() {	# sign NAME ISSUER; the extensions come from standard input
	cat >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -set_serial "0x$(openssl rand -hex 8)" \
	    -days 7 -sha256 -extfile "$1.ext" -out "$1.crt" 2>>"$log"
}

failed() {
	status=$?
	[ $status -eq 0 ] || cat "$log" >&2
	rm -f ./*.csr ./*.ext
}

: >"$log"
trap failed EXIT

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key \
    -subj "/O=ccf-net tests/CN=root" -days 7 -sha256 \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out root.crt 2>>"$log"

request inter "/O=ccf-net tests/CN=intermediate"
sign inter root <<END
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

request leaf "/CN=localhost"
request rsa "/O=ccf-net tests/CN=localhost with RSA" rsa rsa_keygen_bits:2048
for leaf in leaf rsa; do
	sign $leaf inter <<END
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
done

request client "/O=ccf-net tests/CN=client one"
sign client inter <<END
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

mv root.crt ca.pem
cat leaf.crt inter.crt >chain.pem
mv leaf.key key.pem
cat rsa.crt inter.crt >rsa.pem
cat client.crt inter.crt >client.pem
rm -f leaf.crt rsa.crt client.crt inter.crt inter.key root.key
