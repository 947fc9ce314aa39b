#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The registry in a real etcd (build/etcd, from tests/bootstrap.sh), and against servers that
# are none: tests/etcd. The scripts mostly wait, so they run side by side.
cd "$(dirname "$0")/../.." || exit 1
if [ ! -x build/etcd/etcd ]; then
	echo "ok etcd # SKIP no build/etcd/etcd: tests/bootstrap.sh check could not download it"
	exit 0
fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
scripts=${ETCD_ONLY:-registry tls hostile jobs failover}
for name in $scripts; do
	(
		timeout -k 5 "${ETCD_TIME:-110}" "$(echo tests/etcd/"$name".*)" >"$logs/$name" 2>&1
		echo $? >"$logs/$name.rc"
	) &
done
wait
for name in $scripts; do
	sed -E "s/^(not ok|ok) /\\1 $name: /" "$logs/$name"
	rc=$(cat "$logs/$name.rc")
	[ "$rc" = 0 ] || grep -q '^not ok' "$logs/$name" || echo "not ok $name: exit status $rc"
done
