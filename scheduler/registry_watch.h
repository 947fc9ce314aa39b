/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_watch.h - a hint that something below the prefix has changed in etcd's registry.
 *
 * A hint and no more: who gets it reads what is there. It also comes when the watch begins, and
 * when it begins anew after it broke, was compacted away, or was silent for @silent_ms; so
 * whatever is missed in between is read again, and a watch that nobody answers any more is
 * found out. The thread has a connection of its own.
 */
#ifndef CPX_SCHEDULER_REGISTRY_WATCH_H
#define CPX_SCHEDULER_REGISTRY_WATCH_H

struct cpx_err;
struct cpx_registry_watch;

/* @changed: called by the thread. */
int cpx_registry_watch(const char *url, int silent_ms, void (*changed)(void *ctx), void *ctx,
		       struct cpx_registry_watch **out, struct cpx_err *err);
/* Waits for the thread, a second at most. */
void cpx_registry_unwatch(struct cpx_registry_watch *w);

#endif
