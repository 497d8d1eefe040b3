#!/bin/bash
# networks.sh [-b BACKEND] [FILTER]
# Runs the tests of networks over three whole engines with balancer/ipvs, in a virtual machine whose kernel has IPVS.
#
# The tests must be built and staged: swift build --build-tests, contrib/stage.sh. FILTER runs those tests alone. guest.sh says what VM and
# TEST_BINARY are; STAGE=… is another stage, BALANCER=nftables another balancer.
set -eu
. "$(dirname "$0")/guest.sh"
need_vm
need_tests
need_stage
# Made here, because the guest has no way out.
"$here/contrib/images/build-images.sh"
WIDTH=1 run_tests "${TIME_LIMIT:-900}" "${1:-ClusterTests/Networks}" "
    export APUS_STAGE='$stage' APUS_CLUSTER_BALANCER='${BALANCER:-ipvs}'
    $engines_in_guest"
