#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A static program that computes for some seconds.
case $1 in
have) command -v gcc ;;
input) [ -x "$IN/static" ] || gcc -O2 -static -o "$IN/static" "$SRC/tests/apps/static.c" -lm ;;
run) exec "$IN/static" 300 >out.sum ;;
esac
