#!/usr/bin/env bash
# Runs etcd's own test suites, an ordinary Go module, with kvnode as the `etcd` binary, and holds the outcome against the
# list beside this file, <suite>.txt: the run fails when a test passes fewer sub-tests than listed, skips unlisted or fails.
#   run.sh [--only REGEX] [SUITE...]   default: common e2e robustness
# Suites: minimal (two kinds of cluster), common (all kinds), e2e, robustness (failures under load, one test at a time).
# Every test runs in a network and process namespace of its own: the suites use fixed ports, and what a test leaves running
# ends with it. So several run at a time; they wait more than they compute.
# SERVER=path: another program in kvnode's place, real etcd for one. JOBS=n: tests at a time. KEEP=1: keeps all logs.
# Never: counts a test that did not run as passed, and never compiles what an earlier run compiled.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../../kind/lib.sh
. "$(dirname "$0")/../../kind/lib.sh"

SELF=$(realpath "$0")
HERE=$(dirname "$SELF")
JOBS=${JOBS:-$((2 * $(nproc)))}
# Three times what the longest test takes.
TEST_SECONDS_MAX=300
# What a robustness test may take to look for a linear history, and as much again.
ROBUSTNESS_SECONDS_MAX=600

# package_of SUITE: the package of etcd's tests that holds it.
package_of() {
  case $1 in
    minimal | common) echo common ;;
    e2e | robustness) echo "$1" ;;
    *) die "run.sh: unknown suite '$1'; there are minimal, common, e2e and robustness" ;;
  esac
}

# program_of SUITE: its compiled tests.
program_of() {
  local package
  package=$(package_of "$1")
  echo "$BINARIES-$package/$package.test"
}

# isolated COMMAND...: with nothing but a loopback of its own; all that it started ends with it.
isolated() {
  local -a user=()
  [ "$(id -u)" -eq 0 ] || user=(--user --map-root-user)
  # shellcheck disable=SC2016 # for the inner shell
  unshare "${user[@]}" --net --pid --fork --kill-child=KILL bash -c 'ip link set lo up && "$@"' - "$@"
}

# outcome LOG TEST: pass, skip or fail, and how many sub-tests passed. A process that ended well says so in a line of its
# own; its exit code tells also of what the test forgot to end, which nobody but this process suffers from.
outcome() {
  local word=fail
  if grep -qx PASS "$1"; then
    if grep -q "^--- PASS: $2 " "$1"; then word=pass; fi
    if grep -q "^--- SKIP: $2 " "$1"; then word=skip; fi
  fi
  echo "$word $(grep -c '^  *--- PASS' "$1" || true)"
}

# one SUITE TEST: runs it, TEST/SUB-TESTS only these of it, and leaves a line as those of the list. The script calls itself
# with this, several at a time.
# The working directory is a fresh one, since some tests leave data there, in a place with a short name, since others put
# sockets there.
one() {
  local package name=${2//\//.} began limit=$TEST_SECONDS_MAX bin=$WORK/bin
  local log=$WORK/$1/$name.log
  package=$(package_of "$1")
  TMPDIR=$(mktemp -d) E2E_TEST_MINIMAL=false RESULTS_DIR=$WORK/$1/$name
  [ "$1" != minimal ] || E2E_TEST_MINIMAL=true
  [ "$1" != robustness ] || limit=$ROBUSTNESS_SECONDS_MAX bin=$WORK/without-failpoints
  export TMPDIR E2E_TEST_MINIMAL RESULTS_DIR
  mkdir "$TMPDIR/$package"
  ln -s "$SOURCES/fixtures" "$TMPDIR/fixtures"
  cd "$TMPDIR/$package"
  began=$(now_ms)
  isolated timeout -k 5 "$limit" "$(program_of "$1")" -test.v -test.run "^$2\$" \
    -test.timeout "$((limit - 5))s" --bin-dir "$bin" >"$log" 2>&1 </dev/null || true
  rm -rf "$TMPDIR"
  echo "$2 $(outcome "$log" "${2%%/*}")" >"$WORK/$1/$name.result"
  say "$1: $(cat "$WORK/$1/$name.result") in $(seconds $(($(now_ms) - began))) s"
}

# listed SUITE: lines of test, outcome (pass, skip, or `out` for a test that is not run) and sub-tests, then a remark.
listed() { awk -v only="$ONLY" '!/^#/ && NF && $1 ~ only' "$HERE/$1.txt"; }

# unlisted SUITE: the tests that the suite has and the list has not, which a new version of etcd may bring.
unlisted() {
  (cd "$SOURCES/$(package_of "$1")" && "$(program_of "$1")" -test.list .) |
    awk 'NR == FNR { split($1, test, "/"); known[test[1]]; next } /^Test/ && !($1 in known)' "$HERE/$1.txt" -
}

# verdict SUITE: says what differs from the list and ends with the counts.
verdict() {
  cat "$WORK/$1"/*.result >"$WORK/$1.results"
  listed "$1" | awk -v suite="$1" '
    NR == FNR { got[$1] = $2; passed[$1] = $3; count[$2]++; total += $3; next }
    $2 == "out" { out++; next }
    got[$1] != $2 { print suite ": " $1 ": " got[$1] ", listed as " $2; bad++; next }
    passed[$1] < $3 { print suite ": " $1 ": " passed[$1] " sub-tests passed of " $3; bad++ }
    END {
      printf "%s: %d passed with %d sub-tests, %d skipped, %d failed, %d not run; %d differ from the list\n",
        suite, count["pass"], total, count["skip"], count["fail"], out, bad
      exit bad > 0
    }' "$WORK/$1.results" - >&2
}

# without_failpoints: puts something in front of the programs that says they have no failpoints. The robustness tests ask the
# port in GOFAIL_HTTP which there are, and end where nobody answers; told of none they kill, cut off and replace members. A
# member that is started again finds the answers of its first life still there.
without_failpoints() {
  local program
  mkdir "$WORK/without-failpoints" "$WORK/no-failpoints"
  : >"$WORK/no-failpoints/index.html"
  for program in "$WORK"/bin/*; do
    cat >"$WORK/without-failpoints/${program##*/}" <<END
#!/usr/bin/env bash
answers() { (: <"/dev/tcp/\${GOFAIL_HTTP/:/\/}") 2>/dev/null; }
if [ -n "\${GOFAIL_HTTP:-}" ] && ! answers; then
  python3 -m http.server --bind 127.0.0.1 --directory "$WORK/no-failpoints" "\${GOFAIL_HTTP##*:}" >/dev/null 2>&1 &
  until answers; do sleep 0.02; done
fi
exec "$program" "\$@"
END
    chmod +x "$WORK/without-failpoints/${program##*/}"
  done
}

suite() {
  local new jobs=$JOBS
  if [ "$1" = robustness ]; then
    # Beside others the load that its tests ask for would not be reached.
    jobs=1
    without_failpoints
  fi
  new=$(unlisted "$1")
  [ -z "$new" ] || die "$1.txt lacks tests that the suite has: ${new//$'\n'/ }"
  mkdir -p "$WORK/$1"
  listed "$1" | awk '$2 != "out" { print $1 }' | xargs -r -P "$jobs" -n 1 "$SELF" --one "$1"
  verdict "$1"
}

if [ "${1:-}" = --one ]; then
  one "$2" "$3"
  exit 0
fi
ONLY=.
if [ "${1:-}" = --only ]; then
  ONLY=$2
  shift 2
fi
[ $# -gt 0 ] || set -- common e2e robustness

"$KIND_DIR/prepare.sh" base conformance
have go || die "Go is not installed: etcd's tests are built from Go modules"
"$KIND_DIR/tools.sh" etcd etcd-3.6
BINARIES=$CACHE/tools/etcd-tests-$(hash_of "$HERE/go.mod" "$HERE/go.sum" "$(go env GOVERSION GOOS GOARCH)")
for name in "$@"; do
  package=$(package_of "$name")
  [ -d "$BINARIES-$package" ] || quiet "building etcd's tests from their Go module: $package" \
    compile_go_tests "$HERE" "$BINARIES-$package" -tags e2e "go.etcd.io/etcd/tests/v3/$package"
done
# Fixtures lie beside the sources.
SOURCES=$(in_go_module "$HERE" go list -mod=readonly -m -f '{{.Dir}}' go.etcd.io/etcd/tests/v3)
server_to_test
WORK=$(mktemp -d "$CACHE/conformance.XXXXXX")
export SOURCES BINARIES WORK
mkdir "$WORK/bin"
ln -s "$(realpath "$(command -v "$SERVER")")" "$WORK/bin/etcd"
ln -s "$(realpath "$CACHE/bin/etcd-3.6")" "$WORK/bin/etcd-last-release"
ln -s "$(realpath "$CACHE/bin/etcdctl")" "$(realpath "$CACHE/bin/etcdutl")" "$WORK/bin/"

rc=0
for name in "$@"; do suite "$name" || rc=1; done
[ "$rc" -eq 0 ] || die "etcd's tests found something; their logs are in $WORK"
if [ -z "${KEEP:-}" ]; then rm -rf "$WORK"; else say "logs are in $WORK"; fi
