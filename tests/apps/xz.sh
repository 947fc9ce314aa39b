#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# xz with two threads.
case $1 in
have) command -v xz ;;
input) [ -e "$IN/data" ] || "$SRC/tests/apps/data.sh" "$IN/data" ;;
run) exec xz -T2 -6 --block-size=1MiB -c "$IN/data" >out.xz ;;
esac
