# verdicts - what is a request and what is not: the same wherever it is split, and a backend behind the guard sees no other one.
#
# (who runs this makes no difference; left out of brief runs)

load helpers
load control
load web

# --- one verdict ---

# corpus NAME OPTION...: every request of tests/http1/ gets its verdict, how often is $output.
corpus() {
	peer "$1" http_corpus.py "${@:2}"
	[[ $output =~ ^(whole|bytes|split)\ ([0-9]+)\ times ]] && [ "${BASH_REMATCH[2]}" -ge 170 ]
}

@test "every request of the corpus gets its verdict when it is sent whole" {
	web plain plain pages
	corpus plain whole
	web tls tls pages
	corpus tls whole
}

@test "every request of the corpus gets the same verdict when it is sent byte by byte" {
	web plain plain pages
	corpus plain bytes
	web tls tls pages
	corpus tls bytes
}

@test "every request of the corpus gets the same verdict wherever it is split" {
	web plain plain pages
	corpus plain split
	web tls tls pages
	corpus tls split
}

@test "a refused request is said once in each log, and nothing of it is left" {
	web plain plain pages
	corpus plain whole
	figures lst_plain 'ccfnet_interface_active{interface="rpc"}=0'
	figures term_plain ccfnet_connections_active=0 ccfnet_buffered_bytes=0
	[ "$(total term_plain ccfnet_http_requests_total)" = "$(wc -l <plain.access)" ]
	node lst_plain ".sessions.interfaces.rpc.errors | add == $(total term_plain ccfnet_http_errors_total)"
}

# total NAME FAMILY: the sum of its metrics of that name.
total() {
	answers 200 "$1" GET /metrics
	awk -v name="$2{" 'index($0, name) == 1 { n += $2 } END { print n }' "$1.body"
}

# --- what a backend sees ---

@test "behind the guard a backend sees the bytes of every valid request, and none of another" {
	web_backend
	web guard plain guard
	for how in whole bytes split; do
		corpus guard --backend "$BACKEND" $how
	done
	web tls tls guard
	corpus tls --backend "$BACKEND" bytes
	[[ $output =~ \ ([0-9]+)\ requests$ ]] && [ "${BASH_REMATCH[1]}" -gt 100 ]
	eventually logged tls "${BASH_REMATCH[1]}"
}

# logged NAME N: in its access log so many requests have been passed on and answered.
logged() {
	[ "$(jq -s 'map(select(.method and .status == 200 and (.cut | not))) | length' "$1.access")" = "$2" ]
}

@test "a pair that two servers would read differently is refused, and its second request reaches nobody" {
	web_backend
	for how in plain tls; do
		web $how $how guard
		peer $how http_smuggle.py --backend "$BACKEND"
		[[ $output =~ ^[0-9]{3}\ sent,\ [0-9]{3}\ of\ them\ ambiguous$ ]]
	done
}

# logging_nginx: BACKEND is an nginx that reads a request whole before it answers; seen.log has a line for each.
logging_nginx() {
	local dir=$BATS_TEST_TMPDIR

	requires nginx
	mkdir -p nginx
	cat >nginx/conf <<-EOF
		$([ "$EUID" != 0 ] || echo 'user root root;')
		daemon off; worker_processes 1; pid $dir/nginx/pid; error_log stderr notice;
		events { worker_connections 2048; }
		http {
			client_body_temp_path nginx/body; proxy_temp_path nginx/1; fastcgi_temp_path nginx/2;
			uwsgi_temp_path nginx/3; scgi_temp_path nginx/4; client_max_body_size 0;
			client_header_buffer_size 128k; large_client_header_buffers 4 128k; access_log off;
			log_format seen escape=json '{"connection":\$connection,"n":\$connection_requests,"request":"\$request",'
				'"status":\$status}';
			server {
				listen unix:$dir/nginx/front;
				access_log $dir/seen.log seen;
				location / { proxy_pass http://unix:$dir/nginx/inner; }
			}
			server { listen unix:$dir/nginx/inner; location / { return 200 "ok\n"; } }
		}
	EOF
	spawn nginx nginx -p "$dir" -c nginx/conf -e stderr
	await_line nginx.log 'start worker processes'
	BACKEND=unix:$dir/nginx/front
}

# compared: what both logs say is the same; how much that is is in $output.
compared() {
	run python3 "$HERE/peer/http_logs.py" guard.access seen.log
	[ "$status" = 0 ]
}

# seen_last NAME: what was sent before is in both logs.
seen_last() {
	[ "$(fetch -o answer -w '%{http_code}' "${URL[$1]}/last")" = 200 ]
	await_line seen.log '"GET /last HTTP'
	await_line "$1.access" '"target":"/last"'
}

@test "nginx behind the guard is asked what the guard's access log says, request by request" {
	logging_nginx
	web guard plain guard
	for how in whole bytes; do
		corpus guard --alone $how
	done
	seen_last guard
	eventually compared || {
		echo "$output"
		return 1
	}
	[[ ${lines[-1]} =~ ^([0-9]+)\ requests$ ]] && [ "${BASH_REMATCH[1]}" -gt 200 ]
}

@test "nginx behind the guard never sees a request that hides in another one" {
	logging_nginx
	web guard tls guard
	peer guard http_smuggle.py
	seen_last guard
	run ! grep smuggled seen.log
	run ! grep 'smuggled.*"status":200' guard.access
	[ "$(fetch -o answer -w '%{http_code}' "${URL[guard]}/smuggled")" = 200 ]	# it would be seen
	await_line seen.log smuggled
}
