#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# checkpoint --all: every job is tried, each is told of, and the exit status says whether all have one.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/daemon/lib.sh
. "$here/lib.sh"

# report KEY: of each job of a --json report, sorted by name
report() { python3 -c 'import json,sys
for j in sorted(json.load(sys.stdin), key=lambda j: j["job"]): print(j["job"], j.get(sys.argv[1]))' "$1"; }

out=$(ctl checkpoint --all)
is "no job at all is no failure" "$? $out" "0 0 of 0 jobs checkpointed in 0.0 s"
for i in 1 2 3 4 5 6 7; do
	ctl run --name "j$i" --every never -- python3 "$here/counter.py" 4000 0.05 >/dev/null
done
out=$(ctl checkpoint --all --deadline 60s 2>&1)
is "all jobs within the deadline" $? 0
like "are summed up" "$out" "7 of 7 jobs checkpointed in [0-9.]+ s"
is "each has one" "$(ctl ps --json | report checkpoints | awk '$2 != 1' | wc -l)" 0

# a job that cannot be saved: its output goes to a pipe of ours
mkfifo "$work/fifo"
cat "$work/fifo" >/dev/null &
python3 -c 'import time; time.sleep(1000)' | cat >"$work/fifo" &
victim=$(jobs -p %2)
[ -n "$victim" ] && ctl mark "$victim" --name out >/dev/null 2>&1
out=$(ctl checkpoint --all --json 2>"$work/err")
is "one that cannot be saved fails it" $? 1
is "and is the only one without" "$(report ok <<<"$out" | grep -v True)" "out False"
like "which is said" "$(cat "$work/err")" "1 of 8 jobs have no new checkpoint"
is "a report tells how much was at risk" \
	"$(report at_risk_s <<<"$out" | awk '$2 < 0 || $2 > 120 || NF != 2' | wc -l)" 0
ctl unmark out >/dev/null 2>&1
kill "$victim" 2>/dev/null

out=$(ctl checkpoint --all --deadline 1ms 2>&1)
is "a deadline that cannot be met" $? 1
is "is said of each job, with what is at risk" \
	"$(grep -c 'before the deadline.*; [0-9]* s of work are at risk' <<<"$out")" 7
like "and summed up" "$out" "0 of 7 jobs checkpointed.*7 of 7 jobs have no new checkpoint"
is "which leaves the jobs running" "$(ctl ps --json | report state | grep -c RUNNING)" 7
out=$(ctl checkpoint --all --kill --deadline 60s 2>&1)
is "all are saved and ended" "$?" 0
is "as before a shutdown" "$(ctl ps --json | report state | grep -c STOPPED)" 7
like "one job alone, as JSON" "$(ctl restart j1 >/dev/null; ctl checkpoint j1 --json)" '"generation": 4'
