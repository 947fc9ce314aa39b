#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# 200 incremental generations by each way of finding changed pages, on each kernel of the rig.
cd "$(dirname "$0")/../.." || exit 1
RIG_GENERATIONS=200 RIG_LIMIT=7200 exec tests/rig/rig.sh --incremental
