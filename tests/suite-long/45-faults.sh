#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The faults, at every ptrace call and every I/O call.
FULL=1 exec "$(dirname "$0")/../suite/45-faults.sh"
