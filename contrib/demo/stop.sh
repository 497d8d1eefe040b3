#!/bin/bash
# Ends what run.sh started and leaves nothing behind. stop.sh STAGE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=$1
# shellcheck source=common.sh
. "$here/common.sh"
PATH=$stage/bin:$PATH

if running; then
    apus swarm leave --force || true
    containers=$(apus ps -aq --no-trunc)
    # shellcheck disable=SC2086
    [ -z "$containers" ] || apus rm -f $containers
    kill "$(cat "$pid_file")"
    while running; do sleep 0.05; done
    "$stage/bin/apusd" clean --data-root "$data" --exec-root "$exec_root"
fi
rm -f "$pid_file" "$log"
"$here/../images/registry.sh" stop "$registry_data"
rm -rf "$registry_data"
echo "everything that make run started has ended"
