#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 200 generations of ten seeds.
GENERATIONS=200 SEEDS="1 2 3 4 5 6 7 8 9 10" exec "$(dirname "$0")/../suite/35-incremental.sh"
