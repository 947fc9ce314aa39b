#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# rehearse: what it says is what restore does, and nothing is changed or left by it: no file, process,
# mount, namespace or cgroup, also when it is killed in the middle. REHEARSE_STATES=list of state programs
. "$(dirname "$0")/lib.sh"

# What a rehearsal might leave: files of $w, mounts, and processes with our environment, which the
# restored ones have as well.
export CPX_TRUST=$top
traces() {
	local p
	(cd "$w" && find . -type f ! -name tool -exec stat -c '%n %s %Y %i' {} + | sort)
	cut -d' ' -f5- /proc/self/mountinfo | grep -E "$top|/dev/(pts|shm|ptmx)"
	find /tmp /var/tmp /dev/shm -maxdepth 1 -name '.chpox-*' -newer "$top/begin" 2>/dev/null
	for p in $(grep -lzxF "CPX_TRUST=$top" /proc/[0-9]*/environ 2>/dev/null); do
		case $(cat "${p%environ}comm" 2>/dev/null) in
		sleep | chpox_ctl) readlink "${p%environ}ns/net" && echo "${p%environ}" ;;
		esac
	done
}
: >"$top/begin"
start_job base
"$ctl" dump "$pid" --to img -R >tool 2>&1 || cat tool
printf 'line 2\n' >>app
printf 'changed' | dd of=db conv=notrunc status=none
before=$(traces)
out=$("$ctl" rehearse img 2>&1)
is "its exit status" $? 0
like "it says what it found" "$out" 'generation 1 restores: 1 processes, 1 threads, .* of memory as the image has it; verified in'
like "a file that would be cut back" "$out" 'app would be cut back from 14 to 7 bytes'
like "a file that would be put back" "$out" 'content of .*/db would be put back'
is "nothing was changed, and nothing is left" "$(diff <(traces) <(echo "$before"))" ""
check "the job runs on" test "$(awk '/^State/ { print $2 }' "/proc/$pid/status")" = S
is "as JSON" "$("$ctl" rehearse img --json 2>/dev/null | python3 -c 'import json,sys; j = json.load(sys.stdin); print(j["restores"], j["tasks"], j["bytes_memory"] > 100000)')" "True 1 True"

# killed at any time
for i in $(seq 12); do
	"$ctl" rehearse img >/dev/null 2>&1 &
	p=$!
	sleep "0.00$i"
	[ $((i % 2)) = 0 ] && sleep 0.02
	kill -9 $p 2>/dev/null
	wait $p 2>/dev/null
done
for _ in $(seq 100); do
	[ "$(traces)" = "$before" ] && break
	sleep 0.02
done
is "killed in the middle, nothing is left" "$(diff <(traces) <(echo "$before"))" ""

# what would not restore
refused() { # NAME PATTERN
	fails "$1" "would not restore: .*$2" "$ctl" rehearse img
}
mv app app.gone
refused "a file that is missing" 'app'
mv app.gone app
printf 'other' >in
refused "a file that has changed" 'in'
printf 'input' >in
cp app app.then
: >app
refused "a file that is shorter" 'app'
cp app.then app
cp -a img img.good
flip "$(pack 1)" 5000
refused "a damaged block" 'does not fit its checksum'
is "in JSON, too" "$("$ctl" rehearse img --json 2>/dev/null | python3 -c 'import json,sys; j = json.load(sys.stdin); print(j["restores"], "checksum" in j["reason"])')" "False True"
rm -rf img && cp -a img.good img
without "$(pack 1)"
refused "a pack that is missing" 'No such file'
rm -rf img && cp -a img.good img
flip "$(manifest 1)" 30
refused "a damaged manifest" ''
fails "no image" 'cannot rehearse' "$ctl" rehearse ./none
if id nobody >/dev/null 2>&1; then
	fails "a user is told to ask root" 'ask root' setpriv --reuid=nobody --clear-groups "$ctl" rehearse img
fi
end_jobs

# What a rehearsal has looked at restores, and it has not disturbed the job itself.
cd "$CHPOX_BUILD/.." || exit 1
. tests/faults/lib.sh
: "${REHEARSE_STATES=fd_fifo fd_locks fd_nameless fd_pipes fd_epoll mem_anon mem_cow mem_devshm mem_memfd ipc_sysv_shm ipc_mqueue net_listen net_unix tim_posix task_threads task_tree tty_pty fd_deleted fd_lease sig_pending}"
for s in $REHEARSE_STATES; do
	[ -x "$CHPOX_BUILD/tests/states/$s" ] || continue
	name="$s: rehearsed and not disturbed"
	start "$s" || { why="it does not start" && stop_all && bad "$name"; continue; }
	if ! dump "$dir/img" --leave-running; then
		why=$(head -n 2 "$dir/tool") && stop_all && bad "$name: dump"
		continue
	fi
	if ! timeout 30 "$ctl" rehearse "$dir/img" >"$dir/tool" 2>&1 </dev/null; then
		why=$(head -n 3 "$dir/tool") && stop_all && bad "$name: rehearse"
		continue
	fi
	if whole && judge; then ok "$name"; else bad "$name"; fi
	stop_all
done
