# house - the rules that hold for the whole tree: rooms, flags, what is installed, what is documented.
#
# Conventions that the last part of this file relies on:
#
# - An option's row in --help begins with spaces, an optional "-x,", and "--name".  In a man page it is an .It
#   with `Fl x` and `Fl -name`.  completions/TOOL.bash and completions/_TOOL (zsh) write it as --name, and
#   completions/TOOL.fish as `-l name`.  A completion offers nothing else that looks like that.
# - EXIT STATUS in ccf-net(7) has one .It for each line of lib/base/exit.h ("18", "60 , 90", "128+N"); a tool's
#   page may leave statuses out, and has no others.
# - In the EXAMPLES of a man page every literal block (.Bd -literal) with lines that begin with "$ " is run, as
#   one script of bash -e -o pipefail; "> " continues a line; other lines are what it prints, and are not
#   compared.  It runs in an empty directory with the tools in PATH; chain.pem, key.pem, ca.pem, client.pem,
#   client.key and a tree of files, src, lie there; an HTTP server answers on 127.0.0.1:8080 (it stores what is PUT
#   below www).  Port numbers, four or five digits after a colon, are exchanged for free ones.  What a
#   block leaves running is ended afterwards; it must end with 0 within 30 seconds.  A block after a
#   line `.\" not run: REASON` is left out.

load helpers

tools() {
	local src

	for src in "$ROOT"/cmd/ccf-*.c; do
		src=${src##*/}
		echo "${src%.c}"
	done
}

# --- rooms ---

@test "nobody sees a room he may not see" {
	cd "$ROOT"
	shopt -s nullglob
	awk -f tests/rooms.awk lib/*/*.[ch] cmd/*.[ch]
}

# planted ROOM/FILE LINE COMPLAINT: a line that breaks a rule is found; COMPLAINT "" means it breaks none.
planted() {
	mkdir -p "lib/${1%/*}"
	printf '%s\n' "$2" >"lib/$1"
	run awk -f "$ROOT/tests/rooms.awk" "lib/$1"
	rm "lib/$1"
	if [ -z "$3" ]; then
		[ "$status" = 0 ] || { echo "$1: $2: $output"; return 1; }
	else
		[[ $status == 1 && $output == *"$3"* ]] || { echo "not found: $1: $2"; return 1; }
	fi
}

@test "a planted violation of every rule of the rooms is found" {
	planted base/x.c '#include "net/addr.h"' 'base may not see net'
	planted session/x.c '#include "tls/link.h"' 'session may not see tls'
	planted flow/x.c '#include "tls/link.h"' 'flow may not see tls'
	planted tls/x.c '#include "net/addr.h"' 'tls may not see net'
	planted attic/x.c 'int x;' 'no such room'
	planted flow/x.c '# include <openssl/ssl.h>' 'only tls/'
	planted wire/x.c '#include <llhttp.h>' 'only wire/http1'
	planted wire/http1.c '#include <llhttp.h>' ''
	planted flow/x.c '	n = epoll_wait(ep, ev, 1, -1);' 'only loop/reactor'
	planted loop/timers.c '	epoll_ctl (ep, 1, 2, &e);' 'only loop/reactor'
	planted net/stream.c '	c->cmsg_type = SCM_RIGHTS;' 'only net/handoff'
	planted net/x.c '	exit(1);' 'does not end the program'
	planted net/x.c '	if (x) errx(1, "no");' 'does not end the program'
	planted flow/x.c '	printf("hello");' 'does not print'
	planted net/x.c '#include "base/log.h"' 'do not log'
	planted tls/x.c '	log_say(LOG_L_INFO, "x");' 'do not log'
	planted flow/x.c '	log_say(LOG_L_INFO, "exit(1) and printf(x)");' ''
	planted net/x.c '	/* epoll_wait(2), SCM_RIGHTS, exit(3) */ snprintf(b, 1, "x"); // printf("x")' ''
	planted net/x.c $'/* epoll_wait(2)\n * exit(1) printf(x) "\n */ int x;' ''
	planted net/x.c $'/* it ends */ int x = \'"\'; exit(1);' 'does not end the program'
	planted ../cmd/ccf-listen.c '#include "tls/link.h"' 'only ccf-tlsterm may see tls'
	planted ../cmd/via_tls.c '#include "tls/link.h"' 'only ccf-tlsterm may see tls'
	planted ../cmd/ccf-tlsterm.c '#include "tls/link.h"' ''
	planted ../cmd/tlsterm_worker.c '#include "tls/link.h"' ''
}

@test "no object of the library ends the program" {
	requires plain
	run nm -A --undefined-only "$BUILD/libccfnet.a"
	[ "$status" = 0 ]
	run ! grep -E ' U (exit|quick_exit|err|errx|warn|warnx|perror)$' <<<"$output"
}

# --- what is built ---

@test "only ccf-tlsterm links libssl and libseccomp" {
	local tool

	for tool in $(tools); do
		run ldd "$BUILD/$tool"
		[ "$status" = 0 ]
		if [ "$tool" = ccf-tlsterm ]; then
			[[ $output == *libssl* && $output == *libseccomp* ]]
		else
			[[ $output != *libssl* && $output != *libcrypto* && $output != *libseccomp* ]] || { echo "$tool: $output"; false; }
		fi
	done
}

@test "the tools are hardened: PIE, RELRO, bind now, stack protector, FORTIFY, no executable stack" {
	requires plain
	local tool

	for tool in $(tools); do
		echo "$tool"
		readelf -hW "$BUILD/$tool" | grep -q 'Type:.*DYN'
		readelf -dW "$BUILD/$tool" | grep -q 'FLAGS_1.*NOW.*PIE'
		readelf -lW "$BUILD/$tool" | grep -q GNU_RELRO
		run ! grep 'GNU_STACK.*RWE' <(readelf -lW "$BUILD/$tool")
		readelf -sW "$BUILD/$tool" | grep -q __stack_chk_fail
		readelf -sW "$BUILD/$tool" | grep -q '__[a-z]*_chk@'
	done
}

@test "make CFLAGS=-O1 keeps the flags of the house" {
	local flag line

	line=$(cd "$ROOT" && make -nB B=elsewhere CFLAGS=-O1 elsewhere/lib/base/log.o | grep -e ' -c ')
	for flag in -O1 -std=c17 -D_GNU_SOURCE -Ilib -Wall -Wextra -Wshadow -MMD -fPIE -fstack-protector-strong \
	    -D_FORTIFY_SOURCE=2; do
		[[ " $line " == *" $flag "* ]] || { echo "$flag is not in: $line"; false; }
	done
	line=$(cd "$ROOT" && make -nB B=elsewhere CFLAGS=-O1 LDFLAGS=-Lmine elsewhere/ccf-listen | grep -e '-o elsewhere/ccf-listen ')
	for flag in -Lmine -pie -Wl,-z,relro,-z,now; do
		[[ " $line " == *" $flag "* ]] || { echo "$flag is not in: $line"; false; }
	done
}

@test "make deps asks apt for nothing when all is there" {
	mkdir bin
	for cmd in apt-get apt sudo; do
		printf '#!/bin/sh\necho "$0 $*"\nexit 1\n' >"bin/$cmd"
		chmod +x "bin/$cmd"
	done
	PATH=$PWD/bin:$PATH expect_status 0 make -s -C "$ROOT" deps
	[ -z "$output" ]
}

@test "install puts programs, manuals and completions in place, uninstall takes all of it away" {
	requires plain
	local tool

	expect_status 0 make -s -C "$ROOT" B="$BUILD" DESTDIR="$PWD/stage" PREFIX=/usr install
	for tool in $(tools); do
		[ -x "stage/usr/bin/$tool" ]
		[ -s "stage/usr/share/man/man1/$tool.1" ]
		[ -s "stage/usr/share/bash-completion/completions/$tool" ]
		[ -s "stage/usr/share/zsh/site-functions/_$tool" ]
		[ -s "stage/usr/share/fish/vendor_completions.d/$tool.fish" ]
	done
	[ -s stage/usr/share/man/man7/ccf-net.7 ]
	[ -s stage/usr/share/man/man7/ccf-handoff.7 ]
	expect_status 0 make -s -C "$ROOT" B="$BUILD" DESTDIR="$PWD/stage" PREFIX=/usr uninstall
	run find stage ! -type d
	[ -z "$output" ] || { echo "$output"; false; }
}

# --- what is documented ---

help_options() {	# long ones, then short ones, one a line, as --name and -x
	"$1" --help | sed -nE 's/^ +(-(.),)? +--([a-z0-9][a-z0-9-]*).*/\3 \2/p' | while read -r long short; do
		echo "--$long"
		[ -z "$short" ] || printf -- '-%s\n' "$short"
	done | sort -u
}

man_options() {
	grep '^\.It .*Fl' "$ROOT/man/$1.1" | grep -oE 'Fl -?[A-Za-z0-9][A-Za-z0-9-]*' | sed 's/^Fl /-/' | sort -u
}

same() {	# same WHAT A WHAT B: two lists
	diff <(echo "$2") <(echo "$4") >same.diff || {
		echo "only in $1 (<) or only in $3 (>):"
		grep '^[<>]' same.diff
		return 1
	}
}

@test "--help, the man page and the completions name the same options" {
	local tool help long bad=0

	for tool in $(tools); do
		echo "== $tool"
		help=$(help_options "$tool")
		long=$(grep '^--' <<<"$help")
		[ "$(wc -l <<<"$long")" -gt 5 ]
		same --help "$help" "man/$tool.1" "$(man_options "$tool")" || bad=1
		same --help "$long" "completions/$tool.bash" \
		    "$(grep -v '^ *#' "$ROOT/completions/$tool.bash" | grep -oE -e '--[a-z0-9][a-z0-9-]*' | sort -u)" || bad=1
		same --help "$long" "completions/_$tool" \
		    "$(grep -v '^ *#' "$ROOT/completions/_$tool" | grep -oE -e '--[a-z0-9][a-z0-9-]*' | sort -u)" || bad=1
		same --help "$long" "completions/$tool.fish" \
		    "$(grep -oE -e '(-l|--long-option)[ =][a-z0-9][a-z0-9-]*' "$ROOT/completions/$tool.fish" |
			sed -E 's/^(-l|--long-option)[ =]/--/' | sort -u)" || bad=1
	done
	[ "$bad" = 0 ]
}

@test "what ccf-connect hands to ccf-tlsterm --client is an option there, of the same kind" {
	local row rows n=0

	# "  --ca FILE|DIR  (tls) ...": the text may begin on the next line.
	rows=$(ccf-connect --help | awk '
		{ text = $0; sub(/^ +(-., )?--[^ ]+( [A-Z[][^ ]*)?/, "", text) }
		text != $0 { row = substr($0, 1, length($0) - length(text)) }
		text ~ /^ +\(tls\) / && (text != $0 || bare) { sub(/^ +/, "", row); print row }
		{ bare = text == "" }')
	while read -r row; do
		row=${row/#--cert FILE/--cert [NAME:]FILE}
		ccf-tlsterm --help | grep -qE -e "^ +${row//[\[\]|]/.}( {2,}|\$)" || { echo "ccf-tlsterm has no $row"; false; }
		n=$((n + 1))
	done <<<"$rows"
	[ "$n" -gt 10 ]
}

@test "an option that is in one place only is found" {
	run same --help $'--a\n--b' man $'--a\n--c'
	[ "$status" = 1 ]
	[[ $output == *'< --b'* && $output == *'> --c'* ]]
}

@test "--help and --version answer on standard output with status 0, an unknown option with 2 on standard error" {
	local tool

	for tool in $(tools); do
		expect_status 0 "$tool" --version
		[ "$tool" != ccf-tlsterm ] || [[ $output == *", OpenSSL "* ]] || false
		[[ $output == *"$(sed -n 's/^VERSION := //p' "$ROOT/Makefile")"* ]]
		"$tool" --help 2>err >out
		[ -s out ]
		[ ! -s err ]
		awk 'length > 80 { print FILENAME ": " $0; bad = 1 } END { exit bad }' out
		run -2 --separate-stderr "$tool" --no-such-option
		[ -z "$output" ]
		[[ $stderr == *no-such-option* ]]
	done
}

page_statuses() {
	awk '/^\.Sh /{ here = /EXIT STATUS/ } here && /^\.It/' "$1" | sed 's/128[ +]*N/128/' | grep -oE '\b[0-9]+\b' | sort -n -u
}

@test "the exit statuses in the man pages are those of lib/base/exit.h" {
	local code tool stray

	code=$(sed -nE 's/^\tCCF_[A-Z_]+ = ([0-9]+).*/\1/p' "$ROOT/lib/base/exit.h" | sort -n -u)
	same lib/base/exit.h "$code" 'ccf-net(7)' "$(page_statuses "$ROOT/man/ccf-net.7")"
	for tool in $(tools); do
		grep -q '^\.Sh EXIT STATUS' "$ROOT/man/$tool.1"
		stray=$(comm -13 <(sort <<<"$code") <(page_statuses "$ROOT/man/$tool.1" | sort))
		[ -z "$stray" ] || { echo "$tool(1) has $stray"; false; }
	done
}

@test "the man pages are free of warnings, and have the sections of the house in their order" {
	local page

	for page in "$ROOT"/man/*.[1-8]; do
		expect_status 0 mandoc -T lint -W warning "$page"
		diff <(grep '^\.Sh ' "$page" | grep -nE '^.Sh (NAME|SYNOPSIS|DESCRIPTION|ENVIRONMENT|FILES|EXIT STATUS|EXAMPLES|SEE ALSO|STANDARDS|CAVEATS)$' | cut -d: -f2) \
		    <(for section in NAME SYNOPSIS DESCRIPTION ENVIRONMENT FILES 'EXIT STATUS' EXAMPLES 'SEE ALSO' STANDARDS CAVEATS; do
			grep "^\.Sh $section\$" "$page" || :
		done)
	done
}

# examples PAGE DIR: writes each block that is to be run into a file of DIR, and says how many there are.
examples() {
	awk -v dir="$2" '
		function plain(s) {
			gsub(/\\\(aq/, "\047", s); gsub(/\\\(dq/, "\"", s); gsub(/\\\(ti/, "~", s); gsub(/\\\(ha/, "^", s)
			gsub(/\\-/, "-", s); gsub(/\\&/, "", s); gsub(/\\e/, "\\", s)
			return s
		}
		function flush() { if (script != "" && !no) printf "%s", script >(dir "/" ++n ".sh"); script = ""; no = 0 }
		/^\.Sh /{ here = /EXAMPLES/ }
		!here { next }
		/^\.\\" not run: /{ no = 1; next }
		/^\.Bd .*-literal/{ block = 1; next }
		/^\.Ed/{ flush(); block = 0; next }
		block && /^\$ /{ script = script plain(substr($0, 3)) "\n"; next }
		block && /^> /{ script = script plain(substr($0, 3)) "\n" }
		END { print n + 0 }
	' "$1"
}

# scene SCRIPT: the directory an example runs in, and the script with its ports exchanged for free ones.
scene() {
	local number port

	cp "$CERTS"/{ca,chain,key,client}.pem "$CERTS/client.key" .
	mkdir -p src/deep && echo one >src/one && echo two >src/deep/two
	ln -s "$BACKEND_DIR" www
	cp "$1" run.sh
	for number in $(grep -oE ':[0-9]{4,5}\b' "$1" | tr -d : | sort -u); do
		port=$(free_port)
		[ "$number" != 8080 ] || port=${BACKEND##*:}
		sed -i -E "s/\b$number\b/$port/g" run.sh
	done
}

@test "the examples of the man pages run, as they stand" {
	local page script n pid

	certs
	http_backend
	echo hello >"$BACKEND_DIR/index.html"
	for page in "$ROOT"/man/*.[1-8]; do
		mkdir "examples.${page##*/}"
		n=$(examples "$page" "examples.${page##*/}")
		case $page in *.1) [ "$n" -gt 0 ] || { echo "$page has no example that runs"; false; } ;; esac
		for script in "$PWD/examples.${page##*/}"/*.sh; do
			[ -e "$script" ] || continue
			mkdir "$script.dir"
			(
				cd "$script.dir"
				scene "$script"
				timeout -k 1 "$((LIMIT * 3))" bash -e -o pipefail run.sh >run.log 2>&1 </dev/null 3>&-
			) || {
				echo "${page##*/}: status $?:"
				sed 's/^/$ /' "$script.dir/run.sh"
				cat "$script.dir/run.log"
				false
			}
			for pid in $(left_over); do
				[ "$pid" = "${PID[http]}" ] || kill "$pid" 2>/dev/null || :
			done
		done
	done
}

@test "every reason that the code closes a connection with is one that is counted" {
	local calls='(term_(fail|cut|over)|accepted_over|joined_(fail|cut)|relay_cut|tell_closed|link_closed|session_(tell|end)|writer_say_why|\w+_cut_all)'

	cat "$ROOT"/lib/flow/*.c "$ROOT"/lib/session/*.c "$ROOT"/cmd/*.c >all
	{
		grep -Pzo "\b$calls\([^;{]*" all
		grep -Pzo '[^_]reason = [^;]*' all
		sed -n '/^reason_of/,/^}/p' "$ROOT/lib/flow/relay.c"
	} | tr '\0' '\n' | grep -oE '"[a-z]+(-[a-z]+)*"' | grep -vxE '"(us|peer|inner)"' | sort -u >said
	[ "$(wc -l <said)" -gt 30 ]
	sed -n '/metric_reasons\[\]/,/};/p' "$ROOT/lib/base/metrics.c" | grep -oE '"[a-z-]+"' | sort -u | comm -23 said - >missing
	diff missing /dev/null
}

@test "ccf-net(7) has every metric there is, and no other" {
	{
		sed -n -e 's/^	X([A-Z_]*, "\(ccfnet_[a-z_]*\)", "[a-z]*", metric_.*/\1_total/p' \
		    -e 's/^	X([A-Z_]*, "\(ccfnet_[a-z_]*\)", "[A-Z0-9].*/\1/p' "$ROOT/lib/base/metrics.h"
		grep -ohE '"(ccfnet|process)_[a-z_]+"' "$ROOT"/lib/*/*.c "$ROOT"/cmd/*.c | tr -d '"'
	} | sort -u >there
	grep -oE '\b(ccfnet|process)_[a-z_]+' "$ROOT/man/ccf-net.7" | sort -u | diff there -
}

@test "every reason that a datagram is dropped for is counted, and documented" {
	sed -n '/metric_drops\[\]/,/};/p' "$ROOT/lib/base/metrics.c" | grep -oE '"[a-z-]+"' | tr -d '"' | sort >counted
	[ "$(wc -l <counted)" -gt 10 ]
	awk '/^\.Ss What is dropped/ { here = 1 } /^\.Sh/ { here = 0 } here && sub(/^\.It Li /, "")' "$ROOT/man/ccf-udpecho.1" |
		sed 's/ , /\n/g' | sort | diff counted -
	awk '/^\.It.*ccfnet_datagrams_dropped_total/ { here = 1; next } /^\.It/ { here = 0 } here && sub(/^\.Li too-large/, "too-large")' \
	    "$ROOT/man/ccf-net.7" | sed 's/ ;$//; s/ , /\n/g' | sort | diff <(grep -vx other counted) -
	{
		cat "$ROOT"/lib/flow/{receiver,rates,peer_session}*.c | grep -oE '\b(receiver_drop|drop|dropped)\([^;]*;' || :
		sed -n '/^refused(/,/^}/p; /^static struct drop/,/^}/p' "$ROOT/lib/flow/receiver.c"
		grep -oE 'return "[a-z-]+"|over = "[a-z-]+"' "$ROOT/lib/flow/rates.c"
	} | grep -oE '"[a-z]+(-[a-z]+)*"' | tr -d '"' | grep -vxE 'no-memory|in|out' | sort -u | comm -23 - counted >missing
	diff missing /dev/null
}
