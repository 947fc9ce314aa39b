#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One node whose registry is in etcd: jobs run, are checkpointed and recovered as with the
# embedded registry; what is written down is remembered; a lost registry costs time, no work.
# shellcheck disable=SC2154 # $work is set there
. "$(dirname "$0")/../daemon/lib.sh"

here=$(dirname "$(readlink -f "$0")")
data=$(mktemp -d /dev/shm/cpx-etcd.XXXXXX)
store=$work/shared
node=node-$$
etcd_pid=

start_etcd()
{
	# not one of those that kill_everything ends
	env -u CHPOX_DIR "$CHPOX_BUILD/etcd/etcd" --name n --data-dir "$data/n" --listen-client-urls "$url" \
		--advertise-client-urls "$url" --listen-peer-urls "$peer" \
		--initial-advertise-peer-urls "$peer" --initial-cluster "n=$peer" >>"$data/log" 2>&1 &
	etcd_pid=$!
	disown $etcd_pid
	await 20 curl -sf -m 2 "$url/health"
}
stop_etcd()
{
	kill -STOP "$etcd_pid"
	until [ -z "$(grep -hL '^State:.T' /proc/"$etcd_pid"/task/*/status)" ]; do sleep 0.01; done
}
end_etcd()
{
	kill -CONT "$etcd_pid"
	(finish)
	local rc=$?
	kill -9 "$etcd_pid"
	rm -rf "$data"
	trap - EXIT
	exit $rc
}
trap end_etcd EXIT
has_restarts() { [ "$(field "$1" restarts)" = "$2" ]; }
keys()
{
	curl -s -m 5 "$url/v3/kv/range" -d '{"key":"AA==","range_end":"AA==","keys_only":true}' |
		python3 -c 'import base64,json,sys
for kv in json.load(sys.stdin).get("kvs", []): print(base64.b64decode(kv["key"]).decode())'
}
port=$(python3 -c 'import socket
s=[socket.socket() for _ in range(2)]
[x.bind(("127.0.0.1",0)) for x in s]
print(*[x.getsockname()[1] for x in s])')
url=http://127.0.0.1:${port% *}
peer=http://127.0.0.1:${port#* }
registry=etcd://127.0.0.1:${port% *}/test
start_etcd || { not_ok "etcd starts"; exit; }

like "no key: said so" "$(chpoxd --registry "$registry" 2>&1)" "chpoxd init"
is "init names the key" "$(chpoxd init)" "$CHPOX_DIR/cluster.key"
is "which nobody else can read" "$(stat -c %a "$CHPOX_DIR/cluster.key")" 600
like "another is not made" "$(chpoxd init 2>&1)" "already"
like "another machine's etcd needs a certificate" \
	"$(chpoxd --registry etcd://10.9.8.7 2>&1)" "client certificate"
like "a lease that is too short" \
	"$(chpoxd --registry "$registry" --ttl 3s 2>&1)" "too short"
like "a store that cannot be" "$(chpoxd --store s3://x 2>&1)" "file:///"
mkdir -m 711 "$store"
check "the daemon starts" chpoxd --registry "$registry" --store "file://$store" --node "$node" \
	--ttl 7s --guard 500ms
like "the node is there" "$(keys)" "/test/nodes/$node"

python3 "$here/../daemon/counter.py" 60 0 >"$work/expected"
is "a job runs" "$(ctl run --name a --every 200ms -- \
	python3 "$here/../daemon/counter.py" 60 0.05 3)" a
like "its record is in etcd" "$(keys)" "/test/jobs/a"
[ -e "$CHPOX_DIR/registry/a.json" ] && not_ok "and nowhere else" || ok "and nowhere else"
like "it says where" "$(field a node)" "^$node\$"
check "it is checkpointed" ctl checkpoint a
check "its images are in the store" ls "$store/0/jobs/a"
ctl wait a
is "its status" $? 3
check "its output" cmp "$work/expected" <(ctl logs a)

# everything of chpox dies
ctl run --name b --every 200ms -- python3 "$here/../daemon/counter.py" 80 0.05 4 >/dev/null
sleep 1
kill_everything
sleep 0.2
check "all killed: a daemon that remembers" ctl ps
check "brings it back by itself" await 15 has_restarts b 1
ctl wait b
is "to its end" $? 4
python3 "$here/../daemon/counter.py" 80 0 >"$work/expected"
check "with its output" cmp "$work/expected" <(ctl logs b)
like "from a checkpoint" "$(field b restarts)" '^1$'

# the daemon alone
ctl run --name c --every 100ms -- python3 "$here/../daemon/counter.py" 60 0.04 >/dev/null
kill -9 "$(daemon_pid)"
sleep 0.5
like "daemon killed: the next one has the same lease" "$(ctl ps 2>&1)" "c .*RUNNING"
await 5 ctl checkpoint c && ok "and the keeper" || not_ok "and the keeper"
ctl wait c
is "the job's end" $? 0

# the lease alone
ctl run --name e --every 1h -- python3 "$here/../daemon/counter.py" 200 0.05 >/dev/null
for id in $(curl -s "$url/v3/lease/leases" -d '{}' | grep -o '[0-9]\{10,\}'); do
	curl -s "$url/v3/lease/revoke" -d "{\"ID\":\"$id\"}" >/dev/null
done
check "lease gone: a checkpoint counts under the next one" await 15 ctl checkpoint e
is "the same job" "$(field e epoch) $(field e restarts)" "1 0"
ctl rm --force e >/dev/null

like "the registry of a node with jobs stays" \
	"$(kill "$(daemon_pid)"; sleep 2; chpoxd --registry "${registry}2" 2>&1)" "has jobs"
ctl ps >/dev/null
check "rm" ctl rm a
is "takes the record away" "$(keys | grep -c /jobs/a)" 0
