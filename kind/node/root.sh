#!/usr/bin/env bash
# Makes the Debian file trees that the offline images stand on, by debootstrap: `root.sh proxy OUT.tar` (what kube-proxy
# calls), `root.sh node OUT.tar` (the same plus systemd and what kubelet and kubeadm call), `root.sh balancer OUT.tar`
# (haproxy and bash). Needs root.
# Never: leaves documentation, locales or package lists in a tree, and never changes the machine it runs on.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# Bookworm, because its systemd 252 still boots where cgroups are version 1; later ones refuse.
SUITE=bookworm
MIRROR=${KVNODE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
BASE=$CACHE/node/base-$(hash_of "$0" "$SUITE")
PROXY_PACKAGES=ca-certificates,conntrack,ipset,iptables,kmod,nftables
NODE_PACKAGES=(containernetworking-plugins curl dbus ebtables ethtool hostname iproute2 jq libseccomp2 mount nfs-common
  openssl procps rsync runc socat systemd systemd-sysv util-linux)
BALANCER_PACKAGES=(bash haproxy)

slim() {
  local tree=$1
  chroot "$tree" apt-get clean
  rm -rf "$tree"/usr/share/{doc,man,info,locale,lintian,bash-completion}/* "$tree"/var/lib/apt/lists/* \
    "$tree"/var/log/* "$tree"/var/cache/{apt,debconf,ldconfig}/* "$tree"/tmp/*
}

# One debootstrap serves all three trees; its packages stay cached as a tree beside the finished node image.
base() {
  [ ! -d "$BASE" ] || return 0
  rm -rf "$BASE.part"
  debootstrap --variant=minbase --include="$PROXY_PACKAGES" "$SUITE" "$BASE.part" "$MIRROR"
  mv -T "$BASE.part" "$BASE"
}

# Packages of a chroot must not start daemons.
add_packages() {
  local tree=$1
  shift
  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod +x "$tree/usr/sbin/policy-rc.d"
  DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$tree" apt-get -qq -o Acquire::Retries=3 update
  DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$tree" apt-get -qq -y -o Acquire::Retries=3 --no-install-recommends install "$@"
  rm "$tree/usr/sbin/policy-rc.d"
}

kind=$1 out=$2
base
tree=$out.tree
rm -rf "$tree"
cp -a "$BASE" "$tree"
case $kind in
  proxy) ;;
  node) add_packages "$tree" "${NODE_PACKAGES[@]}" ;;
  balancer) add_packages "$tree" "${BALANCER_PACKAGES[@]}" ;;
  *) die "root.sh: unknown tree '$kind'; there are proxy, node, balancer" ;;
esac
slim "$tree"
tar -C "$tree" --numeric-owner -cf "$out.part" .
rm -rf "$tree"
mv "$out.part" "$out"
