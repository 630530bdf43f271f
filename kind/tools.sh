#!/usr/bin/env bash
# Builds command line tools and the parts of the node image from Go modules, each pinned by its own go.mod and go.sum
# below tools/, into the cache by the hash of those and of the build flags; azurite comes from its npm package, pinned by
# its lock file. `tools.sh NAME...` builds what is missing and links the tools a user calls into the cache's bin;
# `tools.sh --dir NAME` prints where the binaries of NAME are or will be.
# Never: downloads a ready-made binary, and never builds a second time what is there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# Fills MODULE, PACKAGES (`tool`: all that the go.mod lists), TAGS and LDFLAGS for a name.
specify() {
  local minor=${KUBERNETES_VERSION#v1.}
  local version=k8s.io/component-base/version
  MODULE=$1 PACKAGES=tool TAGS='' LDFLAGS='-s -w'
  case $1 in
    kind | helm | etcd | etcd-3.6 | versitygw | coredns | local-path) ;;
    containerd) TAGS='no_btrfs no_devmapper no_zfs' ;;
    kubernetes | kubectl)
      MODULE=kubernetes
      [ "$1" = kubernetes ] || PACKAGES=k8s.io/kubernetes/cmd/kubectl
      # kubeadm refuses to work with components that cannot tell their version.
      LDFLAGS+=" -X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}"
      ;;
    azurite) ;;
    *) die "tools.sh: unknown tool '$1'" ;;
  esac
}

directory() {
  specify "$1"
  echo "$CACHE/tools/$1-$(hash_of "$KIND_DIR/tools/$MODULE" "$PACKAGES" "$TAGS" "$LDFLAGS" "$(toolchain)")"
}

# What a tool is built with: another version of it builds anew.
toolchain() {
  case $MODULE in
    azurite) node --version ;;
    *) go env GOVERSION GOOS GOARCH ;;
  esac
}

# Builds into a neighbour and renames, so that an interrupted build is never taken for a finished one.
compile() {
  local out=$2
  specify "$1"
  rm -rf "$out.part"
  mkdir -p "$out.part"
  if [ "$1" = azurite ]; then
    cp "$KIND_DIR/tools/azurite"/package*.json "$out.part/"
    (cd "$out.part" && npm ci --cache "$CACHE/clients/npm" --ignore-scripts)
    mv -T "$out.part" "$out"
    return
  fi
  (cd "$KIND_DIR/tools/$MODULE" &&
    CGO_ENABLED=0 GOWORK=off nice -n 10 go build -mod=readonly -buildvcs=false -trimpath -tags "$TAGS" -ldflags "$LDFLAGS" -o "$out.part/" "$PACKAGES")
  # etcd's main package is called after its module's folder; of two versions the older one is told apart by name.
  case $1 in
    etcd) mv "$out.part/server" "$out.part/etcd" ;;
    etcd-3.6) mv "$out.part/server" "$out.part/etcd-3.6" && mv "$out.part/etcdutl" "$out.part/etcdutl-3.6" ;;
  esac
  mv -T "$out.part" "$out"
}

link() {
  mkdir -p "$CACHE/bin"
  case $1 in
    kind | helm | kubectl | etcd | etcd-3.6 | versitygw) ln -sf "$2"/* "$CACHE/bin/" ;;
    azurite) ln -sf "$2/node_modules/.bin/azurite-blob" "$CACHE/bin/" ;;
  esac
}

if [ "${1:-}" = --dir ]; then
  directory "$2"
  exit 0
fi
have go || die "Go is not installed: the tools are built from Go modules (version in kind/tools/*/go.mod)"
for name in "$@"; do
  out=$(directory "$name")
  if [ ! -d "$out" ]; then quiet "building $name" compile "$name" "$out"; fi
  link "$name" "$out"
done
