#include "cmd/nodelink_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/control.h"
#include "cmd/nodelink_lines.h"
#include "cmd/tool.h"
#include "flow/joiner.h"
#include "flow/tap.h"

#define FDS_KEPT 24 /* standard ones, loop, signals, resolver */

static struct dialler dialler;
static struct joiner joiner;
static struct taps taps;
static struct hub sources[HUB_LINKS_MAX];
static unsigned opened, open_now;

/* ---- what passes ---- */

static bool
tap_ready(void *arg)
{
	(void)arg;
	return !lines_full();
}

static void
tap_item(void *arg, const char *conn, bool from_client, const struct decode_item *item)
{
	(void)arg;
	lines_frame(conn, from_client, item);
}

static void
tap_drained(void)
{
	taps_resume(&taps);
}

static int
tap_wrapped(void *arg, const char *conn, bool from_client, struct transport **tp)
{
	return tap_wrap(arg, *tp, conn, from_client, tp);
}

/* ---- the end ---- */

static void
tap_written(void)
{
	tool_end(tool.exit_status);
}

static void
tap_finish(void)
{
	if (open_now == 0 && joiner.live == 0)
		lines_finish(tap_written);
}

static void
tap_idle(void *arg)
{
	(void)arg;
	tap_finish();
}

static void
tap_drain(void)
{
	for (unsigned i = 0; i < opened; i++)
		hub_drain(&sources[i]);
}

static void
tap_now(void)
{
	joiner_cut_all(&joiner, "drain-timeout", CCF_DEADLINE);
}

/* ---- the sources ---- */

static void
tap_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	joiner_conn(&joiner, l, n, fd);
}

static unsigned
tap_room(struct hub *h)
{
	(void)h;
	return joiner_room(&joiner);
}

static void
tap_over(struct hub *h, int status)
{
	(void)h;
	if (status && tool.exit_status == 0)
		tool.exit_status = status;
	open_now--;
	tap_finish();
}

static const struct hub_ops tap_ops = { .conn = tap_conn, .room = tap_room, .over = tap_over };

/* ---- the control socket ---- */

static void
tap_status(void)
{
	log_event(LOG_L_INFO, NULL, "status", NULL, "%u connections, %u sources open", joiner.live,
	    open_now);
}

static void
tap_metrics(struct control_call *call)
{
	struct text t = { 0 };

	joiner_metrics(&joiner, &t);
	control_metrics(call, &t);
}

static void
tap_rows(struct control_call *call)
{
	struct text t = { 0 };

	joiner_rows(&joiner, &t);
	control_rows(call, &t, NULL);
}

static void
tap_cut(struct control_call *call)
{
	control_cut(call, joiner_cut(&joiner, call->rest), NULL);
}

static const struct control_route tap_routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    tap_metrics },
	{ "GET", "/connections", "those that are dialled or joined here", tap_rows },
	{ "DELETE", "/connections/", "cut it; # is written %23", tap_cut },
	{ 0 },
};

void
nodelink_tap(const struct endpoint_plan *plan, const struct opt_list *from, uint32_t max)
{
	struct joiner_config cfg = { .reactor = tool.reactor,
		.dialler = &dialler,
		.plan = *plan,
		.idle = -1,
		.half_close = -1,
		.flush = 30000,
		.fds_spare = FDS_KEPT,
		.trace = tool.trace ? tool_trace : NULL,
		.wrap = tap_wrapped,
		.attach = tap_attach,
		.idle_now = tap_idle,
		.arg = &taps };
	char msg[512];

	taps = (struct taps){ .ready = tap_ready, .item = tap_item, .max = max };
	taps_open(&taps);
	dialler_open(&dialler, tool.reactor);
	joiner_open(&joiner, &cfg);
	lines_open(tap_drained);
	tool.drain = tap_drain;
	tool.now = tap_now;
	tool.status = tap_status;
	tool_stay(); /* who sees our names may signal us */
	tool_control(tap_routes);
	for (size_t i = 0; i < from->n; i++) {
		struct hub_config hub;
		int rc;

		tool_link_config(&hub, NOTE_CONSUMER, "--from", from->item[i]);
		hub.modes = NOTE_TAKE;
		hub.ops = &tap_ops;
		open_now++;
		joiner.hub[joiner.n_hubs++] = &sources[i];
		rc = hub_open(&sources[i], &hub, msg, sizeof(msg));
		if (rc < 0)
			tool_die(tool_link_status(rc), "%s", msg);
		opened++;
	}
}

void
nodelink_tap_close(void)
{
	for (unsigned i = 0; i < opened; i++)
		hub_close(&sources[i]);
	dialler_close(&dialler);
}

/* ---- a capture ---- */

static int decoded_status;

static void
capture_item(void *arg, const struct decode_item *item)
{
	struct text *line = arg;

	lines_print_frame(line, item);
	if (item->what == DECODE_UNFRAMED)
		decoded_status = CCF_PROTOCOL;
	else if (item->what == DECODE_CUT && decoded_status == 0)
		decoded_status = CCF_CUT;
	if (line->failed)
		tool_die(CCF_SYSTEM, "no memory");
	if (fwrite(line->at, 1, line->len, stdout) != line->len)
		tool_die(CCF_STDOUT, "cannot write to standard output: %s", strerror(errno));
	line->len = 0;
}

int
nodelink_decode(const char *file, uint32_t max)
{
	static struct decode d;
	static char bytes[64 * 1024];
	struct text line = { 0 };
	ssize_t n;
	int fd = 0;

	if (strcmp(file, "-") != 0 && (fd = open(file, O_RDONLY | O_CLOEXEC)) < 0)
		tool_die(CCF_SYSTEM, "cannot open %s: %s", file, strerror(errno));
	d.max = max;
	d.item = capture_item;
	d.arg = &line;
	while ((n = read(fd, bytes, sizeof(bytes))) != 0) {
		if (n > 0)
			decode_feed(&d, bytes, (size_t)n);
		else if (errno != EINTR)
			tool_die(CCF_SYSTEM, "cannot read %s: %s", file, strerror(errno));
	}
	decode_end(&d);
	text_free(&line);
	if (fd > 0)
		close(fd);
	if (fflush(stdout) != 0)
		tool_die(CCF_STDOUT, "cannot write to standard output: %s", strerror(errno));
	return decoded_status;
}
