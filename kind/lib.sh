# shellcheck shell=bash
# What every script here shares: where things live, how a step is reported, how a finished product is found again by the
# hash of what it was made from.
# Never: starts, installs or removes anything; it is only sourced.

KIND_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(dirname "$KIND_DIR")
# kind, kubectl, cargo and go all want a home, which a bare environment lacks.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
CACHE=${KVNODE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvnode}
TARGET_DIR=${CARGO_TARGET_DIR:-$REPO_DIR/target}
# Ours first; the usual places of the two toolchains and of root's commands last, as a bare environment lacks them.
export PATH="$CACHE/bin:$PATH:$HOME/.cargo/bin:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"

KUBERNETES_VERSION=v1.36.3
# Cluster, kube context and image names that more than one script has to agree on.
DEMO_CLUSTER=core01
HA_CLUSTER=core-ha
E2E_CLUSTER=kvnode-e2e
NODE_REPOSITORY=kvnode/kind-node
# The name KIND gives its load balancer; offline an image of ours carries it.
LB_IMAGE=docker.io/envoyproxy/envoy:v1.36.2
export KUBERNETES_VERSION DEMO_CLUSTER HA_CLUSTER E2E_CLUSTER NODE_REPOSITORY LB_IMAGE REPO_DIR TARGET_DIR

now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }

# One zero for all scripts of a run, so that elapsed times of nested scripts line up.
export KVNODE_STARTED_MS=${KVNODE_STARTED_MS:-$(now_ms)}

seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

say() { printf '[%7ss] %s\n' "$(seconds $(($(now_ms) - KVNODE_STARTED_MS)))" "$*" >&2; }

die() { say "error: $*"; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# step WHAT COMMAND...: runs the command in view of the user and says how long it took.
step() {
  local what=$1 began
  began=$(now_ms)
  shift
  say "$what"
  "$@"
  say "$what: done in $(seconds $(($(now_ms) - began))) s"
}

# quiet WHAT COMMAND...: as step, but the output goes to a log whose end is shown only on failure, and a line a minute
# says that it is still at work. The command runs in the background because that keeps `set -e` alive inside functions.
quiet() {
  local what=$1 log began pid rc=0
  shift
  mkdir -p "$CACHE/logs"
  log=$CACHE/logs/$(printf '%s' "$what" | tr -cs 'a-zA-Z0-9.' '-' | cut -c1-80).log
  began=$(now_ms)
  say "$what"
  ("$@") >"$log" 2>&1 </dev/null &
  pid=$!
  # shellcheck disable=SC2064 # the pid of now is meant
  trap "kill $pid 2>/dev/null; exit 130" INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    timeout 60 tail -s 0.1 --pid="$pid" -f /dev/null || say "$what: still at work after $(seconds $(($(now_ms) - began))) s"
  done
  wait "$pid" || rc=$?
  trap - INT TERM
  if [ "$rc" -ne 0 ]; then
    tail -n 40 "$log" >&2
    die "$what failed (exit $rc); the whole log is in $log"
  fi
  say "$what: done in $(seconds $(($(now_ms) - began))) s"
}

# wait_for WHAT SECONDS COMMAND...: polls a condition; the message names what was awaited when the time is over.
wait_for() {
  local what=$1 limit=$2 deadline
  shift 2
  deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || die "waited $limit s in vain: $what"
    sleep 0.3
  done
}

# in_go_module DIR COMMAND...: runs a command of Go for that module alone.
in_go_module() { (cd "$1" && shift && GOWORK=off CGO_ENABLED=0 "$@"); }

# compile_go_tests DIR INTO ARGUMENT...: compiles tests that the module in DIR depends on, as `go test -c` understands the
# arguments. Builds into a neighbour and renames, so that an interrupted build is never taken for a finished one.
compile_go_tests() {
  local module=$1 into=$2
  shift 2
  rm -rf "$into.part"
  mkdir -p "$into.part"
  in_go_module "$module" nice -n 10 go test -c -mod=readonly -trimpath -ldflags '-s -w' -o "$into.part/" "$@"
  mv -T "$into.part" "$into"
}

# server_to_test: settles SERVER, the program that a suite of tests runs against. One that is given, etcd for instance, is
# taken as it is; without one it is kvnode, built for it.
server_to_test() {
  if [ -z "${SERVER:-}" ]; then
    quiet "building kvnode" cargo build --locked --manifest-path "$REPO_DIR/Cargo.toml" -p kvnode
    SERVER=$TARGET_DIR/debug/kvnode
  fi
}

# hash_of ARG...: 16 hex digits over the contents of every file (directories: all files and modes below) and over every
# argument that is not a path.
hash_of() {
  local arg
  for arg in "$@"; do
    if [ -d "$arg" ]; then
      (cd "$arg" && find . -type f -printf '%m %p\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum)
    elif [ -f "$arg" ]; then
      sha256sum <"$arg"
    else
      printf '%s\n' "$arg"
    fi
  done | sha256sum | cut -c1-16
}

# image_present NAME: whether the engine already holds that image.
image_present() { docker image inspect "$1" >/dev/null 2>&1; }

# offline: true where public images cannot be pulled. Asked once a run; KVNODE_OFFLINE=0 or 1 settles it without asking.
offline() {
  if [ -z "${KVNODE_OFFLINE:-}" ]; then
    KVNODE_OFFLINE=1
    if timeout 20 docker manifest inspect "$(public_node_image)" >/dev/null 2>&1; then KVNODE_OFFLINE=0; fi
    export KVNODE_OFFLINE
  fi
  [ "$KVNODE_OFFLINE" = 1 ]
}

# What this release of KIND publishes for the same minor version.
PUBLIC_NODE_IMAGE=kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed

public_node_image() { echo "${KVNODE_NODE_IMAGE:-$PUBLIC_NODE_IMAGE}"; }
