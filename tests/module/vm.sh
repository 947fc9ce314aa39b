#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# vm.sh - chpox.ko in Debian's kernels 6.1 and 6.12 under qemu: loaded, tested, unloaded.
#
#	vm.sh [REGEX]	only tests whose name matches
set -u
cd "$(dirname "$0")/../.." || exit 1

out=build/module-vm
append="MOD_FUZZ=${MODULE_FUZZ:-20}"
. tests/rig/machine.sh

machine_needs
[ -x build/tests/module/modtest ] || { echo "not ok module: modtest is not built"; exit 1; }
bare_root
copy_program build/tests/module/modtest
tested=
for k in $series; do
	if [ -s "build/module/$k/chpox.ko" ]; then
		strip -g -o "$out/root/chpox-$k.ko" "build/module/$k/chpox.ko"
		tested="$tested $k"
	else
		echo "ok $k: module # SKIP no headers of Linux $k under build/headers (could not be downloaded)"
	fi
done
archive "$out/root" "$out/base.cpio"
for k in $tested; do
	echo "module ${1:-.}" >"$out/run-$k.list"
	boot "$k" "run-$k" 1000
done
