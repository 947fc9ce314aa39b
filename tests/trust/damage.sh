#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Whatever is damaged in the newest image: verify says so, restore takes the older one by itself,
# no file of the job has been touched by the attempt, and --repair makes the older one the newest.
. "$(dirname "$0")/lib.sh"

restore() { timeout 30 "$ctl" restore "$w/img" --detach --pidfile "$w/pidfile" </dev/null 2>&1; }
newest() { "$ctl" verify "$1" --json | python3 -c '
import json, sys
print([g["generation"] for g in json.load(sys.stdin)["generations"] if g["whole"]][0])'; }

start_job base
two_dumps || echo "not ok two dumps"
cp -a img img.good

damage_head() { flip "$(manifest 2)" 30; }
damage_manifest_end() { shorter "$(manifest 2)"; }
damage_pack_header() { flip "$(pack 2)" 20; }
damage_pack_block() { flip "$(pack 2)" 5000; }
damage_pack_table() { flip "$(pack 2)" -10; }
damage_pack_short() { shorter "$(pack 2)"; }
damage_pack_missing() { without "$(pack 2)"; }
# the saved content of db, which is random and so stored as it is
damage_saved_file() {
	python3 - "$w/saved" "$(dirname "$(pack 2)")" <<-'END'
	import glob, sys
	part = open(sys.argv[1], 'rb').read()[60000:60100]
	n = 0
	for name in glob.glob(sys.argv[2] + '/*-0000000000000002-*.p'):
	    data = bytearray(open(name, 'rb').read())
	    at = data.find(part)
	    if at >= 0:
	        data[at] ^= 1
	        open(name, 'wb').write(data)
	        n += 1
	sys.exit(n != 1)
	END
}

# what db was at the second dump
"$ctl" restore img --detach --pidfile pidfile >tool 2>&1 || echo "not ok a whole image restores: $(cat tool)"
cp db saved
gone "$(cat pidfile)"

for kind in head manifest_end pack_header pack_block pack_table pack_short pack_missing saved_file; do
	rm -rf img ./*.rolledback.*
	cp -a img.good img
	cp app.then app && cp db.then db
	"damage_$kind" || echo "not ok $kind: nothing was damaged"
	fails "$kind: verify says so" 'generation 2: .*--repair' "$ctl" verify img
	# nothing older: refused, and the files are as they were
	mv "$(manifest 1)" m1
	fails "$kind: alone it is refused" 'cannot restore' restore
	is "$kind: no file was touched" "$(cmp app app.then; cmp db db.then; ls -- *.rolledback.* 2>/dev/null)" ""
	fails "$kind: and not repaired" 'no whole image' "$ctl" verify --repair img
	is "$kind: nothing was set aside" "$(find img -name '*.damaged')" ""
	mv m1 "img/jobs/dump/$(basename "$(find img.good -name '*-0000000000000001-*.m')")"
	out=$(restore)
	like "$kind: restore goes back by itself, and says so" "$out" 'generation 2 cannot be used.*'
	like "$kind: to the older one" "$out" 'went back to generation 1'
	is "$kind: with its files" "$(cat app)" "line 1"
	gone "$(cat pidfile)"
	before=$(find img -type f | wc -l)
	like "$kind: verify --repair goes back" "$("$ctl" verify --repair img 2>&1)" 'went back to generation 1'
	is "$kind: which is the newest then" "$(newest img)" 1
	is "$kind: nothing was deleted" "$(find img -type f | wc -l)" "$before"
	check "$kind: and it verifies" "$ctl" verify img
done

# a dump goes on behind what was set aside
sleep 1000 >/dev/null 2>&1 &
p=$!
disown
pids+=("$p")
check "a dump behind it" "$ctl" dump "$p" --to img -R
check "is whole" "$ctl" verify img
fails "a directory that somebody changes is not repaired" 'just being changed' \
	flock --shared img bash -c "printf x >>\"\$(ls img/jobs/dump/*.m | tail -n 1)\"; '$ctl' verify --repair img"

# what a dump that was killed left goes with the next one, but not while another is at work
check "a dump into a new directory" "$ctl" dump "$p" --to new -R
dead=new/jobs/dump/0000000000000001-0000000000000001-0123456789abcdef.0.p
: >"$dead"
check "a dump while another one writes there" flock --shared new "$ctl" dump "$p" --to new -R
is "removes nothing that may be the other's" "$(ls "$dead" 2>&1)" "$dead"
check "a dump alone" "$ctl" dump "$p" --to new -R
is "cleans up what was left" "$(ls "$dead" 2>/dev/null)" ""
