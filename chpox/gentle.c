/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gentle.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#define NICE 10
/* ioprio_set(2), which the C library does not wrap */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

/* Linux keeps both for each thread. */
static void set(pid_t tid, int nice, int ioprio)
{
	if (setpriority(PRIO_PROCESS, (id_t)tid, nice) < 0 ||
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, ioprio) < 0)
		cpx_log_debug("thread %d keeps its priority", tid);
}

static void set_all(int nice, int ioprio)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;

	/* ourselves first: what is made from now on is born so */
	set((pid_t)syscall(SYS_gettid), nice, ioprio);
	while (dir && (e = readdir(dir)))
		if (*e->d_name != '.')
			set(atoi(e->d_name), nice, ioprio);
	if (dir)
		closedir(dir);
}

void cpx_gentle_begin(void)
{
	set_all(NICE, IOPRIO_IDLE);
}

void cpx_gentle_end(void)
{
	const pid_t parent = getppid();
	long ioprio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, parent);

	set_all(getpriority(PRIO_PROCESS, (id_t)parent), ioprio < 0 ? 0 : (int)ioprio);
}
