#!/bin/bash
# The way of a certificate authority's author: made, built apart, tested, installed, enabled, a swarm begun with it, removed.
# With an engine of its own in a network namespace of its own; nothing is left behind. test-ca.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
example=$(cd "$(dirname "$0")" && pwd)/ca-openssl
[ "$(id -u)" = 0 ] || { echo "test-ca.sh must be root: it makes network namespaces" >&2; exit 1; }
umask 022
namespace=apus-test-$(tr -dc a-z0-9 </dev/urandom | head -c 10 || true)
root=/run/$namespace
mkdir "$root"
work=$(mktemp -d /var/tmp/apus-examples-XXXXXX)
export APUS_HOST=unix://$root/apus.sock
unset APUS_PLUGIN_API
engine=

apus() { "$stage/bin/apus" "$@"; }
engine_ended() { [ -z "$engine" ] || ! kill -0 "$engine" 2>/dev/null; }
stop() {
    [ -n "$engine" ] || return 0
    kill "$engine" 2>/dev/null || true
    for _ in $(seq 200); do engine_ended && break; sleep 0.1; done
    engine_ended || kill -9 "$engine"
    wait "$engine" 2>/dev/null || true
    engine=
}
finish() {
    status=$?
    trap - EXIT
    set +e
    stop
    if [ -e "/run/netns/$namespace" ]; then
        nsenter --net="/run/netns/$namespace" "$stage/bin/apusd" clean --data-root "$root/data" --exec-root "$root/exec" >>"$root/log" 2>&1
        ip netns del "$namespace"
    fi
    rm -rf --one-file-system "$root" "$work"
    exit $status
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
step() { printf -- '-- %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    [ ! -s "$root/log" ] || tail -20 "$root/log" >&2
    exit 1
}
state() { apus plugin ls --format '{{.Name}} {{.State}}' | sed -n "s|^$1 ||p"; }
expect() { [ "$(state "$1")" = "$2" ] || fail "$1 is \"$(state "$1")\", not \"$2\""; }

step "apus plugin new: a package, with the committed logic and its tests put in"
apus plugin new --path "$work/package" ca openssl 2>&1
rm -r "$work/package/Tests/AuthorityOpensslTests"
cp -r "$example/Tests/AuthorityOpensslTests" "$work/package/Tests/"
for part in OpensslAuthority Workshop Command; do cp "$example/Sources/AuthorityOpenssl/$part.swift" "$work/package/Sources/AuthorityOpenssl/"; done
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

step "an engine of its own; apus plugin install, enable"
ip netns add "$namespace"
nsenter --net="/run/netns/$namespace" ip link set lo up
nsenter --net="/run/netns/$namespace" "$stage/bin/apusd" --host "$APUS_HOST" --data-root "$root/data" --exec-root "$root/exec" \
    --plugin-dir "$root/plugins" >>"$root/log" 2>&1 </dev/null &
engine=$!
for _ in $(seq 300); do
    if apus version >/dev/null 2>&1; then break; fi
    ! engine_ended || fail "apusd ended"
    sleep 0.1
done
apus plugin install "$work/package/.build/release/libAuthorityOpenssl.so"
expect ca/openssl available
apus plugin enable ca/openssl
expect ca/openssl enabled

step "a swarm that begins with it: its certificates are on openssl's own record"
apus swarm init --advertise-addr 127.0.0.1 >/dev/null
index=$(find "$root/data" -name index.txt | head -1)
[ -n "$index" ] || fail "there is no index of what was issued"
grep -q OU=swarm-manager "$index" || fail "the manager's certificate is not on record"
certificates=$root/data/swarm/certificates
openssl verify -CAfile "$certificates/swarm-root-ca.crt" "$certificates/swarm-node.crt"
[ -z "$(find "$root/exec" -name root.key)" ] || fail "the root key was left on the disk"

step "apus plugin disable, rm"
apus swarm leave --force >/dev/null
apus plugin disable ca/openssl
apus plugin rm ca/openssl
[ -z "$(state ca/openssl)" ] || fail "it is still listed"
echo "the example was made, built, tested, enabled, used and removed"
