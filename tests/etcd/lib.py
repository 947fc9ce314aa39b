# SPDX-License-Identifier: GPL-2.0-or-later
"""etcd servers of their own on loopback, for the tests; TAP."""
import base64, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CHPOX_BUILD", ROOT + "/build")
ETCD = BUILD + "/etcd/etcd"
PROBE = BUILD + "/tests/etcd_probe"
failures = 0
started = []


def ok(good, name, detail=""):
    global failures
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failures += 1
        if detail:
            print("# " + str(detail).replace("\n", "\n# "), flush=True)
    return good


def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


class Cluster:
    """n members; data in memory, for a busy disk stalls etcd for seconds."""

    def __init__(self, n=1, extra=(), scheme="http"):
        self.dir = tempfile.mkdtemp(prefix="cpx-etcd.", dir="/dev/shm")
        ports = free_ports(2 * n)
        self.client, self.peer = ports[:n], ports[n:]
        self.names = ["n%d" % i for i in range(n)]
        self.extra, self.scheme = list(extra), scheme
        self.procs = [None] * n
        for i in range(n):
            self.start(i)
        if scheme == "http":
            self.wait()

    def start(self, i):
        peers = ",".join("%s=http://127.0.0.1:%d" % x for x in zip(self.names, self.peer))
        url = "%s://127.0.0.1:%d" % (self.scheme, self.client[i])
        peer = "http://127.0.0.1:%d" % self.peer[i]
        log = open("%s/%s.log" % (self.dir, self.names[i]), "a")
        self.procs[i] = subprocess.Popen(
            [ETCD, "--name", self.names[i], "--data-dir", self.dir + "/" + self.names[i],
             "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", peers] + self.extra,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        started.append(self.procs[i])

    def wait(self, i=None):
        end = time.time() + 30
        while time.time() < end:
            try:
                at = self.client[i if i is not None else 0]
                self.post("/v3/kv/range", {"key": b64("x")}, at, 1)
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("not ok etcd does not start: see " + self.dir)

    def post(self, path, body, port=None, timeout=5):
        req = urllib.request.Request("http://127.0.0.1:%d%s" % (port or self.client[0], path),
                                     json.dumps(body).encode())
        with urllib.request.urlopen(req, timeout=timeout) as r:
            return json.load(r)

    def get(self, key):
        kvs = self.post("/v3/kv/range", {"key": b64(key)}).get("kvs", [])
        return kvs[0] if kvs else None

    def put(self, key, value):
        self.post("/v3/kv/put", {"key": b64(key), "value": b64(value)})

    def url(self, prefix=""):
        hosts = ",".join("127.0.0.1:%d" % p for p in self.client)
        return ("etcd" if self.scheme == "http" else "etcds") + "://" + hosts + prefix

    def leader(self):
        for i, p in enumerate(self.client):
            s = self.post("/v3/maintenance/status", {}, p)
            if s["leader"] == s["header"]["member_id"]:
                return i
        return 0

    def signal(self, i, sig):
        self.procs[i].send_signal(sig)
        while sig == signal.SIGSTOP and not all_stopped(self.procs[i].pid):
            time.sleep(0.001)

    def close(self):
        for p in self.procs:
            if p:
                p.send_signal(signal.SIGCONT)
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def all_stopped(pid):
    for t in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, t)) as f:
            if f.read().rsplit(")", 1)[1].split()[0] != "T":
                return False
    return True


def b64(s):
    return base64.b64encode(s if isinstance(s, bytes) else s.encode()).decode()


def probe(url, key, *args, timeout=30):
    p = subprocess.run([PROBE, url, key, *map(str, args)], capture_output=True, text=True,
                       timeout=timeout, stdin=subprocess.DEVNULL)
    return p.returncode, (p.stdout + p.stderr).strip()


class Hold:
    """A node that holds its lease until it is let go."""

    def __init__(self, url, key, node, directory, ttl=7000, guard=500, leave=False):
        args = [PROBE, url, key, "hold", node, str(ttl), str(guard), directory]
        self.p = subprocess.Popen(args + (["leave"] if leave else []), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(self.p)

    def line(self):
        """lease, milliseconds left, leases lost"""
        text = self.p.stdout.readline()
        w = text.split()
        return (int(w[1]), int(w[3]), int(w[5])) if len(w) == 6 and w[0] == "lease" else text

    def end(self):
        self.p.stdin.close()
        self.p.wait(30)


def finish():
    for p in started:
        if p.poll() is None:
            p.send_signal(signal.SIGCONT)
            p.kill()
            p.wait()
    sys.exit(1 if failures else 0)
