/* cmd/nodelink_tap - frames shown as they pass: `ccf-nodelink --tap ADDRESS`, and of a capture: `ccf-nodelink decode FILE`. */
#ifndef CMD_NODELINK_TAP_H
#define CMD_NODELINK_TAP_H

#include <stdint.h>

struct endpoint_plan;
struct opt_list;

void nodelink_tap(const struct endpoint_plan *, const struct opt_list *from, uint32_t max);
/* Opens the sources, sets up the tool's drain, status and control; the loop is the caller's.  Exits on failure */
void nodelink_tap_close(void); /* legal without the above */
int nodelink_decode(const char *file, uint32_t max); /* "-": standard input.  The exit status */

#endif
