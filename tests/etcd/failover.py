#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two nodes on one machine, one etcd, one store: a node that dies, and a registry that is away."""
import base64, json, os, signal, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import BUILD, Cluster, finish, ok
import shutil

TTL, GUARD = 7.0, 0.5
LONG = bool(os.environ.get("LONG"))
LINES = 1200 if LONG else 400
top = tempfile.mkdtemp(prefix="cpx-failover.", dir="/tmp")
os.chmod(top, 0o755)
store = top + "/store"
os.mkdir(store, 0o711)
etcd = Cluster()
nodes = {}


def ctl(node, *args, timeout=60):
    p = subprocess.run([BUILD + "/chpox_ctl", "--dir", nodes[node], *args], capture_output=True,
                       text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    return p.returncode, p.stdout.strip(), p.stderr.strip()


def show(node, job):
    rc, out, _ = ctl(node, "show", job, "--json")
    return json.loads(out) if rc == 0 else {}


def start(name):
    d = nodes[name] = top + "/" + name
    if not os.path.exists(d):
        os.mkdir(d, 0o711)
        shutil.copy(top + "/key", d + "/cluster.key")
    return subprocess.run([BUILD + "/chpoxd", "--dir", d, "--registry", etcd.url("/t"), "--store",
                           "file://" + store, "--node", name, "--ttl", "7s", "--guard", "500ms"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)


def await_(seconds, fn):
    end = time.time() + seconds
    while time.time() < end:
        if fn():
            return True
        time.sleep(0.1)
    return False


def mine(node):
    """All of a node: daemon, keepers, and what they keep."""
    d, pids = nodes[node].encode(), []
    for p in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                words = f.read().split(b"\0")
        except (OSError, ValueError):
            continue
        if p.isdigit() and d in words and b"chpox" in words[0]:
            pids.append(int(p))
    return pids


def kill_node(node):
    for _ in range(3):
        for pid in mine(node):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


JOB = """
import os, sys, time
n, path = int(sys.argv[1]), sys.argv[2]
for i in range(n):
    print(i, flush=True)
    with open(path, "a", buffering=1) as f:
        f.write("%.3f %d\\n" % (time.time(),
                os.stat("/proc/self/ns/pid").st_ino))
    time.sleep(0.05)
"""


def stamps(path):
    with open(path) as f:
        return [float(x.split()[0]) for x in f]


def damaged(before):
    """A record that cannot be read, for longer than it takes to list all, is not one removed."""
    key = "/t/jobs/a"
    kv = etcd.get(key)
    etcd.put(key, "no record")
    time.sleep(4 * TTL)
    now = len(stamps(top + "/log.a"))
    ok(now > before + 4 * TTL / 0.05 / 2, "record damaged: the job goes on", (before, now))
    etcd.put(key, base64.b64decode(kv["value"]).decode())
    ok(await_(20, lambda: show("n1", "a").get("state") == "RUNNING"), "and is there again")
    j = show("n1", "a")
    ok(j.get("epoch") == 1 and j.get("restarts") == 0, "as the same copy", j)


def hung():
    """A daemon that is stopped past its lease: its copy stands still before there is another."""
    ok(start("n1").returncode == 0, "the dead node is back")
    ran = await_(15, lambda: ctl("n1", "run", "--name", "b", "--every", "300ms", "--", "python3",
                                 top + "/job.py", "600", top + "/log.b")[0] == 0)
    if not ok(ran and await_(10, lambda: show("n1", "b").get("generation", 0) > 1), "a job runs"):
        return
    with open(nodes["n1"] + "/lock") as f:
        daemon = int(f.read())
    os.kill(daemon, signal.SIGSTOP)
    moved = await_(40, lambda: show("n2", "b").get("node") == "n2" and
                   show("n2", "b").get("pid", 0) > 0)
    time.sleep(2)
    os.kill(daemon, signal.SIGCONT)
    ok(moved, "daemon stopped: its job runs on the other node", show("n2", "b"))
    time.sleep(3)
    copies = {}
    with open(top + "/log.b") as f:
        for line in f:
            t, copy = line.split()
            first, last = copies.get(copy, (float(t), 0))
            copies[copy] = (first, float(t))
    spans = sorted(copies.values())
    ok(len(spans) == 2 and spans[0][1] < spans[1][0], "never two at a time", spans)
    ok(time.time() - spans[-1][1] < 1, "and one now")
    ok(await_(10, lambda: not any(b"chpox_keeper" in open("/proc/%d/cmdline" % p, "rb").read()
                                  for p in mine("n1"))), "the frozen copy is gone")


def main():
    with open(top + "/job.py", "w") as f:
        f.write(JOB)
    subprocess.run([BUILD + "/chpoxd", "init", "--dir", top + "/k"], capture_output=True,
                   check=True)
    shutil.copy(top + "/k/cluster.key", top + "/key")
    for n in ("n1", "n2"):
        p = start(n)
        ok(p.returncode == 0, "node %s starts" % n, p.stderr)
    ran = await_(15, lambda: ctl("n1", "run", "--name", "a", "--every", "300ms", "--", "python3",
                                 top + "/job.py", str(LINES), top + "/log.a")[0] == 0)
    if not ok(ran, "a job runs", ctl("n1", "ps")):
        return
    time.sleep(3)
    j = show("n2", "a")
    ok(j.get("node") == "n1" and j.get("state") == "RUNNING", "the other node shows it", j)
    ok(j.get("generation", 0) > 0, "it is checkpointed", j)

    etcd.signal(0, signal.SIGSTOP)
    time.sleep(TTL + 3)
    before = len(stamps(top + "/log.a"))
    time.sleep(1)
    ok(len(stamps(top + "/log.a")) == before, "registry away: the job is frozen")
    etcd.signal(0, signal.SIGCONT)
    ok(await_(20, lambda: len(stamps(top + "/log.a")) > before),
       "registry back: it goes on", show("n2", "a"))
    j = show("n1", "a")
    ok(j.get("epoch") == 1 and j.get("restarts") == 0, "as the same copy, nothing lost", j)
    if LONG:
        damaged(before=len(stamps(top + "/log.a")))
    time.sleep(2)

    at = time.time()
    kill_node("n1")
    back = await_(40, lambda: show("n2", "a").get("node") == "n2" and
                  show("n2", "a").get("pid", 0) > 0)
    took = time.time() - at
    ok(back, "node killed: its job runs on the other", show("n2", "a"))
    ok(took < TTL + 1 + GUARD + 1.5 + 3, "within TTL, guard, 1.5 s and the restart: %.1f s" % took)
    j = show("n2", "a")
    ok(j.get("epoch") == 2 and j.get("restarts") == 1, "exactly once", j)
    rc, _, err = ctl("n2", "wait", "a")
    ok(rc == 0, "to its end", err)
    rc, out, err = ctl("n2", "logs", "a")
    ok(out == "\n".join(map(str, range(LINES))), "with its output", (len(out), err))
    if LONG:
        hung()


try:
    main()
finally:
    if os.environ.get("KEEP"):
        print("# " + top)
    for n in nodes:
        for j in ("a", "b"):
            ctl(n, "rm", "--force", j)
        kill_node(n)
    etcd.close()
    if not os.environ.get("KEEP"):
        shutil.rmtree(top, ignore_errors=True)
finish()
