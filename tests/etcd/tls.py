#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""etcd with TLS, client certificates and tokens."""
import signal, subprocess, tempfile

from lib import *

work = tempfile.mkdtemp(prefix="cpx-etcd-tls.")
KEY = work + "/cluster.key"


def run(*args):
    subprocess.run(args, check=True, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ca(name):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/O=" + name, "-keyout", name + ".key", "-out",
        name + ".crt")


def cert(name, issuer, san):
    # no common name: the gateway refuses tokens from clients that have one
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/O=chpox/OU=" + name, "-keyout", name + ".key", "-out", name + ".csr")
    with open(work + "/" + name + ".ext", "w") as f:
        f.write("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n" % san)
    run("openssl", "x509", "-req", "-in", name + ".csr", "-CA", issuer + ".crt", "-CAkey",
        issuer + ".key", "-CAcreateserial", "-days", "2", "-extfile", name + ".ext", "-out",
        name + ".crt")


def tls(c, cert="client", ca="ca", more=""):
    return "%s/t?ca=%s/%s.crt&cert=%s/%s.crt&key=%s/%s.key%s" % (
        c.url(), work, ca, work, cert, work, cert, more)


def post(path, body, token=None):
    args = ["curl", "-s", "--cacert", "ca.crt", "--cert", "client.crt", "--key", "client.key",
            "https://127.0.0.1:%d%s" % (c.client[0], path), "-d", json.dumps(body)]
    if token:
        args += ["-H", "Authorization: " + token]
    return json.loads(subprocess.run(args, cwd=work, capture_output=True, check=True).stdout)


os.close(os.open(KEY, os.O_CREAT | os.O_WRONLY, 0o600))
with open(KEY, "w") as f:
    f.write("c" * 64)
ca("ca")
ca("wrong")
cert("server", "ca", "IP:127.0.0.1")
cert("client", "ca", "DNS:node1")
cert("stranger", "wrong", "DNS:node1")
c = Cluster(1, ["--cert-file", work + "/server.crt", "--key-file", work + "/server.key",
                "--client-cert-auth", "--trusted-ca-file", work + "/ca.crt"], "https")
try:
    end = time.time() + 20
    rc, out = probe(tls(c), KEY, "make", "a")
    while rc and time.time() < end:
        rc, out = probe(tls(c), KEY, "make", "a")
    ok(rc == 0, "with certificates: written", out)
    rc, out = probe(tls(c), KEY, "get", "a")
    ok((rc, out) == (0, "0"), "and read", out)
    rc, out = probe(c.url("/t?ca=%s/ca.crt" % work), KEY, "get", "a")
    ok(rc == 1 and "cannot be reached" in out, "without a client certificate: refused", out)
    rc, out = probe(tls(c, "stranger"), KEY, "get", "a")
    ok(rc == 1 and "cannot be reached" in out, "with a strange one: refused", out)
    rc, out = probe(tls(c, ca="wrong"), KEY, "get", "a")
    ok(rc == 1 and "certificate" in out, "a server with a strange certificate: refused", out)
    rc, out = probe(tls(c).replace("127.0.0.1", "localhost"), KEY, "get", "a")
    ok(rc == 1, "a server of another name: refused", out)
    rc, out = probe("etcd://127.0.0.1:%d/t" % c.client[0], KEY, "get", "a")
    ok(rc == 1, "without TLS: refused", out)

    post("/v3/auth/user/add", {"name": "root", "password": "secret"})
    post("/v3/auth/user/grant", {"user": "root", "role": "root"})
    post("/v3/auth/role/add", {"name": "root"})
    post("/v3/auth/user/grant", {"user": "root", "role": "root"})
    post("/v3/auth/enable", {})
    for name, text in (("good", "secret\n"), ("bad", "guess\n")):
        with open("%s/%s.password" % (work, name), "w") as f:
            f.write(text)
    rc, out = probe(tls(c), KEY, "get", "a")
    ok(rc == 1, "rights are on, no user named: refused", out)
    user = "&user=root&password-file=%s/%s.password"
    rc, out = probe(tls(c, more=user % (work, "good")), KEY, "get", "a")
    ok((rc, out) == (0, "0"), "with user and password: read", out)
    rc, out = probe(tls(c, more=user % (work, "bad")), KEY, "get", "a")
    ok(rc == 1 and "says" in out and "guess" not in out, "with a wrong password: refused", out)
    rc, out = probe(tls(c, more=user % (work, "no")), KEY, "get", "a")
    ok(rc == 1 and "no.password" in out, "without the file: said so", out)
    # tokens end (with the server, here): another is asked for
    p = subprocess.Popen([PROBE, tls(c, more=user % (work, "good")), KEY, "count", "a", "5"],
                         stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    c.procs[0].kill()
    c.procs[0].wait()
    c.start(0)
    out = p.communicate(timeout=30)[0]
    ok(" failed 0 " in out and not out.startswith("ok 0 "), "a token that has ended is renewed", out)
finally:
    c.close()
    shutil.rmtree(work, ignore_errors=True)
    finish()
