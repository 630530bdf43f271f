#!/usr/bin/env bash
# Runs Kubernetes' own tests of what it keeps in etcd, an ordinary Go module: the store, the watch cache and the registry of
# its API server. Where they embed an etcd, etcd/embed starts kvnode. Each package has to pass as many tests as on etcd.
#   run.sh [PACKAGE...]   packages of k8s.io/apiserver/pkg, as in the list below; default: all
# SERVER=path: another program in kvnode's place, real etcd for one.
# Never: counts a test that did not run as passed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../../kind/lib.sh
. "$(dirname "$0")/../../../kind/lib.sh"

HERE=$(dirname "$(realpath "$0")")
# Five times what the longest package takes.
SECONDS_MAX=570
# Tests and sub-tests of version 0.37.2 that pass on etcd 3.7.3.
declare -A PASS_ON_ETCD=(
  [storage/etcd3]=509
  [storage/cacher]=645
  [storage/storagebackend/factory]=17
  [registry/generic/registry]=100
)

# one PACKAGE: runs it beside its sources, where its fixtures are.
one() {
  local name=${1##*/} log began passed rc=0
  log=$LOGS/$name.log
  began=$(now_ms)
  (cd "$SOURCES/pkg/$1" && exec "$BINARIES/$name.test" -test.v -test.timeout "${SECONDS_MAX}s") >"$log" 2>&1 </dev/null || rc=$?
  passed=$(grep -a -c -e '^ *--- PASS' "$log" || true)
  say "kubernetes: $1: $passed passed of ${PASS_ON_ETCD[$1]} in $(seconds $(($(now_ms) - began))) s"
  [ "$rc" -eq 0 ] && [ "$passed" -ge "${PASS_ON_ETCD[$1]}" ]
}

ALL=("${!PASS_ON_ETCD[@]}")
[ $# -gt 0 ] || set -- "${ALL[@]}"
for package in "$@"; do
  [ -n "${PASS_ON_ETCD[$package]:-}" ] || die "run.sh: unknown package '$package'; there are ${ALL[*]}"
done

have go || die "Go is not installed: Kubernetes' tests are built from Go modules"
BINARIES=$CACHE/tools/kubernetes-tests-$(
  hash_of "$HERE/go.mod" "$HERE/go.sum" "$HERE/etcd/go.mod" "$HERE/etcd/embed/embed.go" "$(go env GOVERSION GOOS GOARCH)"
)
[ -d "$BINARIES" ] || quiet "building Kubernetes' tests from their Go module" \
  compile_go_tests "$HERE" "$BINARIES" "${ALL[@]/#/k8s.io\/apiserver\/pkg\/}"
SOURCES=$(in_go_module "$HERE" go list -mod=readonly -m -f '{{.Dir}}' k8s.io/apiserver)
server_to_test
SERVER=$(realpath "$(command -v "$SERVER")")
export SERVER
LOGS=$(mktemp -d "$CACHE/logs/kubernetes.XXXXXX")

# They wait more than they compute.
declare -A running=()
for package in "$@"; do
  one "$package" &
  running[$package]=$!
done
failed=()
for package in "${!running[@]}"; do wait "${running[$package]}" || failed+=("$package"); done
[ ${#failed[@]} -eq 0 ] || die "Kubernetes' tests of ${failed[*]} found something; their logs are in $LOGS"
rm -rf "$LOGS"
