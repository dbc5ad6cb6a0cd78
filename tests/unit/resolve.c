#include "net/resolve.h"

#include <netdb.h>
#include <poll.h>
#include <stdlib.h>

#include "check.h"

/* Names here are in every hosts file, or fail before anybody is asked: no test needs a name server.
 */
static struct addr
address(const char *text)
{
	struct addr a = { 0 };
	char msg[256];

	CHECK_INT(addr_parse(&a, text, ADDR_MAY_UDP, msg, sizeof(msg)), 0);
	return a;
}

struct asker {
	struct lookup lookup; /* first */
	unsigned calls;
	int error;
	size_t n;
	struct sockaddr_any first;
	struct lookup *cancels; /* when answered */
	struct resolver *resolver;
	struct addr *asks_again;
};

static void
answered(struct lookup *l, const struct answer *a)
{
	struct asker *k = (struct asker *)l;

	k->calls++;
	k->error = a->error;
	k->n = a->n;
	if (a->n)
		k->first = a->at[0];
	if (k->cancels)
		resolver_cancel(k->resolver, k->cancels);
	if (k->asks_again) {
		struct addr *again = k->asks_again;

		k->asks_again = NULL;
		CHECK_INT(resolver_ask(k->resolver, l, again, AF_INET, false, answered), 0);
	}
}

static void
collect(struct resolver *r)
{
	struct pollfd p = { .fd = resolver_fd(r), .events = POLLIN };

	CHECK_INT(poll(&p, 1, 20000), 1);
	resolver_collect(r);
}

static struct resolver *
resolver(void)
{
	struct resolver *r = NULL;

	CHECK_INT(resolver_new(&r), 0);
	return r;
}

CASE(a_name_is_answered_off_the_loop)
{
	struct resolver *r = resolver();
	struct addr a = address("localhost:80");
	struct asker k = { 0 };
	struct pollfd p = { .fd = resolver_fd(r), .events = POLLIN };
	char buf[ADDR_TEXT_MAX];

	CHECK_INT(resolver_ask(r, &k.lookup, &a, AF_INET, false, answered), 0);
	CHECK_INT(k.calls, 0);
	collect(r);
	CHECK_INT(k.calls, 1);
	CHECK_INT(k.error, 0);
	CHECK_INT(k.n, 1);
	CHECK_STR(addr_text(&k.first, buf, sizeof(buf)), "127.0.0.1:80");
	CHECK(k.lookup.asked == NULL);
	CHECK_INT(poll(&p, 1, 0), 0);
	resolver_free(r);
}

CASE(a_failure_is_an_answer)
{
	struct resolver *r = resolver();
	struct addr a = address("localhost:no-such-service");
	struct asker k = { 0 };

	CHECK_INT(resolver_ask(r, &k.lookup, &a, AF_INET, false, answered), 0);
	collect(r);
	CHECK_INT(k.calls, 1);
	CHECK_INT(k.error, EAI_SERVICE);
	CHECK_INT(k.n, 0);
	resolver_free(r);
}

CASE(one_question_is_asked_once)
{
	struct resolver *r = resolver();
	struct addr a = address("localhost:80"), b = address("localhost:81");
	struct asker k[5] = { 0 };

	CHECK_INT(resolver_ask(r, &k[0].lookup, &a, AF_INET, false, answered), 0);
	CHECK_INT(resolver_ask(r, &k[1].lookup, &a, AF_INET, false, answered), 0);
	CHECK_INT(resolver_ask(r, &k[2].lookup, &b, AF_INET, false, answered), 0);
	CHECK_INT(resolver_ask(r, &k[3].lookup, &a, AF_INET, true, answered), 0);
	CHECK_INT(resolver_ask(r, &k[4].lookup, &a, AF_UNSPEC, false, answered), 0);
	CHECK(k[0].lookup.asked == k[1].lookup.asked);
	for (int i = 2; i < 5; i++)
		for (int j = 0; j < i; j++)
			CHECK(k[i].lookup.asked != k[j].lookup.asked);
	while (!k[0].calls || !k[2].calls || !k[3].calls || !k[4].calls)
		collect(r);
	CHECK_INT(k[0].calls, 1);
	CHECK_INT(k[1].calls, 1);
	resolver_free(r);
}

CASE(who_cancels_is_not_told)
{
	struct resolver *r = resolver();
	struct addr a = address("localhost:80");
	struct asker k[4] = { 0 };

	for (int i = 0; i < 4; i++) {
		k[i].resolver = r;
		CHECK_INT(resolver_ask(r, &k[i].lookup, &a, AF_INET, false, answered), 0);
	}
	resolver_cancel(r, &k[1].lookup);
	resolver_cancel(r, &k[1].lookup);
	k[0].cancels = &k[2].lookup; /* while the answers are given */
	collect(r);
	CHECK_INT(k[0].calls, 1);
	CHECK_INT(k[1].calls, 0);
	CHECK_INT(k[2].calls, 0);
	CHECK_INT(k[3].calls, 1);
	resolver_free(r);
}

CASE(an_answer_may_ask_again)
{
	struct resolver *r = resolver();
	struct addr a = address("localhost:80");
	struct asker k = { .resolver = r, .asks_again = &a };

	CHECK_INT(resolver_ask(r, &k.lookup, &a, AF_INET, false, answered), 0);
	collect(r);
	CHECK_INT(k.calls, 1);
	CHECK(k.lookup.asked != NULL);
	collect(r);
	CHECK_INT(k.calls, 2);
	resolver_free(r);
}

CASE(freeing_while_threads_run_is_harmless)
{
	struct addr a = address("localhost:80"), b = address("localhost:81");
	struct asker k[2] = { 0 };

	for (int i = 0; i < 50; i++) {
		struct resolver *r = resolver();

		CHECK_INT(resolver_ask(r, &k[0].lookup, &a, AF_INET, false, answered), 0);
		CHECK_INT(resolver_ask(r, &k[1].lookup, &b, AF_INET, false, answered), 0);
		resolver_free(r);
		CHECK(k[0].lookup.asked == NULL);
	}
	CHECK_INT(k[0].calls + k[1].calls, 0);
	resolver_free(NULL);
}

/* The addresses of an answer, joined by spaces. */
static const char *
now(const char *text, int family, bool passive)
{
	static char all[512];
	struct addr a = address(text);
	struct answer *answer = NULL;
	char buf[ADDR_TEXT_MAX];

	all[0] = '\0';
	CHECK_INT(resolve_now(&a, family, passive, &answer), 0);
	if (!answer || answer->error) {
		const char *why = answer ? gai_strerror(answer->error) : "none";

		free(answer);
		return why;
	}
	for (size_t i = 0; i < answer->n; i++) {
		addr_text(&answer->at[i], buf, sizeof(buf));
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? " " : "", buf);
	}
	free(answer);
	return all;
}

CASE(numbers_need_no_lookup)
{
	struct addr a = address("localhost:80");
	struct answer *none = NULL;

	CHECK_STR(now("192.0.2.1:80", AF_UNSPEC, false), "192.0.2.1:80");
	CHECK_STR(now("[::1]:80", AF_INET6, false), "[::1]:80");
	CHECK_STR(now("[::1]:80", AF_INET, false), gai_strerror(EAI_ADDRFAMILY));
	CHECK_STR(now(":80", AF_UNSPEC, true), "[::]:80 0.0.0.0:80");
	CHECK_STR(now(":80", AF_INET, true), "0.0.0.0:80");
	CHECK_STR(now(":80", AF_INET6, true), "[::]:80");
	CHECK_STR(now(":80", AF_UNSPEC, false), "[::1]:80 127.0.0.1:80");
	CHECK_STR(now("unix:/run/x", AF_INET, false), "unix:/run/x");
	CHECK_INT(resolve_numeric(&a, AF_INET, false, &none), -22);
	CHECK(none == NULL);
}

CASE(names_are_looked_up_where_we_may_wait)
{
	CHECK_STR(now("localhost:80", AF_INET, false), "127.0.0.1:80");
	CHECK_STR(now("udp:localhost:80", AF_INET, false), "127.0.0.1:80");
	CHECK_STR(now("127.0.0.1:no-such-service", AF_INET, false), gai_strerror(EAI_SERVICE));
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_name_is_answered_off_the_loop),
	    RUN(a_failure_is_an_answer),
	    RUN(one_question_is_asked_once),
	    RUN(who_cancels_is_not_told),
	    RUN(an_answer_may_ask_again),
	    RUN(freeing_while_threads_run_is_harmless),
	    RUN(numbers_need_no_lookup),
	    RUN(names_are_looked_up_where_we_may_wait),
	    { 0 },
	});
}
