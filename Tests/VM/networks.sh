#!/bin/bash
# networks.sh [-b BACKEND] [FILTER]
# Runs the tests of networks over three whole engines with balancer/ipvs, in a virtual machine whose kernel has IPVS.
#
# The tests must be built and staged: swift build --build-tests, contrib/stage.sh. FILTER runs those tests alone. guest.sh says what VM and
# TEST_BINARY are; STAGE=… is another stage, BALANCER=nftables another balancer.
set -eu
. "$(dirname "$0")/guest.sh"
while getopts b: option; do
    case $option in
    b) backend=$OPTARG ;;
    *) sed -n 2,3p "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
need_vm
need_tests
stage=$(realpath "${STAGE:-$here/.build/stage}")
[ -x "$stage/bin/apusd" ] || { echo "networks.sh: $stage/bin/apusd is missing: make stage" >&2; exit 2; }
# Made here, because the guest has no way out.
"$here/contrib/images/build-images.sh"
WIDTH=1 run_tests "${TIME_LIMIT:-900}" "${1:-ClusterTests/Networks}" "
    export APUS_STAGE='$stage' APUS_CLUSTER_BALANCER='${BALANCER:-ipvs}'
    # Containers of engines live below the guest's own cgroup, which must hold no process itself.
    mkdir -p /sys/fs/cgroup/init && for process in \$(cat /sys/fs/cgroup/cgroup.procs); do echo \$process > /sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true; done
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
