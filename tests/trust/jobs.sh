#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A damaged head of a job: verify --repair moves it down, of a running job and of one that ended.
. "$(dirname "$0")/../daemon/lib.sh"
cd "$work" || exit 1
flip_pack() { # EPOCH-SEQ
	python3 - "$(find "$CHPOX_DIR/store" -name "$1-*.p" | head -n 1)" <<-'END'
	import sys
	with open(sys.argv[1], 'r+b') as f:
	    f.seek(100)
	    b = f.read(1)
	    f.seek(100)
	    f.write(bytes([b[0] ^ 1]))
	END
}
newest_pack() { basename "$(find "$CHPOX_DIR/store" -path "*/$1/*.p" | sort | tail -n 1)" | cut -d- -f1,2; }

ctl run --name j --keep 3 -- sleep 1000 >/dev/null
ctl checkpoint j >/dev/null
ctl checkpoint j >/dev/null
check "a head that is whole" ctl verify j
head=$(field j generation)
flip_pack "$(newest_pack j)"
like "a damaged head" "$(ctl verify j 2>&1)" "generation $head: .*verify --repair j"
like "another generation is chosen by itself" "$(ctl verify --repair "j@$head" 2>&1)" "leave @$head out"
like "verify --repair of a running job" "$(ctl verify --repair j 2>&1)" "went back to generation $((head - 1))"
is "the head is the older one" "$(field j generation)" $((head - 1))
check "and verifies" ctl verify j
ctl checkpoint j >/dev/null
check "a checkpoint after it is whole by itself" ctl verify j
check "and a kill" ctl checkpoint j --kill
head=$(field j generation)
flip_pack "$(newest_pack j)"
like "verify --repair of a job that does not run" "$(ctl verify --repair j --json 2>&1)" '"repaired": true'
check "restart from it" ctl restart j
ctl checkpoint j --kill >/dev/null
flip_pack "$(newest_pack j)"
like "restart goes back by itself" "$(ctl restart j 2>&1)" "went back to generation"
is "and it runs" "$(field j state)" RUNNING
