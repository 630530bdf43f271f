#!/usr/bin/env bash
# Makes the load balancer that KIND starts before several control planes, under the name that KIND asks for: Debian's
# haproxy behind a script called envoy. Kept in the cache by the hash of its inputs.
# Never: used where the real image can be pulled.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

image=kvnode/kind-balancer:$(hash_of "$KIND_DIR"/balancer/* "$KIND_DIR/node/root.sh")
archive=$CACHE/node/balancer-${image##*:}.tar

build() {
  local work=$CACHE/node/balancer
  rm -rf "$work"
  mkdir -p "$work"
  "$KIND_DIR/node/root.sh" balancer "$work/root.tar"
  install -D -m 0755 "$KIND_DIR/balancer/envoy" "$work/usr/local/bin/envoy"
  tar -C "$work" --owner=0 --group=0 -rf "$work/root.tar" ./usr/local/bin/envoy
  docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$work/root.tar" "$image"
  docker save -o "$archive.part" "$image"
  mv "$archive.part" "$archive"
  rm -rf "$work"
}

if ! image_present "$image"; then
  if [ -f "$archive" ]; then
    quiet "loading the load balancer image from the cache" docker load -i "$archive"
  else
    "$KIND_DIR/prepare.sh" node
    quiet "building the offline load balancer image" build
  fi
fi
docker tag "$image" "$LB_IMAGE"
