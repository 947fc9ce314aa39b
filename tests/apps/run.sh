#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# run.sh APP [MOMENTS [STYLE]]	a real program is killed and restarted at random moments; its output must not differ
#
# APP is a script of this folder. It runs in an empty directory, finds inputs in $IN, writes its results to files
# out* there. First it runs undisturbed, then again with MOMENTS (1) checkpoints spread over its time.
# STYLE: kill (default) dump kills it, restore brings it back; leave: it runs on all the time.
# Exit: 0 the same, 1 not, 3 skipped. SEED=N repeats a run.
set -u
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${CHPOX_BUILD:-build}" && pwd) || exit 2
ctl=$bin/chpox_ctl
app=$1 moments=${2:-1} style=${3:-kill}
export IN=$bin/apps/input SRC
SRC=$(cd "$here/../.." && pwd)
dir=$bin/apps/$app.$style
RANDOM=${SEED:=$((RANDOM * 32768 + RANDOM))}
limit=${APPS_LIMIT:-90}
rm -rf "$dir" && mkdir -p "$dir" "$IN"
tool=$dir/tool

now_ms() { date +%s%3N; }
say() { # CODE TEXT: nothing of it may stay behind
	local p
	for p in $(grep -lzxF "APP_DIR=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
		kill -9 "$p" 2>/dev/null
	done
	echo "$2"
	exit "$1"
}
bad() { say 1 "$1 (SEED=$SEED) $(tail -n 3 "$tool" 2>/dev/null | tr '\n' '|')"; }
launch() { # into a session of its own, in the background; streams are files
	mkdir -p "$dir/$1" && cd "$dir/$1" || exit 2
	( # nothing of ours may be open in it: a pipe to the outside would be refused
		for fd in /proc/self/fd/*; do
			[ "${fd##*/}" -gt 2 ] && eval "exec ${fd##*/}>&-"
		done
		exec env APP_DIR="$dir" setsid "$here/$app.sh" run </dev/null >out.stdout 2>out.stderr
	) 2>/dev/null &
	pid=$!
	[ "$1" = ref ] || disown # or the shell tells that it was killed
}

"$here/$app.sh" have >/dev/null 2>&1 || say 3 "not installed"
exec {lock}>"$IN/lock" && flock "$lock" # inputs and references are shared by runs side by side
"$here/$app.sh" input >>"$tool" 2>&1 || bad "no input"
if [ ! -e "$IN/$app.ref/done" ]; then
	rm -rf "$IN/$app.ref"
	start=$(now_ms)
	launch ref
	wait $pid || bad "undisturbed run failed: $(tail -n 2 out.stderr)"
	ms=$(($(now_ms) - start))
	rm -rf "$IN/$app.ref"
	mv "$dir/ref" "$IN/$app.ref"
	echo $ms >"$IN/$app.ref/done"
fi
exec {lock}>&-
ms=$(cat "$IN/$app.ref/done")

launch job
for ((i = 0; i < moments; i++)); do
	at=$((ms * (15 + RANDOM % 60) / 100 / moments))
	sleep "$((at / 1000)).$(printf %03d $((at % 1000)))"
	[ -e "/proc/$pid/exe" ] || break
	rm -rf "$dir/img"
	opt=--leave-running
	[ "$style" = kill ] && opt=
	# shellcheck disable=SC2086 # none or one word
	timeout -k 2 "$limit" "$ctl" dump "$pid" --to "$dir/img" $opt >>"$tool" 2>&1 || {
		[ -e "/proc/$pid/exe" ] || break # it was quicker
		bad "dump failed at $at ms of $ms"
	}
	[ "$style" = leave ] && continue
	wait "$pid" 2>/dev/null
	timeout -k 2 "$limit" "$ctl" restore "$dir/img" --detach --pidfile "$dir/pidfile" >>"$tool" 2>&1 </dev/null ||
		bad "restore failed, from $at ms of $ms"
done
for ((i = 0; i < limit * 20; i++)); do
	[ -e "/proc/$pid/exe" ] || break
	sleep 0.05
done
[ -e "/proc/$pid/exe" ] && bad "does not end (state $(awk '/^State/ { print $2 }' /proc/$pid/status))"
cd "$dir/job" || exit 2
for f in "$IN/$app.ref"/out*; do
	cmp -s "$f" "${f##*/}" || bad "${f##*/} differs: $(cmp "$f" "${f##*/}" 2>&1 | tail -c 200)"
done
rm -rf "$dir/img" "$dir/job"
say 0 "the same"
