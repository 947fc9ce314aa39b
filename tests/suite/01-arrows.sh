#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Each folder includes only what the table of docs/architecture.md allows it.
cd "$(dirname "$0")/../.." || exit 1
exec tests/lint/arrows.sh
