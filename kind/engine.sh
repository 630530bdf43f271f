#!/usr/bin/env bash
# Gives a working container engine: the one that answers `docker info`, else Debian's docker.io, whose dockerd we start
# detached ourselves because there may be no service manager. `engine.sh stop` ends only a dockerd that we started.
# Never: touches an engine that already works, and never a daemon somebody else started.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

PIDFILE=$CACHE/engine/dockerd.pid
LOG=$CACHE/engine/dockerd.log

answers() { timeout 20 docker info >/dev/null 2>&1; }

# Bit 24 is CAP_SYS_RESOURCE; see runc-bounded.
lacks_sys_resource() {
  local bound
  bound=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
  [ $((0x$bound >> 24 & 1)) -eq 0 ]
}

# A minimal host may have none of the controllers mounted.
mount_cgroups() {
  local controller
  mountpoint -q /sys/fs/cgroup && return
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
    mkdir -p "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
  done
}

# systemd inside a node needs its named hierarchy, which a v1 host without systemd lacks.
mount_named_hierarchy() {
  [ -f /sys/fs/cgroup/cgroup.controllers ] && return
  [ -d /sys/fs/cgroup/systemd ] && return
  mkdir -p /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}

start() {
  local -a flags=(--pidfile "$PIDFILE" --host unix:///var/run/docker.sock)
  [ "$(id -u)" -eq 0 ] || die "no container engine answers, and starting one needs root: start docker, or run this as root"
  "$KIND_DIR/prepare.sh" engine
  # Where there is a service manager, the package has started it.
  if answers; then return; fi
  mkdir -p "$(dirname "$PIDFILE")"
  mount_cgroups
  mount_named_hierarchy
  if lacks_sys_resource; then
    # Outside the repository, so that a moved or removed checkout does not break running containers.
    install -m 0755 "$KIND_DIR/runc-bounded" "$CACHE/engine/runc-bounded"
    flags+=(--add-runtime "bounded=$CACHE/engine/runc-bounded" --default-runtime bounded)
  fi
  # A pid file that outlived its daemon (a reboot) would keep a new one from starting.
  if [ -f "$PIDFILE" ] && ! ours; then rm -f "$PIDFILE"; fi
  setsid nohup dockerd "${flags[@]}" >>"$LOG" 2>&1 </dev/null &
  wait_for "dockerd answers (its log: $LOG)" 60 answers
}

ours() { [ -f "$PIDFILE" ] && [ "$(cat "/proc/$(cat "$PIDFILE")/comm" 2>/dev/null)" = dockerd ]; }

stop() {
  local pid
  if ! ours; then
    say "no engine of ours is running"
    return
  fi
  pid=$(cat "$PIDFILE")
  kill "$pid"
  wait_for "dockerd $pid ends" 60 ended "$pid"
}

ended() { ! kill -0 "$1" 2>/dev/null; }

case ${1:-start} in
  start) if answers; then say "container engine: the one that is running"; else step "starting a container engine" start; fi ;;
  stop) step "stopping our container engine" stop ;;
  *) die "usage: engine.sh [start|stop]" ;;
esac
