#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel module: all of its tests, a minute of random calls, and checkpoints by it.
cd "$(dirname "$0")/../.." || exit 1
tests/module/dkms.sh
MODULE_FUZZ=150 tests/module/vm.sh
exec tests/module/engine.sh -g 16
