#!/bin/bash
# The way of a plugin's author, from the first command to the last: made, built apart, tested, installed, enabled, used, disabled, removed.
# With an engine and a registry of its own, in a network namespace of its own; nothing is left behind. test.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
engines="1"
. "$here/engines.sh"

loaded() { grep -q "$1" "/proc/${process[1]}/maps"; }
# The tasks of the service that are meant to run: id, node and state, one a line.
tasks() { apus service ps --no-trunc --filter desired-state=running --format '{{.ID}} {{.Node}} {{.CurrentState}}' turns; }
ids() { tasks | cut -d' ' -f1 | sort; }

running() { [ "$(tasks | grep -c ' Running')" = "$1" ]; }
await_running() { until_so "not $1 tasks run" running "$1"; }
waits() { apus service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' turns | grep '^Pending.*no suitable node'; }

step "apus plugin new: a package, with the committed logic and its tests put in"
make_plugin scheduler roundrobin "$here/scheduler-roundrobin" RoundrobinScheduler

step "an engine, and a service that spread places"
make_nodes
start_registry 1
start 1 --registry-mirror http://127.0.0.1:5000
apus swarm init --advertise-addr 127.0.0.1 >/dev/null
apus service create --detach --name turns --replicas 2 --stop-grace-period 1s busybox:latest sleep 1000000 >/dev/null
await_running 2
before=$(ids)

step "apus plugin install: listed, and not loaded"
apus plugin install "$library"
[ -f "$root/1/plugins/scheduler-roundrobin.so" ] || fail "it is not in the folder of --plugin-dir"
expect 1 scheduler/roundrobin available
! loaded scheduler-roundrobin.so || fail "it was loaded before it was enabled"

step "apus plugin enable: in use at once, and no running task moves"
apus plugin enable scheduler/roundrobin
expect 1 scheduler/roundrobin enabled
expect 1 scheduler/spread disabled
loaded scheduler-roundrobin.so || fail "it is enabled and not loaded"
apus service scale --detach turns=4 >/dev/null
await_running 4
[ "$(comm -12 <(echo "$before") <(ids) | wc -l)" = 2 ] || fail "tasks moved: $(tasks)"
before=$(ids)

step "a new engine: remembered, the tasks are still there, and it alone places the next ones"
stop 1 || fail "the engine did not end at SIGTERM"
start 1 --registry-mirror http://127.0.0.1:5000
expect 1 scheduler/roundrobin enabled
expect 1 scheduler/spread available
! loaded scheduler-spread.so || fail "spread is loaded, so nobody can tell who placed a task"
await_running 4
[ "$(ids)" = "$before" ] || fail "tasks moved: $(tasks)"
apus service scale --detach turns=6 >/dev/null
await_running 6
# A reason of its own for what fits nowhere.
apus service update --detach --constraint-add node.role==worker --update-order start-first turns >/dev/null
until_so "no task says why it waits" waits
waits | head -1 || true

step "removal is refused while it is enabled; then apus plugin disable, apus plugin rm"
refused "enabled" apus plugin rm scheduler/roundrobin
apus plugin disable scheduler/roundrobin
expect 1 scheduler/roundrobin disabled
expect 1 scheduler/spread enabled
apus plugin rm scheduler/roundrobin
[ -z "$(state 1 scheduler/roundrobin)" ] || fail "it is still listed"
[ ! -e "$root/1/plugins/scheduler-roundrobin.so" ] || fail "its file is still there"
apus service update --detach --constraint-rm node.role==worker turns >/dev/null
await_running 6

apus service rm turns >/dev/null
echo "the example was made, built, tested, enabled, used, kept over a restart, disabled and removed"
