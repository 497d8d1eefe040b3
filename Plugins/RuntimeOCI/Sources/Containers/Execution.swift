import CLinux
import Coding
import Files
import Glibc
import PluginAPI
import Processes

extension Containers {
    /// Runs a command inside a running container.
    func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer {
        let record = try table.record(request.id)
        guard record.process?.isRunning == true else { throw ApusError(.conflict, "Container \(request.id) is not running") }
        guard !request.arguments.isEmpty else { throw ApusError(.invalidArgument, "No exec command specified") }
        let cancelled = ThreadSignal()
        let result: Result<ExecuteAnswer, ApusError> = await withTaskCancellationHandler {
            await onThread(named: "apus-execute") {
                do throws(ApusError) { return .success(try self.executeBlocking(request, record: record, cancelled: cancelled)) } catch {
                    return .failure(error)
                }
            }
        } onCancel: {
            cancelled.send()
        }
        return try result.get()
    }

    private func executeBlocking(_ request: ExecuteRequest, record: ContainerRecord, cancelled: ThreadSignal) throws(ApusError) -> ExecuteAnswer {
        let bundle = layout.bundle(request.id.text)
        let stem = "\(bundle.path)/exec-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        defer {
            unlink("\(stem).json")
            unlink("\(stem).pid")
        }
        try Files.writeAtomically(try process(request, record: record).bytes(), to: "\(stem).json", sync: false)
        let output = try Conmon.pipe()
        defer { output.reader.close() }
        let command = ProcessRequest(
            tools.runtime,
            [
                "--root", layout.runtimeRoot, "--log-format", "json", "exec", "--process", "\(stem).json", "--pid-file", "\(stem).pid",
                request.id.text,
            ],
            descriptors: [1: output.writer.number, 2: output.writer.number], newSession: true)
        let runtime = try Processes.spawn(command)
        output.writer.close()
        let handle = Descriptor(apus_pidfd_open(runtime))
        let collected = OutputCollector(
            output: output.reader.number, process: handle.number, cancelled: cancelled.descriptor, limit: request.outputLimit
        )
        .collect(for: request.timeout)
        let inner = (try? Files.readText("\(stem).pid")).flatMap { Int32($0) }
        if collected.end != .ended {
            if let inner, let identity = ProcessIdentity(running: inner), cgroups.processes(cgroup(record.configuration)).contains(inner) {
                // It leads a group of its own; then itself, should it have left that.
                kill(-inner, SIGKILL)
                _ = identity.signal(SIGKILL)
            }
            kill(runtime, SIGKILL)
        }
        var status: Int32 = 0
        while waitpid(runtime, &status, 0) < 0, errno == EINTR {}
        switch collected.end {
        case .timedOut: throw ApusError(.timedOut, "the command did not end within \(request.timeout)")
        case .cancelled: throw ApusError(.cancelled, "the command was cancelled")
        case .ended: break
        }
        let code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + status & 0x7f
        if inner == nil, code != 0 {
            // The runtime never got as far as to run it.
            let failure = RuntimeFailure(output: String(decoding: collected.bytes, as: UTF8.self))
            return ExecuteAnswer(exitCode: Int32(failure.exitCode), output: Array("OCI runtime exec failed: exec failed: \(failure.message)".utf8))
        }
        return ExecuteAnswer(exitCode: code, output: collected.bytes)
    }

    private func process(_ request: ExecuteRequest, record: ContainerRecord) throws(ApusError) -> JSONValue {
        var configuration = record.configuration
        configuration.arguments = request.arguments
        configuration.initProcess = false
        configuration.terminal = false
        configuration.environment += request.environment
        if !request.user.isEmpty { configuration.user = request.user }
        let user = try ProcessUser.resolve(configuration.user, groups: configuration.groups, root: layout.bundle(request.id.text).root)
        return try specification(configuration, user: user, mounts: [], files: [:]).process()
    }
}

/// Reads a program's output until the program ends. What it leaves running may keep the pipe open; that is not waited for.
struct OutputCollector {
    enum End {
        case ended, timedOut, cancelled
    }

    let output: Int32
    let process: Int32
    let cancelled: Int32
    let limit: Int

    func collect(for time: Duration) -> (bytes: [UInt8], end: End) {
        _ = fcntl(output, F_SETFL, fcntl(output, F_GETFL) | O_NONBLOCK)
        let due = ContinuousClock.now + time
        var bytes: [UInt8] = []
        var isOpen = true
        while true {
            let left = ContinuousClock.now.duration(to: due)
            guard left > .zero else { return (bytes, .timedOut) }
            var descriptors = [
                pollfd(fd: process, events: Int16(POLLIN), revents: 0), pollfd(fd: cancelled, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isOpen ? output : -1, events: Int16(POLLIN), revents: 0),
            ]
            poll(&descriptors, 3, Int32(clamping: left.nanoseconds / 1_000_000 + 1))
            if descriptors[1].revents != 0 { return (bytes, .cancelled) }
            if descriptors[2].revents != 0 { isOpen = drain(into: &bytes) }
            if descriptors[0].revents != 0 {
                _ = drain(into: &bytes)
                return (bytes, .ended)
            }
        }
    }

    /// False at the end.
    private func drain(into bytes: inout [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(output, &buffer, buffer.count)
            if count == 0 { return false }
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            bytes += buffer[..<min(count, max(0, limit - bytes.count))]
        }
    }
}
