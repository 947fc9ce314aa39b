/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every blocking call without time-out: no one returns early, and each ends as it should when
 * what it waits for comes.
 */
#include "state.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct job {
	int fd[2];
	pthread_t thread;
	volatile int done;
	long result;
	volatile int word;
	volatile pid_t tid;
	pid_t child;
};

static long r_read(struct job *j)
{
	char c;

	return read(j->fd[0], &c, 1);
}

static void w_write(struct job *j)
{
	ST_EQ(write(j->fd[1], "abcdefgh", 8), 8);
}

static long r_write_full(struct job *j)
{
	static char big[8192];

	return write(j->fd[1], big, sizeof(big));
}

static void s_fill(struct job *j)
{
	char page[4096] = { 0 };

	ST_SYS(pipe(j->fd));
	ST_SYS(fcntl(j->fd[1], F_SETPIPE_SZ, 8192));
	for (int i = 0; i < 2; i++)
		ST_SYS(write(j->fd[1], page, sizeof(page)));
}

static void w_drain(struct job *j)
{
	char page[4096];

	for (int i = 0; i < 4; i++)
		ST_EQ(read(j->fd[0], page, sizeof(page)), 4096);
}

static void s_pipe(struct job *j)
{
	ST_SYS(pipe(j->fd));
}

static long r_poll(struct job *j)
{
	struct pollfd p = { j->fd[0], POLLIN, 0 };

	return poll(&p, 1, -1) == 1 && p.revents == POLLIN ? 1 : -1;
}

static long r_ppoll(struct job *j)
{
	struct pollfd p = { j->fd[0], POLLIN, 0 };

	return ppoll(&p, 1, NULL, NULL);
}

static long r_select(struct job *j)
{
	fd_set s;

	FD_ZERO(&s);
	FD_SET(j->fd[0], &s);
	return syscall(SYS_select, j->fd[0] + 1, &s, NULL, NULL, NULL);
}

static void s_epoll(struct job *j)
{
	struct epoll_event e = { .events = EPOLLIN };
	int fd[2];

	ST_SYS(pipe(fd));
	j->fd[0] = ST_SYS(epoll_create1(0));
	j->fd[1] = fd[1];
	ST_SYS(epoll_ctl(j->fd[0], EPOLL_CTL_ADD, fd[0], &e));
}

static long r_epoll(struct job *j)
{
	struct epoll_event e;

	return epoll_wait(j->fd[0], &e, 1, -1);
}

static void s_eventfd(struct job *j)
{
	j->fd[0] = j->fd[1] = ST_SYS(eventfd(0, 0));
}

static long r_eventfd(struct job *j)
{
	uint64_t v = 0;

	return read(j->fd[0], &v, 8) == 8 && v ? 1 : -1;
}

static long r_futex(struct job *j)
{
	return syscall(SYS_futex, &j->word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) +
	       1;
}

static void w_futex(struct job *j)
{
	j->word = 1;
	ST_EQ(syscall(SYS_futex, &j->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0),
	      1);
}

static long r_sigwait(struct job *j)
{
	sigset_t m;
	siginfo_t si;

	(void)j;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	return sigwaitinfo(&m, &si) == SIGUSR1 ? 1 : -1;
}

static void w_signal(struct job *j)
{
	syscall(SYS_tgkill, getpid(), j->tid, SIGUSR1);
}

static void on_usr1(int sig)
{
	(void)sig;
}

static long r_sigsuspend(struct job *j)
{
	sigset_t m;

	(void)j;
	sigemptyset(&m);
	signal(SIGUSR1, on_usr1);
	return sigsuspend(&m) == -1 && errno == EINTR ? 1 : -1;
}

static long r_pause(struct job *j)
{
	sigset_t m;

	(void)j;
	sigemptyset(&m);
	pthread_sigmask(SIG_SETMASK, &m, NULL);
	return pause() == -1 && errno == EINTR ? 1 : -1;
}

static void s_child(struct job *j)
{
	s_pipe(j);
	j->child = st_fork();
	if (j->child == 0) {
		char c;

		_exit(read(j->fd[0], &c, 1) == 1 ? 6 : 1);
	}
}

static long r_waitpid(struct job *j)
{
	return st_reap(j->child) == 6 ? 1 : -1;
}

static long r_waitid(struct job *j)
{
	siginfo_t si;

	return waitid(P_PID, (id_t)j->child, &si, WEXITED) == 0 && si.si_status == 6 ? 1 : -1;
}

static void s_pair(struct job *j)
{
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, j->fd));
}

static long r_recv(struct job *j)
{
	char c;

	return recv(j->fd[0], &c, 1, 0);
}

static long r_recvmsg(struct job *j)
{
	char c;
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	return recvmsg(j->fd[0], &m, 0);
}

static void s_lock(struct job *j)
{
	j->fd[0] = ST_SYS(open(st_path("locked"), O_RDWR | O_CREAT, 0600));
	j->fd[1] = ST_SYS(open(st_path("locked"), O_RDWR | O_CREAT, 0600));
	ST_SYS(flock(j->fd[0], LOCK_EX));
}

static long r_flock(struct job *j)
{
	return flock(j->fd[1], LOCK_EX) == 0 ? 1 : -1;
}

static void w_unlock(struct job *j)
{
	flock(j->fd[0], LOCK_UN);
}

static void s_fifo(struct job *j)
{
	(void)j;
	ST_SYS(mkfifo(st_path("fifo"), 0600));
}

static long r_openfifo(struct job *j)
{
	j->fd[0] = open(st_path("fifo"), O_RDONLY);
	return j->fd[0] >= 0 ? 1 : -1;
}

static void w_openfifo(struct job *j)
{
	(void)j;
	close(ST_OK(open(st_path("fifo"), O_WRONLY)));
}

static const struct kind {
	const char *name;
	void (*set_up)(struct job *);
	long (*run)(struct job *);
	void (*wake)(struct job *);
	long want, nr;
} kinds[] = {
	{ "read of a pipe", s_pipe, r_read, w_write, 1, SYS_read },
	{ "write to a full pipe", s_fill, r_write_full, w_drain, 8192, SYS_write },
	{ "poll", s_pipe, r_poll, w_write, 1, SYS_poll },
	{ "ppoll", s_pipe, r_ppoll, w_write, 1, SYS_ppoll },
	{ "select", s_pipe, r_select, w_write, 1, SYS_select },
	{ "epoll_wait", s_epoll, r_epoll, w_write, 1, SYS_epoll_wait },
	{ "eventfd", s_eventfd, r_eventfd, w_write, 1, SYS_read },
	{ "futex", NULL, r_futex, w_futex, 1, SYS_futex },
	{ "sigwaitinfo", NULL, r_sigwait, w_signal, 1, SYS_rt_sigtimedwait },
	{ "sigsuspend", NULL, r_sigsuspend, w_signal, 1, SYS_rt_sigsuspend },
	{ "pause", NULL, r_pause, w_signal, 1, SYS_pause },
	{ "waitpid", s_child, r_waitpid, w_write, 1, SYS_wait4 },
	{ "waitid", s_child, r_waitid, w_write, 1, SYS_waitid },
	{ "recv", s_pair, r_recv, w_write, 1, SYS_recvfrom },
	{ "recvmsg", s_pair, r_recvmsg, w_write, 1, SYS_recvmsg },
	{ "flock", s_lock, r_flock, w_unlock, 1, SYS_flock },
	{ "open of a fifo", s_fifo, r_openfifo, w_openfifo, 1, SYS_openat },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

static struct job jobs[N];

static void *worker(void *arg)
{
	struct job *j = arg;
	int saved;

	j->tid = (pid_t)syscall(SYS_gettid);
	j->result = kinds[j - jobs].run(j);
	saved = errno;
	j->done = 1;
	ST_CHECK(j->result == kinds[j - jobs].want, "%s returned %ld (%s)",
		 kinds[j - jobs].name, j->result, strerror(saved));
	return NULL;
}

int main(int argc, char **argv)
{
	char **args = st_begin(argc, argv);
	sigset_t m;
	bool on[N];

	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	for (size_t i = 0; i < N; i++) {
		on[i] = !args[0] || !strcmp(args[0], kinds[i].name);
		if (!on[i])
			continue;
		if (kinds[i].set_up)
			kinds[i].set_up(&jobs[i]);
		ST_ZERO(pthread_create(&jobs[i].thread, NULL, worker, &jobs[i]));
		while (!jobs[i].tid)
			st_sleep_ms(1);
		if (!st_in_call(jobs[i].tid, kinds[i].nr, 3000))
			st_die(__FILE__, __LINE__, kinds[i].name);
	}
	st_wait();
	for (size_t i = 0; i < N; i++) {
		if (!on[i])
			continue;
		ST_CHECK(!jobs[i].done, "%s returned early", kinds[i].name);
		kinds[i].wake(&jobs[i]);
		for (int k = 0; k < 400 && !jobs[i].done; k++)
			st_sleep_ms(5);
		ST_CHECK(jobs[i].done, "%s does not return", kinds[i].name);
		if (jobs[i].done)
			pthread_join(jobs[i].thread, NULL);
	}
	return st_end();
}
