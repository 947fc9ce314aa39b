# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Sourced by the tests of jobs and daemon: a state directory of their own, TAP, and an end that
# leaves nothing behind. $CHPOX_BUILD holds the programs.

set -u
CHPOX_BUILD=$(cd "${CHPOX_BUILD:-$(dirname "$0")/../../build}" && pwd) || exit 1
PATH=$CHPOX_BUILD:$PATH
CHPOX_DIR=$(mktemp -d "${TMPDIR:-/tmp}/cpx-daemon.XXXXXX")
export CHPOX_DIR PATH
chmod 711 "$CHPOX_DIR"
work=$CHPOX_DIR/test
mkdir -m 755 "$work"
failures=0

# A job must not get what the harness leaves open.
for fd in /proc/self/fd/*; do
	n=${fd##*/}
	if [ "$n" -gt 2 ] && [ "$n" -ne 255 ]; then
		eval "exec $n>&-" 2>/dev/null
	fi
done
exec </dev/null

ok() { echo "ok $*"; }
not_ok()
{
	echo "not ok $*"
	failures=$((failures + 1))
}
# check NAME COMMAND...: the command must succeed.
check()
{
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		ok "$name"
	else
		not_ok "$name"
		printf '%s\n' "$out" | head -n 20 | sed 's/^/# /'
	fi
}
# is NAME GOT WANTED
is()
{
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1"
		echo "# got '$2', wanted '$3'"
	fi
}
# like NAME TEXT PATTERN (extended regular expression)
like()
{
	if [[ $2 =~ $3 ]]; then
		ok "$1"
	else
		not_ok "$1"
		echo "# got '$2', wanted something like '$3'"
	fi
}
ctl() { timeout 60 chpox_ctl "$@"; }
# field JOB KEY: one field of ps --json
field()
{
	ctl show "$1" --json 2>/dev/null |
		python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2" 2>/dev/null
}
daemon_pid() { cat "$CHPOX_DIR/lock"; }
# await SECONDS COMMAND...: until it succeeds
await()
{
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
has_state() { [ "$(field "$1" state)" = "$2" ]; }
# All processes of this state directory: daemon, keepers, inner halves, and jobs.
all_pids()
{
	local p
	daemon_pid 2>/dev/null
	for p in /proc/[0-9]*; do
		[ "${p#/proc/}" = $$ ] && continue
		if grep -qzx "CHPOX_DIR=$CHPOX_DIR" "$p/environ" 2>/dev/null &&
			! grep -qz '^bash$\|tests/daemon/.*sh' "$p/cmdline" 2>/dev/null; then
			echo "${p#/proc/}"
		fi
	done
}
# shellcheck disable=SC2046
kill_everything() { kill -9 $(all_pids) 2>/dev/null; }

finish()
{
	local job
	for job in $(ctl ps --json 2>/dev/null |
		python3 -c 'import json,sys; [print(j["job"]) for j in json.load(sys.stdin)]' 2>/dev/null); do
		ctl rm --force "$job" >/dev/null 2>&1
	done
	kill "$(daemon_pid)" 2>/dev/null
	sleep 0.2
	[ -z "${KEEP:-}" ] && rm -rf "$CHPOX_DIR"
	[ $failures = 0 ]
	exit
}
trap finish EXIT
