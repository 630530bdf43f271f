#!/usr/bin/env bash
# Shows the product at work on a real cluster, in seven points: cluster, operator, object store, an EtcdCluster, stock
# etcdctl, a backup that stock etcdutl reads, a cluster restored from it. Can be run again: what is there is reused.
# CONTEXT=name takes an existing cluster instead of a KIND cluster of its own.
# Never: asks a question, and never goes on after a point that does not hold.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=demo-points.sh
. "$KIND_DIR/demo-points.sh"

DEMO_CONTEXT=${CONTEXT:-kind-$DEMO_CLUSTER}

main() {
  step "1. a Kubernetes cluster" point_cluster
  step "2. the operator, by Helm" point_operator
  step "3. an S3 server as the object store" point_store
  step "4. an EtcdCluster of three members" point_members
  step "5. stock etcdctl over mutual TLS" point_etcdctl
  step "6. a scheduled backup, read by stock etcdutl" point_backup
  step "7. a second cluster from that backup" point_restore
  summary
}

summary() {
  cat <<END

All seven points hold. Still running in context $DEMO_CONTEXT, namespace $DEMO_NAMESPACE:
$(k get etcdclusters,etcdbackups 2>&1)

Look around:  export PATH=$CACHE/bin:\$PATH
              kubectl --context $DEMO_CONTEXT -n $DEMO_NAMESPACE get etcdclusters -o wide
              kubectl --context $DEMO_CONTEXT -n $DEMO_NAMESPACE exec -it core-etcdctl -- sh
Remove all:   make clean
END
}

main
