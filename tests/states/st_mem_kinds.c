/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rarer kinds of mappings at once: cut SysV segments, /dev/zero, private memfds, guard
 * regions, names, seals, protection keys, huge reservations, deleted files on tmpfs.
 * Content and the lines of /proc/self/smaps are the same afterwards.
 */
#include "state.h"

#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#define PG 4096ul
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static char *anon(size_t len, int prot)
{
	/* a page on each side that nothing merges with */
	char *p = ST_SYS((char *)mmap(NULL, len + 2 * PG, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

	ST_SYS(mmap(p + PG, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	return p + PG;
}

/* Header and flags of the mapping at @p, in one line. */
static char *lines_of(const void *p)
{
	char *text = st_slurp("/proc/self/smaps", NULL), *line = strtok(text, "\n");
	char *out = calloc(1, 1024);
	bool inside = false;

	for (; line; line = strtok(NULL, "\n")) {
		unsigned long a, b, ino;
		char rest[512] = "", name[256] = "";

		if (sscanf(line, "%lx-%lx %511[^\n]", &a, &b, rest) == 3) {
			char perm[8] = "", dev[16] = "";
			unsigned long off;

			inside = a <= (unsigned long)p && (unsigned long)p < b;
			sscanf(rest, "%7s %lx %15s %lu %255[^\n]", perm, &off, dev, &ino, name);
			if (inside)
				sprintf(out, "%lx-%lx %s %lx %s", a, b, perm, off, name);
		} else if (inside && !strncmp(line, "VmFlags", 7)) {
			strcat(out, line + 8);
		}
	}
	free(text);
	return out;
}

/* Does writing there (in a child) end it? */
static bool kills(volatile char *p)
{
	pid_t pid = st_fork();

	if (pid == 0) {
		*p = 1;
		_exit(0);
	}
	return st_reap(pid) == -1 - SIGSEGV;
}

static char *sysv, *whole, *zero, *zerosh, *memfd, *guard, *named, *sealed, *keyed, *huge,
	*gone, *ro, *exec, *shro;
static int pkey;
static bool have_guard, have_seal;

static void segments(void)
{
	int id;

	id = ST_SYS(shmget(IPC_PRIVATE, 8 * PG, IPC_CREAT | 0600));
	sysv = ST_SYS((char *)shmat(id, NULL, 0));
	st_fill(sysv, 8 * PG, 1);
	ST_SYS(munmap(sysv + 2 * PG, PG));
	ST_SYS(mprotect(sysv + 4 * PG, PG, PROT_READ));
	ST_SYS(munmap(sysv + 7 * PG, PG));
	whole = ST_SYS((char *)shmat(id, NULL, SHM_RDONLY));
	ST_SYS(shmctl(id, IPC_RMID, NULL));
}

static void objects(void)
{
	int fd;

	fd = ST_SYS(open("/dev/zero", O_RDWR | O_CLOEXEC));
	zero = ST_SYS((char *)mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	st_fill(zero, 2 * PG, 2);
	zerosh = ST_SYS((char *)mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	st_fill(zerosh + PG, PG, 3);
	close(fd);

	fd = ST_SYS(memfd_create("a (name)", MFD_CLOEXEC));
	ST_SYS(ftruncate(fd, 4 * PG + 100));
	memfd = ST_SYS((char *)mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	ST_TRUE(pwrite(fd, "under", 5, 3 * PG) == 5);
	ST_TRUE(pwrite(fd, "tail", 4, 4 * PG + 96) == 4);
	st_fill(memfd, PG, 4);
	shro = ST_SYS((char *)mmap(NULL, 4 * PG, PROT_READ, MAP_SHARED, fd, 0));
}

static void ranges(void)
{
	guard = anon(16 * PG, PROT_READ | PROT_WRITE);
	st_fill(guard, 16 * PG, 5);
	have_guard = madvise(guard + 4 * PG, 3 * PG, MADV_GUARD_INSTALL) == 0;

	named = anon(4 * PG, PROT_READ | PROT_WRITE);
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, 4 * PG, "chosen name");
	sealed = anon(4 * PG, PROT_READ | PROT_WRITE);
	st_fill(sealed, 4 * PG, 6);
	have_seal = syscall(462, sealed, 4 * PG, 0) == 0;

	pkey = (int)syscall(SYS_pkey_alloc, 0, 0);
	keyed = anon(4 * PG, PROT_READ | PROT_WRITE);
	st_fill(keyed, 4 * PG, 7);
	if (pkey > 0)
		ST_SYS(syscall(SYS_pkey_mprotect, keyed, 4 * PG, PROT_READ, pkey));

	huge = ST_SYS((char *)mmap(NULL, 64ul << 30, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	st_fill(huge + (33ul << 30), PG, 8);
}

static void files(void)
{
	char path[128];
	int fd, ro_fd;

	snprintf(path, sizeof(path), "/dev/shm/st_kinds_%d", getpid());
	fd = ST_SYS(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
	ST_SYS(unlink(path));
	ST_SYS(ftruncate(fd, 6 * PG));
	gone = ST_SYS((char *)mmap(NULL, 6 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	st_fill(gone, PG, 9);
	ST_TRUE(pwrite(fd, "deep", 4, 5 * PG) == 4);

	ro_fd = ST_SYS(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	ro = ST_SYS((char *)mmap(NULL, PG, PROT_READ, MAP_SHARED, ro_fd, 0));
	close(ro_fd);
	exec = anon(PG, PROT_READ | PROT_WRITE);
	memcpy(exec, "\xb8\x2a\0\0\0\xc3", 6);
	ST_SYS(mprotect(exec, PG, PROT_EXEC));
}

static void judge(void)
{
	ST_CHECK(st_filled(whole, 8 * PG, 1), "SysV segment");
	sysv[3 * PG] ^= 1;
	ST_CHECK(whole[3 * PG] == sysv[3 * PG], "SysV segment is not shared");
	ST_CHECK(kills(whole) && kills(sysv + 2 * PG) && kills(sysv + 4 * PG),
		 "SysV protection");
	ST_CHECK(st_filled(zero, 2 * PG, 2) && !zero[2 * PG], "/dev/zero private");
	ST_CHECK(st_filled(zerosh + PG, PG, 3) && !zerosh[0], "/dev/zero shared");
	ST_CHECK(st_filled(memfd, PG, 4) && !memcmp(memfd + 3 * PG, "under", 5) &&
			 !memcmp(shro + 3 * PG, "under", 5) && !shro[0],
		 "memfd");
	ST_CHECK(st_filled(guard, 4 * PG, 5) || !have_guard, "before the guard");
	ST_CHECK(!have_guard || (kills(guard + 4 * PG) && kills(guard + 6 * PG) &&
				 !kills(guard + 7 * PG)),
		 "guard region");
	ST_CHECK(st_filled(sealed, 4 * PG, 6), "sealed memory");
	ST_CHECK(!have_seal || munmap(sealed, PG) == -1, "seal");
	ST_CHECK(st_filled(keyed, 4 * PG, 7), "memory under a key");
	ST_CHECK(st_filled(huge + (33ul << 30), PG, 8) && !huge[0], "huge reservation");
	ST_CHECK(st_filled(gone, PG, 9) && !memcmp(gone + 5 * PG, "deep", 4), "deleted file");
	ST_CHECK(!memcmp(ro, "\177ELF", 4), "file shared for reading");
	ST_EQ(((int (*)(void))(uintptr_t)exec)(), 42);
	if (pkey > 0)
		ST_EQ(syscall(SYS_pkey_free, pkey), 0);
	ST_OK(shmdt(whole));
}

int main(int argc, char **argv)
{
	char *was[16];
	void *at[16];
	size_t n = 0;

	st_begin(argc, argv);
	segments();
	objects();
	ranges();
	files();
	at[n++] = sysv;
	at[n++] = sysv + 3 * PG;
	at[n++] = sysv + 4 * PG;
	at[n++] = sysv + 5 * PG;
	at[n++] = whole;
	at[n++] = zero;
	at[n++] = zerosh;
	at[n++] = memfd;
	at[n++] = shro;
	at[n++] = guard;
	at[n++] = named;
	at[n++] = sealed;
	at[n++] = keyed;
	at[n++] = gone;
	at[n++] = ro;
	at[n++] = exec;
	for (size_t i = 0; i < n; i++)
		was[i] = lines_of(at[i]);
	st_wait();
	for (size_t i = 0; i < n; i++)
		ST_STR(lines_of(at[i]), was[i]);
	judge();
	return st_end();
}
