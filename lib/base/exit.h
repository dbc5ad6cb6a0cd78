/* base/exit - the exit statuses of every tool, as ccf-net(7) prints them.
 * curl's number where curl has one, sysexits' elsewhere. */
#ifndef BASE_EXIT_H
#define BASE_EXIT_H

enum ccf_exit {
	CCF_OK = 0,		/* done */
	CCF_SYSTEM = 1,		/* a system call failed; the message says which */
	CCF_USAGE = 2,		/* the command line */
	CCF_RESOLVE = 6,	/* a name does not resolve */
	CCF_CONNECT = 7,	/* cannot connect */
	CCF_CUT = 18,		/* cut short: reset, no close_notify, half a frame */
	CCF_STDOUT = 23,	/* standard output went away */
	CCF_DEADLINE = 28,	/* a deadline of ours passed */
	CCF_HANDSHAKE = 35,	/* TLS handshake failed */
	CCF_BIND = 45,		/* cannot bind or listen */
	CCF_OWN_CERT = 58,	/* own certificate or key unusable */
	CCF_PEER_CERT = 60,	/* the peer's certificate was refused */
	CCF_UNAVAILABLE = 69,	/* refused by a cap, or nobody left on the link */
	CCF_PROTOCOL = 76,	/* the peer broke the protocol */
	CCF_PEER_PIN = 90,	/* the peer's pinned key was not the one it showed */
	CCF_CANNOT_RUN = 126,	/* COMMAND cannot be run */
	CCF_NOT_FOUND = 127,	/* COMMAND not found */
	CCF_SIGNAL = 128,	/* + N: COMMAND was killed by signal N */
};

#endif
