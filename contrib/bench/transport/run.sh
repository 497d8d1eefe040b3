#!/bin/sh
# Measures the transport beside grpc-swift-nio-transport, both over mutual TLS on loopback, and prints a table.
set -eu
cd "$(dirname "$0")"
swift build -c release >&2
program=$(swift build -c release --show-bin-path)/TransportBench
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$folder"' EXIT
ulimit -n 20000
"$program" certificates "$folder"
for kind in ours nio; do
    "$program" $kind serve "$folder" > "$folder/port" &
    server=$!
    while [ ! -s "$folder/port" ]; do sleep 0.1; done
    "$program" $kind load "$folder" "$(cat "$folder/port")" > "$folder/$kind"
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
    : > "$folder/port"
done
echo "load of the machine: $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores"
printf '%-30s %12s %12s %8s\n' "" apus grpc-swift ratio
while read -r name ours; do
    nio=$(sed -n "s/^$name //p" "$folder/nio")
    printf '%-30s %12s %12s %8s\n' "$name" "$ours" "$nio" "$(awk "BEGIN { printf \"%.2f\", $ours / ($nio ? $nio : 1) }")"
done < "$folder/ours"
