/* wire/event - one line of what ccf-nodelink tells, as words or as a JSON object (NDJSON).  The same calls make both: values are
 * bare words in the order they are given, facts are KEY=VALUE, a note stands last, after a colon; in JSON each is a member.
 * Pure. */
#ifndef WIRE_EVENT_H
#define WIRE_EVENT_H

#include "wire/frame.h"

#define EVENT_ROOM_MAX(payload) (4 * (payload) + 8 * FRAME_ID_MAX + 512) /* no message's line is longer than that */

struct event {
	struct text *text; /* borrowed */
	bool json;
};

void event_begin(struct event *, struct text *, bool json, const char *name);
/* "dropped", or {"event":"dropped".  A name of two words ("link up") is one value in JSON too */
void event_id(struct event *, const char *key, const char *id, size_t len); /* a value, as frame_id_text */
void event_word(struct event *, const char *key, const char *word);         /* a value; a word of ours, without spaces */
void event_number(struct event *, const char *key, uint64_t);               /* a value */
void event_type(struct event *, uint64_t type);       /* a value, key "type": its name, else the number (a JSON string in either
							 case) */
void event_fact(struct event *, const char *key, const char *text); /* a fact; what is no printable ASCII, and spaces, as %XX (JSON:
								       as text_json) */
void event_count(struct event *, const char *key, uint64_t); /* a fact */
void event_ms(struct event *, const char *key, int64_t us);  /* a fact: milliseconds with three digits: "1.234" (JSON: a number) */
void event_note(struct event *, const char *key, const char *sentence); /* ": sentence", escaped as in the log; last */
void event_payload(struct event *, const void *bytes, size_t len);
/* What a send command would take for the same bytes: as it stands where it is printable ASCII and does not begin like one of the
 * forms, else hex:..; JSON: "text" (valid UTF-8 without control characters) or else "base64" */
void event_file(struct event *, const char *path); /* file:PATH, %XX as in a send command; JSON: "file".  NULL: "-", JSON null */
void event_end(struct event *); /* the closing brace and the newline */

#endif
