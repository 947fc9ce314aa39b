#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What a restart does to files that have changed since the checkpoint (docs/files.md).
set -u
cd "$(dirname "$0")/../.." || exit 1
ctl=$PWD/${CHPOX_BUILD:-build}/chpox_ctl
# a pipe that we were started with would be an obstacle for the jobs
for f in /proc/self/fd/*; do
	f=${f##*/}
	[ "$f" -gt 2 ] && [ "$f" != 255 ] && eval "exec $f>&-"
done
# What a job has counted to; it is empty for a moment each time it is written.
counted() {
	local n='' i
	for ((i = 0; i < 100; i++)); do
		n=$(cat count)
		[ -n "$n" ] && break
	done
	echo "${n:-0}"
}
top=$(mktemp -d "${TMPDIR:-/tmp}/cpx-files.XXXXXX") || exit 1
pid=
mem=

stop_job() {
	[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
	pid=
}
trap 'stop_job; rm -rf "$top" ${mem:+"$mem"}' EXIT

# A job (NAME [DIR]) with a log that it appends to, a log at whose end it writes, a file that it changes in place,
# and one that it only reads. It sleeps: what it has open is seen from outside.
start_job() {
	w=${2:-$top}/w.$1
	mkdir "$w" && cd "$w" || exit 1
	printf 'line 1\nline 2\n' >app
	printf 'table v1' >db
	printf 'input' >in
	setsid bash -c 'exec 5>>app 6<>db 7<in 8>log; echo start >&8; read -r -n 3 <&7; exec sleep 1000' \
		</dev/null >out 2>&1 &
	pid=$!
	disown
	for _ in $(seq 100); do
		[ "$(cat "/proc/$pid/comm")" = sleep ] && break
		sleep 0.02
	done
	"$ctl" dump "$pid" --to "$w/img" >tool 2>&1 </dev/null || echo "# dump: $(cat tool)"
	for _ in $(seq 300); do
		[ -e "/proc/$pid" ] || break
		sleep 0.02
	done
}
restore_job() { # [OPTION...]
	timeout 30 "$ctl" restore "$w/img" --detach --pidfile "$w/pidfile" "$@" >tool 2>&1 </dev/null
}
position() { awk '/^pos/ { print $2 }' "/proc/$pid/fdinfo/$1"; }
verdict() { # NAME; what is wrong is in $bad
	if [ -z "$bad" ]; then
		echo "ok files: $1"
	else
		sed 's/^/# /' "$w/tool"
		echo "not ok files: $1:$bad"
	fi
	stop_job
	cd "$top" || exit 1
}
want() { # WHAT GOT WANTED
	[ "$2" = "$3" ] || bad="$bad $1 is '$2', not '$3';"
}

start_job grown
echo 'line 3' >>app
echo 'more' >>log
bad=
restore_job || bad=" not restored;"
want app "$(cat app)" "$(printf 'line 1\nline 2')"
want log "$(cat log)" start
want 'what was cut off app' "$(cat app.rolledback.*)" 'line 3'
want 'what was cut off log' "$(cat log.rolledback.*)" more
want 'position in log' "$(position 8)" 6
verdict 'what was appended after the checkpoint is moved aside, never deleted'

start_job inplace
printf 'TABLE V2 and longer' >db
ino=$(stat -c %i db)
bad=
restore_job || bad=" not restored;"
want db "$(cat db)" 'table v1'
want inode "$(stat -c %i db)" "$ino"
want 'the newer db' "$(cat db.rolledback.*)" 'TABLE V2 and longer'
verdict 'a file changed in place is put back, in the same inode'

start_job beside
printf 'journal' >db-journal
printf 'mine' >db.bak
printf 'TABLE v1' >db
bad=
restore_job || bad=" not restored;"
want db "$(cat db)" 'table v1'
[ -e db-journal ] && bad="$bad the journal is still there;"
want 'the journal' "$(cat db-journal.rolledback.*)" journal
want db.bak "$(cat db.bak)" mine
verdict 'a journal that has come into being beside a file that is put back goes aside with it'

start_job again
echo 'x' >>app
bad=
restore_job || bad=" not restored;"
stop_job
pid=$(cat pidfile)
echo 'yy' >>app
restore_job || bad="$bad not restored again;"
want app "$(cat app)" "$(printf 'line 1\nline 2')"
want 'what was cut off' "$(cat app.rolledback.* | sort | tr '\n' ' ')" 'x yy '
verdict 'an image can be restored twice'

start_job shorter
printf 'line' >app
bad=
restore_job && bad=" was restored;"
grep -q 'app .*data was lost' tool || bad="$bad it does not say why;"
want app "$(cat app)" line
want db "$(cat db)" 'table v1'
verdict 'a file that has lost data is refused, and nothing is touched'

start_job other
printf 'Line 1\nLine 2\nline 3\n' >app
bad=
restore_job && bad=" was restored;"
verdict 'a file whose earlier content is another is refused'

start_job missing
rm app
bad=
restore_job && bad=" was restored;"
verdict 'a missing output is refused'

start_job input
printf 'INPUT' >in
bad=
restore_job && bad=" was restored;"
grep -q -e '--force' tool || bad="$bad it does not say what to do;"
restore_job --force || bad="$bad not restored with --force;"
want 'position in in' "$(position 7)" 3
verdict 'an input that has changed is refused, unless forced'

start_job writer
echo 'theirs' >>app
exec 9>>app
bad=
restore_job || bad=" not restored;"
want app "$(cat app)" "$(printf 'line 1\nline 2\ntheirs')"
grep -q "left as it is" tool || bad="$bad it is not said;"
exec 9>&-
verdict 'a file that somebody else is writing is left as it is, and that is said'

start_job gone
rm db
bad=
restore_job || bad=" not restored;"
want db "$(cat db)" 'table v1'
verdict 'a file whose content was saved is made again'

start_job same
bad=
before=$(stat -c '%n %i %s %Y' app db in log)
restore_job || bad=" not restored;"
want 'the directory' "$(stat -c '%n %i %s %Y' app db in log)" "$before"
ls ./*.rolledback.* >/dev/null 2>&1 && bad="$bad something was moved aside;"
verdict 'files that have not changed are not touched'

mem=$(mktemp -d /dev/shm/cpx-files.XXXXXX) || exit 1
start_job reboot "$mem"
bad=
rm app db in log
restore_job || bad=" not restored;"
want app "$(cat app)" "$(printf 'line 1\nline 2')"
want db "$(cat db)" 'table v1'
want in "$(cat in)" input
want log "$(cat log)" start
want 'position in log' "$(position 8)" 6
verdict 'files of a file system in memory, which no reboot leaves, are made again'

# A shell and a C library of its own, which are upgraded (renamed over) between checkpoint and restart.
w=$top/w.code
mkdir -p "$w/lib" && cd "$w" || exit 1
cp "$(command -v bash)" sh
cp "$(ldd sh | awk '/libc.so.6/ { print $3 }')" lib/libc.so.6
mkfifo never
# shellcheck disable=SC2016 # for the other shell
LD_LIBRARY_PATH=$w/lib setsid ./sh -c 'n=0; exec 3<>never
	while :; do read -r -t 0.05 <&3; n=$((n + 1)); printf "%s\n" $n >count; done' </dev/null >out 2>&1 &
pid=$!
disown
sleep 0.5
"$ctl" dump "$pid" --to "$w/img" >tool 2>&1 </dev/null || echo "# dump: $(cat tool)"
was=$(counted)
printf 'another' >new && mv new lib/libc.so.6
printf 'another' >new && mv new sh
bad=
restore_job || bad=" not restored;"
sleep 0.5
[ "$(counted)" -gt "$((was + 2))" ] || bad="$bad it does not go on: $was, $(counted);"
want lib "$(cat lib/libc.so.6)" another
pid=$(cat pidfile)
"$ctl" dump "$pid" --to "$w/img2" >>tool 2>&1 </dev/null || bad="$bad no second dump;"
was=$(counted)
rm -rf img && mv img2 img
restore_job || bad="$bad not restored again;"
sleep 0.5
[ "$(counted)" -gt "$((was + 2))" ] || bad="$bad it does not go on again: $was, $(counted);"
verdict 'a program goes on with its own code after an upgrade of program and library'
