#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What chpox costs, as ratios to what the same machine does without it, measured in one run.

pause       largest gap a clock-reading thread in the job sees : the job's own fork()      <= 1.5
checkpoint  full lz4 dump, durable : slower of (lz4 on all cores, O_DIRECT write of that)  <= 1.3
restart     to the first instruction : slower of (reading, decompressing)                  <= 1.3
small       8 MiB job on tmpfs through its keeper : spawn and reap of a static program     <= 40, 25
dirty       job of 1 GiB, 1 % dirtied at random: gap : fork() <= 0.25; command : (lz4, O_DIRECT
            write, fdatasync, rename, fsync of the directory) <= 3; nothing dirtied: gap - that of
            parking alone <= 2 ms; one a second: lost time : that of a bare loop (park, scan,
            read, release) <= 2; 10 MiB of a large job : (1.5 x of 1 GiB + two scans) <= 1
generations restart after 500 increments of 1 % : of a full image: bytes read <= 1.3, time <= 1.5
memory      peak of the tool                              <= 64 MiB + 4 MiB/core + 2 MiB/GiB of job

Each line: median of the ratios' parts, and (smallest .. largest). Exit status 1 when a bound is
broken, 2 when something could not be measured.
"""
import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time

import bench_dirty
import bench_generations

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(TOP, "build")
WORK = os.path.join(BUILD, "bench")
CTL = os.path.join(BUILD, "chpox_ctl")
TOOLS = os.path.join(BUILD, "tests", "bench")
MIB = 1 << 20
GIB = 1 << 30


class Broken(Exception):
    """Something could not be measured."""


def size_of(text):
    return int(text[:-1]) << {"G": 30, "M": 20, "K": 10}[text[-1]]


def call(*argv):
    """Run to the end. Return (seconds, peak memory in bytes, output)."""
    start = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL) as p:
        out = p.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - start
    if p.returncode != 0:
        raise Broken("%s: status %d: %s" % (" ".join(argv), p.returncode, out.strip()[-300:]))
    return took, usage.ru_maxrss << 10, out


def limits(*argv):
    return [float(x) for x in call(os.path.join(TOOLS, "limits"), *argv)[2].split()]


def spread(values, scale=1.0, digits=2):
    return "%.*f (%.*f .. %.*f)" % (digits, statistics.median(values) * scale, digits,
                                    min(values) * scale, digits, max(values) * scale)


def stored(directory):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512
               for d, _, files in os.walk(directory) for f in files)


def forget(directory):
    """Drop what the page cache holds of the files of a directory."""
    os.sync()
    for d, _, files in os.walk(directory):
        for f in files:
            fd = os.open(os.path.join(d, f), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Target:
    """The process that is checkpointed, outside of any job."""

    def __init__(self, size, kind, dirty="0"):
        self.answers = os.path.join(WORK, "answers")
        if os.path.exists(self.answers):
            os.unlink(self.answers)
        self.proc = subprocess.Popen(
            [os.path.join(TOOLS, "target"), size, kind, self.answers, dirty], cwd=WORK,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        self.pid = self.proc.pid
        self.lines = 0
        self.read(600)

    def read(self, timeout=60):
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if os.path.exists(self.answers):
                with open(self.answers, encoding="ascii") as f:
                    lines = f.read().splitlines()
                if len(lines) > self.lines:
                    self.lines = len(lines)
                    return lines[-1].split()
            time.sleep(0.01)
        raise Broken("the target does not answer")

    def ask(self, sig, timeout=60):
        os.kill(self.pid, sig)
        return [float(x) for x in self.read(timeout)[1:]]

    def fork(self):
        return self.ask(signal.SIGUSR1)[0]

    def gap(self):
        return self.ask(signal.SIGUSR2)

    def stop(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait()
        until = time.monotonic() + 10
        while os.path.exists("/proc/%d" % self.pid) and time.monotonic() < until:
            time.sleep(0.01)


class Report:
    def __init__(self):
        self.lines, self.failed, self.unmeasured = [], 0, 0

    def add(self, what, ratio, bound, detail):
        good = ratio <= bound
        self.failed += not good
        self.say("%-26s %6.2f  (bound %5.2f %s)  %s" % (
            what, ratio, bound, "kept  " if good else "BROKEN", detail))

    def broken(self, what, why):
        self.unmeasured += 1
        self.say("%-26s not measured: %s" % (what, why))

    def say(self, line):
        print(line, flush=True)
        self.lines.append(line)


def pause(report, opts, kind):
    target = Target(opts.pause, kind)
    forks, gaps = [], []
    try:
        for n in range(opts.runs):
            image = os.path.join(WORK, "pause%d" % n)
            forks.append(target.fork())
            time.sleep(0.2)
            target.gap()
            call(CTL, "dump", str(target.pid), "--to", image, "--leave-running")
            gaps.append(target.gap()[0])
            shutil.rmtree(image)
    finally:
        target.stop()
    report.add("pause, %s %s" % (opts.pause, kind),
               statistics.median(gaps) / statistics.median(forks), 1.5,
               "gap %s ms, fork %s ms" % (spread(gaps, 1e3), spread(forks, 1e3)))


def full(report, opts, kind):
    """Checkpoint, restart and the tool's memory: one image serves all three."""
    size = size_of(opts.full)
    image, scratch = os.path.join(WORK, "full"), os.path.join(WORK, "scratch")
    dumps, packs, writes, restarts, reads, unpacks, peaks, backs = ([] for _ in range(8))
    target = Target(opts.full, kind)
    try:
        for _ in range(opts.runs_full):
            shutil.rmtree(image, ignore_errors=True)
            os.sync()
            took, peak, _ = call(CTL, "dump", str(target.pid), "--to", image, "--leave-running")
            dumps.append(took)
            peaks.append(peak)
            bytes_stored = stored(image)
            packs.append(limits("lz4", opts.full, kind)[0])
            writes.append(limits("write", str(bytes_stored), scratch)[0])
            os.unlink(scratch)
        for n in range(opts.runs_full):
            if n == 0:
                shutil.rmtree(image)
                call(CTL, "dump", str(target.pid), "--to", image)
                target.proc.wait()
            else:
                target.stop()
            forget(image)
            start = time.time()
            _, back, _ = call(CTL, "restore", image, "--detach")
            backs.append(back)
            time.sleep(0.3)
            target.lines = target_lines(target)
            restarts.append(target.gap()[1] - start)
            unpacks.append(limits("unlz4", opts.full, kind)[0])
            limits("write", str(bytes_stored), scratch)
            forget(WORK)
            reads.append(limits("read", str(bytes_stored), scratch)[0])
            os.unlink(scratch)
    finally:
        target.stop()
        shutil.rmtree(image, ignore_errors=True)
        if os.path.exists(scratch):
            os.unlink(scratch)
    med = statistics.median
    what = "%s %s" % (opts.full, kind)
    report.add("checkpoint, " + what, med(dumps) / max(med(packs), med(writes)), 1.3,
               "dump %s s, lz4 %s s, write of %.2f GiB %s s" % (
                   spread(dumps), spread(packs), bytes_stored / GIB, spread(writes)))
    report.add("restart, " + what, med(restarts) / max(med(reads), med(unpacks)), 1.3,
               "first instruction %s s, read %s s, decompress %s s" % (
                   spread(restarts), spread(reads), spread(unpacks)))
    allowed = 64 * MIB + 4 * MIB * os.cpu_count() + 2 * MIB * size / GIB
    report.add("memory of dump, " + what, max(peaks) / allowed, 1.0,
               "peak %.1f MiB of %.1f" % (max(peaks) / MIB, allowed / MIB))
    report.add("memory of restore, " + what, max(backs) / allowed, 1.0,
               "peak %.1f MiB of %.1f" % (max(backs) / MIB, allowed / MIB))


def target_lines(target):
    """The answers file goes back with the image: count anew."""
    with open(target.answers, encoding="ascii") as f:
        return len(f.read().splitlines())


def job_pids(state):
    mine = os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == mine:
            continue
        try:
            with open("/proc/%s/environ" % entry, "rb") as f:
                if ("CHPOX_DIR=" + state).encode() in f.read().split(b"\0"):
                    yield int(entry)
        except OSError:
            continue


def small(report, opts):
    """A job of 8 MiB whose store is on tmpfs; the commands as a user gives them."""
    tmpfs = os.path.join(WORK, "tmpfs")
    os.makedirs(tmpfs, exist_ok=True)
    call("mount", "-t", "tmpfs", "-o", "size=2g,mode=0700", "chpox-bench", tmpfs)
    state = os.path.join(tmpfs, "state")
    os.environ["CHPOX_DIR"] = state
    checkpoints, restarts, spawns = [], [], []
    try:
        call(CTL, "run", "--name", "small", "--", os.path.join(TOOLS, "target"), "8M", "mix",
             os.path.join(tmpfs, "answers"))
        time.sleep(0.5)
        for _ in range(opts.runs_small):
            checkpoints.append(call(CTL, "checkpoint", "small")[0])
            spawns.append(limits("spawn", os.path.join(TOOLS, "nop"), "100")[0])
        for _ in range(opts.runs_small):
            call(CTL, "checkpoint", "small", "--kill")
            restarts.append(call(CTL, "restart", "small")[0])
            spawns.append(limits("spawn", os.path.join(TOOLS, "nop"), "100")[0])
    finally:
        for _ in range(3):
            for pid in list(job_pids(state)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.2)
        del os.environ["CHPOX_DIR"]
        subprocess.run(["umount", "-l", tmpfs], check=False)
    one = statistics.median(spawns)
    report.add("small checkpoint, 8M", statistics.median(checkpoints) / one, 40,
               "command %s ms, spawn %s ms" % (spread(checkpoints, 1e3), spread(spawns, 1e3)))
    report.add("small restart, 8M", statistics.median(restarts) / one, 25,
               "command %s ms" % spread(restarts, 1e3))


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    mem = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return "Linux %s, %d x %s, %.0f GiB" % (platform.release(), os.cpu_count(), model, mem)


def memory_free():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(x.split()[1]) << 10 for x in f if x.startswith("MemAvailable:"))


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pause", default="1G", help="memory of the pause's target (default 1G)")
    p.add_argument("--full", default="4G", help="memory of the full checkpoint (default 4G)")
    p.add_argument("--runs", type=int, default=5, help="pauses measured")
    p.add_argument("--runs-full", type=int, default=3, help="full checkpoints and restarts")
    p.add_argument("--runs-small", type=int, default=20, help="small checkpoints and restarts")
    p.add_argument("--dirty", default="1G", help="memory of the job of part dirty")
    p.add_argument("--large", help="memory of its large job (default 16G, 8G where memory is short)")
    p.add_argument("--runs-dirty", type=int, default=7, help="incremental checkpoints of each kind")
    p.add_argument("--generations", type=int, default=500, help="increments of that part")
    p.add_argument("--quick", action="store_true", help="256M, 512M and few runs")
    p.add_argument("--only", default="pause,full,small,dirty,generations", help="parts, separated by commas")
    p.add_argument("--kinds", default="mix,random", help="data: mix, random")
    p.add_argument("--json", help="write the lines there, too")
    opts = p.parse_args()
    if opts.quick:
        opts.pause, opts.full, opts.runs, opts.runs_full, opts.runs_small = \
            "256M", "512M", 3, 1, 5
        opts.dirty, opts.large, opts.runs_dirty = "256M", "1G", 3
        opts.generations = 100
    if not opts.large:
        opts.large = "16G" if memory_free() > 24 * GIB else "8G"
    opts.dirtied = str(size_of(opts.dirty) // 100 // 4096 * 4096)
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    report = Report()
    report.say(machine())
    parts = [(f, k) for f, n in ((pause, "pause"), (full, "full")) if n in opts.only.split(",")
             for k in opts.kinds.split(",")]
    for func, kind in parts:
        try:
            func(report, opts, kind)
        except (Broken, OSError) as e:
            report.broken("%s, %s" % (func.__name__, kind), e)
    if "small" in opts.only.split(","):
        try:
            small(report, opts)
        except (Broken, OSError) as e:
            report.broken("small", e)
    if "dirty" in opts.only.split(","):
        try:
            bench_dirty.dirty(sys.modules[__name__], report, opts)
        except (Broken, OSError) as e:
            report.broken("dirty", e)
    if "generations" in opts.only.split(","):
        try:
            bench_generations.generations(sys.modules[__name__], report, opts)
        except (Broken, OSError) as e:
            report.broken("generations", e)
    if opts.json:
        with open(opts.json, "w", encoding="utf-8") as f:
            json.dump(report.lines, f, indent=1)
    shutil.rmtree(WORK, ignore_errors=True)
    return 2 if report.unmeasured else 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
