/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that never had a name, large and sparse files without one, a name that a new file has
 * taken, and a deleted file that is mapped.
 */
#include "state.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define BIG (80 << 20)
#define HOLE (1ll << 33)

static void check_text(int fd, const char *want)
{
	char buf[64] = "";

	ST_OK(pread(fd, buf, sizeof(buf) - 1, 0));
	ST_STR(buf, want);
}

int main(int argc, char **argv)
{
	int never, big, sparse, old, now, mapped, only_read;
	unsigned char *p, *map, *part;
	char path[64];
	const struct timespec times[2] = { { 1000000, 5 }, { 2000000, 6 } };
	char value[16] = "";
	struct stat st;
	bool attrs;

	st_begin(argc, argv);
	p = malloc(BIG);
	never = open(st_path("."), O_TMPFILE | O_RDWR, 0640);
	if (never < 0)
		st_skip("no O_TMPFILE here");
	ST_SYS(write(never, "never had a name", 16));
	big = ST_SYS(open(st_path("big"), O_RDWR | O_CREAT, 0600));
	st_fill(p, BIG, 11);
	ST_EQ(write(big, p, BIG), BIG);
	ST_SYS(unlink(st_path("big")));
	sparse = ST_SYS(open(st_path("sparse"), O_RDWR | O_CREAT, 0600));
	ST_EQ(pwrite(sparse, "end", 3, HOLE), 3);
	ST_SYS(ftruncate(sparse, HOLE + 5000));
	ST_SYS(unlink(st_path("sparse")));
	old = ST_SYS(open(st_path("name"), O_RDWR | O_CREAT, 0600));
	ST_SYS(write(old, "old", 3));
	attrs = fsetxattr(old, "user.test", "attribute", 9, 0) == 0;
	ST_SYS(futimens(old, times));
	ST_SYS(unlink(st_path("name")));
	now = ST_SYS(open(st_path("name"), O_RDWR | O_CREAT, 0600));
	ST_SYS(write(now, "new", 3));
	mapped = ST_SYS(open(st_path("mapped"), O_RDWR | O_CREAT, 0600));
	ST_SYS(ftruncate(mapped, 3 * 4096 + 100));
	map = ST_SYS(mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0));
	part = ST_SYS(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 4096));
	st_fill(map, 3 * 4096, 12);
	part[5] ^= 1;
	ST_SYS(unlink(st_path("mapped")));
	only_read = ST_SYS(open(st_path("ro"), O_RDWR | O_CREAT, 0400));
	ST_SYS(write(only_read, "read", 4));
	close(only_read);
	only_read = ST_SYS(open(st_path("ro"), O_RDONLY));
	ST_SYS(unlink(st_path("ro")));
	st_wait();
	check_text(never, "never had a name");
	ST_EQ(ST_OK(fcntl(never, F_GETFL)) & O_TMPFILE, O_TMPFILE);
	ST_OK(fstat(never, &st));
	ST_EQ(st.st_mode & 07777, 0640);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", never);
	ST_OK(linkat(AT_FDCWD, path, AT_FDCWD, st_path("named"), AT_SYMLINK_FOLLOW));
	memset(p, 0, BIG);
	ST_EQ(pread(big, p, BIG, 0), BIG);
	ST_TRUE(st_filled(p, BIG, 11));
	ST_OK(fstat(sparse, &st));
	ST_EQ(st.st_size, HOLE + 5000);
	ST_CHECK(st.st_blocks < 1000, "the sparse file has %lld blocks",
		 (long long)st.st_blocks);
	ST_EQ(pread(sparse, p, 8, HOLE - 2), 8);
	ST_TRUE(memcmp(p, "\0\0end\0\0\0", 8) == 0);
	ST_OK(fstat(old, &st));
	ST_EQ(st.st_atim.tv_sec, times[0].tv_sec);
	ST_EQ(st.st_mtim.tv_sec, times[1].tv_sec);
	ST_EQ(st.st_mtim.tv_nsec, times[1].tv_nsec);
	if (attrs) {
		ST_EQ(fgetxattr(old, "user.test", value, sizeof(value)), 9);
		ST_STR(value, "attribute");
	}
	check_text(old, "old");
	check_text(now, "new");
	ST_OK(stat(st_path("name"), &st));
	ST_EQ(st.st_size, 3);
	ST_TRUE(st_filled(map, 3 * 4096, 12));
	map[4096 + 5] ^= 2;
	ST_EQ(pread(mapped, p, 1, 4096 + 5), 1);
	ST_EQ(p[0], map[4096 + 5]);
	ST_EQ(part[5] ^ 1, map[4096 + 5] ^ 2);
	check_text(only_read, "read");
	ST_EQ(write(only_read, "x", 1), -1);
	return st_end();
}
