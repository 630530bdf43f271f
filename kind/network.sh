#!/usr/bin/env bash
# Connects the pods of an offline cluster: tells every node its own range of addresses and the way to the others' (see
# node/rootfs/usr/local/sbin/pod-network). `network.sh CLUSTER`. Can be repeated.
# Never: is needed where KIND's own network plugin runs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster=$1
POD_RANGE=10.244.0.0/16 # KIND's default

k() { kubectl --context "kind-$cluster" "$@"; }

# name, range and address of every node, a line each
ranges() {
  k get nodes -o json | jq -r '.items[] | [.metadata.name, .spec.podCIDR // "",
    (.status.addresses[] | select(.type == "InternalIP") | .address)] | @tsv'
}

# The controller manager hands the ranges out a moment after a node has joined.
all_have_ranges() { ranges | awk -F '\t' 'NF != 3 || $2 == "" { bad = 1 } END { exit bad || NR == 0 }'; }

wait_for "every node has its range of pod addresses" 60 all_have_ranges
table=$(ranges)
while IFS=$'\t' read -r node _ _; do
  awk -F '\t' -v node="$node" -v all="$POD_RANGE" '
    $1 == node { print "own", $2 }
    $1 != node { print "route", $2, $3 }
    END { print "cluster", all }' <<<"$table" |
    docker exec -i "$node" sh -c 'cat >/etc/pod-network && exec pod-network'
done <<<"$table"
