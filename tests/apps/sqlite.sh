#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sqlite3: a bulk insert with journal, in transactions, then questions.
case $1 in
have) command -v sqlite3 ;;
run)
	{
		echo 'PRAGMA journal_mode=DELETE; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);'
		for k in $(seq 0 79); do
			echo "BEGIN; WITH RECURSIVE n(i) AS (SELECT $k*10000 UNION ALL SELECT i+1 FROM n WHERE i+1<($k+1)*10000)"
			echo "INSERT INTO t SELECT i, printf('row %d of %x', i, i*7919), i/3.0 FROM n; COMMIT;"
		done
		echo 'CREATE INDEX tb ON t(b); SELECT count(*), sum(a), max(b), total(c) FROM t;'
		echo 'PRAGMA integrity_check; SELECT b FROM t WHERE a % 10007 = 3 ORDER BY b;'
	} >script.sql
	sqlite3 db <script.sql >out.txt || exit 1
	sqlite3 db .dump | md5sum >out.sum
	;;
esac
