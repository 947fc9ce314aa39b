# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench's part about long rows of generations: a restart after many increments reads and takes
about what one from a full image does. See bench.py, whose module is @b everywhere."""
import json
import os
import signal
import statistics
import time

from bench_dirty import Job

RESTARTS = 5


def read_bytes(b):
    """Bytes that the disk below the bench's directory has read so far."""
    dev = os.stat(b.WORK).st_dev
    path = "/sys/dev/block/%d:%d/stat" % (os.major(dev), os.minor(dev))
    try:
        with open(path, encoding="ascii") as f:
            return int(f.read().split()[2]) * 512
    except OSError as e:
        raise b.Broken("the bench's directory is on no disk of its own: %s" % e) from e


def show(b):
    return json.loads(b.call(b.CTL, "show", "job", "--json")[2])


def await_end(b):
    for _ in range(1000):
        if show(b)["state"] != "RUNNING":
            return
        time.sleep(0.01)
    raise b.Broken("the job does not end")


def restarts(b):
    """Seconds and bytes read of restarts of the head, with nothing of it in the page cache. The
    job runs afterwards."""
    takes, reads = [], []
    for n in range(RESTARTS):
        if n:
            os.kill(show(b)["pid"], signal.SIGKILL)
            await_end(b)
        b.forget(os.path.join(os.environ["CHPOX_DIR"], "store"))
        before = read_bytes(b)
        takes.append(b.call(b.CTL, "restart", "job")[0])
        reads.append(read_bytes(b) - before)
    return takes, reads


def generations(b, report, opts):
    Job.read = b.Target.read
    job = Job(b, opts.dirty, "mix", opts.dirtied)
    try:
        job.checkpoint()
        for _ in range(opts.generations):
            job.ask(signal.SIGHUP)
            job.checkpoint()
        b.call(b.CTL, "checkpoint", "job", "--kill")
        after, after_read = restarts(b)
        # a keeper's first one is full
        b.call(b.CTL, "checkpoint", "job", "--kill")
        full, full_read = restarts(b)
    finally:
        job.stop()
    med = statistics.median
    what = "restart after %d generations, %s" % (opts.generations, opts.dirty)
    report.add(what + ", read", med(after_read) / max(med(full_read), 1), 1.3,
               "%s MiB, full %s MiB" % (b.spread(after_read, 1 / b.MIB, 1),
                                        b.spread(full_read, 1 / b.MIB, 1)))
    report.add(what + ", time", med(after) / med(full), 1.5,
               "%s s, full %s s" % (b.spread(after), b.spread(full)))
