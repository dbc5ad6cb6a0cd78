#include "flow/admission.h"

#include <assert.h>

bool
admission_full(const struct admission *a)
{
	return a->hard > 0 && a->open >= a->hard;
}

enum admit
admission_enter(struct admission *a)
{
	bool capped = a->soft > 0 && a->open >= a->soft;

	if (admission_full(a)) {
		a->refused++;
		return ADMIT_REFUSED;
	}
	a->accepted++;
	a->capped += capped;
	if (++a->open > a->peak)
		a->peak = a->open;
	return capped ? ADMIT_CAPPED : ADMIT_OPEN;
}

void
admission_leave(struct admission *a)
{
	assert(a->open > 0);
	a->open--;
}
