# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs are run and talked to; a pool of processes shares the rest of the work."""
import multiprocessing
import os
import signal
import subprocess
import time

ticks = 0


def on_alarm(_sig, _frame):
    global ticks
    ticks += 1


def square(x):
    s = 0
    for i in range(2000):
        s += (x * i) % 7
    return x, s


if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for i in range(150):
            r = subprocess.run(["sh", "-c", "read a; echo $((a * 3)); exit 3"], input=b"%d\n" % i,
                               capture_output=True, check=False)
            print(i, r.stdout.decode().strip(), r.returncode)
            p = subprocess.Popen(["sort", "-n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            out, _ = p.communicate(b"\n".join(b"%d" % (k * 7919 % 1000) for k in range(300)))
            print(len(out), out[:20], p.returncode)
            time.sleep(0.005)
            print(pool.map(square, range(i, i + 20), chunksize=3)[-1])
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert ticks > 0
    try:
        os.waitpid(-1, os.WNOHANG)
        raise SystemExit("a child is left")
    except ChildProcessError:
        print("no child is left")
