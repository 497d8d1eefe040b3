#!/bin/bash
# runtime.sh [-b BACKEND] [FILTER]
# Runs the runtime's container tests on unified cgroups with crun, as a stock Debian 12 has them, in a virtual machine.
#
# The tests must be built: swift build --build-tests. FILTER is "RuntimeTests.Containers" by default: the image tests need no other kernel.
# guest.sh says what VM and TEST_BINARY are.
set -eu
. "$(dirname "$0")/guest.sh"
need_vm
need_tests
run_tests 300 "${1:-RuntimeTests.Containers}" "
    [ -e /sys/fs/cgroup/cgroup.controllers ] || { echo 'the cgroups are not unified' >&2; exit 1; }
    cat /sys/fs/cgroup/cgroup.controllers
    crun --version | head -n 1"
