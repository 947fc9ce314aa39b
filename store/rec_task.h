/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rec_task.h - processes, threads, signals, timers (types 0x0100..0x01ff).
 *
 * PIDs are as seen in the innermost PID namespace of the job. Ids (mm, files, fs,
 * sighand) are small numbers of the image; tasks with the same id share the object.
 * Included by state.h.
 */
#ifndef CPX_STORE_REC_TASK_H
#define CPX_STORE_REC_TASK_H

enum cpx_task_state {
	CPX_TASK_RUNNING = 0,
	CPX_TASK_STOPPED = 1, /* by a stop signal */
	CPX_TASK_ZOMBIE = 2,  /* pid, ppid, pgid, sid, comm, exit_status, exit_signal */
};

/* How a thread that was inside a system call goes on. */
enum cpx_resume {
	CPX_RESUME_NONE = 0, /* was in user code, or the registers say it all */
	CPX_RESUME_REISSUE,  /* call again as it stands: ip - 2, ax = nr */
	CPX_RESUME_TIMED,    /* call @sys_nr again with @sys_left_ns of its time-out left */
};

/* clang-format off */
#define CPX_FIELDS_task(F)                                                                    \
	F(task, u32, pid)                                                                     \
	F(task, u32, ppid)          /* 0: outside the tree */                                 \
	F(task, u32, pgid)          /* 0: outside the PID namespace */                        \
	F(task, u32, sid)                                                                     \
	F(task, u32, state)         /* enum cpx_task_state */                                 \
	F(task, u32, exit_status)   /* zombie: as wait() gives it */                          \
	F(task, u32, exit_signal)   /* sent to the parent at exit */                          \
	F(task, u32, stop_signal)                                                             \
	F(task, str, comm)                                                                    \
	F(task, u32, mm_id)                                                                   \
	F(task, u32, files_id)                                                                \
	F(task, u32, fs_id)                                                                   \
	F(task, u32, sighand_id)                                                              \
	F(task, u32, umask)                                                                   \
	F(task, u32, cwd_file)      /* id of a file record (rec_fd.h) */                      \
	F(task, u32, root_file)     /* 0: the job's root */                                   \
	F(task, u32, personality)                                                             \
	F(task, u32, dumpable)                                                                \
	F(task, u32, subreaper)                                                               \
	F(task, u32, thp_disable)                                                             \
	F(task, i32, oom_score_adj)                                                           \
	F(task, u64s, rlimits)      /* 16 pairs cur, max */                                   \
	F(task, u64, utime_ns)                                                                \
	F(task, u64, stime_ns)                                                                \
	F(task, u32, has_execed)    /* 0: setpgid by the parent still possible */             \
	F(task, u32, coredump_filter) /* /proc/PID/coredump_filter */                         \
	F(task, u32, mdwe)          /* PR_GET_MDWE */                                         \
	F(task, u32, stop_waited)   /* stopped, and its parent has been told by wait() */    \
	F(task, u32, uts_ns)        /* id of an ns record; 0: that of the host */             \
	F(task, u32, ipc_ns)                                                                  \
	F(task, u32, net_ns)                                                                  \
	F(task, u32, membarrier)    /* of its mm: registrations, as MEMBARRIER_CMD_GET_REGISTRATIONS */ \
	F(task, u32, memory_merge)  /* PR_GET_MEMORY_MERGE */                                 \
	F(task, u32, continued)     /* by SIGCONT, and its parent has not been told by wait() */

#define CPX_FIELDS_thread(F)                                                                  \
	F(thread, u32, pid)         /* of its task */                                         \
	F(thread, u32, tid)         /* == pid: the leader */                                  \
	F(thread, str, comm)                                                                  \
	F(thread, blob, regs)       /* NT_PRSTATUS set: struct user_regs_struct, as stopped */ \
	F(thread, blob, xstate)     /* NT_X86_XSTATE set */                                   \
	F(thread, u64, sigmask)     /* bit n-1 is signal n */                                 \
	F(thread, u64, altstack_sp)                                                           \
	F(thread, u64, altstack_size)                                                         \
	F(thread, u32, altstack_flags)                                                        \
	F(thread, u64, robust_list)                                                           \
	F(thread, u64, robust_len)                                                            \
	F(thread, u64, clear_tid)                                                             \
	F(thread, u64, rseq_addr)                                                             \
	F(thread, u32, rseq_size)                                                             \
	F(thread, u32, rseq_sig)                                                              \
	F(thread, u32, sched_policy)                                                          \
	F(thread, i32, sched_nice)                                                            \
	F(thread, u32, sched_prio)                                                            \
	F(thread, u32, sched_flags)                                                           \
	F(thread, u64, sched_runtime_ns)                                                      \
	F(thread, u64, sched_deadline_ns)                                                     \
	F(thread, u64, sched_period_ns)                                                       \
	F(thread, u32, ioprio)                                                                \
	F(thread, blob, affinity)   /* cpu_set bits, little-endian; empty: all CPUs */ \
	F(thread, u64, timerslack_ns)                                                         \
	F(thread, u32, pdeathsig)                                                             \
	F(thread, u32, no_new_privs)                                                          \
	F(thread, u32, seccomp)     /* 0 none, 1 strict, 2 filter */                          \
	F(thread, u32s, seccomp_filters) /* indices of seccomp records, outermost first */    \
	F(thread, u32, uid) F(thread, u32, euid) F(thread, u32, suid) F(thread, u32, fsuid)   \
	F(thread, u32, gid) F(thread, u32, egid) F(thread, u32, sgid) F(thread, u32, fsgid)   \
	F(thread, u32s, groups)                                                               \
	F(thread, u64, cap_inheritable)                                                       \
	F(thread, u64, cap_permitted)                                                         \
	F(thread, u64, cap_effective)                                                         \
	F(thread, u64, cap_bounding)                                                          \
	F(thread, u64, cap_ambient)                                                           \
	F(thread, u32, securebits)                                                            \
	F(thread, u32, resume)      /* enum cpx_resume */                                     \
	F(thread, u32, sys_nr)                                                                \
	F(thread, i64, sys_left_ns) /* < 0: no time-out */                                    \
	F(thread, u32, sys_clock)                                                             \
	F(thread, u32, tsc_mode)    /* PR_GET_TSC */                                          \
	F(thread, u32, mce_kill)    /* PR_MCE_KILL_GET */                                     \
	F(thread, u32, ended)       /* the main thread, ended before the others: only the name counts */ \
	F(thread, u32, own_fs)      /* 1: directories and umask are not its task's, but these: */ \
	F(thread, u32, umask)                                                                 \
	F(thread, u32, cwd_file)                                                              \
	F(thread, u32, root_file)                                                             \
	F(thread, u32, mem_policy)  /* set_mempolicy(): mode with its flags; 0: none */       \
	F(thread, u64s, mem_nodes)  /* its node mask */                                       \
	F(thread, u32, spec_store)  /* PR_SET_SPECULATION_CTRL: value, 0: not set */          \
	F(thread, u32, spec_branch)

#define CPX_FIELDS_sigaction(F)                                                               \
	F(sigaction, u32, sighand_id)                                                         \
	F(sigaction, u32, sig)                                                                \
	F(sigaction, u64, handler)                                                            \
	F(sigaction, u64, flags)                                                              \
	F(sigaction, u64, restorer)                                                           \
	F(sigaction, u64, mask)

#define CPX_FIELDS_sigpending(F)                                                              \
	F(sigpending, u32, pid)                                                               \
	F(sigpending, u32, tid)     /* 0: the process's shared queue */                       \
	F(sigpending, blob, info)   /* siginfo_t as the kernel gives it, 128 bytes */

#define CPX_FIELDS_itimer(F)                                                                  \
	F(itimer, u32, pid)                                                                   \
	F(itimer, u32, which)       /* ITIMER_* */                                            \
	F(itimer, u64, value_us)                                                              \
	F(itimer, u64, interval_us)

#define CPX_FIELDS_ptimer(F)                                                                  \
	F(ptimer, u32, pid)                                                                   \
	F(ptimer, u32, id)                                                                    \
	F(ptimer, i32, clock)                                                                 \
	F(ptimer, u32, signo)                                                                 \
	F(ptimer, u32, notify)      /* SIGEV_* */                                             \
	F(ptimer, u32, tid)         /* SIGEV_THREAD_ID */                                     \
	F(ptimer, u64, sigval)                                                                \
	F(ptimer, u64, value_ns)    /* left; 0: not armed */                                  \
	F(ptimer, u64, interval_ns)                                                           \
	F(ptimer, u32, overrun)

#define CPX_FIELDS_seccomp(F)                                                                 \
	F(seccomp, u32, flags)                                                                \
	F(seccomp, blob, filter)    /* struct sock_filter array */

#define CPX_FIELDS_ns(F)                                                                      \
	F(ns, u32, id)              /* > 0 */                                                 \
	F(ns, u32, type)            /* CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET */            \
	F(ns, str, host)            /* UTS: names */                                          \
	F(ns, str, domain)                                                                    \
	F(ns, u32, lo_up)           /* network: it has the loopback device alone */

#define CPX_RECS_TASK(R)                                                                      \
	R(0x0101, task, CPX_FIELDS_task)                                                      \
	R(0x0102, thread, CPX_FIELDS_thread)                                                  \
	R(0x0103, sigaction, CPX_FIELDS_sigaction)                                            \
	R(0x0104, sigpending, CPX_FIELDS_sigpending)                                          \
	R(0x0105, itimer, CPX_FIELDS_itimer)                                                  \
	R(0x0106, ptimer, CPX_FIELDS_ptimer)                                                  \
	R(0x0107, seccomp, CPX_FIELDS_seccomp)                                                \
	R(0x0108, ns, CPX_FIELDS_ns)
/* clang-format on */

#endif
