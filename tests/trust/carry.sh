#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# export and import: what comes out is what went in, in a directory or as a job; hostile and
# damaged containers, and an end in the middle, leave nothing.
. "$(dirname "$0")/../daemon/lib.sh"
counter=$(dirname "$(readlink -f "$0")")/../daemon/counter.py
cd "$work" || exit 1
fails() { # NAME PATTERN COMMAND...: one line like that, and nothing but code objects stays in to/
	local name=$1 pattern=$2 out rc
	shift 2
	out=$("$@" 2>&1)
	rc=$?
	[ $rc -ne 0 ] && [ "$(wc -l <<<"$out")" = 1 ] || out="$out (status $rc)"
	like "$name" "$out" "^chpox_ctl: .*${pattern}[^[:cntrl:]]*$"
}
sums() { (cd "$1" && find . -type f -path '*code*' -exec sha256sum {} + | sort); }

ctl run --name j --keep 2 -- python3 "$counter" 60 0.05 7 >/dev/null
sleep 0.3
ctl checkpoint j >/dev/null
sleep 0.2
ctl checkpoint j --kill >/dev/null

# through a file, through a pipe, into a directory and back
like "export of a job" "$(ctl export j j.cpx)" "generation 2, .* in j.cpx"
is "the file is its user's alone" "$(stat -c %a j.cpx)" 600
is "no temporary file" "$(ls ./*.tmp 2>/dev/null)" ""
like "import into a directory" "$(ctl import j.cpx --to to)" "to: generation 1"
check "it verifies" ctl verify to
is "nothing that is not needed" "$(find to -name '*.tmp')" ""
ctl export to - >again.cpx
ctl import - --trust --to to2 < <(cat again.cpx) >/dev/null
check "the same through pipes" ctl verify to2
is "the programs and libraries are the same" "$(sums to2)" "$(sums to)"
is "the records are the same" "$(ctl inspect to2 --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["records"])')" \
	"$(ctl inspect to --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["records"])')"
like "a second import is kept beside it" "$(ctl import j.cpx --to to)" "to: generation 2"
like "an older generation" "$(ctl export j@1 j1.cpx)" "generation 1, "

# as a job
is "import as a job" "$(ctl import j.cpx --name copy)" copy
is "it is one that can be restarted" "$(field copy state)" STOPPED
check "it verifies" ctl verify copy
check "restart of the imported job" ctl restart copy
ctl wait copy
is "it ends as the original would" $? 7
is "its output goes on where it was" "$(wc -l <"$CHPOX_DIR/jobs/j/out/stdout")" 60
is "a name is made from the file's" "$(ctl import j1.cpx)" j1-1
like "a name that is taken" "$(ctl import j.cpx --name j 2>&1)" "there is a job 'j' already"
check "rm of an imported job" ctl rm j1-1
is "leaves nothing" "$(find "$CHPOX_DIR/store" "$CHPOX_DIR/jobs" "$CHPOX_DIR/registry" -name '*j1-1*')" ""

# what is no image
rm -rf to
printf 'hello, this is text\n' >text
fails "text" "no exported image" ctl import text --to to
fails "an empty file" "cut off after 0" ctl import /dev/null --trust --to to
fails "no such file" "No such file" ctl import none --to to
head -c 100000 j.cpx >short
fails "cut off" "cut off after 100000" ctl import short --to to
cp j.cpx longer && echo >>longer
fails "more behind the end" "more behind its end" ctl import longer --to to
size=$(stat -c %s j.cpx)
for at in 0 9 17 25 60 3000 $((size / 3)) $((size / 2)) $((size - 20)) $((size - 3)); do
	cp j.cpx bad
	python3 -c '
import sys
at = int(sys.argv[1])
with open("bad", "r+b") as f:
    f.seek(at)
    b = f.read(1)
    f.seek(at)
    f.write(bytes([b[0] ^ 4]))' $at
	fails "a changed byte at $((at * 10 / size))0 % ($at)" "(no exported image|instead of|was changed|version|damaged|digest|cannot be|is too large|checksum)" \
		ctl import bad --to to
done
is "nothing of it is left" "$(find to 2>/dev/null)" ""
fails "the same as a job" "was changed" ctl import bad --name bad
is "leaves nothing either" "$(find "$CHPOX_DIR/store" "$CHPOX_DIR/jobs" "$CHPOX_DIR/registry" -name '*bad*')" ""
fails "export of a damaged image" "does not fit|was changed" bash -c "
	chpox_ctl import j.cpx --to hurt >/dev/null
	p=\$(find hurt -name '*.p' | head -n 1)
	printf xxxx | dd of=\$p bs=1 seek=70 conv=notrunc status=none
	chpox_ctl export hurt hurt.cpx"
is "writes nothing" "$(ls hurt.cpx* 2>/dev/null)" ""
fails "export to where nothing can be written" "cannot make /proc/x" ctl export j /proc/x
fails "a full device" "No space left" bash -c 'chpox_ctl export j - >/dev/full'

# killed in the middle
mkfifo fifo
{ head -c $((size / 2)) j.cpx; exec sleep 1; } >fifo &
chpox_ctl import - --trust --name half <fifo >/dev/null 2>&1 &
half=$!
await 5 test -e "$CHPOX_DIR/registry/half.json"
check "an import is under way" test -e "$CHPOX_DIR/registry/half.json"
sleep 0.2
kill -9 $half
wait $half 2>/dev/null
await 5 test ! -e "$CHPOX_DIR/registry/half.json"
is "an import that was killed leaves nothing" \
	"$(find "$CHPOX_DIR/store" "$CHPOX_DIR/jobs" "$CHPOX_DIR/registry" -name '*half*')" ""
(
	chpox_ctl export j - | head -c 1000
) >/dev/null 2>&1
check "an export whose reader left does no harm" ctl verify j
is "and holds no pin" "$(field j pins)" 0

# whose it is
fails "root believes no pipe" "give --trust" bash -c 'cat j.cpx | chpox_ctl import - --to to'
if id nobody >/dev/null 2>&1; then
	as() { setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups "$@"; }
	chmod 755 "$CHPOX_DIR" "$work"
	install -d -o nobody -m 755 theirs
	cp j.cpx theirs/x.cpx && chown nobody theirs/x.cpx
	fails "nor a file that others may write" "user .* may write .*give --trust" ctl import theirs/x.cpx --name theirs
	like "another's job cannot be exported" "$(as chpox_ctl export j - 2>&1 >/dev/null)" "there is no job 'j'"
	is "a user's import" "$(as chpox_ctl import theirs/x.cpx --name theirs 2>&1)" theirs
	is "is the user's" "$(field theirs uid)" "$(id -u nobody)"
	is "and so are its files" "$(find "$CHPOX_DIR/store/$(id -u nobody)" ! -user nobody)" ""
	like "a root job's image gives a user no more rights" "$(as chpox_ctl restart theirs 2>&1)" "cannot restart 'theirs'"
fi
