#!/bin/bash
# balancer.sh [-b BACKEND] [FILTER]
# Runs the tests of the balancer ipvs in a virtual machine whose kernel has IPVS.
#
# The tests must be built: swift build --build-tests. FILTER is "NetworkTests.IPVS" by default. guest.sh says what VM and TEST_BINARY are.
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
run_tests 240 "${1:-NetworkTests\.IPVS}" "
    [ -e /proc/sys/net/ipv4/vs/conntrack ] || { echo 'the kernel has no IPVS' >&2; exit 1; }
    uname -r"
