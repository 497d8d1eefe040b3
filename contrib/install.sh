#!/bin/sh
# install.sh STAGE PREFIX: installs a staged tree.   install.sh --remove PREFIX: takes it away; data in /var/lib/apus stays.
set -eu
if [ "$1" = --remove ]; then
    rm -rf "$2/bin/apus" "$2/bin/apusd" "$2/lib/apus/libPluginAPI.so" "$2/libexec/apus" "$2/share/apus"
    for plugin in scheduler-spread scheduler-binpack ca-internal ca-external network-bridge network-overlay balancer-nftables balancer-ipvs runtime-oci; do
        rm -f "$2/lib/apus/plugins/$plugin.so"
    done
    exit 0
fi
umask 022
mkdir -p "$2"
cp -a "$1/bin" "$1/lib" "$1/libexec" "$1/share" "$2/"
