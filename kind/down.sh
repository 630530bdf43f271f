#!/usr/bin/env bash
# Removes KIND clusters: `down.sh CLUSTER...`. Asking for one that is not there is no error.
# Never: touches a cluster that was not named, nor the cache.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

if ! have kind || ! timeout 20 docker info >/dev/null 2>&1; then
  say "nothing to remove: there is no kind or no container engine"
  exit 0
fi
for cluster in "$@"; do
  if kind get clusters 2>/dev/null | grep -qxF "$cluster"; then
    quiet "removing KIND cluster $cluster" kind delete cluster --name "$cluster"
  fi
done
