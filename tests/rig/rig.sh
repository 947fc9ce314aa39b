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
series="6.1 6.12"
memory=${RIG_MEMORY:-768}
generations=${RIG_GENERATIONS:-25}
limit=${RIG_LIMIT:-400}

skip() { echo "ok rig # SKIP $1"; exit 0; }

command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
for k in $series; do
	[ -s "build/kernels/$k/vmlinuz" ] || skip "no Linux $k under build/kernels (could not be downloaded)"
done
if [ $# -gt 0 ]; then
	names="$*"
else
	names=$(sed 's/#.*//' tests/rig/programs)
fi

# copy_program FILE: into /bin of the root, with the libraries it needs, where it looks for them
copy_program()
{
	local lib
	cp "$1" "$out/root/bin/"
	for lib in $(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+'); do
		[ -e "$out/root$lib" ] && continue
		mkdir -p "$out/root$(dirname "$lib")"
		cp -L "$lib" "$out/root$lib"
	done
}

make_root()
{
	local n k
	rm -rf "$out"
	mkdir -p "$out/root"/{bin,dev,proc,sys,tmp,run,etc,root,modules,var/tmp}
	echo 'root:x:0:0:root:/root:/bin/sh' >"$out/root/etc/passwd"
	echo 'root:x:0:' >"$out/root/etc/group"
	echo '127.0.0.1 localhost' >"$out/root/etc/hosts"
	cp build/tests/rig/init "$out/root/init"
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
	cp /bin/busybox "$out/root/bin/" && ln -s busybox "$out/root/bin/sh"
	for k in $series; do
		cp -r "build/kernels/$k/modules" "$out/root/modules/$k"
	done
	archive "$out/root" "$out/base.cpio"
}

# archive DIR FILE
archive() { (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) >"$2"; }

# boot KERNEL RUN PID [ARCHIVE]: with the list of $out/RUN.list; archives are unpacked in order
boot()
{
	local kernel=$1 run=$2 pid=$3 carried=${4:-}
	local console=$out/$run.console disk=$out/$run.disk
	mkdir -p "$out/$run"
	mv "$out/$run.list" "$out/$run/rig.list"
	archive "$out/$run" "$out/$run.cpio"
	# shellcheck disable=SC2086
	cat "$out/base.cpio" $carried "$out/$run.cpio" >"$out/initrd"
	truncate -s 256M "$disk"
	timeout "$limit" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-accel tcg -cpu max -smp 2 -m "$memory" -kernel "build/kernels/$kernel/vmlinuz" \
		-initrd "$out/initrd" -append "console=ttyS0 quiet panic=-1 RIG_PID=$pid RIG_GENERATIONS=$generations" \
		-serial stdio -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
		-drive "file=$disk,format=raw,if=none,id=d" -device virtio-blk-pci,drive=d \
		</dev/null 2>&1 | tr -d '\r' >"$console"
	grep -aoE 'RIG: .*' "$console" | sed 's/^RIG: //'
	grep -aq '^RIG-RC=0$' "$console" || {
		grep -aq '^RIG-RC=' "$console" ||
			{ tail -n 20 "$console" | sed 's/^/# /'
			echo "not ok rig: $kernel did not come to its end"; }
	}
	local size
	size=$(sed -n 's/^RIG-OUT=//p' "$console")
	if [ -n "$size" ] && [ "$size" -gt 0 ]; then
		head -c $(((size + 511) / 512 * 512)) "$disk" >"$out/$run.carried"
	fi
	rm -f "$disk" "$out/initrd"
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
