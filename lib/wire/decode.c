/* The stream: where frames begin and end, and what is kept of them.  decode_text.c makes lines of
 * it. */
#include "wire/decode.h"

#include <endian.h>
#include <string.h>

static size_t
least(uint64_t a, uint64_t b)
{
	return (size_t)(a < b ? a : b);
}

static void
tell(struct decode *d, struct decode_item item)
{
	item.max = d->max;
	d->item(d->arg, &item);
}

static void
tell_payload(struct decode *d, enum decode_what what)
{
	tell(d, (struct decode_item){ .what = what,
		    .offset = d->begun,
		    .frame = d->frame,
		    .bytes = d->payload,
		    .have = d->shown,
		    .passed = d->passed });
	d->in_payload = false;
	d->head_len = 0;
}

static size_t
feed_payload(struct decode *d, const char *s, size_t len)
{
	size_t n = least(len, d->frame.payload - d->passed);
	size_t keep = least(n, DECODE_SHOWN - d->shown);

	memcpy(d->payload + d->shown, s, keep);
	d->shown += keep;
	d->passed += n;
	d->offset += n;
	if (d->passed == d->frame.payload)
		tell_payload(d, DECODE_FRAME);
	return n;
}

/* No frame begins where one should: what was kept of it, and all that came with it, is one item. */
static size_t
lose(struct decode *d, int fault, size_t kept, size_t len)
{
	tell(d, (struct decode_item){ .what = DECODE_UNFRAMED,
		    .offset = d->begun,
		    .bytes = d->head,
		    .have = kept,
		    .passed = d->offset + len - d->begun,
		    .fault = fault });
	d->lost = true;
	d->offset += len;
	d->begun = d->offset;
	d->shown = 0;
	d->passed = 0;
	return len;
}

static size_t
feed_head(struct decode *d, const char *s, size_t len)
{
	size_t held = d->head_len, n = least(len, sizeof(d->head) - held);
	int rc;

	if (held == 0)
		d->begun = d->offset;
	memcpy(d->head + held, s, n);
	rc = frame_parse(&d->frame, d->head, held + n, d->max, false);
	if (rc < 0)
		return lose(d, rc, held + n, len);
	d->head_len = held + n;
	if (rc > 0) {
		n = d->frame.head - held;
		d->in_payload = true;
		d->shown = 0;
		d->passed = 0;
	}
	d->offset += n;
	if (rc > 0 && d->frame.payload == 0)
		tell_payload(d, DECODE_FRAME);
	return n;
}

static size_t
feed_lost(struct decode *d, const char *s, size_t len)
{
	size_t keep = least(len, DECODE_SHOWN - d->shown);

	memcpy(d->payload + d->shown, s, keep);
	d->shown += keep;
	d->passed += len;
	d->offset += len;
	return len;
}

void
decode_feed(struct decode *d, const void *at, size_t len)
{
	const char *s = at;

	while (len) {
		size_t n = d->lost	   ? feed_lost(d, s, len)
			   : d->in_payload ? feed_payload(d, s, len)
					   : feed_head(d, s, len);

		s += n;
		len -= n;
	}
}

void
decode_end(struct decode *d)
{
	struct decode_item item = { .what = DECODE_CUT, .offset = d->begun, .bytes = d->head };
	uint32_t size;

	if (d->in_payload) {
		tell_payload(d, DECODE_CUT);
	} else if (d->lost) {
		d->frame = (struct frame){ 0 };
		if (d->passed)
			tell_payload(d, DECODE_UNFRAMED);
		d->passed = 0;
	} else if (d->head_len) {
		item.have = item.passed = d->head_len;
		if (d->head_len >= FRAME_PREFIX) {
			memcpy(&size, d->head, sizeof(size));
			item.frame.size = le32toh(size);
		}
		d->head_len = 0;
		tell(d, item);
	}
}
