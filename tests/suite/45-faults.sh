#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A job never suffers: the tool killed between its ptrace calls, a full or broken disk, targets that end, exec,
# fork, are stopped, or are near the limit of their memory while they are checkpointed.
#   FULL=1   every ptrace call and every I/O call, not samples     FAULTS_ONLY=regex
# shellcheck disable=SC2015 # A && ok || bad: ok does not fail
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/faults/lib.sh

# The n-th ptrace call is the tool's last act. Afterwards the job is whole, and in the end it says so itself.
killed_at_ptrace() { # WAY STEP
	local n=1 rc=137 name="tool killed between ptrace calls, $1" tries=0
	start victim "$1" || { bad "$name: cannot start"; return; }
	while [ $rc != 0 ]; do
		CHPOX_FAULT=ptrace:$n:kill dump "$dir/img" --leave-running --snapshot="$1"
		rc=$?
		[ $rc = 137 ] || [ $rc = 0 ] || { why="status $rc: $(cat "$dir/tool")"; bad "$name: call $n"; stop_all; return; }
		whole || { bad "$name: after call $n"; stop_all; return; }
		[ -e "$dir/fail" ] && { why=$(head -n 2 "$dir/fail"); bad "$name: call $n"; stop_all; return; }
		tries=$((tries + 1))
		n=$((n + 1 + RANDOM % (2 * $2 - 1)))
	done
	"$ctl" verify "$dir/img" >"$dir/tool" 2>&1 || { why=$(cat "$dir/tool"); bad "$name: verify"; stop_all; return; }
	judge && ok "$name ($tries moments, $n calls)" || bad "$name: after $tries moments"
}

killed_in_stage() { # POINT: capture.*: the same between stages
	local name="tool killed before $1"
	start victim stage || { bad "$name: cannot start"; return; }
	CHPOX_FAULT=$1:1:kill dump "$dir/img" --leave-running
	[ $? = 137 ] || why="was not killed"
	whole && judge && ok "$name" || bad "$name"
}

killed_in_restore() { # POINT: no half job is left, and the image still serves
	local name="restore killed before $1"
	start victim restore || { bad "$name: cannot start"; return; }
	dump "$dir/img" || { why=$(cat "$dir/tool"); bad "$name: dump"; return; }
	rm -f "$dir/pid"
	CHPOX_FAULT=$1:1:kill restore "$dir/img"
	sleep 0.3
	why="$(members | tr '\n' ' ') are left"
	[ -z "$(members)" ] || { bad "$name"; stop_all; return; }
	restore "$dir/img" || { why=$(cat "$dir/tool"); bad "$name: second restore"; stop_all; return; }
	judge && ok "$name" || bad "$name"
}

io_error() { # KIND: each call of this kind fails once
	local n=1 rc=1 name="$1 fails with EIO" tries=0
	start victim io || { bad "$name: cannot start"; return; }
	while [ $rc != 0 ] && [ $n -lt 400 ]; do
		CHPOX_FAULT=store.$1:$n:errno=5 dump "$dir/img$n" --leave-running
		rc=$?
		if [ $rc != 0 ]; then
			one_line && empty "$dir/img$n" || { bad "$name: call $n"; stop_all; return; }
		fi
		whole || { bad "$name: call $n"; stop_all; return; }
		tries=$((tries + 1))
		n=$((n + 1 + ${FULL:+-1} + RANDOM % 3))
	done
	judge && ok "$name ($tries calls)" || bad "$name"
}

no_space() { # OPTION
	local kind=${1-} name
	name="no space left, ${kind:-dump that kills}"
	umount "$B/faults/mem_big.space/small" 2>/dev/null # of a run that was cut off
	start mem_big space || { bad "$name: cannot start"; return; }
	mkdir -p "$dir/small" && mount -t tmpfs -o size=4m none "$dir/small" || { echo "ok $name # SKIP no tmpfs"; stop_all; return; }
	# shellcheck disable=SC2086 # none or one word
	dump "$dir/small/img" --codec=none $kind
	if [ $? != 1 ]; then
		why="dump did not fail"; bad "$name"
	else
		one_line && empty "$dir/small" && whole && judge && ok "$name" || bad "$name"
	fi
	stop_all
	umount "$dir/small"
}

eof_in_time() { # SNAPSHOT: a writer ends while its image is slowly written; the reader must hear it
	local name="end of file arrives while the image is written, $1" begin ms rc tool
	start pipe_end "$1" || { bad "$name: cannot start"; return; }
	CHPOX_FAULT=store.write:1:sleep=3000 dump "$dir/img" --leave-running --snapshot="$1" &
	tool=$!
	sleep 0.7
	kill -0 $tool 2>/dev/null || { why="dump was too quick: $(cat "$dir/tool")"; bad "$name"; stop_all; return; }
	begin=$(date +%s%3N)
	judge
	rc=$?
	ms=$(($(date +%s%3N) - begin))
	kill -0 $tool 2>/dev/null || { why="$why; dump ended before"; rc=1; }
	wait $tool
	[ $rc = 0 ] && [ $ms -lt 1500 ] && ok "$name ($ms ms)" || bad "$name ($ms ms)"
}

stopped() {
	local name="a stopped job stays stopped" p
	start victim stopped || { bad "$name: cannot start"; return; }
	kill -STOP "$pid"
	sleep 0.1
	dump "$dir/img" --leave-running || { why=$(cat "$dir/tool"); bad "$name: dump"; stop_all; return; }
	why="it runs after the dump"
	sleep 0.1
	grep -q '^State:.T' "/proc/$pid/status" || { bad "$name"; stop_all; return; }
	dump "$dir/img2" || { why=$(cat "$dir/tool"); bad "$name: second dump"; stop_all; return; }
	restore "$dir/img2" || { why=$(cat "$dir/tool"); bad "$name: restore"; stop_all; return; }
	sleep 0.1
	why="it runs after the restart"
	grep -q '^State:.T' "/proc/$pid/status" || { bad "$name"; stop_all; return; }
	kill -CONT "$pid"
	judge && ok "$name" || bad "$name"
}

# Whatever the program does meanwhile, a dump ends with an image or with one clear line.
restless() { # PROGRAM ROUNDS
	local name="dump of a program that goes on with $1" i done=0
	start "$1" restless || { bad "$name: cannot start"; return; }
	many=
	for ((i = 0; i < $2; i++)); do
		[ -e "/proc/$pid/exe" ] || { why="it is dead"; bad "$name"; return; }
		dump "$dir/img" --leave-running
		case $? in
		0) done=$((done + 1)) ;;
		1) one_line || { bad "$name"; stop_all; return; } ;;
		*) why=$(cat "$dir/tool"); bad "$name: hangs or crashes"; stop_all; return ;;
		esac
	done
	judge && [ $done -gt $(($2 / 2)) ] && ok "$name ($done of $2)" || bad "$name ($done of $2)"
}

ends() { # the target ends at any moment of the dump
	local name="the target ends while it is dumped" i rc
	for ((i = 0; i < ${1:-12}; i++)); do
		start mem_big ends || { bad "$name: cannot start"; return; }
		(
			sleep 0.0$((RANDOM % 10))$((RANDOM % 10))
			kill -9 "$pid"
		) &
		dump "$dir/img$i" --leave-running
		rc=$?
		[ $rc = 0 ] || [ $rc = 1 ] || { why="status $rc: $(cat "$dir/tool")"; bad "$name"; return; }
		[ $rc = 0 ] || { one_line && empty "$dir/img$i"; } || { bad "$name"; return; }
		wait
		stop_all
	done
	ok "$name"
}

memory_limit() { # SNAPSHOT
	local cg=/sys/fs/cgroup/memory/chpox-faults-$$ name="at 90 % of its memory, writing all of it, $1" rc
	mkdir "$cg" 2>/dev/null || { echo "ok $name # SKIP no memory cgroup"; return; }
	echo 64M >"$cg/memory.limit_in_bytes" 2>/dev/null
	(
		echo "$BASHPID" >"$cg/cgroup.procs"
		start mem_writer "$1"
	)
	dir=$B/faults/mem_writer.$1
	pid=$(cat "$dir/pid")
	many=1
	dump "$dir/img" --leave-running --snapshot="$1"
	rc=$?
	if [ $rc = 1 ] && ! one_line; then
		bad "$name"
	elif whole && judge; then
		ok "$name ($([ $rc = 0 ] && echo dumped || echo refused))"
	else
		bad "$name"
	fi
	stop_all
	sleep 0.2
	rmdir "$cg" 2>/dev/null
}

step=${FULL:+1}
{
	echo "killed_at_ptrace stop ${step:-25}"
	echo "killed_at_ptrace clone ${step:-25}"
	grep -o '{ "[a-z]*", stage_' chpox/capture.c | cut -d'"' -f2 | sed 's/^/killed_in_stage capture./'
	grep -o '{ "[a-z]*", stage_' restore/restore.c | cut -d'"' -f2 | sed 's/^/killed_in_restore restore./'
	for k in create write fsync rename mkdir; do
		echo "io_error $k"
	done
	echo "no_space --leave-running"
	echo "no_space"
	echo "eof_in_time clone"
	echo "eof_in_time auto"
	echo "stopped"
	echo "restless tree_storm 20"
	echo "restless thr_churn 20"
	echo "restless tree_vfork 20"
	echo "restless exec_again 20"
	echo "ends ${FULL:+60}"
	echo "memory_limit stop"
	echo "memory_limit auto"
} | grep -E "${FAULTS_ONLY:-.}" | while read -r what a b; do
	"$what" ${a:+"$a"} ${b:+"$b"} </dev/null
done
