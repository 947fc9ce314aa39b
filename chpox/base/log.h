/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - lines for people on stderr: errors always, notes at level 1 (default),
 * details at level 2. Thread-safe; one write(2) a line. The level is the one
 * global of the project; CHPOX_LOG=0..2 in the environment sets it at start.
 */
#ifndef CPX_BASE_LOG_H
#define CPX_BASE_LOG_H

extern int cpx_log_level;

void cpx_log_init(const char *program); /* @program is borrowed for good */
void cpx_log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cpx_log_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cpx_log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
