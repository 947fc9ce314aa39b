/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "timed.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>

/* clang-format off */
static const struct cpx_timed table[] = {
	{ SYS_nanosleep,       CPX_TIMED_BLOCK, CPX_TIMED_TS,   0,  1 },
	{ SYS_clock_nanosleep, CPX_TIMED_BLOCK, CPX_TIMED_TS,   2,  3 },
	{ SYS_poll,            CPX_TIMED_BLOCK, CPX_TIMED_MS,   2, -1 },
	{ SYS_futex,           CPX_TIMED_BLOCK, CPX_TIMED_TS,   3, -1 },
	{ SYS_epoll_wait,      CPX_TIMED_EINTR, CPX_TIMED_MS,   3, -1 },
	{ SYS_epoll_pwait,     CPX_TIMED_EINTR, CPX_TIMED_MS,   3, -1 },
	{ SYS_epoll_pwait2,    CPX_TIMED_EINTR, CPX_TIMED_TS,   3, -1 },
	{ SYS_rt_sigtimedwait, CPX_TIMED_EINTR, CPX_TIMED_TS,   2, -1 },
	{ SYS_semtimedop,      CPX_TIMED_EINTR, CPX_TIMED_TS,   3, -1 },
	{ SYS_semop,           CPX_TIMED_EINTR, CPX_TIMED_NONE, 0, -1 },
	{ SYS_io_getevents,    CPX_TIMED_EINTR, CPX_TIMED_TS,   4, -1 },
	{ SYS_io_pgetevents,   CPX_TIMED_EINTR, CPX_TIMED_TS,   4, -1 },
	{ SYS_select,          CPX_TIMED_EINTR, CPX_TIMED_NONE, 0, -1 },
	{ SYS_pselect6,        CPX_TIMED_EINTR, CPX_TIMED_NONE, 0, -1 },
	{ SYS_ppoll,           CPX_TIMED_EINTR, CPX_TIMED_NONE, 0, -1 },
	{ SYS_read,            CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_readv,           CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_recvfrom,        CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_recvmsg,         CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_recvmmsg,        CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_accept,          CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_accept4,         CPX_TIMED_EINTR, CPX_TIMED_RCV,  0, -1 },
	{ SYS_write,           CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
	{ SYS_writev,          CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
	{ SYS_sendto,          CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
	{ SYS_sendmsg,         CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
	{ SYS_sendmmsg,        CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
	{ SYS_connect,         CPX_TIMED_EINTR, CPX_TIMED_SND,  0, -1 },
};
/* clang-format on */

const struct cpx_timed *cpx_timed_find(long nr)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].nr == nr)
			return &table[i];
	return NULL;
}

bool cpx_timed_relative(const struct cpx_timed *d, const uint64_t args[6])
{
	int op = (int)args[1] & FUTEX_CMD_MASK;

	if (d->form == CPX_TIMED_NONE)
		return false;
	if (d->form == CPX_TIMED_TS && args[d->arg] == 0)
		return false;
	if (d->form == CPX_TIMED_MS)
		return (int)args[d->arg] > 0;
	if (d->nr == SYS_clock_nanosleep)
		return !(args[1] & TIMER_ABSTIME);
	if (d->nr == SYS_futex)
		return op == FUTEX_WAIT;
	return true;
}

void cpx_timed_args(const struct user_regs_struct *r, uint64_t args[6])
{
	const uint64_t v[6] = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 };

	memcpy(args, v, sizeof(v));
}

void cpx_timed_set_arg(struct user_regs_struct *r, unsigned arg, uint64_t value)
{
	unsigned long long *at[6] = { &r->rdi, &r->rsi, &r->rdx, &r->r10, &r->r8, &r->r9 };

	if (arg < 6)
		*at[arg] = value;
}

int cpx_timed_ms(int64_t left_ns)
{
	if (left_ns <= 0)
		return 0;
	if (left_ns > (int64_t)INT32_MAX * 1000000)
		return INT32_MAX;
	return (int)((left_ns + 999999) / 1000000);
}

/* --- restart_syscall ------------------------------------------------------------------------
 */

/* Could these be the arguments of call @nr with a time-out that has a restart block? */
static bool plausible(long nr, const uint64_t args[6])
{
	const struct cpx_timed *d = cpx_timed_find(nr);
	int op = (int)args[1] & FUTEX_CMD_MASK;
	const uint64_t low = 4096, high = 1ull << 56;

	switch (nr) {
	case SYS_nanosleep:
		return args[0] >= low && args[0] < high && args[1] < high;
	case SYS_clock_nanosleep:
		return (args[0] < 16 || (int32_t)args[0] < 0) && args[2] >= low &&
		       args[2] < high && args[3] < high && cpx_timed_relative(d, args);
	case SYS_poll:
		return args[1] < (1u << 20) && args[0] < high && (int)args[2] != 0;
	case SYS_futex:
		return args[0] >= low && args[0] < high && args[0] % 4 == 0 && args[3] >= low &&
		       args[3] < high && (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET) &&
		       (args[1] & ~(uint64_t)0x1ff) == 0;
	default:
		return false;
	}
}

static const struct {
	long nr;
	const char *wchan;
} blocks[] = {
	{ SYS_clock_nanosleep, "nanosleep" },
	{ SYS_nanosleep, "nanosleep" },
	{ SYS_futex, "futex" },
	{ SYS_poll, "poll" },
};
#define NBLOCKS (sizeof(blocks) / sizeof(blocks[0]))

/* "mov $nr, %eax" in front of the syscall instruction, a few harmless instructions between. */
static bool code_says(long nr, const uint8_t *code, size_t n)
{
	for (size_t i = 0; n >= 5 && i <= n - 5; i++) {
		uint32_t imm;

		memcpy(&imm, code + i + 1, 4);
		if (code[i] == 0xb8 && (long)imm == nr)
			return true;
	}
	return false;
}

long cpx_timed_guess(const uint64_t args[6], const uint8_t *code, size_t n, const char *wchan)
{
	long found = -1;

	for (size_t i = 0; i < NBLOCKS; i++)
		if (plausible(blocks[i].nr, args) && code_says(blocks[i].nr, code, n))
			return blocks[i].nr;
	for (size_t i = 0; i < NBLOCKS; i++) {
		if (!plausible(blocks[i].nr, args))
			continue;
		if (wchan && wchan[0] && strcmp(wchan, "0") != 0 &&
		    !strstr(wchan, blocks[i].wchan))
			continue;
		if (found >= 0)
			return -1;
		found = blocks[i].nr;
	}
	return found;
}

/* --- timers ---------------------------------------------------------------------------------
 */

#define MAX_SLACK_NS 100000000ll
#define GRACE_NS 5000000ll
#define MATCH_AT_ONCE 16
#define ENDED_NS 100000000000ll
#define MAYBE_ENDED_NS 1000000ll
#define OTHER_CPU_NS 10000000000ll /* rare: timers seldom move */

static bool still_there(const struct cpx_timed_sleep *t, const struct cpx_timed_sleep *after,
			size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (after[i].id == t->id && after[i].soft_ns == t->soft_ns)
			return true;
	return false;
}

/* The slack that the kernel gives a wide time-out of @asked. */
static int64_t wide_slack(int64_t asked, int64_t least, int divisor)
{
	int64_t slack = asked / divisor;

	if (slack > MAX_SLACK_NS)
		slack = MAX_SLACK_NS;
	return slack < least ? least : slack;
}

struct moments {
	int64_t stop_ns, after_ns;
};

/* How badly timer @t fits @w; < 0: it cannot be. */
static int64_t misfit(const struct cpx_timed_want *w, const struct cpx_timed_sleep *t,
		      const struct moments *m)
{
	int64_t slack = t->hard_ns - t->soft_ns, most = m->stop_ns + w->asked_ns + GRACE_NS;
	int64_t since = w->blocked_ns >= 0 ? w->blocked_ns : m->stop_ns, score = 0;

	if (t->soft_ns < m->stop_ns - GRACE_NS || t->soft_ns > most)
		return -1;
	if (w->wide && slack > wide_slack(w->asked_ns, w->slack_ns, 200) + GRACE_NS)
		return -1;
	if (t->soft_ns <= m->after_ns + MAYBE_ENDED_NS)
		score += ENDED_NS;
	if (w->cpu >= 0 && t->cpu != w->cpu)
		score += OTHER_CPU_NS;
	/* slack is for what was left when the timer was set; asleep since then */
	if (w->wide)
		score += 100 * llabs(slack - wide_slack(t->soft_ns - since, w->slack_ns, 1000));
	else
		score += 100 * llabs(slack - w->slack_ns);
	if (w->first && w->blocked_ns >= 0)
		score += llabs(t->soft_ns - w->asked_ns - w->blocked_ns);
	else
		score += (most - t->soft_ns) / 1000; /* short ones first choose short timers */
	return score;
}

/* Best pair first among a few wanted ones. */
static void match_some(const struct cpx_timed_sleep *timers, bool *gone, size_t n,
		       const struct moments *m, struct cpx_timed_want *want, size_t nwant)
{
	for (size_t round = 0; round < nwant; round++) {
		int64_t best = INT64_MAX;
		size_t bw = 0, bt = 0;

		for (size_t i = 0; i < nwant; i++) {
			for (size_t k = 0; want[i].deadline_ns < 0 && k < n; k++) {
				int64_t s = gone[k] ? misfit(&want[i], &timers[k], m) : -1;

				if (s >= 0 && s < best) {
					best = s;
					bw = i;
					bt = k;
				}
			}
		}
		if (best == INT64_MAX)
			return;
		want[bw].deadline_ns = timers[bt].soft_ns;
		gone[bt] = false;
	}
}

void cpx_timed_match(const struct cpx_timed_sleep *before, size_t nbefore,
		     const struct cpx_timed_sleep *after, size_t nafter, int64_t stop_ns,
		     int64_t after_ns, struct cpx_timed_want *want, size_t nwant)
{
	const struct moments m = { stop_ns, after_ns };
	bool *gone = calloc(nbefore + 1, sizeof(*gone));

	for (size_t i = 0; i < nwant; i++)
		want[i].deadline_ns = -1;
	for (size_t i = 0; gone && i < nbefore; i++)
		gone[i] = !still_there(&before[i], after, nafter);
	/* a handful at a time bounds the work where thousands sleep */
	for (size_t i = 0; gone && i < nwant; i += MATCH_AT_ONCE)
		match_some(before, gone, nbefore, &m, want + i,
			   nwant - i < MATCH_AT_ONCE ? nwant - i : MATCH_AT_ONCE);
	free(gone);
}
