#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What a long row of checkpoints takes in the store, and that it restarts.
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)

stored() { du -sk "$CHPOX_DIR/store/0/jobs/$1" | cut -f1; }
ready() { ctl logs "$1" | grep -q "$2"; }

ctl run --name d --keep 2 -- python3 "$here/dirty.py" 32 3000 >/dev/null
check "the job has begun" await 20 ready d ready
check "a first checkpoint" ctl checkpoint d
full=$(stored d)
incremental=0 most=0
for ((i = 0; i < 60; i++)); do
	ctl checkpoint d >/dev/null || not_ok "checkpoint $i"
	now=$(stored d)
	[ "$now" -gt "$most" ] && most=$now
	[ "$(field d bytes_stored)" -lt $((full * 512)) ] && incremental=$((incremental + 1))
done
if [ "$incremental" = 0 ]; then
	ok "the store does not grow # SKIP no write tracking in this kernel"
else
	is "none but the first is full" "$incremental" 60
	# the head at 1 / 0.8, what it was before it was cleaned, and what the other kept one needs
	check "the store does not grow ($full KiB full, at most $most KiB)" \
		test "$most" -lt $((full * 26 / 10))
fi
is "as many are kept as was said" "$(field d generations)" 2
ctl checkpoint d --kill >/dev/null
check "it restarts" ctl restart d
ctl signal d USR1
check "it goes on" await 10 ready d judged
like "its memory is what it was" "$(ctl logs d)" "judged: 0 wrong"
before=$(field d generation)
ctl checkpoint d >/dev/null
kill -9 "$(field d pid)"
await 10 test "$(field d state)" != RUNNING
check "after a crash, too" ctl restart d
is "from the newest" "$(field d generation)" $((before + 1))
finish
