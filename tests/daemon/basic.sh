#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A job's life: run, checkpoint, kill, restart, wait, logs, rm; and clear words for mistakes.
# shellcheck disable=SC2154 # $work is set there
. "$(dirname "$0")/lib.sh"

counter=$(dirname "$(readlink -f "$0")")/counter.py
cd "$work" || exit 1
python3 "$counter" 40 0 >"$work/expected"

is "run prints the job's name" "$(ctl run --name count -- python3 "$counter" 40 0.05 5)" count
check "checkpoint of a running job" ctl checkpoint count
is "it runs on" "$(field count state)" RUNNING
sleep 0.3
check "checkpoint --kill" ctl checkpoint count --kill
is "the job is stopped" "$(field count state)" STOPPED
is "both generations are kept" "$(field count generations)" 2
pid=$(field count pid)
is "no process is left" "$pid" 0
check "restart" ctl restart count
is "it runs" "$(field count state)" RUNNING
ctl wait count
is "wait exits with the job's status" $? 5
is "the state tells so" "$(ctl ps | awk '/^count/ { print $2 }')" "DONE(5)"
check "the output is that of an undisturbed run" cmp "$work/expected" <(ctl logs count)
like "images lists both" "$(ctl images count --json)" 'bytes_stored.*bytes_stored'

check "an older generation can be restarted" ctl restart "count@$(ctl images count --json |
	python3 -c 'import json,sys; print(json.load(sys.stdin)[-1]["generation"])')"
ctl wait count
is "and ends as before" $? 5
check "with the same output" cmp "$work/expected" <(ctl logs count)
check "rm" ctl rm count
is "nothing of it is left" "$(find "$CHPOX_DIR/jobs" "$CHPOX_DIR/registry" "$CHPOX_DIR/store" -name '*count*' | head -1)" ""

ctl run --name env -- sh -c 'umask; pwd; echo $A; id -u; ulimit -n; exit 3' >/dev/null
ctl wait env
is "a short job's status" $? 3
is "cwd, environment, umask, limits" "$(A=b; export A; umask 027; ulimit -Sn 77; ctl run --name env2 -- \
	sh -c 'umask; pwd; echo $A; id -u; ulimit -n' >/dev/null; ctl wait env2; ctl logs env2 | xargs)" \
	"0027 $work b 0 77"
ctl run --name err -- sh -c 'echo out; echo err >&2' >/dev/null
ctl wait err
is "standard error apart" "$(ctl logs err --stderr)" err
ctl run --name killed -- sleep 100 >/dev/null
ctl signal killed KILL
ctl wait killed
is "killed by signal" $? 137
is "names are made from the command" "$(ctl run -- sleep 0)" sleep-1
echo input >"$work/in"
ctl run -i --name cat -- cat <"$work/in" >/dev/null
ctl wait cat
is "-i keeps the standard input" "$(ctl logs cat)" input

# left stopped by a checkpoint, let go on; a job that was stopped stays stopped
ctl run --name stop -- python3 "$counter" 40 0.03 4 >/dev/null
check "checkpoint --stop" ctl checkpoint stop --stop
before=$(ctl logs stop | wc -l)
sleep 0.3
is "leaves it stopped" "$(ctl logs stop | wc -l)" "$before"
check "a stopped job can be checkpointed" ctl checkpoint stop --kill
check "and restarted" ctl restart stop
like "and is stopped then" "$(awk '/^State/ { print $2 }' "/proc/$(field stop pid)/status")" T
check "until it is told to go on" ctl signal stop CONT
like "a deadline that cannot be met" "$(ctl checkpoint stop --deadline 1ms 2>&1)" "before the deadline"
ctl wait stop
is "a failed checkpoint does no harm" $? 4
check "its output is right" cmp "$work/expected" <(ctl logs stop)

like "a command that is not there" "$(ctl run -- /no/such 2>&1)" "cannot run '/no/such'.*No such file"
like "an unknown job" "$(ctl checkpoint nojob 2>&1)" "there is no job 'nojob'"
like "a bad name" "$(ctl run --name a/b -- true 2>&1)" "cannot be the name of a job"
ctl run --name twice -- sleep 5 >/dev/null
like "a name twice" "$(ctl run --name twice -- true 2>&1)" "there is a job 'twice' already"
like "restart of what runs" "$(ctl restart twice 2>&1)" "runs"
like "rm of what runs" "$(ctl rm twice 2>&1)" "rm --force"
check "rm --force" ctl rm --force twice
like "a bad duration" "$(ctl run --every fast -- true 2>&1)" "is no good interval"
like "a bad signal" "$(ctl signal env FOO 2>&1)" "there is no signal 'FOO'"
like "a bad generation" "$(ctl restart env@x 2>&1)" "is no generation"
like "no checkpoint" "$(ctl restart env 2>&1)" "has no checkpoint"
like "wrong usage" "$(ctl checkpoint 2>&1)" "name a job, or give --all"
like "dump of what it runs in" "$(bash -c 'chpox_ctl dump $$ --to img; :' 2>&1)" "from outside"
kernel=$(pgrep -x kthreadd)
[ -z "$kernel" ] || like "dump of a kernel thread" "$(ctl dump "$kernel" --to img 2>&1)" "of the kernel"
mkdir -p bad/jobs/a && echo >bad/jobs/a/0000000000000001-0000000000000001-0123456789abcdef.m
like "a damaged image" "$(ctl verify bad 2>&1)" "no whole image: .*cdef.m is cut off"
sleep 60 >/dev/null 2>&1 &
like "a directory that cannot be made" "$(ctl dump $! --to /proc/none 2>&1)" "make directory /proc/none"
kill $!
ctl checkpoint nojob >/dev/null 2>&1
is "failures exit non-zero" $? 1
