#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Perl: hashes, regular expressions, a forked child that talks by a pipe.
case $1 in
have) command -v perl ;;
run) exec perl "$SRC/tests/apps/words.pl" >out.txt ;;
esac
