/* flow/room - how many more connections this process has descriptors for. */
#ifndef FLOW_ROOM_H
#define FLOW_ROOM_H

unsigned room_for(unsigned live, unsigned each, unsigned keep);
/* live connections hold at most `each` descriptors apiece, `keep` are ours; what the limit of this moment leaves,
 * in connections, at most LINK_WINDOW.  The limit is asked each time: it can be changed from outside. */

#endif
