#!/bin/sh
# Lays what was built out as it is installed: stage.sh BUILD-FOLDER STAGE
set -eu
built=$1
stage=$2
# Copied beside and renamed: a running engine keeps the files that it has mapped.
put() {
    if ! cmp -s "$1" "$2"; then
        install -m "$3" "$1" "$2.new"
        mv -f "$2.new" "$2"
    fi
}
umask 022
mkdir -p "$stage/bin" "$stage/lib/apus/plugins" "$stage/libexec/apus"
put "$built/apus" "$stage/bin/apus" 755
put "$built/apusd" "$stage/bin/apusd" 755
put "$built/apus-unpack" "$stage/libexec/apus/apus-unpack" 755
put "$built/libPluginAPI.so" "$stage/lib/apus/libPluginAPI.so" 644
# What authors of plugins build against.
api=$stage/share/apus/PluginAPI
sources=$(dirname "$0")/../Sources/PluginAPI
mkdir -p "$api"
if ! diff -qr "$sources/Sources" "$api/Sources" >/dev/null 2>&1 || ! cmp -s "$sources/Package.swift" "$api/Package.swift"; then
    rm -rf "$api/Sources"
    cp -R "$sources/Package.swift" "$sources/Sources" "$api/"
fi
while read -r product plugin; do
    put "$built/lib$product.so" "$stage/lib/apus/plugins/$plugin.so" 644
done <<END
SchedulerSpread scheduler-spread
SchedulerBinpack scheduler-binpack
CAInternal ca-internal
CAExternal ca-external
NetworkBridge network-bridge
NetworkOverlay network-overlay
BalancerNFTables balancer-nftables
BalancerIPVS balancer-ipvs
RuntimeOCI runtime-oci
END
