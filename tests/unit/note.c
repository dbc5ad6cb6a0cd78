/* The messages of a link: what is printed is read back, and what is malformed is said to be. */
#include "wire/note.h"

#include <errno.h>
#include <stdlib.h>

#include "base/env.h"
#include "check.h"

#define PARSE(note, literal)	 note_parse(note, literal, sizeof(literal))
#define PARSE_TICKET(t, literal) ticket_parse(t, literal, sizeof(literal) - 1)
#define TOKEN			 "0123456789abcdef0123456789abcdef"

static bool
malformed(const char *bytes, size_t len, const char *fault)
{
	struct note note = { .id = 77 };
	int r = note_parse(&note, bytes, len);

	if (r == -EBADMSG && !strcmp(note_fault(), fault) && note.id == 77)
		return true;
	printf("# %d, \"%s\"\n", r, note_fault());
	return false;
}
#define MALFORMED(literal, fault) CHECK(malformed(literal, sizeof(literal), fault))

CASE(a_hello_is_read_with_every_field)
{
	struct note n;

	CHECK_INT(PARSE(&n, "hello\0version=1\0tool=ccf-tlsterm\0role=consumer\0modes=take,"
			    "give\0links=4\0token=" TOKEN),
	    0);
	CHECK_INT(n.verb, NOTE_HELLO);
	CHECK_INT(n.version, 1);
	CHECK_STR(n.tool, "ccf-tlsterm");
	CHECK_INT(n.role, NOTE_CONSUMER);
	CHECK_INT(n.modes, NOTE_TAKE | NOTE_GIVE);
	CHECK_INT(n.links, 4);
	CHECK_STR(n.token, TOKEN);
}

CASE(what_a_hello_leaves_out_has_a_default)
{
	struct note n;

	CHECK_INT(PARSE(&n, "hello\0role=producer\0tool=x\0version=2"), 0);
	CHECK_INT(n.modes, NOTE_TAKE);
	CHECK_INT(n.links, 0);
	CHECK_STR(n.token, "");
	CHECK_INT(n.version, 2);
	CHECK_INT(PARSE(&n, "hello\0role=producer\0tool=x\0version=1\0modes=teleport,give"), 0);
	CHECK_INT(n.modes, NOTE_GIVE);
	CHECK_INT(PARSE(&n, "hello\0role=producer\0tool=x\0version=1\0modes="), 0);
	CHECK_INT(n.modes, 0);
}

CASE(a_conn_carries_its_environment)
{
	static const char packet[] = "conn\0id=18446744073709551615\0PROTO=TCP\0LD_PRELOAD=/"
				     "x.so\0_=x\0CCF_CONN_ID=rpc#1\0SSL_A=";
	struct note n;
	struct env env = { 0 };

	CHECK_INT(PARSE(&n, packet), 0);
	CHECK(n.id == UINT64_MAX);
	CHECK(n.env > packet && n.env + n.env_len == packet + sizeof(packet));
	CHECK_INT(note_env(&n, &env), 0);
	CHECK_STR(env_get(&env, "PROTO"), "TCP");
	CHECK_STR(env_get(&env, "CCF_CONN_ID"), "rpc#1");
	CHECK_STR(env_get(&env, "SSL_A"), "");
	CHECK(env_get(&env, "LD_PRELOAD") == NULL);
	CHECK(env_get(&env, "_") == NULL);
	env_free(&env);
	CHECK_INT(PARSE(&n, "conn\0id=1"), 0);
	CHECK(n.env == NULL);
	CHECK_INT(note_env(&n, &env), 0);
	CHECK_INT(env.len, 0);
}

CASE(a_cgi_programs_environment_has_its_names_besides)
{
	static const char packet[] = "conn\0id=1\0PROTO=TCP\0LD_PRELOAD=/x.so\0HTTP_PROXY=x\0"
				     "HTTP_A=1\0REQUEST_METHOD=GET\0BASH_ENV=x";
	struct note n;
	struct env env = { 0 };

	CHECK_INT(PARSE(&n, packet), 0);
	CHECK_INT(note_env(&n, &env), 0);
	CHECK_INT(env.len, sizeof("PROTO=TCP"));
	env_free(&env);
	env.cgi = true;
	CHECK_INT(note_env(&n, &env), 0);
	CHECK_INT(env.len, sizeof("PROTO=TCP HTTP_A=1 REQUEST_METHOD=GET"));
	CHECK_STR(env_get(&env, "HTTP_A"), "1");
	CHECK(!env_get(&env, "HTTP_PROXY") && !env_get(&env, "LD_PRELOAD"));
	env_free(&env);
}

CASE(the_other_verbs_are_read)
{
	struct note n;

	CHECK_INT(PARSE(&n, "ready\0n=32"), 0);
	CHECK_INT(n.n, 32);
	CHECK_INT(PARSE(&n, "adopt\0id=5\0ready=3"), 0);
	CHECK_INT(n.verb, NOTE_ADOPT);
	CHECK_INT(n.n, 3);
	CHECK_INT(PARSE(&n, "eof\0id=5"), 0);
	CHECK_INT(n.id, 5);
	CHECK_INT(n.n, 0);
	CHECK_INT(PARSE(&n, "closed\0id=9\0reason=no-sink\0status=69\0in=10\0out=20\0ready=1"), 0);
	CHECK_STR(n.reason, "no-sink");
	CHECK_INT(n.status, 69);
	CHECK_INT(n.in, 10);
	CHECK_INT(n.out, 20);
	CHECK_INT(n.n, 1);
	CHECK_INT(PARSE(&n, "closed\0id=9\0reason=done"), 0);
	CHECK_INT(n.status, -1);
	CHECK_INT(PARSE(&n, "drain"), 0);
	CHECK_INT(n.verb, NOTE_DRAIN);
}

CASE(what_a_later_version_may_add_is_ignored)
{
	struct note n;

	CHECK_INT(PARSE(&n, "upgrade\0to=7\0to=8\0CCF_X=1"), 0);
	CHECK_INT(n.verb, NOTE_UNKNOWN);
	CHECK_INT(PARSE(&n, "eof\0colour=red\0id=5\0colour=blue\0n=x\0CCF_X=1"), 0);
	CHECK_INT(n.id, 5);
	CHECK(n.env == NULL);
}

CASE(what_is_malformed_is_refused_and_named)
{
	CHECK(malformed("", 0, "empty"));
	CHECK(malformed("drain", 5, "the last string is not ended"));
	CHECK(malformed("eof\0id=1", 8, "the last string is not ended"));
	MALFORMED("", "the first string is not a verb");
	MALFORMED("Drain", "the first string is not a verb");
	MALFORMED("id=5", "the first string is not a verb");
	MALFORMED("eof\0\0id=5", "an empty string");
	MALFORMED("drain\0", "an empty string");
	MALFORMED("eof\0id", "a field without =");
	MALFORMED("conn\0id=1\0PROTO", "a field without =");
	MALFORMED("eof\0=5", "a field whose name does not begin with a letter");
	MALFORMED("conn\0PROTO=TCP\0id=5", "a field after the environment");
	MALFORMED("eof\0id=5\0id=5", "eof: id= is there twice");
	MALFORMED("eof", "eof: id= is missing");
	MALFORMED("ready", "ready: n= is missing");
	MALFORMED("hello\0version=1\0role=producer", "hello: tool= is missing");
	MALFORMED("closed\0id=1", "closed: reason= is missing");
}

CASE(a_value_that_is_none_is_refused)
{
	MALFORMED("eof\0id=", "eof: id= is not what it should be");
	MALFORMED("eof\0id=-1", "eof: id= is not what it should be");
	MALFORMED("eof\0id=1 ", "eof: id= is not what it should be");
	MALFORMED("eof\0id=18446744073709551616", "eof: id= is not what it should be");
	MALFORMED("ready\0n=4294967296", "ready: n= is not what it should be");
	MALFORMED("closed\0id=1\0reason=Two Words", "closed: reason= is not what it should be");
	MALFORMED("closed\0id=1\0reason=x\0status=256", "closed: status= is not what it should be");
	MALFORMED("hello\0version=0\0role=producer\0tool=x",
	    "hello: version= is not what it should be (we need 1)");
	MALFORMED("hello\0version=1\0role=king\0tool=x", "hello: role= is not what it should be");
	MALFORMED("hello\0version=1\0role=producer\0tool=a\x1b[1m",
	    "hello: tool= is not what it should be");
	MALFORMED("hello\0version=1\0role=producer\0tool=01234567890123456789012345678901",
	    "hello: tool= is not what it should be");
	MALFORMED("hello\0version=1\0role=producer\0tool=x\0token=0123",
	    "hello: token= is not what it should be");
}

CASE(a_packet_has_a_largest_size)
{
	char *packet = malloc(NOTE_MAX + 1);
	struct note n;

	memset(packet, 'x', NOTE_MAX + 1);
	memcpy(packet, "conn\0id=1\0PROTO=", 16);
	packet[NOTE_MAX - 1] = '\0';
	CHECK_INT(note_parse(&n, packet, NOTE_MAX), 0);
	packet[NOTE_MAX] = '\0';
	CHECK(malformed(packet, NOTE_MAX + 1, "longer than a packet may be"));
	free(packet);
}

/* Prints, reads back, prints again: the same bytes. */
static bool
survives(const struct note *n, const struct env *env)
{
	char one[4096], two[4096];
	struct note back;
	ssize_t a = note_print(n, env, one, sizeof(one)), b;

	if (a <= 0 || note_parse(&back, one, (size_t)a) < 0)
		return false;
	b = note_print(&back, env, two, sizeof(two));
	return a == b && !memcmp(one, two, (size_t)a) && back.verb == n->verb && back.id == n->id &&
	       back.n == n->n && back.in == n->in && back.out == n->out;
}

CASE(what_is_printed_is_read_back)
{
	struct env env = { 0 };

	env_set(&env, "PROTO", "TCP");
	env_set(&env, "CCF_INTERFACE", "rpc");
	CHECK(survives(&(struct note){ .verb = NOTE_HELLO,
			   .version = 1,
			   .role = NOTE_PRODUCER,
			   .modes = 3,
			   .links = 2,
			   .tool = "ccf-listen",
			   .token = TOKEN },
	    NULL));
	CHECK(survives(
	    &(struct note){ .verb = NOTE_HELLO, .version = 1, .role = NOTE_CONSUMER, .tool = "x" },
	    NULL));
	CHECK(survives(&(struct note){ .verb = NOTE_READY, .n = 0 }, NULL));
	CHECK(survives(&(struct note){ .verb = NOTE_CONN, .id = 3 }, &env));
	CHECK(survives(&(struct note){ .verb = NOTE_ADOPT, .id = 3, .n = 16 }, NULL));
	CHECK(survives(&(struct note){ .verb = NOTE_EOF, .id = UINT64_MAX }, NULL));
	CHECK(survives(&(struct note){ .verb = NOTE_CLOSED,
			   .id = 3,
			   .reason = "client-gone",
			   .status = 18,
			   .in = 5,
			   .out = 6,
			   .n = 1 },
	    NULL));
	CHECK(survives(&(struct note){ .verb = NOTE_DRAIN }, NULL));
	env_free(&env);
}

CASE(a_conn_is_printed_as_the_page_shows_it)
{
	static const char want[] = "conn\0id=7\0PROTO=TCP\0CCF_CONN_ID=rpc#7";
	struct env env = { 0 };
	char out[128];

	env_set(&env, "PROTO", "TCP");
	env_set(&env, "CCF_CONN_ID", "rpc#7");
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_CONN, .id = 7 }, &env, out, sizeof(out)),
	    sizeof(want));
	CHECK(!memcmp(out, want, sizeof(want)));
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_CONN, .id = 7 }, &env, out, sizeof(want)),
	    sizeof(want));
	CHECK_INT(
	    note_print(&(struct note){ .verb = NOTE_CONN, .id = 7 }, &env, out, sizeof(want) - 1),
	    -EMSGSIZE);
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_DRAIN }, &env, out, sizeof(out)), 6);
	env_free(&env);
}

CASE(what_the_other_side_would_refuse_is_not_printed)
{
	char out[256];

	CHECK_INT(
	    note_print(&(struct note){ .verb = NOTE_UNKNOWN }, NULL, out, sizeof(out)), -EINVAL);
	CHECK_INT(
	    note_print(&(struct note){ .verb = NOTE_CLOSED }, NULL, out, sizeof(out)), -EINVAL);
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_CLOSED, .reason = "a b" }, NULL, out,
		      sizeof(out)),
	    -EINVAL);
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_CLOSED, .reason = "a", .status = 300 },
		      NULL, out, sizeof(out)),
	    -EINVAL);
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_HELLO, .version = 1, .role = 1 }, NULL,
		      out, sizeof(out)),
	    -EINVAL);
	CHECK_INT(note_print(&(struct note){ .verb = NOTE_HELLO, .version = 1, .tool = "x" }, NULL,
		      out, sizeof(out)),
	    -EINVAL);
}

CASE(every_verb_has_its_name)
{
	CHECK_STR(note_verb_name(NOTE_HELLO), "hello");
	CHECK_STR(note_verb_name(NOTE_DRAIN), "drain");
	CHECK_STR(note_verb_name((enum note_verb)99), "unknown");
}

CASE(a_ticket_is_one_line)
{
	static const char line[] = "ccf-handoff 1 " TOKEN " /tmp/ccf-a b/link\n";
	struct ticket t, back;
	char out[TICKET_MAX];

	CHECK_INT(ticket_parse(&t, line, sizeof(line) - 1), sizeof(line) - 1);
	CHECK_STR(t.token, TOKEN);
	CHECK_STR(t.path, "/tmp/ccf-a b/link");
	CHECK_INT(ticket_print(&t, out, sizeof(out)), sizeof(line) - 1);
	CHECK_STR(out, line);
	CHECK_INT(ticket_print(&t, out, sizeof(line) - 1), -EMSGSIZE);
	CHECK_INT(PARSE_TICKET(&back, "ccf-handoff 1 " TOKEN " /p\nmore"), 50);
	CHECK_STR(back.path, "/p");
}

CASE(a_ticket_that_is_still_coming_is_waited_for)
{
	static const char line[] = "ccf-handoff 1 " TOKEN " /tmp/x/link\n";
	struct ticket t;

	for (size_t n = 0; n < sizeof(line) - 1; n++)
		CHECK_INT(ticket_parse(&t, line, n), -EAGAIN);
}

CASE(what_is_no_ticket_is_known_at_once)
{
	struct ticket t;
	char longer[TICKET_MAX + 1];

	CHECK_INT(PARSE_TICKET(&t, "G"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "\n"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff one"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 1x"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 2"), -EAGAIN);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 2\n"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 2 "), -EPROTONOSUPPORT);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 12 "), -EPROTONOSUPPORT);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 1 0123 /tmp/x\n"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 1 " TOKEN " \n"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 1 " TOKEN " relative\n"), -EBADMSG);
	CHECK_INT(PARSE_TICKET(&t, "ccf-handoff 1 " TOKEN " /a\tb\n"), -EBADMSG);
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "ccf-handoff 1 " TOKEN " /", 48);
	CHECK_INT(ticket_parse(&t, longer, sizeof(longer)), -EBADMSG);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_hello_is_read_with_every_field),
	    RUN(what_a_hello_leaves_out_has_a_default),
	    RUN(a_conn_carries_its_environment),
	    RUN(a_cgi_programs_environment_has_its_names_besides),
	    RUN(the_other_verbs_are_read),
	    RUN(what_a_later_version_may_add_is_ignored),
	    RUN(what_is_malformed_is_refused_and_named),
	    RUN(a_value_that_is_none_is_refused),
	    RUN(a_packet_has_a_largest_size),
	    RUN(what_is_printed_is_read_back),
	    RUN(a_conn_is_printed_as_the_page_shows_it),
	    RUN(what_the_other_side_would_refuse_is_not_printed),
	    RUN(every_verb_has_its_name),
	    RUN(a_ticket_is_one_line),
	    RUN(a_ticket_that_is_still_coming_is_waited_for),
	    RUN(what_is_no_ticket_is_known_at_once),
	    { 0 },
	});
}
