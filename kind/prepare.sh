#!/usr/bin/env bash
# Installs the Debian packages that are missing for what was asked: `base` (every target), `engine` (where no container
# engine answers), `node` (where the node image has to be built here), `images` (of the product), `lint`, `conformance`,
# `clients` (the tests in other languages), `stores` (the object stores of the tests).
# Never: upgrades or removes a package, and never asks a question.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

packages_of() {
  case $1 in
    base) echo "ca-certificates curl gcc jq libc6-dev make procps util-linux" ;;
    engine) echo "docker.io iptables jq kmod" ;;
    node) echo "busybox-static debootstrap" ;;
    images) echo "busybox-static" ;;
    lint) echo "shellcheck" ;;
    conformance) have python3 || echo "python3"; echo "iproute2" ;;
    clients) echo "libprotobuf-dev openssl protobuf-compiler"; toolchains ;;
    stores) have npm || echo "nodejs npm" ;;
    *) die "prepare.sh: unknown set '$1'; see the list above this line" ;;
  esac
}

# Toolchains of other languages come from Debian only where they did not come from elsewhere.
toolchains() {
  have python3 || echo "python3"
  python3 -c 'import ensurepip' 2>/dev/null || echo "python3-venv"
  have npm || echo "nodejs npm"
  have javac || echo "default-jdk-headless"
  have mvn || echo "maven"
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# On a machine without dpkg nothing can be installed; the commands may be there all the same.
if ! have dpkg-query; then
  say "not a Debian machine: taking the needed packages as given"
  exit 0
fi

missing=()
for set in "$@"; do
  for package in $(packages_of "$set"); do
    installed "$package" || missing+=("$package")
  done
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || die "these packages are missing and installing them needs root: ${missing[*]}"

install_missing() {
  export DEBIAN_FRONTEND=noninteractive
  # The lists may be absent (slim images) or name versions that are gone.
  apt-get -qq -o Acquire::Retries=3 update
  # Nothing recommended: a container engine alone would pull in half a desktop.
  apt-get -qq -y -o Acquire::Retries=3 --no-install-recommends install "${missing[@]}"
}
quiet "installing ${missing[*]}" install_missing
