#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Python: threads with a queue, hashing, floats and big numbers.
case $1 in
have) command -v python3 ;;
run) exec python3 "$SRC/tests/apps/threads.py" >out.txt ;;
esac
