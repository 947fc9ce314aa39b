/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gentle.h - beside the job, not before it: what is left to do of a checkpoint when the job
 * runs again takes only what processor and disk have to spare.
 */
#ifndef CPX_GENTLE_H
#define CPX_GENTLE_H

/* From now on all threads of this process, also those that are made later. Never fails: where
 * priorities cannot be had, all goes on as before. */
void cpx_gentle_begin(void);
/* As our parent is again, where that is allowed: a job is to be stopped once more. */
void cpx_gentle_end(void);

#endif
