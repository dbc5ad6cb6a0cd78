/* tls/says - a failure in one sentence. */
#ifndef TLS_SAYS_H
#define TLS_SAYS_H

#include <stddef.h>

int says(int err, char *msg, size_t cap, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Writes msg, forgets OpenSSL's errors, returns err. */
const char *says_why(void); /* the first of OpenSSL's errors as a reason; never NULL */

#endif
