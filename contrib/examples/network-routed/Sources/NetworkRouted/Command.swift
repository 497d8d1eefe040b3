import Glibc
import PluginAPI

/// ip(8) on the node, or in a namespace. Each run has a thread of its own, because an `async` method must not block.
struct Command: Sendable {
    let program: String
    /// Of the node; `nil`: the engine's own.
    let namespace: String?
    let runDirectory: String

    /// Runs it once.
    /// - Returns: what it printed.
    /// - Throws: `failed` with what it said, `unavailable` when it cannot be started.
    func run(_ arguments: [String], in sandbox: String? = nil) async throws(ApusError) -> String {
        try await start([program] + arguments, in: sandbox)
    }

    /// Runs it once for all of the commands; it ends at the first that fails.
    func batch(_ commands: [String], in sandbox: String? = nil) async throws(ApusError) {
        guard !commands.isEmpty else { return }
        let path = Self.newPath(in: runDirectory)
        // Closed in every program that another thread starts meanwhile.
        guard let file = fopen(path, "wxe") else { throw ApusError(.failed, "cannot write \(path): \(Self.reason(errno))") }
        defer { unlink(path) }
        let isWritten = fputs(commands.joined(separator: "\n") + "\n", file) >= 0
        guard fclose(file) == 0, isWritten else { throw ApusError(.failed, "cannot write \(path): \(Self.reason(errno))") }
        do throws(ApusError) {
            _ = try await run(["-batch", path], in: sandbox)
        } catch {
            throw error.during("of \"\(commands.joined(separator: "; "))\"")
        }
    }

    /// Lets the node pass on what is not for itself.
    func forward() async throws(ApusError) {
        let setting = "/proc/sys/net/ipv4/ip_forward"
        _ = try await start(["/bin/sh", "-c", "read -r now <\(setting) && [ \"$now\" = 1 ] || echo 1 >\(setting)"])
    }

    /// By nsenter(1): to ip(8) itself a namespace is a name in /run/netns, and no path.
    private func start(_ command: [String], in sandbox: String? = nil) async throws(ApusError) -> String {
        let whole = (sandbox ?? namespace).map { ["/usr/bin/nsenter", "--net=\($0)", "--"] + command } ?? command
        let runDirectory = runDirectory
        let result = await withCheckedContinuation { continuation in
            let job = Job { continuation.resume(returning: Self.runBlocking(whole, output: Self.newPath(in: runDirectory))) }
            let pointer = Unmanaged.passRetained(job).toOpaque()
            var thread = pthread_t()
            let failure = pthread_create(
                &thread, nil,
                { pointer in
                    if let pointer { Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue().body() }
                    return nil
                }, pointer)
            if failure != 0 {
                Unmanaged<Job>.fromOpaque(pointer).release()
                continuation.resume(returning: Result<String, ApusError>.failure(ApusError(.unavailable, "no thread: \(Self.reason(failure))")))
            } else {
                pthread_detach(thread)
            }
        }
        return try result.get()
    }

    private final class Job {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    private static func newPath(in folder: String) -> String { "\(folder)/ip-\(String(UInt64.random(in: 0 ... .max), radix: 36))" }

    /// The output goes to a file, not into a pipe: a program that another thread starts at the same moment would get the pipe's end as well, and keep it.
    private static func runBlocking(_ command: [String], output: String) -> Result<String, ApusError> {
        defer { unlink(output) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_EXCL, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        let texts = command.map { strdup($0) } + [nil]
        defer { for text in texts { free(text) } }
        let environment = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), strdup("LC_ALL=C"), nil]
        defer { for text in environment { free(text) } }
        var process = pid_t()
        let failure = posix_spawn(&process, command[0], &actions, nil, texts, environment)
        guard failure == 0 else { return .failure(ApusError(.unavailable, "\(command[0]) cannot be started: \(reason(failure))")) }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        let text = read(output)
        guard status == 0 else {
            let said = text.split(separator: "\n").joined(separator: "; ").suffix(400)
            return .failure(ApusError(.failed, "\(command.prefix(8).joined(separator: " ")): \(said)"))
        }
        return .success(text)
    }

    private static func read(_ path: String) -> String {
        guard let file = fopen(path, "re") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = fread(&buffer, 1, buffer.count, file)
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
    }

    private static func reason(_ number: Int32) -> String { String(cString: strerror(number)) }
}
