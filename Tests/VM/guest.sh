# What the scripts of this folder share; read by them, not run.
#
# VM=…/vmrun.sh names the script that runs a command under another kernel; TEST_BINARY=… the test program, which
# swift build --build-tests makes.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
vm=${VM:-$here/../shared/vm/vmrun.sh}

# -b BACKEND; the rest of the script's arguments stay. A wrong option shows the lines with which the script begins.
while getopts b: option; do
    case $option in
    b) backend=$OPTARG ;;
    *) sed -n 2,3p "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

# Ends with status 2 and a sentence where something is missing.
need_vm() {
    [ -x "$vm" ] && return
    echo "${0##*/}: $vm is missing: set VM to the script that runs a command under another kernel" >&2
    exit 2
}
need_tests() {
    binary=${TEST_BINARY:-$(swift build --package-path "$here" --show-bin-path)/apusPackageTests.xctest}
    [ -x "$binary" ] && return
    echo "${0##*/}: $binary is missing: build it with swift build --build-tests" >&2
    exit 2
}
need_stage() {
    stage=$(realpath "${STAGE:-$here/.build/stage}")
    [ -x "$stage/bin/apusd" ] && return
    echo "${0##*/}: $stage/bin/apusd is missing: make stage" >&2
    exit 2
}

# What whole engines need of the guest: containers live below its own cgroup, which must hold no process itself.
engines_in_guest='
    mkdir -p /sys/fs/cgroup/init
    for process in $(cat /sys/fs/cgroup/cgroup.procs); do echo $process > /sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true; done
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1'

# in_guest MEGABYTES SECONDS COMMAND: runs the command in a virtual machine, and returns its status.
#
# User-Mode Linux with CONFIG_VMAP_STACK hangs now and then, seen in one run of eight: a timer signal that comes while the kernel unmaps the
# stacks of ended tasks faults for ever where it copies the thread's information to the interrupt stack. The guest then gives no exit status
# (125), and nothing is known of the command: it is run again. A command that fails, or hangs each time, still fails.
in_guest() {
    local attempt status
    for attempt in 1 2 3 4; do
        status=0
        "$vm" -b "${backend:-uml}" -m "$1" -t "${TIME_LIMIT:-$2}" ${share:+-s "$share"} "$3" || status=$?
        [ $status = 125 ] || return $status
        echo "${0##*/}: the virtual machine gave no exit status (attempt $attempt of 4)" >&2
    done
    return 125
}

# Runs the tests that a filter names: few at a time, for there is one CPU and forks are slow.
run_tests() {
    in_guest 3072 "$1" "
        set -e
        $3
        export PATH=\$PATH:/opt/swift/usr/bin SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=${WIDTH:-2}
        '$binary' --testing-library swift-testing --filter '$2'"
}
