#!/bin/bash
# Ends what run.sh started and leaves nothing behind. stop.sh STAGE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=$1
# shellcheck source=common.sh
. "$here/common.sh"
PATH=$stage/bin:$PATH

for engine in $engines; do
    if running "$engine"; then
        kill "$(process "$engine")"
        while running "$engine"; do sleep 0.05; done
    fi
    name=$(namespace "$engine")
    if [ -e "/run/netns/$name" ]; then
        nsenter --net="/run/netns/$name" "$stage/bin/apusd" clean --data-root "$data/$engine" --exec-root "$root/$engine/exec"
        ip netns del "$name"
    fi
done
"$here/../images/registry.sh" stop "$registry_data"
# A namespace takes its end of the cable with it, when the kernel comes to it.
for engine in $engines; do
    if [ -e "/sys/class/net/apusdemo$engine" ]; then ip link del "apusdemo$engine" 2>/dev/null || true; fi
done
if [ -e "/sys/class/net/$bridge" ]; then ip link del "$bridge"; fi
rm -rf "$root" "$data" "$registry_data"
echo "everything that make run started has ended"
