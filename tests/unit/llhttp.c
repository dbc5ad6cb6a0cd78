/* llhttp was found, built and linked: it parses a request. */
#include <llhttp.h>

#include "check.h"

static char url[64], field[64], value[64];
static int messages;

static int
on_url(llhttp_t *parser, const char *at, size_t len)
{
	(void)parser;
	strncat(url, at, len);
	return 0;
}

static int
on_field(llhttp_t *parser, const char *at, size_t len)
{
	(void)parser;
	strncat(field, at, len);
	return 0;
}

static int
on_value(llhttp_t *parser, const char *at, size_t len)
{
	(void)parser;
	strncat(value, at, len);
	return 0;
}

static int
on_complete(llhttp_t *parser)
{
	(void)parser;
	messages++;
	return 0;
}

CASE(a_get_is_parsed)
{
	static const char request[] = "GET /app/log?id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
	llhttp_settings_t settings;
	llhttp_t parser;

	llhttp_settings_init(&settings);
	settings.on_url = on_url;
	settings.on_header_field = on_field;
	settings.on_header_value = on_value;
	settings.on_message_complete = on_complete;
	llhttp_init(&parser, HTTP_REQUEST, &settings);
	CHECK_INT(llhttp_execute(&parser, request, sizeof(request) - 1), HPE_OK);
	CHECK_INT(messages, 1);
	CHECK_INT(parser.method, HTTP_GET);
	CHECK_INT(parser.http_major * 10 + parser.http_minor, 11);
	CHECK_INT(llhttp_should_keep_alive(&parser), 1);
	CHECK_STR(url, "/app/log?id=1");
	CHECK_STR(field, "Host");
	CHECK_STR(value, "localhost");
}

CASE(what_is_no_request_is_refused)
{
	llhttp_settings_t settings;
	llhttp_t parser;

	llhttp_settings_init(&settings);
	llhttp_init(&parser, HTTP_REQUEST, &settings);
	CHECK_INT(llhttp_execute(&parser, "\x16\x03\x01", 3), HPE_INVALID_METHOD);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_get_is_parsed),
	    RUN(what_is_no_request_is_refused),
	    { 0 },
	});
}
