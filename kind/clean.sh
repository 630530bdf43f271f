#!/usr/bin/env bash
# Removes what the other targets have made: clusters, the demonstration's state, the product's images, and a container
# engine that was started here. With CONTEXT=name, removes the demonstration from that cluster instead.
# Never: removes the cache, an engine or a cluster of somebody else.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# Clusters go before the operator that has to let them go, and the operator before the types it works on. Both stay
# where anything else on that cluster lives by them.
leave_context() {
  local kind
  for kind in etcdbackupschedules etcdbackups etcdoperations etcdclusters; do
    kubectl --context "$1" --namespace kvnode-demo delete "$kind.kvnode.io" --all --ignore-not-found --timeout=180s || true
  done
  kubectl --context "$1" delete namespace kvnode-demo --ignore-not-found
  if kubectl --context "$1" get etcdclusters.kvnode.io --all-namespaces -o name 2>/dev/null | grep -q .; then
    echo "other EtcdClusters live on $1: the operator and its types stay"
    return
  fi
  helm uninstall kvnode-operator --kube-context "$1" --namespace kvnode-system --ignore-not-found --wait
  kubectl --context "$1" delete namespace kvnode-system --ignore-not-found
  kubectl --context "$1" get crd -o name | { grep '\.kvnode\.io$' || true; } | xargs -r kubectl --context "$1" delete
}

remove_images() {
  local repository
  for repository in kvnode operator etcd-tools versitygw; do
    docker image ls -q --filter "reference=kvnode/$repository" | sort -u | xargs -r docker rmi -f >/dev/null
  done
}

if [ -n "${CONTEXT:-}" ]; then
  quiet "removing the demonstration from $CONTEXT" leave_context "$CONTEXT"
  exit 0
fi
# Our engine may have been stopped, by a reboot for one, with clusters still in its keeping.
if [ -d "$CACHE/engine" ]; then "$KIND_DIR/engine.sh"; fi
"$KIND_DIR/down.sh" "$DEMO_CLUSTER" "$HA_CLUSTER" "$E2E_CLUSTER"
if timeout 20 docker info >/dev/null 2>&1; then remove_images; fi
"$KIND_DIR/engine.sh" stop
rm -rf "$CACHE/demo" "$CACHE/clusters" "$CACHE/engine" "$CACHE/images.env"
say "clean; the cache stays in $CACHE"
