#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Python: subprocesses by pipes, a pool of processes, signals.
case $1 in
have) command -v python3 ;;
run) exec python3 "$SRC/tests/apps/sub.py" >out.txt ;;
esac
