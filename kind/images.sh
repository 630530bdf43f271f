#!/usr/bin/env bash
# Builds the product's images from the workspace and those of the tools around it: `images.sh [CLUSTER]` also loads them
# into that KIND cluster. Names go to the cache's images.env, to be sourced. The product's tags are hashes of the binaries,
# so a cluster deploys exactly what changed.
# Never: pushes an image anywhere.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

BINARIES=$TARGET_DIR/release
S3_VERSION=v1.8.0
ETCD_VERSION=v3.7.3
USER_ID=65532

# The program with the loader and the libraries it names: a static glibc could not resolve host names.
add_program() {
  local root=$1 program=$2 library
  install -D -m 0755 "$program" "$root/usr/local/bin/$(basename "$program")"
  if ! ldd "$program" >/dev/null 2>&1; then return; fi
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do install -D -m 0755 "$library" "$root$library"; done
}

add_busybox() {
  install -D -m 0755 /bin/busybox "$1/bin/busybox"
  "$1/bin/busybox" --list | grep -vx busybox | while read -r applet; do ln -sf busybox "$1/bin/$applet"; done
}

# assemble IMAGE ENTRYPOINT PROGRAM...: an image from nothing but programs, run as nobody in particular. An image that is
# there is left alone, since its name says what is in it.
assemble() {
  local image=$1 entrypoint=$2 root program
  shift 2
  root=$(mktemp -d "$CACHE/image.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now is meant
  trap "rm -rf $root" EXIT
  for program in "$@"; do
    if [ "$program" = /bin/busybox ]; then add_busybox "$root"; else add_program "$root" "$program"; fi
  done
  install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  install -d -m 1777 "$root/tmp"
  chmod 0755 "$root"
  tar -C "$root" --owner=0 --group=0 --sort=name -c . | docker import --change "USER $USER_ID:$USER_ID" \
    --change 'ENV PATH=/usr/local/bin:/bin' --change "ENTRYPOINT $entrypoint" - "$image"
}

provide() {
  image_present "$1" || quiet "image $1" assemble "$@"
}

build_binaries() {
  cd "$REPO_DIR"
  cargo build --release --locked -p kvnode -p operator
}

product_image() { echo "kvnode/$1:$(hash_of "$BINARIES/$1" "$KIND_DIR/images.sh")"; }

# A node remembers which content came under which name, because loading again is slow and `crictl`, which KIND would ask,
# is not in the offline node image.
loaded() {
  local node=$1 image=$2
  docker exec "$node" grep -qxF "$image $(docker image inspect -f '{{.Id}}' "$image")" /kind/images-loaded 2>/dev/null
}

load() {
  local cluster=$1 node image
  local -a wanted=() nodes=()
  shift
  mapfile -t nodes < <(kind get nodes --name "$cluster" | grep -v -- -external-load-balancer)
  for image in "$@"; do
    for node in "${nodes[@]}"; do loaded "$node" "$image" || { wanted+=("$image") && break; }; done
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  quiet "loading ${wanted[*]} into $cluster" kind load docker-image --name "$cluster" "${wanted[@]}"
  for image in "${wanted[@]}"; do
    for node in "${nodes[@]}"; do
      docker image inspect -f "$image {{.Id}}" "$image" | docker exec -i "$node" sh -c 'cat >>/kind/images-loaded'
    done
  done
}

"$KIND_DIR/prepare.sh" base images
"$KIND_DIR/tools.sh" kind etcd versitygw
quiet "building the workspace" build_binaries
etcd=$("$KIND_DIR/tools.sh" --dir etcd) s3=$("$KIND_DIR/tools.sh" --dir versitygw)
KVNODE_IMAGE=$(product_image kvnode)
KVNODE_OPERATOR_IMAGE=$(product_image operator)
KVNODE_TOOLS_IMAGE=kvnode/etcd-tools:$ETCD_VERSION-$(basename "$etcd" | cut -c6-13)
KVNODE_S3_IMAGE=kvnode/versitygw:$S3_VERSION-$(basename "$s3" | cut -c11-18)
provide "$KVNODE_IMAGE" '["/usr/local/bin/kvnode"]' "$BINARIES/kvnode"
provide "$KVNODE_OPERATOR_IMAGE" '["/usr/local/bin/operator"]' "$BINARIES/operator"
provide "$KVNODE_TOOLS_IMAGE" '[]' "$etcd/etcdctl" "$etcd/etcdutl" /bin/busybox
provide "$KVNODE_S3_IMAGE" '["/usr/local/bin/versitygw"]' "$s3/versitygw" /bin/busybox
for name in KVNODE_IMAGE KVNODE_OPERATOR_IMAGE KVNODE_TOOLS_IMAGE KVNODE_S3_IMAGE; do
  printf 'export %s=%s\n' "$name" "${!name}"
done >"$CACHE/images.env"
if [ $# -gt 0 ]; then load "$1" "$KVNODE_IMAGE" "$KVNODE_OPERATOR_IMAGE" "$KVNODE_TOOLS_IMAGE" "$KVNODE_S3_IMAGE"; fi
