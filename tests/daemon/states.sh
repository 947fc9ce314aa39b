#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every state program as a job: in its PID namespace, under a keeper, killed and restarted twice.
#   STATES_ONLY=regex
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
cd "$work" || exit 1

await_file() { # DIR NAME SECONDS
	local i
	for ((i = 0; i < $3 * 50; i++)); do
		if [ -e "$1/$2" ] || [ -e "$1/result" ]; then
			return 0
		fi
		sleep 0.02
	done
	return 1
}
# The outcome on one line; the checkpoint may be refused, but then must not hurt.
one() {
	local p=$1 dir=$work/$1 word='' why='' said='' i
	mkdir "$dir"
	# they make sessions of their own, which a leader cannot
	ctl run --name "$p" -- sh -c '"$@" & wait' sh "$CHPOX_BUILD/tests/states/$p" "$dir" >/dev/null ||
		return
	if ! await_file "$dir" ready 20; then
		echo "not ok $p: never ready"
		return
	fi
	for i in 1 2; do
		[ -e "$dir/result" ] && break
		sleep 0.1
		if ! said=$(ctl checkpoint "$p" --kill 2>&1); then
			said="refused: ${said#*pid }"
			break
		fi
		if ! said=$(ctl restart "$p" 2>&1); then
			echo "not ok $p: $said"
			return
		fi
		said=
	done
	sleep 0.1
	: >"$dir/go"
	await_file "$dir" result 30 || echo "# $p hangs"
	read -r word why <"$dir/result"
	case $word in
	PASS) echo "ok $p${said:+ # SKIP $said}" ;;
	SKIP) echo "ok $p # SKIP $why" ;;
	*) echo "not ok $p: $said $(tail -n 3 "$dir/fail" 2>/dev/null | tr '\n' '|')" ;;
	esac
	ctl rm --force "$p" >/dev/null 2>&1
}
export -f one await_file ctl
export work CHPOX_BUILD

ctl ps >/dev/null
# ns_init: its first process makes another one and ends, and the job would end with it
for f in "$CHPOX_BUILD"/tests/states/*; do
	f=${f##*/}
	[ -x "$CHPOX_BUILD/tests/states/$f" ] && [ "$f" != obstacle ] &&
		[ "$f" != ns_init ] &&
		[[ $f =~ ${STATES_ONLY:-.} ]] && echo "$f"
done | xargs -P "${PARALLEL:-2}" -I% bash -c 'one %' | tee results
if grep -q '^not ok' results; then
	# shellcheck disable=SC2034 # lib.sh ends with it
	failures=1
fi
