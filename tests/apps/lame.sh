#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lame: a WAV file becomes an MP3 file.
case $1 in
have) command -v lame && command -v python3 ;;
input) [ -e "$IN/a.wav" ] || python3 "$SRC/tests/apps/wav.py" "$IN/a.wav" ;;
run) exec lame --quiet -q 0 -b 192 "$IN/a.wav" out.mp3 ;;
esac
