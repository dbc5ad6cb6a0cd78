/* cmd/nodelink_lines - what ccf-nodelink says on standard output: one line an event, as text or JSON. */
#ifndef CMD_NODELINK_LINES_H
#define CMD_NODELINK_LINES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opts.h"

struct decode_item;
struct message;
struct node_event;
struct node_peer;
struct text;

extern const char *const lines_words[]; /* text, json */
extern int lines_format;                /* index of lines_words: --format */

#define LINES_OPT \
	{ 0, "format", "FORM", OPT_WORD, &lines_format, 0, 0, lines_words, "of the events: text or json (text)" }

void lines_open(void (*drained)(void)); /* on descriptor 1; exits on failure.  drained: lines_full may be false again */
bool lines_full(void);
void lines_finish(void (*empty)(void)); /* nothing more will be said: empty() when all has been written */
void lines_close(void);

void lines_message(const struct message *);
void lines_event(const struct node_event *);
const char *lines_why(const struct node_event *); /* of a DROP, as a sentence or else a word; the event's or static */
void lines_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void lines_pong(const char *id, size_t len, int64_t us);
void lines_no_pong(const char *id, size_t len, const char *why);
void lines_peer(const struct node_peer *);
void lines_links(uint64_t n); /* after the last lines_peer */
void lines_frame(const char *conn, bool from_client, const struct decode_item *); /* one that passes */
void lines_print_frame(struct text *, const struct decode_item *); /* of a capture, with its offset: the line, added there */

#endif
