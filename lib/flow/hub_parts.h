/* flow/hub_parts - what the two files of flow/hub share: hub (links, choice, credit) and hub_open (names).  Private to
 * them. */
#ifndef FLOW_HUB_PARTS_H
#define FLOW_HUB_PARTS_H

#include "flow/hub.h"

bool hub_produces(const struct hub *);	/* are we the producer? */
int hub_take(struct hub *, int fd);	/* one link more; fd is taken, also on failure.  0 or -errno */
void hub_dial(struct hub *);		/* opens the links that are wanting, or tries again later */

/* what hub_open puts into watches and timers */
void hub_accept(struct watch *, uint32_t got);
void hub_pipe_ready(struct watch *, uint32_t got);
void hub_dial_fire(struct timer *);
void hub_tick(struct timer *);

#endif
