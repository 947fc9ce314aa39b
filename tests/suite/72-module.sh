#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel module: clean for the kernel's own checkers; a selection of its tests and of
# checkpoints by it, in one machine of each kernel.
cd "$(dirname "$0")/../.." || exit 1
tests/module/lint.sh
exec tests/module/engine.sh -g 3 -m 'exactly|refused|frozen|marks|runs|killed|clock|closing|fence' \
	thr_rseq:live sig_pending:live sys_timed:live tim_posix:kill tree_family:live
