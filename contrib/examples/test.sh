#!/bin/bash
# The way of a plugin's author, from the package to its removal, with an engine of its own that nothing else notices. test.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/apus-examples-XXXXXX)
chmod 755 "$work"
export APUS_PLUGIN_API=$here/../../Sources/PluginAPI
apus() { "$stage/bin/apus" --host "unix://$work/apus.sock" "$@"; }
engine=

finish() {
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

fail() { echo "FAILED: $*" >&2; tail -20 "$work/log" >&2 || true; exit 1; }
state() { apus plugin ls --format '{{.Name}} {{.State}}' | sed -n "s|^$1 ||p"; }
expect() { [ "$(state "$1")" = "$2" ] || fail "$1 is \"$(state "$1")\", not \"$2\""; }

start() {
    "$stage/bin/apusd" --host "unix://$work/apus.sock" --data-root "$work/data" --exec-root "$work/run" --plugin-dir "$work/plugins" >>"$work/log" 2>&1 &
    engine=$!
    for _ in $(seq 100); do
        apus version >/dev/null 2>&1 && return
        kill -0 "$engine" 2>/dev/null || fail "apusd ended"
        sleep 0.1
    done
    fail "apusd does not answer"
}

stop() {
    kill "$engine"
    wait "$engine" || true
    engine=
}

cp -r "$here/scheduler-roundrobin" "$work/package"
rm -rf "$work/package/.build"
(cd "$work/package" && swift test && swift build -c release)

start
apus plugin install "$work/package/.build/release/libSchedulerRoundrobin.so"
[ -f "$work/plugins/scheduler-roundrobin.so" ] || fail "it is not in the folder of --plugin-dir"
expect scheduler/roundrobin available
grep -q scheduler-roundrobin.so "/proc/$engine/maps" && fail "it was loaded before it was enabled"
apus plugin enable scheduler/roundrobin
expect scheduler/roundrobin enabled
expect scheduler/spread disabled
stop
start
expect scheduler/roundrobin enabled
apus plugin disable scheduler/roundrobin
expect scheduler/roundrobin disabled
expect scheduler/spread enabled
apus plugin rm scheduler/roundrobin
[ -z "$(state scheduler/roundrobin)" ] || fail "it is still listed"
echo "the example was built, tested, enabled, kept over a restart, disabled and removed"
