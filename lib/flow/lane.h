/* flow/lane - one direction of a relay; private to flow/relay and flow/lane.  A lane pulls from its source only when it
 * holds nothing; what its destination does not take at once is kept. */
#ifndef FLOW_LANE_H
#define FLOW_LANE_H

#include <sys/types.h>

#include "flow/relay.h"
#include "loop/reactor.h"

struct pipes;

enum way { WAY_DIRECT, WAY_COPY, WAY_SPLICE };
enum lane_state { LANE_OPEN, LANE_ENDING, LANE_DONE };

struct side {
	int64_t unsent; /* when we last looked */
	struct relay *relay;
	struct transport *tp;
	struct relay_hooks hooks;
	struct watch r, w; /* w is used only where wfd is another descriptor */
	bool split;
	bool hung; /* the kernel reported a hang-up that nothing waits for: stay out of the set */
	bool settled; /* its end was seen and all we wrote was acknowledged: what fails later cuts
			 nothing */
};

struct lane {
	struct side *from, *to;
	enum lane_state state;
	enum way way;
	bool copy_only; /* splice was refused for one of the two */
	bool unflushed; /* the destination holds gathered bytes */
	bool discard;	/* nobody listens any more: read and drop */
	bool waiting;	/* a hook said not yet */
	bool stopped;	/* the connection holds its share: not read until some of that is taken */
	char *kept;
	size_t at, len;
	struct pipes *pipe;
	size_t piped;
	uint64_t dropped;
	int64_t dropped_at;
	int64_t moved_at;
};

enum relay_state { RELAY_MOVING, RELAY_FLUSHING, RELAY_OVER };

struct relay {
	struct reactor *reactor;
	struct relay_config cfg;
	struct side a, b;
	struct lane in, out; /* from the peer, to the peer */
	enum relay_state state;
	struct side *failed;
	bool refused; /* it failed to take what it was given */
	int error;
	int unheard; /* b had said all it had, and did not listen to the end: the errno of that */
	struct timer timer;
	struct task task;
	struct grave grave;
	uint64_t took[2]; /* what the kernel had of a's and b's bytes when we last looked */
	int64_t moved_at, looked_at, flush_by;
	int64_t linger_from; /* 0: it does not yet */
	unsigned probe;
};

void relay_fail(struct relay *, struct side *, int error); /* the first one counts; error may be negative */
bool relay_unheard(struct relay *, int error); /* b does not listen any more.  False: that is a failure */

void lane_open(struct lane *, struct side *from, struct side *to);
size_t side_held(const struct side *, unsigned op);
size_t relay_held(const struct relay *); /* bytes of memory, in both directions */
void relay_moved(struct relay *, struct lane *);
bool lane_holds(const struct lane *);
int lane_keep(struct lane *, const char *bytes, size_t len); /* copies; 0 or -ENOMEM */
void lane_drop(struct lane *);				     /* lets go of what it holds */
int lane_push(struct lane *);
/* 0: it holds nothing any more.  -EAGAIN: wait for the destination.  Else that failed. */
ssize_t lane_copy(struct relay *, struct lane *); /* one read and what it takes to write it; as a transport's read */
bool lane_pump(struct relay *, struct lane *);
/* Moves what can be moved.  True: its turn is over though there is more. */
int lane_last_words(struct lane *);
/* Reads what the source still says, which nobody wants any more; why there is no more, as a transport's read. */
void lane_hold(struct relay *, struct lane *);
/* Takes what the source has to say just now, without passing it on. */

#endif
