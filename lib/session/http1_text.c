/* session/http1_text - words and forms of HTTP/1 answers. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "session/http1_parts.h"

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{ 100, "Continue" },
	{ 101, "Switching Protocols" },
	{ 103, "Early Hints" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 203, "Non-Authoritative Information" },
	{ 204, "No Content" },
	{ 205, "Reset Content" },
	{ 206, "Partial Content" },
	{ 300, "Multiple Choices" },
	{ 301, "Moved Permanently" },
	{ 302, "Found" },
	{ 303, "See Other" },
	{ 304, "Not Modified" },
	{ 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 402, "Payment Required" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 406, "Not Acceptable" },
	{ 407, "Proxy Authentication Required" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 412, "Precondition Failed" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 416, "Range Not Satisfiable" },
	{ 417, "Expectation Failed" },
	{ 418, "I'm a teapot" },
	{ 421, "Misdirected Request" },
	{ 422, "Unprocessable Content" },
	{ 425, "Too Early" },
	{ 426, "Upgrade Required" },
	{ 428, "Precondition Required" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 451, "Unavailable For Legal Reasons" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
	{ 507, "Insufficient Storage" },
	{ 511, "Network Authentication Required" },
};

const char *
http1_reason(unsigned status)
{
	if (status == 200)
		return "OK";
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return "";
}

/* Made once a second.  strftime would speak the language of the environment. */
const char *
http1_date(void)
{
	static const char day[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char month[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec" };
	static char date[64];
	static time_t made;
	time_t now = time(NULL);
	struct tm tm;

	if (now != made && gmtime_r(&now, &tm)) {
		snprintf(date, sizeof(date), "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
		    day[tm.tm_wday], tm.tm_mday, month[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
		    tm.tm_min, tm.tm_sec);
		made = now;
	}
	return date;
}

/* Cut between two characters where it does not fit into cap - 1. */
static size_t
add_escaped(char *to, size_t at, size_t cap, const char *text)
{
	char unit[9];
	size_t len = strlen(text), n;

	while (len > 0) {
		n = text_escape(text, len, true, unit);
		if (at + strlen(unit) + 1 > cap)
			break;
		at += strlcpy(to + at, unit, cap - at);
		text += n;
		len -= n;
	}
	return at;
}

void
http1_error_json(char *to, size_t cap, const char *code, const char *text)
{
	static const char end[] = "\"}}";
	size_t at = strlcpy(to, "{\"error\":{\"code\":\"", cap);

	at = add_escaped(to, at, cap - 20, code);
	at += strlcpy(to + at, "\",\"message\":\"", cap - at);
	at = add_escaped(to, at, cap - strlen(end), text);
	memcpy(to + at, end, sizeof(end));
}

size_t
http1_capped(char *to, size_t cap, unsigned retry_after)
{
	char json[256];

	http1_error_json(json, sizeof(json), "SessionCapExhausted", HTTP1_CAPPED_TEXT);
	return (size_t)snprintf(to, cap,
	    "HTTP/1.1 503 Service Unavailable\r\n"
	    "Content-Type: application/json\r\n"
	    "Retry-After: %u\r\n"
	    "Content-Length: %zu\r\n"
	    "Connection: close\r\n"
	    "\r\n"
	    "%s",
	    retry_after, strlen(json), json);
}
