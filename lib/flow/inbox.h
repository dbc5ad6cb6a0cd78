/* flow/inbox - frames read from one descriptor: whole messages, one after the other.  A payload up to `most` is delivered from
 * memory, a longer one has been written to a file while it arrived (flow/range), or has passed by unseen.  While the owner is not
 * ready for the next message nothing is read; what has been read waits here (at most INBOX_READ and a message). */
#ifndef FLOW_INBOX_H
#define FLOW_INBOX_H

#include "wire/frame.h"

struct range;

#define INBOX_READ (256 * 1024) /* of one read; a buffer of the process, shared */

struct message { /* borrowed for the call */
	struct frame frame;
	const char *raw;      /* the frame as it came, from frame.at on: whole with its payload where payload is in memory, else
				 its head */
	const char *payload;  /* NULL: not in memory */
	struct range *range;  /* then here, or NULL: nobody wanted it */
};

enum inbox_large { INBOX_PASS, INBOX_SPOOL, INBOX_SAVE }; /* a long payload: unseen, in a nameless file, in dir under a name */

struct inbox;

struct inbox_ops {
	int (*head)(struct inbox *, const struct frame *);
	/* A head is whole: shall the message come?  0; else it is the fault of the stream (any negative number, kept in fault),
	 * and nothing more is read.  Called once a frame, before anything of its payload is kept */
	bool (*ready)(struct inbox *);  /* may the next message be delivered now?  false: inbox_step again when it may */
	void (*message)(struct inbox *, const struct message *);
};

struct inbox {
	const struct inbox_ops *ops; /* set by the caller, as what follows */
	uint32_t max;                /* of N */
	bool addressed;              /* as frame_parse */
	size_t most;                 /* of a payload in memory */
	enum inbox_large large;
	const char *dir;             /* SAVE: where; borrowed */
	const char *name;            /* SAVE: files are called NAME-1, NAME-2 ...; borrowed; %XX where it is an id */
	uint64_t messages, bytes;    /* delivered; bytes read */
	int fault;                   /* below 0: the stream cannot be read any further: a frame_fault or what head() said */
	int file_error;              /* a long payload could not be kept (negative errno): it passes by unseen; the last such
					error */
	bool ended;                  /* the end of stream was read */
	/* private */
	char *rest;                  /* malloc'd: read and not yet delivered */
	size_t rest_at, rest_len, rest_cap;
	struct frame frame;          /* of a long payload under way; points into long_head */
	char *long_head;
	uint64_t left;               /* bytes of it to come */
	struct range *range;
	uint64_t files;
	int error;                   /* of reading, no memory, or -ECANCELED: inbox_free was called; it stays */
	bool judged;                 /* head() was asked about the frame at the front */
	bool held;                   /* the front message is whole and ready() said no */
	bool due;                    /* a long payload is whole and not yet delivered */
};

enum inbox_step { INBOX_MORE, INBOX_WAIT, INBOX_HELD, INBOX_END, INBOX_FAULT, INBOX_ERROR };

enum inbox_step inbox_step(struct inbox *, int fd, int *ret_error);
/* Delivers what lies here, and reads once (without waiting, whatever O_NONBLOCK is) if all that was delivered.  MORE: call again,
 * this turn has had its share.  WAIT: for reading.  HELD: ready() said no.  END: the end of stream, and everything before it was
 * delivered; inbox_partial tells whether it came within a frame.  FAULT: see fault.  ERROR: *ret_error is the negative errno;
 * everything before it was delivered.  END, FAULT and ERROR come again.  fd: a socket.  A callback may not step any inbox (the
 * buffer is one), but may call inbox_free for its own: then nothing more is delivered, and ERROR is -ECANCELED */
bool inbox_partial(const struct inbox *, uint64_t *ret_have, uint64_t *ret_of);
/* It holds the beginning of a frame: so many bytes of so many (0: not known, its prefix is not whole) */
void inbox_fault_text(const struct inbox *, struct text *); /* of a frame_fault at the front, as frame_fault_text */
void inbox_free(struct inbox *); /* legal on a zeroed one, and twice */

#endif
