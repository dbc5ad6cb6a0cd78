/* A stream of anything: what is told adds up to it, is the same in whatever pieces it comes, and
 * every line is bounded and plain.  The first two bytes of the input choose the largest frame and
 * the pieces. */
#include "wire/decode.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_BOUND 8192

struct run {
	struct text told;
	const char *s; /* the stream */
	size_t len;
	uint64_t at;   /* told up to here */
	uint64_t lost; /* bytes without frames */
	bool cut;
};

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static void
check_json(const char *s, size_t len)
{
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i < len; i++) {
		if (in_string && s[i] == '\\')
			i++;
		else if (s[i] == '"')
			in_string = !in_string;
		else if (!in_string && strchr("{[", s[i]))
			depth++;
		else if (!in_string && strchr("}]", s[i]))
			must(--depth >= 0);
		else
			must(in_string || strchr("0123456789:,", s[i]));
	}
	must(!in_string && depth == 0);
}

static void
add_lines(struct text *told, const struct decode_item *item)
{
	for (int json = 0; json < 2; json++) {
		struct text t = { 0 };

		if (json)
			decode_json(&t, item);
		else
			decode_text(&t, item);
		must(!t.failed && t.len > 0 && t.len < LINE_BOUND);
		for (size_t i = 0; i < t.len; i++)
			must(t.at[i] >= ' ' && t.at[i] <= '~');
		if (json)
			check_json(t.at, t.len);
		if (item->what != DECODE_UNFRAMED)
			text_bytes(told, t.at, t.len);
		text_free(&t);
	}
}

/* Bytes that are said to have stood there did. */
static void
check_bytes(const struct run *r, uint64_t offset, const char *bytes, size_t len)
{
	char *own = malloc(len ? len : 1);

	must(own && offset <= r->len && len <= r->len - offset);
	if (len)
		memcpy(own, bytes, len);
	must(memcmp(own, r->s + offset, len) == 0);
	free(own);
}

static void
check_framed(struct run *r, const struct decode_item *item)
{
	const struct frame *f = &item->frame;

	must(r->lost == 0 && item->fault == 0 && !r->cut);
	if (!f->head) {
		must(item->what == DECODE_CUT && item->have == item->passed);
		check_bytes(r, item->offset, item->bytes, item->have);
	} else {
		must(item->what == DECODE_FRAME ? item->passed == f->payload
						: item->passed < f->payload);
		must(item->have == (item->passed < DECODE_SHOWN ? item->passed : DECODE_SHOWN));
		check_bytes(r, item->offset + FRAME_FIXED, f->from, f->from_len);
		check_bytes(r, item->offset + f->head, item->bytes, item->have);
	}
	r->cut = item->what == DECODE_CUT;
	r->at += f->head + item->passed;
}

static void
take(void *arg, const struct decode_item *item)
{
	struct run *r = arg;

	must(item->offset == r->at && item->have <= item->passed);
	if (item->what != DECODE_UNFRAMED) {
		check_framed(r, item);
	} else {
		must((item->fault < 0) == (r->lost == 0) && item->passed > 0 && !r->cut);
		must(item->have == item->passed ||
		     item->have == (item->fault ? FRAME_HEAD_MAX : DECODE_SHOWN));
		check_bytes(r, item->offset, item->bytes, item->have);
		if (item->fault)
			text_add(&r->told, "fault %d\n", item->fault);
		r->lost += item->passed;
		r->at += item->passed;
	}
	add_lines(&r->told, item);
}

static struct run
run(const uint8_t how[2], const char *s, size_t len, bool whole)
{
	static const uint32_t most[] = { UINT32_MAX, 64 << 20, 4096, 100 };
	struct run r = { .s = s, .len = len };
	struct decode d = { .max = most[how[0] & 3], .item = take, .arg = &r };
	uint32_t dice = how[1];

	for (size_t at = 0, n = len; at < len; at += n) {
		char *own;

		if (!whole) {
			dice = dice * 1664525 + 1013904223;
			n = 1 + (dice >> 16) % (how[0] & 4 ? 3 : how[0] & 8 ? 40 : 2000);
			n = n < len - at ? n : len - at;
		}
		own = malloc(n);
		must(own != NULL);
		memcpy(own, s + at, n);
		decode_feed(&d, own, n);
		free(own);
	}
	decode_end(&d);
	decode_end(&d);
	must(r.at == len && !r.told.failed);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole, pieces;

	if (size < 2)
		return 0;
	whole = run(data, (const char *)data + 2, size - 2, true);
	pieces = run(data, (const char *)data + 2, size - 2, false);
	must(whole.lost == pieces.lost && whole.told.len == pieces.told.len);
	must(whole.told.len == 0 || memcmp(whole.told.at, pieces.told.at, whole.told.len) == 0);
	text_free(&whole.told);
	text_free(&pieces.told);
	return 0;
}
