/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

int cpx_live_parse(const char *stat, char *state, uint64_t *start)
{
	const char *p = strrchr(stat, ')'); /* the name may hold anything */
	unsigned long long ticks;
	char c;

	/* fields 3 and 22 */
	if (!p || sscanf(p + 1,
			 " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d"
			 " %*d %*d %llu",
			 &c, &ticks) != 2)
		return CPX_E_FORMAT;
	*state = c;
	*start = ticks;
	return 0;
}

static int boot_id(char out[37])
{
	CPX_AUTO_FREE char *s = NULL;

	if (cpx_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &s, NULL) < 36)
		return -1;
	memcpy(out, s, 36);
	out[36] = 0;
	return 0;
}

static int stat_of(pid_t pid, char *state, uint64_t *start)
{
	CPX_AUTO_FREE char *s = NULL;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &s, NULL) < 0)
		return CPX_E_NOENT;
	return cpx_live_parse(s, state, start);
}

int cpx_live_of(pid_t pid, struct cpx_live *out, struct cpx_err *err)
{
	struct cpx_live l = { .pid = pid };
	char state;

	if (boot_id(l.boot))
		return cpx_err_set(err, CPX_E_SYS, "cannot read this boot's id");
	if (stat_of(pid, &state, &l.start) < 0 || state == 'Z' || state == 'X')
		return cpx_err_set(err, CPX_E_NOENT, "there is no process %d", pid);
	*out = l;
	return 0;
}

bool cpx_live_check(const struct cpx_live *l)
{
	uint64_t start;
	char boot[37], state;

	return l->pid > 0 && !boot_id(boot) && !strcmp(boot, l->boot) &&
	       stat_of(l->pid, &state, &start) == 0 && start == l->start && state != 'Z' &&
	       state != 'X';
}
