/* A worker of ccf-tlsterm: links, certificates and orders come from the master; the connections are
 * all here. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "flow/worker.h"
#include "net/stream.h"
#include "session/session.h"
#include "tls/context.h"
#include "tls/link.h"

static struct worker worker;
static struct terminator terminator;
static struct hub sources[HUB_LINKS_MAX], sink, *hubs[MASTER_NAMES_MAX];
static struct tls_context *context;
static unsigned sources_open;
static bool cut_short;

static void
leave(void)
{
	for (size_t i = 0; i < tlsterm.from.n; i++)
		hub_close(&sources[i]);
	if (tlsterm.to)
		hub_close(&sink);
	tlsterm_http_close();
	worker_close(&worker);
}

/* ---- what both a worker and a single connection say of their terminator ---- */

static void
trace(const char *before, const char *after)
{
	fprintf(stderr, "trace: %s -> %s\n", before, after);
}

/* arg is where the owner of the terminator keeps the context of this moment. */
static int
wrap(void *arg, int rfd, int wfd, bool owns, struct transport **ret)
{
	struct tls_context **now = arg;

	tlsterm_http_next_capped();
	return tlsterm.plaintext ? stream_new(rfd, wfd, owns, ret)
				 : tls_link_new(ret, *now, rfd, wfd, owns);
}

void
tlsterm_terminator(struct terminator *of, struct terminator_config *cfg)
{
	cfg->reactor = tool.reactor;
	cfg->wrap = wrap;
	cfg->command = tlsterm.command ? tlsterm.command[0] : NULL;
	cfg->sink = tlsterm.is_http || tlsterm.session ? TERM_TO_SESSION
		    : tlsterm.to		       ? TERM_TO_HUB
		    : tlsterm.command		       ? TERM_TO_COMMAND
						       : TERM_TO_STDIO;
	cfg->session = tlsterm.session;
	cfg->capped = tlsterm.is_http || tlsterm.capped.message ? &tlsterm.capped : NULL;
	cfg->capped_first = -1;
	cfg->handshake = tlsterm.handshake;
	cfg->idle = tlsterm.idle != TLSTERM_UNSET ? tlsterm.idle
		    : cfg->sink == TERM_TO_STDIO  ? -1
						  : 60000;
	cfg->half_close = tlsterm.half_close == TLSTERM_UNSET ? cfg->idle : tlsterm.half_close;
	cfg->flush = tlsterm.flush;
	cfg->lifetime = tlsterm.lifetime;
	cfg->max_buffered = tlsterm.max_buffered / tlsterm.workers;
	cfg->require_close_notify = tlsterm.require_close_notify;
	cfg->fds_spare = TLSTERM_FDS_KEPT;
	cfg->trace = tool.trace ? trace : NULL;
	if (tlsterm.is_http)
		tlsterm_http_sink(of, cfg);
	terminator_open(of, cfg);
}

static bool
sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#endif
#endif
	return false;
}

void
tlsterm_confine(unsigned allow, char *holds, size_t cap)
{
	bool filter = !tlsterm.no_sandbox && !sanitized();
	char msg[256];

	if (tlsterm.has_identity && identity_take(&tlsterm.identity, msg, sizeof(msg)) < 0)
		tool_die(CCF_SYSTEM, "--user %s: %s", tlsterm.user, msg);
	if (filter && sandbox_enter(allow, msg, sizeof(msg)) < 0)
		tool_die(
		    CCF_SYSTEM, "cannot confine this process: %s (--no-sandbox goes without)", msg);
	snprintf(holds, cap, "%s%s%s", tlsterm.has_identity ? "as " : "",
	    tlsterm.has_identity ? tlsterm.identity.name : "", tlsterm.has_identity ? ", " : "");
	snprintf(holds + strlen(holds), cap - strlen(holds), "%s",
	    filter		 ? "confined: it opens no file, makes no socket and runs no program"
	    : tlsterm.no_sandbox ? "not confined (--no-sandbox)"
				 : "not confined (built with a sanitizer)");
}

/* ---- connections ---- */

static void
finish(void)
{
	if (sources_open > 0 || terminator.live > 0 || tlsterm_http_runs(false))
		return;
	tool_end(cut_short ? CCF_DEADLINE : tool.exit_status);
}

static void
idle_now(void *arg)
{
	(void)arg;
	finish();
}

static void
from_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	terminator_conn(&terminator, l, n, fd);
}

static unsigned
from_room(struct hub *h)
{
	(void)h;
	return terminator_room(&terminator);
}

static void
from_over(struct hub *h, int status)
{
	(void)h;
	if (tool.exit_status == 0)
		tool.exit_status = status;
	sources_open--;
	finish();
}

static const struct hub_ops from_ops = { .conn = from_conn, .room = from_room, .over = from_over };

static void
drain(void)
{
	tool.draining = true;
	terminator_drain(&terminator);
	for (size_t i = 0; i < tlsterm.from.n; i++)
		if (!sources[i].over)
			hub_drain(&sources[i]);
}

static void
sink_credit(struct hub *h)
{
	(void)h;
	terminator_update(&terminator);
}

/* Nobody can take the plaintext any more: no new ones, reset who has no sink yet, finish what has
 * moved. */
static void
sink_over(struct hub *h, int status)
{
	log_event(LOG_L_INFO, NULL, "sink-ended", NULL,
	    "%s %s: the consumer is gone for good: finishing", h->cfg.option, h->cfg.spec);
	if (!tool.draining && tool.exit_status == 0)
		tool.exit_status = status;
	drain();
	terminator_no_sink(&terminator);
}

static const struct hub_ops sink_ops = { .credit = sink_credit, .over = sink_over };

/* ---- orders ---- */

static void
material(struct worker *w, int fd)
{
	struct material *m = NULL;
	struct tls_context *fresh = NULL;
	char msg[512] = "";
	int rc = material_open(&m, fd);

	(void)w;
	close(fd);
	if (rc == 0)
		rc = tls_context_new(&fresh, &tlsterm.policy, m, NULL, msg, sizeof(msg));
	material_free(m);
	if (rc < 0) { /* the master has tried the same */
		log_event(LOG_L_ERROR, NULL, "certificate-failed", NULL, "cannot use it: %s",
		    msg[0] ? msg : strerror(-rc));
		return;
	}
	tls_context_free(context);
	context = fresh;
	terminator.ready = true;
	terminator_update(&terminator);
}

static void
ordered_drain(struct worker *w)
{
	(void)w;
	drain();
}

static void
ordered_now(struct worker *w)
{
	(void)w;
	cut_short = true;
	drain();
	terminator_cut_all(&terminator, "drain-timeout", CCF_DEADLINE);
	tool_end(CCF_DEADLINE);
}

static void
ordered_status(struct worker *w)
{
	const struct budget *b = &terminator.budget;

	(void)w;
	log_event(LOG_L_INFO, NULL, "worker-status", NULL,
	    "worker %d: %u connections, %u sources open, %zu bytes held, %" PRIu64
	    " connections cut as slow",
	    (int)getpid(), terminator.live, sources_open, b->held, b->slow);
}

static void
ordered_gauges(struct worker *w)
{
	(void)w;
	terminator_gauges(&terminator);
}

static unsigned
ordered_rows(struct worker *w, unsigned from, struct conn_row *rows, unsigned cap)
{
	(void)w;
	return terminator_rows(&terminator, from, rows, cap);
}

static bool
ordered_cut(struct worker *w, const char *conn)
{
	(void)w;
	return terminator_cut(&terminator, conn, "control", CCF_CUT);
}

static void
ordered_access(struct worker *w, int fd)
{
	(void)w;
	access_use(&tlsterm.access, fd);
}

/* Nobody can bring links, nor start COMMANDs: those who are here are served to their end. */
static void
lost(struct worker *w)
{
	(void)w;
	log_event(
	    LOG_L_WARN, NULL, "master-gone", NULL, "the master is gone: taking no new connections");
	if (tool.exit_status == 0)
		tool.exit_status = CCF_SYSTEM;
	drain();
	finish();
}

static const struct worker_ops worker_ops = { .material = material,
	.drain = ordered_drain,
	.now = ordered_now,
	.status = ordered_status,
	.gauges = ordered_gauges,
	.rows = ordered_rows,
	.cut = ordered_cut,
	.access = ordered_access,
	.lost = lost };

/* ---- start ---- */

static void
open_hubs(void)
{
	for (unsigned i = 0; i < tlsterm.n_links; i++) {
		struct hub_config cfg = tlsterm.link[i];
		bool from = i < tlsterm.from.n;

		cfg.reactor = tool.reactor;
		cfg.modes = from ? NOTE_TAKE : 0;
		cfg.links = tlsterm.workers;
		cfg.ops = from ? &from_ops : &sink_ops;
		hubs[i] = from ? &sources[i] : &sink;
		hub_open_given(hubs[i], &cfg, &worker_keeper, &worker);
		if (!from)
			break;
		terminator.from[terminator.n_from++] = &sources[i];
		sources_open++;
	}
}

/* What is the master's to hear. */
static void
ignore_signals(void)
{
	static const int list[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++)
		signal(list[i], SIG_IGN);
}

_Noreturn void
tlsterm_work(void *arg, unsigned index, int chan, struct page *page)
{
	static struct reactor *masters; /* not ours to free, nor lost */
	struct terminator_config cfg = { .to = &sink,
		.starter = &worker.starter,
		.page = page,
		.idle_now = idle_now,
		.arg = &context };
	char holds[160];

	(void)arg;
	(void)index;
	certs.fd = tlsterm.access.fd = -1; /* closed, like all that was the master's */
	tool.leave = NULL;
	ignore_signals();
	masters = tool.reactor;
	(void)masters;
	tool_reactor();
	tlsterm_terminator(&terminator, &cfg);
	worker_open(&worker, tool.reactor, chan, &worker_ops, hubs, tlsterm.n_links);
	open_hubs();
	tool.leave = leave;
	terminator.ready = tlsterm.plaintext;
	certs_close(); /* the master's copy, keys and all, but for what comes by the channel */
	tlsterm_confine(0, holds, sizeof(holds));
	worker_up(&worker, holds);
	tool.exit_status = 0;
	(void)tool_run();
	leave();
	tls_context_free(context);
	reactor_free(tool.reactor);
	exit(tool.exit_status);
}
