#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

#include "tls/says.h"

int
says(int err, char *msg, size_t cap, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, cap, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return err;
}

const char *
says_why(void)
{
	const char *why = ERR_reason_error_string(ERR_peek_error());

	return why ? why : "OpenSSL gives no reason";
}
