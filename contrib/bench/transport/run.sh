#!/bin/bash
# Measures the transport beside grpc-swift-nio-transport, both over mutual TLS on the loopback of a network namespace of their own, and prints a table.
set -euo pipefail
cd "$(dirname "$0")"
if [ "${1:-}" != inside ]; then
    swift build -c release >&2
    exec unshare --net "$0" inside "$(swift build -c release --show-bin-path)/TransportBench"
fi
program=$2
ip link set lo up
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP
ulimit -n 20000
"$program" certificates "$folder"
for round in 1 2 3; do
    for kind in ours nio; do
        : >"$folder/port"
        "$program" $kind serve "$folder" >"$folder/port" &
        server=$!
        until [ -s "$folder/port" ]; do
            kill -0 "$server" || exit 1
            sleep 0.1
        done
        "$program" $kind load "$folder" "$(cat "$folder/port")" >>"$folder/$kind"
        kill "$server"
        wait "$server" 2>/dev/null || true
        server=
    done
    echo "# round $round" >&2
done
median() { sed -n "s/^$1 //p" "$folder/$2" | sort -n | awk '{ values[NR] = $1 } END { print values[int((NR + 1) / 2)] }'; }
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores; medians of three"
printf '%-30s %12s %12s %8s  %s\n' "" apus grpc-swift ratio target
for name in $(awk '!seen[$1]++ { print $1 }' "$folder/ours"); do
    ours=$(median "$name" ours)
    nio=$(median "$name" nio)
    case $name in
    calls-*) goal='>= 1.5' ;;
    server-bytes-*) goal='<= 0.5' ;;
    *) goal= ;;
    esac
    awk -v name="$name" -v ours="$ours" -v nio="$nio" -v goal="$goal" 'BEGIN {
        ratio = nio > 0 ? ours / nio : 0
        split(goal, part, " ")
        verdict = goal == "" ? "" : ((part[1] == ">=" ? ratio >= part[2] : ratio <= part[2]) ? "met" : "MISSED")
        printf "%-30s %12d %12d %8.2f  %s %s\n", name, ours, nio, ratio, goal, verdict
    }'
done
