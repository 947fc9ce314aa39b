#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two nodes: also a record that is damaged for long, and a daemon that is stopped past its lease.
export ETCD_ONLY=failover LONG=1 ETCD_TIME=300
exec "$(dirname "$0")/../suite/55-etcd.sh"
