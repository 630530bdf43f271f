#!/usr/bin/env bash
# Brings up three control planes behind KIND's load balancer and shows the members of their etcd.
# Never: checks anything of the product; this is a cluster to install it on.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

k() { kubectl --context "kind-$HA_CLUSTER" "$@"; }

members() {
  k -n kube-system exec "etcd-$HA_CLUSTER-control-plane" -- etcdctl --endpoints=https://127.0.0.1:2379 \
    --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
    --key=/etc/kubernetes/pki/etcd/server.key "$@"
}

"$KIND_DIR/prepare.sh" base
"$KIND_DIR/engine.sh"
step "three control planes" "$KIND_DIR/up.sh" "$HA_CLUSTER" core01-ha.config
k get nodes
members member list -w table
started=$(members member list | grep -c ', started, ')
[ "$started" -eq 3 ] || die "the control plane's etcd shows $started started members instead of 3"
say "all three control planes are up: kubectl --context kind-$HA_CLUSTER get nodes; 'make clean' removes them"
