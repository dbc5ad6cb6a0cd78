/* cmd/control - what the control sockets of all tools share: --control, and the routes that are the same everywhere: GET /,
 * POST /drain, POST /reload, GET and PUT /log-level.  A tool adds its own: GET /metrics, GET /connections, DELETE /connections/
 * and what it alone has. */
#ifndef CMD_CONTROL_H
#define CMD_CONTROL_H

#include "base/text.h"
#include "flow/control.h"

struct record;

void control_may(bool stays, const char *how);
/* Exits 2 where --control is given and the tool does not stay; how says what makes it stay. */
void tool_control(const struct control_route *own);
/* Opens the socket of --control (nothing without it) with --socket-mode, --socket-group and --peer-user; exits where that cannot
 * be done.  After tool_reactor and tool_stay, before the tool says that it is ready.  tool.hup NULL: there is nothing to reload;
 * tool.level: for what else has a log level.  own: ends with a NULL method. */
int tool_control_restore(const struct record *, char *msg, size_t cap);
/* At USR2 (cmd/renew): takes over what tool_control_save has written, the word of whose line is "control": 0, or an exit status and
 * msg.  tool_control then serves that socket, and neither binds nor looks anybody up. */
void tool_control_save(struct text *); /* nothing where there is no control socket */
void tool_control_close(void);
/* In tool.leave: the socket's file, the clients, what waits for an answer (it must not be answered any more).  Legal always. */

/* answers */
void control_metrics(struct control_call *, struct text *); /* takes the samples, adds those of the process */
void control_rows(struct control_call *, struct text *rows, const char *missing);
/* Takes rows (rows_json); missing: a sentence that stands as the last element, or NULL */
void control_cut(struct control_call *, bool found, const char *missing);
/* Of DELETE /connections/ID: 200 and {"cut":ID}; not found: 404; missing: a sentence why it may be there all the same (504), or
 * NULL */
void control_elsewhere(struct control_call *, const char *who); /* the same where we do not hold the bytes: 405, and who does */

#endif
