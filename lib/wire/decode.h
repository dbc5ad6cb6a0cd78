/* wire/decode - a stream of frames made readable: one line a frame, with the fields of consensus and channel headers by name
 * (CCF src/consensus/aft/raft_types.h, src/node/node_types.h; CCF.md section 8.3), the rest as hex.  Pure, bounded, and never at a
 * loss: what cannot be understood is shown as what it is.  Payloads pass by: only their first DECODE_SHOWN bytes are kept. */
#ifndef WIRE_DECODE_H
#define WIRE_DECODE_H

#include "wire/frame.h"

#define DECODE_SHOWN 512 /* bytes of a payload that are looked at */

enum decode_what {
	DECODE_FRAME,    /* a whole frame has passed */
	DECODE_CUT,      /* the stream ended within one */
	DECODE_UNFRAMED, /* from here on the stream has no frames any more: what came with the fault; at the end all the rest */
};

struct decode_item {
	enum decode_what what;
	uint64_t offset;      /* in the stream, of its first byte */
	struct frame frame;   /* FRAME; CUT: as far as known (frame.head 0: not even the head was whole, perhaps its size) */
	const char *bytes;    /* of the payload (FRAME, CUT), or the bytes themselves (UNFRAMED; CUT without a whole head) */
	size_t have;          /* how many of them are kept */
	uint64_t passed;      /* how many there were */
	int fault;            /* UNFRAMED: -enum frame_fault, in the first such item; 0 in the second, the last */
	uint32_t max;         /* the decoder's: what a fault was judged by */
};

struct decode {
	uint32_t max;         /* of N: UINT32_MAX for any.  Set by the caller, the rest is zeroed at first and private */
	void (*item)(void *arg, const struct decode_item *); /* borrowed for the call */
	void *arg;
	uint64_t offset, begun; /* bytes fed; where the frame under way began */
	struct frame frame;
	bool in_payload, lost;
	size_t head_len, shown;
	uint64_t passed;
	char head[FRAME_HEAD_MAX], payload[DECODE_SHOWN];
};

void decode_feed(struct decode *, const void *at, size_t len); /* the next bytes of the stream */
void decode_end(struct decode *);                              /* there are no more: an item for what was cut, if anything was */

void decode_text(struct text *, const struct decode_item *);
/* Adds one line without its newline: "consensus n0 89 append_entries idx=12 prev_idx=11 term=2 ... entries=1 sizes=0 hex:0100..":
 * type, sender, payload bytes, then the message's name and fields as far as they are there, then what the fields do not say in
 * full, as hex, and " +N" for what is not shown.  Fields of ours: short=N, the payload ends N bytes too early for the next one;
 * trailing=N, bytes behind the last entry or buffer that are none; unseen=N, bytes that may hold more and were not kept.  CUT:
 * got=N behind the size, the bytes of the payload that came; without a whole head "got=7 of=85 hex:..".  UNFRAMED: "got=100 hex:..
 * +36: a frame of ...", what is wrong (frame_fault_text) */
void decode_json(struct text *, const struct decode_item *);
/* Adds the same as members of a JSON object, without its braces: "type":"consensus","from":"n0","size":89,"message":
 * "append_entries","fields":{...},"hex":"..","more":N; "type" is always a string, "message" and "fields" are there if the message
 * is known; "got", "of", "why" */

#endif
