#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What of the house style a script can measure. One line of TAP for each rule.
set -u

MAX_FUNCTION=100
MAX_COLUMNS=96

# verdict NAME TEXT: ok when there is nothing to say.
verdict()
{
	if [ -z "$2" ]; then
		echo "ok $1"
	else
		printf '%s\n' "$2" | head -n 40 | sed 's/^/# /'
		echo "not ok $1"
	fi
}

files() { find . -path ./build -prune -o -path ./.git -prune -o -type f "$@" -print | sort; }

mapfile -t c_files < <(files -name '*.[ch]')
mapfile -t sources < <(files \( -name '*.[ch]' -o -name '*.sh' -o -name '*.mk' -o -name '*.py' \
	-o -name Makefile \))
mapfile -t scripts < <(grep -lE '^#! */(usr/)?bin/(env )?(ba|da)?sh' \
	-r --exclude='*.[ch]' --exclude='*.md' --exclude-dir=build --exclude-dir=.git . 2>/dev/null)
mapfile -t pages < <(files -name '*.[1-8]')

# In this style a function's body opens and closes in the first column, and nothing else does.
long_functions()
{
	awk -v max="$MAX_FUNCTION" '
		FNR == 1 { start = 0 }
		/^\{[ \t]*$/ { start = FNR; name = prev }
		/^\}/ && start {
			if (FNR - start - 1 > max)
				printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - start - 1, name
			start = 0
		}
		/^[^ \t{}]/ { prev = $0 }' "${c_files[@]}"
}

# Tables laid out by hand are as wide as they need to be.
wide_lines()
{
	for f in "${c_files[@]}"; do
		expand -t 8 "$f" | awk -v f="$f" -v max="$MAX_COLUMNS" '
			/clang-format off/ { table = 1 }
			/clang-format on/ { table = 0 }
			length($0) > max && !table { print f ":" FNR ": " length($0) " columns" }'
	done
}

without_licence()
{
	for f in "${sources[@]}"; do
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier: GPL-2.0' || echo "$f"
	done
}

# SC2154, SC2034: variables that cross files by sourcing; SC2046: words that are meant to be split
verdict "lint: functions of at most $MAX_FUNCTION lines" "$(long_functions)"
verdict "lint: lines of at most $MAX_COLUMNS columns" "$(LC_ALL=C.UTF-8 wide_lines)"
verdict "lint: clang-format" "$(clang-format --dry-run -Werror "${c_files[@]}" 2>&1 | grep error: | cut -d: -f1,2 | sort -u)"
verdict "lint: a licence in each file" "$(without_licence)"
verdict "lint: names of C files are unique" \
	"$(printf '%s\n' "${c_files[@]}" | grep -v '^\./tests/' | sed 's,.*/,,' | sort | uniq -d)"
verdict "lint: no typedef of a struct" \
	"$(grep -nE '^typedef (struct|union|enum)' "${c_files[@]}" | grep -v ' cpx_k_')"
verdict "lint: shellcheck" "$(shellcheck -S warning -e SC2154,SC2046,SC2034 "${scripts[@]}" 2>&1)"
if [ ${#pages[@]} -gt 0 ]; then
	verdict "lint: mandoc" "$(mandoc -Tlint -W warning "${pages[@]}" 2>&1)"
else
	echo "ok lint: mandoc # SKIP no man page"
fi
