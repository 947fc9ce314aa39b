#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# State programs on Debian's kernels 6.1 and 6.12, and images from one restored on the other.
cd "$(dirname "$0")/../.." || exit 1
exec tests/rig/rig.sh
