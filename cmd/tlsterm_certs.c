/* The certificates of ccf-tlsterm: read as one unit, waited for, read again when they change. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/changes.h"
#include "base/clock.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/metrics.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "tls/context.h"

#define SAY_MS	60000 /* that they are still awaited */
#define WARN_MS (24 * 3600 * 1000LL)

struct certs certs = { .fd = -1 };

static struct changes changes;
static struct timer look_timer;
static int64_t since, said, warned, rotated;
static void (*told)(void);
static char awaits[576]; /* what is awaited, as it was said last */
static bool given_up;	 /* to wait */
static bool again;	 /* nothing has changed, but we were short of something: try again */

static bool
awaited(void)
{
	return !certs.now;
}

/* No fault of the files: what is short now may not be so next time. */
static bool
is_short(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

static int
status_of(int rc)
{
	return rc == -EINVAL ? CCF_USAGE : is_short(rc) ? CCF_SYSTEM : CCF_OWN_CERT;
}

/* Once there are workers they end first. */
static void
give_up(int rc, const char *msg, const char *more)
{
	if (!said)
		tool_die(status_of(rc), "%s%s", msg, more);
	log_event(LOG_L_ERROR, NULL, "failed", NULL, "%s%s", msg, more);
	given_up = true;
	tool.exit_status = status_of(rc);
	tool.now();
}

static int
seal(struct material *m, int *ret_fd, char *msg, size_t cap)
{
	int rc = 0;

	if (tlsterm.tickets && certs.now)
		material_keep_tickets(m, certs.now);
	else if (tlsterm.tickets)
		rc = material_rotate(m, NULL);
	if (rc == 0)
		rc = material_seal(m, ret_fd);
	if (rc < 0)
		snprintf(msg, cap, "cannot keep the certificates in memory: %s", strerror(-rc));
	return rc;
}

/* Read, and tried out: what this makes can serve. */
static int
load(struct material **ret, int *ret_fd, char *msg, size_t cap)
{
	struct material *m = NULL;
	struct tls_context *trial = NULL;
	int rc;

	changes_loaded(&changes);
	rc = material_read(&m, &tlsterm.files, msg, cap);
	if (rc == 0)
		rc = tls_context_new(&trial, &tlsterm.policy, m, NULL, msg, cap);
	tls_context_free(trial);
	if (rc == 0)
		rc = seal(m, ret_fd, msg, cap);
	if (rc == 0)
		*ret = m;
	else
		material_free(m);
	return rc;
}

static void
warn(void)
{
	char msg[512];

	warned = reactor_now(tool.reactor);
	if (certs.now && material_warning(certs.now, time(NULL), msg, sizeof(msg)) > 0)
		log_event(LOG_L_WARN, NULL, "certificate-end", NULL, "%s", msg);
}

/* From now on this is what we have; told() passes it on. */
static void
take(struct material *m, int fd)
{
	fds_close(&certs.fd);
	material_free(certs.now);
	certs.now = m;
	certs.fd = fd;
	certs.loaded++;
	metric_add(METRIC_RELOADS, "ok", 1);
	warn();
	told();
}

static void
loaded(struct material *m, int fd, const char *when)
{
	log_event(LOG_L_INFO, NULL, "certificate", NULL, "certificate%s loaded%s from %s%s",
	    tlsterm.cert.n > 1 ? "s" : "", when, tlsterm.cert.item[0],
	    tlsterm.cert.n > 1 ? " and others" : "");
	take(m, fd);
}

static void
look_in(int64_t ms)
{
	(void)reactor_timer(tool.reactor, &look_timer, reactor_now(tool.reactor) + ms);
}

/* ---- the first time ---- */

static void
say_awaited(const char *what)
{
	said = reactor_now(tool.reactor);
	strlcpy(awaits, what, sizeof(awaits));
	log_event(LOG_L_INFO, NULL, "certificate-awaited", NULL, "%s", awaits);
}

/* At the start what is there and unusable ends us; later it may be half of what is coming. */
static void
first(void)
{
	int64_t now = reactor_now(tool.reactor), end = clock_after(since, tlsterm.cert_timeout);
	struct material *m = NULL;
	char msg[512], what[sizeof(msg) + 64];
	int fd, rc = load(&m, &fd, msg, sizeof(msg));

	again = is_short(rc);
	if (rc == 0) {
		loaded(m, fd, "");
		return;
	}
	if (rc != -ENOENT && !(said && (rc == -EAGAIN || again))) {
		give_up(rc, msg, "");
		return;
	}
	if (now >= end) {
		give_up(rc, msg, "; waited for it in vain (--cert-timeout)");
		return;
	}
	snprintf(what, sizeof(what), "%s; taking no connections until it is%s", msg,
	    rc == -ENOENT   ? ""
	    : rc == -EAGAIN ? " whole"
			    : " read");
	if (!said || strcmp(awaits, what) != 0)
		say_awaited(what);
}

/* ---- again ---- */

static void
rotate(void)
{
	int fd = -1, rc;

	rotated = reactor_now(tool.reactor);
	rc = material_rotate(certs.now, certs.now);
	if (rc == 0)
		rc = material_seal(certs.now, &fd);
	if (rc < 0) {
		log_event(LOG_L_ERROR, NULL, "tickets-failed", NULL,
		    "cannot make a new key for tickets: %s", strerror(-rc));
		return;
	}
	fds_close(&certs.fd);
	certs.fd = fd;
	log_event(LOG_L_DEBUG, NULL, "tickets", NULL, "a new key for tickets");
	told();
}

static void
reload(void)
{
	struct material *m = NULL;
	bool before = again;
	char msg[512];
	int fd, rc = load(&m, &fd, msg, sizeof(msg));

	again = is_short(rc);
	if (rc == 0) {
		loaded(m, fd, " again");
		return;
	}
	if (before && again)
		return; /* as was said */
	certs.failed++;
	metric_add(METRIC_RELOADS, "failed", 1);
	log_event(LOG_L_WARN, NULL, "certificate-kept", NULL,
	    "not loaded again: %s; what was loaded before stays in use", msg);
}

void
certs_reload(void)
{
	if (tlsterm.plaintext || given_up)
		return;
	again = false;
	if (awaited())
		first();
	else
		reload();
}

static void
look(struct timer *t)
{
	int64_t now = reactor_now(tool.reactor);

	(void)t;
	if (given_up)
		return;
	look_in(CHANGES_LOOK_MS);
	if (awaited()) {
		if (changes_look(&changes, now) || again ||
		    now >= clock_after(since, tlsterm.cert_timeout))
			first();
		else if (now - said >= SAY_MS)
			say_awaited(awaits);
		return;
	}
	if (changes_look(&changes, now) || again)
		reload();
	if (now - warned >= WARN_MS)
		warn();
	if (tlsterm.tickets && now - rotated >= tlsterm.tickets / (TICKET_KEYS - 1))
		rotate();
}

void
certs_start(void (*changed)(void))
{
	char name[256];
	int rc = 0;

	told = changed;
	since = rotated = reactor_now(tool.reactor);
	look_timer.fire = look;
	for (size_t i = 0; rc == 0 && i < tlsterm.cert.n; i++)
		rc =
		    changes_add(&changes, tls_file_split(tlsterm.cert.item[i], name, sizeof(name)));
	for (size_t i = 0; rc == 0 && i < tlsterm.key.n; i++)
		rc = changes_add(&changes, tlsterm.key.item[i]);
	if (rc == 0 && tlsterm.files.ca)
		rc = changes_add(&changes, tlsterm.files.ca);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "%s", strerror(-rc));
	first();
	look_in(CHANGES_LOOK_MS);
}

void
certs_once(void)
{
	char msg[512];
	int rc = material_read(&certs.now, &tlsterm.files, msg, sizeof(msg));

	if (rc < 0)
		tool_die(status_of(rc), "%s", msg);
	if (tlsterm.tickets)
		(void)material_rotate(certs.now, NULL);
	warn();
}

void
certs_say(char *buf, size_t cap)
{
	time_t end = certs.now ? (time_t)material_not_after(certs.now) : 0;
	char msg[512], date[32] = "";
	struct tm tm;

	if (tlsterm.plaintext || awaited()) {
		snprintf(buf, cap, "certificate %s", tlsterm.plaintext ? "not wanted" : "awaited");
		return;
	}
	if (end && gmtime_r(&end, &tm))
		strftime(date, sizeof(date), ", valid until %Y-%m-%d", &tm);
	snprintf(buf, cap, "certificate loaded%s, %" PRIu64 " loads, %" PRIu64 " failed", date,
	    certs.loaded, certs.failed);
	if (material_warning(certs.now, time(NULL), msg, sizeof(msg)) > 0) {
		size_t n = strlen(buf);

		snprintf(buf + n, cap - n, "; %s", msg);
	}
}

void
certs_close(void)
{
	changes_free(&changes);
	material_free(certs.now);
	certs.now = NULL;
	fds_close(&certs.fd);
}
