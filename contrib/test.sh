#!/bin/bash
# All tests that were built: test.sh STAGE SWIFT-FLAGS ...
#
# One test target after the other: together they are hundreds of tests at once on two cores, and those that wait for a condition wait for the others.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=$1
shift
export APUS_STAGE=$stage
failed=()
part() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
    printf '== %s took %d s\n' "$name" $((SECONDS - begin))
}
for folder in Tests/*Tests; do
    target=${folder#Tests/}
    part "$target" timeout 1200 swift test --skip-build "$@" --disable-xctest --filter "^$target\\."
done
part "contrib/examples" timeout 900 contrib/examples/test.sh "$stage"
if [ -x Tests/VM/runtime.sh ]; then part "unified cgroups with crun" timeout 1200 Tests/VM/runtime.sh; fi
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}"
    exit 1
fi
printf '\nall tests passed in %d s\n' "$SECONDS"
