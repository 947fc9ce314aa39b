#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# make -j2 of a part of this project.
case $1 in
have) command -v gcc && command -v make ;;
input) # what is made must be the same in both runs
	[ -d "$IN/make.src" ] ||
		{ rm -rf "$IN/make.ref" && mkdir "$IN/make.src" && cp -r "$SRC/chpox" "$SRC/store" "$SRC/Makefile" "$IN/make.src"; }
	;;
run)
	mkdir -p tree && cp -r "$IN"/make.src/. tree/ && cd tree || exit 1
	# shellcheck disable=SC2046,SC2012 # words, and plain names
	make -j2 build/libbase.a $(ls store/*.c | head -n 16 | sed 's/^/build\//; s/c$/o/') \
		CFLAGS="-O1 -ffile-prefix-map=$PWD=." >../make.log 2>&1 || exit 1
	cat build/chpox/base/*.o build/store/*.o | md5sum >../out.sum
	;;
esac
