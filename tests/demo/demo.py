#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo asks that needs more than a shell.

pids DIR              processes (one line) whose environment or arguments name DIR
ready JSON SECS ALONE is it the middle? (exit status 0: crash now, 1: not yet, 2: too late)
partial REF RUN       how far the outputs had come
table DIR CRASH       compare and print the table; exit status 1 when anything differs
"""
import filecmp
import json
import os
import sys

JOBS = [kind + "%02d" % n for kind in ("song", "log") for n in range(1, 11)]


def load(path):
    with open(path, encoding="utf-8") as f:
        got = json.load(f)
    return {job["job"]: job for job in (got["jobs"] if isinstance(got, dict) else got)}


def ancestors():
    pid, found = os.getpid(), set()
    while pid > 1:
        found.add(pid)
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            pid = int(f.read().rsplit(")", 1)[1].split()[1])
    return found


def pids(where):
    mine, found = ancestors(), []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in mine:
            continue
        try:
            text = b""
            for name in ("environ", "cmdline"):
                with open("/proc/%s/%s" % (entry, name), "rb") as f:
                    text += f.read() + b"\0"
        except OSError:
            continue
        if where.encode() in text:
            found.append(entry)
    print(" ".join(found))


def ready(path, elapsed, alone):
    jobs = load(path)
    running = [j for j in jobs.values() if j["state"] == "RUNNING"]
    without = [j["job"] for j in running if not j["checkpoints"]]
    if len(running) < len(JOBS) // 2:
        print("demo: %d jobs had ended before all had a checkpoint" % (len(JOBS) - len(running)),
              file=sys.stderr)
        return 2
    middle = elapsed > 0.4 * alone or len(running) < len(JOBS)
    return 0 if middle and not without else 1


def outputs(directory):
    for job in JOBS:
        name = job + ".mp3" if job.startswith("song") else job + ".txt.xz"
        yield job, os.path.join(directory, name)


def partial(ref, run):
    whole = sum(os.path.getsize(p) for _, p in outputs(ref))
    there = sum(os.path.getsize(p) for _, p in outputs(run) if os.path.exists(p))
    print("         outputs were at %d of %d KiB" % (there >> 10, whole >> 10))


def measured(work, job):
    """Largest pause in ms as the job's own clock saw it, or None."""
    try:
        with open(os.path.join(work, "run", job + ".gap"), encoding="ascii") as f:
            return int(f.read().split()[1]) / 1000
    except (OSError, IndexError, ValueError):
        return None


def table(work, crash):
    jobs = load(os.path.join(work, "ps.json"))
    before = load(os.path.join(work, "before.json"))
    status = {}
    with open(os.path.join(work, "status"), encoding="ascii") as f:
        for line in f:
            status[line.split()[0]] = int(line.split()[1])
    ref = dict(outputs(os.path.join(work, "ref")))
    bad = recovered = 0
    print("%-7s %11s %12s %12s %11s %11s %10s  %s" % (
        "job", "checkpoints", "pause ms", "seen inside", "memory MiB", "stored MiB",
        "lost s", "output"))
    for job, path in outputs(os.path.join(work, "run")):
        j, b = jobs.get(job, {}), before.get(job, {})
        try:
            same = filecmp.cmp(path, ref[job], shallow=False)
        except OSError:
            same = False
        good = same and status.get(job) == 0
        lost = "-"
        if b.get("state") == "RUNNING" and b.get("checkpoint_time"):
            lost = "%.1f" % max(0, crash - b["checkpoint_time"])
            recovered += j.get("restarts", 0) > 0
        bad += not good
        inside = measured(work, job)
        print("%-7s %11s %12.1f %12s %11.1f %11.1f %10s  %s" % (
            job, j.get("checkpoints", "?"), j.get("pause_ms", 0) or 0,
            "-" if inside is None else "%.1f" % inside,
            (j.get("bytes_memory") or 0) / 2**20, (j.get("bytes_stored") or 0) / 2**20, lost,
            "identical" if good else
            "DIFFERS" if not same else "identical, but exit status %s" % status.get(job)))
    print("%d jobs were running at the crash and went on from a checkpoint" % recovered)
    return 1 if bad or recovered < len(JOBS) // 2 else 0


def main(argv):
    what, args = argv[1], argv[2:]
    if what == "pids":
        return pids(args[0])
    if what == "ready":
        return ready(args[0], float(args[1]), float(args[2]))
    if what == "partial":
        return partial(args[0], args[1])
    if what == "table":
        return table(args[0], float(args[1]))
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
