# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench's part about incremental generations: what they cost is what changed. See bench.py,
whose module is @b everywhere."""
import os
import shutil
import signal
import statistics
import subprocess
import time

LOOPS = 10


class Job:
    """A target that is a job with a keeper, so that its writes are tracked."""

    def __init__(self, b, size, kind, dirty):
        self.b = b
        self.state = os.path.join(b.WORK, "state")
        self.answers = os.path.join(b.WORK, "job-answers")
        os.environ["CHPOX_DIR"] = self.state
        b.call(b.CTL, "run", "--name", "job", "--every", "10h", "--",
               os.path.join(b.TOOLS, "target"), size, kind, self.answers, dirty)
        self.lines = 0
        self.read(600)
        self.pid = int(self.find())

    def find(self):
        for entry in os.listdir("/proc"):
            try:
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    args = f.read().split(b"\0")
                if args[0].endswith(b"/target") and self.answers.encode() in args:
                    return entry
            except (OSError, IndexError):
                continue
        raise self.b.Broken("the job's process is not there")

    read = None  # of bench.Target

    def ask(self, sig, timeout=60):
        os.kill(self.pid, sig)
        return [float(x) for x in self.read(timeout)[1:]]

    def checkpoint(self):
        return self.b.call(self.b.CTL, "checkpoint", "job")[0]

    def stop(self):
        for _ in range(3):
            for pid in list(self.b.job_pids(self.state)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.3)
        os.environ.pop("CHPOX_DIR", None)
        shutil.rmtree(self.state, ignore_errors=True)
        os.unlink(self.answers)


def pauses(b, report, job, opts):
    gaps, forks, takes, least, idle, parks = ([] for _ in range(6))
    job.checkpoint()
    for _ in range(opts.runs_dirty):
        job.ask(signal.SIGHUP)
        job.ask(signal.SIGUSR2)
        takes.append(job.checkpoint())
        gaps.append(job.ask(signal.SIGUSR2)[0])
        forks.append(job.ask(signal.SIGUSR1)[0])
        least.append(b.limits("durable", opts.dirtied, "mix", os.path.join(b.WORK, "durable"))[0])
    job.checkpoint()
    for _ in range(opts.runs_dirty):
        job.ask(signal.SIGUSR2)
        job.checkpoint()
        idle.append(job.ask(signal.SIGUSR2)[0])
        b.call(os.path.join(b.TOOLS, "bare"), "park", str(job.pid), "1")
        parks.append(job.ask(signal.SIGUSR2)[0])
    med = statistics.median
    report.add("pause, %s, 1%% dirtied" % opts.dirty, med(gaps) / med(forks), 0.25,
               "gap %s ms, fork %s ms" % (b.spread(gaps, 1e3), b.spread(forks, 1e3)))
    report.add("durable, %s, 1%% dirtied" % opts.dirty, med(takes) / med(least), 3,
               "command %s ms, least %s ms" % (b.spread(takes, 1e3), b.spread(least, 1e3)))
    report.add("pause, nothing dirtied, ms", (med(idle) - med(parks)) * 1e3, 2,
               "gap %s ms, parking %s ms" % (b.spread(idle, 1e3), b.spread(parks, 1e3)))


def bare_target(b, opts):
    """A target that notes its own writes. Return: it, and where its memory is."""
    target = b.Target(opts.dirty, "mix", opts.dirtied)
    if target.ask(signal.SIGPROF)[0] < 0:
        target.stop()
        raise b.Broken("the kernel cannot write-protect by itself")
    return target, int(target.ask(signal.SIGHUP)[1])


def loops(b, report, job, opts):
    """A checkpoint a second, against the bare loop, each less what the job loses by itself."""
    alone = job.ask(signal.SIGVTALRM, 120)[0]
    end = time.monotonic() + LOOPS
    os.kill(job.pid, signal.SIGVTALRM)
    n = 0
    while time.monotonic() < end - 0.5:
        start = time.monotonic()
        job.checkpoint()
        n += 1
        time.sleep(max(0, start + 1 - time.monotonic()))
    with_us = float(job.read(60)[1])
    target, start = bare_target(b, opts)
    try:
        nothing = target.ask(signal.SIGVTALRM, 120)[0]
        os.kill(target.pid, signal.SIGVTALRM)
        with subprocess.Popen([os.path.join(b.TOOLS, "bare"), "loop", str(target.pid), str(start),
                               str(b.size_of(opts.dirty)), str(LOOPS)]) as loop:
            bare = float(target.read(60)[1])
            loop.wait()
    finally:
        target.stop()
    report.add("slowed, 1 a second", (with_us - alone) / max(bare - nothing, 1e-6), 2,
               "%.2f ms a second in %d checkpoints, bare loop %.2f ms (alone %.2f, %.2f)" % (
                   (with_us - alone) * 1e3, n, (bare - nothing) * 1e3, alone * 1e3,
                   nothing * 1e3))


def ten_mib(b, size, runs):
    """Seconds of checkpoints of a job of @size that dirties 10 MiB, and of a scan of it."""
    job = Job(b, size, "mix", "10M")
    try:
        job.checkpoint()
        takes, scans = [], []
        for _ in range(runs):
            start = int(job.ask(signal.SIGHUP)[1])
            takes.append(job.checkpoint())
            scans.append(float(b.call(os.path.join(b.TOOLS, "bare"), "scan", str(job.pid),
                                      str(start), str(b.size_of(size)))[2]))
        return takes, scans
    finally:
        job.stop()


def dirty(b, report, opts):
    Job.read = b.Target.read
    job = Job(b, opts.dirty, "mix", opts.dirtied)
    try:
        pauses(b, report, job, opts)
        loops(b, report, job, opts)
    finally:
        job.stop()
    little, _ = ten_mib(b, opts.dirty, opts.runs_dirty)
    large, scans = ten_mib(b, opts.large, opts.runs_dirty)
    med = statistics.median
    report.add("10M of %s : of %s" % (opts.large, opts.dirty),
               med(large) / (1.5 * med(little) + 2 * med(scans)), 1,
               "%s ms, %s ms, scan %s ms" % (b.spread(large, 1e3), b.spread(little, 1e3),
                                             b.spread(scans, 1e3)))
