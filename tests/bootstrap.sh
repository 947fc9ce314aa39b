#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bootstrap.sh build|demo|check|bench - get what is needed, on a fresh Debian 12.
#
# Compilers, libraries and plain tools are named, then installed with apt. What changes how
# the machine boots or would start a service (kernels, etcd) is only downloaded and unpacked under
# build/. Asks the network only when something is missing. On another distribution it checks
# what is there and names, on one line, what is not.
set -eu

cd "$(dirname "$0")/.."
what=${1:-build}

build="gcc libc6-dev make pkg-config libaio-dev liblz4-dev zlib1g-dev libxxhash-dev libssl-dev
	libjansson-dev libuv1-dev libcurl4-openssl-dev"
demo="lame xz-utils python3"
check="$demo openssl clang clang-format libclang-rt-14-dev libcmocka-dev perl pigz sqlite3 nodejs mandoc shellcheck
	cpio busybox-static procps util-linux iproute2 qemu-system-x86 gcc-12 pahole sparse"
modules="libuv jansson libcurl libxxhash liblz4 zlib libcrypto"

say() { echo "bootstrap: $*"; }
die() { echo "bootstrap: $*" >&2; exit 1; }

wanted()
{
	case $what in
	build) echo "$build" ;;
	bench) echo "$build python3" ;;
	demo) echo "$build $demo" ;;
	check) echo "$build $check" ;;
	*) die "usage: bootstrap.sh build|demo|check|bench" ;;
	esac
}

# The packages of "$@" that are not installed; one dpkg-query for all.
missing()
{
	dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
		awk -v all="$*" '$2 == "installed" { have[$1] = 1 }
			END { n = split(all, p); for (i = 1; i <= n; i++)
				if (!(p[i] in have)) printf "%s ", p[i] }'
}

other_distribution()
{
	lacking=
	for tool in gcc make pkg-config; do
		command -v $tool >/dev/null || lacking="$lacking $tool"
	done
	for m in $modules; do
		pkg-config --exists "$m" 2>/dev/null || lacking="$lacking $m"
	done
	[ -e /usr/include/libaio.h ] || lacking="$lacking libaio"
	[ "$what" != demo ] || for tool in lame xz python3; do
		command -v $tool >/dev/null || lacking="$lacking $tool"
	done
	if [ "$what" = check ]; then
		[ -e /usr/include/cmocka.h ] || lacking="$lacking cmocka"
		for tool in clang mandoc shellcheck; do
			command -v $tool >/dev/null || lacking="$lacking $tool"
		done
	fi
	[ -z "$lacking" ] || die "not Debian: please install, with headers:$lacking"
}

apt_update()
{
	[ -n "${updated:-}" ] && return
	say "apt-get update"
	apt-get -qq update || say "apt-get update had errors, going on with the lists there are"
	updated=1
}

packages()
{
	# shellcheck disable=SC2046
	need=$(missing $(wanted))
	[ -n "$need" ] || return 0
	[ "$(id -u)" = 0 ] || die "not root; please install: $need"
	say "installing: $need"
	apt_update
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $need \
		>build/bootstrap.log 2>&1 </dev/null || {
		tail -n 20 build/bootstrap.log >&2
		die "apt-get could not install: $need"
	}
}

# The newest package of kernel series $1, the small cloud flavour where there is one.
kernel_package()
{
	re=$(echo "$1" | sed 's/\./\\./g')
	for flavour in cloud-amd64 amd64; do
		apt-cache search --names-only "^linux-image-$re\\.[0-9].*[0-9]-$flavour\$" |
			awk '{ print $1 }' |
			grep -E "^linux-image-$re\\.[0-9]+(-[0-9]+|\\+deb[0-9]+)-$flavour\$" |
			sort -V | tail -n 1 | grep . && return 0
	done
	return 1
}

# build/kernels/SERIES/{vmlinuz,modules/}: for the rig. Without it the rig is skipped.
kernel()
{
	dir=build/kernels/$1
	[ ! -s "$dir/vmlinuz" ] || return 0
	pkg=$(kernel_package "$1") || { apt_update; pkg=$(kernel_package "$1"); } ||
		{ say "no package of Linux $1 found: the rig will skip it"; return 0; }
	say "downloading $pkg (unpacked under $dir, not installed)"
	rm -rf "$dir"
	mkdir -p "$dir"
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$pkg" >download.log 2>&1) || {
		apt_update
		pkg=$(kernel_package "$1") || return 0
		(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$pkg" >download.log 2>&1) ||
			{ say "cannot download $pkg: the rig will skip Linux $1"; return 0; }
	}
	dpkg -x "$dir"/*.deb "$dir/root"
	rm -f "$dir"/*.deb "$dir/download.log"
	mkdir -p "$dir/modules"
	# what the rig's machine needs: a disk, and to look at sockets
	find "$dir/root/lib/modules" "$dir/root/usr/lib/modules" -type f \( \
		-name 'virtio.ko*' -o -name 'virtio_ring.ko*' -o -name 'virtio_pci*.ko*' -o \
		-name 'virtio_blk.ko*' -o -name 'unix_diag.ko*' -o -name 'inet_diag.ko*' -o \
		-name 'tcp_diag.ko*' -o -name 'udp_diag.ko*' -o -name 'netlink_diag.ko*' -o \
		-name 'af_packet_diag.ko*' \) \
		-exec cp {} "$dir/modules/" \; 2>/dev/null || :
	find "$dir/modules" -name '*.xz' -exec xz -d {} +
	basename "$(echo "$dir"/root/boot/vmlinuz-*)" | sed 's/^vmlinuz-//' >"$dir/release"
	mv "$dir"/root/boot/vmlinuz-* "$dir/vmlinuz"
	rm -rf "$dir/root"
}

# build/etcd/etcd: the server alone, unpacked, for the tests of the registry.
etcd()
{
	dir=build/etcd
	[ ! -x "$dir/etcd" ] || return 0
	say "downloading etcd-server (unpacked under $dir, not installed)"
	rm -rf "$dir"
	mkdir -p "$dir"
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download etcd-server >download.log 2>&1) || {
		apt_update
		(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download etcd-server >download.log 2>&1) ||
			{ say "cannot download etcd-server: its tests will be skipped"; return 0; }
	}
	dpkg -x "$dir"/*.deb "$dir/root"
	mv "$dir/root/usr/bin/etcd" "$dir/etcd"
	rm -rf "$dir"/*.deb "$dir/root" "$dir/download.log"
}

# build/headers/SERIES/build: what the module for that kernel is built against, unpacked. Without
# it the module is not built for it, and its tests are skipped.
headers()
{
	dir=build/headers/$1
	release=$(cat "build/kernels/$1/release" 2>/dev/null) || return 0
	[ "$(cat "$dir/release" 2>/dev/null)" != "$release" ] || return 0
	pkgs=$(apt-cache depends "linux-headers-$release" 2>/dev/null |
		awk '/Depends: linux-(headers|kbuild)/ { print $2 }')
	rm -rf "$dir"
	mkdir -p "$dir"
	say "downloading linux-headers-$release (unpacked under $dir, not installed)"
	# shellcheck disable=SC2086
	[ -n "$pkgs" ] && (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download \
		"linux-headers-$release" $pkgs >download.log 2>&1) ||
		{ rm -rf "$dir"; say "cannot download linux-headers-$release: no module for Linux $1"; return 0; }
	for deb in "$dir"/*.deb; do
		dpkg -x "$deb" "$dir"
	done
	rm -f "$dir"/*.deb "$dir/download.log"
	# its Makefile names the place where it would be installed
	sed -i "s,^include /usr/,include $PWD/$dir/usr/," "$dir/usr/src/linux-headers-$release/Makefile"
	ln -s "usr/src/linux-headers-$release" "$dir/build"
	echo "$release" >"$dir/release"
}

mkdir -p build
# shellcheck disable=SC1091
id=$(. /etc/os-release 2>/dev/null; echo "${ID:-unknown} ${VERSION_ID:-0}")
if [ "$id" != "debian 12" ] || ! command -v dpkg-query apt-get >/dev/null; then
	other_distribution
	exit 0
fi
packages
if [ "$what" = check ]; then
	kernel 6.1
	kernel 6.12
	etcd
	headers 6.1
	headers 6.12
fi
