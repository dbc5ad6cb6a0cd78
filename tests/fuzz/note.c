/* A message of a link from anybody: what is accepted can be printed, and reads back as the same
 * message. */
#include "wire/note.h"

#include <stdlib.h>
#include <string.h>

#include "base/env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char out[2 * NOTE_MAX];
	struct note note, back;
	struct env env = { 0 };
	ssize_t n;

	if (note_parse(&note, (const char *)data, size) < 0 || note.verb == NOTE_UNKNOWN)
		return 0;
	if (note_env(&note, &env) < 0)
		abort();
	for (const char *pair = env_next(&env, NULL); pair; pair = env_next(&env, pair))
		if (!env_may_travel(pair))
			abort();
	n = note_print(&note, &env, out, sizeof(out));
	/* A name of a value left out is a line more (CCF_OMITTED): only then may it not fit. */
	if (n < 0 && !env_get(&env, "CCF_OMITTED"))
		abort();
	if (n > 0 &&
	    (note_parse(&back, out, (size_t)n) < 0 || back.verb != note.verb ||
		back.id != note.id || back.n != note.n || back.version != note.version ||
		back.role != note.role || back.modes != note.modes || back.status != note.status ||
		strcmp(back.reason, note.reason) || strcmp(back.tool, note.tool) ||
		strcmp(back.token, note.token) || back.env_len != env.len))
		abort();
	env_free(&env);
	return 0;
}
