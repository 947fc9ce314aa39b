#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry in a real etcd: the same as embedded, and what happens when etcd fails."""
import os, re, signal, subprocess, tempfile, threading, time

from lib import *

work = tempfile.mkdtemp(prefix="cpx-etcd-test.")
KEY, OTHER = work + "/key", work + "/other"


def make_key(path, digit):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write(digit * 64 + "\n")


def numbers(text):
    return {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", text)}


def same_as_embedded(c):
    r = subprocess.run([BUILD + "/tests/unit/test_registry"], capture_output=True, text=True,
                       env=dict(os.environ, CHPOX_TEST_ETCD=c.url(), CMOCKA_MESSAGE_OUTPUT="TAP"))
    for line in r.stdout.splitlines():
        if re.match(r"(ok|not ok) \d+ - ", line) and "SKIP" not in line:
            ok(line.startswith("ok"), "in etcd: " + line.split(" - ")[1], r.stderr)
    ok(r.returncode == 0, "in etcd: the whole test", r.stdout)


def only_the_tag_is_believed(c):
    url = c.url("/tag")
    probe(url, KEY, "make", "a")
    probe(url, KEY, "make", "b")
    rc, out = probe(url, OTHER, "get", "a")
    ok(rc == 1 and "does not bear this cluster's tag" in out, "another cluster key: refused", out)
    value = base64.b64decode(c.get("/tag/jobs/a")["value"])
    c.put("/tag/jobs/b", value)
    rc, out = probe(url, KEY, "get", "b")
    ok(rc == 1 and "tag" in out, "a record in another's place: refused", out)
    c.put("/tag/jobs/c", "{}")
    rc, out = probe(url, KEY, "get", "c")
    ok(rc == 1 and "not written by chpox" in out, "a stranger's record: refused", out)
    rc, out = probe(url, KEY, "list")
    ok(rc == 0 and "a" in out.splitlines() and "b" not in out.splitlines(),
       "bad records do not hide good ones", out)


def requests_a_commit(c):
    probe(c.url("/req"), KEY, "make", "a")

    def total():
        text = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % c.client[0]).read().decode()
        return sum(float(v) for m, v in re.findall(
            r'grpc_server_handled_total\{grpc_code="OK",grpc_method="(Txn|Range)".*\} ([\d.e+]+)',
            text))
    before = total()
    rc, out = probe(c.url("/req"), KEY, "commit", "a", 50)
    n = (total() - before) / 50
    ok(rc == 0 and 0 < n <= 3, "a commit takes %.1f requests, 3 at most" % n, out)


def stopped_for_a_moment(c):
    url = c.url("/stop")
    probe(url, KEY, "make", "a")
    timers = [threading.Timer(1, c.signal, (0, signal.SIGSTOP)),
              threading.Timer(2.5, c.signal, (0, signal.SIGCONT))]
    for t in timers:
        t.start()
    _, out = probe(url, KEY, "count", "a", 4)
    n = numbers(out)
    _, got = probe(url, KEY, "get", "a")
    ok(n.get("failed") == 0 and n["unsure"] == 0 and n["ok"] == int(got),
       "stopped for 1.5 s: each change once, none failed", out + " / " + got)
    ok(1000 < n["max_ms"] < 4500, "the longest took %d ms" % n["max_ms"])


def stopped_for_longer(c):
    url = c.url("/long")
    probe(url, KEY, "make", "a")
    c.signal(0, signal.SIGSTOP)
    start = time.time()
    rc, out = probe(url, KEY, "fenced", "a", "x", 1)
    took = time.time() - start
    c.signal(0, signal.SIGCONT)
    ok(rc == 1 and 3 < took < 5.5 and "cannot be reached" in out,
       "stopped: an error after %.1f s" % took, out)
    start = time.time()
    rc, out = probe("etcd://127.0.0.1:%d" % free_ports(1)[0], KEY, "get", "a")
    took = time.time() - start
    ok(rc == 1 and took < 5.5 and "cannot be reached" in out and "connect" in out,
       "nobody there: an error after %.1f s" % took, out)


class Lossy(threading.Thread):
    """Forwards requests of one connection after the other; every third answer to a
    transaction is lost together with its connection, or each comes late by @delay."""

    def __init__(self, port, delay=0):
        super().__init__(daemon=True)
        self.target, self.lost, self.n, self.delay = port, 0, 0, delay
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def run(self):
        while True:
            s = self.sock.accept()[0]
            with s, socket.create_connection(("127.0.0.1", self.target)) as t:
                while self.one(s, t):
                    pass

    @staticmethod
    def message(s):
        data = b""
        while b"\r\n\r\n" not in data:
            more = s.recv(65536)
            if not more:
                return b""
            data += more
        head, rest = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while len(rest) < int(length.group(1)) if length else not rest.endswith(b"0\r\n\r\n"):
            rest += s.recv(65536)
        return head + b"\r\n\r\n" + rest

    def one(self, s, t):
        request = self.message(s)
        if not request:
            return False
        t.sendall(request)
        answer = self.message(t)
        time.sleep(self.delay)
        if b"/v3/kv/txn" in request and not self.delay:
            self.n += 1
            if self.n % 3 == 0:
                self.lost += 1
                return False
        s.sendall(answer)
        return True


def answers_are_lost(c):
    lossy = Lossy(c.client[0])
    lossy.start()
    url = "etcd://127.0.0.1:%d/lossy" % lossy.port
    probe(url, KEY, "make", "a")
    _, out = probe(url, KEY, "count", "a", 2)
    n = numbers(out)
    _, got = probe(c.url("/lossy"), KEY, "get", "a")
    ok(lossy.lost > 3 and n["ok"] == int(got) and n["unsure"] == n["failed"] == 0,
       "%d answers lost: each change once" % lossy.lost, out + " / " + got)
    probe(url, KEY, "make", "b")
    rc, out = probe(url, KEY, "commit", "b", 20)
    ok(rc == 0, "and each commit is one", out)


def counted_from_the_sending(c):
    late = Lossy(c.client[0], 0.7)
    late.start()
    h = Hold("etcd://127.0.0.1:%d/late" % late.port, KEY, "n", work)
    lines = [h.line() for _ in range(3)]
    ok(all(3000 < x[1] <= 6500 - 700 for x in lines),
       "answers 0.7 s late: the deadline is counted from the sending", lines)
    h.p.kill()


def leases(c):
    url = c.url("/lease")
    one, two = tempfile.mkdtemp(dir=work), tempfile.mkdtemp(dir=work)
    h = Hold(url, KEY, "n", one)
    lease, left, _ = h.line()
    ok(lease > 0 and 5000 < left <= 6500, "the deadline is TTL minus guard from the sending",
       left)
    h.line()
    again = h.line()
    ok(again[0] == lease and again[1] > 5000, "it moves with each renewal", again)
    rc, out = probe(url, KEY, "node", "n")
    ok(out == "lease %d" % lease, "all see the node", out)
    probe(url, KEY, "make", "a")
    rc, out = probe(url, KEY, "fenced", "a", "n", lease)
    ok(rc == 0, "with its lease it writes", out)
    h.p.kill()
    h2 = Hold(url, KEY, "n", one)
    ok(h2.line()[0] == lease, "a daemon that was killed finds its lease again")
    h2.line()
    # from outside
    c.post("/v3/lease/revoke", {"ID": str(lease)})
    rc, out = probe(url, KEY, "fenced", "a", "n", lease)
    ok(rc == 1 and "has lost its lease" in out, "revoked: nothing is written", out)
    rc, out = probe(url, KEY, "fenced", "a", "gone", 0)
    ok(rc == 1 and "has lost its lease" in out, "no lease at all: nothing is written", out)
    line = h2.line()
    while isinstance(line, tuple) and line[0] == lease:
        line = h2.line()
    ok(line[0] == 0 and line[2] == 1, "revoked: it is noticed at the next renewal", line)
    line = h2.line()
    new = line[0]
    ok(new not in (0, lease), "and a new one follows", line)
    rc, out = probe(url, KEY, "fenced", "a", "n", lease)
    ok(rc == 1, "the old one's writer stays fenced off", out)
    # another place of the same name has to wait for the end of the lease, no longer
    h2.p.kill()
    t = time.time()
    h3 = Hold(url, KEY, "n", two, leave=True)
    line = h3.line()
    took = time.time() - t
    ok(isinstance(line, tuple) and line[0] not in (0, new) and 4 < took < 10,
       "a dead node's name is free after %.1f s (TTL 7 s)" % took, line)
    h3.end()
    ok(probe(url, KEY, "node", "n")[0] == 1, "a node that leaves is gone at once")


def deadline_of_a_silent_etcd(c):
    h = Hold(c.url("/silent"), KEY, "n", work)
    h.line()
    c.signal(0, signal.SIGSTOP)
    last = time.time()
    time.sleep(3)
    c.signal(0, signal.SIGCONT)
    line = h.line()
    while isinstance(line, tuple) and line[1] < 5000:
        line = h.line()
    ok(isinstance(line, tuple) and line[2] == 0 and time.time() - last < 6,
       "silent for 3 s: the lease is kept, renewed as soon as etcd answers", line)
    h.end()


def leader_killed():
    c = Cluster(3)
    url = c.url("/three")
    for i in range(3):
        c.wait(i)
    probe(url, KEY, "make", "a")
    h = Hold(url, KEY, "n", work)
    h.line()
    leader = c.leader()
    timer = threading.Timer(1, c.signal, (leader, signal.SIGKILL))
    timer.start()
    _, out = probe(url, KEY, "count", "a", 5)
    n = numbers(out)
    _, got = probe(url, KEY, "get", "a")
    ok(n.get("failed") == 0 and n["ok"] <= int(got) <= n["ok"] + n["unsure"] and
       n["unsure"] == 0, "leader killed: each change once, none failed", out + " / " + got)
    ok(n["max_ms"] < 4500, "the longest took %d ms" % n["max_ms"])
    line = h.line()
    while isinstance(line, tuple) and line[1] < 5000:
        line = h.line()
    ok(isinstance(line, tuple) and line[2] == 0, "leader killed: the lease is kept", line)
    # no quorum
    other = (leader + 1) % 3
    c.signal(other, signal.SIGKILL)
    t = time.time()
    rc, out = probe(url, KEY, "fenced", "a", "n", 1)
    ok(rc == 1 and time.time() - t < 6, "no majority: an error after %.1f s" % (time.time() - t), out)
    c.start(other)
    c.wait((leader + 2) % 3)
    c.wait(other)
    rc, out = probe(url, KEY, "count", "a", 1)
    ok(numbers(out).get("ok", 0) > 0, "majority again: it goes on", out)
    h.end()
    c.close()


class Watch:
    """Collects hints."""

    def __init__(self, url, silent_ms):
        self.p = subprocess.Popen([PROBE, url, KEY, "watch", str(silent_ms)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(self.p)
        self.n = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for _ in self.p.stdout:
            self.n += 1

    def wait(self, n, seconds):
        end = time.time() + seconds
        while self.n < n and time.time() < end:
            time.sleep(0.01)
        return self.n >= n


def watching():
    c = Cluster()
    w = Watch(c.url("/w"), 3000)
    ok(w.wait(1, 5), "a watch gives a hint when it begins")
    c.put("/w2/jobs/a", "x")
    time.sleep(0.5)
    ok(w.n == 1, "none for what is not ours", w.n)
    t = time.time()
    probe(c.url("/w"), KEY, "make", "a")
    ok(w.wait(2, 2), "one for a change, after %d ms" % ((time.time() - t) * 1000))
    n = w.n
    ok(w.wait(n + 1, 6), "silent for 3 s: it begins anew, with a hint")
    c.signal(0, signal.SIGSTOP)
    time.sleep(4)
    n = w.n
    c.signal(0, signal.SIGCONT)
    ok(w.wait(n + 1, 5), "etcd stopped and continued: a hint, though nothing changed")
    c.signal(0, signal.SIGKILL)
    c.procs[0].wait()
    time.sleep(0.5)
    n = w.n
    c.start(0)
    c.wait()
    ok(w.wait(n + 1, 5), "etcd killed and started: a hint")
    time.sleep(0.5)
    revision = c.post("/v3/kv/range", {"key": b64("x")})["header"]["revision"]
    c.post("/v3/kv/compaction", {"revision": revision, "physical": True})
    n = w.n
    probe(c.url("/w"), KEY, "make", "b")
    ok(w.wait(n + 1, 2), "after a compaction it goes on")
    w.p.stdin.close()
    ok(w.p.wait(5) == 0, "it ends when it is told")
    c.close()


for path, digit in ((KEY, "a"), (OTHER, "b")):
    make_key(path, digit)
try:
    single = Cluster()
    same_as_embedded(single)
    only_the_tag_is_believed(single)
    requests_a_commit(single)
    answers_are_lost(single)
    counted_from_the_sending(single)
    others = [threading.Thread(target=f) for f in (leader_killed, watching)]
    for t in others:
        t.start()
    stopped_for_a_moment(single)
    stopped_for_longer(single)
    deadline_of_a_silent_etcd(single)
    leases(single)
    for t in others:
        t.join()
    single.close()
finally:
    shutil.rmtree(work, ignore_errors=True)
    finish()
