/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * init.c - PID 1 of the rig's machines.
 *
 * Mounts what a program may expect, loads the few modules the initramfs brings, does the lines
 * of /rig.list one after the other, writes /st as a cpio archive to the disk when one of them
 * was "dump", and ends the machine. The lines:
 *
 *	run NAME	state program NAME: start, dump (it dies), restore, judge
 *	dump NAME	start and dump; the image and all of /st/NAME leave with the archive
 *	restore NAME	restore what an earlier machine's archive brought, judge
 *	incr WAY	incremental generations against full ones (tests/incremental), by the
 *			kernel's own best WAY of finding changed pages, which must be this one
 *			(wp, soft), or by a lesser one that is forced (soft-forced, content)
 *	load -, unload -	this kernel's chpox.ko; the kernel's log must be clean
 *	kill NAME, live NAME	as run, by the module; live: the program runs on after the dump,
 *and is killed before it is restored both WAY	as incr, the engines taking turns module REGEX
 *	/bin/modtest with this kernel's module
 *
 * Output on the console, after "RIG: ", is TAP. "RIG-RC=n" at the end is the authority (0 all
 * is well); the machine also ends with it through isa-debug-exit where ioperm() is there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define EXIT_PORT 0xf4
#define LIMIT_MS 60000
#define INCR_MS 20000 /* one incremental generation, without any acceleration */

#define TIMES "/st/.times" /* what cpio does not carry: the nanoseconds of times */

struct rig {
	char kernel[16]; /* "6.1" */
	int failures;
	int dumps; /* something is to be carried out */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd >= 0) {
		if (write(fd, text, strlen(text)) < 0)
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
		close(fd);
	}
}

static void mount_all(void)
{
	static const struct {
		const char *type, *where, *data;
	} mounts[] = {
		{ "proc", "/proc", "" },
		{ "sysfs", "/sys", "" },
		{ "devtmpfs", "/dev", "" },
		{ "cgroup2", "/sys/fs/cgroup", "" },
		{ "tmpfs", "/tmp", "mode=1777" },
		{ "tmpfs", "/run", "mode=0755" },
		{ "devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666" },
		{ "tmpfs", "/dev/shm", "mode=1777" },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, mounts[i].data))
			printf("RIG: # mount %s: %s\n", mounts[i].where, strerror(errno));
	}
	if (symlink("/proc/self/fd", "/dev/fd") && errno != EEXIST)
		printf("RIG: # /dev/fd: %s\n", strerror(errno));
}

static void loopback_up(void)
{
	struct ifreq r = { .ifr_name = "lo" };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCGIFFLAGS, &r) || (r.ifr_flags |= IFF_UP, 0) ||
	    ioctl(s, SIOCSIFFLAGS, &r))
		printf("RIG: # no loopback: %s\n", strerror(errno));
	if (s >= 0)
		close(s);
}

/* Their order does not matter: as many rounds as there are levels of dependency. */
static void load_modules(const char *kernel)
{
	char dir[64], path[PATH_MAX];

	snprintf(dir, sizeof(dir), "/modules/%s", kernel);
	for (int round = 0; round < 5; round++) {
		DIR *d = opendir(dir);
		struct dirent *e;

		while (d && (e = readdir(d))) {
			int fd;

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0) {
				syscall(SYS_finit_module, fd, "", 0);
				close(fd);
			}
		}
		if (d)
			closedir(d);
	}
}

/* Wait for what falls to us; @pid's status into *status. Return: 1 when @pid ended. */
static int reap(pid_t pid, int *status)
{
	int st, found = 0;
	pid_t got;

	while ((got = waitpid(-1, &st, WNOHANG)) > 0) {
		if (got == pid) {
			*status = st;
			found = 1;
		}
	}
	return found;
}

static void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static pid_t spawn(char *const argv[], const char *log)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int null = open("/dev/null", O_RDONLY);

	dup2(null, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	if (null > 2)
		close(null);
	execv(argv[0], argv);
	dprintf(2, "exec %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Run to its end. Return: exit status, 128 + signal, or -1 when out of time. */
static int run_to_end(char *const argv[], const char *log, int64_t limit_ms)
{
	int64_t until = now_ms() + limit_ms;
	pid_t pid = spawn(argv, log);
	int st;

	while (now_ms() < until) {
		if (reap(pid, &st))
			return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
		pause_ms(5);
	}
	kill(pid, SIGKILL);
	return -1;
}

static int await_file(const char *path)
{
	int64_t until = now_ms() + LIMIT_MS;
	int st;

	while (now_ms() < until) {
		reap(0, &st);
		if (access(path, F_OK) == 0)
			return 1;
		pause_ms(5);
	}
	return 0;
}

static void show(const char *dir, const char *name)
{
	char path[256], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		printf("RIG: # %s: %s%s", name, line, strchr(line, '\n') ? "" : "\n");
	if (f)
		fclose(f);
}

static void verdict(struct rig *rig, const char *what, const char *name, const char *why)
{
	char dir[128];

	if (why && strncmp(why, "SKIP", 4) == 0) {
		printf("RIG: ok %s: %s %s # SKIP%s\n", rig->kernel, what, name, why + 4);
		return;
	}
	if (!why) {
		printf("RIG: ok %s: %s %s\n", rig->kernel, what, name);
		return;
	}
	rig->failures++;
	snprintf(dir, sizeof(dir), "/st/%s", name);
	show(dir, "fail");
	show(dir, "tool");
	printf("RIG: not ok %s: %s %s: %s\n", rig->kernel, what, name, why);
}

/* Start a state program and wait until its state is there. Return: NULL or why not. */
static const char *start(const char *name, char *result, size_t size)
{
	char prog[128], dir[128], path[160], log[160];
	char *argv[] = { prog, dir, NULL };
	FILE *f;

	snprintf(prog, sizeof(prog), "/bin/%s", name);
	snprintf(dir, sizeof(dir), "/st/%s", name);
	mkdir(dir, 0755);
	setenv("ST_DIR", dir, 1);
	snprintf(log, sizeof(log), "%s/stdout", dir);
	spawn(argv, log);
	unsetenv("ST_DIR");
	for (int i = 0; i < LIMIT_MS / 10; i++) {
		int st;

		reap(0, &st);
		snprintf(path, sizeof(path), "%s/ready", dir);
		if (access(path, F_OK) == 0)
			return NULL;
		snprintf(path, sizeof(path), "%s/result", dir);
		f = fopen(path, "re");
		if (f) {
			if (!fgets(result, (int)size, f))
				snprintf(result, size, "set-up failed");
			result[strcspn(result, "\n")] = '\0';
			fclose(f);
			return result;
		}
		pause_ms(10);
	}
	return "never ready";
}

/* All that is not the kernel's or ours. */
static void kill_all(void)
{
	int st;

	kill(-1, SIGKILL);
	for (int i = 0; i < 500 && waitpid(-1, &st, WNOHANG) >= 0; i++)
		pause_ms(10);
}

/* @engine, @live: options of the tool, or NULL. */
static const char *dump(const char *name, char *engine, char *live)
{
	char pid[32] = "", path[160], image[160], tool[160];
	char *argv[] = { "/bin/chpox_ctl", "dump", pid, "--to", image, engine, live, NULL };
	FILE *f;

	snprintf(path, sizeof(path), "/st/%s/pid", name);
	snprintf(image, sizeof(image), "/st/%s/img", name);
	snprintf(tool, sizeof(tool), "/st/%s/tool", name);
	f = fopen(path, "re");
	if (!f || !fgets(pid, sizeof(pid), f)) {
		if (f)
			fclose(f);
		return "no pid";
	}
	fclose(f);
	pid[strcspn(pid, "\n")] = '\0';
	pause_ms(100);
	if (run_to_end(argv, tool, LIMIT_MS) != 0)
		return "dump failed";
	if (live) {
		if (kill(atoi(pid), 0) != 0)
			return "it did not survive the dump";
		kill_all();
	}
	for (int i = 0; i < 500; i++) {
		int st;

		reap(0, &st);
		if (kill(atoi(pid), 0) != 0)
			return NULL;
		pause_ms(10);
	}
	return "still there after the dump";
}

static const char *restore(const char *name)
{
	char image[160], tool[160], path[160], answer[256] = "";
	char *argv[] = { "/bin/chpox_ctl", "restore", image, "--detach", NULL };
	FILE *f;

	snprintf(image, sizeof(image), "/st/%s/img", name);
	snprintf(tool, sizeof(tool), "/st/%s/tool", name);
	if (run_to_end(argv, tool, LIMIT_MS) != 0)
		return "restore failed";
	pause_ms(100);
	snprintf(path, sizeof(path), "/st/%s/go", name);
	put_file(path, "");
	snprintf(path, sizeof(path), "/st/%s/result", name);
	if (!await_file(path))
		return "no answer";
	f = fopen(path, "re");
	if (f) {
		if (!fgets(answer, sizeof(answer), f))
			answer[0] = '\0';
		fclose(f);
	}
	return strncmp(answer, "PASS", 4) == 0 ? NULL : "differs";
}

static const struct incr_way {
	const char *name, *fault, *says;
} incr_ways[] = {
	{ "wp", "", "asynchronous write protection" },
	{ "soft", "", "soft-dirty bits" },
	{ "soft-forced", "track.wp:1:errno=38+", "soft-dirty bits" },
	{ "content", "track.wp:1:errno=38+,track.soft:1:errno=38+", "content hashes" },
};

static const char *incremental(const struct incr_way *way, char *result, size_t size)
{
	char *gens = getenv("RIG_GENERATIONS"), log[160], store[64], line[512] = "";
	char *argv[] = { "/bin/oracle", store, gens, "1", "/bin/torture", "1", NULL };
	FILE *f;
	int rc;

	if (!gens)
		return "RIG_GENERATIONS is not set";
	snprintf(log, sizeof(log), "/st/%s", way->name);
	mkdir(log, 0755);
	snprintf(log, sizeof(log), "/st/%s/tool", way->name);
	snprintf(store, sizeof(store), "/st/%s/store", way->name);
	setenv("CHPOX_FAULT", way->fault, 1);
	rc = run_to_end(argv, log, atoi(gens) * INCR_MS);
	unsetenv("CHPOX_FAULT");
	f = fopen(log, "re");
	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	snprintf(result, size, "%.180s", rc < 0 ? "out of time" : line);
	return rc == 0 && strncmp(line, "ok ", 3) == 0 && strstr(line, way->says) ? NULL
										  : result;
}

static const char *incremental_by(const char *name, char *result, size_t size)
{
	for (size_t i = 0; i < sizeof(incr_ways) / sizeof(incr_ways[0]); i++)
		if (strcmp(name, incr_ways[i].name) == 0)
			return incremental(&incr_ways[i], result, size);
	return "no such way";
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void test_module(struct rig *rig, const char *regex)
{
	char command[256], line[1024];
	FILE *out;

	snprintf(command, sizeof(command), "exec /bin/modtest /chpox-%s.ko '%s' 2>&1",
		 rig->kernel, regex);
	setenv("RIG_KERNEL", rig->kernel, 1);
	out = popen(command, "re");
	while (out && fgets(line, sizeof(line), out)) {
		rig->failures += strncmp(line, "not ok", 6) == 0;
		printf("RIG: %s%s", line, strchr(line, '\n') ? "" : "\n");
	}
	if (!out || (pclose(out) && !rig->failures)) {
		printf("RIG: not ok %s: module: the test program did not end well\n",
		       rig->kernel);
		rig->failures++;
	}
}

static const char *load(const char *kernel)
{
	char path[64];
	int fd;
	long rc;

	snprintf(path, sizeof(path), "/chpox-%s.ko", kernel);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	rc = fd < 0 ? -1 : syscall(SYS_finit_module, fd, "", 0);
	if (fd >= 0)
		close(fd);
	return rc == 0 ? NULL : strerror(errno);
}

static const char *unload(void)
{
	static const char *const bad[] = { "BUG:", "WARNING:", "Oops", "Call Trace",
					   "INFO: task" };
	static char log[1 << 20];
	long rc = -1;
	int n;

	/* works and holders may be on their way out */
	for (int i = 0; i < 500 && rc < 0; i++) {
		rc = syscall(SYS_delete_module, "chpox", O_NONBLOCK);
		pause_ms(10);
	}
	if (rc < 0)
		return strerror(errno);
	n = klogctl(3 /* read all */, log, sizeof(log) - 1);
	log[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *at = strstr(log, bad[i]);

		if (at) {
			printf("RIG: # %.1500s\n", at);
			return "the kernel complains";
		}
	}
	return NULL;
}

static const char *by_module(const char *verb, const char *name, char *result, size_t size)
{
	char engine[] = "--engine=module", live[] = "--leave-running";
	const char *why = start(name, result, size);

	if (!why)
		why = dump(name, engine, strcmp(verb, "live") == 0 ? live : NULL);
	return why ? why : restore(name);
}

static void do_line(struct rig *rig, const char *verb, const char *name)
{
	char result[256];
	const char *why;

	if (strcmp(verb, "module") == 0) {
		test_module(rig, name);
		return;
	}
	if (strcmp(verb, "run") == 0) {
		why = start(name, result, sizeof(result));
		if (!why)
			why = dump(name, NULL, NULL);
		if (!why)
			why = restore(name);
	} else if (strcmp(verb, "kill") == 0 || strcmp(verb, "live") == 0) {
		why = by_module(verb, name, result, sizeof(result));
	} else if (strcmp(verb, "load") == 0) {
		why = load(rig->kernel);
	} else if (strcmp(verb, "unload") == 0) {
		why = unload();
	} else if (strcmp(verb, "both") == 0) {
		setenv("ORACLE_ENGINES", "both", 1);
		why = incremental_by(name, result, sizeof(result));
		unsetenv("ORACLE_ENGINES");
	} else if (strcmp(verb, "dump") == 0) {
		why = start(name, result, sizeof(result));
		if (!why)
			why = dump(name, NULL, NULL);
		rig->dumps++;
	} else if (strcmp(verb, "restore") == 0) {
		why = restore(name);
	} else if (strcmp(verb, "incr") == 0) {
		why = incremental_by(name, result, sizeof(result));
	} else {
		why = "no such verb";
	}
	verdict(rig, verb, name, why);
	if (strcmp(verb, "dump") != 0) {
		char dir[128];

		snprintf(dir, sizeof(dir), "/st/%s", name);
		nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
}

/* One entry in cpio's "newc" form, which the next machine's kernel unpacks as initramfs. */
static int put_entry(FILE *out, const char *name, const struct stat *st, const void *data,
		     size_t size)
{
	static const char zero[4];
	size_t len = strlen(name) + 1;

	fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 0u,
		(unsigned)st->st_mode, (unsigned)st->st_uid, (unsigned)st->st_gid, 1u,
		(unsigned)st->st_mtime, size, 0u, 0u, major(st->st_rdev), minor(st->st_rdev),
		len, 0u);
	fwrite(name, 1, len, out);
	fwrite(zero, 1, (4 - (110 + len) % 4) % 4, out);
	if (size)
		fwrite(data, 1, size, out);
	fwrite(zero, 1, (4 - size % 4) % 4, out);
	return ferror(out) ? -1 : 0;
}

static int put_content(FILE *out, const char *path, const struct stat *st)
{
	char target[PATH_MAX];
	char *data;
	ssize_t n;
	int fd, rc;

	if (S_ISLNK(st->st_mode)) {
		n = readlink(path, target, sizeof(target));
		return n < 0 ? -1 : put_entry(out, path + 1, st, target, (size_t)n);
	}
	if (!S_ISREG(st->st_mode))
		return put_entry(out, path + 1, st, NULL, 0);
	data = calloc(1, (size_t)st->st_size + 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!data || fd < 0) {
		free(data);
		return -1;
	}
	n = read(fd, data, (size_t)st->st_size);
	close(fd);
	rc = n < 0 ? -1 : put_entry(out, path + 1, st, data, (size_t)st->st_size);
	free(data);
	return rc;
}

static int put_tree(FILE *out, FILE *times, const char *path)
{
	struct stat st;
	struct dirent *e;
	int rc = 0;
	DIR *d;

	if (lstat(path, &st) || put_content(out, path, &st))
		return -1;
	fprintf(times, "%lld %ld %s\n", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, path);
	if (!S_ISDIR(st.st_mode))
		return 0;
	d = opendir(path);
	while (d && rc == 0 && (e = readdir(d))) {
		char sub[PATH_MAX];

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) < (int)sizeof(sub))
			rc = put_tree(out, times, sub);
	}
	if (d)
		closedir(d);
	return rc;
}

static void carry_out(struct rig *rig)
{
	struct stat none = { 0 };
	int fd = open("/dev/vda", O_WRONLY | O_CLOEXEC);
	FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
	FILE *times = fopen(TIMES, "we");
	struct stat st;
	long size = -1;

	if (out && times && put_tree(out, times, "/st") == 0 && fclose(times) == 0 &&
	    lstat(TIMES, &st) == 0 && put_content(out, TIMES, &st) == 0 &&
	    put_entry(out, "TRAILER!!!", &none, NULL, 0) == 0)
		size = ftell(out);
	if (out && (fflush(out) || fsync(fileno(out))))
		size = -1;
	if (out)
		fclose(out);
	printf("RIG-OUT=%ld\n", size);
	if (size < 0) {
		printf("RIG: not ok %s: carry out: %s\n", rig->kernel, strerror(errno));
		rig->failures++;
	}
}

static void take_times(void)
{
	long long sec;
	long nsec;
	char path[256];
	FILE *f = fopen(TIMES, "re");

	while (f && fscanf(f, "%lld %ld %255[^\n]", &sec, &nsec, path) == 3) {
		struct timespec t[2] = { { 0, UTIME_OMIT }, { sec, nsec } };

		utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW);
	}
	if (f)
		fclose(f);
}

static void end(int rc)
{
	printf("RIG-RC=%d\n", rc);
	fflush(stdout);
	tcdrain(1);
	sync();
	pause_ms(50);
	if (ioperm(EXIT_PORT, 4, 1) == 0)
		outl((unsigned)rc, EXIT_PORT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

int main(void)
{
	struct rig rig = { 0 };
	struct utsname un;
	char verb[32], name[64];
	FILE *list;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_all();
	uname(&un);
	snprintf(rig.kernel, sizeof(rig.kernel), "%d.%d", atoi(un.release),
		 atoi(strchr(un.release, '.') + 1));
	load_modules(rig.kernel);
	loopback_up();
	/* programs to be moved get PIDs that no other machine's kernel threads have */
	put_file("/proc/sys/kernel/ns_last_pid",
		 getenv("RIG_PID") ? getenv("RIG_PID") : "1000");
	setenv("PATH", "/bin:/usr/bin:/sbin", 1);
	mkdir("/st", 0755);
	chdir("/");
	take_times();
	list = fopen("/rig.list", "re");
	while (list && fscanf(list, "%31s %63s", verb, name) == 2)
		do_line(&rig, verb, name);
	if (!list)
		rig.failures++;
	if (rig.dumps)
		carry_out(&rig);
	end(rig.failures ? 1 : 0);
}
