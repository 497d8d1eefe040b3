# What the tests of the examples share: engines of their own, each in a network namespace of its own, all on one link. Sourced; the caller
# has set `stage` and `engines`, a list of numbers.
[ "$(id -u)" = 0 ] || { echo "$0 must be root: it makes network namespaces" >&2; exit 1; }

# The engine refuses plugins in folders that others may write; whatever the caller's umask is, these are root's.
umask 022
mark=apus-test-$(tr -dc a-z0-9 </dev/urandom | head -c 10 || true)
root=/run/$mark
mkdir "$root"
work=$(mktemp -d /var/tmp/apus-examples-XXXXXX)
export APUS_HOST=unix://$root/1/apus.sock
unset APUS_PLUGIN_API
declare -A process=()
images=$(cd "$(dirname "${BASH_SOURCE[0]}")/../images" && pwd)

address() { echo "192.0.2.$1"; }
inside() { local engine=$1; shift; nsenter --net="/run/netns/$mark-$engine" "$@"; }
apus() { "$stage/bin/apus" "$@"; }
apus_at() { local engine=$1; shift; apus --host "unix://$root/$engine/apus.sock" "$@"; }
ended() { [ -z "${process[$1]:-}" ] || ! kill -0 "${process[$1]}" 2>/dev/null; }

step() { printf -- '-- %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    local engine
    for engine in $engines; do
        [ ! -s "$root/$engine/log" ] || { echo "the log of engine $engine ends:" >&2; tail -20 "$root/$engine/log" >&2; }
    done
    exit 1
}
state() { apus_at "$1" plugin ls --format '{{.Name}} {{.State}}' | sed -n "s|^$2 ||p"; }
expect() { [ "$(state "$1" "$2")" = "$3" ] || fail "$2 of engine $1 is \"$(state "$1" "$2")\", not \"$3\""; }
# Waits until the command succeeds: until WHAT COMMAND ...
until_so() {
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "$what: $("$@" 2>&1)"
}
refused() {
    local word=$1 answer
    shift
    if answer=$("$@" 2>&1); then fail "this was not refused: $*"; fi
    grep -q -- "$word" <<<"$answer" || fail "refused, but not because of \"$word\": $answer"
    echo "$answer"
}

# Engines, by the number of nodes: one bridge beside them.
make_nodes() {
    local engine
    ip netns add "$mark-hub"
    ip -n "$mark-hub" link add hub type bridge
    ip -n "$mark-hub" link set hub up
    for engine in $engines; do
        ip netns add "$mark-$engine"
        ip -n "$mark-$engine" link set lo up
        ip -n "$mark-hub" link add "node$engine" type veth peer name eth0 netns "$mark-$engine"
        ip -n "$mark-hub" link set "node$engine" master hub up
        ip -n "$mark-$engine" address add "$(address "$engine")/24" dev eth0
        ip -n "$mark-$engine" link set eth0 up
    done
}

start() {
    local engine=$1 folder=$root/$1
    shift
    mkdir -p "$folder"
    # Not by inside(): a function in the background would be a shell, and $! its number. A host name of its own, for all engines are on one machine.
    nsenter --net="/run/netns/$mark-$engine" unshare --uts sh -c 'hostname "$0"; exec "$@"' "engine$engine" \
        "$stage/bin/apusd" --host "unix://$folder/apus.sock" --data-root "$folder/data" --exec-root "$folder/exec" \
        --plugin-dir "$folder/plugins" "$@" >>"$folder/log" 2>&1 </dev/null &
    process[$engine]=$!
    for _ in $(seq 300); do
        apus_at "$engine" version >/dev/null 2>&1 && return
        ! ended "$engine" || fail "apusd of engine $engine ended"
        sleep 0.1
    done
    fail "apusd of engine $engine does not answer"
}

# Fails when it must be killed.
stop() {
    local engine=$1 killed=0
    [ -n "${process[$engine]:-}" ] || return 0
    kill "${process[$engine]}" 2>/dev/null || true
    for _ in $(seq 200); do
        ended "$engine" && break
        sleep 0.1
    done
    ended "$engine" || { kill -9 "${process[$engine]}"; killed=1; }
    wait "${process[$engine]}" 2>/dev/null || true
    process[$engine]=
    return $killed
}

# A registry beside an engine, on port 5000 of its loopback, with the image busybox. It ends with everything else.
start_registry() {
    "$images/build-images.sh"
    inside "$1" "$images/registry.sh" start 5000 "$root/registry"
    inside "$1" python3 "$images/push.py" "${APUS_IMAGE_CACHE:-/var/cache/apus-images}/busybox.tar" http://127.0.0.1:5000 library/busybox:latest
}

# As when the machine's memory is full.
murder() {
    kill -9 "${process[$1]}"
    wait "${process[$1]}" 2>/dev/null || true
    process[$1]=
}

finish() {
    status=$?
    trap - EXIT
    set +e
    for engine in $engines; do
        stop "$engine" || { echo "FAILED: engine $engine did not end by itself" >&2; status=1; }
        [ -d "$root/$engine" ] || continue
        inside "$engine" "$stage/bin/apusd" clean --data-root "$root/$engine/data" --exec-root "$root/$engine/exec" \
            --plugin-dir "$root/$engine/plugins" >>"$root/$engine/log" 2>&1 ||
            { echo "FAILED: apusd clean:" >&2; tail -3 "$root/$engine/log" >&2; status=1; }
    done
    [ ! -d "$root/registry" ] || "$images/registry.sh" stop "$root/registry"
    for namespace in $engines hub; do
        [ ! -e "/run/netns/$mark-$namespace" ] || ip netns del "$mark-$namespace"
    done
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

# make_plugin ROLE NAME EXAMPLE FILE ...: what `apus plugin new` writes, with the committed tests and the files named put in; tested and built.
make_plugin() {
    local role=$1 name=$2 example=$3 module part
    shift 3
    apus plugin new --path "$work/package" "$role" "$name" 2>&1
    module=$(cd "$work/package/Sources" && echo *)
    rm -r "$work/package/Tests/${module}Tests"
    cp -r "$example/Tests/${module}Tests" "$work/package/Tests/"
    for part in "$@"; do cp "$example/Sources/$module/$part.swift" "$work/package/Sources/$module/"; done
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
    library=$work/package/.build/release/lib$module.so
}
