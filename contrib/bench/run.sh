#!/bin/bash
# Measures part after part; one that fails says so and keeps none of the others. run.sh STAGE [PART ...]
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
all="engines failures network vm commits manager transport"
[ $# -ge 1 ] || { echo "usage: run.sh STAGE [PART ...], parts: $all" >&2; exit 2; }
stage=$1
shift
[ "$(id -u)" = 0 ] || { echo "make bench must be root: it makes containers, networks and mounts" >&2; exit 1; }
parts=${*:-$all}
for part in $parts; do
    case " $all " in
    *" $part "*) ;;
    *) echo "there is no part $part; parts: $all" >&2; exit 2 ;;
    esac
done

# Its own packages, then its own program; whatever it starts it also ends, on an interrupt too.
measure() {
    case $1 in
    engines) "$here/../packages.sh" docker.io && python3 "$here/bench.py" --stage "$stage" ;;
    failures) "$here/../packages.sh" e2fsprogs && python3 "$here/failures/failures.py" --stage "$stage" ;;
    network) "$here/../packages.sh" wrk iperf3 && python3 "$here/network/network.py" --stage "$stage" ;;
    vm) "$here/../packages.sh" docker.io wrk iperf3 ipvsadm && "$here/network/vm.sh" "$stage" ;;
    commits) "$here/../packages.sh" etcd-server && python3 "$here/commits/commits.py" --stage "$stage" ;;
    manager) python3 "$here/manager/manager.py" ;;
    transport) "$here/transport/run.sh" ;;
    esac
}

interrupted=
trap 'interrupted=1' INT TERM HUP
summary=
status=0
for part in $parts; do
    printf '\n\033[1m== %s\033[0m\n' "$part"
    began=$SECONDS
    if measure "$part"; then result=done; else
        result=FAILED
        status=1
    fi
    summary+=$(printf '%-12s %-8s %6d s' "$part" "$result" $((SECONDS - began)))$'\n'
    [ -z "$interrupted" ] || break
done
printf '\n\033[1m== parts\033[0m\n%s' "$summary"
[ -z "$interrupted" ] || { echo "interrupted"; exit 130; }
exit $status
