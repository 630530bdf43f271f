#!/usr/bin/env bash
# Builds the images that run inside an offline node, named as kubeadm and the storage manifest name them, and saves them
# as one archive: `images.sh BINARIES PROXY_ROOT.tar OUT.tar`.
# Never: pulls anything.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

binaries=$1 proxy_root=$2 out=$3
work=$(mktemp -d "$CACHE/node/images.XXXXXX")
trap 'rm -rf "$work"' EXIT

# scratch NAME ENTRYPOINT FILE...: an image of static binaries in /usr/local/bin; an empty ENTRYPOINT leaves it unset.
scratch() {
  local name=$1 entrypoint=$2 dir=$work/$RANDOM
  shift 2
  mkdir -p "$dir/usr/local/bin" "$dir/tmp"
  cp -l "$@" "$dir/usr/local/bin/" 2>/dev/null || cp "$@" "$dir/usr/local/bin/"
  tar -C "$dir" --owner=0 --group=0 -c . | import "$name" "$entrypoint"
}

# An image straight from a file tree needs neither a build daemon's features nor a base image.
import() {
  local -a changes=(--change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin')
  if [ -n "$2" ]; then changes+=(--change "ENTRYPOINT [\"/usr/local/bin/$2\"]"); fi
  docker import "${changes[@]}" - "$1" >/dev/null
  echo "$1" >>"$work/names" # a file, because callers stand at the end of a pipe
}

# Names as this kubeadm asks for them, so that a new version cannot silently want another one.
of_kubeadm() { "$binaries/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION" | grep "/$1:"; }

busybox() {
  local dir=$work/busybox
  mkdir -p "$dir/bin" "$dir/tmp"
  cp /bin/busybox "$dir/bin/busybox"
  "$dir/bin/busybox" --list | grep -vx busybox | while read -r applet; do ln -s busybox "$dir/bin/$applet"; done
  tar -C "$dir" --owner=0 --group=0 -c . | import docker.io/library/busybox:latest ''
}

proxy() {
  mkdir -p "$work/proxy/usr/local/bin"
  cp "$binaries/kube-proxy" "$work/proxy/usr/local/bin/"
  cp "$proxy_root" "$work/proxy.tar"
  tar -C "$work/proxy" --owner=0 --group=0 -rf "$work/proxy.tar" ./usr/local/bin/kube-proxy
  import "$(of_kubeadm kube-proxy)" '' <"$work/proxy.tar"
}

gcc -Os -static -o "$work/pause" "$KIND_DIR/node/pause.c"
scratch "$(of_kubeadm pause)" pause "$work/pause"
for name in kube-apiserver kube-controller-manager kube-scheduler; do
  scratch "$(of_kubeadm $name)" '' "$binaries/$name"
done
scratch "$(of_kubeadm etcd)" '' "$binaries/etcd" "$binaries/etcdctl" "$binaries/etcdutl"
scratch "$(of_kubeadm coredns)" coredns "$binaries/coredns"
scratch docker.io/rancher/local-path-provisioner:v0.0.30 local-path-provisioner "$binaries/local-path-provisioner"
busybox
proxy
mapfile -t names <"$work/names"
docker save -o "$out.part" "${names[@]}"
docker rmi -f "${names[@]}" >/dev/null
mv "$out.part" "$out"
