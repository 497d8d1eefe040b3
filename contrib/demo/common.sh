# What run.sh and stop.sh share: three engines, each in a network namespace of its own, on one bridge.
engines="1 2 3"
root=/run/apus-demo
data=/var/lib/apus-demo
bridge=apus-demo0
registry_address=10.97.0.254
registry_port=5480
registry_data=/var/cache/apus-images/demo-registry

address() { echo "10.97.0.$1"; }
namespace() { echo "apus-demo-$1"; }
# The first engine has the usual socket, so that apus and docker need no option.
socket() { if [ "$1" = 1 ]; then echo /run/apus.sock; else echo "$root/$1/apus.sock"; fi; }
log() { echo "$root/$1/log"; }
# apus, spoken to one of the engines.
apus_at() { local engine=$1; shift; apus --host "unix://$(socket "$engine")" "$@"; }

# A number may have been given to another program since.
process() { cat "$root/$1/pid" 2>/dev/null; }
running() { [ -s "$root/$1/pid" ] && grep -qa apusd "/proc/$(process "$1")/cmdline" 2>/dev/null && kill -0 "$(process "$1")" 2>/dev/null; }

start_engine() {
    local engine=$1
    mkdir -p "$root/$engine"
    # A host name of its own, for all engines are on one machine.
    nsenter --net="/run/netns/$(namespace "$engine")" unshare --uts sh -c 'hostname "$0"; exec "$@"' "engine$engine" \
        apusd --data-root "$data/$engine" --exec-root "$root/$engine/exec" --pidfile "$root/$engine/pid" --host "unix://$(socket "$engine")" \
        --registry-mirror "http://$registry_address:$registry_port" --insecure-registry "$registry_address:$registry_port" \
        >>"$(log "$engine")" 2>&1 </dev/null &
    for _ in $(seq 200); do
        apus_at "$engine" version >/dev/null 2>&1 && return
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    echo "engine $engine did not start:" >&2
    tail -5 "$(log "$engine")" >&2
    return 1
}
