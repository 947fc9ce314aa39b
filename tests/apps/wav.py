# SPDX-License-Identifier: GPL-2.0-or-later
"""Forty seconds of sound, made of some sines and a saw."""
import array
import math
import sys
import wave

RATE = 44100
data = array.array("h")
for i in range(RATE * 40):
    t = i / RATE
    v = math.sin(440 * 6.283 * t) * 0.4 + math.sin(3.1 * t) * math.sin(1870 * t * (1 + t / 50)) * 0.3
    v += ((i * 7) % 300 / 300 - 0.5) * 0.2
    data.extend((int(v * 30000), int(-v * 20000)))
with wave.open(sys.argv[1], "wb") as w:
    w.setnchannels(2)
    w.setsampwidth(2)
    w.setframerate(RATE)
    w.writeframes(data.tobytes())
