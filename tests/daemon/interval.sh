#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How often jobs are checkpointed by themselves, and what is said about it.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/daemon/lib.sh
. "$here/lib.sh"

checkpoints() { [ "$(field "$1" checkpoints)" -ge "$2" ]; }

ctl run --name auto -- python3 "$here/counter.py" 4000 0.05 >/dev/null
is "run without --every is auto" "$(field auto every_ms) $(field auto interval_ms)" "-1 10000"
like "and says when the first comes" "$(ctl show auto)" "interval +the first after 10 s"
ctl run --name quick --every auto:100ms..300ms -- python3 "$here/counter.py" 4000 0.05 >/dev/null
check "bounds of auto are kept" await 10 checkpoints quick 6
like "and it says why it is no longer" "$(ctl show quick)" \
	"interval +every (29.|300) ms, the most allowed: one costs the job .*\(0 seen in"
like "the interval is within them" "$(field quick interval_ms)" "^(29.|300)$"
ctl run --name never --every never -- sleep 100 >/dev/null
is "never" "$(field never every_ms) $(field never interval)" "0 only when asked for"
ctl run --name asked --every 1h -- sleep 100 >/dev/null
is "an interval that was asked for" "$(field asked interval)" "every 60 min, as asked for"

kill -9 "$(field quick pid)"
check "killed from outside" await 5 has_state quick FAILED
check "is recovered" ctl recover quick
is "and counted" "$(field quick failures)" 1
like "which is a reason" "$(ctl show quick)" "a failure is expected in [78]\..* h \(1 seen"
ctl signal quick KILL
await 5 has_state quick DONE
ctl restart quick >/dev/null
is "a death that was ordered is none" "$(field quick failures)" 1

like "bounds the wrong way round" "$(ctl run --every auto:5m..1m -- true 2>&1)" "the greater one"
like "bounds that are none" "$(ctl run --every auto:5m -- true 2>&1)" "has no bounds; auto:1m..30m has"
like "bounds that are too small" "$(ctl run --every auto:1ms.. -- true 2>&1)" "from 10 ms"

# what it has learned is nothing that a job depends on
python3 - "$CHPOX_DIR/registry/.node.json" <<'END'
import sys
open(sys.argv[1], 'w').write('{"format": 1, "failures": -7}')
END
n=$(field quick checkpoints)
check "a node's record that makes no sense does no harm" await 10 checkpoints quick $((n + 3))
check "and is written anew" python3 -c 'import json,sys; assert json.load(open(sys.argv[1]))["failures"] == 0' \
	"$CHPOX_DIR/registry/.node.json"
