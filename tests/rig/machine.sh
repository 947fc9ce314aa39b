# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# machine.sh - to be sourced by what boots machines: Debian's kernels under qemu, without KVM.
# Wants $out, a directory, and $append, for the kernel's command line (init's environment); what
# a machine says is in $out/RUN.console.

series="6.1 6.12"
memory=${RIG_MEMORY:-768}
limit=${RIG_LIMIT:-400}

skip() { echo "ok rig # SKIP $1"; exit 0; }

machine_needs()
{
	command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
	for k in $series; do
		[ -s "build/kernels/$k/vmlinuz" ] ||
			skip "no Linux $k under build/kernels (could not be downloaded)"
	done
}

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

# bare_root: $out/root with init, a shell, and the modules of the machine's own devices
bare_root()
{
	local k
	rm -rf "$out"
	mkdir -p "$out/root"/{bin,dev,proc,sys,tmp,run,etc,root,modules,var/tmp}
	echo 'root:x:0:0:root:/root:/bin/sh' >"$out/root/etc/passwd"
	echo 'root:x:0:' >"$out/root/etc/group"
	echo '127.0.0.1 localhost' >"$out/root/etc/hosts"
	cp build/tests/rig/init "$out/root/init"
	cp /bin/busybox "$out/root/bin/" && ln -s busybox "$out/root/bin/sh"
	for k in $series; do
		cp -r "build/kernels/$k/modules" "$out/root/modules/$k"
	done
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
		-initrd "$out/initrd" -append "console=ttyS0 quiet panic=-1 RIG_PID=$pid ${append:-}" \
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
