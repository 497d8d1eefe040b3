#!/bin/sh
# Runs Debian's docker-registry on loopback.
#
#   registry.sh start [PORT] [DIRECTORY]    returns when it answers; does nothing when this one runs already
#   registry.sh stop [DIRECTORY]            ends it; its data stays
#
# APUS_REGISTRY_HOST=ADDRESS instead of 127.0.0.1 serves other machines; engines want --insecure-registry then.
# With APUS_REGISTRY_HTPASSWD=FILE (bcrypt) it asks for a name and a password.
# Default port 5000, default directory $APUS_REGISTRY_DIRECTORY, else /var/cache/apus-images/registry.
set -eu

action=${1:-}
host=${APUS_REGISTRY_HOST:-127.0.0.1}
default=${APUS_REGISTRY_DIRECTORY:-${APUS_IMAGE_CACHE:-/var/cache/apus-images}/registry}

running() {
    [ -s "$directory/pid" ] && pid=$(cat "$directory/pid") && [ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" = "docker-registry serve $directory/config.yml " ]
}

case $action in
start)
    port=${2:-5000}
    directory=${3:-$default}
    mkdir -p "$directory/data"
    directory=$(cd "$directory" && pwd)
    if running; then
        exit 0
    fi
    command -v docker-registry >/dev/null || { echo "registry.sh: docker-registry is missing: apt-get install docker-registry" >&2; exit 1; }
    cat >"$directory/config.yml" <<END
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: $directory/data
  delete:
    enabled: true
http:
  addr: $host:$port
END
    if [ -n "${APUS_REGISTRY_HTPASSWD:-}" ]; then
        printf 'auth:\n  htpasswd:\n    realm: apus\n    path: %s\n' "$APUS_REGISTRY_HTPASSWD" >>"$directory/config.yml"
    fi
    # OTEL and REGISTRY_ variables of the caller would change what the file says.
    env -i PATH="$PATH" setsid docker-registry serve "$directory/config.yml" </dev/null >"$directory/log" 2>&1 &
    echo $! >"$directory/pid"
    tries=0
    until curl --silent --noproxy '*' --max-time 2 --output /dev/null "http://$host:$port/v2/"; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ] || ! kill -0 "$(cat "$directory/pid")" 2>/dev/null; then
            echo "registry.sh: the registry did not start:" >&2
            tail -n 5 "$directory/log" >&2
            rm -f "$directory/pid"
            exit 1
        fi
        sleep 0.1
    done
    running || { echo "registry.sh: something else listens on $host:$port" >&2; exit 1; }
    ;;
stop)
    directory=${2:-$default}
    [ -d "$directory" ] || exit 0
    directory=$(cd "$directory" && pwd)
    if running; then
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
    rm -f "$directory/pid"
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
