/* wire/command - the lines that ccf-nodelink obeys:
 *	associate ID ADDRESS
 *	send ID TYPE PAYLOAD
 *	close ID
 *	ping ID
 *	links
 * Words are parted by single spaces.  An ID is written as frame_id_text shows it, a TYPE as frame_type_parse takes it.  A PAYLOAD
 * is the rest of the line as it stands, any bytes, unless it begins with text:, hex:, base64: or file:, then it is one or more of
 * these, parted by single spaces, in which a space is written %20 and the percent sign %25 (text: and file:; any %XX is taken, and
 * other bytes stand for themselves); hex: in either case; base64: of RFC 4648 section 4, with its padding or without;
 * file:PATH[,OFFSET,LENGTH]: the last two commas part the range if digits follow both (%2C is no such comma).  An empty PAYLOAD is
 * legal, with the space before it or without.  CRs at the end of the line are no part of it, but of a PAYLOAD that is plain.
 * Pure: nothing is opened here. */
#ifndef WIRE_COMMAND_H
#define WIRE_COMMAND_H

#include "wire/frame.h"

#define COMMAND_LINE_MAX (1024 * 1024) /* bytes, without the newline */
#define COMMAND_PARTS    16

enum command_verb { COMMAND_ASSOCIATE, COMMAND_SEND, COMMAND_CLOSE, COMMAND_PING, COMMAND_LINKS };

struct command_part {
	const char *bytes; /* into the line; NULL: a file's */
	size_t len;
	const char *path;  /* into the line, NUL-terminated */
	int64_t offset, length; /* of the file; length -1: to its end */
};

struct command {
	enum command_verb verb;
	char id[FRAME_ID_MAX];
	size_t id_len;
	const char *address; /* associate: into the line, NUL-terminated; not judged here */
	uint64_t type;
	unsigned n_parts;
	struct command_part part[COMMAND_PARTS];
};

int command_parse(struct command *, char *line, size_t len, char *msg, size_t cap);
/* line: len bytes without the newline, and one more that may be written; it is decoded in place, and the command points into it.
 * 1: an empty line or one that begins with '#': nothing to do.  0.  -EINVAL: msg says in one sentence what is wrong and shows the
 * right form (bytes of the line in it stand as they are: who shows it escapes them), and the line may have changed.  A NUL is wrong
 * outside of a plain PAYLOAD */
bool command_has_form(const void *payload, size_t len); /* it begins with one of text:, hex:, base64:, file: */

#endif
