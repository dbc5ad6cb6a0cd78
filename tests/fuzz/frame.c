/* Frames from anybody: the verdict falls at the byte that decides it and stays, nothing beyond the
 * bytes that are there is read, and what was read is written again as the same bytes.  The first
 * byte of the input says whether frames are addressed and how large they may be. */
#include "wire/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static bool
lies_in(const char *part, size_t len, const char *whole, size_t of)
{
	return part >= whole && part + len <= whole + of;
}

/* A head that was read, from n bytes. */
static void
check_head(const struct frame *f, const char *s, size_t n, uint32_t max, bool addressed)
{
	char again[FRAME_HEAD_MAX];
	size_t dest = 0, head;

	must(f->head <= n && f->head <= FRAME_HEAD_MAX && f->size <= max);
	must(f->at + FRAME_FIXED + f->from_len == f->head && f->from == s + f->at + FRAME_FIXED);
	must(f->size == FRAME_FIXED - FRAME_PREFIX + f->from_len + f->payload);
	must(addressed ? lies_in(f->to, f->to_len, s, f->at) : !f->to && !f->to_len && !f->at);
	if (addressed) {
		dest = frame_write_dest(again, f->to, f->to_len);
		must(dest == f->at && memcmp(again, s, dest) == 0);
	}
	head = frame_write_head(again, f->type, f->from, f->from_len, f->payload);
	must(head == (f->from_len ? f->head - f->at : 0) && (head || addressed));
	must(memcmp(again, s + f->at, head) == 0);
}

static void
check_fault(int fault, const char *s, size_t n, uint32_t max, bool addressed)
{
	struct text t = { 0 };

	must(fault >= -FRAME_DEST_TOO_LONG && (addressed || fault > -FRAME_DEST_EMPTY));
	must(!addressed || fault != -FRAME_ID_EMPTY);
	frame_fault_text(&t, fault, s, n, max, addressed);
	must(!t.failed && t.len > 10 && t.len < 120);
	for (size_t i = 0; i < t.len; i++)
		must(t.at[i] >= ' ' && t.at[i] <= '~');
	text_free(&t);
}

/* How many bytes decide that. */
static size_t
due(int verdict, const struct frame *f, size_t skip)
{
	switch (-verdict) {
	case FRAME_DEST_EMPTY:
	case FRAME_DEST_TOO_LONG:
		return 8;
	case FRAME_TOO_LARGE:
	case FRAME_TOO_SMALL:
		return skip + FRAME_PREFIX;
	case FRAME_ID_OVERRUNS:
	case FRAME_ID_EMPTY:
	case FRAME_ID_TOO_LONG:
		return skip + FRAME_FIXED;
	default:
		return f->head;
	}
}

static void
check_stream(const char *s, size_t len, uint32_t max, bool addressed)
{
	size_t most = len < FRAME_HEAD_MAX ? len : FRAME_HEAD_MAX, at = 0;
	int verdict = 0;

	for (size_t n = 0; n <= most; n++) {
		char *own = malloc(n ? n : 1);
		struct frame f = { 0 };
		int rc;

		must(own != NULL);
		memcpy(own, s, n);
		rc = frame_parse(&f, own, n, max, addressed);
		must(rc == verdict || verdict == 0);
		if (rc && !verdict)
			at = n;
		verdict = rc;
		if (rc > 0)
			check_head(&f, own, n, max, addressed);
		else if (rc < 0)
			check_fault(rc, own, n, max, addressed);
		if (rc)
			must(at ==
			     due(rc, &f,
				 addressed ? 8 + (uint8_t)s[0] + ((size_t)(uint8_t)s[1] << 8) : 0));
		free(own);
	}
	must(verdict || len < FRAME_HEAD_MAX);
}

static void
check_id(const char *s, size_t len)
{
	static char back[FRAME_ID_MAX];
	struct text t = { 0 };
	ssize_t n;

	frame_id_text(&t, s, len);
	must(!t.failed && t.len >= len && t.len <= 3 * len);
	for (size_t i = 0; i < t.len; i++)
		must(t.at[i] > ' ' && t.at[i] <= '~' && t.at[i] != '=' && t.at[i] != '"');
	n = frame_id_parse(back, t.at ? t.at : "", t.len);
	must(len && len <= FRAME_ID_MAX ? n == (ssize_t)len && memcmp(back, s, len) == 0
					: n == -EINVAL);
	text_free(&t);
}

static void
check_words(const char *s, size_t len)
{
	static char id[FRAME_ID_MAX];
	uint64_t type = 4711, again = 0;
	char number[24];
	ssize_t n = frame_id_parse(id, s, len);

	must(n == -EINVAL || (n > 0 && n <= FRAME_ID_MAX && (size_t)n <= len));
	if (n > 0)
		check_id(id, (size_t)n);
	if (frame_type_parse(s, len, &type) == 0) {
		snprintf(number, sizeof(number), "%" PRIu64, type);
		must(frame_type_parse(number, strlen(number), &again) == 0 && again == type);
	} else {
		must(type == 4711);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t most[] = { UINT32_MAX, 64 << 20, 1 << 20, 1024, 80, 20, 16, 0 };
	const char *s = (const char *)data + 1;

	if (size < 1)
		return 0;
	check_stream(s, size - 1, most[data[0] >> 1 & 7], data[0] & 1);
	check_id(s, size - 1);
	check_words(s, size - 1);
	return 0;
}
