# SPDX-License-Identifier: GPL-2.0-or-later
# A job: writes LAST numbered lines, a few a second, and how they add up.
import sys, time
last, nap = int(sys.argv[1]), float(sys.argv[2])
total = 0
for i in range(last):
    total += i * i
    print(i, total, flush=True)
    time.sleep(nap)
sys.exit(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
