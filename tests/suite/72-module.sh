#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel module: clean for the kernel's own checkers, and a selection of its tests in machines.
cd "$(dirname "$0")/../.." || exit 1
tests/module/lint.sh
exec tests/module/vm.sh 'exactly|refused|frozen|marks|runs|killed|clock|closing|go on'
