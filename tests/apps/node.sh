#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# node: timers, promises, worker threads, a child process.
case $1 in
have) command -v node ;;
run) exec node "$SRC/tests/apps/work.js" >out.txt ;;
esac
