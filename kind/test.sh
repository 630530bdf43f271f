#!/usr/bin/env bash
# Runs every test: lint, the tests of all crates, clients that others wrote, etcd's own tests, a comparison with etcd, then
# the end-to-end tests on a KIND cluster of their own, which is removed afterwards (KEEP=1 keeps it).
# Never: goes on after a failure, and never counts a test that did not run as passed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# The last act, whatever came before: keep what is needed to understand a failure, then remove the cluster.
finish() {
  local rc=$?
  # Nothing goes on in the background after that.
  wait
  if [ "$rc" -ne 0 ]; then
    say "the logs of the cluster are in $CACHE/logs/$E2E_CLUSTER"
    rm -rf "$CACHE/logs/$E2E_CLUSTER"
    kind export logs --name "$E2E_CLUSTER" "$CACHE/logs/$E2E_CLUSTER" >/dev/null 2>&1 || true
  fi
  if [ -z "${KEEP:-}" ]; then
    "$KIND_DIR/down.sh" "$E2E_CLUSTER"
  else
    say "KEEP is set: cluster $E2E_CLUSTER stays (kubectl --context kind-$E2E_CLUSTER)"
  fi
}

end_to_end() {
  trap finish EXIT
  # It waits more than it computes, so it goes on while the cluster and the images are made.
  SEED=1 DRIVER=$TARGET_DIR/debug/differential quiet "comparison with etcd" "$KIND_DIR/differential.sh" &
  local comparison=$!
  "$KIND_DIR/engine.sh"
  step "cluster" "$KIND_DIR/up.sh" "$E2E_CLUSTER" core01.config
  step "images" "$KIND_DIR/images.sh" "$E2E_CLUSTER"
  wait "$comparison" || die "kvnode and etcd differ, see above"
  # shellcheck disable=SC1091 # written by images.sh
  . "$CACHE/images.env"
  export KVNODE_E2E_CONTEXT=kind-$E2E_CLUSTER
  # Kubernetes is the hardest user there is: it gets kvnode for its own data, made by etcd, before everything else happens.
  step "control plane on kvnode" "$KIND_DIR/control-plane.sh" "$E2E_CLUSTER" kvnode
  step "end-to-end tests" cargo test --locked --workspace --test promises
  # Public node images have an etcd of the version before, which takes a downgrade first.
  if offline; then step "control plane back on etcd" "$KIND_DIR/control-plane.sh" "$E2E_CLUSTER" etcd; fi
}

cd "$REPO_DIR"
step "lint" "$KIND_DIR/lint.sh"
"$KIND_DIR/prepare.sh" stores
"$KIND_DIR/tools.sh" kind kubectl helm etcd etcd-3.6 versitygw azurite
# Always for the whole workspace: what is built for a single crate has other features, and would be built again.
step "building everything" cargo build --locked --workspace --bins --tests
step "tests of all crates" cargo test --locked --workspace
# Compiled without optimisation, its arithmetic and assertions are checked.
export SERVER=$TARGET_DIR/debug/kvnode
step "clients that others wrote" "$KIND_DIR/clients.sh"
step "etcd's own tests" "$REPO_DIR/e2e/conformance/run.sh" minimal
end_to_end
say "everything passed"
