#!/bin/bash
# runtime.sh [-b BACKEND] [TESTS]
# Runs the runtime's container tests on unified cgroups with crun, as a stock Debian 12 has them, in a virtual machine.
#
# The tests must be built: swift build --build-tests. TESTS is a filter, "RuntimeTests.Containers" by default: the image tests need no other kernel.
# VM=…/vmrun.sh names the script that runs a command under another kernel; TEST_BINARY=… the test program.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
vm=${VM:-$here/../shared/vm/vmrun.sh}
backend=uml
while getopts b: option; do
    case $option in
    b) backend=$OPTARG ;;
    *) sed -n 2,3p "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
filter=${1:-RuntimeTests.Containers}
[ -x "$vm" ] || { echo "runtime.sh: $vm is missing: set VM to the script that runs a command under another kernel" >&2; exit 2; }
binary=${TEST_BINARY:-$(swift build --package-path "$here" --show-bin-path)/apusPackageTests.xctest}
[ -x "$binary" ] || { echo "runtime.sh: $binary is missing: build it with swift build --build-tests" >&2; exit 2; }

# One CPU and slow forks: the tests wait for conditions, so they only take longer; few at a time, or all wait for all.
run() {
    "$vm" -b "$backend" -m 3072 -t "${TIME_LIMIT:-300}" "
        set -e
        [ -e /sys/fs/cgroup/cgroup.controllers ] || { echo 'the cgroups are not unified' >&2; exit 1; }
        cat /sys/fs/cgroup/cgroup.controllers
        crun --version | head -n 1
        export PATH=\$PATH:/opt/swift/usr/bin SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=2
        '$binary' --testing-library swift-testing --filter '$filter'"
}
# User-Mode Linux with CONFIG_VMAP_STACK hangs now and then, seen in one run of eight: a timer signal that comes while the kernel unmaps the
# stacks of ended tasks faults for ever where it copies the thread's information to the interrupt stack. The guest then gives no exit status
# (125), and nothing is known of the tests: they are run again. Tests that fail, or hang each time, still fail.
for attempt in 1 2 3 4; do
    status=0
    run || status=$?
    [ $status = 125 ] || exit $status
    echo "runtime.sh: the virtual machine gave no exit status (attempt $attempt of 4)" >&2
done
exit 125
