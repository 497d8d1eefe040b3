#!/bin/bash
# The way of a runtime's author: made, built apart, tested, installed, used by containers and a service, kept over a restart, removed.
# With an engine of its own in a network namespace of its own; nothing is left behind. test-runtime.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
engines="1"
. "$here/engines.sh"

service_tasks() { apus service ps --no-trunc --filter desired-state=running --format '{{.ID}} {{.CurrentState}} {{.Error}}' "$1"; }
running() { [ "$(service_tasks "$1" | grep -c ' Running')" = "$2" ]; }
waits() { service_tasks "$1" | grep "Pending.*$2" >/dev/null; }
rejected() { apus service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' "$1" | grep "Rejected.*$2" >/dev/null; }
processes() { apus ps --quiet --no-trunc --filter label=com.docker.swarm.service.name="$1" | xargs -r "$stage/bin/apus" inspect --format '{{.State.Pid}}' | sort; }
answers() { inside 1 curl --silent --show-error --max-time 5 http://127.0.0.1:8080/ | grep "from a file of this machine" >/dev/null; }
logged() { apus service logs --raw "$1" 2>&1 | grep "$2" >/dev/null; }

step "apus plugin new: a package, with the committed logic and its tests put in"
make_plugin runtime process "$here/runtime-process" Entry ProcessRuntime ProcessRuntime+Life ProcessRuntime+Looking ProcessRuntime+Watch ProcessPlan \
    ProcessIdentity ProcessLog Monitor Blocking FieldArchive File Signals

step "an engine; a runtime that is not there"
make_nodes
start 1
apus swarm init --advertise-addr "$(address 1)" >/dev/null
refused 'there is no runtime "process"' apus run --runtime process sleep 1
mkdir "$root/www"
echo "from a file of this machine" >"$root/www/index.html"
apus service create --detach --name web --runtime process --replicas 2 -p 8080:80 --workdir "$root/www" --restart-delay 100ms --stop-signal SIGINT \
    --stop-grace-period 5s python3 -u -m http.server 80 >/dev/null
until_so "web does not wait" waits web 'without the runtime plugin "process"'
service_tasks web

step "apus plugin install, enable: the tasks run, as processes of this machine, with a port that is published"
apus plugin install "$library"
expect 1 runtime/process available
apus plugin enable runtime/process
expect 1 runtime/process enabled
apus info --format json | grep '"process"' >/dev/null || fail "info does not list the runtime"
until_so "the tasks of web do not run" running web 2
until_so "the published port does not answer" answers
until_so "there is no log" logged web 'GET / HTTP'
for number in $(processes web); do ps -o pid=,args= -p "$number"; done
[ "$(processes web | wc -l)" = 2 ] || fail "not two processes: $(processes web)"

step "a container of the node, with its exit code; beside it one of the usual runtime"
code=0
output=$(apus run --rm --runtime process --env A=1 --hostname box sh -c 'echo $A of $(hostname); exit 7') || code=$?
[ "$code $output" = "7 1 of box" ] || fail "exit code $code, output \"$output\""
"$images/build-images.sh"
apus load --quiet --input "${APUS_IMAGE_CACHE:-/var/cache/apus-images}/busybox.tar"
apus run --detach --name usual busybox:latest sleep 1000 >/dev/null
apus run --detach --name plain --runtime process sleep 1000 >/dev/null
apus ps --format '{{.Names}} {{.Image}} {{.Command}}'

step "what a process cannot have is refused by name"
refused "limits no memory" apus run --runtime process --memory 64m sleep 1
refused "executable file not found" apus run --runtime process --rm host no-such-program
refused 'there is no program' apus run --runtime process no-such-program
apus service create --detach --name mounted --runtime process --mount type=tmpfs,target=/x sleep 1000 >/dev/null
until_so "mounted is not refused" rejected mounted "has no mounts"
apus service rm mounted >/dev/null

step "the engine is killed and comes back: the same tasks, the same processes"
before="$(service_tasks web | cut -d' ' -f1 | sort) $(processes web)"
murder 1
answers || fail "without an engine the published port does not answer"
start 1
expect 1 runtime/process enabled
until_so "the tasks of web do not run" running web 2
[ "$(service_tasks web | cut -d' ' -f1 | sort) $(processes web)" = "$before" ] || fail "not the same: $(service_tasks web) $(processes web)"
answers || fail "the published port does not answer"

step "a process dies: another takes its place"
victim=$(processes web | head -1)
kill -9 "$victim"
replaced() { running web 2 && [ "$(processes web | wc -l)" = 2 ] && ! processes web | grep -qx "$victim"; }
until_so "the process was not replaced" replaced
apus service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' web | grep -m1 'non-zero exit (137)' || fail "no task says that it was killed"

step "removal is refused while it is used; then nothing of it is left"
refused "in use" apus plugin disable runtime/process
apus service rm web >/dev/null
gone() { [ -z "$(apus ps --all --quiet --filter label=com.docker.swarm.service.name=web)" ]; }
until_so "the tasks of web stay" gone
# Those too that could not be started.
apus ps --all --quiet | xargs -r "$stage/bin/apus" rm --force >/dev/null
apus plugin disable runtime/process
apus plugin rm runtime/process
[ -z "$(state 1 runtime/process)" ] || fail "it is still listed"
left=$(find "$root/1/data/plugins/runtime/process/containers" "$root/1/data/plugins/runtime/process/exits" -mindepth 1 ! -name bell)
[ -z "$left" ] || fail "this is left: $left"
! pgrep -f "conmon .*$root/1/data/plugins" || fail "conmon is left"
echo "the example was made, built, tested, enabled, used, kept over a restart, disabled and removed"
