/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * chpox_uapi.h - the interface of /dev/chpox. docs/kernel-abi.md explains it.
 *
 * Every structure begins with its own size, as the caller was built with; sizes are multiples
 * of 8. A size this module does not know, an unknown flag or a reserved field that is not zero
 * is refused with EINVAL, a 32-bit caller with ENOTTY. PIDs are those of the caller's PID
 * namespace. Objects are descriptors, always close-on-exec.
 */
#ifndef CHPOX_UAPI_H
#define CHPOX_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CHPOX_ABI 2

#define CHPOX_TASKS_MAX 65536u	      /* threads of a tree */
#define CHPOX_RECORDS_MAX (64u << 20) /* bytes of the record stream */
#define CHPOX_HOLD_MAX_MS 60000u
#define CHPOX_HOLD_DEFAULT_MS 10000u

/* What this kernel lets the module do (struct chpox_info.features). */
#define CHPOX_F_SNAPSHOT 1ull	  /* kernel_clone: copy-on-write snapshots */
#define CHPOX_F_PTRACE_CHECK 2ull /* ptrace_may_access: use by others than root */
#define CHPOX_F_CANCEL 4ull	  /* task_work_cancel_match: a given-up park leaves nothing */
#define CHPOX_F_PAGES 8ull	  /* walk_page_range: runs and differences */

struct chpox_info {
	__u32 size;
	__u32 abi;
	__u64 features;
	__u32 sessions;	 /* open now */
	__u32 snapshots; /* existing now */
	__u64 reserved[2];
};

/* Add a process; with CHPOX_ADD_TREE also all that descend from it when it is stopped. */
#define CHPOX_ADD_TREE 1u

struct chpox_add {
	__u32 size;
	__u32 flags;
	__s32 pid;
	__u32 reserved;
};

/*
 * Park, capture, snapshot, release: one call, which leaves nobody stopped, whatever happens to
 * the caller. With CHPOX_DUMP_HOLD the tree stays parked after a success, until
 * CHPOX_IOC_RELEASE, until the session is closed, or until @hold_ms have passed since the
 * first thread was asked to stop, whatever is first.
 */
#define CHPOX_DUMP_HOLD 1u
#define CHPOX_DUMP_NO_SNAPSHOT 2u /* only records */

/* struct chpox_dump.seen */
#define CHPOX_SEEN_SHARED 1u  /* there is writable shared memory: in a snapshot it is live */
#define CHPOX_SEEN_STOPPED 2u /* threads stopped by a signal or a tracer */

struct chpox_dump {
	__u32 size;
	__u32 flags;
	__u32 park_ms; /* give up when not all are parked by then; 0: hold_ms */
	__u32 hold_ms; /* 0: CHPOX_HOLD_DEFAULT_MS */
	/* answer */
	__u32 processes;
	__u32 threads;
	__u32 snapshots; /* one for each distinct address space, in order of the processes */
	__u32 seen;
	__u64 park_ns;	   /* first thread asked to stop .. all are parked */
	__u64 capture_ns;  /* .. records made */
	__u64 snapshot_ns; /* .. snapshots made */
	__u64 pause_ns;	   /* first thread asked .. released; 0 while held */
	__u64 records;	   /* bytes that read() will give */
};

/* 0 when the tree was held until now; ETIME when it went on before. */
struct chpox_release {
	__u32 size;
	__u32 flags;
	__u64 pause_ns;
};

/* Take out snapshot @index of the last dump, once. */
struct chpox_snap_arg {
	__u32 size;
	__u32 flags;
	__u32 index;
	__s32 pid;	/* answer: the first process with this address space */
	__s32 holder;	/* answer: kernel-made process that has the snapshot; /proc/HOLDER works
			 */
	__s32 fd;	/* answer */
	__u32 unmarked; /* answer: mappings that lack their DONTFORK and WIPEONFORK there */
	__u32 reserved;
};

/* Held: from now on for @hold_ms more. ETIME when it was let go before. */
struct chpox_hold {
	__u32 size;
	__u32 hold_ms; /* 1..CHPOX_HOLD_MAX_MS */
};

/*
 * Held: a parked thread whose call the stop itself would end with EINTR calls again when it
 * goes on; with CHPOX_AGAIN_ARG with another value as argument @arg, the time that is left.
 * EINVAL when it is in no such call.
 */
#define CHPOX_AGAIN_ARG 1u

struct chpox_again {
	__u32 size;
	__u32 flags;
	__s32 tid;
	__u32 arg; /* 0..5 */
	__u64 value;
};

/*
 * A fence around the processes that were added: when @deadline (CLOCK_BOOTTIME, ns) has passed
 * they are frozen, whatever has become of the caller, and stay so until the same descriptor
 * renews. Without flags: arm, or renew; a deadline in the future thaws.
 *
 * A descriptor that is closed with its fence armed leaves nobody who could renew: the processes
 * are killed when the deadline has passed, at once where they are frozen.
 */
#define CHPOX_FENCE_ASK 1u    /* only tell */
#define CHPOX_FENCE_DISARM 2u /* let go, for good */
#define CHPOX_FENCE_KILL 4u   /* kill them all */

enum chpox_fence_state {
	CHPOX_FENCE_NONE = 0,
	CHPOX_FENCE_ARMED = 1,
	CHPOX_FENCE_FREEZING = 2, /* the deadline has passed; somebody does not rest yet */
	CHPOX_FENCE_FROZEN = 3,	  /* nobody runs */
	CHPOX_FENCE_KILLED = 4,
};

struct chpox_fence {
	__u32 size;
	__u32 flags; /* one of those, or 0 */
	__s64 deadline;
	__u32 state;   /* answer: before this call did anything */
	__u32 threads; /* answer: asked to rest */
};

#define CHPOX_IOC_MAGIC 0xC9
#define CHPOX_IOC_INFO _IOWR(CHPOX_IOC_MAGIC, 0, struct chpox_info)
#define CHPOX_IOC_ADD _IOW(CHPOX_IOC_MAGIC, 1, struct chpox_add)
#define CHPOX_IOC_DUMP _IOWR(CHPOX_IOC_MAGIC, 2, struct chpox_dump)
#define CHPOX_IOC_RELEASE _IOWR(CHPOX_IOC_MAGIC, 3, struct chpox_release)
#define CHPOX_IOC_SNAP _IOWR(CHPOX_IOC_MAGIC, 4, struct chpox_snap_arg)
#define CHPOX_IOC_HOLD _IOW(CHPOX_IOC_MAGIC, 5, struct chpox_hold)
#define CHPOX_IOC_AGAIN _IOW(CHPOX_IOC_MAGIC, 6, struct chpox_again)
#define CHPOX_IOC_FENCE _IOWR(CHPOX_IOC_MAGIC, 7, struct chpox_fence)

/*
 * Snapshot descriptors. pread() at an address gives memory as it was; it ends before the first
 * hole and fails with ENXIO when it begins in one, with EIO when the kernel had to take the
 * snapshot's memory away. No page is ever unshared by reading.
 */

/* Kinds of chpox_run */
enum chpox_run_kind {
	CHPOX_RUN_ANON = 1, /* private memory */
	CHPOX_RUN_FILE = 2, /* page of a file or of shared memory */
	CHPOX_RUN_ZERO = 3, /* the zero page */
	CHPOX_RUN_SWAP = 4, /* not in memory now: swapped out, or on the way to another place */
	CHPOX_RUN_HUGETLB = 5,
};

#define CHPOX_RUN_SOFT_DIRTY 1u /* written since soft-dirty bits were cleared */

struct chpox_run {
	__u64 start;
	__u64 bytes;
	__u32 kind;
	__u32 flags;
};

/*
 * Present memory of [start, end) as runs, or, with @base_fd (an older snapshot; else -1), only
 * what is not certainly the same page as in the older one. Ends early when @max runs are
 * there; @next is where to go on, and equals @end when all is told.
 */
struct chpox_runs {
	__u32 size;
	__u32 flags;
	__u64 start;
	__u64 end;
	__u64 buf; /* struct chpox_run * */
	__u32 max;
	__s32 base_fd;
	__u32 count; /* answer */
	__u32 reserved;
	__u64 next; /* answer */
};

#define CHPOX_IOC_RUNS _IOWR(CHPOX_IOC_MAGIC, 16, struct chpox_runs)

/*
 * The record stream, read() on a session after a dump: each record is a header and @bytes of
 * payload, padded to 8. Unknown types are to be skipped. Times are nanoseconds.
 */
struct chpox_record {
	__u32 type;
	__u32 bytes; /* of payload, without padding */
	__s32 pid;   /* process */
	__s32 tid;   /* thread, 0: of the process */
};

enum chpox_record_type {
	CHPOX_REC_CLOCKS = 1,  /* struct chpox_rec_clocks: first */
	CHPOX_REC_PROCESS = 2, /* struct chpox_rec_process */
	CHPOX_REC_ACTIONS = 3, /* struct chpox_rec_action[64]: of signals 1.. */
	CHPOX_REC_SIGINFO = 4, /* siginfo_t, 128 bytes, in order; tid 0: the shared queue */
	CHPOX_REC_ITIMER = 5,  /* struct chpox_rec_itimer */
	CHPOX_REC_TIMER = 6,   /* struct chpox_rec_timer */
	CHPOX_REC_THREAD = 7,  /* struct chpox_rec_thread */
	CHPOX_REC_REGSET = 8,  /* __u32 note type, __u32 0, then as of PTRACE_GETREGSET */
	CHPOX_REC_RESTART = 9, /* struct chpox_rec_restart: only where one is to be used */
	CHPOX_REC_END = 10,    /* last; no payload */
};

/* All three read at one instant of the stop. */
struct chpox_rec_clocks {
	__s64 realtime;
	__s64 monotonic;
	__s64 boottime;
};

struct chpox_rec_process {
	__s32 ppid; /* 0: outside the caller's namespace */
	__u32 threads;
	__s32 snapshot; /* index for CHPOX_IOC_SNAP, -1: none */
	__u32 sighand;	/* equal numbers: shared signal actions */
	__u64 pending;	/* shared pending signals, also those whose siginfo was lost */
	__u64 brk;
	__u32 dumpable; /* as prctl() tells: this and the next two */
	__u32 subreaper;
	__u32 mdwe;
	__u32 membarrier;  /* MEMBARRIER_CMD_REGISTER_*, those in force */
	__u32 lock_future; /* MCL_FUTURE, MCL_ONFAULT */
	__u32 memory_merge;
	__u32 continued; /* by SIGCONT, and its parent has not been told */
	__u32 reserved;
};

struct chpox_rec_action {
	__u64 handler;
	__u64 flags;
	__u64 restorer;
	__u64 mask;
};

/* @remaining: 0 when not armed. The kinds ITIMER_VIRTUAL and _PROF count processor time. */
struct chpox_rec_itimer {
	__u32 which;
	__u32 reserved;
	__s64 remaining;
	__s64 interval;
};

#define CHPOX_TIMER_ARMED 1u
#define CHPOX_TIMER_UNKNOWN 2u /* clock whose remaining time cannot be told */

struct chpox_rec_timer {
	__s32 id;
	__s32 clock;
	__s32 notify; /* SIGEV_* */
	__s32 signo;
	__u64 value;
	__s32 tid; /* SIGEV_THREAD_ID */
	__u32 flags;
	__s64 remaining;
	__s64 interval;
	__s64 overrun;
};

enum chpox_thread_state {
	CHPOX_THREAD_PARKED = 1,
	CHPOX_THREAD_STOPPED = 2, /* by a signal */
	CHPOX_THREAD_TRACED = 3,
	CHPOX_THREAD_VFORK = 4, /* in vfork(), until its parked child execs or ends */
};

#define CHPOX_THREAD_RESTORE_MASK 1u /* saved_mask is to come back when the call ends */
#define CHPOX_THREAD_SEM_UNDO 2u     /* it has a list of SEM_UNDO values */
#define CHPOX_THREAD_MEM_POLICY 4u   /* it has a memory policy */
#define CHPOX_THREAD_DISPATCH 8u     /* PR_SET_SYSCALL_USER_DISPATCH is on */

struct chpox_rec_thread {
	__u32 state;
	__u32 flags;
	__u32 machine; /* ELF e_machine of the register sets */
	__u32 seccomp; /* mode */
	__u64 blocked;
	__u64 saved_mask;
	__u64 pending;
	__u64 altstack_sp;
	__u64 altstack_size;
	__u32 altstack_flags;
	__s32 pdeath_signal;
	__u64 clear_child_tid;
	__u64 robust_list;
	__u64 rseq;
	__u32 rseq_sig;
	__u32 rseq_size;
	__u32 seccomp_filters;
	__u32 stop_signal; /* of a thread in CHPOX_THREAD_STOPPED */
	__u32 securebits;  /* as prctl() tells: this and the next two */
	__u32 tsc_mode;
	__u32 mce_kill;
	__u32 reserved;
};

enum chpox_restart_kind {
	CHPOX_RESTART_OTHER = 0, /* only @name tells */
	CHPOX_RESTART_NANOSLEEP = 1,
	CHPOX_RESTART_FUTEX = 2,
	CHPOX_RESTART_POLL = 3,
};

struct chpox_rec_restart {
	__u32 kind;
	__s32 clock;
	__s64 expires;	 /* on that clock */
	__s64 remaining; /* -1: no end */
	__u64 address;	 /* rmtp, uaddr or ufds */
	__u32 value;	 /* futex: val; poll: nfds */
	__u32 flags;	 /* futex */
	__u64 bitset;	 /* futex */
	char name[64];	 /* of the kernel's function */
};

#endif
