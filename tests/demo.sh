#!/bin/bash
# demo - brings the pipeline up on free ports with a certificate made on the spot, fetches a page through it,
# says what ran and what came back, and leaves nothing behind.  Fails if anything is not as it should be.
set -eu -o pipefail -m	# -m: the pipeline is a job, whose first process is ccf-listen

here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-build}
case $build in /*) ;; *) build=${here%/*}/$build ;; esac
PATH=$build:$PATH
dir=$(mktemp -d "${TMPDIR:-/tmp}/ccf-demo.XXXXXX")
backend='' listen=''

finish() {
	local status=$?

	trap - EXIT
	for pid in $listen $backend; do
		kill "$pid" 2>/dev/null || :
	done
	wait || :
	if [ "$status" != 0 ]; then
		for log in "$dir"/*.log; do
			[ ! -s "$log" ] || sed "s|^|${log##*/}: |" "$log" >&2
		done
		echo "The demo failed." >&2
	fi
	rm -rf "$dir"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# within SECONDS CMD...: until CMD succeeds, a few times a second.
within() {
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -le "$end" ] || return 1
		read -r -t 0.05 <>"$dir/never" || :
	done
}

cd "$dir"
mkfifo never ready
mkdir www tmp
export TMPDIR=$dir/tmp
unset XDG_RUNTIME_DIR
bash "$here/certs.sh" "$dir/certs" >certs.log 2>&1
date +'A page of plain HTTP, written at %T.' >www/index.html

python3 "$here/peer/http_store.py" www >backend.address 2>backend.log &
backend=$!
within 10 test -s backend.address
address=$(cat backend.address)
echo "A web server that has never heard of TLS answers on $address."

ccf-listen --to - --address-file a.json --ready-when listening --ready-fd 9 rpc=127.0.0.1:0 9>ready 2>listen.log |
    ccf-tlsterm --cert certs/chain.pem --key certs/key.pem --to - 2>tlsterm.log |
    ccf-connect --from - "$address" 2>connect.log &
listen=$(jobs -p %%)
read -r -t 20 _ <ready || { echo "The pipeline did not come up." >&2; exit 1; }
port=$(jq -er .rpc a.json)
port=${port##*:}
cat <<EOF

In front of it runs this pipeline; it listens on 127.0.0.1:$port:

    ccf-listen --to - --address-file a.json rpc=127.0.0.1:0 |
      ccf-tlsterm --cert chain.pem --key key.pem --to - |
      ccf-connect --from - $address

A client that trusts the certificate's maker asks for the page:

    curl --cacert ca.pem https://localhost:$port/

EOF
said=$(curl -sS --noproxy '*' --max-time 20 --resolve "localhost:$port:127.0.0.1" --cacert certs/ca.pem \
    -o page -w '%{http_code} over %{scheme}, certificate check %{ssl_verify_result}' "https://localhost:$port/")
[ "$said" = '200 over HTTPS, certificate check 0' ] || { echo "curl says: $said" >&2; exit 1; }
cmp page www/index.html
echo "What came back ($said):"
echo
sed 's/^/    /' page
echo

status=0
curl -s --noproxy '*' --max-time 20 --resolve "localhost:$port:127.0.0.1" -o refused "https://localhost:$port/" || status=$?
[ "$status" = 60 ] || { echo "A client without that trust got status $status, not 60." >&2; exit 1; }
echo "A client that does not trust it was refused by its own check (curl: 60), as it should be."

# One TERM: ccf-listen drains, and its neighbours end when their links do.
kill -TERM "$listen"
status=0
timeout 20 tail -s 0.05 --pid="$listen" -f /dev/null && wait %ccf-listen || status=$?
[ "$status" = 0 ] || { echo "The pipeline ended with status $status." >&2; exit 1; }
listen=
kill "$backend"
wait "$backend" 2>/dev/null || :
backend=
[ -z "$(jobs -r)" ] || { echo "Something still runs:" >&2; jobs -l >&2; exit 1; }
rmdir tmp || { find tmp >&2; exit 1; }
echo "ccf-listen was told to stop; the others ended with it, and nothing is left behind."
