/* cmd/tlsterm - what the files of ccf-tlsterm share: its options, and its parts: certificates, HTTP, master, control socket,
 * worker, a single connection.  Only these files may see tls/. */
#ifndef CMD_TLSTERM_H
#define CMD_TLSTERM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opts.h"
#include "base/sandbox.h"
#include "flow/access.h"
#include "flow/hub.h"
#include "flow/http.h"
#include "flow/master.h"
#include "flow/terminator.h"
#include "tls/material.h"
#include "tls/policy.h"

#define TLSTERM_FDS_KEPT 24 /* standard ones, loop, signals, certificate files, a few pipes */

#define TLSTERM_UNSET (-2) /* of a number that was not given */

struct tlsterm_http { /* as given */
	int64_t body, header, count, line, head, request_timeout, cgi_timeout, cgi_max;
	const char *access;
};

struct tlsterm {
	/* as given */
	struct opt_list from, cert, key, alpn, pin;
	const char *to, *client_ca, *ca, *passphrase, *servername, *user, *workers_text;
	bool client, plaintext, no_verify, no_sandbox, require_close_notify;
	int app, verify;
	int64_t handshake, idle, half_close, flush, lifetime, cert_timeout, max_buffered, tickets;
	struct tlsterm_http http;
	const char *capped_message;
	char **command;
	/* what follows from it */
	bool single; /* one connection: on descriptor 0, or on 6 and 7 (--client) */
	struct hub_config link[MASTER_NAMES_MAX]; /* n_links of them: sources, then the sink */
	unsigned n_links;
	unsigned workers;
	bool has_identity;
	struct identity identity;
	struct tls_policy policy;
	struct tls_files files;
	const struct session_ops *session;
	bool is_http;             /* --app http1 */
	struct http1_limits limits;
	struct capped capped;     /* message NULL: none */
	struct access access;     /* until the master gives it to the workers; theirs; a single connection's */
};

extern struct tlsterm tlsterm;

/* ---- tlsterm_certs ---- */

struct certs {
	struct material *now;	/* NULL: not there yet */
	int fd;			/* the same, sealed, for workers; -1 */
	uint64_t loaded, failed; /* loads that were good, that were not */
};

extern struct certs certs;

void certs_start(void (*changed)(void));
/* Reads the files, or waits for them; from then on looks for changes.  changed() is called whenever certs has something
 * new.  Ends with 58 where they are there and wrong; half a file that comes while we wait is waited for. */
void certs_once(void);	/* for one connection: reads them, or exits 58 */
void certs_reload(void); /* HUP */
void certs_say(char *buf, size_t cap); /* for the status: loaded or awaited, until when, reloads */
void certs_close(void);

/* ---- tlsterm_http ---- */

void tlsterm_http_check(void); /* what goes together: a usage error in one sentence; then the defaults */
void tlsterm_http_sink(struct terminator *, struct terminator_config *);
unsigned tlsterm_http_commands(void); /* that answer requests at once, of one worker */
/* Who answers requests.  Of cfg the reactor, the hub, the starter and the deadlines are there already. */
void tlsterm_http_access(void); /* opens the access log, or exits 1 naming it */
int tlsterm_http_access_again(void);
/* HUP: opens it anew.  A descriptor, yours; -1: there is none, or (said) the one before stays in use */
bool tlsterm_http_runs(bool any); /* a COMMAND whose time is running out; any: or one that has answered, and goes on */
void tlsterm_http_close(void); /* at the end of the process: COMMANDs that still run, the access log; legal always */
void tlsterm_http_next_capped(void); /* another Retry-After: those who are refused together shall not come back together */

/* ---- the others ---- */

void tlsterm_terminator(struct terminator *, struct terminator_config *);
/* Fills in what all share, and opens it.  arg is the address of the struct tls_context * that new connections are made from. */
_Noreturn void tlsterm_work(void *arg, unsigned index, int chan, struct page *); /* master_config.work */
void tlsterm_master(void);   /* sets everything up; the loop is the caller's */
void tlsterm_control(struct master *); /* its control socket, if there is to be one */
void tlsterm_control_close(void);      /* in tool.leave, before the master is closed; legal always */
void tlsterm_single(void);   /* the same for one connection */
void tlsterm_confine(unsigned allow, char *holds, size_t cap);
/* --user, the sandbox; holds: what does, in words.  Exits where it cannot be done. */

#endif
