# SPDX-License-Identifier: GPL-2.0-or-later
"""Four workers take numbers from a queue, hash them, and the results are told in order."""
import hashlib
import queue
import threading
import time

todo, done, lock = queue.Queue(20), {}, threading.Lock()


def worker(n):
    local = threading.local()
    local.count = 0
    while True:
        i = todo.get()
        if i is None:
            return
        h = hashlib.sha256(b"%d" % i)
        for _ in range(400):
            h = hashlib.sha256(h.digest() * 20)
        local.count += 1
        with lock:
            done[i] = h.hexdigest()
        if i % 50 == n:
            time.sleep(0.005)


threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
for t in threads:
    t.start()
for i in range(6000):
    todo.put(i)
for t in threads:
    todo.put(None)
for t in threads:
    t.join(timeout=60)
    assert not t.is_alive()
for i in sorted(done):
    print(i, done[i], 3 ** (i % 50), i ** 0.5)
