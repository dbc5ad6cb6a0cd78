# web - a listener and an HTTP terminator in front of each kind of sink, with TLS and without: `load web` after helpers.
# shellcheck shell=bash disable=SC2034,SC2154	# they come from there, and tests use them

declare -gA WEB=() URL=() CA=()
LISTEN=()					# more options for the listener

# web NAME tls|plain SINK [OPTION...]: a listener (lst_NAME) and a terminator (term_NAME) with --app http1, these options,
# and behind it
#	pages	what is built in
#	guard	ccf-connect (con_NAME) to $BACKEND
#	*	these words of a shell as a COMMAND
# WEB[NAME] is its HOST:PORT, URL[NAME] what curl wants ("${URL[x]}/echo"), CA[NAME] what peers want (--tls FILE, or nothing).
# The control sockets are lst_NAME.ctl and term_NAME.ctl, the access log is NAME.access.
web() {
	local name=$1 how=$2 sink=$3 with=(--plaintext) rest=() scheme=http

	shift 3
	CA[$name]=
	if [ "$how" = tls ]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		CA[$name]="--tls $CERTS/ca.pem"
		scheme=https
	fi
	with+=(--app http1 --control "term_$name.ctl" --access-log "$name.access" --log json "$@")
	case $sink in
	pages) rest=() ;;
	guard) rest=(--to - '|' con_"$name" ccf-connect --from - "$BACKEND") ;;
	*) rest=(-- sh -c "$sink") ;;
	esac
	pipeline lst_"$name" ccf-listen --to - "${LISTEN[@]}" --control "lst_$name.ctl" --ready-fd 9 --ready-when listening \
	    --address-file "$name.json" rpc=127.0.0.1:0 '|' term_"$name" ccf-tlsterm "${with[@]}" "${rest[@]}"
	WEB[$name]=$(address "$name.json" rpc)
	URL[$name]=$scheme://${WEB[$name]}
}

# web_backend: BACKEND is peer/http_backend.py, which answers 200 and keeps what it has seen.
web_backend() {
	SPAWN_OUT=backend.address spawn backend python3 "$HERE/peer/http_backend.py"
	await_line backend.address :
	BACKEND=$(cat backend.address)
}

# fetch CURL-ARGUMENT...: curl, whose one trouble is said, and which trusts our certificates.
fetch() {
	curl -sS --max-time "$LIMIT" --noproxy '*' --cacert "${CERTS:-/dev/null}/ca.pem" "$@"
}

# peer NAME PROGRAM ARGUMENT...: tests/peer/PROGRAM against NAME; its status must be 0, and what it says is $output.
peer() {
	local name=$1 program=$2

	shift 2
	# shellcheck disable=SC2086	# two words or none
	expect_status 0 python3 "$HERE/peer/$program" "${WEB[$name]}" ${CA[$name]} "$@"
}
