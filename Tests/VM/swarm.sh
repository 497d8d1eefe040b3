#!/bin/bash
# swarm.sh [-b BACKEND] COMMAND [ARGUMENT...]
# Runs a command in a virtual machine whose kernel has IPVS and ESP, beside the engine that was staged.
#
# The command finds apus and apusd on its PATH, and their folder, `make stage`'s, in APUS_STAGE. The guest has one CPU, no network device, this
# machine's files below a tmpfs, and unified cgroups; what it writes is gone afterwards. guest.sh says what VM is. STAGE=… is another stage,
# MEMORY=… the guest's memory in MiB.
#
#   Tests/VM/swarm.sh sh -c 'apusd & sleep 5; apus plugin enable balancer/ipvs; apus info'
set -eu
. "$(dirname "$0")/guest.sh"
[ $# -gt 0 ] || { sed -n 2,3p "$0" >&2; exit 2; }
need_vm
need_stage
in_guest "${MEMORY:-4096}" 600 "
    export APUS_STAGE='$stage' PATH='$stage/bin':\$PATH:/opt/swift/usr/bin
    $engines_in_guest
    $(printf '%q ' "$@")"
