/* wire/http1_fault - why a message is refused, in words; and the alphabets. */
#include "wire/http1_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ccf-tlsterm(1) quotes these.  The 400s stand in one sentence: "... as a HTTP request: TEXT at
 * byte N". */
static const struct {
	int status;
	const char *code, *text;
} reasons[] = {
	[WHY_MEMORY] = { 500, "InternalError", "Out of memory" },
	[WHY_BARE_LF] = { 400, NULL, "a bare LF" },
	[WHY_BARE_CR] = { 400, NULL, "a CR without its LF" },
	[WHY_FOLDED] = { 400, NULL, "a line that begins with a blank (obs-fold)" },
	[WHY_EMPTY_LINES] = { 400, NULL, "more than one empty line before the request" },
	[WHY_METHOD] = { 400, NULL, "a method that is no token" },
	[WHY_TARGET] = { 400, NULL, "a byte that may not stand in a request target" },
	[WHY_BLANKS] = { 400, NULL, "not exactly one space between the parts of the request line" },
	[WHY_NO_VERSION] = { 400, NULL, "a request line without a version" },
	[WHY_VERSION] = { 400, NULL, "a malformed version" },
	[WHY_AFTER_VERSION] = { 400, NULL, "something after the version" },
	[WHY_STATUS] = { 400, NULL, "a malformed status line" },
	[WHY_BEFORE_COLON] = { 400, NULL, "a blank before the colon" },
	[WHY_NO_NAME] = { 400, NULL, "a field without a name" },
	[WHY_NAME] = { 400, NULL, "a byte that may not stand in a field name" },
	[WHY_NO_COLON] = { 400, NULL, "a field without a colon" },
	[WHY_CONTROL] = { 400, NULL, "a control character in a field value" },
	[WHY_FORM] = { 400, NULL, "a target that is neither a path nor a http or https URI" },
	[WHY_ASTERISK] = { 400, NULL, "the target * with a method other than OPTIONS" },
	[WHY_AUTHORITY] = { 400, NULL, "a malformed host in the target" },
	[WHY_NOT_HOST] = { 400, NULL, "a host in the target that is not the one in Host" },
	[WHY_NO_HOST] = { 400, NULL, "no Host" },
	[WHY_TWO_HOSTS] = { 400, NULL, "more than one Host" },
	[WHY_HOST] = { 400, NULL, "a malformed Host" },
	[WHY_TWO_LENGTHS] = { 400, NULL, "more than one Content-Length" },
	[WHY_LENGTH] = { 400, NULL, "a malformed Content-Length" },
	[WHY_LENGTH_DIGITS] = { 400, NULL, "a Content-Length of more than 19 digits" },
	[WHY_BOTH] = { 400, NULL, "both Content-Length and Transfer-Encoding" },
	[WHY_TAB] = { 400, NULL, "a tab in Content-Length or Transfer-Encoding" },
	[WHY_UNDERSCORE] = { 400, NULL, "Content_Length or Transfer_Encoding, with a _" },
	[WHY_CONNECTION] = { 400, NULL, "a Connection that names Host or what frames the body" },
	[WHY_CODING_OLD] = { 400, NULL, "Transfer-Encoding in HTTP/1.0" },
	[WHY_CODING] = { 400, NULL, "a malformed Transfer-Encoding" },
	[WHY_CODING_LAST] = { 400, NULL, "a Transfer-Encoding whose last coding is not chunked" },
	[WHY_CODING_TWICE] = { 400, NULL, "a Transfer-Encoding that is chunked twice" },
	[WHY_SIZE] = { 400, NULL, "a malformed chunk size" },
	[WHY_SIZE_DIGITS] = { 400, NULL, "a chunk size of more than 15 digits" },
	[WHY_EXTENSION] = { 400, NULL, "a control character in a chunk extension" },
	[WHY_NO_EXTENSION] = { 400, NULL, "an empty chunk extension" },
	[WHY_CHUNK_LINE] = { 400, NULL, "a chunk line of more than 256 bytes" },
	[WHY_AFTER_CHUNK] = { 400, NULL, "something between a chunk and its CRLF" },
	[WHY_TRAILER] = { 400, NULL, "a field that may not be a trailer" },
	[WHY_CUT] = { 400, NULL, "the end of the stream" },
	[WHY_OTHERWISE] = { 400, NULL, "llhttp reads it otherwise" },
	[WHY_UNKNOWN] = { 501, "NotImplemented", "Method not implemented" },
	[WHY_CONNECT] = { 501, "NotImplemented", "Method not implemented: this is no proxy" },
	[WHY_CODED] = { 501, "NotImplemented", "No transfer coding but chunked is implemented" },
	[WHY_OTHER_VERSION] = { 505, "HttpVersionNotSupported",
	    "Only HTTP/1.1 and HTTP/1.0 are supported" },
	[WHY_EXPECT] = { 417, "ExpectationFailed", "Only 100-continue can be expected" },
	[WHY_LINE_MAX] = { 414, "RequestLineTooLong", "HTTP request line is too large" },
	[WHY_HEAD_MAX] = { 431, "RequestHeaderTooLarge", "HTTP request head is too large" },
	[WHY_NAME_MAX] = { 431, "RequestHeaderTooLarge", "Header key" },
	[WHY_VALUE_MAX] = { 431, "RequestHeaderTooLarge", "Header value" },
	[WHY_COUNT_MAX] = { 431, "RequestHeaderTooLarge", "Too many headers" },
	[WHY_BODY_MAX] = { 413, "RequestBodyTooLarge", "HTTP request body is too large" },
};

/* Bytes of a peer's: what is printed is printable, and says where it was shortened. */
static void
escape(char *to, size_t cap, const char *s, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (i == 32 || n + 8 > cap) {
			memcpy(to + n, "...", 3);
			n += 3;
			break;
		}
		if (c >= ' ' && c <= '~' && c != '\\' && c != '\'' && c != '"') {
			to[n++] = (char)c;
			continue;
		}
		to[n++] = '\\';
		to[n++] = 'x';
		to[n++] = digits[c >> 4];
		to[n++] = digits[c & 15];
	}
	to[n] = '\0';
}

static void
say_limit(const struct http1_scan *x, enum http1_why why, char *to, size_t cap)
{
	const struct http1_limits *max = &x->max;
	uint64_t most = why == WHY_BODY_MAX   ? max->body
			: why == WHY_LINE_MAX ? max->line
			: why == WHY_HEAD_MAX ? max->head
					      : max->header;
	const char *text = reasons[why].text;
	char key[144];

	if (why == WHY_COUNT_MAX) {
		snprintf(to, cap, "%s (max number allowed: %u)", text, max->count);
	} else if (why == WHY_NAME_MAX || why == WHY_VALUE_MAX) {
		size_t len = (size_t)x->name_len;
		bool cut = why == WHY_NAME_MAX || len > sizeof(x->key);

		escape(key, sizeof(key), x->key, len < sizeof(x->key) ? len : sizeof(x->key));
		snprintf(to, cap, "%s for '%s%s' is too large (max size allowed: %" PRIu64 ")",
		    text, key, cut ? "..." : "", most);
	} else {
		snprintf(to, cap, "%s (max size allowed: %" PRIu64 ")", text, most);
	}
}

size_t
http1_refuse(struct http1_scan *x, enum http1_why why, size_t ahead, const char *piece, size_t len)
{
	struct http1_fault *f = &x->fault;
	char text[144], shown[160] = "";

	x->state = H1_REFUSED;
	f->at = x->at + ahead;
	f->status = reasons[why].status;
	f->code = reasons[why].code ? reasons[why].code : "InvalidInput";
	f->class = f->status == 413			  ? HTTP1_PAYLOAD
		   : f->status == 414 || f->status == 431 ? HTTP1_HEADERS
							  : HTTP1_PARSING;
	if (piece) {
		escape(text, sizeof(text), piece, len);
		snprintf(shown, sizeof(shown), " ('%s')", text);
	}
	if (why >= WHY_LINE_MAX)
		say_limit(x, why, f->text, sizeof(f->text));
	else if (f->status == 400)
		snprintf(f->text, sizeof(f->text),
		    "Unable to parse data as a HTTP %s: %s%s at byte %" PRIu64,
		    x->role == HTTP1_REQUEST ? "request" : "response", reasons[why].text, shown,
		    f->at);
	else
		snprintf(f->text, sizeof(f->text), "%s%s", reasons[why].text, shown);
	if (x->role == HTTP1_RESPONSE && why != WHY_MEMORY) {
		f->status = 502;
		f->code = "BadGateway";
	}
	return ahead;
}

size_t
http1_stray(struct http1_scan *x, const char *s, size_t i, enum http1_why why)
{
	if (s[i] == '\n')
		return http1_refuse(x, WHY_BARE_LF, i, NULL, 0);
	return http1_refuse(x, why, i, s + i, 1);
}

void
http1_refuse_at(struct http1_scan *x, enum http1_why why, struct http1_text piece)
{
	uint64_t read = x->at;

	x->at = x->from + (uint64_t)(piece.at - x->buf);
	http1_refuse(x, why, 0, piece.at, piece.len);
	x->at = read;
}

/* clang-format off */
#define N H1_TOKEN | H1_VISIBLE
#define T H1_TOKEN | H1_VISIBLE | H1_TARGETS
#define H T | H1_HOST
#define V H1_VISIBLE | H1_TARGETS
#define S V | H1_HOST
#define D H | H1_DIGIT | H1_HEX
#define X H | H1_HEX
#define O H1_VISIBLE
#define O16 O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O
#define B H1_BLANK

const uint8_t http1_alphabet[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, B, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	/*    !  "  #               $  %  &  '  (  )  *  +  ,  -  .  / */
	B, H, V, N, H, H, H, H, S, S, H, H, V, H, H, V,
	/* 0 to 9 :  ;  <  =  >  ? */
	D, D, D, D, D, D, D, D, D, D, V, S, V, S, V, V,
	/* @ */
	V, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
	/*                               [  \  ]  ^  _ */
	H, H, H, H, H, H, H, H, H, H, H, V, V, V, T, H,
	/* ` */
	T, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
	/*                               {  |  }  ~  DEL */
	H, H, H, H, H, H, H, H, H, H, H, V, T, V, H, 0,
	O16, O16, O16, O16, O16, O16, O16, O16,
};
/* clang-format on */

size_t
http1_run(const char *s, size_t len, unsigned alphabet)
{
	size_t i = 0;

	while (i < len && http1_alphabet[(unsigned char)s[i]] & alphabet)
		i++;
	return i;
}
