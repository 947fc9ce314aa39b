/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in the way of a checkpoint: obstacle DIR KIND. The program goes on counting,
 * whatever a checkpoint that is refused does to it, and judges that its count never stood still
 * for long.
 */
#include "state.h"

#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int go_on;

static void need(long r, const char *what)
{
	if (r < 0)
		st_skip("no %s here: %s", what, strerror(errno));
}

static void io_uring(void)
{
	char params[120] = { 0 };

	need(syscall(SYS_io_uring_setup, 4, params), "io_uring");
}

static void userfault(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	need(fd, "userfaultfd");
	ST_SYS(ioctl(fd, UFFDIO_API, &api));
}

static void fan(void)
{
	need(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");
}

static void perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE,
				     .size = sizeof(a),
				     .config = PERF_COUNT_SW_TASK_CLOCK };

	need(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0), "perf");
}

static void bpf(void)
{
	union bpf_attr a = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1
	};

	need(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)), "bpf");
}

static void device(void)
{
	static const char *const names[] = { "/dev/loop-control", "/dev/net/tun", "/dev/kmsg",
					     "/dev/mem", "/dev/fuse" };

	for (int i = 0; i < 5; i++)
		if (open(names[i], O_RDONLY) >= 0)
			return;
	st_skip("no device here: %s", strerror(errno));
}

static void packet(void)
{
	need(socket(AF_PACKET, SOCK_RAW, 0), "packet sockets");
}

static void ptraced(void)
{
	pid_t pid = st_fork();

	if (pid == 0)
		for (;;)
			pause();
	ST_SYS(ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_EXITKILL));
}

/* In a mount namespace of its own: what is below the upper one cannot be saved. */
static void hidden_mount(void)
{
	need(unshare(CLONE_NEWNS), "mount namespaces");
	ST_SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ST_SYS(mount("lower", "/mnt", "tmpfs", 0, "size=1m"));
	ST_SYS(mount("upper", "/mnt", "tmpfs", 0, "size=1m"));
}

static void strict(void)
{
	int fd[2];
	char c;
	pid_t pid;

	ST_SYS(pipe(fd));
	pid = st_fork();
	if (pid == 0) {
		ST_SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		for (;;)
			syscall(SYS_read, fd[0], &c, 1);
	}
	st_sleep_ms(50);
}

static void outside_pipe(void)
{
	int fd[2];

	ST_SYS(pipe(fd));
	if (fork() == 0) { /* the other end goes to a process that is not of the tree */
		if (fork() == 0) {
			setsid();
			while (!st_gone())
				st_sleep_ms(20);
		}
		_exit(0);
	}
	wait(NULL);
	close(fd[1]);
	st_sleep_ms(50);
}

static void *in_namespace(void *arg)
{
	go_on = unshare(CLONE_NEWNET) == 0 ? 1 : 2;
	for (;;)
		st_sleep_ms(50);
	return arg;
}

static void thread_ns(void)
{
	pthread_t t;

	ST_ZERO(pthread_create(&t, NULL, in_namespace, NULL));
	while (!go_on)
		st_sleep_ms(1);
	need(go_on == 1 ? 0 : -1, "namespaces");
}

static const struct {
	const char *name;
	void (*set_up)(void);
} kinds[] = {
	{ "io_uring", io_uring },
	{ "userfaultfd", userfault },
	{ "fanotify", fan },
	{ "perf", perf },
	{ "bpf", bpf },
	{ "device", device },
	{ "packet", packet },
	{ "ptraced", ptraced },
	{ "strict", strict },
	{ "mount", hidden_mount },
	{ "outside_pipe", outside_pipe },
	{ "thread_ns", thread_ns },
};

static void *count(void *arg)
{
	int64_t last = st_now_ns(CLOCK_MONOTONIC), longest = 0;

	while (go_on) {
		int64_t now;

		st_sleep_ms(1);
		now = st_now_ns(CLOCK_MONOTONIC);
		if (now - last > longest)
			longest = now - last;
		last = now;
	}
	*(int64_t *)arg = longest;
	return NULL;
}

int main(int argc, char **argv)
{
	char **args = st_begin(argc, argv);
	int64_t longest = 0;
	pthread_t t;
	bool known = false;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (args[0] && !strcmp(args[0], kinds[i].name)) {
			kinds[i].set_up();
			known = true;
		}
	if (!known)
		st_die(__FILE__, __LINE__, "which obstacle?");
	go_on = 1;
	ST_ZERO(pthread_create(&t, NULL, count, &longest));
	st_wait();
	go_on = 0;
	pthread_join(t, NULL);
	ST_CHECK(longest < 1000000000, "stood still for %lld ms",
		 (long long)(longest / 1000000));
	return st_end();
}
