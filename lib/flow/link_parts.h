/* flow/link_parts - what the three files of flow/link share: link (ids and life), link_say (sending), link_hear
 * (receiving).  Private to them. */
#ifndef FLOW_LINK_PARTS_H
#define FLOW_LINK_PARTS_H

#include "flow/hub.h"
#include "flow/link.h"

bool link_produces(const struct link *); /* are we the producer? */

/* the list of open ids */
struct link_conn *link_find(struct link *, uint64_t id); /* or NULL */
void link_add(struct link *, struct link_conn *);
void link_settle(struct link_conn *); /* producer: nothing is owed to the consumer about it any more */
void link_unmark(struct link_conn *); /* its eof is not on its way any more */
void link_wind_up(struct link *);     /* shuts or ends a drained link, if that may be now */

/* sending */
void link_hello(struct link *);
void link_later(struct task *); /* at the end of a turn: grants, and writes what is queued */
void link_write(struct link *);
void link_empty_queue(struct link *); /* drops it, and its descriptors */

/* receiving */
void link_ready(struct watch *, uint32_t got);

#endif
