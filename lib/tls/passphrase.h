/* tls/passphrase - what opens encrypted keys.  A source that can be asked once only (a variable, which is wiped and unset so
 * that no COMMAND sees it; a descriptor, which is read to its first line and closed; a terminal) is kept for when the keys
 * are read again; by this process alone, not by its children. */
#ifndef TLS_PASSPHRASE_H
#define TLS_PASSPHRASE_H

#include <stddef.h>

#define PASSPHRASE_MAX 1024

int passphrase_get(const char *spec, const char *file, char buf[PASSPHRASE_MAX], char *msg, size_t cap);
/* spec as in tls_files, file: the key's.  The length, 1 or more; no NUL follows.  -EKEYREJECTED: msg says why there is none;
 * -ENOMEM, -EMFILE, -ENFILE. */
void passphrase_take(const char *spec); /* a variable is read and wiped now: children that are made before it is needed do
					   not see it */
void passphrase_wrong(const char *file); /* what was typed for it is forgotten, and asked for again if it may be */
void passphrase_proven(void); /* all keys are open: from now on, while we serve, nobody is asked */

#endif
