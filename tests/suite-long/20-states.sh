#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every state program over everything that is done to it x codec x snapshot way.
FULL=1 exec "$(dirname "$0")/../suite/20-states.sh"
