/* SPDX-License-Identifier: GPL-2.0-or-later */
/* state.c - the interface itself, and the records of a parked tree. */
#include "module.h"

#include <fcntl.h>
#include <linux/elf.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static void counting(struct shared *sh)
{
	sh->ready = 1;
	for (;;)
		sh->ticks++;
}

static const char *features_are_there(void)
{
	struct chpox_info i = { .size = sizeof(i) };
	int fd = mod_open();

	CHECK(fd >= 0 && ioctl(fd, CHPOX_IOC_INFO, &i) == 0);
	CHECK(i.abi == CHPOX_ABI && i.sessions == 1 && i.snapshots == 0);
	CHECK(i.features == 0xf);
	close(fd);
	return NULL;
}

static long compat_ioctl(int fd, unsigned cmd)
{
	long rc;

	__asm__ volatile("int $0x80"
			 : "=a"(rc)
			 : "a"(54), "b"(fd), "c"(cmd), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return rc;
}

static const char *strange_arguments_are_refused(void)
{
	struct target t = mod_start(counting);
	struct chpox_add add = { sizeof(add), 0, t.pid, 0 };
	struct chpox_dump d;
	int fd = mod_open(), st;
	pid_t pid;

	add.size -= 8;
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EINVAL);
	add.size = sizeof(add);
	add.flags = 2;
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EINVAL);
	add.flags = 0;
	add.reserved = 1;
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EINVAL);
	add.reserved = 0;
	add.pid = 1;
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EPERM);
	add.pid = 4000000;
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == ESRCH);
	add.pid = 2; /* a kernel thread */
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EINVAL);
	CHECK(ioctl(fd, CHPOX_IOC_ADD, (void *)8) < 0 && errno == EFAULT);
	CHECK(ioctl(fd, _IO(CHPOX_IOC_MAGIC, 99), 0) < 0 && errno == ENOTTY);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == -ESRCH);
	CHECK(mod_dump(fd, &d, 1u << 31, 0, 0) == -EINVAL);
	CHECK(mod_dump(fd, &d, 0, 0, CHPOX_HOLD_MAX_MS + 1) == -EINVAL);
	CHECK(mod_release(fd) == -ENOENT && mod_snap(fd, 0, NULL) == -ENOENT);
	close(fd);
	/* ourselves */
	fd = mod_session(getpid());
	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 500, 0) == -EDEADLK);
	/* a 32-bit caller; a kernel without them ends it by a signal */
	pid = fork();
	if (pid == 0)
		_exit(compat_ioctl(fd, CHPOX_IOC_INFO) == -ENOTTY ? 0 : 1);
	waitpid(pid, &st, 0);
	CHECK(WIFSIGNALED(st) || WEXITSTATUS(st) == 0);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *strangers_are_refused(void)
{
	struct target mine = mod_start(counting);
	int st;
	pid_t pid = fork();

	if (pid == 0) {
		struct target own;
		struct chpox_dump d;
		int fd;

		if (setgid(1000) || setuid(1000))
			_exit(2);
		prctl(PR_SET_DUMPABLE, 1);
		if (mod_session(mine.pid) >= 0 || errno != EPERM)
			_exit(3);
		own = mod_start(counting);
		fd = mod_session(own.pid);
		_exit(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0 ? 0 : 4);
	}
	waitpid(pid, &st, 0);
	CHECK(WIFEXITED(st));
	CHECK(WEXITSTATUS(st) == 0);
	CHECK(mod_ticks(&mine));
	mod_end(&mine);
	return NULL;
}

/* --- records --------------------------------------------------------------------------------
 */

static void handler(int sig, siginfo_t *info, void *ctx)
{
	(void)sig, (void)info, (void)ctx;
}

static void loaded(struct shared *sh)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval it = { { 7, 0 }, { 900, 0 } };
	struct itimerspec ts = { { 5, 0 }, { 600, 0 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4 };
	static char altstack[32768];
	stack_t ss = { .ss_sp = altstack, .ss_size = sizeof(altstack) };
	struct timespec long_time = { 800, 0 };
	timer_t timer;
	sigset_t set;

	sigaction(SIGUSR2, &sa, NULL);
	sigaltstack(&ss, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i });
	pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){ .sival_int = 77 });
	setitimer(ITIMER_REAL, &it, NULL);
	ev.sigev_value.sival_int = 4711;
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer))
		sh->error = 1;
	timer_settime(timer, 0, &ts, NULL);
	sh->at[0] = (uintptr_t)altstack;
	sh->at[1] = (uintptr_t)handler;
	sh->ready = 1;
	nanosleep(&long_time, NULL);
	sh->error = 2;
}

static const char *signals_recorded(const struct stream *s, const struct target *t)
{
	const struct chpox_record *r = mod_record(s, CHPOX_REC_ACTIONS, t->pid, 0);
	const struct chpox_rec_action *act;
	const siginfo_t *info;

	CHECK(r && r->bytes == 64 * sizeof(*act));
	act = (const struct chpox_rec_action *)mod_payload(r) + SIGUSR2 - 1;
	CHECK(act->handler == t->sh->at[1] && (act->flags & SA_RESTART));
	for (unsigned i = 0; i < 3; i++) {
		r = mod_record(s, CHPOX_REC_SIGINFO, t->pid, i);
		CHECK(r && r->tid == 0 && r->bytes == 128);
		info = mod_payload(r);
		CHECK(info->si_signo == SIGRTMIN + 1 &&
		      info->si_value.sival_int == 100 + (int)i);
		CHECK(info->si_pid == t->pid && info->si_code == SI_QUEUE);
	}
	r = mod_record(s, CHPOX_REC_SIGINFO, t->pid, 3);
	CHECK(r && r->tid == t->pid);
	info = mod_payload(r);
	CHECK(info->si_signo == SIGRTMIN + 2 && info->si_value.sival_int == 77);
	CHECK(!mod_record(s, CHPOX_REC_SIGINFO, t->pid, 4));
	return NULL;
}

static bool about(int64_t ns, int64_t seconds)
{
	return ns <= seconds * NS_PER_S && ns > (seconds - 30) * NS_PER_S;
}

static const char *timers_recorded(const struct stream *s, const struct target *t)
{
	const struct chpox_record *r = mod_record(s, CHPOX_REC_ITIMER, t->pid, 0);
	const struct chpox_rec_itimer *it;
	const struct chpox_rec_timer *tm;
	const struct chpox_rec_restart *rs;

	CHECK(r);
	it = mod_payload(r);
	CHECK(it->which == ITIMER_REAL && about(it->remaining, 900));
	CHECK(it->interval == 7 * NS_PER_S);
	r = mod_record(s, CHPOX_REC_TIMER, t->pid, 0);
	CHECK(r);
	tm = mod_payload(r);
	CHECK(tm->id == 0 && tm->clock == CLOCK_MONOTONIC && tm->signo == SIGRTMIN + 4);
	CHECK((int)tm->value == 4711 && tm->flags == CHPOX_TIMER_ARMED);
	CHECK(about(tm->remaining, 600) && tm->interval == 5 * NS_PER_S);
	r = mod_record(s, CHPOX_REC_RESTART, t->pid, 0);
	CHECK(r);
	rs = mod_payload(r);
	CHECK(rs->kind == CHPOX_RESTART_NANOSLEEP && about(rs->remaining, 800));
	return NULL;
}

static const char *thread_recorded(const struct stream *s, const struct target *t)
{
	const struct chpox_record *r = mod_record(s, CHPOX_REC_THREAD, t->pid, 0);
	const struct user_regs_struct *regs;
	const struct chpox_rec_thread *th;
	const uint32_t *note = NULL;
	bool xstate = false;

	CHECK(r);
	th = mod_payload(r);
	CHECK(th->state == CHPOX_THREAD_PARKED && th->machine == EM_X86_64);
	CHECK(th->altstack_sp == t->sh->at[0] && th->altstack_size == 32768);
	CHECK(th->blocked == (1ull << SIGRTMIN | 1ull << (SIGRTMIN + 1)));
	CHECK(th->pdeath_signal == SIGKILL && th->robust_list);
	for (unsigned i = 0; (r = mod_record(s, CHPOX_REC_REGSET, t->pid, i)); i++) {
		note = mod_payload(r);
		xstate |= note[0] == NT_X86_XSTATE && r->bytes > 576;
		if (note[0] != NT_PRSTATUS)
			continue;
		CHECK(r->bytes == 8 + sizeof(*regs));
		regs = (const void *)(note + 2);
		CHECK((long)regs->rax == -516);
		/* from the second stop on it is the kernel's own way to go on */
		CHECK(regs->orig_rax == SYS_clock_nanosleep ||
		      regs->orig_rax == SYS_nanosleep || regs->orig_rax == SYS_restart_syscall);
	}
	CHECK(note && xstate);
	CHECK(mod_record(s, CHPOX_REC_END, 0, 0));
	return NULL;
}

static const char *records_are_exact(void)
{
	struct target t = mod_start(loaded);
	int fd = mod_session(t.pid);
	struct chpox_dump d;
	struct stream s;
	const char *why;

	CHECK(fd >= 0 && !t.sh->error);
	mod_sleep_ms(50);
	for (int i = 0; i < 3; i++) {
		CHECK(mod_dump(fd, &d, CHPOX_DUMP_NO_SNAPSHOT, 0, 0) == 0);
		CHECK(d.processes == 1 && d.threads == 1 && d.snapshots == 0);
		CHECK(mod_read(fd, &s) && s.len == d.records);
		why = signals_recorded(&s, &t);
		if (!why)
			why = timers_recorded(&s, &t);
		if (!why)
			why = thread_recorded(&s, &t);
		free(s.data);
		if (why)
			return why;
	}
	CHECK(!t.sh->error);
	close(fd);
	mod_end(&t);
	return NULL;
}

/* --- calls in progress -----------------------------------------------------------------------
 */

static struct shared *waiting;

static void returned(long rc)
{
	(void)rc;
	waiting->error = (uint64_t)errno + 1000;
}

static void *in_epoll(void *arg)
{
	struct epoll_event ev;

	(void)arg;
	waiting->ticks++;
	returned(epoll_wait(epoll_create1(0), &ev, 1, -1));
	return NULL;
}

static void *in_sigwait(void *arg)
{
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	waiting->ticks++;
	returned(sigwaitinfo(&set, NULL));
	return NULL;
}

static void *in_read(void *arg)
{
	int p[2];
	char c;

	(void)arg;
	waiting->ticks++;
	if (pipe(p) == 0)
		returned(read(p[0], &c, 1));
	return NULL;
}

static void *in_sleep(void *arg)
{
	struct timespec ts = { 1, 500000000 };
	int64_t start = mod_now_ns();

	(void)arg;
	waiting->ticks++;
	if (nanosleep(&ts, NULL))
		returned(-1);
	waiting->at[0] = (uint64_t)(mod_now_ns() - start);
	for (;;)
		pause();
	return NULL;
}

static void waiting_threads(struct shared *sh)
{
	static void *(*const bodies[])(void *) = { in_epoll, in_sigwait, in_read, in_sleep };
	pthread_t th;

	waiting = sh;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		pthread_create(&th, NULL, bodies[i], NULL);
	while (sh->ticks < 4)
		usleep(1000);
	usleep(20000);
	sh->ready = 1;
	for (;;)
		pause();
}

static const char *calls_go_on(void)
{
	struct target t = mod_start(waiting_threads);
	int fd = mod_session(t.pid);
	struct chpox_dump d;

	CHECK(fd >= 0);
	for (int i = 0; i < 20; i++) {
		CHECK(mod_dump(fd, &d, CHPOX_DUMP_NO_SNAPSHOT, 0, 0) == 0);
		CHECK(d.threads == 5);
		mod_sleep_ms(10);
	}
	for (int i = 0; i < 500 && !t.sh->at[0]; i++)
		mod_sleep_ms(10);
	CHECK(t.sh->error == 0);
	CHECK(t.sh->at[0] >= 1500000000 && t.sh->at[0] < 2500000000u);
	close(fd);
	mod_end(&t);
	return NULL;
}

const struct mod_test mod_tests_state[] = {
	{ "all features are there", features_are_there },
	{ "strange arguments are refused", strange_arguments_are_refused },
	{ "strangers are refused, owners are not", strangers_are_refused },
	{ "signals, timers, registers, restarts are recorded exactly", records_are_exact },
	{ "calls in progress go on unnoticed", calls_go_on },
	{ NULL, NULL },
};
