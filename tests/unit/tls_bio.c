#include <sys/ioctl.h>

#include "tls_peer.h"

struct end { /* one connection's transport as the BIOs see it, and the other end of its socket */
	struct transport t;
	BIO *rd, *wr;
	int peer;
};

static void
end_open(struct end *e)
{
	int fd[2];

	unix_pair(fd);
	e->t = (struct transport){ .rfd = fd[0], .wfd = fd[0], .ready = TP_READ | TP_WRITE };
	e->rd = bio_reader(&e->t);
	e->wr = bio_writer(&e->t);
	e->peer = fd[1];
}

static void
end_close(struct end *e)
{
	BIO_free(e->rd);
	BIO_free(e->wr);
	close(e->t.rfd);
	if (e->peer >= 0)
		close(e->peer);
}

static int
arrived(const struct end *e)
{
	int n = -1;

	ioctl(e->peer, FIONREAD, &n);
	return n;
}

static size_t
drain(const struct end *e, unsigned char *buf, size_t cap)
{
	size_t n = 0;
	ssize_t r;

	while (n < cap && (r = read(e->peer, buf + n, cap - n)) > 0)
		n += (size_t)r;
	return n;
}

CASE(what_is_written_goes_out_once_at_the_flush)
{
	struct end e;
	char got[16] = "";

	end_open(&e);
	CHECK_INT(BIO_write(e.wr, "one ", 4), 4);
	CHECK_INT(BIO_write(e.wr, "two", 3), 3);
	CHECK_INT(arrived(&e), 0);
	CHECK_INT(bio_pending(e.wr), 7);
	CHECK_INT(bio_flush(e.wr), 0);
	CHECK_INT(bio_pending(e.wr), 0);
	CHECK_INT(bio_held(), 0);
	CHECK_INT(read(e.peer, got, sizeof(got)), 7);
	CHECK_STR(got, "one two");
	CHECK_INT(bio_flush(e.wr), 0);
	end_close(&e);
}

CASE(another_connection_makes_the_owner_of_the_shared_buffer_send)
{
	struct end a, b;
	char got[16] = "";

	end_open(&a);
	end_open(&b);
	BIO_write(a.wr, "aaa", 3);
	BIO_write(b.wr, "b", 1);
	CHECK_INT(arrived(&a), 3);
	CHECK_INT(arrived(&b), 0);
	CHECK_INT(bio_pending(a.wr), 0);
	/* the first cannot send now: its bytes are kept, in order */
	BIO_write(a.wr, "A", 1);
	CHECK_INT(arrived(&b), 1);
	a.t.ready = 0;
	BIO_write(b.wr, "B", 1);
	BIO_write(a.wr, "C", 1);
	CHECK_INT(bio_held(), 2);
	CHECK_INT(bio_flush(a.wr), -EAGAIN);
	CHECK_INT(arrived(&a), 3);
	a.t.ready = TP_WRITE;
	CHECK_INT(bio_flush(a.wr), 0);
	CHECK_INT(bio_flush(b.wr), 0);
	CHECK_INT(read(a.peer, got, sizeof(got)), 5);
	CHECK_STR(got, "aaaAC");
	CHECK_INT(arrived(&b), 2);
	CHECK_INT(bio_held(), 0);
	end_close(&a);
	end_close(&b);
}

CASE(a_freed_connection_leaves_nothing_behind_in_the_shared_buffers)
{
	struct end a, b;
	char got[8];

	end_open(&a);
	end_open(&b);
	BIO_write(a.wr, "gone", 4);
	CHECK_INT(write(a.peer, "also gone", 9), 9);
	CHECK_INT(BIO_read(a.rd, got, 4), 4);
	end_close(&a);
	BIO_write(b.wr, "b", 1);
	CHECK_INT(bio_flush(b.wr), 0);
	CHECK_INT(arrived(&b), 1);
	CHECK_INT(BIO_read(b.rd, got, sizeof(got)), -1);
	CHECK(BIO_should_retry(b.rd));
	CHECK_INT(bio_held(), 0);
	end_close(&b);
}

CASE(a_full_socket_makes_the_connection_keep_bounded_bytes)
{
	static unsigned char block[16384], got[4 << 20];
	struct end e;
	size_t put = 0, n = 0;
	int r;

	end_open(&e);
	fill_pattern(block, sizeof(block), 1);
	while ((r = BIO_write(e.wr, block, sizeof(block))) > 0)
		put += (size_t)r;
	CHECK_INT(r, -1);
	CHECK(BIO_should_write(e.wr));
	CHECK(bio_blocked(e.wr));
	CHECK(bio_held() <= BIO_KEEP_MAX);
	CHECK_INT(bio_pending(e.wr), bio_held());
	CHECK(bio_kept(e.wr) >= bio_pending(e.wr)); /* memory, not what is left in it */
	CHECK_INT(bio_flush(e.wr), -EAGAIN);
	while (bio_pending(e.wr) || arrived(&e)) {
		n += drain(&e, got + n, sizeof(got) - n);
		e.t.ready |= TP_WRITE;
		bio_flush(e.wr);
	}
	CHECK_INT(n, put);
	CHECK_INT(bio_held(), 0);
	CHECK_INT(bio_kept(e.wr), 0);
	for (size_t i = 0, at = 0; i < n; i += r, at = 0) {
		r = (int)(n - i < sizeof(block) ? n - i : sizeof(block));
		CHECK(memcmp(got + i, block + at, (size_t)r) == 0);
	}
	end_close(&e);
}

CASE(a_write_to_a_closed_peer_is_remembered_as_broken)
{
	struct end e;

	end_open(&e);
	close(e.peer);
	e.peer = -1;
	BIO_write(e.wr, "x", 1);
	CHECK_INT(bio_flush(e.wr), -EPIPE);
	CHECK_INT(e.t.broken, EPIPE);
	CHECK_INT(bio_error(e.wr), EPIPE);
	CHECK_INT(BIO_write(e.wr, "x", 1), -1);
	CHECK(!BIO_should_retry(e.wr));
	CHECK_INT(bio_flush(e.wr), -EPIPE);
	CHECK_INT(bio_pending(e.wr), 0);
	end_close(&e);
}

CASE(one_receive_serves_many_reads_and_a_short_one_ends_the_readiness)
{
	struct end e;
	char got[8] = "";

	end_open(&e);
	CHECK_INT(write(e.peer, "12345678", 8), 8);
	CHECK_INT(BIO_read(e.rd, got, 3), 3);
	CHECK_INT(e.t.ready & TP_READ, 0);
	CHECK_INT(bio_buffered(e.rd), 5);
	CHECK_INT(BIO_read(e.rd, got, 5), 5);
	/* more has come, but nobody has said so */
	CHECK_INT(write(e.peer, "9", 1), 1);
	CHECK_INT(BIO_read(e.rd, got, 5), -1);
	CHECK(BIO_should_read(e.rd));
	e.t.ready |= TP_READ;
	CHECK_INT(BIO_read(e.rd, got, 5), 1);
	CHECK_INT(got[0], '9');
	end_close(&e);
}

CASE(what_was_read_ahead_is_kept_when_another_connection_reads)
{
	struct end a, b;
	char got[16] = "";

	end_open(&a);
	end_open(&b);
	CHECK_INT(write(a.peer, "abcdef", 6), 6);
	CHECK_INT(write(b.peer, "xyz", 3), 3);
	CHECK_INT(BIO_read(a.rd, got, 2), 2);
	CHECK_INT(bio_kept(a.rd), 4); /* while it is in the shared buffer, too */
	CHECK_INT(BIO_read(b.rd, got, 1), 1);
	CHECK_INT(bio_kept(a.rd), 4);
	CHECK_INT(bio_kept(b.rd), 2);
	CHECK_INT(bio_held(), 4);
	CHECK_INT(BIO_read(a.rd, got, 1), 1);
	CHECK_INT(BIO_read(a.rd, got + 1, 9), 3);
	CHECK_INT(bio_held(), 0);
	CHECK_INT(BIO_read(b.rd, got + 4, 9), 2);
	CHECK_INT(bio_kept(a.rd) + bio_kept(b.rd), 0);
	CHECK_INT(memcmp(got, "cdefyz", 6), 0);
	end_close(&a);
	end_close(&b);
}

CASE(an_end_inside_a_record_is_told_from_one_between_records)
{
	static const unsigned char records[] = { 22, 3, 1, 0, 2, 'h', 'i', 23, 3, 3, 0, 3, 'a', 'b',
		'c' };
	char got[32];

	for (size_t n = 0; n <= sizeof(records); n++) {
		struct end e;
		size_t sum = 0;
		int r;

		end_open(&e);
		CHECK_INT(write(e.peer, records, n), n);
		close(e.peer);
		e.peer = -1;
		do {
			e.t.ready |= TP_READ;
			r = BIO_read(e.rd, got, 2);
			sum += r > 0 ? (size_t)r : 0;
		} while (r > 0);
		CHECK_INT(r, 0);
		CHECK_INT(sum, n);
		CHECK(bio_ended(e.rd));
		CHECK(BIO_eof(e.rd));
		CHECK_INT(bio_in_record(e.rd), n != 0 && n != 7 && n != 15);
		end_close(&e);
	}
}

CASE(the_first_bytes_are_there_to_be_named)
{
	struct end e;
	char got[32];

	end_open(&e);
	CHECK_STR(bio_greeting(e.rd), "");
	CHECK_INT(write(e.peer, "GET / HTTP/1.1\r\n", 16), 16);
	CHECK_INT(BIO_read(e.rd, got, 3), 3);
	CHECK_STR(bio_greeting(e.rd), "GET");
	CHECK_INT(BIO_read(e.rd, got, 13), 13);
	CHECK_STR(bio_greeting(e.rd), "GET /");
	end_close(&e);
}

CASE(a_turn_receives_no_more_than_it_should)
{
	static unsigned char block[64 * 1024], got[64 * 1024];
	struct end e;
	size_t sum = 0;
	int r, size = 4 << 20;

	end_open(&e);
	setsockopt(e.peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	while (write(e.peer, block, sizeof(block)) > 0)
		continue;
	bio_expect(e.rd, 100);
	while ((r = BIO_read(e.rd, got, sizeof(got))) > 0)
		sum += (size_t)r;
	CHECK(BIO_should_retry(e.rd));
	CHECK(sum <= 3 * BIO_AHEAD);
	CHECK(sum > 0);
	end_close(&e);
}

CASE(pipes_do_as_well_as_sockets)
{
	static char block[256 * 1024];
	struct transport t = { .ready = TP_READ | TP_WRITE };
	int in[2], out[2];
	char got[8];
	BIO *rd, *wr;

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	t.rfd = in[0];
	t.wfd = out[1];
	rd = bio_reader(&t);
	wr = bio_writer(&t);
	CHECK_INT(BIO_read(rd, got, 8), -1);
	CHECK(BIO_should_read(rd));
	t.ready |= TP_READ;
	CHECK_INT(write(in[1], "pipe", 4), 4);
	CHECK_INT(BIO_read(rd, got, 8), 4);
	/* the descriptor is a blocking one, and yet this comes back */
	CHECK_INT(BIO_write(wr, block, 100 * 1024), 100 * 1024);
	for (int i = 0; i < 64; i++) {
		t.ready |= TP_WRITE;
		CHECK_INT(bio_flush(wr), -EAGAIN);
	}
	CHECK(bio_pending(wr) >= 100 * 1024 - 64 * 1024);
	close(in[1]);
	t.ready |= TP_READ;
	CHECK_INT(BIO_read(rd, got, 8), 0);
	CHECK(bio_ended(rd));
	BIO_free(rd);
	BIO_free(wr);
	close(in[0]);
	close(out[0]);
	close(out[1]);
	CHECK_INT(bio_held(), 0);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(what_is_written_goes_out_once_at_the_flush),
	    RUN(another_connection_makes_the_owner_of_the_shared_buffer_send),
	    RUN(a_freed_connection_leaves_nothing_behind_in_the_shared_buffers),
	    RUN(a_full_socket_makes_the_connection_keep_bounded_bytes),
	    RUN(a_write_to_a_closed_peer_is_remembered_as_broken),
	    RUN(one_receive_serves_many_reads_and_a_short_one_ends_the_readiness),
	    RUN(what_was_read_ahead_is_kept_when_another_connection_reads),
	    RUN(an_end_inside_a_record_is_told_from_one_between_records),
	    RUN(the_first_bytes_are_there_to_be_named),
	    RUN(a_turn_receives_no_more_than_it_should),
	    RUN(pipes_do_as_well_as_sockets),
	    { 0 },
	});
}
