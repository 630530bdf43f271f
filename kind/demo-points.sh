# shellcheck shell=bash
# The seven points of the demonstration, one function each, for demo.sh, which sets DEMO_CONTEXT.
# Never: stands for a check by itself: whatever a point says it shows is compared, and a difference ends the run.

DEMO_NAMESPACE=kvnode-demo
OPERATOR_NAMESPACE=kvnode-system
SAMPLES=$KIND_DIR/samples

k() { kubectl --context "$DEMO_CONTEXT" --namespace "$DEMO_NAMESPACE" "$@"; }

# show COMMAND...: prints a command as a user would type it, then runs it.
show() {
  local typed=$*
  if [ "$1" = k ]; then typed="kubectl -n $DEMO_NAMESPACE ${*:2}"; fi
  printf '\n$ %s\n' "$typed"
  "$@"
}

point_cluster() {
  "$KIND_DIR/prepare.sh" base
  "$KIND_DIR/tools.sh" kind kubectl helm etcd
  if [ -z "${CONTEXT:-}" ]; then
    "$KIND_DIR/engine.sh"
    "$KIND_DIR/up.sh" "$DEMO_CLUSTER" "$DEMO_CLUSTER.config"
    # So that plain kubectl goes on where this ends. Nobody else's context is changed.
    kubectl config set-context "$DEMO_CONTEXT" --namespace "$DEMO_NAMESPACE" >/dev/null
  fi
  show kubectl --context "$DEMO_CONTEXT" get nodes
  k create namespace "$DEMO_NAMESPACE" --dry-run=client -o yaml | k apply -f - >/dev/null
}

# Images are built and loaded where the cluster is one of KIND's; any other cluster has to pull them from where the
# variables say.
provide_images() {
  local cluster=${DEMO_CONTEXT#kind-}
  if kind get clusters 2>/dev/null | grep -qxF "$cluster"; then
    "$KIND_DIR/images.sh" "$cluster"
    # shellcheck disable=SC1091 # written by images.sh
    . "$CACHE/images.env"
    return
  fi
  for name in KVNODE_IMAGE KVNODE_OPERATOR_IMAGE KVNODE_TOOLS_IMAGE KVNODE_S3_IMAGE; do
    [ -n "${!name:-}" ] || die "context $DEMO_CONTEXT is no KIND cluster: build the images with 'make images', push them to a registry that it can pull from, and set $name (see $CACHE/images.env)"
  done
}

point_operator() {
  provide_images
  show helm upgrade --install kvnode-operator "$REPO_DIR/charts/kvnode-operator" --kube-context "$DEMO_CONTEXT" \
    --namespace "$OPERATOR_NAMESPACE" --create-namespace --wait --timeout 180s \
    --set-string image.registry= --set-string "image.repository=${KVNODE_OPERATOR_IMAGE%:*}" --set-string "image.tag=${KVNODE_OPERATOR_IMAGE##*:}" \
    --set-string nodeImage.registry= --set-string "nodeImage.repository=${KVNODE_IMAGE%:*}" --set-string "nodeImage.tag=${KVNODE_IMAGE##*:}"
  show kubectl --context "$DEMO_CONTEXT" --namespace "$OPERATOR_NAMESPACE" get pods
  k --namespace "$OPERATOR_NAMESPACE" get pods -o json | jq -e --arg image "$KVNODE_OPERATOR_IMAGE" '
    [.items[] | . as $pod | .spec.containers[] | select(.image | endswith($image))
      | { image, nonRoot: (.securityContext.runAsNonRoot // $pod.spec.securityContext.runAsNonRoot // false),
          readOnlyRoot: (.securityContext.readOnlyRootFilesystem // false) }]
    | (.[] | "runs \(.image), non-root: \(.nonRoot), read-only root filesystem: \(.readOnlyRoot)"),
      if length > 0 and all(.nonRoot and .readOnlyRoot) then empty else error("the operator does not run locked down") end' -r
}

point_store() {
  quiet "S3 server in namespace $DEMO_NAMESPACE" "$KIND_DIR/s3/apply.sh" "$DEMO_CONTEXT" "$DEMO_NAMESPACE" "$KVNODE_S3_IMAGE"
}

ready() {
  if k wait --for=condition=Ready "etcdcluster/$1" --timeout="$2s"; then return; fi
  k describe "etcdcluster/$1" || true
  k get pods -o wide || true
  die "EtcdCluster $1 is not Ready after $2 s"
}

# Ready may be left over from an earlier run: the object's own age tells whether the promise is at stake.
point_members() {
  local began seconds existed=''
  if k get etcdcluster core >/dev/null 2>&1; then existed=yes; fi
  began=$(now_ms)
  show k apply -f "$SAMPLES/cluster.yaml"
  ready core 60
  seconds=$(seconds $(($(now_ms) - began)))
  if [ -z "$existed" ]; then say "EtcdCluster core: Ready $seconds s after it was applied"; else say "EtcdCluster core was there and is Ready"; fi
  show k get etcdcluster core
  show k get pods core-0 core-1 core-2 -o wide
  [ "$(k get pods core-0 core-1 core-2 -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)" -eq 3 ] ||
    die "the three members do not run on three different nodes"
}

# client CLUSTER: the pod from which etcdctl talks to that cluster.
client() {
  sed "s|CLUSTER|$1|g; s|IMAGE|$KVNODE_TOOLS_IMAGE|" "$SAMPLES/client.yaml" | k apply -f - >/dev/null
  k wait --for=condition=Ready "pod/$1-etcdctl" --timeout=120s >/dev/null
}

in_client() { k exec -i "$1-etcdctl" -- "${@:2}"; }

tls_flags() { echo --cacert=/tls/ca.crt --cert=/tls/tls.crt --key=/tls/tls.key; }

# ctl CLUSTER ARGS...: etcdctl in that cluster's client pod, with the certificates from the Secret CLUSTER-client-tls.
ctl() {
  local cluster=$1
  shift
  # shellcheck disable=SC2046 # three flags
  in_client "$cluster" etcdctl --endpoints="https://$cluster-client:2379" $(tls_flags) "$@"
}

# echoed COMMAND...: what it prints goes to the user and, for comparison, to the caller.
echoed() {
  local answer
  answer=$("$@")
  printf '%s\n' "$answer" >&2
  printf '%s\n' "$answer"
}

# etcdctl on the first cluster, shown as typed.
shown() {
  printf '\n$ etcdctl %s\n' "$*" >&2
  echoed ctl core "$@"
}

expect() { [[ $2 == *"$1"* ]] || die "etcdctl should have answered with '$1'"; }

point_etcdctl() {
  client core
  say "etcdctl runs in pod core-etcdctl with --endpoints=https://core-client:2379 $(tls_flags)"
  expect OK "$(shown put demo/greeting "hello from etcdctl")"
  expect "hello from etcdctl" "$(shown get demo/greeting)"
  watch_sees_a_put
  txn_takes_the_right_branch
  expect core-2 "$(shown member list -w table)"
  [ "$(shown endpoint status --cluster -w table | grep -c 'https://core-[0-2]\.')" -eq 3 ] || die "endpoint status does not show three members"
  refuses_strangers
}

# Started at the revision before the put, so the watch may connect after it and still has to deliver it.
watch_sees_a_put() {
  local revision
  revision=$(ctl core get demo/greeting -w json | jq .header.revision)
  printf '\n$ etcdctl watch demo/watched --rev=%d &\n$ etcdctl put demo/watched now\n' $((revision + 1)) >&2
  # shellcheck disable=SC2016,SC2046 # expanded in the pod; three flags
  expect now "$(echoed in_client core sh -c '
    revision=$1; shift
    "$@" watch demo/watched --rev="$revision" >/tmp/watched & watch=$!
    "$@" put demo/watched now
    n=0; until grep -q now /tmp/watched || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done
    kill $watch; cat /tmp/watched' sh $((revision + 1)) etcdctl --endpoints=https://core-client:2379 $(tls_flags))"
}

txn_takes_the_right_branch() {
  local answer
  printf '\n$ etcdctl txn   # if demo/greeting is as we put it: put demo/txn yes, else: put demo/txn no\n' >&2
  answer=$(printf 'value("demo/greeting") = "hello from etcdctl"\n\nput demo/txn yes\n\nput demo/txn no\n\n' | echoed ctl core txn)
  expect SUCCESS "$answer"
  expect yes "$(shown get demo/txn)"
}

# Mutual TLS means that a client without a certificate of this cluster gets nowhere.
refuses_strangers() {
  if in_client core etcdctl --endpoints=https://core-client:2379 --cacert=/tls/ca.crt --command-timeout=5s get demo/greeting >/dev/null 2>&1; then
    die "a client without a certificate was served"
  fi
  say "a client without a certificate is refused"
}

# Names of this schedule's finished backups of the cluster that is there now, the newest last.
finished_backups() {
  local since
  since=$(k get etcdcluster core -o jsonpath='{.metadata.creationTimestamp}')
  k get etcdbackups -o json | jq -r --arg since "$since" '[.items[] | select((.metadata.name | startswith("core-minutely"))
    and .metadata.creationTimestamp >= $since and .status.phase == "Succeeded")] | sort_by(.metadata.creationTimestamp)[].metadata.name'
}

backup_of_restored() { k get etcdcluster core-restored -o jsonpath='{.spec.bootstrap.fromBackup.backupRef.name}' 2>/dev/null || true; }

# What a cluster began with cannot be changed, and its volumes outlive it: both have to go before another beginning.
forget_restored() {
  k delete etcdcluster core-restored --ignore-not-found --timeout=120s
  k delete pod core-restored-etcdctl --ignore-not-found
  k delete pvc data-core-restored-{0,1,2} --ignore-not-found --timeout=120s
}

# A first run waits for the next full minute; a later one takes the backup that the second cluster began with.
take_backup() {
  local before used
  before=$(finished_backups)
  used=$(backup_of_restored)
  if [ -n "$used" ] && grep -qxF "$used" <<<"$before"; then
    BACKUP=$used
    say "EtcdBackup $BACKUP is there from an earlier run"
    return
  fi
  quiet "making room for core-restored" forget_restored
  show k apply -f "$SAMPLES/schedule.yaml"
  say "waiting for the next full minute and its backup"
  wait_for "a backup of schedule core-minutely (see: kubectl -n $DEMO_NAMESPACE describe etcdbackups)" 180 new_backup "$before"
  BACKUP=$(finished_backups | tail -n 1)
  # Retention would take it away from under the second cluster's feet.
  k patch etcdbackupschedule core-minutely --type merge -p '{"spec":{"suspend":true}}' >/dev/null
}

new_backup() { [ -n "$(finished_backups)" ] && [ "$(finished_backups | tail -n 1)" != "$(tail -n 1 <<<"$1")" ]; }

point_backup() {
  local file=$CACHE/demo/snapshot.db location row
  take_backup
  location=$(k get etcdbackup "$BACKUP" -o jsonpath='{.status.location}')
  mkdir -p "$CACHE/demo"
  say "downloading $location from the S3 server"
  "$KIND_DIR/s3/get.sh" "$DEMO_CONTEXT" "$DEMO_NAMESPACE" "${location#s3://}" "$file"
  show etcdutl snapshot status -w table "$file"
  show k get etcdbackup "$BACKUP"
  row=$(k get etcdbackup "$BACKUP" -o json | jq -r '.status | "\(.hash) \(.revision) \(.totalKeys) \(.totalSize)"')
  [ "$(etcdutl_row "$file")" = "$row" ] || die "etcdutl reads '$(etcdutl_row "$file")' where EtcdBackup $BACKUP shows '$row'"
  say "HASH, REVISION, TOTAL KEYS and TOTAL SIZE agree: $row"
}

# HASH REVISION KEYS SIZE UNIT, the table's frame taken off.
etcdutl_row() {
  etcdutl snapshot status -w table "$1" | LC_ALL=C sed 's/[^ -~]/ /g' | tr '|+' '  ' | awk '$1 ~ /^[0-9a-f]+$/ { print $1, $2, $3, $4, $5 }'
}

# Everything that the backup was made of: what came later is newer than its revision.
point_restore() {
  local revision
  revision=$(k get etcdbackup "$BACKUP" -o jsonpath='{.status.revision}')
  printf '\n$ sed "s/BACKUP/%s/" %s | kubectl -n %s apply -f -\n' "$BACKUP" "$SAMPLES/restored.yaml" "$DEMO_NAMESPACE"
  sed "s/BACKUP/$BACKUP/" "$SAMPLES/restored.yaml" | k apply -f -
  ready core-restored 180
  show k get etcdclusters
  client core-restored
  printf '\n$ etcdctl get --prefix ""   # in core at the revision of the backup, and in core-restored\n'
  ctl core-restored get --prefix "" | tee "$CACHE/demo/restored"
  ctl core get --prefix "" --rev="$revision" >"$CACHE/demo/original"
  [ -s "$CACHE/demo/original" ] || die "the first cluster holds no keys"
  cmp "$CACHE/demo/original" "$CACHE/demo/restored" || die "the restored cluster does not hold the same keys"
  say "core-restored holds the same keys and values"
}
