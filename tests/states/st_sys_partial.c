/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Big transfers in progress: a write that has moved a part goes on, no byte is lost or doubled.
 */
#include "state.h"

#include <pthread.h>
#include <sys/socket.h>

#define LEN (8u << 20)

static volatile int slow = 1;

struct pair {
	int in, out;
	uint64_t seed;
};

static void *writer(void *arg)
{
	struct pair *p = arg;
	char *buf = malloc(LEN);
	size_t n = 0;

	st_fill(buf, LEN, p->seed);
	while (n < LEN) {
		ssize_t r = write(p->out, buf + n, LEN - n);

		ST_CHECK(r > 0, "write: %zd, %s", r, strerror(errno));
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	close(p->out);
	return NULL;
}

static void *reader(void *arg)
{
	struct pair *p = arg;
	char *buf = malloc(LEN + 1);
	size_t n = 0;
	ssize_t r;

	while ((r = read(p->in, buf + n,
			 slow			? 3000
			 : 100000 < LEN + 1 - n ? 100000
						: LEN + 1 - n)) > 0) {
		n += (size_t)r;
		if (slow)
			st_sleep_ms(1);
	}
	ST_EQ(r, 0);
	ST_EQ(n, LEN);
	ST_CHECK(st_filled(buf, LEN, p->seed), "what was read is not what was written");
	return NULL;
}

int main(int argc, char **argv)
{
	struct pair p[2];
	pthread_t t[4];
	int fd[2];

	st_begin(argc, argv);
	ST_SYS(pipe(fd));
	p[0] = (struct pair){ fd[0], fd[1], 1 };
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	p[1] = (struct pair){ fd[0], fd[1], 2 };
	for (int i = 0; i < 2; i++) {
		ST_ZERO(pthread_create(&t[i * 2], NULL, writer, &p[i]));
		ST_ZERO(pthread_create(&t[i * 2 + 1], NULL, reader, &p[i]));
	}
	st_sleep_ms(20);
	st_wait();
	slow = 0;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	return st_end();
}
