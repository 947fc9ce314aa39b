#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Real programs, killed and restarted five times each.
TIMES=5 exec "$(dirname "$0")/../suite/30-apps.sh"
