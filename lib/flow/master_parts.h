/* flow/master_parts - what the files of flow/master share: master (workers live and die), master_links (names, and who gets
 * their links), master_hear (what workers say).  Private to them. */
#ifndef FLOW_MASTER_PARTS_H
#define FLOW_MASTER_PARTS_H

#include "flow/master.h"

/* NEW: not begun.  RUNS: there is a process.  OUT: it died, and is started again when the timer fires.  DONE: for good. */
enum worker_state { WORKER_NEW, WORKER_RUNS, WORKER_OUT, WORKER_DONE };

struct master_worker {
	struct master *of;
	unsigned index;
	enum worker_state state;
	struct child child;
	struct channel channel;
	struct timer timer;   /* OUT: start it again.  RUNS: it should have ended by now */
	int64_t since, delay; /* it was started then; the back-off of its last restart */
	bool up, was_up;      /* this process said so; one of this worker's ever did */
	bool dead;            /* its last orders are being read */
	const char *fault;    /* why we killed it */
	unsigned links[MASTER_NAMES_MAX], n_links;
	struct started_tree runs;
	unsigned n_runs, forgotten; /* forgotten: they may still run */
	uint64_t last_id;
};

struct master_run { /* a COMMAND of a worker */
	struct started started;
	struct master_worker *by;
	int held; /* the worker's end of its stream; -1 */
};

/* master */
void worker_kill(struct master_worker *, const char *why); /* it cannot be trusted, or does not end */
void worker_tell(struct master_worker *, const struct order *, int fd);
bool worker_hears(const struct master_worker *);
bool master_ending(const struct master *); /* who ends now may */
void master_retire(struct master *);       /* if it is ending: who waits to be started again never is; all done? then done() */

/* master_links */
int master_open_names(struct master *, char *msg, size_t cap);
void master_stop_sources(struct master *);
void master_hand_out(struct master *);              /* the links that wait for a worker */
void master_lost_links(struct master_worker *, bool again);
/* It is dead.  again: what we dial is not dialled before it is there again; else all are gone. */
void master_say_over(struct master_worker *);       /* a new one: the names that are over */

/* master_ask */
void master_answers_for(struct master_worker *);    /* it is dead: it has no connections */
void master_give_access(struct master_worker *);    /* the access log, if there is one */
const char *heard_listed(struct master_worker *, const struct order *, const char *payload, size_t len);
const char *heard_was_cut(struct master_worker *, const struct order *);

/* master_hear */
extern const struct channel_ops master_channel_ops;
void master_hang_up(struct master_worker *);        /* its COMMANDs; their ends interest nobody */

#endif
