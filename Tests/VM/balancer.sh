#!/bin/bash
# balancer.sh [-b BACKEND] [FILTER]
# Runs the tests of the balancer ipvs in a virtual machine whose kernel has IPVS, and those of the mesh with ipvs on some of the engines.
#
# The tests must be built: swift build --build-tests. FILTER runs those tests alone; MESH_BALANCERS="ipvs" or "ipvs nftables" then says which
# balancers the engines of MeshTests have. guest.sh says what VM and TEST_BINARY are.
set -eu
. "$(dirname "$0")/guest.sh"
need_vm
need_tests
check="[ -e /proc/sys/net/ipv4/vs/conntrack ] || { echo 'the kernel has no IPVS' >&2; exit 1; }
    uname -r"
if [ $# -gt 0 ]; then
    [ -z "${MESH_BALANCERS:-}" ] || check="$check
    export APUS_MESH_BALANCERS=${MESH_BALANCERS// /,}"
    run_tests 240 "$1" "$check"
    exit
fi
run_tests 240 'NetworkTests\.IPVS' "$check"
for balancers in ipvs ipvs,nftables nftables,ipvs; do
    echo "the mesh with $balancers"
    run_tests 240 'NetworkTests\.MeshTests' "$check
    export APUS_MESH_BALANCERS=$balancers"
done
