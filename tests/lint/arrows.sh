#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The include arrows: a file may include what is in its own folder and in those named here.
# The table is that of docs/architecture.md; change both.
set -u

declare -A may=(
	[chpox/base]="chpox/base"
	[store]="store chpox/base"
	[restore]="restore store chpox/base"
	[chpox]="chpox restore store chpox/base"
	[scheduler]="scheduler store chpox/base"
	[kernel]="kernel"
)
# Headers that cross a border, and the files that may include them.
declare -A crossing=(
	[kernel/chpox_uapi.h]='^chpox/.*module.*'
	[scheduler/proto.h]='^chpox/(main_|cmd_|ctl|keeper|job_client).*'
	[scheduler/registry.h]='^chpox/keeper.*'
	[scheduler/fence.h]='^chpox/keeper.*'
)

folder_of()
{
	case $1 in
	chpox/base/*) echo chpox/base ;;
	*/*) echo "${1%%/*}" ;;
	*) echo . ;;
	esac
}

allowed()
{
	local file=$1 header=$2 folder target
	folder=$(folder_of "$file")
	target=$(folder_of "$header")
	[[ " ${may[$folder]} " == *" $target "* ]] && return 0
	[[ -n ${crossing[$header]:-} && $file =~ ${crossing[$header]} ]]
}

bad=0
while IFS=: read -r file header; do
	[ -e "$header" ] || header=$(dirname "$file")/$header
	header=$(realpath -m --relative-to=. "$header")
	if ! allowed "$file" "$header"; then
		echo "not ok $file includes $header: not in its table of arrows"
		bad=1
	fi
done < <(grep -EHo '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]+"' \
	-r --include='*.[ch]' chpox store restore scheduler kernel 2>/dev/null |
	sed -E 's/:[^"]*"/:/; s/"$//')
[ $bad = 0 ] && echo "ok include arrows"
exit $bad
