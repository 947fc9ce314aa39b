#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# job.sh APP MOMENTS	as run.sh, but as a job: run, checkpoint --kill and restart at random moments, wait
# shellcheck disable=SC1091,SC2034,SC2154 # lib.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${CHPOX_BUILD:-build}" && pwd) || exit 2
export CHPOX_BUILD=$bin
app=$1 moments=${2:-1}
RANDOM=${SEED:=$((RANDOM * 32768 + RANDOM))}
SRC=$(cd "$here/../.." && pwd) IN=$bin/apps/input
export SRC IN
"$here/run.sh" "$app" 0 ref >/dev/null # makes the reference, where there is none
"$here/$app.sh" have >/dev/null 2>&1 || { echo "not installed"; exit 3; }
[ -e "$IN/$app.ref/done" ] || { echo "no reference"; exit 1; }
ms=$(cat "$IN/$app.ref/done")
. "$here/../daemon/lib.sh"
failures=1 # until it is seen to be right
bad() {
	echo "$1 (SEED=$SEED)"
	ctl show "$app" 2>&1 | head -n 12
	exit 1
}
mkdir "$work/job" && cd "$work/job" || exit 2
ctl run --name "$app" -- "$here/$app.sh" run >/dev/null || bad "run failed"
for ((i = 0; i < moments; i++)); do
	at=$((ms * (15 + RANDOM % 60) / 100 / moments))
	sleep "$((at / 1000)).$(printf %03d $((at % 1000)))"
	[ "$(field "$app" state)" = RUNNING ] || break
	out=$(ctl checkpoint "$app" --kill 2>&1) || {
		[ "$(field "$app" state)" = DONE ] && break
		bad "checkpoint at $at ms of $ms: $out"
	}
	out=$(ctl restart "$app" 2>&1) || bad "restart from $at ms of $ms: $out"
done
timeout 120 chpox_ctl wait "$app"
rc=$?
[ $rc = 0 ] || bad "exit status $rc"
for f in "$IN/$app.ref"/out*; do
	[[ ${f##*/} == out.std* ]] && continue
	cmp -s "$f" "${f##*/}" || bad "${f##*/} differs: $(cmp "$f" "${f##*/}" 2>&1 | tail -c 200)"
done
ctl logs "$app" | cmp -s - "$IN/$app.ref/out.stdout" || bad "what it says differs: $(ctl logs "$app" | head -n 3)"
failures=0
echo "the same"
