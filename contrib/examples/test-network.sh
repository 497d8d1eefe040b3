#!/bin/bash
# The way of a network driver's author: made, built apart, tested, installed, used by services on two engines, kept over a restart, removed.
# With engines of its own in network namespaces of their own; nothing is left behind. test-network.sh STAGE
set -euo pipefail
stage=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
engines="1 2"
. "$here/engines.sh"

# What the tasks of a service say of themselves: service_tasks SERVICE
service_tasks() { apus service ps --no-trunc --filter desired-state=running --format '{{.ID}} {{.Node}} {{.CurrentState}} {{.Error}}' "$1"; }
running() { [ "$(service_tasks "$1" | grep -c ' Running')" = "$2" ]; }
waits() { service_tasks "$1" | grep "Pending.*$2" >/dev/null; }
logged() { [ "$(apus service logs --raw "$1" | sort -u | grep -c "$2")" = "$3" ]; }
forgotten() { ! ip -n "$mark-$1" -o link show type veth | grep ' rt' >/dev/null && ! ip -n "$mark-$1" route show | grep 'proto 14[23]' >/dev/null; }

step "apus plugin new: a package, with the committed logic and its tests put in"
make_plugin network routed "$here/network-routed" RoutedNetwork RoutedPlan Command

step "two engines, a swarm"
make_nodes
start 1
start 2
apus swarm init --advertise-addr "$(address 1)" >/dev/null
apus_at 2 swarm join --token "$(apus swarm join-token -q worker)" --advertise-addr "$(address 2)" "$(address 1):2377" >/dev/null
"$images/build-images.sh"
# Of mywebapp only busybox is used; unlike the image busybox it has what glibc needs to look a name up.
for engine in $engines; do apus_at "$engine" load --quiet --input "${APUS_IMAGE_CACHE:-/var/cache/apus-images}/mywebapp.tar"; done

step "a driver that is not there"
refused 'plugin "routed" not found' apus network create -d routed plain

step "apus plugin install, enable on one engine; what the driver cannot do is refused"
apus plugin install "$library"
expect 1 network/routed available
refused "is not enabled\|not found" apus network create -d routed plain
apus plugin enable network/routed
expect 1 network/routed enabled
refused "does not know the option parent" apus network create -d routed --opt parent=eth0 plain
refused "leave --internal out" apus network create -d routed --internal plain
apus network create -d routed --subnet 10.9.0.0/24 plain >/dev/null
apus network ls --filter driver=routed

step "tasks go where the driver is, and wait where it is not"
page='mkdir -p /www/cgi-bin; printf "#!/bin/sh\necho Content-type: text/plain; echo; echo \$(hostname) saw \$REMOTE_ADDR\n" >/www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -h /www'
apus service create --detach --no-resolve-image --name web --replicas 2 --network plain --hostname 'web-{{.Task.Slot}}' -p 8080:80 \
    --stop-grace-period 1s mywebapp:latest sh -c "$page" >/dev/null
until_so "the tasks of web do not run" running web 2
! service_tasks web | grep engine2 >/dev/null || fail "a task is where the driver is not: $(service_tasks web)"
apus service create --detach --no-resolve-image --name far --network plain --constraint node.hostname==engine2 --stop-grace-period 1s \
    mywebapp:latest sh -c 'while :; do printf "GET /cgi-bin/who HTTP/1.0\r\n\r\n" | nc -w 5 web 80 | tail -n 1; sleep 0.2; done' >/dev/null
until_so "far does not wait" waits far 'without the network plugin "routed"'
service_tasks far

step "the other engine gets it: the task goes there, and finds the service by its name, across the link"
apus_at 2 plugin install "$library"
apus_at 2 plugin enable network/routed
until_so "the task of far does not run" running far 1
until_so "not both tasks of web answer" logged far '^web-[12] saw \[::ffff:10\.9\.0\.[0-9]*\]$' 2
apus service logs --raw far | sort | uniq -c | sort -rn | head -2
ip -n "$mark-1" route show root 10.9.0.0/24
for engine in $engines; do
    inside "$engine" curl --silent --show-error --max-time 5 "http://127.0.0.1:8080/cgi-bin/who" | grep ^web- >/dev/null || fail "the published port of engine $engine"
done

step "the engine is killed and comes back: the same tasks, the same routes"
before=$(service_tasks web | cut -d' ' -f1 | sort)
murder 1
start 1
expect 1 network/routed enabled
# Until it has a session again, no new task is placed on it.
both_ready() { [ "$(apus node ls --format '{{.Status}}' | grep -c '^Ready$')" = 2 ]; }
until_so "the engine is not ready" both_ready
until_so "the tasks of web do not run" running web 2
[ "$(service_tasks web | cut -d' ' -f1 | sort)" = "$before" ] || fail "tasks moved: $(service_tasks web)"
# Somebody took the routes away; the next task that comes brings them back.
ip -n "$mark-1" route flush root 10.9.0.0/24 proto 143
apus service scale --detach web=6 >/dev/null
until_so "the tasks of web do not run" running web 6
until_so "not all tasks of web answer" logged far '^web-[1-6] saw \[::ffff:10\.9\.0\.[0-9]*\]$' 6
ip -n "$mark-1" route show root 10.9.0.0/24 | grep ^unreachable >/dev/null || fail "the network's own route is missing"

step "removal is refused while it is used; then nothing of it is left"
refused "in use" apus plugin disable network/routed
refused "in use" apus network rm plain
apus service rm web far >/dev/null
until_so "the network stays" apus network rm plain
for engine in $engines; do until_so "something is left on engine $engine" forgotten "$engine"; done
for engine in $engines; do
    until_so "the driver of engine $engine stays in use" apus_at "$engine" plugin disable network/routed
    apus_at "$engine" plugin rm network/routed
    [ -z "$(state "$engine" network/routed)" ] || fail "it is still listed"
done
echo "the example was made, built, tested, enabled, used across two engines, kept over a restart, disabled and removed"
