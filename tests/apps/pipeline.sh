#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A shell, its loops, and a pipeline of seven processes.
case $1 in
have) command -v bash ;;
run)
	set -o pipefail
	seq 1 400000 | sed 's/7/seven/g' | awk '{ print $1, NR % 97 }' | sort -k2,2n -k1,1 | tr a-z A-Z | gzip -n -9 |
		tee out.gz | md5sum >out.sum || exit 1
	n=0
	for i in $(seq 1 150); do
		n=$((n + $(echo "$i" | tr -d '\n' | wc -c)))
		[ "$(printf '%s\n' c a b | sort | head -n 1)" = a ] || exit 2
	done
	trap 'echo trapped >>out.log' USR1
	kill -USR1 $$
	(sleep 0.3; echo later; exit 5) >>out.log &
	wait $!
	echo "$? $n" >>out.log
	;;
esac
