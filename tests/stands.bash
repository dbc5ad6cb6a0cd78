# stands - a listener and a terminator in front of each kind of sink, with TLS and without: `load stands` after helpers and clients.
# shellcheck shell=bash disable=SC2034,SC2154	# they come from there, and tests use them

setup() {
	declare -gA TLS=() ADDR=()
	LISTEN=() CREWS=0
	common_setup
}

# stand NAME tls|plain SINK [OPTION...]: a listener (lst_NAME), a terminator (term_NAME) with these options, and behind it
#	echo	the session of that name
#	link	ccf-connect to $BACKEND
#	*	these words of a shell as a COMMAND
# They and `client` are told apart by NAME.
stand() {
	local name=$1 how=$2 sink=$3 with=(--plaintext) rest=()

	shift 3
	if [ "$how" = tls ]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		TLS[$name]="--tls $CERTS/ca.pem"
	else
		TLS[$name]=
	fi
	case $sink in
	echo) rest=(term_"$name" ccf-tlsterm "${with[@]}" "$@" --app echo) ;;
	link) rest=(term_"$name" ccf-tlsterm "${with[@]}" "$@" --to - '|' con_"$name" ccf-connect --from - "$BACKEND") ;;
	*) rest=(term_"$name" ccf-tlsterm "${with[@]}" "$@" -- sh -c "$sink") ;;
	esac
	pipeline lst_"$name" ccf-listen --to - "${LISTEN[@]}" --ready-fd 9 --ready-when listening --address-file "$name.json" \
	    rpc=127.0.0.1:0 '|' "${rest[@]}"
	ADDR[$name]=$(address "$name.json" rpc)
}

# client NAME WHO [--small] STEP...: of cutter.py, when they `begin`; WHO_NAME.out is what it has done.
client() {
	: >"$2_$1.out"
	echo "$2_$1.out connect ${ADDR[$1]} ${TLS[$1]} ${*:3}" >>crew
}

begin() {
	CREWS=$((CREWS + 1))
	mv crew crew$CREWS
	SPAWN_IN=crew$CREWS spawn crew$CREWS python3 "$HERE/peer/cutter.py" each
}

# ended NAME N REASON [STATUS]: so many connections of NAME end like that (REASON goes on with what the line says, up to the
# time), for a deadline unless said otherwise.
ended() {
	local line="rpc#[0-9]+ [0-9.:]+: closed: $3.*, after [0-9.]+ s${4-, status 28}\$"

	if ! await_line "term_$1.log" "$line" || ! eventually times "$2" "term_$1.log" "$line"; then
		grep closed: "term_$1.log"
		return 1
	fi
}

# free NAME...: the listener counts nobody any more, and neither do the others.
free() {
	local name

	for name in "$@"; do
		asked "lst_$name" 'rpc: [a-z, ]*, 0 open, '
		asked "term_$name" 'worker [0-9]+: 0 connections, .* 0 bytes held, '
	done
}

random() {	# random FILE BYTES
	head -c "$2" /dev/urandom >"$1"
}
