# control - the tools' control sockets: `load control` after helpers and clients.  That of NAME is NAME.ctl.
# shellcheck shell=bash disable=SC2034,SC2154	# they come from there, and tests use them

TOOLS='lst term con'
LISTEN=()					# more options for the listener

# ctl NAME METHOD PATH [CURL OPTION...]: asks; the status is in $code and, with head and body, in NAME.head and NAME.body.
ctl() {
	code=$(curl -sS --max-time "$LIMIT" --unix-socket "$1.ctl" -o "$1.body" -D "$1.head" -w '%{http_code}' \
	    -X "$2" "${@:4}" "http://localhost$3")
}

# up NAME...: they answer.
up() {
	local name

	for name; do eventually answers 200 "$name" GET /; done
}

# answers STATUS NAME METHOD PATH [CURL OPTION...]
answers() {
	ctl "${@:2}" || return
	[ "$code" = "$1" ] || {
		echo "$2 answers $code, not $1: ${*:3}"
		cat "$2.body"
		return 1
	}
}

# refuses STATUS NAME METHOD PATH PATTERN [CURL OPTION...]: with CCF's JSON, whose message matches.
refuses() {
	answers "$1" "$2" "$3" "$4" "${@:6}" || return
	jq -e --arg pattern "$5" '(.error.code | type == "string") and (.error.message | test($pattern))' "$2.body" >/dev/null || {
		echo "$2 says of $3 $4, and not $5:"
		cat "$2.body"
		return 1
	}
}

# figure NAME SERIES: its value in GET /metrics.
figure() {
	answers 200 "$1" GET /metrics && figure_of "$1.body" "$2"
}

figure_of() {
	SERIES=$2 awk '$1 == ENVIRON["SERIES"] { print $2; found = 1 } END { exit !found }' "$1"
}

# figures NAME SERIES=VALUE...: sooner or later GET /metrics says all that.
figures() {
	eventually -t $((LIMIT * 2)) all_figures "$@" >"$1.figures" || {
		cat "$1.figures"
		for pair in "${@:2}"; do
			echo "${pair%=*} $(figure_of "$1.body" "${pair%=*}" || echo 'is not there') (${pair##*=})"
		done
		return 1
	}
}

all_figures() {
	local pair

	answers 200 "$1" GET /metrics || return
	for pair in "${@:2}"; do
		[ "$(figure_of "$1.body" "${pair%=*}")" = "${pair##*=}" ] || return
	done
}

# node NAME FILTER: sooner or later GET /node/metrics is like that (jq).
node() {
	eventually said_by "$1" /node/metrics "$2" || {
		jq . "$1.body"
		return 1
	}
}

# rows NAME FILTER: the same of GET /connections.
rows() {
	eventually said_by "$1" /connections "$2" || {
		jq . "$1.body"
		return 1
	}
}

said_by() {
	answers 200 "$1" GET "$2" && jq -e "$3" "$1.body" >/dev/null
}

# correct NAME: what it says at /metrics is in Prometheus' format.
correct() {
	answers 200 "$1" GET /metrics
	grep -qi '^Content-Type: text/plain; version=0.0.4' "$1.head"
	python3 "$HERE/peer/promcheck.py" "$1.body"
}

# stack tls|plain [OPTION...]: lst, term (with these options), con, each with its control socket, before something that says
# back what it hears.
stack() {
	local with=(--plaintext)

	TLS=()
	if [ "$1" = tls ]; then
		certs
		with=(--cert "$CERTS/chain.pem" --key "$CERTS/key.pem")
		TLS=(--tls "$CERTS/ca.pem")
	fi
	spawn back ccf-listen --ready-fd 9 --address-file b.json rpc=127.0.0.1:0 -- cat
	pipeline lst ccf-listen --to - --control lst.ctl --ready-fd 9 --ready-when listening --address-file a.json \
	    "${LISTEN[@]}" rpc=127.0.0.1:0 '|' \
	    term ccf-tlsterm "${with[@]}" --control term.ctl "${@:2}" --to - '|' \
	    con ccf-connect --control con.ctl --from - "$(address b.json rpc)"
	ADDR=$(address a.json rpc)
}

# talk N: N clients (cl) connect, say something, and hear it.
talk() {
	clients cl "$ADDR" "${TLS[@]}"
	tell cl open "$1"
	tell cl send 1 "$1" hello
	eventually times "$1" cl.out ' data hello$'
}

# askers NAME ADDRESS [OPTION...]: tests/peer/asker.py; it obeys `tell NAME COMMAND...` (clients.bash), what happens is in NAME.out.
askers() {
	local fd

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	TELL[$1]=$fd
	SPAWN_IN=$1.in spawn "$1" python3 "$HERE/peer/asker.py" "${@:2}"
}
