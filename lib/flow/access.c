#include "flow/access.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/log.h"
#include "base/text.h"
#include "flow/tell.h"
#include "session/http1.h"

/* Bytes of a line that each part may take, escaped; together less than 8 KiB. */
#define METHOD_ROOM  64
#define TARGET_ROOM  3000
#define REFERER_ROOM 1500
#define AGENT_ROOM   1000
#define WHO_ROOM     300

static struct http1_text
words(const char *s)
{
	return (struct http1_text){ s, strlen(s) };
}

/* Of a request's field; "" where there is none. */
static struct http1_text
field(const struct http1_record *r, const char *name)
{
	const struct http1_text *found = r->head ? http1_find(r->head, name) : NULL;

	return found ? *found : words("");
}

/* One character of the peer's for the text form: a quote must not end its part, nor a byte move a
 * terminal's cursor. */
static size_t
escape(const char *at, char out[9])
{
	unsigned char c = (unsigned char)*at;

	if (c == '"' || c == '\\')
		snprintf(out, 9, "\\%c", c);
	else
		snprintf(out, 9, c < 0x20 || c >= 0x7f ? "\\x%02x" : "%c", c);
	return 1;
}

/* Bytes at s that stand for themselves in either form. */
static size_t
plain(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && s[n] >= 0x20 && s[n] < 0x7f && s[n] != '"' && s[n] != '\\')
		n++;
	return n;
}

static void
put(struct text *line, struct http1_text v, bool json, size_t room)
{
	char unit[9];

	for (size_t i = 0, n, len; i < v.len; i += n, room -= len) {
		const char *at = v.at + i, *out = at;

		n = len = plain(at, v.len - i < room ? v.len - i : room);
		if (n == 0) {
			n = json ? text_escape(at, v.len - i, true, unit) : escape(at, unit);
			len = strlen(unit);
			out = unit;
		}
		if (len > room) {
			text_bytes(line, "...", 3);
			return;
		}
		text_bytes(line, out, len);
	}
}

/* ---- text ---- */

/* What stands between blanks: never empty, and without one of its own. */
static void
put_word(struct text *line, const char *word)
{
	size_t from = line->len;

	put(line, words(*word ? word : "-"), false, WHO_ROOM);
	for (; from < line->len; from++)
		if (line->at[from] == ' ')
			line->at[from] = '_';
}

static void
put_quoted(struct text *line, struct http1_text v, size_t room)
{
	text_add(line, " \"");
	put(line, v.len ? v : words("-"), false, room);
	text_add(line, "\"");
}

static void
put_host(struct text *line, const char *peer)
{
	char host[TELL_PEER_MAX];
	char *end;

	snprintf(host, sizeof(host), "%s", peer + (*peer == '['));
	end = *peer == '[' ? strchr(host, ']') : strrchr(host, ':');
	if (end)
		*end = '\0';
	put_word(line, host);
}

static void
put_date(struct text *line)
{
	time_t now = time(NULL);
	char date[64] = "-";
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(date, sizeof(date), "%d/%b/%Y:%H:%M:%S +0000", &tm);
	text_add(line, " - - [%s]", date);
}

static void
put_request(struct text *line, const struct http1_head *head)
{
	if (!head) {
		text_add(line, " \"-\"");
		return;
	}
	text_add(line, " \"");
	put(line, head->method, false, METHOD_ROOM);
	text_add(line, " ");
	put(line, head->target, false, TARGET_ROOM);
	text_add(line, " HTTP/1.%u\"", head->minor);
}

static void
build_text(struct text *line, const struct tell *t, const struct http1_record *r)
{
	put_host(line, t->peer);
	put_date(line);
	put_request(line, r->head);
	text_add(line, " %03u %" PRIu64, r->status, r->out);
	put_quoted(line, field(r, "Referer"), REFERER_ROOM);
	put_quoted(line, field(r, "User-Agent"), AGENT_ROOM);
	text_add(line, " ");
	put_word(line, t->conn);
	text_add(line, " %" PRId64 ".%06d\n", r->us / 1000000, (int)(r->us % 1000000));
}

/* ---- JSON ---- */

/* Nothing to say: no key. */
static void
put_key(struct text *line, const char *key, struct http1_text v, size_t room)
{
	if (!v.len)
		return;
	text_add(line, "%c\"%s\":\"", line->len ? ',' : '{', key);
	put(line, v, true, room);
	text_add(line, "\"");
}

static void
put_ts(struct text *line)
{
	char date[40] = "", ts[64];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &tm))
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ts, sizeof(ts), "%s.%03ldZ", date, now.tv_nsec / 1000000);
	put_key(line, "ts", words(ts), sizeof(ts));
}

static void
build_json(struct text *line, const struct tell *t, const struct http1_record *r)
{
	char protocol[32] = "";

	if (r->head)
		snprintf(protocol, sizeof(protocol), "HTTP/1.%u", r->head->minor);
	put_ts(line);
	put_key(line, "conn", words(t->conn), WHO_ROOM);
	put_key(line, "iface", words(t->iface), WHO_ROOM);
	put_key(line, "peer", words(t->peer), WHO_ROOM);
	put_key(line, "method", r->head ? r->head->method : words(""), METHOD_ROOM);
	put_key(line, "target", r->head ? r->head->target : words(""), TARGET_ROOM);
	put_key(line, "protocol", words(protocol), sizeof(protocol));
	text_add(line,
	    ",\"status\":%u,\"in\":%" PRIu64 ",\"out\":%" PRIu64 ",\"seconds\":%" PRId64
	    ".%06d,\"cut\":%s",
	    r->status, r->in, r->out, r->us / 1000000, (int)(r->us % 1000000),
	    r->cut ? "true" : "false");
	put_key(line, "referer", field(r, "Referer"), REFERER_ROOM);
	put_key(line, "agent", field(r, "User-Agent"), AGENT_ROOM);
	text_add(line, "}\n");
}

/* ---- writing ---- */

static void
lose(struct access *a, int error)
{
	if (a->lost++ == 0)
		log_event(LOG_L_ERROR, NULL, "access-log-failed", NULL,
		    "--access-log: cannot write: %s; lines are lost until it works again",
		    strerror(error));
}

/* In one write: a line of another process may come before or after it. */
static void
say(struct access *a, const struct text *line)
{
	char end[] = "\n"; /* of the line that is there in part */
	const struct iovec parts[] = { { end, a->torn }, { line->at, line->len } };
	ssize_t n, len = (ssize_t)(line->len + a->torn);

	do
		n = writev(a->fd, parts, 2);
	while (n < 0 && errno == EINTR);
	if (n != len) {
		a->torn |= n > 0;
		lose(a, n < 0 ? errno : ENOSPC);
		return;
	}
	a->torn = false;
	if (a->lost > 0) {
		log_event(LOG_L_WARN, NULL, "access-log", NULL,
		    "--access-log: works again; %" PRIu64 " lines were lost", a->lost);
		a->lost = 0;
	}
}

void
access_line(struct access *a, const struct tell *t, const struct http1_record *r)
{
	static struct text line; /* its memory is kept from one to the next */

	if (a->fd == -1)
		return;
	line.len = 0;
	line.failed = false;
	if (a->json)
		build_json(&line, t, r);
	else
		build_text(&line, t, r);
	if (line.failed)
		lose(a, ENOMEM);
	else
		say(a, &line);
}

int
access_file(const char *path)
{
	/* O_NONBLOCK: a FIFO that nobody reads loses lines and holds up no worker */
	int fd = strcmp(path, "-") == 0
		     ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
		     : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
			   0640);

	return fd < 0 ? -errno : fd;
}

void
access_use(struct access *a, int fd)
{
	fds_close(&a->fd);
	a->fd = fd;
	a->torn = false;
	if (fd != -1)
		signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like others */
}

void
access_close(struct access *a)
{
	access_use(a, -1);
}
