/* flow/admission - the caps of one interface.  The count is the connections that are open, nothing else: up at accept,
 * down when the connection leaves its list, once. */
#ifndef FLOW_ADMISSION_H
#define FLOW_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

struct admission {
	unsigned soft, hard; /* 0: no cap */
	unsigned open, peak;
	uint64_t accepted, capped, refused; /* ever */
};

enum admit {
	ADMIT_OPEN,
	ADMIT_CAPPED, /* above the soft cap: let in, marked */
	ADMIT_REFUSED /* above the hard cap: not counted, close it */
};

enum admit admission_enter(struct admission *);
void admission_leave(struct admission *);
bool admission_full(const struct admission *); /* the next one would be refused */

#endif
