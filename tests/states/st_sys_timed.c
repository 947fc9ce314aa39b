/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every blocking call with a time-out: it ends with its own result when its time is over,
 * counted in the time in which the program was alive, and is never cut short. One thread for
 * each call.
 */
#include "state.h"

#include <libaio.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#define TIMEOUT_MS 2500

static int waited_fd, epoll_fd, sem_id, sock_dgram, sock_listen;
static mqd_t mq;
static io_context_t aio;

static struct timespec rel(void)
{
	return (struct timespec){ TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000000 };
}

static struct timespec abs_time(int clock)
{
	int64_t ns = st_now_ns(clock) + TIMEOUT_MS * 1000000LL;

	return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

static long c_nanosleep(void)
{
	struct timespec t = rel();

	return nanosleep(&t, NULL);
}

static long c_nanosleep_rem(void)
{
	struct timespec t = rel(), rem;

	return nanosleep(&t, &rem);
}

static long c_clock_rel(void)
{
	struct timespec t = rel();

	return -clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL);
}

static long c_clock_abs(void)
{
	struct timespec t = abs_time(CLOCK_MONOTONIC);

	return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static long c_poll(void)
{
	struct pollfd p = { waited_fd, POLLIN, 0 };

	return poll(&p, 1, TIMEOUT_MS);
}

static long c_poll_none(void)
{
	return poll(NULL, 0, TIMEOUT_MS);
}

static long c_ppoll(void)
{
	struct pollfd p = { waited_fd, POLLIN, 0 };
	struct timespec t = rel();
	sigset_t m;

	sigemptyset(&m);
	return ppoll(&p, 1, &t, &m);
}

static long c_select(void)
{
	struct timeval t = { TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000 };
	fd_set r;

	FD_ZERO(&r);
	FD_SET(waited_fd, &r);
	return syscall(SYS_select, waited_fd + 1, &r, NULL, NULL, &t); /* glibc's is pselect6 */
}

static long c_pselect(void)
{
	struct timespec t = rel();
	fd_set r;

	FD_ZERO(&r);
	FD_SET(waited_fd, &r);
	return pselect(waited_fd + 1, &r, NULL, NULL, &t, NULL);
}

static long c_futex(void)
{
	struct timespec t = rel();
	static int word;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &t, NULL, 0);

	return r == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static long c_futex_abs(void)
{
	struct timespec t = abs_time(CLOCK_MONOTONIC);
	static int word;
	long r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &t, NULL, ~0);

	return r == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static long c_cond(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	struct timespec t = abs_time(CLOCK_REALTIME);

	pthread_mutex_lock(&m);
	return pthread_cond_timedwait(&c, &m, &t) == ETIMEDOUT ? 0 : -1;
}

static long c_epoll(void)
{
	struct epoll_event e;

	return epoll_wait(epoll_fd, &e, 1, TIMEOUT_MS);
}

static long c_epoll_pwait(void)
{
	struct epoll_event e;
	sigset_t m;

	sigemptyset(&m);
	return epoll_pwait(epoll_fd, &e, 1, TIMEOUT_MS, &m);
}

static long c_epoll_pwait2(void)
{
	struct epoll_event e;
	struct timespec t = rel();

	return syscall(SYS_epoll_pwait2, epoll_fd, &e, 1, &t, NULL, 0);
}

static long c_sigtimedwait(void)
{
	struct timespec t = rel();
	sigset_t m;

	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	return sigtimedwait(&m, NULL, &t) == -1 && errno == EAGAIN ? 0 : -1;
}

static long c_semtimedop(void)
{
	struct sembuf op = { 0, -1, 0 };
	struct timespec t = rel();

	return semtimedop(sem_id, &op, 1, &t) == -1 && errno == EAGAIN ? 0 : -1;
}

static long c_mq(void)
{
	struct timespec t = abs_time(CLOCK_REALTIME);
	char buf[64];

	return mq_timedreceive(mq, buf, sizeof(buf), NULL, &t) == -1 && errno == ETIMEDOUT ? 0
											   : -1;
}

static long c_recv(void)
{
	char c;

	return recv(sock_dgram, &c, 1, 0) == -1 && errno == EAGAIN ? 0 : -1;
}

static long c_accept(void)
{
	return accept(sock_listen, NULL, NULL) == -1 && errno == EAGAIN ? 0 : -1;
}

static long c_getevents(void)
{
	struct timespec t = rel();
	struct io_event e;

	return io_getevents(aio, 1, 1, &e, &t);
}

static const struct call {
	const char *name;
	long (*run)(void);
	bool absolute; /* the end is an instant, whether the program was alive or not */
	int slack_ms; /* what the kernel itself is late by: its timer wheel counts in 64 jiffies
		       */
} calls[] = {
	{ "nanosleep", c_nanosleep, false, 0 },
	{ "nanosleep with rem", c_nanosleep_rem, false, 0 },
	{ "clock_nanosleep", c_clock_rel, false, 0 },
	{ "clock_nanosleep absolute", c_clock_abs, true, 0 },
	{ "poll", c_poll, false, 0 },
	{ "poll of nothing", c_poll_none, false, 0 },
	{ "ppoll", c_ppoll, false, 0 },
	{ "select", c_select, false, 0 },
	{ "pselect", c_pselect, false, 0 },
	{ "futex", c_futex, false, 0 },
	{ "futex absolute", c_futex_abs, true, 0 },
	{ "condition variable", c_cond, true, 0 }, /* on the wall clock */
	{ "epoll_wait", c_epoll, false, 0 },
	{ "epoll_pwait", c_epoll_pwait, false, 0 },
	{ "epoll_pwait2", c_epoll_pwait2, false, 0 },
	{ "sigtimedwait", c_sigtimedwait, false, 0 },
	{ "semtimedop", c_semtimedop, false, 0 },
	{ "mq_timedreceive", c_mq, true, 0 },
	{ "recv with SO_RCVTIMEO", c_recv, false, 300 },
	{ "accept with SO_RCVTIMEO", c_accept, false, 300 },
	{ "io_getevents", c_getevents, false, 0 },
};
#define N (sizeof(calls) / sizeof(calls[0]))

static bool use(const char *name, const char *which)
{
	if (!which)
		return strcmp(name, "io_getevents") != 0 && !strstr(name, "SO_RCVTIMEO") &&
		       strcmp(name, "semtimedop") != 0 && strcmp(name, "mq_timedreceive") != 0;
	return !strcmp(name, which);
}

static void *worker(void *arg)
{
	const struct call *c = arg;
	clockid_t clock = c->run == c_cond || c->run == c_mq ? CLOCK_REALTIME : CLOCK_MONOTONIC;
	int64_t live = st_alive_ns(), mono = st_now_ns(clock);
	long r;
	int err, late;

	errno = 0;
	r = c->run();
	err = errno;
	live = (st_alive_ns() - live) / 1000000;
	mono = (st_now_ns(clock) - mono) / 1000000;
	ST_CHECK(r == 0, "%s returned %ld, %s after %lld ms", c->name, r, strerror(err),
		 (long long)live);
	late = (int)((c->absolute ? mono : live) - TIMEOUT_MS);
	if (c->absolute && late > 0 && mono - live > late)
		late = 0; /* the instant was while it was gone */
	if (!c->absolute && mono >= TIMEOUT_MS - 40 && late < 0)
		late = 0; /* its clock stood still with it, or the pause was short */
	ST_CHECK(late >= -40 && late <= 150 + c->slack_ms, "%s ended %d ms late", c->name,
		 late);
	return NULL;
}

static void set_up(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int fd[2];

	ST_SYS(pipe(fd));
	waited_fd = fd[0];
	epoll_fd = ST_SYS(epoll_create1(0));
	ST_SYS(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, waited_fd, &e));
}

/* What only some calls need, so that the others are not judged by it. */
static void set_up_rare(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval tv = { TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000 };
	struct mq_attr attr = { .mq_maxmsg = 1, .mq_msgsize = 64 };
	char text[32];
	int fd[2];

	if (!strcmp(name, "semtimedop"))
		sem_id = ST_SYS(semget(IPC_PRIVATE, 1, 0600));
	if (!strcmp(name, "mq_timedreceive")) {
		snprintf(text, sizeof(text), "/st_timed.%d", getpid());
		mq = ST_SYS(mq_open(text, O_RDONLY | O_CREAT, 0600, &attr));
		mq_unlink(text);
	}
	if (strstr(name, "SO_RCVTIMEO")) {
		ST_SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd));
		sock_dgram = fd[0];
		sock_listen = ST_SYS(socket(AF_UNIX, SOCK_STREAM, 0));
		snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "st_timed.%d", getpid());
		ST_SYS(bind(sock_listen, (struct sockaddr *)&un, sizeof(un)));
		ST_SYS(listen(sock_listen, 1));
		ST_SYS(setsockopt(sock_dgram, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
		ST_SYS(setsockopt(sock_listen, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	}
	if (!strcmp(name, "io_getevents"))
		ST_ZERO(-io_setup(4, &aio));
}

int main(int argc, char **argv)
{
	char **args = st_begin(argc, argv);
	sigset_t usr1;
	pthread_t t[N];
	bool on[N] = { false };

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	st_alive_start();
	set_up();
	for (size_t i = 0; i < N; i++)
		on[i] = use(calls[i].name, args[0]);
	if (args[0])
		set_up_rare(args[0]);
	for (size_t i = 0; i < N; i++)
		if (on[i])
			ST_ZERO(pthread_create(&t[i], NULL, worker, (void *)&calls[i]));
	st_sleep_ms(50);
	st_wait();
	for (size_t i = 0; i < N; i++)
		if (on[i])
			pthread_join(t[i], NULL);
	if (args[0] && !strcmp(args[0], "semtimedop"))
		semctl(sem_id, 0, IPC_RMID);
	return st_end();
}
