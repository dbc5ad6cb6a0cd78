# pipeline - the main job: HTTPS from real clients through ccf-listen | ccf-tlsterm | ccf-connect to a real server,
# what TLS says on the way, how the whole ends, and that nothing spins while nothing happens.

load helpers

# --- what the tests share ---

# three [OPTION...]: the pipeline of the issue in front of BACKEND, with more options for ccf-tlsterm.
three() {
	certs
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" --to - "$@" '|' \
	    con ccf-connect --from - "$BACKEND"
	located
}

# terminated [OPTION...] SINK...: a listener and a terminator, which is the end of the line: --app NAME, or -- COMMAND.
terminated() {
	certs
	pipeline lst ccf-listen --ready-fd 9 --ready-when listening --address-file a.json --to - rpc=127.0.0.1:0 '|' \
	    tls ccf-tlsterm --cert "$CERTS/chain.pem" --key "$CERTS/key.pem" "$@"
	located
}

located() {
	ADDR=$(address a.json rpc)
	PORT=${ADDR##*:}
	URL=https://localhost:$PORT
}

# fetch CURL-OPTION... URL
fetch() {
	curl -sS --noproxy '*' --max-time $((LIMIT * 2)) --resolve "localhost:$PORT:127.0.0.1" --cacert "$CERTS/ca.pem" "$@"
}

# random FILE BYTES
random() {
	head -c "$2" /dev/urandom >"$1"
}

# talk NAME CMD...: an interactive client: `type_in NAME TEXT` is its input until `hang_up NAME`; NAME.out what it prints.
talk() {
	local fd

	mkfifo "$1.in"
	exec {fd}<>"$1.in"
	SPAWN_IN=$1.in spawn "$@"
	exec {fd}>"$1.in"	# the only writer now
	TALK[$1]=$fd
}

type_in() {
	echo "${@:2}" >&"${TALK[$1]}"
}

hang_up() {
	local fd=${TALK[$1]}

	exec {fd}>&-
}

# echoes NAME CMD...: this client hears what it says, and its end of input ends it well.
echoes() {
	talk "$@"
	type_in "$1" "said by $1"
	await_line "$1.out" "^said by $1\$"
	type_in "$1" "and once more"
	await_line "$1.out" "^and once more\$"
	hang_up "$1"
	ends_with 0 "$1"
}

# tcp_held PID-NAME [STATE]: how many TCP sockets it holds (01: connections, 0A: listening).
tcp_held() {
	local inodes

	inodes=$(readlink "/proc/${PID[$1]}"/fd/* | sed -n 's/^socket:\[\(.*\)\]$/\1/p')
	awk -v state="${2-}" -v inodes="$inodes" '
		BEGIN { n = split(inodes, list, "\n"); for (i = 1; i <= n; i++) mine[list[i]] = 1 }
		$10 in mine && (state == "" || $4 == state) { held++ }
		END { print held + 0 }' /proc/net/tcp /proc/net/tcp6
}

holds() {
	[ "$(tcp_held "$1" "${3-}")" = "$2" ] || {
		echo "$1 holds $(tcp_held "$1" "${3-}") TCP sockets, not $2"
		return 1
	}
}

# --- bytes ---

@test "100 MiB of random bytes are put through the pipeline and come back intact" {
	requires nginx
	nginx_backend
	three
	random sent 104857600
	fetch -T sent "$URL/stored"
	cmp sent "$BACKEND_DIR/stored"
	fetch -o back "$URL/stored"
	cmp sent back
	rm sent back "$BACKEND_DIR/stored"
	stop lst
	[ "$ended" = 0 ]
	grep -E 'closed: done, by [a-z]+, 1048[0-9]{5} bytes in' tls.log
}

@test "200 curls at once all get their page" {
	http_backend
	random "$BACKEND_DIR/page" 20000
	three
	page() {
		fetch -o "page.$1" -w '%{http_code}' "$URL/page" >"code.$1" && [ "$(cat "code.$1")" = 200 ] &&
		    cmp "page.$1" "$BACKEND_DIR/page" && echo whole >&7
	}
	: >whole
	for i in $(seq 200); do page "$i" 7>>whole & done
	for job in $(jobs -p); do
		case " ${SPAWNED[*]} " in *" $job "*) ;; *) wait "$job" ;; esac
	done
	[ "$(wc -l <whole)" = 200 ]
	stop lst
	[ "$ended" = 0 ]
	[ "$(grep -c 'closed: done' lst.log)" = 200 ]
}
