#!/bin/bash
# All tests that were built: test.sh STAGE SWIFT-FLAGS ...
#
# VM=…/vmrun.sh names the script that runs a command under another kernel; without one the parts that need it are skipped.
#
# One test target after the other: together they are hundreds of tests at once on two cores, and those that wait for a condition wait for the others.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=$1
shift
export APUS_STAGE=$stage STAGE=$stage
failed=()
skipped=()
part() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
    printf '== %s took %d s\n' "$name" $((SECONDS - begin))
}
# A build leaves gigabytes to be written; until they are, whatever syncs to the same disk waits, for a minute and more.
sync
# A newer one than Debian's, which does as well.
contrib/peers.sh || echo "Python's grpcio could not be fetched: Debian's is used" >&2
# Nothing is skipped for want of a program: that is a failure.
export APUS_COMPLETE=1
for folder in Tests/*Tests Tests/Simulation; do
    target=${folder#Tests/}
    [ "$target" = Simulation ] && target=SimulationTests
    # Engines, registries and containers are many processes for each test.
    if [ "$target" = EngineTests ] || [ "$target" = ClusterTests ] || [ "$target" = NetworkTests ]; then export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=2; else unset SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH; fi
    part "$target" timeout 1200 swift test --skip-build "$@" --disable-xctest --filter "^$target\\."
done
part "contrib/examples" timeout 900 contrib/examples/test.sh "$stage"
part "contrib/examples: a certificate authority" timeout 900 contrib/examples/test-ca.sh "$stage"
part "contrib/examples: a network driver" timeout 900 contrib/examples/test-network.sh "$stage"
part "contrib/examples: a runtime" timeout 900 contrib/examples/test-runtime.sh "$stage"
export VM=${VM:-$PWD/../shared/vm/vmrun.sh}
# The kernel of the virtual machine has no say in which build is tested: the one that the other parts tested.
TEST_BINARY="$(swift build "$@" --show-bin-path)/apusPackageTests.xctest"
export TEST_BINARY
while read -r script what; do
    if [ -x "$VM" ]; then
        part "Tests/VM: $what" timeout 1500 "Tests/VM/$script.sh" </dev/null
    else
        skipped+=("Tests/VM: $what")
        printf '\n== %s: skipped, there is no %s; set VM to a script that runs a command under another kernel\n' "Tests/VM: $what" "$VM"
    fi
done <<END
balancer balancer/ipvs
encryption encrypted networks
runtime unified cgroups with crun
networks networks of whole engines with balancer/ipvs
END
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}"
    exit 1
fi
printf '\nall tests passed in %d s' "$SECONDS"
[ ${#skipped[@]} = 0 ] || printf ', %d parts were skipped' "${#skipped[@]}"
echo
