#!/usr/bin/env bash
# Lets another program serve the data of a KIND cluster's control plane: `control-plane.sh CLUSTER kvnode` puts kvnode in
# etcd's place, with the same flags on the same data directory, one control plane after the other, and
# `control-plane.sh CLUSTER etcd` puts etcd back. It fails when an object of Kubernetes is missing afterwards.
# Never: copies or restores data, and never changes anything of the cluster but the static pod `etcd`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster=$1 program=$2
MANIFEST=/etc/kubernetes/manifests/etcd.yaml
ORIGINAL=/etc/kubernetes/etcd.yaml

k() { kubectl --context "kind-$cluster" --request-timeout=10s "$@"; }

# Kind, namespace, name and identity of everything that stays what it is while nobody works on the cluster. Static pods get
# another identity when their manifest changes; events and leases come and go.
objects() {
  local kinds
  kinds=$(k api-resources --verbs=list -o name | grep -vE '^(events|endpoints|leases|componentstatuses)(\.|$)' | paste -sd,)
  k get "$kinds" -A -o json >"$listed"
  jq -r '.items[] | [.kind, .metadata.namespace // "-", .metadata.name,
    (if .kind == "Pod" then "-" else .metadata.uid end)] | join(" ")' "$listed" | sort
}

# Nothing of the cluster is on its way out, so what is listed has to be there afterwards: nothing is being deleted, no
# volume waits to be after its claim, and nothing went since the listing before, as what goes with its owner does.
at_rest() {
  cp "$before" "$earlier"
  objects >"$before" && cmp -s "$before" "$earlier" &&
    jq -e 'all(.items[]; .metadata.deletionTimestamp == null and .status.phase != "Released")' "$listed"
}

# kvnode's image runs as nobody in particular; the control plane's keys and data belong to root.
with_kvnode() {
  sed -e "s|^\( *\)- etcd$|\1- kvnode|" -e "s|^\( *image: \).*|\1$KVNODE_IMAGE|" \
    -e "s|^  securityContext:$|&\n    runAsUser: 0|"
}

# Kubelet looks at whole files only: what is written beside them is not seen before it is moved there.
replace() {
  local node=$1
  docker exec "$node" sh -c "[ -f $ORIGINAL ] || cp $MANIFEST $ORIGINAL"
  case $program in
    kvnode) docker exec "$node" cat "$ORIGINAL" | with_kvnode ;;
    etcd) docker exec "$node" cat "$ORIGINAL" ;;
    *) die "control-plane.sh serves with kvnode or etcd, not with '$program'" ;;
  esac | docker exec -i "$node" sh -c "cat >/etc/kubernetes/next.yaml && mv /etc/kubernetes/next.yaml $MANIFEST"
}

# The API server answers, and the pod that it reports runs the program.
serves() {
  k get --raw /readyz >/dev/null &&
    k -n kube-system get pod "etcd-$1" -o json | jq -e --arg program "$program" '
      .spec.containers[0].command[0] == $program and .status.containerStatuses[0].ready
      and any(.status.conditions[]; .type == "Ready" and .status == "True")'
}

# shellcheck disable=SC1091 # written by images.sh
. "$CACHE/images.env"
listed=$(mktemp) before=$(mktemp) earlier=$(mktemp)
trap 'rm -f "$listed" "$before" "$earlier"' EXIT
wait_for "nothing of $cluster is being deleted" 180 at_rest
for node in $(kind get nodes --name "$cluster" | grep -- -control-plane | sort); do
  replace "$node"
  wait_for "$program serves $node" 180 serves "$node"
done
# Controllers that lost the API server for a moment come back by themselves.
wait_for "the control plane of $cluster is ready" 120 \
  k -n kube-system wait pod -l tier=control-plane --for=condition=Ready --timeout=5s
missing=$(comm -23 "$before" <(objects))
[ -z "$missing" ] || die "$program serves $cluster without these objects: $missing"
say "$program serves the $(wc -l <"$before") objects of $cluster"
