#!/usr/bin/env bash
# Makes a certificate authority and what it signed for tests on loopback, with openssl, in the folder given:
# ca.crt, server.crt, server.key, client.crt, client.key. Keys are PKCS #8, which every client library reads.
# Never: makes anything that lasts longer than a day.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || die "usage: certificates.sh DIRECTORY"
mkdir -p "$1"
cd "$1"

# certificate NAME ARG...: a key and a certificate, of which the arguments say who signs it and what it is good for.
certificate() {
  local name=$1
  shift
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 1 -subj "/CN=$name" \
    -keyout "$name.key" -out "$name.crt" "$@"
}

certificate ca -addext "keyUsage=critical,keyCertSign,cRLSign"
leaf() { certificate "$1" -CA ca.crt -CAkey ca.key -addext "basicConstraints=critical,CA:FALSE" -addext "subjectAltName=IP:127.0.0.1,DNS:localhost" -addext "extendedKeyUsage=$2"; }
# Good for both, as etcd's gateway shows the server's certificate to its own server.
leaf server "serverAuth,clientAuth"
leaf client "clientAuth"
rm ca.key
