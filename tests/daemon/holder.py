#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""holder.py MIB [write|random] - hold that much memory; write all of it again and again, or make
it such that it does not compress. Counts lines on its output."""
import os
import sys
import time

size = int(sys.argv[1]) << 20
how = sys.argv[2] if len(sys.argv) > 2 else ""
text = bytes(range(1, 256)) * 16
block = os.urandom(1 << 20) if how == "random" else (text * 257)[: 1 << 20]
memory = bytearray(block * (size >> 20))
n = 0
while True:
    n += 1
    if n % 10 == 1:
        print(n, flush=True)
    if how == "write":
        for at in range(0, size, 1 << 20):
            memory[at : at + (1 << 20)] = block
    else:
        time.sleep(0.01)
