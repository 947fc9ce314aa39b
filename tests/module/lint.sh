#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lint.sh - what the kernel's own tools say about the module: W=1 and sparse, checkpatch where
# there is one (CHECKPATCH=/path/to/scripts/checkpatch.pl). Nothing may be said.
set -u
cd "$(dirname "$0")/../.." || exit 1

verdict()
{
	[ -z "$2" ] && { echo "ok module: $1"; return; }
	printf '%s\n' "$2" | head -n 30 | sed 's/^/# /'
	echo "not ok module: $1"
}

# readable in an afternoon; what helps reading (comments, blank lines) does not count
lines=$(cat kernel/*.[ch] | grep -cvE '^[[:space:]]*($|/\*|\*|//)')
verdict "at most 3000 lines of code" "$([ "$lines" -le 3000 ] || echo "$lines lines")"
for k in 6.1 6.12; do
	if [ ! -e "build/headers/$k/build/Makefile" ] || ! command -v sparse >/dev/null; then
		echo "ok module: W=1 and sparse for Linux $k # SKIP no headers or no sparse"
		continue
	fi
	mkdir -p "build/module/lint-$k"
	said=$(MAKEFLAGS='' make -s -C kernel MO="$PWD/build/module/lint-$k" \
		KDIR="$PWD/build/headers/$k/build" W=1 C=2 2>&1)
	verdict "W=1 and sparse for Linux $k" \
		"$(echo "$said" | grep -vE '^Skipping BTF|note: in included file' | grep -v '/headers/[^:]*:[0-9:]* \(warning\|error\)')"
done
if [ -n "${CHECKPATCH:-}" ]; then
	# compat.h is the one file that may ask for versions
	verdict "checkpatch --strict" "$(perl "$CHECKPATCH" --no-tree --strict --terse --quiet --no-summary \
		--max-line-length=96 --ignore LINUX_VERSION_CODE -f kernel/*.[ch] 2>&1)"
else
	echo "ok module: checkpatch # SKIP no CHECKPATCH given (it is in Debian's linux-source)"
fi
