#!/usr/bin/env bash
# Compares kvnode with real etcd by random operations: the cases found before, then new ones for MINUTES (2). SEED=n tries
# that seed and those after it. On a difference it prints the seed and a short case; put that into e2e/differential/cases.
# SERVER=path and DRIVER=path: a kvnode and a driver that are built already.
# Never: compares with an etcd other than the one built from kind/tools/etcd.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cd "$REPO_DIR"
"$KIND_DIR/tools.sh" etcd
server_to_test
if [ -z "${DRIVER:-}" ]; then
  quiet "building the driver" cargo build --locked -p differential
  DRIVER=$TARGET_DIR/debug/differential
fi
ETCD="$CACHE/bin/etcd" KVNODE="$SERVER" "$DRIVER" --minutes "${MINUTES:-2}" ${SEED:+--seed "$SEED"}
