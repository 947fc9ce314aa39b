# SPDX-License-Identifier: GPL-2.0-or-later
"""A job of MIB that writes pages at random, as many a second as told, and knows what is in them."""
import mmap
import random
import signal
import sys
import time
import zlib

size, rate = int(sys.argv[1]) << 20, int(sys.argv[2])
mem = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
sums = [0] * (size // 4096)
rng = random.Random(4711)


def write(page):
    data = rng.randbytes(4096)
    sums[page] = zlib.crc32(data)
    mem[page * 4096:page * 4096 + 4096] = data


def judge(*_):
    bad = sum(zlib.crc32(mem[i * 4096:i * 4096 + 4096]) != s for i, s in enumerate(sums))
    print(f"judged: {bad} wrong", flush=True)


for i in range(len(sums)):
    write(i)
signal.signal(signal.SIGUSR1, judge)
print("ready", flush=True)
while True:
    for i in range(rate // 20):
        write(rng.randrange(len(sums)))
    time.sleep(0.05)
