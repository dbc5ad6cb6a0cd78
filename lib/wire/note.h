/* wire/note - a link's message as bytes: NUL-terminated strings, the first the verb, the rest
 * NAME=VALUE; lower-case fields first, then the environment.  ccf-handoff(7) is the contract. Pure:
 * no descriptor here. */
#ifndef WIRE_NOTE_H
#define WIRE_NOTE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct env;

enum note_verb {
	NOTE_UNKNOWN,
	NOTE_HELLO,
	NOTE_READY,
	NOTE_CONN,
	NOTE_ADOPT,
	NOTE_EOF,
	NOTE_CLOSED,
	NOTE_DRAIN
};
enum { NOTE_TAKE = 1, NOTE_GIVE = 2 };	       /* modes= */
enum { NOTE_PRODUCER = 1, NOTE_CONSUMER = 2 }; /* role= */

#define NOTE_VERSION	1
#define NOTE_MAX	65536
#define NOTE_REASON_MAX 64
#define NOTE_STRINGS_MAX 512 /* after the verb: each is compared with each */

struct note {
	enum note_verb verb;
	uint64_t id;			      /* conn, adopt, eof, closed */
	uint32_t n;			      /* ready: n; adopt, closed: ready= (0: absent) */
	uint32_t version, role, modes, links; /* hello; modes absent: take; links 0: absent */
	char tool[32], token[33];	      /* hello */
	char reason[NOTE_REASON_MAX];	      /* closed: one word, [a-z0-9-] */
	int32_t status;			      /* closed: exit status, -1: absent */
	uint64_t in, out;		      /* closed: plaintext bytes from and to the peer */
	const char *env;		      /* conn: the environment, borrowed from the packet */
	size_t env_len;
};

int note_parse(struct note *, const char *bytes, size_t len);
/* 0.  -EBADMSG: malformed: not ended by a NUL, an empty string, a field without '=', a field after
 * the environment began, a number that is none, a wanted field missing, a field twice.  Unknown
 * verbs are NOTE_UNKNOWN and 0; unknown lower-case fields and environment names that may not travel
 * are ignored (note_env leaves those out). */

const char *note_fault(void); /* what the last -EBADMSG was about, in words (static) */
ssize_t note_print(const struct note *, const struct env *, char *out, size_t cap);
/* The bytes of a packet; env only for conn, may be NULL.  -EMSGSIZE if it does not fit; -EINVAL if
 * the other side would refuse it (no reason, no tool, no role ...). */

int note_env(const struct note *, struct env *to); /* copies what may stand there (env_set); 0 or -errno */
const char *note_verb_name(enum note_verb);

/* The ticket: one line on a shell pipe, "ccf-handoff 1 TOKEN PATH\n". */

struct ticket {
	char token[33];
	char path[108];
};

#define TICKET_MAX 192
int ticket_parse(struct ticket *, const char *line, size_t len);
/* len without waiting for more: -EAGAIN: a valid beginning, read on; -EBADMSG: it is something
 * else; -EPROTONOSUPPORT: another version; >0: bytes used, newline included. */

int ticket_print(
    const struct ticket *, char *out, size_t cap); /* bytes, -EMSGSIZE, or -EINVAL (token, path) */

#endif
