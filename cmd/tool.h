/* cmd/tool - what every tool does the same way: its options, its signals, its end. */
#ifndef CMD_TOOL_H
#define CMD_TOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/exit.h"
#include "base/log.h"
#include "base/opts.h"
#include "loop/children.h"
#include "loop/reactor.h"
#include "loop/signals.h"
#include "net/endpoint.h"

struct hub_config;

struct tool {
	const char *name;
	const char *with; /* a library that --version names too; NULL: none */
	bool help, version, trace, v4, v6, quiet;
	int verbose, log;
	const char *control_path; /* --control; NULL: none */
	struct rlimit found; /* the descriptor limit a COMMAND gets back */
	struct reactor *reactor;
	struct signals signals;
	struct children children;
	/* the drain of a tool that stays running */
	int64_t drain_timeout;
	struct timer drain_timer;
	bool draining;
	void (*leave)(void);  /* before an end by tool_die or tool_usage: files of ours go; may be NULL */
	void (*drain)(void);  /* finish what is there, take nothing new */
	void (*now)(void);    /* a second signal, or the deadline: end it */
	bool lingers;         /* now() takes a moment, and calls tool_end when it is over */
	void (*hup)(void);    /* may be NULL */
	void (*status)(void); /* USR1 */
	void (*renew)(void);  /* USR2, where it is set before tool_stay */
	void (*level)(enum log_level); /* from now on; NULL: log_set_level is all */
	int exit_status;
};

extern struct tool tool;

/* rows of the option table that every tool has */
#define TOOL_OPTS TOOL_OPTS_FAMILY, TOOL_OPTS_PLAIN
#define TOOL_OPTS_FAMILY \
	{ '4', "ipv4", NULL, OPT_FLAG, &tool.v4, 0, 0, NULL, "only IPv4" }, \
	{ '6', "ipv6", NULL, OPT_FLAG, &tool.v6, 0, 0, NULL, "only IPv6" }
#define TOOL_OPTS_PLAIN TOOL_OPTS_TRACE("show the states of each endpoint or connection")
#define TOOL_OPTS_TRACE(shows) \
	{ 'h', "help", NULL, OPT_FLAG, &tool.help, 0, 0, NULL, "say this and end" }, \
	{ 0, "log", "FORM", OPT_WORD, &tool.log, 0, 0, tool_log_words, "form of the log: text or json (text)" }, \
	{ 'q', "quiet", NULL, OPT_FLAG, &tool.quiet, 0, 0, NULL, "log errors and warnings only" }, \
	{ 0, "trace", NULL, OPT_FLAG, &tool.trace, 0, 0, NULL, shows }, \
	{ 'v', "verbose", NULL, OPT_COUNT, &tool.verbose, 0, 0, NULL, "log more; twice: everything" }, \
	{ 'V', "version", NULL, OPT_FLAG, &tool.version, 0, 0, NULL, "say the version and end" }

/* the row of a tool that can stay running, see cmd/control */
#define TOOL_CONTROL_OPT \
	{ 0, "control", "PATH", OPT_TEXT, &tool.control_path, 0, 0, NULL, \
	    "answer HTTP on this Unix socket: metrics, connections, drain" }

/* rows of a tool that binds a link */
struct tool_link {
	const char *mode_text, *group_text, *user_text;
};
extern struct tool_link tool_link;
#define TOOL_LINK_OPTS \
	{ 0, "peer-user", "USER", OPT_TEXT, &tool_link.user_text, 0, 0, NULL, \
	    "who may be at the other end of a link, besides us and root" }, \
	{ 0, "socket-group", "GROUP", OPT_TEXT, &tool_link.group_text, 0, 0, NULL, "group of a PATH we bind" }, \
	{ 0, "socket-mode", "MODE", OPT_TEXT, &tool_link.mode_text, 0, 0, NULL, "mode of a PATH we bind (0600)" }

extern const char *const tool_log_words[];

int tool_begin(const struct opts *, int argc, char **argv);
/* Opens 0 to 2, parses, acts on --help and --version, raises the limit, opens the log.  Returns the index of the first operand. */
void tool_log_level(bool stays); /* a tool that stays running logs info by default, one on stdin/stdout warnings */
_Noreturn void tool_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	  /* exit 2 */
_Noreturn void tool_die(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int tool_family(void);
struct cidr *tool_cidrs(const char *option, const struct opt_list *); /* for good, list->n of them; exits 2 at one that is none */
char **tool_command(int argc, char **argv, int *io_operands);
/* The COMMAND after "--" (argv itself), or NULL; *io_operands is how many operands stand before it. */
void tool_look_up(const char *name); /* exits 126 or 127 now, not at the first connection, if it cannot be run */
void tool_one_word(char **operands, int n); /* exits 2 at "HOST PORT", and says how it is written */
void tool_names(char **operands, int n, unsigned may); /* addresses (addr_parse), no two of one name; exits 2 */
void tool_id_prefix(const char *word); /* of --id-prefix, NULL: not given; exits 2 */
void tool_socket(mode_t *, gid_t *, uid_t *peer_user); /* --socket-mode, --socket-group, --peer-user; exits 2 */
void tool_link_config(struct hub_config *, unsigned role, const char *option, const char *spec);
int tool_link_status(int rc); /* what a failure of hub_open is to the shell */

void tool_reactor(void); /* exits on failure */
void tool_stay(void);	 /* signals: TERM and INT drain, twice now; HUP, USR1, USR2; CHLD */
void tool_children(void); /* children without the drain: for a tool on descriptor 0 */
void tool_drain(void);	 /* as the first TERM; nothing if that was */
void tool_end(int status); /* stops the loop; the first status that is not 0 holds */
int tool_run(void);	 /* the loop; returns the exit status */
void tool_trace(struct endpoint *, enum endpoint_state from, enum endpoint_state to);

#endif
