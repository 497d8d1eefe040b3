#!/bin/bash
# A tour: three engines make a swarm, an application of two tiers runs over all of them, every task is asked, and the leader is killed. run.sh STAGE
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

step "images from Debian's own packages, served by Debian's docker-registry"
"$here/../images/build-images.sh"
APUS_REGISTRY_HOST=$registry_address "$here/../images/registry.sh" start "$registry_port" "$registry_data"
for image in nginx busybox redis mywebapp; do
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

step "an application of two tiers: a page that counts its visits, and redis"
show apus network create -d overlay mynet
show apus service create --name redis --network mynet redis:latest
show apus service create --name frontend --replicas 5 -p 80:80/tcp --network mynet mywebapp

# Which task a container is, whichever engine has it.
task_of() {
    local engine
    for engine in $engines; do
        apus_at "$engine" ps --no-trunc --format '{{.ID}} {{.Names}}' 2>/dev/null |
            awk -v id="$1" -v engine="$engine" 'index($1, id) == 1 { split($2, part, "."); print part[1] "." part[2] " on engine" engine }'
    done
}
# Asks port 80 of the three engines in turn until every task has answered, twenty times at least.
ask() {
    local answer engine task count=0 wanted=$1 first='' last='' asker=''
    declare -A answers=() askers=()
    while [ "$count" -lt 20 ] || { [ "${#answers[@]}" -lt "$wanted" ] && [ "$count" -lt 100 ]; }; do
        count=$((count + 1))
        engine=$((count % 3 + 1))
        # visit 7, answered by 0d1f2a3b4c5d, asked by 10.97.0.254
        answer=$(curl -fsS --max-time 10 "http://$(address "$engine"):80/")
        task=${answer#*answered by }
        task=${task%%,*}
        answers[$task]=$((${answers[$task]:-0} + 1))
        last=${answer%%,*}
        first=${first:-$last}
        askers[${answer##*asked by }]=1
    done
    for task in "${!answers[@]}"; do echo "$(task_of "$task") answered ${answers[$task]} times"; done | sort -V
    echo "${#answers[@]} of $wanted tasks answered $count requests"
    echo "the counter in redis went from ${first#visit } to ${last#visit }"
    for asker in "${!askers[@]}"; do echo "the application was asked by $asker"; done
    echo "this machine's address, from which it was asked, is $registry_address"
}

step "port 80 of the three engines"
ask 5

step "names in the network, seen by a container"
seen=$(apus ps -q --filter name=frontend | head -n 1)
[ -z "$seen" ] || nsenter --net="$root/1/exec/netns/$(apus inspect --format '{{.Id}}' "$seen")" busybox nslookup tasks.frontend 127.0.0.11 | sed -n 's/^Address.*: \(10\.[0-9.]*\)$/tasks.frontend is \1/p'

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
