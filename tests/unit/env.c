/* env: what may travel, what is bounded, what a COMMAND sees. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "check.h"

static char *
long_value(size_t len)
{
	char *value = malloc(len + 1);

	memset(value, 'x', len);
	value[len] = '\0';
	return value;
}

static unsigned
count(const struct env *e)
{
	unsigned n = 0;

	for (const char *p = env_next(e, NULL); p; p = env_next(e, p))
		n++;
	return n;
}

CASE(a_name_is_set_replaced_and_unset)
{
	struct env e = { 0 };
	const char *p;

	CHECK(!env_get(&e, "PROTO"));
	CHECK(!env_next(&e, NULL));
	CHECK_INT(env_set(&e, "PROTO", "TCP"), 0);
	CHECK_INT(env_set(&e, "TCPREMOTEIP", "127.0.0.1"), 0);
	CHECK_INT(env_setf(&e, "TCPREMOTEPORT", "%d", 8443), 0);
	CHECK_INT(env_set(&e, "TCPREMOTEIP", "::1"), 0);
	CHECK_STR(env_get(&e, "PROTO"), "TCP");
	CHECK_STR(env_get(&e, "TCPREMOTEIP"), "::1");
	CHECK(!env_get(&e, "TCPREMOTE"));
	CHECK_INT(count(&e), 3);
	p = env_next(&e, NULL);
	CHECK_STR(p, "PROTO=TCP");
	p = env_next(&e, p);
	CHECK_STR(p, "TCPREMOTEPORT=8443");
	env_unset(&e, "PROTO");
	env_unset(&e, "PROTO");
	CHECK(!env_get(&e, "PROTO"));
	CHECK_INT(count(&e), 2);
	env_free(&e);
	CHECK(!e.block && !e.len);
}

CASE(only_facts_about_a_connection_may_travel)
{
	static const char *const may[] = { "PROTO", "PROTO=TCP", "TCPLOCALIP=::", "SSL_PROTOCOL",
		"SSL_CERT_FILES=x", "SSL_CLIENT_CERT=x", "CCF_CONN_ID=rpc#1", NULL };
	static const char *const may_not[] = { "PROTOX=1", "PROT", "LD_PRELOAD=x", "PATH", "ssl_x",
		"SSL", "CCF", "SSLKEYLOGFILE=x", "SSL_CERT_FILE=x", "SSL_CERT_DIR", "", "=", NULL };
	struct env e = { 0 };

	for (const char *const *p = may; *p; p++)
		CHECK(env_may_travel(*p));
	for (const char *const *p = may_not; *p; p++)
		CHECK(!env_may_travel(*p));
	CHECK_INT(env_set(&e, "LD_PRELOAD", "x"), -EPERM);
	CHECK_INT(env_set(&e, "", "x"), -EINVAL);
	CHECK_INT(env_set(&e, "CCF_A=B", "x"), -EINVAL);
	CHECK_INT(env_add_pair(&e, "CCF_A"), -EINVAL);
	CHECK_INT(env_add_pair(&e, "=x"), -EINVAL);
	CHECK_INT(env_add_pair(&e, "CCF_A=b=c"), 0);
	CHECK_STR(env_get(&e, "CCF_A"), "b=c");
	CHECK_INT(count(&e), 1);
	env_free(&e);
}

CASE(a_prefix_is_unset)
{
	struct env e = { 0 };

	env_unset_prefix(&e, "SSL_");
	env_set(&e, "SSL_A", "1");
	env_set(&e, "SSL_B", "2");
	env_set(&e, "CCF_A", "3");
	env_set(&e, "SSL_C", "4");
	env_unset_prefix(&e, "SSL_");
	CHECK_INT(count(&e), 1);
	CHECK_STR(env_get(&e, "CCF_A"), "3");
	env_unset_prefix(&e, "");
	CHECK_INT(e.len, 0);
	env_free(&e);
}

CASE(a_value_that_is_too_long_is_left_out_and_named)
{
	struct env e = { 0 };
	char *most = long_value(ENV_VALUE_MAX), *more = long_value(ENV_VALUE_MAX + 1);

	CHECK_INT(env_set(&e, "CCF_A", most), 0);
	CHECK(!env_get(&e, "CCF_OMITTED"));
	CHECK_INT(env_set(&e, "CCF_A", more), 0);
	CHECK(!env_get(&e, "CCF_A"));
	CHECK_INT(env_set(&e, "SSL_B", more), 0);
	CHECK_INT(env_set(&e, "SSL_B", more), 0);
	CHECK_STR(env_get(&e, "CCF_OMITTED"), "CCF_A SSL_B");
	CHECK_INT(env_set(&e, "SSL_B", "short"), 0);
	CHECK_STR(env_get(&e, "SSL_B"), "short");
	CHECK_STR(env_get(&e, "CCF_OMITTED"), "CCF_A");
	CHECK_INT(env_set(&e, "CCF_A", "short"), 0);
	CHECK(!env_get(&e, "CCF_OMITTED"));
	free(most);
	free(more);
	env_free(&e);
}

CASE(certificates_are_bounded_together)
{
	struct env e = { 0 };
	char *half = long_value(ENV_CERT_MAX / 2), *one = long_value(1);

	CHECK_INT(env_set(&e, "SSL_CLIENT_CERT", half), 0);
	CHECK_INT(env_set(&e, "SSL_CLIENT_CERT_CHAIN_0", half), 0);
	CHECK_INT(env_set(&e, "SSL_CLIENT_CERT", half), 0);
	CHECK(!env_get(&e, "CCF_OMITTED"));
	CHECK_INT(env_set(&e, "SSL_CLIENT_CERT_CHAIN_1", one), 0);
	CHECK(!env_get(&e, "SSL_CLIENT_CERT_CHAIN_1"));
	CHECK_STR(env_get(&e, "CCF_OMITTED"), "SSL_CLIENT_CERT_CHAIN_1");
	free(half);
	free(one);
	env_free(&e);
}

CASE(the_block_never_exceeds_its_bound)
{
	struct env e = { 0 };
	char *value = long_value(ENV_VALUE_MAX), name[32];

	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "CCF_%d", i);
		CHECK_INT(env_set(&e, name, i % 3 ? value : "small"), 0);
		CHECK(e.len <= ENV_TOTAL_MAX);
	}
	CHECK_STR(env_get(&e, "CCF_0"), "small");
	CHECK(strncmp(env_get(&e, "CCF_OMITTED"), "CCF_", 4) == 0);
	free(value);
	env_free(&e);
}

CASE(there_are_never_more_names_than_its_bound)
{
	struct env e = { 0 };
	char name[32];

	for (int i = 0; i < 2 * ENV_NAMES_MAX; i++) {
		snprintf(name, sizeof(name), "CCF_%d", i);
		CHECK_INT(env_set(&e, name, ""), 0);
		CHECK(count(&e) <= ENV_NAMES_MAX);
	}
	CHECK_INT(count(&e), ENV_NAMES_MAX);
	CHECK(strncmp(env_get(&e, "CCF_OMITTED"), "CCF_255 CCF_256 ", 16) == 0);
	CHECK_INT(env_set(&e, "CCF_7", "new"), 0); /* who is there may change */
	CHECK_STR(env_get(&e, "CCF_7"), "new");
	env_free(&e);
}

CASE(an_env_may_be_fed_from_itself)
{
	struct env e = { 0 };
	char *value = long_value(500);

	env_set(&e, "CCF_A", "first");
	CHECK_INT(env_set(&e, "CCF_A", value), 0); /* grows the block */
	CHECK_INT(env_set(&e, "CCF_B", env_get(&e, "CCF_A")), 0);
	CHECK_STR(env_get(&e, "CCF_B"), value);
	CHECK_INT(env_set(&e, "CCF_A", env_get(&e, "CCF_A")), 0);
	CHECK_STR(env_get(&e, "CCF_A"), value);
	CHECK_INT(env_set(&e, "CCF_OMITTED", "SSL_X CCF_A"), 0);
	CHECK_INT(env_add_pair(&e, env_next(&e, NULL)), 0);
	CHECK_INT(count(&e), 3);
	free(value);
	env_free(&e);
}

CASE(a_copy_is_equal_and_independent)
{
	struct env a = { 0 }, b = { 0 };

	env_set(&b, "CCF_OLD", "x");
	CHECK_INT(env_copy(&b, &a), 0);
	CHECK_INT(b.len, 0);
	env_set(&a, "PROTO", "TCP");
	CHECK_INT(env_copy(&b, &a), 0);
	env_set(&a, "PROTO", "UNIX");
	CHECK_STR(env_get(&b, "PROTO"), "TCP");
	CHECK_INT(count(&b), 1);
	env_free(&a);
	env_free(&b);
}

CASE(the_process_is_taken_from_scrubbed_and_given_to)
{
	static char planted[] = "SSL_CLIENT_VERIFY=SUCCESS", twice[] = "PROTO=TCP",
		    again[] = "PROTO=UDP", path[] = "PATH=/bin", ca[] = "SSL_CERT_FILE=/ca",
		    keylog[] = "SSLKEYLOGFILE=/k", bare[] = "CCF_BARE";
	static char *mine[] = { planted, twice, path, again, ca, keylog, bare, NULL };
	char **saved = environ, **both;
	struct env e = { 0 };

	environ = mine;
	CHECK_INT(env_take_process(&e), 0);
	CHECK_INT(count(&e), 2);
	CHECK_STR(env_get(&e, "SSL_CLIENT_VERIFY"), "SUCCESS");
	env_unset(&e, "SSL_CLIENT_VERIFY");
	env_set(&e, "PROTO", "TCP6");
	both = env_exec(&e, environ);
	CHECK(both != NULL);
	CHECK_STR(both[0], "PATH=/bin");
	CHECK_STR(both[1], "SSL_CERT_FILE=/ca");
	CHECK_STR(both[2], "SSLKEYLOGFILE=/k");
	CHECK_STR(both[3], "PROTO=TCP6");
	CHECK(!both[4]);
	free(both);
	env_scrub_process();
	CHECK(!getenv("PROTO") && !getenv("SSL_CLIENT_VERIFY"));
	CHECK_STR(getenv("PATH"), "/bin");
	CHECK_STR(getenv("SSL_CERT_FILE"), "/ca");
	CHECK_STR(getenv("SSLKEYLOGFILE"), "/k");
	CHECK(!environ[3]);
	environ = saved;
	env_free(&e);
}

CASE(a_cgi_programs_variables_are_known_by_name)
{
	static const char *const is[] = { "REQUEST_METHOD", "CONTENT_LENGTH=1", "HTTPS",
		"REMOTE_PORT=1", "REQUEST_URI=/", "PATH_TRANSLATED", "HTTP_A", "HTTP_X_9=a",
		"HTTP_PROXY_=x", "HTTP_PROXYX", NULL };
	static const char *const is_not[] = { "LD_PRELOAD=x", "PATH", "PATH_INF", "PATH_INFOS",
		"HTTP_", "HTTP_=x", "HTTP_PROXY", "HTTP_PROXY=x", "HTTP_a", "HTTP_X-Y",
		"HTTP_A B=x", "HTTPSX", "http_proxy", "", "=", "PROTO", NULL };
	struct env e = { .cgi = true };

	for (const char *const *p = is; *p; p++)
		CHECK(env_is_cgi(*p));
	for (const char *const *p = is_not; *p; p++)
		CHECK(!env_is_cgi(*p));
	CHECK_INT(env_set(&e, "HTTP_A", "1"), 0);
	CHECK_INT(env_set(&e, "CCF_A", "1"), 0);
	CHECK_INT(env_set(&e, "HTTP_PROXY", "evil"), -EPERM);
	CHECK_INT(env_set(&e, "LD_PRELOAD", "evil"), -EPERM);
	CHECK_INT(count(&e), 2);
	env_free(&e);
	CHECK_INT(env_set(&e, "HTTP_A", "1"), -EPERM);
}

CASE(nothing_of_a_cgi_programs_is_left_out)
{
	struct env e = { .cgi = true };
	char *most = long_value(ENV_CGI_VALUE_MAX), *more = long_value(ENV_CGI_VALUE_MAX + 1);
	char name[32];
	int rc = 0;

	CHECK_INT(env_set(&e, "HTTP_A", more), -E2BIG);
	CHECK_INT(e.len, 0);
	CHECK_INT(env_set(&e, "HTTP_A", most), 0);
	CHECK_INT(env_set(&e, "HTTP_A", more), -E2BIG);
	CHECK_STR(env_get(&e, "HTTP_A"), most);
	for (int i = 0; i < 5 && rc == 0; i++) {
		snprintf(name, sizeof(name), "HTTP_B%d", i);
		rc = env_set(&e, name, most);
	}
	CHECK_INT(rc, -E2BIG);
	CHECK(!env_get(&e, "CCF_OMITTED"));
	env_free(&e);
	e.cgi = true;
	for (rc = 0; rc == 0;) {
		snprintf(name, sizeof(name), "HTTP_B%u", count(&e));
		rc = env_set(&e, name, "");
	}
	CHECK_INT(rc, -E2BIG);
	CHECK_INT(count(&e), ENV_CGI_NAMES_MAX - 1);
	env_free(&e);
	free(most);
	free(more);
}

CASE(a_cgi_program_sees_no_request_of_the_process)
{
	static char path[] = "PATH=/bin", proxy[] = "HTTP_PROXY=evil", lower[] = "http_proxy=mine",
		    user[] = "REMOTE_USER=root", odd[] = "HTTP_a=1",
		    empty[] = "HTTP_=", proto[] = "PROTO=TCP", pwd[] = "PATH_INF=1";
	static char *mine[] = { path, proxy, lower, user, odd, empty, proto, pwd, NULL };
	struct env e = { .cgi = true };
	char **both;

	env_set(&e, "REQUEST_METHOD", "GET");
	both = env_exec(&e, mine);
	CHECK(both != NULL);
	CHECK_STR(both[0], "PATH=/bin");
	CHECK_STR(both[1], "http_proxy=mine");
	CHECK_STR(both[2], "PATH_INF=1");
	CHECK_STR(both[3], "REQUEST_METHOD=GET");
	CHECK(!both[4]);
	free(both);
	env_free(&e);
	both = env_exec(&e, mine);
	CHECK_STR(both[1], "HTTP_PROXY=evil");
	CHECK_STR(both[6], "PATH_INF=1");
	CHECK(!both[7]);
	free(both);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_name_is_set_replaced_and_unset),
	    RUN(only_facts_about_a_connection_may_travel),
	    RUN(a_prefix_is_unset),
	    RUN(a_value_that_is_too_long_is_left_out_and_named),
	    RUN(certificates_are_bounded_together),
	    RUN(the_block_never_exceeds_its_bound),
	    RUN(there_are_never_more_names_than_its_bound),
	    RUN(an_env_may_be_fed_from_itself),
	    RUN(a_copy_is_equal_and_independent),
	    RUN(the_process_is_taken_from_scrubbed_and_given_to),
	    RUN(a_cgi_programs_variables_are_known_by_name),
	    RUN(nothing_of_a_cgi_programs_is_left_out),
	    RUN(a_cgi_program_sees_no_request_of_the_process),
	    { 0 },
	});
}
