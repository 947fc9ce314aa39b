#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything killed at random moments, again and again: the jobs end with the right output.
#   ROUNDS=N (6)
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd "$work" || exit 1
lines=150
python3 "$here/counter.py" $lines 0 >expected

jobs="r1 r2 r3"
for j in $jobs; do
	ctl run --name $j --every 60ms -- python3 "$here/counter.py" $lines 0.03 7 >/dev/null
done
for ((i = 0; i < ${ROUNDS:-6}; i++)); do
	sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
	case $((RANDOM % 4)) in
	0) # in the middle of a recovery
		ctl recover --all >/dev/null 2>&1 &
		sleep "0.0$((RANDOM % 10))"
		kill_everything
		wait
		;;
	1)
		kill -9 "$(daemon_pid)" 2>/dev/null
		sleep 0.1 # it takes no connection any more
		;;
	*) kill_everything ;;
	esac
	out=$(ctl recover --all 2>&1) || not_ok "recover in round $i: $out"
done
for j in $jobs; do
	ctl wait $j
	is "$j ends with its status" $? 7
	check "and with the output of an undisturbed run" cmp expected <(ctl logs $j)
done
ctl ps | sed 's/^/# /'
