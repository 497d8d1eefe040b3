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
while getopts b: option; do
    case $option in
    b) backend=$OPTARG ;;
    *) sed -n 2,3p "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n 2,3p "$0" >&2; exit 2; }
need_vm
stage=$(realpath "${STAGE:-$here/.build/stage}")
[ -x "$stage/bin/apusd" ] || { echo "swarm.sh: $stage/bin/apusd is missing: make stage" >&2; exit 2; }
in_guest "${MEMORY:-4096}" 600 "
    export APUS_STAGE='$stage' PATH='$stage/bin':\$PATH:/opt/swift/usr/bin
    # Containers of engines live below the guest's own cgroup, which must hold no process itself.
    mkdir -p /sys/fs/cgroup/init && for process in \$(cat /sys/fs/cgroup/cgroup.procs); do echo \$process > /sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true; done
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    $(printf '%q ' "$@")"
