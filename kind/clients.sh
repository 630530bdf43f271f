#!/usr/bin/env bash
# Runs the tests of e2e/clients, in which clients that others wrote use a server: for each language named (all without
# one), kvnode processes of its own on loopback, whose addresses the tests find in the environment:
#   CLIENTS_PLAIN    http URL of a single member
#   CLIENTS_TLS      https URL of a single member that demands client certificates
#   CLIENTS_AUTH     https URL of a single member with users: root (password root), and alice (password secret), who may
#                    read what begins with public/
#   CLIENTS_CERTS    folder with ca.crt, client.crt and client.key
#   CLIENTS_MEMBERS  http URLs of a cluster of three, by commas; CLIENTS_PIDS their processes, which a test may kill
# SERVER=etcd runs them against etcd instead, which every one of them has to pass as well.
# Never: needs Kubernetes, or leaves a process or data behind.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

CLIENTS=$REPO_DIR/e2e/clients
BUILT=$CACHE/clients
LOGS=$CACHE/logs/clients
# Ten times what it takes on two cores: the first download and build, and the slowest suite.
INSTALL_SECONDS_MAX=900
RUN_SECONDS_MAX=300
WORK=$(mktemp -d)
PIDS=()

# --- servers

# free_ports COUNT: ports nobody listens on, below those that outgoing connections get.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(12000, 32000))))
    except OSError:
        pass
print(*(listener.getsockname()[1] for listener in held))
PYTHON
}

# start NAME CLIENT-URL PEER-URL ARG...: a member, whose pid is then the last of PIDS.
start() {
  local name=$1 client=$2 peer=$3
  shift 3
  "$SERVER" --name "$name" --data-dir "$WORK/$name" --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --watch-progress-notify-interval=200ms \
    --log-level warn "$@" >"$LOGS/$LANGUAGE.$name.log" 2>&1 9>&- &
  PIDS+=($!)
  # No word from the shell when a test kills it.
  disown
}

# Single members tick fast, so that their shortest lease takes a second.
alone() { start "$1" "$2" "$3" --initial-cluster "$1=$3" --heartbeat-interval=50 --election-timeout=500 "${@:4}"; }

ctl() { timeout 10 etcdctl --cacert "$WORK/certs/ca.crt" --cert "$WORK/certs/client.crt" --key "$WORK/certs/client.key" "$@"; }

# serve: starts all that the tests of one language need and waits until it answers.
serve() {
  local -a port tls
  local peers url
  # Not from a process substitution, which would be read while the ports are still held.
  read -ra port <<<"$(free_ports 12)"
  tls=(--cert-file "$WORK/certs/server.crt" --key-file "$WORK/certs/server.key" --trusted-ca-file "$WORK/certs/ca.crt")
  export CLIENTS_CERTS=$WORK/certs
  export CLIENTS_PLAIN=http://127.0.0.1:${port[0]}
  export CLIENTS_TLS=https://127.0.0.1:${port[2]}
  export CLIENTS_AUTH=https://127.0.0.1:${port[4]}
  alone plain "$CLIENTS_PLAIN" "http://127.0.0.1:${port[1]}"
  alone tls "$CLIENTS_TLS" "http://127.0.0.1:${port[3]}" "${tls[@]}" --client-cert-auth
  alone auth "$CLIENTS_AUTH" "http://127.0.0.1:${port[5]}" "${tls[@]:0:4}"

  CLIENTS_MEMBERS=http://127.0.0.1:${port[6]},http://127.0.0.1:${port[8]},http://127.0.0.1:${port[10]}
  peers=m0=http://127.0.0.1:${port[7]},m1=http://127.0.0.1:${port[9]},m2=http://127.0.0.1:${port[11]}
  start m0 "http://127.0.0.1:${port[6]}" "http://127.0.0.1:${port[7]}" --initial-cluster "$peers"
  start m1 "http://127.0.0.1:${port[8]}" "http://127.0.0.1:${port[9]}" --initial-cluster "$peers"
  start m2 "http://127.0.0.1:${port[10]}" "http://127.0.0.1:${port[11]}" --initial-cluster "$peers"
  CLIENTS_PIDS=$(IFS=,; echo "${PIDS[*]:3}")
  export CLIENTS_MEMBERS CLIENTS_PIDS

  for url in "$CLIENTS_PLAIN" "$CLIENTS_TLS" "$CLIENTS_AUTH" "$CLIENTS_MEMBERS"; do
    wait_for "an answer of $url (logs: $LOGS/$LANGUAGE.*.log)" 30 ctl --endpoints "$url" endpoint health
  done
  enable_auth >/dev/null
}

enable_auth() {
  ctl --endpoints "$CLIENTS_AUTH" user add root:root
  ctl --endpoints "$CLIENTS_AUTH" user grant-role root root
  ctl --endpoints "$CLIENTS_AUTH" role add reader
  ctl --endpoints "$CLIENTS_AUTH" role grant-permission reader read --prefix=true public/
  ctl --endpoints "$CLIENTS_AUTH" user add alice:secret
  ctl --endpoints "$CLIENTS_AUTH" user grant-role alice reader
  ctl --endpoints "$CLIENTS_AUTH" auth enable
}

# Ends what is still there of the servers; the tests may have killed some.
stop() {
  local pid
  for pid in "${PIDS[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do timeout 10 tail -s 0.1 --pid="$pid" -f /dev/null || true; done
  PIDS=()
  rm -rf "${WORK:?}"/{plain,tls,auth,m0,m1,m2}
}

# --- languages: install_* fetches and builds what the tests depend on, once for each state of the lock file; run_* runs
# the tests; count_* reads from their output how many passed.

install_go() { cd "$CLIENTS/go" && go mod download && go test -count=1 -run '^$' . ; }
run_go() { cd "$CLIENTS/go" && go test -count=1 -timeout "$((RUN_SECONDS_MAX - 10))s" -v .; }
count_go() { grep -c '^--- PASS'; }

venv() { echo "$BUILT/python-$(hash_of "$CLIENTS/python/requirements.txt" "$(python3 --version)")"; }
install_python() {
  [ -d "$(venv)" ] || {
    rm -rf "$(venv).part"
    python3 -m venv "$(venv).part"
    "$(venv).part/bin/pip" install --quiet --no-cache-dir --require-hashes --requirement "$CLIENTS/python/requirements.txt"
    mv -T "$(venv).part" "$(venv)"
  }
}
run_python() { cd "$CLIENTS/python" && PYTHONDONTWRITEBYTECODE=1 "$(venv)/bin/python" -m pytest -p no:cacheprovider .; }
count_python() { grep -oE '[0-9]+ passed' | cut -d' ' -f1; }

node_modules() { echo "$BUILT/javascript-$(hash_of "$CLIENTS/javascript/package-lock.json" "$(node --version)")"; }
install_javascript() {
  [ -d "$(node_modules)" ] || {
    rm -rf "$(node_modules).part"
    mkdir -p "$(node_modules).part"
    cp "$CLIENTS/javascript"/package*.json "$(node_modules).part/"
    (cd "$(node_modules).part" && npm ci --cache "$BUILT/npm" --ignore-scripts)
    mv -T "$(node_modules).part" "$(node_modules)"
  }
  # Node looks for packages beside the tests alone.
  ln -sfn "$(node_modules)/node_modules" "$CLIENTS/javascript/node_modules"
}
run_javascript() { cd "$CLIENTS/javascript" && node --test --test-concurrency=1 --test-reporter=tap; }
count_javascript() { grep -oE '^# pass [0-9]+' | cut -d' ' -f3; }

maven() { (cd "$CLIENTS/java" && mvn --batch-mode --no-transfer-progress -Dmaven.repo.local="$BUILT/maven" -Dclients.target="$BUILT/java" "$@"); }
install_java() {
  local marker
  marker=$BUILT/java-$(hash_of "$CLIENTS/java/pom.xml")
  [ -f "$marker" ] || { maven -Dtest=None -Dsurefire.failIfNoSpecifiedTests=false test && touch "$marker"; }
}
run_java() { maven test; }
count_java() { grep -oE 'Tests run: [0-9]+' | tail -n 1 | grep -oE '[0-9]+'; }

install_rust() { cd "$CLIENTS/rust" && CARGO_TARGET_DIR=$BUILT/rust cargo test --locked --no-run; }
# One at a time: a compaction takes the past from everybody.
run_rust() { cd "$CLIENTS/rust" && CARGO_TARGET_DIR=$BUILT/rust cargo test --locked -- --test-threads=1; }
count_rust() { grep -oE '^test result: ok. [0-9]+' | grep -oE '[0-9]+' | awk '{ sum += $1 } END { print sum }'; }

# --- one language after the other

# bounded SECONDS COMMAND...: ends what takes far too long, with all that it started, and says so.
bounded() {
  local limit=$1 pid
  shift
  set -m
  ("$@") 9>&- &
  pid=$!
  set +m
  # A group of its own hears no Ctrl-C.
  # shellcheck disable=SC2064 # the pid of now is meant
  trap "kill -KILL -- -$pid 2>/dev/null; exit 130" INT TERM
  timeout --foreground "$limit" tail -s 0.1 --pid="$pid" -f /dev/null || {
    say "$*: not done after $limit s, ended"
    kill -KILL -- "-$pid"
  }
  trap 'exit 130' INT TERM
  wait "$pid"
}

check() {
  local began count log=$LOGS/$1.log
  LANGUAGE=$1
  rm -f "$LOGS/$1".*
  quiet "clients in $1: what they depend on" bounded "$INSTALL_SECONDS_MAX" "install_$1"
  serve
  began=$(now_ms)
  if ! bounded "$RUN_SECONDS_MAX" "run_$1" >"$log" 2>&1 </dev/null; then
    tail -n 60 "$log" >&2
    die "clients in $1 failed; the whole log is $log, those of the servers are beside it"
  fi
  count=$("count_$1" <"$log" || true)
  [ "${count:-0}" -gt 0 ] || die "clients in $1: no test ran; see $log"
  say "clients in $1: $count passed in $(seconds $(($(now_ms) - began))) s"
  stop
}

case ${1:-} in -*) die "usage: clients.sh [go|python|javascript|java|rust]..." ;; esac
[ $# -gt 0 ] || set -- go python javascript java rust
trap 'stop; rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
"$KIND_DIR/prepare.sh" base clients
"$KIND_DIR/tools.sh" etcd
server_to_test
mkdir -p "$BUILT" "$LOGS"
# One run at a time: they share ports, logs and what is built.
exec 9>"$BUILT/lock"
flock -w "$INSTALL_SECONDS_MAX" 9 || die "another clients.sh has been at work for $INSTALL_SECONDS_MAX s: it holds $BUILT/lock"
"$KIND_DIR/certificates.sh" "$WORK/certs" 2>/dev/null
for language in "$@"; do check "$language"; done
