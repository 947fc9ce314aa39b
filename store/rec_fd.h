/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rec_fd.h - descriptors and what they refer to (types 0x0300..0x03ff).
 *
 * fd: a slot in a descriptor table -> ofd: an open file description (shared after dup,
 * fork and SCM_RIGHTS) -> by ofd.kind, a file record or an object record of the same
 * ofd id. Included by state.h.
 */
#ifndef CPX_STORE_REC_FD_H
#define CPX_STORE_REC_FD_H

enum cpx_ofd_kind {
	CPX_OFD_FILE = 1, /* file, directory, symlink (O_PATH), fifo by path, known device */
	CPX_OFD_PIPE,
	CPX_OFD_EVENTFD,
	CPX_OFD_EPOLL,
	CPX_OFD_TIMERFD,
	CPX_OFD_SIGNALFD,
	CPX_OFD_INOTIFY,
	CPX_OFD_PIDFD,
	CPX_OFD_SHM,  /* memfd, deleted tmpfs file: object is a shm record */
	CPX_OFD_UNIX, /* unix socket */
	CPX_OFD_INET,
	CPX_OFD_TTY,
	CPX_OFD_MQUEUE,
	CPX_OFD_NETLINK,
};

/* What happens to a file's content at restart. */
enum cpx_file_rule {
	CPX_RULE_IGNORE = 0, /* reopened, nothing checked */
	CPX_RULE_APPEND,     /* cut back to size, the excess moved aside */
	CPX_RULE_SNAPSHOT,   /* content saved in space and put back */
	CPX_RULE_VERIFY,     /* must be as it was */
	CPX_RULE_CODE,	     /* mapped program or library: code object */
};

enum cpx_file_flags {
	CPX_FILE_UNLINKED = 1u << 0, /* no name any more: content in space */
	CPX_FILE_LINKED = 1u << 1,   /* with UNLINKED: other names exist; found by handle */
	CPX_FILE_PROC = 1u << 2,     /* procfs: there once the processes are */
	CPX_FILE_LEASED = 1u << 3,   /* somebody of the job holds a lease on it */
};

enum cpx_lock_kind {
	CPX_LOCK_FLOCK = 1, /* of the ofd */
	CPX_LOCK_POSIX,	    /* of the descriptor table, set through the ofd */
	CPX_LOCK_OFD,
	CPX_LOCK_LEASE, /* of the ofd */
};

enum cpx_mount_kind {
	CPX_MOUNT_NEW = 0, /* a file system of its own */
	CPX_MOUNT_BIND,	   /* what @source shows, too */
	CPX_MOUNT_FLAGS,   /* there already, with other flags */
	CPX_MOUNT_GONE,	   /* the job does not see what is there */
};

/* clang-format off */
#define CPX_FIELDS_fd(F)                                                                      \
	F(fd, u32, files_id)                                                                  \
	F(fd, u32, fd)                                                                        \
	F(fd, u32, cloexec)                                                                   \
	F(fd, u32, ofd)

#define CPX_FIELDS_ofd(F)                                                                     \
	F(ofd, u32, id)                                                                       \
	F(ofd, u32, kind)           /* enum cpx_ofd_kind */                                   \
	F(ofd, u32, flags)          /* O_* as F_GETFL gives them */                           \
	F(ofd, u64, pos)                                                                      \
	F(ofd, u32, object)         /* id of file, shm, pipe …; 0: it is the ofd's own id */ \
	F(ofd, u32, own_type)       /* F_GETOWN_EX */                                         \
	F(ofd, i32, own_pid)                                                                  \
	F(ofd, u32, own_sig)        /* F_GETSIG */                                            \
	F(ofd, u32, own_uid) F(ofd, u32, own_euid)

#define CPX_FIELDS_file(F)                                                                    \
	F(file, u32, id)                                                                      \
	F(file, str, path)          /* as seen from the job's root */                         \
	F(file, u32, mode)          /* type and permissions */                                \
	F(file, u32, uid) F(file, u32, gid)                                                   \
	F(file, u64, dev) F(file, u64, ino) F(file, u64, rdev)                                \
	F(file, u64, size)                                                                    \
	F(file, i64, mtime_ns)                                                                \
	F(file, u32, rule)          /* enum cpx_file_rule */                                  \
	F(file, u32, flags)         /* enum cpx_file_flags */                                 \
	F(file, u32, space)         /* content, or 0 */                                       \
	F(file, u64, tail_off)      /* append: the hashed tail starts here */                 \
	F(file, u64, tail_hash)     /* xxh3-64 of [tail_off, size) */                         \
	F(file, blob, sha256)       /* code objects */                                        \
	F(file, blob, build_id)                                                               \
	F(file, u32, handle_type)   /* LINKED: name_to_handle_at() */                         \
	F(file, blob, handle)                                                                 \
	F(file, u32, fifo_size)     /* fifo: capacity, and what is in it */                   \
	F(file, blob, fifo_data)                                                              \
	F(file, str, link)          /* symbolic link: where it points */                      \
	F(file, blob, xattrs)       /* of one whose content is saved (base/xattr.h) */        \
	F(file, i64, atime_ns)      /* of such a one; 0: not known */

#define CPX_FIELDS_lock(F)                                                                    \
	F(lock, u32, kind)          /* enum cpx_lock_kind */                                  \
	F(lock, u32, ofd)                                                                     \
	F(lock, u32, files_id)      /* POSIX: whose */                                        \
	F(lock, u32, type)          /* F_RDLCK or F_WRLCK */                                  \
	F(lock, u64, start)                                                                   \
	F(lock, u64, len)           /* 0: to the end */

/* A difference between the job's own mount namespace and that of the host, in order. */
#define CPX_FIELDS_mount(F)                                                                   \
	F(mount, u32, id)                                                                     \
	F(mount, u32, kind)         /* enum cpx_mount_kind */                                 \
	F(mount, str, point)                                                                  \
	F(mount, str, type)                                                                   \
	F(mount, str, source)                                                                 \
	F(mount, u64, flags)        /* MS_* */                                                \
	F(mount, str, data)         /* options of the file system */                          \
	F(mount, u32, mode) F(mount, u32, uid) F(mount, u32, gid) /* of a tmpfs's root */

/* What is in a tmpfs that is made again: directories before what is in them. */
#define CPX_FIELDS_mount_node(F)                                                              \
	F(mount_node, u32, mount)                                                             \
	F(mount_node, str, path)    /* below the mount point */                               \
	F(mount_node, u32, mode) F(mount_node, u32, uid) F(mount_node, u32, gid)              \
	F(mount_node, u64, rdev) F(mount_node, u64, ino)                                      \
	F(mount_node, u64, size)                                                              \
	F(mount_node, i64, mtime_ns)                                                          \
	F(mount_node, u32, space)   /* content, or 0 */                                       \
	F(mount_node, str, link)                                                              \
	F(mount_node, blob, xattrs) /* base/xattr.h */                                        \
	F(mount_node, u32, same_as) /* another name of the node with this index, from 1 on */

#define CPX_RECS_FD(R)                                                                        \
	R(0x0301, fd, CPX_FIELDS_fd)                                                          \
	R(0x0302, ofd, CPX_FIELDS_ofd)                                                        \
	R(0x0303, file, CPX_FIELDS_file)                                                      \
	R(0x0304, lock, CPX_FIELDS_lock)                                                      \
	R(0x0305, mount, CPX_FIELDS_mount)                                                    \
	R(0x0306, mount_node, CPX_FIELDS_mount_node)
/* clang-format on */

#endif
