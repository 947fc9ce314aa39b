#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# dkms.sh - DKMS builds and installs the module from what `make -C kernel dkms` hands it, in
# trees of its own, for a kernel whose headers are there; and modinfo says all it should.
set -u
cd "$(dirname "$0")/../.." || exit 1

k=6.12
[ -s "build/headers/$k/build/Makefile" ] ||
	{ echo "ok module: dkms # SKIP no headers of Linux $k under build/headers (could not be downloaded)"; exit; }
command -v dkms >/dev/null || { echo "ok module: dkms # SKIP dkms is not installed"; exit; }
release=$(cat "build/headers/$k/release")
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{tree,src,modules/"$release"/build}

cat >"$dir/dkms" <<END
#!/bin/sh
verb=\$1
shift
exec dkms "\$verb" "\$@" --no-depmod -k $release --kernelsourcedir $PWD/build/headers/$k/build \\
	--dkmstree $dir/tree --sourcetree $dir/src --installtree $dir/modules
END
chmod +x "$dir/dkms"
log=$dir/log
if ! make -s -C kernel dkms DKMS="$dir/dkms" DKMS_SRC="$dir/src" >"$log" 2>&1; then
	tail -n 20 "$log" | sed 's/^/# /'
	find "$dir/tree" -name make.log -exec tail -n 20 {} \; | sed 's/^/# /'
	echo "not ok module: dkms builds it"
	exit 1
fi
ko=$(find "$dir/modules" -name 'chpox.ko*' | head -n 1)
[ -n "$ko" ] || { echo "not ok module: dkms installs it"; exit 1; }
echo "ok module: dkms builds and installs it"
for field in license author description version vermagic; do
	[ -n "$(modinfo -F $field "$ko")" ] || { echo "not ok module: modinfo tells no $field"; bad=1; }
done
[ -n "${bad:-}" ] || echo "ok module: modinfo is complete"
