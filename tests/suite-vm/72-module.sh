#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel module: all of its tests, and a minute of random calls.
cd "$(dirname "$0")/../.." || exit 1
MODULE_FUZZ=150 exec tests/module/vm.sh
