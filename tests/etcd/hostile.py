#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that is no etcd, or means harm: an error in time, little memory, no crash."""
import random, resource, tempfile, threading

from lib import *

work = tempfile.mkdtemp(prefix="cpx-etcd-hostile.")
KEY = work + "/cluster.key"
with open(os.open(KEY, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
    f.write("d" * 64)


def http(body, status="200 OK", length=None):
    return ("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (
        status, len(body) if length is None else length)).encode() + body


def endless(s, chunk=b"[" * 65536, pause=0):
    s.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        s.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        time.sleep(pause)


H = b'"header":{"revision":"9"}'
rnd = random.Random(7)
KV = b'{"key":"%s","create_revision":"2","mod_revision":"3","value":"AA=="}'
attacks = {
    "nothing": lambda s: None,
    "silence": lambda s: time.sleep(20),
    "garbage": lambda s: s.sendall(rnd.randbytes(100000)),
    "no JSON": lambda s: s.sendall(http(b"<html>")),
    "an array": lambda s: s.sendall(http(b"[]")),
    "an empty object": lambda s: s.sendall(http(b"{}")),
    "deep nesting": lambda s: s.sendall(http(b'{"a":' * 100000)),
    "an endless answer": endless,
    "a dripping answer": lambda s: endless(s, b" ", 0.05),
    "endless headers": lambda s: [s.sendall(b"HTTP/1.1 200 OK\r\n")] +
        [s.sendall(b"X: " + b"y" * 1000 + b"\r\n") for _ in range(1000000)],
    "a length that lies": lambda s: s.sendall(http(b"{" + H + b"}", length=1 << 40)),
    "a redirection": lambda s: s.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    "an error page": lambda s: s.sendall(http(b"{}", "500 No")),
    "another key": lambda s: s.sendall(http(
        b"{" + H + b',"kvs":[' + KV % b64("/other").encode() + b'],"count":"1"}')),
    "two keys": lambda s: s.sendall(http(
        b"{" + H + b',"kvs":[' + KV % b64("/chpox/jobs/a").encode() + b"," +
        KV % b64("/chpox/jobs/a").encode() + b"]}")),
    "a list that never ends": lambda s: s.sendall(http(
        b"{" + H + b',"more":true,"kvs":[' + KV % b64("/chpox/jobs/a").encode() + b"]}")),
    "a refused write without reason": lambda s: s.sendall(http(b"{" + H + b',"responses":[]}')),
    "many keys": lambda s: s.sendall(http(
        b"{" + H + b',"kvs":[' + b",".join([b"{}"] * 1000000) + b"]}")),
}


class Server(threading.Thread):
    def __init__(self, attack):
        super().__init__(daemon=True)
        self.attack = attack
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]

    def serve(self, s):
        try:
            with s:
                while s.recv(65536):
                    self.attack(s)
                    if self.attack in (attacks["nothing"], attacks["garbage"]):
                        return
        except OSError:
            pass

    def run(self):
        while True:
            threading.Thread(target=self.serve, args=(self.sock.accept()[0],), daemon=True).start()


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))


def one(name, attack, args):
    server = Server(attack)
    server.start()
    t = time.time()
    p = subprocess.run([PROBE, "etcd://127.0.0.1:%d" % server.port, KEY, *args], timeout=60,
                       capture_output=True, text=True, preexec_fn=limited)
    took = time.time() - t
    good = p.returncode in (0, 1) and took < 7
    # a read of nothing is no error; a write that was not done must be one
    if args[0] != "list":
        good &= p.returncode == 1 and p.stdout.count("\n") == 1
    return good, "%s: %d after %.1f s: %s" % (args[0], p.returncode, took, p.stdout + p.stderr)


def all_of(name, attack, results):
    results[name] = [one(name, attack, a) for a in
                     (["get", "a"], ["make", "a"], ["list"], ["fenced", "a", "n", "1"],
                      ["hold", "n", "7000", "500", work])]


try:
    results = {}
    threads = [threading.Thread(target=all_of, args=(n, a, results)) for n, a in attacks.items()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name in attacks:
        bad = [d for good, d in results.get(name, [(False, "no result")]) if not good]
        ok(not bad, "answered with " + name, "\n".join(bad))
finally:
    shutil.rmtree(work, ignore_errors=True)
    finish()
