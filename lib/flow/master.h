/* flow/master - keeps workers running and sees no byte of a peer: it binds and dials the links (flow/name) and gives each
 * to a worker, gives them the certificates, starts COMMANDs for them, restarts who dies, and says how they ended. */
#ifndef FLOW_MASTER_H
#define FLOW_MASTER_H

#include <stdint.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/channel.h"
#include "flow/name.h"
#include "flow/starter.h"
#include "loop/children.h"

#define MASTER_WORKERS_MAX 64
#define MASTER_NAMES_MAX   CHANNEL_HUBS_MAX

#define MASTER_AGAIN_FIRST 100  /* ms before a worker that died is started again, doubling */
#define MASTER_AGAIN_LAST  10000
#define MASTER_PROVEN_MS   10000 /* who lived so long begins at the first delay again */
#define MASTER_SOON_MS     2000  /* a link waits so long for a worker that has fewer of them */
#define MASTER_NOW_MS      2000
#define MASTER_MUTE_MS     5000  /* for a worker's end, when its channel has ended */

struct page { /* one a worker, in memory that both see: a worker that is killed cannot say what it had */
	uint32_t live;      /* connections */
	uint64_t accepted;  /* ever, by this worker */
	struct metrics metrics;
};

struct master_config {
	struct reactor *reactor;
	struct children *children;
	unsigned workers;
	const struct name_config *names; /* n_names of them, sources first; reactor, links, ops and owner are set here */
	unsigned n_names;
	struct starter *starter;         /* here; NULL: there is no COMMAND */
	unsigned commands;               /* so many at once of one worker; 0: as many as it asks for */
	void (*work)(void *arg, unsigned index, int chan, struct page *); /* never returns */
	/* In the new worker, which has nothing of the master's open but 0 to 2 and chan (the caller's: channel_open it);
	 * dispositions and mask are those of a fresh process, SIGPIPE ignored; children is empty, reactor the master's and
	 * not to be touched.  Ends by exit. */
	/* ... and counts in its page (metrics_use). */
	int (*material)(void *arg);      /* a descriptor with what workers need, borrowed; -1: nothing yet */
	void (*done)(void *arg, int status);
	/* All workers have ended, and none will be started: the first status that was not 0. */
	void *arg;
};

struct master_ask { /* a question to all workers; lies in its owner, zeroed before it is used */
	void (*done)(struct master_ask *);
	/* Once: everybody has answered, or CONTROL_WAIT_MS have passed.  Never before the call that asks has returned, nor after
	 * master_unask or master_close. */
	struct text rows;    /* master_rows: {...},{...}; yours to free */
	bool cut;            /* master_cut: it was found, and is cut */
	unsigned missing;    /* workers that did not answer: what they know is not here */
	bool full;           /* rows are missing: there were more than ROWS_MAX */
	/* private */
	struct master *of;   /* NULL: not under way */
	uint64_t id, waits;  /* waits: a bit a worker */
	unsigned n;
	const char *conn;
	struct timer timer;
	struct task tell;
	TAILQ_ENTRY(master_ask) link;
};

struct master_waiting;
struct master_worker;

struct master {
	struct master_config cfg;
	struct name names[MASTER_NAMES_MAX];
	unsigned names_open; /* opened, so many */
	bool bidden[MASTER_NAMES_MAX]; /* its link that ended last had said drain */
	TAILQ_HEAD(, master_waiting) waiting; /* links for a worker that is not there yet */
	struct master_worker *worker; /* cfg.workers of them */
	struct page *pages;
	struct metrics gone;  /* what workers counted that are no more */
	TAILQ_HEAD(, master_ask) asks;
	uint64_t last_ask;
	int access;           /* the access log's descriptor; -1: none */
	int status;
	bool draining, up; /* up: every worker has said so once */
	bool now, told;    /* they were told to end now; done() was called */
	uint64_t crashed;  /* workers that ended unasked, ever */
};

int master_open(struct master *, const struct master_config *, char *msg, size_t cap);
/* Opens the names, then starts the workers.  0; -errno as name_open, msg says it. */
void master_material(struct master *); /* there is something new: give it to every worker */
void master_drain(struct master *);    /* names stop, workers drain */
void master_now(struct master *);      /* workers end now; who does not within MASTER_NOW_MS is killed */
void master_status(struct master *, const char *also); /* each worker says its own; one line for all, also at its end */
void master_close(struct master *);    /* at the end of the process: names, channels */
unsigned master_live(const struct master *); /* connections of all workers */

void master_access(struct master *, int fd); /* takes fd: the access log from now on, of every worker that is and will be */
void master_level(struct master *, enum log_level); /* of this process too */
void master_metrics(const struct master *, struct metrics *sum); 
/* Adds what this process and every worker ever counted, and the live ones' gauges. */
void master_gauges(struct master *, struct master_ask *, void (*done)(struct master_ask *));
/* Before master_metrics: the gauges are of this moment then. */
void master_rows(struct master *, struct master_ask *, void (*done)(struct master_ask *));   /* the live connections */
void master_cut(struct master *, struct master_ask *, const char *conn, void (*done)(struct master_ask *));
/* The connection with that CCF_CONN_ID (borrowed until done), reason "control" */
void master_unask(struct master_ask *); /* done() is not called any more; legal when nothing is under way */

#endif
