/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xattr.h - the extended attributes of a file as one piece of bytes: for each its name with a
 * NUL, the length of its value (32 bits, little-endian), and the value.
 *
 * Kept are those that a program or an administrator sets: user.*, trusted.*, access control
 * lists and file capabilities. Labels of security modules are the system's.
 */
#ifndef CPX_BASE_XATTR_H
#define CPX_BASE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * cpx_xattrs_get() - what the file of @fd has, also where @fd is O_PATH.
 * Return: 0 and bytes for the caller to free in *@out (NULL: none), or -1 with errno, E2BIG
 * above a MiB.
 */
int cpx_xattrs_get(int fd, uint8_t **out, size_t *len);

/*
 * cpx_xattrs_set() - give the file of @fd what cpx_xattrs_get() told, trusting nothing in it.
 * @all: also those that give rights (trusted.*, capabilities).
 * Return: the number of attributes that could not be set, or -1 if the bytes make no sense
 * (those before are set).
 */
int cpx_xattrs_set(int fd, const void *p, size_t len, bool all);

#endif
