#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The scheduler's core in the seeded simulator (docs/simulation.md). SIM_HISTORIES (10000) histories of
# 3 to 7 nodes, SIM_BIG (2) of 300, and each planted bug must be found. SIM_SEED: the first seed.
# LOAD_SCENARIOS (80), LOAD_NODES ("150") and LOAD_REST ("100 1000"): the experiments about load.
cd "$(dirname "$0")/../.." || exit 1
sim=build/tests/sim/sim
seed=${SIM_SEED:-1}

# verdict NAME RC TEXT
verdict()
{
	if [ "$2" = 0 ]; then
		echo "ok $1: $3"
	else
		echo "# replay: $sim --seed N --trace with N of: $3"
		echo "not ok $1: $3"
	fi
}

out=$($sim --seed "$seed" --histories "${SIM_HISTORIES:-10000}")
verdict "sim: no violation with 3 to 7 nodes" $? "$(echo "$out" | paste -sd' ')"
median=$(echo "$out" | sed -n 's/.* histories, \([0-9]*\) events in the median.*/\1/p')
[ "${median:-0}" -ge 500 ]
verdict "sim: at least 500 events a history" $? "${median:-none} in the median"
out=$($sim --seed "$seed" --histories "${SIM_BIG:-2}" --nodes 300)
verdict "sim: no violation with 300 nodes" $? "$(echo "$out" | paste -sd' ')"

[ "$($sim --seed 77 --trace | md5sum)" = "$($sim --seed 77 --trace | md5sum)" ]
verdict "sim: a seed replays exactly" $? "seed 77"

for bug in $($sim --bugs); do
	out=$($sim --seed "$seed" --histories 10000 --bug "$bug")
	[ $? = 1 ]
	verdict "sim: finds $bug" $? "$(echo "$out" | head -n 1)"
done

load=build/tests/load/load

# experiment ARG...
experiment()
{
	out=$($load "$@")
	verdict "load: $1" $? "$(echo "$out" | paste -sd'|')"
}

experiment seven
experiment published "${LOAD_SCENARIOS:-80}" "$seed"
for nodes in ${LOAD_NODES:-150}; do
	experiment scale "$nodes" "$seed"
done
read -ra rest <<<"${LOAD_REST:-100 1000}"
experiment rest "${rest[@]}"
