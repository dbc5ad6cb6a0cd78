/* cmd/nodelink_orders - the commands that ccf-nodelink obeys, line by line, from standard input or --commands. */
#ifndef CMD_NODELINK_ORDERS_H
#define CMD_NODELINK_ORDERS_H

#include <stdbool.h>

#include "flow/pinger.h"

struct node;

struct orders_config {
	struct node *node;
	struct pinger *pinger;
	bool silent;  /* --echo: sends nothing of its own */
	void (*bad)(void); /* a command was wrong: it was said, and changed nothing */
	void (*over)(int error); /* there are no commands any more: 0, or -errno of reading them, which was said */
};

void orders_open(const struct orders_config *, const char *file); /* NULL: standard input.  Exits on failure */
void orders_resume(void); /* what it waits for may be there now: room for a message, or for a line */
void orders_close(void);  /* legal at any time; over() is not called */

#endif
