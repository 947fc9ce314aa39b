#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# gc and du: what is needed stays, all else goes, and nobody reaches what is not his.
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd / || exit 1

store=$CHPOX_DIR/store/0
alice=23453
as_alice() { timeout 60 setpriv --reuid $alice --regid $alice --clear-groups "$@"; }
on_disk() { find "$1" -type f -printf '%b\n' | awk '{ n += $1 } END { print n * 512 }'; }
# of NAME COMMAND...: an expression on the report of a command
of()
{
	local what=$1
	shift
	ctl "$@" --json 2>/dev/null | python3 -c "import json, sys; r = json.load(sys.stdin); print($what)" 2>&1
}
objects() { find "$store/code" -type f | wc -l; }

cp "$(readlink -f "$(type -P sleep)")" "$work/one"
cp "$work/one" "$work/two"
echo "of another version" >>"$work/two"
ctl run --name a --keep 1 --every never -- "$work/one" 1000 >/dev/null
ctl run --name b --keep 1 --every never -- "$work/two" 1000 >/dev/null
ctl checkpoint a >/dev/null
ctl checkpoint b >/dev/null
both=$(objects)
is "du tells what a job takes" "$(of 'r["jobs"][0]["bytes"]' du a)" "$(on_disk "$store/jobs/a")"
is "and its programs" "$(of 'r["code"][0]["bytes"]' du)" "$(on_disk "$store/code")"
is "all of it is needed" "$(of 'r["jobs"][0]["bytes_head"]' du a)" "$(on_disk "$store/jobs/a")"
like "for people, too" "$(ctl du)" $'JOB .*\na +root +1 .*\n\\(programs\\) +root +'"$both "

# as a crash leaves it: below the head, and no generation refers to it; and one above the head
dead=$store/jobs/a/0000000000000001-0000000000000000-00000000000000aa
ahead=$store/jobs/a/00000000000000ff-0000000000000001-00000000000000aa.0.p
head -c 70000 /dev/urandom >"$dead.0.p"
: >"$dead.c"
: >"$ahead"
: >"$store/code/$(printf '%064d' 7)"
like "a dry run says what would go" "$(ctl gc --dry-run)" "a: 2 files, 7[0-9] KiB would be removed"
check "and removes nothing" test -e "$dead.0.p"
is "du counts it as dead" "$(of 'r["jobs"][0]["dead_files"]' du a)" 2
check "gc" ctl gc
check "what is dead is gone" test ! -e "$dead.0.p" -a ! -e "$dead.c"
check "what is being written is not" test -e "$ahead"
rm -f "$ahead"
is "nor what generations refer to" "$(objects)" "$both"
is "then there is nothing to be done" "$(of 'sum(x["dead_files"] for x in r["jobs"] + r["code"])' gc)" 0

# retention: what a reader holds stays for as long as he does
kept() { ctl images a --json | python3 -c 'import json, sys; print(*[":".join(g["kept_by"]) or "-" for g in json.load(sys.stdin)])'; }
coproc PIN { python3 -c '
import json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CHPOX_DIR"] + "/socket")
m = json.dumps({"op": "pin", "job": "a", "why": "export", "epoch": 0, "generation": 0}).encode()
s.sendall(struct.pack("<I", len(m)) + m); s.recv(4096); print("pinned", flush=True); sys.stdin.read()'; }
read -r said <&"${PIN[0]}"
is "a reader" "$said" pinned
ctl checkpoint a >/dev/null
is "images says why each is kept" "$(kept)" "newest pin:export"
is "what is pinned does not go" "$(of 'r["jobs"][0]["dropped"]' gc)" 0
eval "exec ${PIN[1]}>&-"
await 10 test "$(kept)" = "newest -"
is "then it is to go" "$(kept)" "newest -"
like "for people, too" "$(ctl images a)" "newest.*goes with the next"
is "a dry run counts it" "$(of 'r["jobs"][0]["dropped"]' gc --dry-run)" 1
is "and leaves it" "$(field a generations)" 2
is "gc takes it away" "$(of 'r["jobs"][0]["dropped"]' gc a)" 1
is "from the record" "$(field a generations)" 1
is "and from the store" "$(find "$store/jobs/a" -name '*.m' | wc -l)" 1

check "the job ends" ctl checkpoint a --kill
check "and what is left of it restarts" ctl restart a
ctl rm b --force
check "a program that no job needs goes with its job" test "$(objects)" = $((both - 1))
check "those of the other still verify" ctl verify a
ctl checkpoint a --kill >/dev/null
check "and restart" ctl restart a

if as_alice test -x "$CHPOX_BUILD/chpox_ctl"; then
	head -c 5000 /dev/urandom >"$dead.0.p"
	like "a user does not see the jobs of others" "$(as_alice chpox_ctl du a 2>&1)" "there is no job 'a'"
	check "and collects what is his" as_alice chpox_ctl gc
	check "alone" test -e "$dead.0.p"
	as_alice chpox_ctl run --name c --every never -- sleep 1000 >/dev/null
	as_alice chpox_ctl checkpoint c >/dev/null
	: >"$CHPOX_DIR/store/$alice/jobs/c/0000000000000001-0000000000000000-00000000000000aa.0.p"
	like "his own he does collect" "$(as_alice chpox_ctl gc c)" "c: 1 files"
	like "root sees all" "$(ctl du)" $'\na .*\nc .*\n\\(programs\\) .*\n\\(programs\\) '
	check "and collects all" ctl gc
	check "also what is root's" test ! -e "$dead.0.p"
fi
like "a job that is not there" "$(ctl gc nobody 2>&1)" "^chpox_ctl: there is no job 'nobody'$"
like "is a failure" "$(ctl gc nobody --json 2>/dev/null)" '"error": "there is no job'
finish
