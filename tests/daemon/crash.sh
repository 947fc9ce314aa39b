#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything killed at once, the daemon killed, the keeper killed, damaged images.
# shellcheck disable=SC2154 # $work is set there
. "$(dirname "$0")/lib.sh"

here=$(dirname "$(readlink -f "$0")")
cd "$work" || exit 1
python3 "$here/counter.py" 60 0 >"$work/expected"

for i in 1 2 3; do
	ctl run --name "c$i" --every 200ms -- python3 "$here/counter.py" 60 0.05 "$i" >/dev/null
done
ctl run --name never -- sh -c 'echo begun; sleep 2; echo done' >/dev/null
sleep 1.3
kill_everything
sleep 0.2
like "recover --all says what it did" "$(ctl recover --all 2>&1)" "runs again"
for i in 1 2 3; do
	ctl wait "c$i"
	is "job $i goes on to its end" $? "$i"
	check "with the output of an undisturbed run" cmp "$work/expected" <(ctl logs "c$i")
	like "from a checkpoint" "$(field "c$i" restarts)" '^1$'
done
ctl wait never
is "a job that was never checkpointed begins anew" "$(ctl logs never | xargs)" "begun done"
is "nothing is left to recover" "$(ctl recover --all)" "nothing to recover"

# the daemon alone
ctl run --name d --every 100ms -- python3 "$here/counter.py" 60 0.03 >/dev/null
pid=$(field d pid)
old=$(daemon_pid)
kill -9 "$old"
sleep 0.7
check "the job does not notice" kill -0 "$pid"
is "another daemon, the same job" "$(field d state)" RUNNING
[ "$(daemon_pid)" != "$old" ] && ok "it is another daemon" || not_ok "it is another daemon"
like "checkpoints went on meanwhile" "$(field d checkpoints)" '^[2-9]|^[1-9][0-9]'
await 5 ctl checkpoint d && ok "its keeper has connected again" || not_ok "its keeper has connected again"
ctl wait d
is "it ends as it should" $? 0
check "its output" cmp "$work/expected" <(ctl logs d)

# the keeper alone
ctl run --name k -- python3 "$here/counter.py" 150 0.05 4 >/dev/null
pid=$(field k pid)
kill -9 "$(field k keeper_pid)"
check "another keeper takes over" await 10 ctl checkpoint k
is "the job has run on" "$(field k state) $(field k pid)" "RUNNING $pid"
ctl wait k
is "and knows its status" $? 4

# the job alone, from outside
ctl run --name o -- python3 "$here/counter.py" 60 0.05 >/dev/null
ctl checkpoint o >/dev/null
kill -9 "$(field o pid)"
await 5 has_state o FAILED
like "a job killed from outside is failed" "$(field o reason)" "killed by SIGKILL"
check "recover brings it back" ctl recover o
ctl wait o
is "to its end" $? 0
check "undisturbed" cmp "$work/expected" <(ctl logs o)

# a damaged head
ctl run --name b -- python3 "$here/counter.py" 60 0.05 >/dev/null
ctl checkpoint b >/dev/null
sleep 0.3
ctl checkpoint b --kill >/dev/null
nonce=$(ctl images b --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["nonce"])')
mapfile -t files < <(find "$CHPOX_DIR/store" -type f -path '*/b/*' -name "*$nonce*")
[ ${#files[@]} -gt 0 ] || not_ok "the head's files are found by its nonce"
for f in "${files[@]}"; do
	printf 'XXXXXXXX' | dd of="$f" bs=1 seek=300 conv=notrunc 2>/dev/null
done
like "the next older generation is taken, and the user told" "$(ctl restart b 2>&1)" \
	"cannot be used.*went back to generation"
ctl wait b
is "it ends well" $? 0
check "with the right output" cmp "$work/expected" <(ctl logs b)
