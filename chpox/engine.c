/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine.c - which engine makes a checkpoint.
 *
 * By itself the module's, where it is loaded and we may use it. Two exceptions: a job whose
 * writes are tracked by write protection is pre-copied, which stops it for less than any copy
 * of page tables does, and tracking of new processes is started by calls in them; and what the
 * module cannot tell of a tree (it says so before anything is changed) is asked by calls.
 */
#include "engine.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "track.h"

static const char *const names[] = {
	[CPX_ENGINE_AUTO] = "auto",
	[CPX_ENGINE_MODULE] = "module",
	[CPX_ENGINE_PTRACE] = "ptrace",
};

int cpx_engine_parse(const char *name, enum cpx_engine_kind *out, struct cpx_err *err)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			*out = (enum cpx_engine_kind)i;
			return 0;
		}
	}
	return cpx_err_set(err, CPX_E_INVAL, "there is no engine '%s': auto, module or ptrace",
			   name);
}

bool cpx_engine_say(char *say, size_t size)
{
	struct cpx_err why = { 0 };

	if (cpx_module_usable(&why) < 0) {
		snprintf(say, size, "ptrace: %s", why.msg);
		return false;
	}
	snprintf(say, size, "module: no ptrace, no code in the job");
	return true;
}

int cpx_engine_choose(struct cpx_cap *c, enum cpx_engine_kind which, struct cpx_err *err)
{
	const struct cpx_track *track = c->opts->track;

	c->engine = &cpx_engine_ptrace;
	if (which == CPX_ENGINE_PTRACE)
		return 0;
	if (which == CPX_ENGINE_AUTO && track && cpx_track_way(track) == CPX_TRACK_WP)
		return 0;
	if (cpx_module_usable(which == CPX_ENGINE_AUTO ? NULL : err) < 0)
		return which == CPX_ENGINE_AUTO ? 0 : CPX_E_UNSUPPORTED;
	c->engine = &cpx_engine_module;
	if (c->opts->track)
		cpx_track_from_outside(c->opts->track);
	return 0;
}

int cpx_engine_park(struct cpx_cap *c, struct cpx_park *park, int64_t timeout_ns,
		    struct cpx_err *err)
{
	struct cpx_err why = { 0 };
	int rc = c->engine->park(c, park, timeout_ns, &why);

	if (rc == CPX_E_UNSUPPORTED && c->opts->engine == CPX_ENGINE_AUTO &&
	    c->engine == &cpx_engine_module) {
		cpx_log_debug("not by the module: %s", why.msg);
		c->engine->end(c);
		c->engine = &cpx_engine_ptrace;
		return c->engine->park(c, park, timeout_ns, err);
	}
	if (rc < 0 && err)
		*err = why;
	return rc;
}
