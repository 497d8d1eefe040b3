import CLinux
import Glibc
public import PluginAPI
import Synchronization

/// Starts programs and waits for them without holding a thread each.
public enum Processes {
    /// Starts a program.
    /// - Returns: its process id, which the caller must `wait` for.
    /// - Throws: `notFound` when there is no such program.
    public static func spawn(_ request: ProcessRequest) throws(ApusError) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }

        // First all to numbers above every target, so that no target overwrites a source that is still needed.
        let targets = request.descriptors.sorted { $0.key < $1.key }
        let base = (targets.map { max($0.key, $0.value) }.max() ?? 2) + 1
        for (index, pair) in targets.enumerated() { posix_spawn_file_actions_adddup2(&actions, pair.value, base + Int32(index)) }
        for number in Int32(0)...2 where request.descriptors[number] == nil {
            posix_spawn_file_actions_addopen(&actions, number, "/dev/null", number == 0 ? O_RDONLY : O_WRONLY, 0)
        }
        for (index, pair) in targets.enumerated() { posix_spawn_file_actions_adddup2(&actions, base + Int32(index), pair.key) }
        for index in targets.indices { posix_spawn_file_actions_addclose(&actions, base + Int32(index)) }
        apus_spawn_add_close_from(&actions, max(3, (targets.map(\.key).max() ?? 2) + 1))
        if let directory = request.workingDirectory { apus_spawn_add_change_directory(&actions, directory) }

        var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        if request.newSession { flags |= Int32(apus_spawn_new_session()) }
        posix_spawnattr_setflags(&attributes, Int16(flags))
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)

        let arguments = CStrings([request.executable] + request.arguments)
        let environment = request.environment.map { CStrings($0) }
        var process: pid_t = 0
        let result = posix_spawnp(
            &process, request.executable, &actions, &attributes, arguments.pointers, environment?.pointers ?? environ)
        guard result == 0 else {
            let code: ApusError.Code = result == ENOENT ? .notFound : result == EACCES ? .permissionDenied : .failed
            throw ApusError(code, "cannot start \(request.executable): \(String(cString: strerror(result)))")
        }
        return process
    }

    /// Waits for a child to end, and reaps it. Not cancelled: a child must be reaped.
    /// - Returns: its exit code, or 128 and the signal.
    public static func wait(_ process: Int32) async throws(ApusError) -> Int32 {
        let descriptor = apus_pidfd_open(process)
        guard descriptor >= 0 else { throw ApusError(.failed, "cannot wait for process \(process): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        await ReadinessPoller.shared.waitUntilReadable(descriptor)
        return try reap(process)
    }

    static func reap(_ process: Int32) throws(ApusError) -> Int32 {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            guard errno == EINTR else { throw ApusError(.failed, "cannot wait for process \(process): \(String(cString: strerror(errno)))") }
        }
        let signal = status & 0x7f
        return signal == 0 ? (status >> 8) & 0xff : 128 + signal
    }

    /// Starts a program, feeds it, collects what it writes, waits for it. It is killed at the time limit (`timedOut`) and when
    /// the caller is cancelled (`cancelled`). Output past the limit is read and dropped.
    public static func run(
        _ request: ProcessRequest, input: [UInt8] = [], outputLimit: Int = 1 << 20, timeout: Duration? = nil
    ) async throws(ApusError) -> ProcessResult {
        var request = request
        let standardInput = try Pipe()
        let standardOutput = try Pipe()
        let standardError = try Pipe()
        request.descriptors[0] = standardInput.reader.number
        request.descriptors[1] = standardOutput.writer.number
        request.descriptors[2] = standardError.writer.number
        let process = try spawn(request)
        standardInput.reader.close()
        standardOutput.writer.close()
        standardError.writer.close()
        let executable = request.executable
        let killed = Mutex<ApusError?>(nil)
        // A pidfd and not the number: the process may be reaped, and its number used again, before the kill.
        let handle = Descriptor(apus_pidfd_open(process))
        @Sendable func end(_ reason: ApusError) {
            killed.withLock { if $0 == nil { $0 = reason } }
            _ = apus_pidfd_send_signal(handle.number, SIGKILL)
        }
        let watchdog = timeout.map { limit in
            Deadline.shared.after(limit) { end(ApusError(.timedOut, "\(executable) did not end within \(limit)")) }
        }
        let result: Result<ProcessResult, ApusError> = await withTaskCancellationHandler {
            async let fed: Void = standardInput.writer.feed(input)
            async let output = standardOutput.reader.collect(limit: outputLimit)
            async let errorOutput = standardError.reader.collect(limit: outputLimit)
            do throws(ApusError) {
                let exitCode = try await wait(process)
                await fed
                return .success(ProcessResult(exitCode: exitCode, output: await output, errorOutput: await errorOutput))
            } catch {
                return .failure(error)
            }
        } onCancel: {
            end(ApusError(.cancelled, "\(executable) was cancelled"))
        }
        if let watchdog { Deadline.shared.cancel(watchdog) }
        if let reason = killed.withLock({ $0 }) { throw reason }
        return try result.get()
    }
}

/// A C array of C strings that lives as long as this object.
final class CStrings {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ strings: [String]) {
        count = strings.count
        pointers = .allocate(capacity: count + 1)
        for (index, string) in strings.enumerated() { pointers[index] = strdup(string) }
        pointers[count] = nil
    }

    deinit {
        for index in 0..<count { free(pointers[index]) }
        pointers.deallocate()
    }
}
