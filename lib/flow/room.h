/* flow/room - how many more connections this process has descriptors for, and what is said when there are none. */
#ifndef FLOW_ROOM_H
#define FLOW_ROOM_H

unsigned room_for(unsigned live, unsigned each, unsigned keep);
/* live connections hold at most `each` descriptors apiece, `keep` are ours; what the limit of this moment leaves, in
 * connections.  The limit is asked each time: it can be changed from outside. */
void room_short(const char *failed, int error, const char *so);
/* Descriptors are short: one line an episode.  Shortages less than 10 s apart are one. */

#endif
