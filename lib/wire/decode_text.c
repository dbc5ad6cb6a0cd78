/* What passed, as a line.  A table says how CCF's messages are laid out: packed, little-endian, the
 * first u64 of a payload says which it is. */
#include "wire/decode.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define HEX_SHOWN 64 /* bytes: a line stays readable */

enum kind {
	END,
	U64,
	U8,
	VERDICT, /* u8: 0 is OK */
	GCM,	 /* tag 16, iv 8: a byte that is 0, a nonce of 56 bits */
	BUFFER,	 /* u64 length, bytes: only measured */
	ENTRIES, /* of the ledger, to the end: only measured */
};

struct field { /* a list ends with END */
	enum kind kind;
	const char *name;
};

static const struct field init[] = { { U64, "version" }, { BUFFER, "key_share" },
	{ BUFFER, "signature" }, { BUFFER, "cert" }, { BUFFER, "salt" }, { END, NULL } };
static const struct field response[] = { { U64, "version" }, { BUFFER, "key_share" },
	{ BUFFER, "signature" }, { BUFFER, "cert" }, { END, NULL } };
static const struct field final[] = { { BUFFER, "signature" }, { END, NULL } };

static const struct field append[] = { { U64, "idx" }, { U64, "prev_idx" }, { U64, "term" },
	{ U64, "prev_term" }, { U64, "leader_commit_idx" }, { U64, "term_of_idx" },
	{ U8, "contains_new_view" }, { GCM, NULL }, { ENTRIES, NULL }, { END, NULL } };
static const struct field appended[] = { { U64, "term" }, { U64, "last_log_idx" },
	{ VERDICT, "success" }, { GCM, NULL }, { END, NULL } };
static const struct field obsolete[] = { { END, NULL } };
static const struct field vote[] = { { U64, "term" }, { U64, "last_committable_idx" },
	{ U64, "term_of_last_committable_idx" }, { GCM, NULL }, { END, NULL } };
static const struct field voted[] = { { U64, "term" }, { U8, "granted" }, { GCM, NULL },
	{ END, NULL } };
static const struct field propose[] = { { U64, "term" }, { GCM, NULL }, { END, NULL } };

static const struct field v1[] = { { U8, "frame_format" }, { GCM, NULL }, { END, NULL } };
static const struct field v2[] = { { U8, "frame_format" }, { U64, "command_id" }, { GCM, NULL },
	{ END, NULL } };
static const struct field v3_cmd[] = { { U8, "frame_format" }, { U64, "command_id" },
	{ U64, "active_view" }, { GCM, NULL }, { END, NULL } };
static const struct field v3_response[] = { { U8, "frame_format" }, { U64, "command_id" },
	{ U8, "terminate_session" }, { GCM, NULL }, { END, NULL } };

static const struct layout {
	uint64_t type, message;
	const char *name;
	const struct field *fields;
} layouts[] = {
	{ FRAME_CHANNEL, 0, "key_exchange_init", init },
	{ FRAME_CHANNEL, 1, "key_exchange_response", response },
	{ FRAME_CHANNEL, 2, "key_exchange_final", final },
	{ FRAME_CONSENSUS, 0, "append_entries", append },
	{ FRAME_CONSENSUS, 1, "append_entries_response", appended },
	{ FRAME_CONSENSUS, 2, "append_entries_signed_response", obsolete },
	{ FRAME_CONSENSUS, 3, "request_vote", vote },
	{ FRAME_CONSENSUS, 4, "request_vote_response", voted },
	{ FRAME_CONSENSUS, 5, "propose_request_vote", propose },
	{ FRAME_CONSENSUS, 6, "request_pre_vote", vote },
	{ FRAME_CONSENSUS, 7, "request_pre_vote_response", voted },
	{ FRAME_FORWARDED, 0, "forwarded_cmd_v1", v1 },
	{ FRAME_FORWARDED, 1, "forwarded_response_v1", v1 },
	{ FRAME_FORWARDED, 2, "forwarded_cmd_v2", v2 },
	{ FRAME_FORWARDED, 3, "forwarded_response_v2", v2 },
	{ FRAME_FORWARDED, 4, "forwarded_cmd_v3", v3_cmd },
	{ FRAME_FORWARDED, 5, "forwarded_response_v3", v3_response },
};
#define LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

struct look { /* at a payload */
	struct text *t;
	bool json;
	unsigned n;	/* members of the object told so far */
	const char *at; /* of which have bytes are here */
	size_t have;
	uint64_t total; /* its size */
	uint64_t off;	/* told up to here; may lie beyond what is here */
};

static uint64_t
load64(const char *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof(n));
	return le64toh(n);
}

/* At most HEX_SHOWN bytes. */
static void
add_hex(struct text *t, const char *at, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char hex[2 * HEX_SHOWN];

	for (size_t i = 0; i < len; i++) {
		hex[2 * i] = digits[(unsigned char)at[i] >> 4];
		hex[2 * i + 1] = digits[at[i] & 0xf];
	}
	text_bytes(t, hex, 2 * len);
}

/* ---- fields ---- */

static void
tell_key(struct look *l, const char *key)
{
	if (l->json)
		text_add(l->t, "%s\"%s\":", l->n ? "," : "", key);
	else
		text_add(l->t, " %s=", key);
	l->n++;
}

static void
tell_number(struct look *l, const char *key, uint64_t n)
{
	tell_key(l, key);
	text_add(l->t, "%" PRIu64, n);
}

static void
tell_verdict(struct look *l, const char *key, unsigned char c)
{
	const char *quote = l->json ? "\"" : "";

	if (c > 1) {
		tell_number(l, key, c);
		return;
	}
	tell_key(l, key);
	text_add(l->t, "%s%s%s", quote, c ? "FAIL" : "OK", quote);
}

static void
tell_gcm(struct look *l, const char *at)
{
	const char *quote = l->json ? "\"" : "";

	tell_key(l, "tag");
	text_add(l->t, "%s", quote);
	add_hex(l->t, at, 16);
	text_add(l->t, "%s", quote);
	if (at[16])
		tell_number(l, "iv0", (unsigned char)at[16]);
	tell_number(l, "nonce", load64(at + 16) >> 8);
}

/* How many of the bytes from off on are here. */
static size_t
kept(const struct look *l)
{
	return l->off < l->have ? l->have - (size_t)l->off : 0;
}

static void
tell_unseen(struct look *l)
{
	tell_number(l, "unseen", l->total - l->off - kept(l));
}

/* The next n bytes.  NULL: they are not here, and said is how many of them the payload lacks, or
 * how much of the payload was not kept. */
static const char *
take(struct look *l, size_t n)
{
	if (l->total - l->off < n)
		tell_number(l, "short", n - (l->total - l->off));
	else if (kept(l) < n)
		tell_unseen(l);
	else {
		l->off += n;
		return l->at + l->off - n;
	}
	return NULL;
}

/* Each: version 1, flags, a size of 48 bits, so many bytes; to the end of the payload. */
static void
tell_entries(struct look *l)
{
	struct text sizes = { 0 };
	unsigned n = 0;

	while (kept(l) >= 8) {
		uint64_t size = load64(l->at + l->off) >> 16;

		if (l->at[l->off] != 1 || size > l->total - l->off - 8)
			break;
		text_add(&sizes, "%s%" PRIu64, n++ ? "," : "", size);
		l->off += 8 + size;
	}
	tell_number(l, "entries", n);
	if (n) {
		tell_key(l, "sizes");
		text_add(l->t, l->json ? "[%s]" : "%s", sizes.at ? sizes.at : "");
	}
	if (kept(l) >= 8 || (l->total > l->off && l->total - l->off < 8))
		tell_number(l, "trailing", l->total - l->off);
	else if (l->total > l->off)
		tell_unseen(l);
	l->t->failed |= sizes.failed;
	text_free(&sizes);
}

/* Of a buffer only the length is told: its bytes stay what is left.  False: nothing more can be. */
static bool
tell_buffer(struct look *l, const char *key)
{
	const char *at = take(l, 8);
	uint64_t n = at ? load64(at) : 0;

	if (!at)
		return false;
	tell_number(l, key, n);
	if (n > l->total - l->off) {
		tell_number(l, "short", n - (l->total - l->off));
		return false;
	}
	l->off += n;
	return true;
}

static void
tell_buffers(struct look *l, const struct field *f)
{
	for (; f->kind == BUFFER; f++) {
		if (!tell_buffer(l, f->name))
			return;
	}
	if (l->total > l->off)
		tell_number(l, "trailing", l->total - l->off);
}

/* How many bytes of the payload have been said in full. */
static size_t
tell_fields(struct look *l, const struct field *f)
{
	static const size_t width[] = { [U64] = 8, [U8] = 1, [VERDICT] = 1, [GCM] = 24 };
	size_t said;

	for (; f->kind != END && f->kind != BUFFER && f->kind != ENTRIES; f++) {
		const char *at = take(l, width[f->kind]);

		if (!at)
			return (size_t)l->off;
		if (f->kind == U64)
			tell_number(l, f->name, load64(at));
		else if (f->kind == U8)
			tell_number(l, f->name, (unsigned char)*at);
		else if (f->kind == VERDICT)
			tell_verdict(l, f->name, (unsigned char)*at);
		else
			tell_gcm(l, at);
	}
	said = (size_t)l->off;
	if (f->kind == ENTRIES)
		tell_entries(l);
	else if (f->kind == BUFFER)
		tell_buffers(l, f);
	return said;
}

/* ---- lines ---- */

static const struct layout *
layout_of(const struct decode_item *item)
{
	for (size_t i = 0; i < LAYOUTS && item->frame.head && item->have >= 8; i++) {
		if (layouts[i].type == item->frame.type &&
		    layouts[i].message == load64(item->bytes))
			return &layouts[i];
	}
	return NULL;
}

static void
tell_id(struct look *l, const char *id, size_t len)
{
	struct text as_text = { 0 };

	if (!l->json) {
		frame_id_text(l->t, id, len);
		return;
	}
	frame_id_text(&as_text, id, len);
	text_json(l->t, as_text.at ? as_text.at : "", as_text.len);
	l->t->failed |= as_text.failed;
	text_free(&as_text);
}

/* Type, sender, size: what a whole head says. */
static void
tell_head(struct look *l, const struct decode_item *item)
{
	const char *type = frame_type_name(item->frame.type), *quote = l->json ? "\"" : "";

	text_add(l->t, "%s%s", l->json ? "\"type\":" : "", quote);
	if (type)
		text_add(l->t, "%s", type);
	else
		text_add(l->t, "%" PRIu64, item->frame.type);
	text_add(l->t, "%s%s", quote, l->json ? ",\"from\":" : " ");
	tell_id(l, item->frame.from, item->frame.from_len);
	text_add(l->t, "%s%" PRIu64, l->json ? ",\"size\":" : " ", item->frame.payload);
	l->n = 1;
	if (item->what == DECODE_CUT)
		tell_number(l, "got", item->passed);
}

static size_t
tell_message(struct look *l, const struct layout *layout)
{
	size_t said;

	text_add(l->t, l->json ? ",\"message\":\"%s\",\"fields\":{" : " %s", layout->name);
	l->n = 0;
	l->off = 8;
	said = tell_fields(l, layout->fields);
	text_add(l->t, "%s", l->json ? "}" : "");
	return said;
}

/* What is not a frame, or not a whole head: how much of it there is, and of how much. */
static void
tell_bare(struct look *l, const struct decode_item *item)
{
	text_add(l->t, l->json ? "\"got\":%" PRIu64 : "got=%" PRIu64, item->passed);
	l->n = 1;
	if (item->frame.size)
		tell_number(l, "of", (uint64_t)item->frame.size + FRAME_PREFIX);
}

static void
tell_rest(struct look *l, const struct decode_item *item, size_t said)
{
	size_t n = item->have - said < HEX_SHOWN ? item->have - said : HEX_SHOWN;
	uint64_t more = item->passed - said - n;

	if (n || l->json)
		text_add(l->t, "%s", l->json ? ",\"hex\":\"" : " hex:");
	add_hex(l->t, item->bytes + said, n);
	if (l->json)
		text_add(l->t, "\",\"more\":%" PRIu64, more);
	else if (more)
		text_add(l->t, " +%" PRIu64, more);
}

static void
tell_fault(struct look *l, const struct decode_item *item)
{
	struct text why = { 0 };

	frame_fault_text(&why, item->fault, item->bytes, item->have, item->max, false);
	if (l->json)
		text_add(l->t, ",\"why\":\"%s\"", why.at ? why.at : "");
	else
		text_add(l->t, ": %s", why.at ? why.at : "");
	l->t->failed |= why.failed;
	text_free(&why);
}

static void
tell_item(struct text *t, bool json, const struct decode_item *item)
{
	struct look l = { t, json, 0, item->bytes, item->have, item->frame.payload, 0 };
	const struct layout *layout = layout_of(item);
	size_t said = 0;

	if (item->frame.head)
		tell_head(&l, item);
	else
		tell_bare(&l, item);
	if (layout)
		said = tell_message(&l, layout);
	tell_rest(&l, item, said);
	if (item->fault)
		tell_fault(&l, item);
}

void
decode_text(struct text *t, const struct decode_item *item)
{
	tell_item(t, false, item);
}

void
decode_json(struct text *t, const struct decode_item *item)
{
	tell_item(t, true, item);
}
