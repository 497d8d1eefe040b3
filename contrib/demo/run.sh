#!/bin/bash
# A tour: one engine, a service of five replicas, every one of them asked. run.sh STAGE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=$1
# shellcheck source=common.sh
. "$here/common.sh"
PATH=$stage/bin:$PATH

[ "$(id -u)" = 0 ] || { echo "make run must be root: it makes containers, networks and mounts" >&2; exit 1; }
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[36m# %s\033[0m\n' "$*"; "$@"; }

if running; then
    echo "it runs already; make stop ends it" >&2
    exit 1
fi

step "an nginx image from Debian's own packages, served by Debian's docker-registry on loopback"
"$here/../images/build-images.sh"
"$here/../images/registry.sh" start "$registry_port" "$registry_data"
for image in nginx busybox; do
    python3 "$here/../images/push.py" "/var/cache/apus-images/$image.tar" "http://127.0.0.1:$registry_port" "library/$image:latest"
done

step "the engine"
apusd --data-root "$data" --exec-root "$exec_root" --pidfile "$pid_file" --registry-mirror "http://127.0.0.1:$registry_port" >>"$log" 2>&1 </dev/null &
echo "apusd runs as process $!, its log is $log"
for _ in $(seq 100); do
    apus version >/dev/null 2>&1 && break
    kill -0 $! 2>/dev/null || { echo "apusd ended:" >&2; tail -5 "$log" >&2; exit 1; }
    sleep 0.1
done
show apus version

step "a swarm, and a service of five replicas"
show apus swarm init --advertise-addr 127.0.0.1
show apus service create --name frontend --replicas 5 -p 80:80/tcp nginx:latest

ask() {
    declare -A answers=()
    for _ in $(seq 20); do
        answer=$(curl -fsS --max-time 5 http://127.0.0.1:80/)
        answers[$answer]=$((${answers[$answer]:-0} + 1))
    done
    for answer in "${!answers[@]}"; do
        echo "$(apus ps --no-trunc --format '{{.ID}} {{.Names}}' | awk -v id="$answer" 'index($1, id) == 1 { split($2, part, "."); print part[1] "." part[2] }') answered ${answers[$answer]} times"
    done | sort -V
    echo "${#answers[@]} of $1 tasks answered"
}

step "port 80, asked twenty times"
ask 5

step "ten replicas"
show apus service scale frontend=10
ask 10
show apus service ps frontend

step "every subsystem is a plugin"
show apus plugin ls

printf '\nIt goes on running. Try: %s/bin/apus service ps frontend; make stop ends it and leaves nothing behind.\n' "$stage"
