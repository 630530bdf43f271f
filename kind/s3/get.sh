#!/usr/bin/env bash
# Downloads an object from the S3 server of a namespace, over the S3 protocol: `get.sh CONTEXT NAMESPACE BUCKET/KEY FILE`.
# Never: reads the server's volume directly.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$0")/../lib.sh"

context=$1 namespace=$2 object=$3 file=$4

k() { kubectl --context "$context" --namespace "$namespace" "$@"; }

credential() { k get secret s3-credentials -o jsonpath="{.data.$1}" | base64 -d; }

# kubectl chooses a free local port and names it in its first line.
local_port() { sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$1" | grep .; }

lines=$(mktemp)
k port-forward service/s3 :7070 >"$lines" 2>&1 &
forward=$!
trap 'kill $forward; rm -f "$lines"' EXIT
wait_for "kubectl forwards a port to the S3 server" 30 local_port "$lines"
# Credentials go in by standard input, out of sight of the process list. Older curls sign but do not send the body's hash.
no_body=$(sha256sum </dev/null | cut -d' ' -f1)
printf 'user = "%s:%s"\n' "$(credential AWS_ACCESS_KEY_ID)" "$(credential AWS_SECRET_ACCESS_KEY)" |
  curl --config - --fail --silent --show-error --aws-sigv4 "aws:amz:us-east-1:s3" \
    --header "x-amz-content-sha256: $no_body" -o "$file" \
    "http://127.0.0.1:$(local_port "$lines")/$object"
