#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A million histories of other seeds, 200 of 300 nodes; the experiments about load in full.
export SIM_SEED=100001 SIM_HISTORIES=1000000 SIM_BIG=200
export LOAD_SCENARIOS=3000 LOAD_NODES="1000 10000" LOAD_REST="1000 10000"
exec "$(dirname "$0")/../suite/50-sim.sh"
