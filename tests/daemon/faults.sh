#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The registry cannot be written, or whoever writes it is killed there: the job goes on, the next
# checkpoint succeeds, and the store holds what the record names and nothing else.
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd "$work" || exit 1
python3 "$here/counter.py" 60 0 >expected

manifests() { find "$CHPOX_DIR/store" -path "*/$1/*" -name '*.m' | wc -l; }

for fault in write:3:kill rename:3:kill write:3:errno=28 rename:3:errno=5 write:2:kill; do
	name=$(echo "$fault" | tr ':=' '--')
	CHPOX_FAULT=registry-$fault ctl run --name "$name" -- python3 "$here/counter.py" 60 0.1 6 \
		>/dev/null 2>&1
	CHPOX_FAULT=registry-$fault ctl checkpoint "$name" >/dev/null 2>&1
	kill -9 "$(daemon_pid)"
	sleep 0.2
	# with keepers and a daemon in which nothing fails; a dead keeper's job is adopted
	keeper=$(field "$name" keeper_pid)
	[ "${keeper:-0}" -gt 1 ] && kill -9 "$keeper"
	if [ "$(field "$name" state)" = LOST ] || [ "$(field "$name" state)" = QUEUED ]; then
		ctl recover "$name" >/dev/null 2>&1
	fi
	if await 10 ctl checkpoint "$name"; then
		ok "$fault: a checkpoint succeeds afterwards"
	else
		not_ok "$fault: a checkpoint succeeds afterwards"
		ctl checkpoint "$name" 2>&1 | sed 's/^/# /'
	fi
	is "$fault: the store holds what the record names" "$(manifests "$name")" "$(field "$name" generations)"
	ctl wait "$name"
	is "$fault: the job ends as it should" $? 6
	check "$fault: its output is right" cmp expected <(ctl logs "$name")
	ctl rm --force "$name" >/dev/null 2>&1
	kill "$(daemon_pid)"
	sleep 0.1
done

# the daemon killed before it has accepted the job: no job, and that is said
out=$(CHPOX_FAULT=registry-rename:1:kill ctl run --name no -- sleep 1 2>&1)
is "a run that was not accepted fails" $? 1
like "with one line" "$out" "^chpox_ctl: chpoxd has gone; try again$"
like "and is no job" "$(ctl show no 2>&1)" "there is no job 'no'"
kill "$(daemon_pid)" 2>/dev/null
sleep 0.1
out=$(CHPOX_FAULT=registry-rename:2:errno=28 ctl run --name no -- sleep 4711 2>&1)
is "a run whose record cannot be written fails" $? 1
like "and says why" "$out" "No space left"
like "it is no job" "$(ctl show no 2>&1)" "there is no job 'no'"
is "and does not run" "$(pgrep -f '^sleep 4711$')" ""
