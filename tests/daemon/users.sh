#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Users see and control their own jobs, run them with their own rights, and no image gives more.
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd / || exit 1

alice=23451 bob=23452
as()
{
	local uid=$1
	shift
	timeout 60 setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
if ! as $alice test -x "$CHPOX_BUILD/chpox_ctl"; then
	ok "users # SKIP the build directory cannot be reached by other users"
	exit
fi
like "a user is told to have the daemon started" "$(as $alice chpox_ctl ps 2>&1)" \
	"chpoxd cannot be reached.*ask root to start it: chpoxd --dir"
like "and cannot start it himself" "$(as $alice chpoxd --dir "$CHPOX_DIR" 2>&1)" "must be started by root"
ctl ps >/dev/null

install -d -o $alice -g $alice "$work/alice"
cp "$here/counter.py" "$work/counter.py"
chmod 644 "$work/counter.py"
python3 "$here/counter.py" 100 0 >"$work/expected"
cd "$work/alice" || exit 1
is "a user runs a job" "$(as $alice chpox_ctl run --name a -- python3 "$work/counter.py" 100 0.06 6)" a
is "with his own rights" "$(awk '/^Uid:|^Groups:/ { printf "%s ", $2 }' "/proc/$(field a pid)/status" | xargs)" "$alice"
is "and no capabilities" "$(awk '/^CapEff:/ { print $2 }' "/proc/$(field a pid)/status")" 0000000000000000
check "checkpoint by the user" as $alice chpox_ctl checkpoint a
is "images belong to him and are his alone" \
	"$(find "$CHPOX_DIR/store" -type f -printf '%u %m\n' | sort -u | xargs)" "$alice 600"
like "others do not see it" "$(as $bob chpox_ctl checkpoint a 2>&1)" "there is no job 'a'"
is "nor in the list" "$(as $bob chpox_ctl ps --json | tr -d ' \n')" "[]"
for c in "show a" "signal a KILL" "rm a --force" "restart a" "logs a" "wait a" "images a" "attach a" "unmark a"; do
	# shellcheck disable=SC2086
	like "others cannot $c" "$(as $bob chpox_ctl $c 2>&1)" "there is no job 'a'"
done
check "checkpoint --kill by the user" as $alice chpox_ctl checkpoint a --kill
check "restart by the user" as $alice chpox_ctl restart a
is "with his rights again" "$(awk '/^Uid:/ { print $2, $3, $4, $5 }' "/proc/$(field a pid)/status")" \
	"$alice $alice $alice $alice"
is "and no capabilities again" "$(awk '/^Cap(Eff|Prm):/ { print $2 }' "/proc/$(field a pid)/status" | xargs)" \
	"0000000000000000 0000000000000000"
as $alice chpox_ctl wait a
is "to its end" $? 6
check "with the right output" cmp "$work/expected" <(as $alice chpox_ctl logs a)

as $bob sleep 300 >/dev/null 2>&1 &
sleep 0.3
victim=$(pgrep -u $bob -x sleep | head -1)
like "a user cannot mark another's process" "$(as $alice chpox_ctl mark "$victim" 2>&1)" "not all yours"
is "but his own" "$(as $bob chpox_ctl mark "$victim" --name mine)" mine
check "and checkpoint it" as $bob chpox_ctl checkpoint mine
check "and unmark it" as $bob chpox_ctl unmark mine
check "which lets it run" kill -0 "$victim"
kill "$victim"

# what a user puts in the place of his output is not followed with root's rights
as $alice chpox_ctl run --name link -- sh -c 'echo x' >/dev/null
as $alice chpox_ctl wait link
as $alice ln -sf /etc/shadow "$CHPOX_DIR/jobs/link/out/stdout"
like "logs follows no link" "$(as $alice chpox_ctl logs link 2>&1)" "cannot open|no regular"
check "rm removes the link alone" as $alice chpox_ctl rm link
check "and not what it points to" test -e /etc/shadow

# a restricted file is not opened for the job by root
echo secret >"$work/secret"
chmod 600 "$work/secret"
as $alice chpox_ctl run --name s -- cat "$work/secret" >/dev/null
as $alice chpox_ctl wait s
is "a job reads what its user may read" $? 1
