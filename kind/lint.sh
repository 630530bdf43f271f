#!/usr/bin/env bash
# Checks everything that can be checked without running the product. `lint.sh audit` checks the dependencies against the
# advisory database instead, which has to be reachable.
# Never: changes a file.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

CARGO_DENY_VERSION=0.20.2
CARGO_DENY=$CACHE/tools/cargo-deny-$CARGO_DENY_VERSION

install_cargo_deny() {
  # Its own target folder and no settings of the workspace, so that neither rebuilds the other.
  CARGO_TARGET_DIR=$CACHE/tools/cargo-deny.build cargo install --quiet --locked --root "$CARGO_DENY.part" --version "$CARGO_DENY_VERSION" cargo-deny
  rm -rf "$CACHE/tools/cargo-deny.build"
  mv -T "$CARGO_DENY.part" "$CARGO_DENY"
}

cargo_deny() {
  [ -d "$CARGO_DENY" ] || quiet "installing cargo-deny $CARGO_DENY_VERSION" install_cargo_deny
  "$CARGO_DENY/bin/cargo-deny" --locked check --hide-inclusion-graph "$@"
}

shell_scripts() { git ls-files -co --exclude-standard kind e2e .ci | while read -r file; do head -n 1 "$file" | grep -qE '^#!.*(bash|sh)$|shellcheck shell' && echo "$file"; done || true; }

check_scripts() {
  local -a files
  mapfile -t files < <(shell_scripts)
  [ ${#files[@]} -gt 0 ] || die "found no shell script to check"
  shellcheck -x "${files[@]}"
}

check_chart() { helm lint --quiet charts/kvnode-operator; }

cd "$REPO_DIR"
if [ "${1:-}" = audit ]; then
  step "advisories" cargo_deny advisories
  exit 0
fi
"$KIND_DIR/prepare.sh" base lint
"$KIND_DIR/tools.sh" helm
step "format" cargo fmt --all --check
step "format of the clients in Rust" cargo fmt --manifest-path e2e/clients/rust/Cargo.toml --check
step "clippy" cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
step "dependencies" cargo_deny bans licenses sources
step "shell scripts" check_scripts
step "chart" check_chart
