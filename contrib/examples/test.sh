#!/bin/bash
# The way of a plugin's author, from the first command to the last: made, built apart, tested, installed, enabled, used, disabled, removed.
# With an engine and a registry of its own, in a network namespace of its own; nothing is left behind. test.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
example=$here/scheduler-roundrobin
images=$here/../images
[ "$(id -u)" = 0 ] || { echo "test.sh must be root: it makes containers, networks and mounts" >&2; exit 1; }

# The engine refuses plugins in folders that others may write; whatever the caller's umask is, these are root's.
umask 022
namespace=apus-test-$(tr -dc a-z0-9 </dev/urandom | head -c 10 || true)
root=/run/$namespace
mkdir "$root"
work=$(mktemp -d /var/tmp/apus-examples-XXXXXX)
export APUS_HOST=unix://$root/apus.sock
unset APUS_PLUGIN_API
engine=

inside() { nsenter --net="/run/netns/$namespace" "$@"; }
apus() { "$stage/bin/apus" "$@"; }
engine_ended() { [ -z "$engine" ] || ! kill -0 "$engine" 2>/dev/null; }

finish() {
    status=$?
    trap - EXIT
    set +e
    stop || { echo "FAILED: the engine did not end by itself" >&2; status=1; }
    if [ -e "/run/netns/$namespace" ]; then
        inside "$stage/bin/apusd" clean --data-root "$root/data" --exec-root "$root/exec" >>"$root/log" 2>&1 ||
            { echo "FAILED: apusd clean:" >&2; tail -3 "$root/log" >&2; status=1; }
        [ ! -d "$root/registry" ] || "$images/registry.sh" stop "$root/registry"
        ip netns del "$namespace"
    fi
    if grep -F "$root/" /proc/self/mounts >&2; then
        echo "FAILED: these mounts were left" >&2
        grep -F "$root/" /proc/self/mounts | cut -d' ' -f2 | sort -r | xargs -r -n1 umount -l
        status=1
    fi
    rm -rf --one-file-system "$root" "$work"
    exit $status
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

step() { printf -- '-- %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    [ ! -s "$root/log" ] || { echo "the engine's log ends:" >&2; tail -20 "$root/log" >&2; }
    exit 1
}
state() { apus plugin ls --format '{{.Name}} {{.State}}' | sed -n "s|^$1 ||p"; }
expect() { [ "$(state "$1")" = "$2" ] || fail "$1 is \"$(state "$1")\", not \"$2\""; }
loaded() { grep -q "$1" "/proc/$engine/maps"; }
# The tasks of the service that are meant to run: id, node and state, one a line.
tasks() { apus service ps --no-trunc --filter desired-state=running --format '{{.ID}} {{.Node}} {{.CurrentState}}' turns; }
ids() { tasks | cut -d' ' -f1 | sort; }

start() {
    # Not by inside(): a function in the background would be a shell, and $! its number.
    nsenter --net="/run/netns/$namespace" "$stage/bin/apusd" --host "$APUS_HOST" --data-root "$root/data" --exec-root "$root/exec" \
        --plugin-dir "$root/plugins" --registry-mirror http://127.0.0.1:5000 >>"$root/log" 2>&1 </dev/null &
    engine=$!
    for _ in $(seq 300); do
        apus version >/dev/null 2>&1 && return
        ! engine_ended || fail "apusd ended"
        sleep 0.1
    done
    fail "apusd does not answer"
}

# Fails when it must be killed.
stop() {
    [ -n "$engine" ] || return 0
    kill "$engine" 2>/dev/null || true
    for _ in $(seq 200); do
        engine_ended && break
        sleep 0.1
    done
    local killed=0
    engine_ended || { kill -9 "$engine"; killed=1; }
    wait "$engine" 2>/dev/null || true
    engine=
    return $killed
}

# Waits until as many tasks run.
running() {
    for _ in $(seq 300); do
        [ "$(tasks | grep -c ' Running' || true)" = "$1" ] && return
        sleep 0.1
    done
    fail "of $1 tasks, these run: $(apus service ps --no-trunc turns)"
}

step "apus plugin new: a package, with the committed logic and its tests put in"
apus plugin new --path "$work/package" scheduler roundrobin 2>&1
for part in Sources/SchedulerRoundrobin/RoundrobinScheduler.swift Tests/SchedulerRoundrobinTests; do
    rm -r "$work/package/$part"
    cp -r "$example/$part" "$work/package/$part"
done
for part in $(cd "$example" && find Sources -name '*.swift'); do
    cmp "$example/$part" "$work/package/$part" || fail "the example's $part is not what apus plugin new writes"
done

step "swift test, swift build -c release"
(
    cd "$work/package"
    swift test --disable-xctest >"$work/build" 2>&1 || { cat "$work/build" >&2; exit 1; }
    tail -1 "$work/build"
    swift build -c release >"$work/build" 2>&1 || { cat "$work/build" >&2; exit 1; }
) || fail "the package does not build, or its tests fail"

step "an engine, and a service that spread places"
ip netns add "$namespace"
inside ip link set lo up
"$images/build-images.sh"
inside "$images/registry.sh" start 5000 "$root/registry"
inside python3 "$images/push.py" "${APUS_IMAGE_CACHE:-/var/cache/apus-images}/busybox.tar" http://127.0.0.1:5000 library/busybox:latest
start
apus swarm init --advertise-addr 127.0.0.1 >/dev/null
apus service create --detach --name turns --replicas 2 --stop-grace-period 1s busybox:latest sleep 1000000 >/dev/null
running 2
before=$(ids)

step "apus plugin install: listed, and not loaded"
apus plugin install "$work/package/.build/release/libSchedulerRoundrobin.so"
[ -f "$root/plugins/scheduler-roundrobin.so" ] || fail "it is not in the folder of --plugin-dir"
expect scheduler/roundrobin available
! loaded scheduler-roundrobin.so || fail "it was loaded before it was enabled"

step "apus plugin enable: in use at once, and no running task moves"
apus plugin enable scheduler/roundrobin
expect scheduler/roundrobin enabled
expect scheduler/spread disabled
loaded scheduler-roundrobin.so || fail "it is enabled and not loaded"
apus service scale --detach turns=4 >/dev/null
running 4
[ "$(comm -12 <(echo "$before") <(ids) | wc -l)" = 2 ] || fail "tasks moved: $(tasks)"
before=$(ids)

step "a new engine: remembered, the tasks are still there, and it alone places the next ones"
stop || fail "the engine did not end at SIGTERM"
start
expect scheduler/roundrobin enabled
expect scheduler/spread available
! loaded scheduler-spread.so || fail "spread is loaded, so nobody can tell who placed a task"
running 4
[ "$(ids)" = "$before" ] || fail "tasks moved: $(tasks)"
apus service scale --detach turns=6 >/dev/null
running 6
# A reason of its own for what fits nowhere.
apus service update --detach --constraint-add node.role==worker --update-order start-first turns >/dev/null
for _ in $(seq 100); do
    apus service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' turns | grep '^Pending.*no suitable node' >/dev/null && break
    sleep 0.1
done
apus service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' turns | grep -m1 '^Pending.*no suitable node' ||
    fail "no task says why it waits: $(apus service ps --no-trunc turns)"

step "removal is refused while it is enabled; then apus plugin disable, apus plugin rm"
if answer=$(apus plugin rm scheduler/roundrobin 2>&1); then fail "an enabled plugin was removed"; fi
echo "$answer"
apus plugin disable scheduler/roundrobin
expect scheduler/roundrobin disabled
expect scheduler/spread enabled
apus plugin rm scheduler/roundrobin
[ -z "$(state scheduler/roundrobin)" ] || fail "it is still listed"
[ ! -e "$root/plugins/scheduler-roundrobin.so" ] || fail "its file is still there"
apus service update --detach --constraint-rm node.role==worker turns >/dev/null
running 6

apus service rm turns >/dev/null
echo "the example was made, built, tested, enabled, used, kept over a restart, disabled and removed"
