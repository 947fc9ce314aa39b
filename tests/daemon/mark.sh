#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Processes that run already; terminals.
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd "$work" || exit 1
python3 "$here/counter.py" 100 0 >expected

setsid python3 "$here/counter.py" 100 0.07 3 >out 2>&1 &
pid=$!
sleep 0.3
is "mark" "$(ctl mark $pid --name m --every 200ms)" m
like "twice" "$(ctl mark $pid 2>&1)" "is job 'm' already"
checkpointed() { [ "$(field m checkpoints)" -gt 0 ]; }
check "it is checkpointed by itself" await 5 checkpointed
check "checkpoint --kill" ctl checkpoint m --kill
wait $pid
is "the process is killed" $? 137
check "restart" ctl restart m
is "with its old PID on the host" "$(field m pid)" $pid
check "again" ctl checkpoint m --kill
check "and again" ctl restart m
like "inspect knows its image" "$(ctl inspect m)" "$pid"
check "and verify" ctl verify m
check "once more" ctl checkpoint m --kill
echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
sleep 100 >/dev/null 2>&1 &
if [ $! = $pid ]; then
	like "where its PID is taken it runs in a namespace" "$(ctl restart m 2>&1)" "taken.*runs again"
	is "with its old PID in there" "$(awk '/^NSpid:/ { print $NF }' "/proc/$(field m pid)/status")" $pid
	kill $!
else
	ok "where its PID is taken # SKIP the PID could not be had"
	ctl restart m >/dev/null
fi
ctl wait m
is "its status is known now" $? 3
check "the output is that of an undisturbed run" cmp expected out

setsid python3 "$here/counter.py" 100 0.05 4 >out 2>&1 &
pid=$!
sleep 0.2
ctl mark $pid --name n >/dev/null
ctl checkpoint n >/dev/null
kill -9 $pid
wait $pid
await 5 has_state n FAILED
is "a marked process that was killed is failed" "$(field n state)" FAILED
check "recover" ctl recover n
ctl wait n
is "it ends well" $? 4
setsid sh -c 'sleep 4; exit 9' >/dev/null 2>&1 &
pid=$!
ctl mark $pid --name st >/dev/null
wait $pid
sleep 0.3
like "the end of a marked process is noticed" "$(field st state)" DONE
like "mark of nothing" "$(ctl mark 4194000 2>&1)" "there is no process"
setsid sleep 100 >/dev/null 2>&1 &
pid=$!
sleep 0.1
ctl mark $pid --name un >/dev/null
check "unmark" ctl unmark un
check "lets it run" kill -0 $pid
like "and forgets it" "$(ctl show un 2>&1)" "there is no job"
kill $pid

# a terminal
ctl run -t --name tty -- sh -c 'tty; stty size; while read -r x; do echo "got $x"; [ "$x" = end ] && exit 7; done' >/dev/null
sleep 0.3
(echo one; sleep 0.5) | timeout 1 chpox_ctl attach tty >attached
like "attach types and shows" "$(tr -d '\r' <attached | xargs)" "got one"
check "checkpoint of a job with a terminal" ctl checkpoint tty --kill
check "restart" ctl restart tty
(echo two; sleep 0.3; echo end; sleep 1) | timeout 3 chpox_ctl attach tty >attached
like "attach again" "$(tr -d '\r' <attached | xargs)" "got two.*got end"
ctl wait tty
is "its status" $? 7
like "logs hold what the terminal showed" "$(ctl logs tty | tr -d '\r' | xargs)" "/dev/pts/0 24 80.*got one.*got two"
like "attach needs a terminal" "$(ctl run --name notty -- sleep 5 >/dev/null; ctl attach notty 2>&1)" "not started with -t"
