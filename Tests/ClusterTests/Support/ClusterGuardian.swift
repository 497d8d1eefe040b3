import Files
import Glibc
import PluginAPI
import Processes

/// A process that cleans up after one cluster: when its input ends, because the harness says so or because the test process is gone.
final class ClusterGuardian: Sendable {
    private let lifeline: Descriptor
    private let outcome: ConcurrentTask<(exitCode: Int32, text: String), any Error>

    /// Every folder `root/node-*` is an engine's, in the network namespace of the same name after the prefix.
    private static let script = """
        root=$1 prefix=$2 stage=$3 registry=$4
        cat >/dev/null
        # Not to the test process, which may be gone: a pipe without a reader would end this with SIGPIPE.
        exec >"$root.left" 2>&1
        status=0
        ours() { pid=$(cat "$1/pid" 2>/dev/null); [ -n "$pid" ] && tr '\\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "--data-root $1/data "; }
        # A cluster goes as a whole: what a dying leader would still set in motion is only in the way.
        killed=
        for node in "$root"/node-*; do if ours "$node"; then killed="$killed $pid"; kill -KILL "$pid"; fi; done
        for pid in $killed; do
            # Its command line goes before its locks: what counts is that it was reaped.
            tries=0
            while kill -0 "$pid" 2>/dev/null && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
            # What libfaketime leaves of a killed process.
            rm -f "/dev/shm/faketime_shm_$pid" "/dev/shm/sem.faketime_sem_$pid"
        done
        for node in "$root"/node-*; do
            [ -d "$node" ] || continue
            nsenter --net="/run/netns/$prefix-${node##*/node-}" "$stage/bin/apusd" clean --data-root "$node/data" --exec-root "$node/exec" >/dev/null \\
                || { echo "apusd clean failed for $node"; status=1; }
        done
        [ ! -d "$root/registry" ] || "$registry" stop "$root/registry" || status=1
        for process in /proc/[0-9]*; do
            tr '\\0' ' ' 2>/dev/null <"$process/cmdline" | grep -F -- "$root/" | grep -qvF -- "$0" || continue
            [ "${process#/proc/}" = $$ ] && continue
            echo "a process is left: $(tr '\\0' ' ' <"$process/cmdline")"; status=1; kill -KILL "${process#/proc/}"
        done
        if left=$(grep -F " $root/" /proc/self/mounts | grep -vF " $root/small-"); then
            echo "mounts are left:"; echo "$left"; status=1
            echo "$left" | cut -d' ' -f2 | sort -r | xargs -r -n1 umount -l
        fi
        grep -F " $root/small-" /proc/self/mounts | cut -d' ' -f2 | sort -r | xargs -r -n1 umount || status=1
        for namespace in /run/netns/"$prefix"-*; do [ ! -e "$namespace" ] || ip netns del "${namespace##*/}" || status=1; done
        rm -rf --one-file-system "$root" || status=1
        [ $status != 0 ] || rm -f "$root.left"
        exit $status
        """

    init(root: String, prefix: String, stage: String, registryScript: String) throws {
        let input = try Pipe()
        let process = try Processes.spawn(
            ProcessRequest(
                "sh", ["-c", Self.script, "apus-cluster-guardian", root, prefix, stage, registryScript], workingDirectory: "/",
                descriptors: [0: input.reader.number], newSession: true))
        input.reader.close()
        lifeline = input.writer
        outcome = ConcurrentTask {
            let exitCode = try await Processes.wait(process)
            let report = "\(root).left"
            guard Files.exists(report) else { return (exitCode, "") }
            defer { unlink(report) }
            return (exitCode, (try? Files.readText(report)) ?? "")
        }
    }

    /// Lets it clean up.
    func finish() async throws -> (exitCode: Int32, text: String) {
        lifeline.close()
        return try await outcome.value
    }
}
