#!/usr/bin/env bash
# Puts the S3 server into a namespace and waits until it answers: `apply.sh CONTEXT NAMESPACE IMAGE`. Its credentials are
# made up once and kept in the Secret s3-credentials.
# Never: replaces credentials that are there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

context=$1 namespace=$2 image=$3

k() { kubectl --context "$context" --namespace "$namespace" "$@"; }

made_up() { head -c 18 /dev/urandom | base64 | tr '+/' 'xy'; }

if ! k get secret s3-credentials >/dev/null 2>&1; then
  k create secret generic s3-credentials --from-literal="AWS_ACCESS_KEY_ID=$(made_up)" --from-literal="AWS_SECRET_ACCESS_KEY=$(made_up)"
fi
sed "s|image: IMAGE|image: $image|" "$KIND_DIR/s3/s3.yaml" | k apply -f -
k rollout status deployment/s3 --timeout=180s
