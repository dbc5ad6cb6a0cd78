#include "wire/frame.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define DEST	8			     /* u64 D */
#define HEADERS (FRAME_FIXED - FRAME_PREFIX) /* type and S: what N is at least */

static const struct {
	uint64_t type;
	const char *name, *theirs;
} types[] = {
	{ FRAME_CHANNEL, "channel", "channel_msg" },
	{ FRAME_CONSENSUS, "consensus", "consensus_msg" },
	{ FRAME_FORWARDED, "forwarded", "forwarded_msg" },
	{ FRAME_PING, "ping", "ping" },
};
#define TYPES (sizeof(types) / sizeof(types[0]))

static uint32_t
load32(const char *at)
{
	uint32_t n;

	memcpy(&n, at, sizeof(n));
	return le32toh(n);
}

static uint64_t
load64(const char *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof(n));
	return le64toh(n);
}

static char *
store64(char *to, uint64_t n)
{
	n = htole64(n);
	memcpy(to, &n, sizeof(n));
	return to + sizeof(n);
}

/* ---- reading ---- */

static int
parse_dest(struct frame *f, const char *s, size_t len)
{
	uint64_t d;

	if (len < DEST)
		return 0;
	d = load64(s);
	if (d == 0)
		return -FRAME_DEST_EMPTY;
	if (d > FRAME_ID_MAX)
		return -FRAME_DEST_TOO_LONG;
	f->to = s + DEST;
	f->to_len = (size_t)d;
	f->at = DEST + (size_t)d;
	return len >= f->at;
}

/* The frame at s.  An addressed one may leave its sender to us. */
static int
parse_head(struct frame *f, const char *s, size_t len, uint32_t max)
{
	uint64_t id;

	if (len < FRAME_PREFIX)
		return 0;
	f->size = load32(s);
	if (f->size > max)
		return -FRAME_TOO_LARGE;
	if (f->size < HEADERS)
		return -FRAME_TOO_SMALL;
	if (len < FRAME_FIXED)
		return 0;
	f->type = load64(s + FRAME_PREFIX);
	id = load64(s + FRAME_PREFIX + 8);
	if (id > f->size - HEADERS)
		return -FRAME_ID_OVERRUNS;
	if (id == 0 && !f->to)
		return -FRAME_ID_EMPTY;
	if (id > FRAME_ID_MAX)
		return -FRAME_ID_TOO_LONG;
	f->from = s + FRAME_FIXED;
	f->from_len = (size_t)id;
	f->head = f->at + FRAME_FIXED + (size_t)id;
	f->payload = f->size - HEADERS - id;
	return len >= FRAME_FIXED + (size_t)id;
}

int
frame_parse(struct frame *ret, const void *at, size_t len, uint32_t max, bool addressed)
{
	struct frame f = { 0 };
	const char *s = at;
	int rc = len > 0;

	if (rc > 0 && addressed)
		rc = parse_dest(&f, s, len);
	if (rc > 0)
		rc = parse_head(&f, s + f.at, len - f.at, max);
	if (rc > 0)
		*ret = f;
	return rc;
}

/* The figures are read once more: who only wants the verdict need not carry them. */
void
frame_fault_text(
    struct text *t, int fault, const void *at, size_t len, uint32_t max, bool addressed)
{
	const char *s = at;
	uint64_t dest = addressed && len >= DEST ? load64(s) : 0, id;
	size_t skip = addressed && dest <= FRAME_ID_MAX ? DEST + (size_t)dest : 0;
	uint32_t size = len >= skip + FRAME_PREFIX ? load32(s + skip) : 0;

	id = len >= skip + FRAME_FIXED ? load64(s + skip + FRAME_PREFIX + 8) : 0;
	switch (-fault) {
	case FRAME_TOO_LARGE:
		text_add(t, "a frame of %" PRIu32 " bytes, --max-frame is %" PRIu32, size, max);
		break;
	case FRAME_TOO_SMALL:
		text_add(
		    t, "a frame of %" PRIu32 " bytes, its headers alone are %d", size, HEADERS);
		break;
	case FRAME_ID_OVERRUNS:
		text_add(t, "a sender of %" PRIu64 " bytes in a frame that has room for %" PRIu32,
		    id, size - HEADERS);
		break;
	case FRAME_ID_EMPTY:
		text_add(t, "a frame without a sender");
		break;
	case FRAME_ID_TOO_LONG:
		text_add(t, "a sender of %" PRIu64 " bytes, %d is the most", id, FRAME_ID_MAX);
		break;
	case FRAME_DEST_EMPTY:
		text_add(t, "a frame without a destination");
		break;
	case FRAME_DEST_TOO_LONG:
		text_add(
		    t, "a destination of %" PRIu64 " bytes, %d is the most", dest, FRAME_ID_MAX);
		break;
	default:
		text_add(t, "a malformed frame");
		break;
	}
}

/* ---- writing ---- */

size_t
frame_write_head(
    char to[FRAME_HEAD_MAX], uint64_t type, const char *from, size_t from_len, uint64_t payload)
{
	uint32_t size;

	if (from_len == 0 || from_len > FRAME_ID_MAX || payload > UINT32_MAX - HEADERS - from_len)
		return 0;
	size = htole32((uint32_t)(HEADERS + from_len + payload));
	memcpy(to, &size, sizeof(size));
	memcpy(store64(store64(to + FRAME_PREFIX, type), from_len), from, from_len);
	return FRAME_FIXED + from_len;
}

size_t
frame_write_dest(char to[FRAME_HEAD_MAX], const char *dest, size_t len)
{
	if (len == 0 || len > FRAME_ID_MAX)
		return 0;
	memcpy(store64(to, len), dest, len);
	return DEST + len;
}

/* ---- types and ids as words ---- */

const char *
frame_type_name(uint64_t type)
{
	for (size_t i = 0; i < TYPES; i++) {
		if (types[i].type == type)
			return types[i].name;
	}
	return NULL;
}

static bool
is_word(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

static int
parse_number(const char *text, size_t len, uint64_t *ret)
{
	unsigned base = len > 2 && memcmp(text, "0x", 2) == 0 ? 16 : 10;
	uint64_t n = 0;

	for (size_t i = base == 16 ? 2 : 0; i < len; i++) {
		int digit = text_hex(text[i]);

		if (digit < 0 || (unsigned)digit >= base ||
		    n > (UINT64_MAX - (unsigned)digit) / base)
			return -EINVAL;
		n = n * base + (unsigned)digit;
	}
	if (len == 0)
		return -EINVAL;
	*ret = n;
	return 0;
}

int
frame_type_parse(const char *text, size_t len, uint64_t *ret)
{
	for (size_t i = 0; i < TYPES; i++) {
		if (is_word(text, len, types[i].name) || is_word(text, len, types[i].theirs)) {
			*ret = types[i].type;
			return 0;
		}
	}
	return parse_number(text, len, ret);
}

static bool
stands_plain(char c)
{
	return c > ' ' && c < 0x7f && c != '%' && c != '=' && c != '"';
}

void
frame_id_text(struct text *t, const char *id, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = i;

		while (n < len && stands_plain(id[n]))
			n++;
		text_bytes(t, id + i, n - i);
		if (n < len)
			text_add(t, "%%%02X", (unsigned char)id[n++]);
		i = n;
	}
}

ssize_t
frame_id_parse(char to[FRAME_ID_MAX], const char *text, size_t len)
{
	char id[FRAME_ID_MAX];
	size_t n = 0;

	for (size_t i = 0; i < len; n++) {
		bool escaped = text[i] == '%' && len - i > 2 && text_hex(text[i + 1]) >= 0 &&
			       text_hex(text[i + 2]) >= 0;

		if (n == sizeof(id) || (!escaped && !stands_plain(text[i])))
			return -EINVAL;
		id[n] =
		    (char)(escaped ? text_hex(text[i + 1]) << 4 | text_hex(text[i + 2]) : text[i]);
		i += escaped ? 3 : 1;
	}
	if (n == 0)
		return -EINVAL;
	memcpy(to, id, n);
	return (ssize_t)n;
}
