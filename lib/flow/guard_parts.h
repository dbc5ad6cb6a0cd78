/* flow/guard_parts - what the files of flow/guard share: guard_ask.c has the way to a backend, guard.c the request and the life
 * of the backend's connection, guard_answer.c the answer. */
#ifndef FLOW_GUARD_PARTS_H
#define FLOW_GUARD_PARTS_H

#include "flow/guard.h"

struct reactor *guard_loop(const struct guard *);
void guard_time(struct guard *);  /* its deadline may be another one */
void guard_moved(struct guard *); /* it begins anew */
void guard_step(struct guard *);  /* does what can be done now; legal in any state */
void guard_ready(struct watch *, uint32_t got); /* the backend's */
void guard_ask(struct guard *);   /* for a backend */
void guard_pull(struct guard *);  /* reads what the backend says; may end the exchange, and the backend */
void guard_settle(struct guard *); /* one turn less until an answer that came before the request was whole is final */

bool guard_told(const struct guard *); /* the backend has the whole request */
void guard_answered(struct guard *, bool keep); /* the answer is whole and passed on */
void guard_fail(struct guard *, unsigned status, const char *text, const char *more);
/* The backend is given up, and the exchange, if there is one, is refused (502, 503, 504), or cut in mid-answer.  more: for the log
 * alone, or NULL. */
void guard_cut(struct guard *); /* the same without a word: there is nothing to answer, and the backend is not to blame */
void guard_say(const struct guard *, unsigned status, const char *text, const char *more); /* in the log; status 0: none */
void guard_detach(struct guard *, bool cut); /* the backend is let go; the next request asks for another one */

#endif
