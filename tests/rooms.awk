# rooms - who may see whom.  An include's path tells the room, so this can be checked:
#
#	awk -f tests/rooms.awk lib/*/*.[ch] cmd/*.[ch]
#
# says every line that breaks a rule of the house (README.md, "The rooms") and fails if there is one.
# Comments and string literals do not count.

BEGIN {
	may["base"] = "base"
	may["loop"] = "base loop"
	may["net"] = "base net"
	may["wire"] = "base wire"
	may["session"] = "base wire session"
	may["tls"] = "base tls"
	may["flow"] = "base loop net wire session flow"
	may["cmd"] = "base loop net wire session flow cmd"	# and tls, for ccf-tlsterm's own files
	word = "(^|[^A-Za-z0-9_>.])"			# what may stand before a function's name
	prints = word "(printf|fprintf|vprintf|vfprintf|dprintf|puts|putchar|fputs|perror)[ \t]*\\("
	ends = word "(exit|quick_exit|err|errx|verr|warn|warnx|vwarn)[ \t]*\\("
	logs = word "log_(open|event|say|admit|flush_held|set_level)[ \t]*\\("
}

function broken(rule) {
	print FILENAME ":" FNR ": " rule
	bad = 1
}

# The line without comments and the insides of strings; an include keeps its path.
function bare(s,	out, c, i, quote) {
	if (!remark && s ~ /^[ \t]*#[ \t]*include/) {
		sub(/[ \t]*\/[*\/].*/, "", s)
		return s
	}
	out = ""
	quote = ""
	for (i = 1; i <= length(s); i++) {
		c = substr(s, i, 1)
		if (remark) {
			if (substr(s, i, 2) == "*/") {
				remark = 0
				i++
			}
		} else if (quote != "") {
			if (c == "\\")
				i++
			else if (c == quote) {
				quote = ""
				out = out c
			}
		} else if (substr(s, i, 2) == "/*") {
			remark = 1
			i++
		} else if (substr(s, i, 2) == "//")
			break
		else {
			if (c == "\"" || c == "'")
				quote = c
			out = out c
		}
	}
	return out
}

FNR == 1 {
	n = split(FILENAME, part, "/")
	file = part[n]
	here = part[n - 1]
	remark = 0
	if (here != "cmd" && !(here in may))
		broken("no such room: " here)
}

{ line = bare($0) }

match(line, /^[ \t]*#[ \t]*include[ \t]*"[a-z]+\//) {
	there = substr(line, RSTART, RLENGTH - 1)
	sub(/.*"/, "", there)
	if (there == "tls" && here == "cmd") {
		if (file !~ /^(ccf-)?tlsterm/)
			broken("only ccf-tlsterm may see tls")
	} else if (!index(" " may[here] " ", " " there " "))
		broken(here " may not see " there)
}

line ~ /#[ \t]*include[ \t]*<openssl\// && here != "tls" { broken("only tls/ may include <openssl/>") }
line ~ /#[ \t]*include[ \t]*[<"]llhttp\.h/ && !(here == "wire" && file ~ /^http1\./) { broken("only wire/http1 may include <llhttp.h>") }
line ~ /#[ \t]*include[ \t]*[<"]seccomp\.h/ && !(here == "base" && file ~ /^sandbox\./) { broken("only base/sandbox may include <seccomp.h>") }
line ~ /epoll_(create1?|ctl|p?wait2?)[ \t]*\(/ && !(here == "loop" && file ~ /^reactor\./) { broken("only loop/reactor may call epoll") }
line ~ /(^|[^A-Z_])SCM_RIGHTS/ && !(here == "net" && file ~ /^handoff\./) { broken("only net/handoff may touch SCM_RIGHTS") }

here == "cmd" { next }
line ~ ends { broken("the library does not end the program") }
# (net/endpoint has the last words before it aborts on an illegal move)
line ~ prints && !(here == "base" && file ~ /^(opts|log)\./) && file != "endpoint.c" { broken("the library does not print") }
here != "flow" && !(here == "base" && file ~ /^log\./) && (line ~ logs || line ~ /#[ \t]*include[ \t]*"base\/log\.h"/) {
	broken("rooms below flow/ do not log")
}

END { exit bad }
