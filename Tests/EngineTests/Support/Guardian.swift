import Files
import Glibc
import PluginAPI
import Processes

/// A process that cleans up after one harness: when its input ends, because the harness says so or because the test process is gone.
final class Guardian: Sendable {
    private let lifeline: Descriptor
    private let outcome: ConcurrentTask<(exitCode: Int32, text: String), any Error>

    /// Ends the engine that `root/pid` names, removes what engines left in `root`, the registry and the network namespace.
    private static let script = """
        root=$1 namespace=$2 stage=$3 registry=$4
        cat >/dev/null
        # Not to the test process, which may be gone: a pipe without a reader would end this with SIGPIPE.
        exec >"$root.left" 2>&1
        status=0
        pid=$(cat "$root/pid" 2>/dev/null)
        ours() { [ -n "$pid" ] && tr '\\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "--data-root $root/data "; }
        if ours; then kill -TERM "$pid"; fi
        tries=0
        while ours && [ $tries -lt 600 ]; do sleep 0.1; tries=$((tries + 1)); done
        if ours; then echo "the engine did not end at SIGTERM"; status=1; kill -KILL "$pid"; while ours; do sleep 0.1; done; fi
        nsenter --net="/run/netns/$namespace" "$stage/bin/apusd" clean --data-root "$root/data" --exec-root "$root/exec" 2>&1 || status=1
        [ ! -d "$root/registry" ] || "$registry" stop "$root/registry" || status=1
        if left=$(grep -F "$root/" /proc/self/mounts); then
            echo "mounts are left:"; echo "$left"; status=1
            echo "$left" | cut -d' ' -f2 | sort -r | xargs -r -n1 umount -l
        fi
        for process in /proc/[0-9]*; do
            tr '\\0' ' ' 2>/dev/null <"$process/cmdline" | grep -F -- "$root/" | grep -qvF -- "$0" || continue
            [ "${process#/proc/}" = $$ ] && continue
            echo "a process is left: $(tr '\\0' ' ' <"$process/cmdline")"; status=1; kill -KILL "${process#/proc/}"
        done
        ip netns del "$namespace" || status=1
        rm -rf --one-file-system "$root" || status=1
        [ $status != 0 ] || rm -f "$root.left"
        exit $status
        """

    init(root: String, namespace: String, stage: String, registryScript: String) throws {
        let input = try Pipe()
        let process = try Processes.spawn(
            ProcessRequest(
                "sh", ["-c", Self.script, "apus-test-guardian", root, namespace, stage, registryScript], workingDirectory: "/",
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
