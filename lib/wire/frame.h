/* wire/frame - CCF's node-to-node frame (microsoft/CCF src/host/node_connections.h): u32 N, then N bytes: u64 type, u64 S, S bytes
 * of the sender's id, the payload; all little-endian.  Pure.  A frame is judged as early as it can be: its size by the prefix
 * alone, its sender by the first 20 bytes; a head by its own frame's length, never by what else lies in the buffer.
 * Towards a program (--app) it is the same; from a program each is preceded by u64 D and D bytes, the id of whom it is for, and its
 * sender may be left empty. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct text;

#define FRAME_PREFIX   4
#define FRAME_FIXED    20   /* prefix, type, S: what stands before the sender */
#define FRAME_ID_MAX   1024 /* bytes of an id; in practice 64 hex digits.  Ours: the original has no bound */
#define FRAME_HEAD_MAX (8 + FRAME_ID_MAX + FRAME_FIXED + FRAME_ID_MAX) /* of any head, addressed or not */

enum frame_type { /* others are legal on the wire, and not known to CCF's nodes */
	FRAME_CHANNEL = 0,
	FRAME_CONSENSUS = 1,
	FRAME_FORWARDED = 2,
	FRAME_PING = 0x676e6970, /* ours: a ping command's; an echo sends it back like any other */
};

struct frame { /* a head that is whole; pointers into what was parsed */
	const char *to;   /* whom it is for (addressed frames); NULL */
	size_t to_len;
	size_t at;        /* where the frame itself begins: behind D and the id it is for; 0 */
	uint32_t size;    /* N */
	uint64_t type;
	const char *from; /* the sender */
	size_t from_len;
	size_t head;      /* bytes before the payload, whatever stands before the frame included */
	uint64_t payload; /* its bytes */
};

enum frame_fault {
	FRAME_OK,
	FRAME_TOO_LARGE,     /* N above the limit: said by the prefix */
	FRAME_TOO_SMALL,     /* N below 16 */
	FRAME_ID_OVERRUNS,   /* S above what N leaves for it */
	FRAME_ID_EMPTY,
	FRAME_ID_TOO_LONG,   /* S above FRAME_ID_MAX */
	FRAME_DEST_EMPTY,    /* D is 0 */
	FRAME_DEST_TOO_LONG, /* D above FRAME_ID_MAX */
};

int frame_parse(struct frame *, const void *at, size_t len, uint32_t max, bool addressed);
/* 1: the head is whole (the payload need not be there).  0: more bytes are needed.  Below 0: -enum frame_fault, and the stream
 * cannot be read any further.  max: of N, which may be equal to it.  A prefix is judged as soon as it is there. */
void frame_fault_text(struct text *, int fault, const void *at, size_t len, uint32_t max, bool addressed);
/* Adds what is wrong, in one clause with the figures that were found: "a frame of 70000000 bytes, --max-frame is 67108864".  fault:
 * what frame_parse gave for these bytes */

size_t frame_write_head(char to[FRAME_HEAD_MAX], uint64_t type, const char *from, size_t from_len, uint64_t payload);
/* The bytes of a head (not addressed); the payload follows it.  0: 16 + from_len + payload does not fit into u32, or from_len is
 * 0 or above FRAME_ID_MAX */
size_t frame_write_dest(char to[FRAME_HEAD_MAX], const char *dest, size_t len); /* u64 D and the id: what precedes an addressed
										   one */

const char *frame_type_name(uint64_t type); /* "channel", "consensus", "forwarded", "ping", or NULL */
int frame_type_parse(const char *text, size_t len, uint64_t *ret);
/* One of these names, also CCF's own (channel_msg ...), or a number in decimal or 0x hex.  0 or -EINVAL */

void frame_id_text(struct text *, const char *id, size_t len);
/* Adds an id as everything here shows it and takes it: what is no printable ASCII, the space, '%', '=' and '"' stand as %XX */
ssize_t frame_id_parse(char to[FRAME_ID_MAX], const char *text, size_t len); /* its bytes; -EINVAL: empty, too long, or not
										written so */

#endif
