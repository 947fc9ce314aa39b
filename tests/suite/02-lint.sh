#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Shell scripts, man pages and the measurable rules of style.
cd "$(dirname "$0")/../.." || exit 1
exec tests/lint/lint.sh
