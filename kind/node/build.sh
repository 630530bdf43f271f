#!/usr/bin/env bash
# Makes the offline node image and prints its name: Debian, binaries built from Go modules, our own entrypoint and units,
# and every image that a bare cluster needs. The finished image is kept in the cache under the hash of all it is made
# from, so that an engine that lost it gets it back in seconds.
# Never: needs a container registry, and never uses a file of KIND's own node image.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

NODE=$KIND_DIR/node
PARTS=(kubernetes containerd etcd coredns local-path)

part_dirs() {
  local part
  for part in "${PARTS[@]}"; do "$KIND_DIR/tools.sh" --dir "$part"; done
}

# The names of the parts' folders are hashes already.
image_hash() {
  local -a dirs
  mapfile -t dirs < <(part_dirs | xargs -n1 basename)
  hash_of "${dirs[@]}" "$NODE/rootfs" "$NODE"/{Dockerfile,pause.c,build.sh,images.sh,root.sh} "$KIND_DIR/runc-bounded"
}

gather_binaries() {
  local dir
  mkdir -p "$1"
  part_dirs | while read -r dir; do cp -l "$dir"/* "$1/" 2>/dev/null || cp "$dir"/* "$1/"; done
}

# The image's file tree over Debian's: ours, and the binaries where kubeadm, systemd and KIND look for them.
gather_tree() {
  local binaries=$1 tree=$2
  mkdir -p "$tree/usr/local/bin" "$tree/usr/local/sbin" "$tree/usr/bin" "$tree/kind"
  cp -a "$NODE/rootfs/." "$tree/"
  cp "$KIND_DIR/runc-bounded" "$tree/usr/local/sbin/"
  cp "$binaries"/{containerd,ctr,containerd-shim-runc-v2} "$tree/usr/local/bin/"
  cp "$binaries"/{kubeadm,kubelet,kubectl} "$tree/usr/bin/"
  printf '%s' "$KUBERNETES_VERSION" >"$tree/kind/version"
}

# Imports the archive into the content store of a running containerd, and keeps the result as an image. Pinned, so that
# kubelet's collector of unused images leaves alone what nobody could pull again.
put_images_in() {
  local bare=$1 archive=$2 image=$3 id
  id=$(docker run -d --privileged --entrypoint sleep "$bare" infinity)
  # shellcheck disable=SC2064 # the id of now is meant
  trap "docker rm -fv $id >/dev/null" EXIT
  docker exec -d "$id" containerd
  wait_for "containerd in the new node answers" 60 docker exec "$id" ctr version
  docker exec -i "$id" ctr -n k8s.io images import --local --no-unpack --label io.cri-containerd.pinned=pinned - <"$archive"
  docker exec "$id" kubeadm config images list --kubernetes-version "$KUBERNETES_VERSION" | while read -r name; do
    docker exec "$id" ctr -n k8s.io images ls -q "name==$name" | grep -q . || die "image $name is missing in the new node image"
  done
  docker exec "$id" sh -c 'kill "$(pidof containerd)"; while pidof containerd; do sleep 0.1; done; rm -rf /run/containerd /tmp/*' >/dev/null
  docker commit --change 'ENTRYPOINT ["/usr/local/sbin/entrypoint"]' --change 'CMD []' "$id" "$image"
}

build() {
  local image=$1 archive=$2 work=$CACHE/node/work
  rm -rf "$work"
  mkdir -p "$work/context"
  quiet "Debian tree of a node" "$NODE/root.sh" node "$work/context/root.tar"
  quiet "Debian tree of kube-proxy" "$NODE/root.sh" proxy "$work/proxy.tar"
  gather_binaries "$work/bin"
  gather_tree "$work/bin" "$work/context/tree"
  cp "$NODE/Dockerfile" "$work/context/"
  quiet "images of a bare cluster" "$NODE/images.sh" "$work/bin" "$work/proxy.tar" "$work/images.tar"
  quiet "node image without images" docker build -t "$NODE_REPOSITORY:bare" "$work/context"
  quiet "images into the node image" put_images_in "$NODE_REPOSITORY:bare" "$work/images.tar" "$image"
  quiet "keeping the node image in $(dirname "$archive")" docker save -o "$archive.part" "$image"
  mv "$archive.part" "$archive"
  docker rmi -f "$NODE_REPOSITORY:bare" >/dev/null
  rm -rf "$work"
  forget_older
}

# A gigabyte each: keeps two archives, and in the engine what a cluster still uses.
forget_older() {
  local old
  find "$CACHE/node" -maxdepth 1 -name '[0-9a-f]*.tar' -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- | xargs -r rm -f
  docker image ls -q --filter "reference=$NODE_REPOSITORY" | sort -u | while read -r old; do
    [ "$old" = "$(docker image ls -q "$image")" ] || docker rmi "$(docker image inspect -f '{{index .RepoTags 0}}' "$old")" >/dev/null 2>&1 || true
  done
}

image=$NODE_REPOSITORY:$(image_hash)
archive=$CACHE/node/${image##*:}.tar
if ! image_present "$image"; then
  if [ -f "$archive" ]; then
    quiet "loading the node image from the cache" docker load -i "$archive"
  else
    "$KIND_DIR/prepare.sh" base node
    "$KIND_DIR/tools.sh" "${PARTS[@]}"
    step "building the offline node image" build "$image" "$archive"
  fi
fi
echo "$image"
