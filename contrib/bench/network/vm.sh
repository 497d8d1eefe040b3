#!/bin/bash
# Measures the networks inside a virtual machine whose kernel has IPVS: of Apus with balancer/ipvs, of Apus with balancer/nftables, and of Debian's
# docker.io. One processor, a slow one: only ratios mean anything. What a thousand services cost is asked of Apus alone. vm.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
vm=${VM:-$here/../../../../shared/vm/vmrun.sh}
[ -x "$vm" ] || { echo "skipped: there is no $vm; set VM to a script that runs a command under another kernel"; exit 0; }
# Made here, because the guest has no way out.
"$here/../../images/build-images.sh"
export VM=$vm STAGE=$stage TIME_LIMIT=2400
for engine in "apus --balancer ipvs" "apus --balancer nftables" docker; do
    parts="requests throughput scale"
    [ "$engine" = docker ] || parts="$parts services"
    # shellcheck disable=SC2086
    "$here/../../../Tests/VM/swarm.sh" python3 "$here/network.py" --stage "$stage" --engine $engine --parts $parts \
        --rounds "${ROUNDS:-7}" --seconds 2 || exit
done
