#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# pigz with two threads.
case $1 in
have) command -v pigz ;;
input) [ -e "$IN/data" ] || "$SRC/tests/apps/data.sh" "$IN/data" ;;
run)
	head -c 700000 "$IN/data" >in
	exec pigz -p2 -11 -b 128 -n -c in >out.gz
	;;
esac
