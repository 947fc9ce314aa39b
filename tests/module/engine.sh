#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# engine.sh - checkpoints by chpox.ko in Debian's kernels 6.1 and 6.12 under qemu: state
# programs are dumped by the module, some killed by it and some running on, and restored; a
# program that changes its memory in all ways is checkpointed incrementally by both engines in
# turn, each generation compared with a full one by ptrace.
#
#	engine.sh [-g GENERATIONS] [-m REGEX] [NAME...]	only these programs; before them, the
#						module's own tests that match
set -u
cd "$(dirname "$0")/../.." || exit 1

out=build/module-engine
generations=8
tests=
while getopts g:m: o; do
	case $o in
	g) generations=$OPTARG ;;
	m) tests=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
append="RIG_GENERATIONS=$generations MOD_FUZZ=${MODULE_FUZZ:-20}"
. tests/rig/machine.sh

machine_needs
names="${*:-$(sed 's/#.*//' tests/module/programs)}"

make_root()
{
	local n
	bare_root
	for n in build/chpox_* build/tests/incremental/{oracle,torture} build/tests/module/modtest; do
		[ -x "$n" ] && [ -f "$n" ] && copy_program "$n"
	done
	for n in $names; do
		copy_program "build/tests/states/${n%:*}"
	done
	for n in libgcc_s.so.1 libcrypto.so.3; do
		n=$(gcc -print-file-name="$n")
		[ -e "$n" ] && cp -L "$n" "$out/root/lib/x86_64-linux-gnu/"
	done
	for k in $series; do
		[ -s "build/module/$k/chpox.ko" ] &&
			strip -g -o "$out/root/chpox-$k.ko" "build/module/$k/chpox.ko"
	done
	archive "$out/root" "$out/base.cpio"
}

make_root
pid=2000
for k in $series; do
	if [ ! -s "$out/root/chpox-$k.ko" ]; then
		echo "ok $k: engine # SKIP no headers of Linux $k under build/headers (could not be downloaded)"
		continue
	fi
	way=soft
	[ "$k" = 6.12 ] && way=wp
	{
		[ -n "$tests" ] && echo "module $tests"
		echo "load -"
		for n in $names; do
			# as a rule both ways; NAME:live, NAME:kill: only this one
			case $n in
			*:*) echo "${n#*:} ${n%:*}" ;;
			*) echo "live $n"; echo "kill $n" ;;
			esac
		done
		[ "$generations" -gt 0 ] && echo "both $way"
		echo "unload -"
	} >"$out/engine-$k.list"
	boot "$k" "engine-$k" $pid
done
