#!/usr/bin/env bash
# Brings a KIND cluster up: `up.sh CLUSTER CONFIG`. A healthy one of that name is reused; a broken one is replaced. Where
# public images can be pulled it is plain `kind create cluster`, elsewhere the offline node image is used.
# Never: touches a cluster of another name.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster=$1 config=$KIND_DIR/$2

k() { kubectl --context "kind-$cluster" --request-timeout=10s "$@"; }

exists() { kind get clusters 2>/dev/null | grep -qxF "$cluster"; }

# The nodes of the configuration are there and Ready.
all_ready() {
  local want
  want=$(grep -c '^ *- role:' "$config")
  [ "$(k get nodes -o json | jq '[.items[] | select(any(.status.conditions[]; .type == "Ready" and .status == "True"))] | length')" = "$want" ]
}

# A restarted engine may hand addresses out anew, which neither the certificates nor kubelet survive.
addresses_kept() {
  local node address
  while read -r node address; do
    [ "$(docker inspect -f '{{.NetworkSettings.Networks.kind.IPAddress}}' "$node")" = "$address" ] || return 1
  done < <(k get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}')
}

whole() { all_ready && addresses_kept && k -n kube-system rollout status deployment/coredns --timeout=5s; }

# A minute of patience: the engine, and the cluster with it, may just have been started.
healthy() {
  local deadline=$((SECONDS + 60))
  until whole >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 1
  done
}

# Each node runs more watchers than the kernel's default leaves room for when clusters stand side by side.
allow_watchers() {
  local want=1024
  [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -lt $want ] || return 0
  if echo $want 2>/dev/null >/proc/sys/fs/inotify/max_user_instances; then
    say "raised the kernel's fs.inotify.max_user_instances to $want"
  else
    say "warning: fs.inotify.max_user_instances is below $want and may not be changed here; several nodes may not start"
  fi
}

# A cluster that did not come up leaves its logs behind, not its containers.
create() {
  if kind create cluster --retain --name "$cluster" "$@"; then return; fi
  kind export logs --name "$cluster" "$CACHE/logs/$cluster" || true
  kind delete cluster --name "$cluster"
  echo "the logs of the nodes are in $CACHE/logs/$cluster"
  return 1
}

create_offline() {
  local merged=$CACHE/clusters/$cluster.config image
  image=$("$KIND_DIR/node/build.sh")
  if [ "$(grep -c 'role: control-plane' "$config")" -gt 1 ]; then "$KIND_DIR/balancer/build.sh"; fi
  mkdir -p "$(dirname "$merged")"
  cat "$config" "$KIND_DIR/offline.config" >"$merged"
  quiet "creating KIND cluster $cluster from the offline node image" \
    create --config "$merged" --image "$image"
  quiet "connecting the pods of $cluster" "$KIND_DIR/network.sh" "$cluster"
}

create_online() {
  quiet "creating KIND cluster $cluster from $(public_node_image)" \
    create --config "$config" --image "$(public_node_image)"
}

"$KIND_DIR/tools.sh" kind kubectl
if exists; then
  if healthy; then
    say "KIND cluster $cluster: the one that is there"
    exit 0
  fi
  quiet "removing the broken KIND cluster $cluster" kind delete cluster --name "$cluster"
fi
allow_watchers
if offline; then create_offline; else create_online; fi
wait_for "all nodes of $cluster are Ready" 180 all_ready
quiet "name service of $cluster" k -n kube-system rollout status deployment/coredns --timeout=180s
say "KIND cluster $cluster is up: kubectl --context kind-$cluster get nodes"
