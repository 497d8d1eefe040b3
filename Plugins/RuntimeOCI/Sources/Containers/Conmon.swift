import CLinux
import Coding
import Files
import Glibc
import PluginAPI
import Processes

/// Starts conmon, which makes the OCI runtime create a container, and then stays as its parent: it writes the log and the exit code,
/// and needs nobody for it.
struct Conmon: Sendable {
    let tools: RuntimeTools
    let layout: RuntimeLayout
    let cgroups: Cgroups
    /// Where conmon itself lives, away from the engine's own group.
    let cgroup: String

    struct Launched: Sendable {
        var process: ProcessIdentity
        var monitor: ProcessIdentity
    }

    /// How long the OCI runtime may take.
    private static let limit: Duration = .seconds(120)

    enum Outcome: Sendable {
        case created(Launched)
        /// By the OCI runtime.
        case refused(RuntimeFailure)
    }

    /// Creates the container; its first process waits for `release`. Blocks.
    func launch(_ configuration: ContainerConfiguration) throws(ApusError) -> Outcome {
        let id = configuration.id.text
        let home = layout.home(id)
        let bundle = layout.bundle(id)
        for stale in [home.exit, home.outOfMemory, bundle.exitFile, bundle.processID, bundle.monitorID] { unlink(stale) }

        let complaints = open("\(bundle.path)/conmon.log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard complaints >= 0 else { throw Files.lastError("cannot create \(bundle.path)/conmon.log") }
        defer { close(complaints) }
        let answer = try Self.pipe()
        defer { answer.reader.close() }
        let gate = try Self.pipe()
        defer { gate.writer.close() }

        // A name of this start alone: a conmon that its engine left on the way finds nothing to run once a later engine has cleaned up.
        let runtime = "\(bundle.path)/runtime-\(String(UInt32.random(in: 0 ... .max), radix: 36))"
        guard symlink(tools.runtime, runtime) == 0 else { throw Files.lastError("cannot make \(runtime)") }

        let temporary = layout.run.utf8.count < 80 ? layout.run : "/tmp"
        let request = ProcessRequest(
            tools.conmon, arguments(configuration, runtime: runtime, home: home, bundle: bundle),
            environment: [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "_OCI_SYNCPIPE=3", "_OCI_STARTPIPE=4", "TMPDIR=\(temporary)",
            ],
            workingDirectory: bundle.path, descriptors: [2: complaints, 3: answer.writer.number, 4: gate.reader.number], newSession: true)
        let first = try Processes.spawn(request)
        answer.writer.close()
        gate.reader.close()
        cgroups.place(first, in: cgroup)
        // It waits for this byte before it forks, so that all it forks is in the group.
        var byte: UInt8 = 0
        write(gate.writer.number, &byte, 1)
        var status: Int32 = 0
        while waitpid(first, &status, 0) < 0, errno == EINTR {}

        let line = Self.readLine(answer.reader.number, limit: Self.limit)
        let monitorID = (try? Files.readText(bundle.monitorID)).flatMap { Int32($0) } ?? 0
        guard let line, let json = try? JSONValue.parse(line), let number = (json["pid"] ?? json["data"])?.integer else {
            if monitorID > 0 { kill(monitorID, SIGKILL) }
            let said = (try? Files.readText("\(bundle.path)/conmon.log")) ?? ""
            return .refused(RuntimeFailure(output: said.isEmpty ? "conmon ended without an answer" : said))
        }
        guard number > 0 else {
            return .refused(RuntimeFailure(output: json["message"]?.string ?? ""))
        }
        guard let monitor = ProcessIdentity(running: monitorID) else {
            kill(Int32(clamping: number), SIGKILL)
            throw ApusError(.failed, "conmon ended as soon as it had created container \(configuration.id.short)")
        }
        guard let process = ProcessIdentity(running: Int32(clamping: number)) else {
            return .refused(RuntimeFailure(output: "the container's first process ended before it was started"))
        }
        return .created(Launched(process: process, monitor: monitor))
    }

    private func arguments(_ configuration: ContainerConfiguration, runtime: String, home: ContainerHome, bundle: ContainerBundle) -> [String] {
        let id = configuration.id.text
        var arguments = [
            "--cid", id, "--cuuid", id, "--name", configuration.name.isEmpty ? id : configuration.name,
            "--runtime", runtime, "--runtime-arg", "--root", "--runtime-arg", layout.runtimeRoot,
            "--runtime-arg", "--log-format", "--runtime-arg", "json",
            "--bundle", bundle.path, "--container-pidfile", bundle.processID, "--conmon-pidfile", bundle.monitorID,
            "--exit-dir", layout.exits, "--persist-dir", home.path,
            "--log-path", LogOptions.isKept(configuration.log) ? "k8s-file:\(home.log)" : "none", "--log-level", "error",
            // The attach socket in the bundle itself; no sync of the log to disk, which Docker does not do either.
            "--full-attach", "--no-sync-log",
        ]
        if configuration.terminal { arguments.append("--terminal") }
        if configuration.openStandardInput { arguments += ["--stdin", "--leave-stdin-open"] }
        return arguments
    }

    /// Lets the container's first process go on to run its program. Blocks for a moment.
    func release(_ id: String, process: ProcessIdentity) throws(ApusError) {
        guard tools.kind == .runc else { return try releaseByCommand(id) }
        // What `runc start` does, without starting it: the process waits to write one byte into this pipe.
        let path = layout.bundle(id).startPipe
        let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { throw Files.lastError("cannot open \(path)") }
        defer { close(descriptor) }
        while true {
            var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&ready, 1, 50) > 0 {
                var byte: UInt8 = 0
                if read(descriptor, &byte, 1) == 1 { break }
            }
            guard process.isRunning else { throw ApusError(.failed, "the container's first process ended before it was started") }
        }
        unlink(path)
    }

    private func releaseByCommand(_ id: String) throws(ApusError) {
        let answer = try Self.pipe()
        defer { answer.reader.close() }
        let request = ProcessRequest(
            tools.runtime, ["--root", layout.runtimeRoot, "--log-format", "json", "start", id], descriptors: [2: answer.writer.number])
        let process = try Processes.spawn(request)
        answer.writer.close()
        let said = (try? Files.read(descriptor: answer.reader.number, name: tools.runtime, limit: 1 << 16)) ?? []
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { throw RuntimeFailure(output: String(decoding: said, as: UTF8.self)).error }
    }

    // MARK: - Pipes

    static func pipe() throws(ApusError) -> (reader: Descriptor, writer: Descriptor) {
        var ends: [Int32] = [-1, -1]
        guard apus_pipe2(&ends, O_CLOEXEC) == 0 else { throw Files.lastError("cannot make a pipe") }
        return (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    /// Up to a line feed; `nil` at the end, and after the limit. The writer keeps its end open, so there is no end to wait for.
    private static func readLine(_ descriptor: Int32, limit: Duration) -> [UInt8]? {
        let due = ContinuousClock.now + limit
        var line: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while ContinuousClock.now < due {
            var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 1000) > 0 else { continue }
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return line.isEmpty ? nil : line }
            line += buffer[..<count]
            if let end = line.firstIndex(of: UInt8(ascii: "\n")) { return Array(line[..<end]) }
        }
        return nil
    }
}
