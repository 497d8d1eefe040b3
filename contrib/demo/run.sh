#!/bin/bash
# A tour: three engines make a swarm, a service of five runs over all of them, every task is asked, and the leader is killed. run.sh STAGE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=$1
# shellcheck source=common.sh
. "$here/common.sh"
PATH=$stage/bin:$PATH

[ "$(id -u)" = 0 ] || { echo "make run must be root: it makes containers, networks and mounts" >&2; exit 1; }
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[36m# %s\033[0m\n' "$*"; "$@"; }
now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.2f", to - from }'; }

for engine in $engines; do
    if running "$engine"; then
        echo "it runs already; make stop ends it" >&2
        exit 1
    fi
done

step "three machines: network namespaces on one bridge"
ip link add "$bridge" type bridge
ip addr add "$registry_address/24" dev "$bridge"
ip link set "$bridge" up
for engine in $engines; do
    name=$(namespace "$engine")
    ip netns add "$name"
    ip link add "apusdemo$engine" type veth peer name eth0 netns "$name"
    ip link set "apusdemo$engine" master "$bridge" up
    ip -n "$name" link set lo up
    ip -n "$name" addr add "$(address "$engine")/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via "$registry_address"
    echo "engine$engine has the address $(address "$engine")"
done

step "an nginx image from Debian's own packages, served by Debian's docker-registry"
"$here/../images/build-images.sh"
APUS_REGISTRY_HOST=$registry_address "$here/../images/registry.sh" start "$registry_port" "$registry_data"
for image in nginx busybox; do
    python3 "$here/../images/push.py" "/var/cache/apus-images/$image.tar" "http://$registry_address:$registry_port" "library/$image:latest"
done

step "three engines"
for engine in $engines; do
    start_engine "$engine"
    echo "engine$engine runs as process $(process "$engine"), its log is $(log "$engine")"
done
show apus version

step "a swarm of three managers"
show apus swarm init --advertise-addr "$(address 1)"
token=$(apus swarm join-token --quiet manager)
for engine in 2 3; do
    show apus_at "$engine" swarm join --token "$token" --advertise-addr "$(address "$engine")" "$(address 1):2377"
done
show apus node ls

step "a service of five replicas"
show apus service create --name frontend --replicas 5 -p 80:80/tcp nginx:latest

# Which task a container is, whichever engine has it.
task_of() {
    local engine
    for engine in $engines; do
        apus_at "$engine" ps --no-trunc --format '{{.ID}} {{.Names}}' 2>/dev/null |
            awk -v id="$1" -v engine="$engine" 'index($1, id) == 1 { split($2, part, "."); print part[1] "." part[2] " on engine" engine }'
    done
}
ask() {
    local answer engine wanted=$1
    declare -A answers=()
    for count in $(seq 20); do
        engine=$((count % 3 + 1))
        answer=$(curl -fsS --max-time 5 "http://$(address "$engine"):80/")
        answers[$answer]=$((${answers[$answer]:-0} + 1))
    done
    for answer in "${!answers[@]}"; do echo "$(task_of "$answer") answered ${answers[$answer]} times"; done | sort -V
    echo "${#answers[@]} of $wanted tasks answered"
}

step "port 80 of the three engines, asked twenty times"
ask 5

step "ten replicas"
show apus service scale frontend=10
ask 10
show apus service ps frontend

step "every subsystem is a plugin"
show apus plugin ls

step "the leader's engine is killed"
# A shorter silence than the usual five seconds, so that nobody waits long for the tasks.
apus swarm update --dispatcher-heartbeat 1s
sleep 3
for leader in $engines; do
    [ "$(apus_at "$leader" node inspect self --format '{{.ManagerStatus.Leader}}')" = true ] && break
done
witness=$((leader % 3 + 1))
lost=$(apus_at "$leader" info --format '{{.Swarm.NodeID}}')
printf '\033[36m# kill -9 %s\033[0m   (engine%s)\n' "$(process "$leader")" "$leader"
began=$(now)
kill -9 "$(process "$leader")"
until apus_at "$witness" service update --detach --label-add "leader-killed=$began" frontend >/dev/null 2>&1; do sleep 0.02; done
echo "another leader has accepted a change after $(since "$began") s"
# Seats whose task runs on an engine that is there.
whole() {
    apus_at "$witness" service ps --filter desired-state=running --format '{{.Name}} {{.CurrentState}} {{.Node}}' frontend |
        awk -v lost="engine$leader" '$2 == "Running" && $NF != lost { seats[$1] = 1 } END { n = 0; for (seat in seats) n++; print n }'
}
until [ "$(whole)" = 10 ]; do sleep 0.1; done
echo "all ten tasks run on the other engines after $(since "$began") s"
show apus_at "$witness" node ls
show apus_at "$witness" service ps --filter desired-state=running frontend

step "the killed engine comes back"
start_engine "$leader"
until apus_at "$witness" node inspect "$lost" --format '{{.Status.State}} {{.ManagerStatus.Reachability}}' | grep -q '^ready reachable'; do sleep 0.1; done
show apus node ls

printf '\nIt goes on running. Try: %s/bin/apus service ps frontend; make stop ends it and leaves nothing behind.\n' "$stage"
