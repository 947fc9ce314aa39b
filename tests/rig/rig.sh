#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# rig.sh - the same programs on Debian's kernels 6.1 and 6.12, and from one to the other.
#
# Four boots under qemu, without KVM, so that it runs anywhere: on each kernel the programs of
# the list are dumped and restored, and once more dumped and carried out on a disk; what one
# kernel made is then restored on the other. A program that changes its memory in all ways is
# checkpointed incrementally on each (RIG_GENERATIONS, 25), by each way of finding changed
# pages that the kernel has. What a machine says is in build/rig/*.console.
#
#	rig.sh [NAME...]	only these programs
#	rig.sh --incremental	only the incremental generations
set -u
cd "$(dirname "$0")/../.." || exit 1

out=build/rig
append="RIG_GENERATIONS=${RIG_GENERATIONS:-25}"
. tests/rig/machine.sh

machine_needs
if [ $# -gt 0 ]; then
	names="$*"
else
	names=$(sed 's/#.*//' tests/rig/programs)
fi

make_root()
{
	local n
	bare_root
	for n in build/chpox_*; do
		[ -x "$n" ] && [ -f "$n" ] && copy_program "$n"
	done
	for n in $names; do
		[ -x "build/tests/states/$n" ] && copy_program "build/tests/states/$n"
	done
	for n in oracle torture; do
		copy_program "build/tests/incremental/$n"
	done
	# loaded by name: by threads that are cancelled, and to hash; vfork's tests start a shell
	for n in libgcc_s.so.1 libcrypto.so.3; do
		n=$(gcc -print-file-name="$n")
		[ -e "$n" ] && cp -L "$n" "$out/root/lib/x86_64-linux-gnu/"
	done
	archive "$out/root" "$out/base.cpio"
}

lines() { local verb=$1; shift; for n; do echo "$verb $n"; done; }

other() { [ "$1" = 6.1 ] && echo 6.12 || echo 6.1; }

# The kernel's own best way first: if the probe misses it, that is a failure.
incremental()
{
	lines incr soft content >"$out/incr-6.1.list"
	lines incr wp soft-forced content >"$out/incr-6.12.list"
	for k in $series; do
		boot "$k" "incr-$k" 2000
	done
}

if [ "${1:-}" = --incremental ]; then
	names=
	make_root
	incremental
	exit
fi
make_root
available=
for n in $names; do
	[ -x "build/tests/states/$n" ] && available="$available $n"
done
[ -n "$available" ] || { echo "not ok rig: none of its programs is built"; exit 1; }
[ -x build/chpox_ctl ] || { echo "not ok rig: no chpox_ctl"; exit 1; }
pid=2000
for k in $series; do
	# shellcheck disable=SC2086
	{ lines run $available; lines dump $available; } >"$out/first-$k.list"
	boot "$k" "first-$k" $pid
	pid=$((pid + 8000))
done
for k in $series; do
	o=$(other "$k")
	# shellcheck disable=SC2046
	lines restore $(grep -aoE "RIG: ok $k: dump [a-z_0-9]+\$" "$out/first-$k.console" |
		sed 's/.* //') >"$out/moved-$o.list"
	[ -s "$out/moved-$o.list" ] ||
		{ echo "not ok rig: nothing was carried from $k to $o"; continue; }
	boot "$o" "moved-$o" 300 "$out/first-$k.carried"
done
incremental
