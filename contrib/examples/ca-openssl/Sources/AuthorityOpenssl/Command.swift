import Glibc

/// Runs a program to its end on a thread of its own: an `async` method must not block.
enum Command {
    struct Result: Sendable {
        /// What it exited with; -1 when it did not start or was killed.
        var status: Int32
        /// The end of what it wrote.
        var output: String
    }

    private final class Job {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    static func run(_ program: String, _ arguments: [String], directory: String) async -> Result {
        await withCheckedContinuation { continuation in
            let job = Job { continuation.resume(returning: runBlocking(program, arguments, directory)) }
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
                continuation.resume(returning: Result(status: -1, output: "no thread: \(String(cString: strerror(failure)))"))
            } else {
                pthread_detach(thread)
            }
        }
    }

    private static func runBlocking(_ program: String, _ arguments: [String], _ directory: String) -> Result {
        let log = "\(directory)/output"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // The change of folder is env's: posix_spawn has none that Swift can see.
        let texts = (["/usr/bin/env", "-C", directory, program] + arguments).map { strdup($0) } + [nil]
        defer { for text in texts { free(text) } }
        let environment = [strdup("PATH=/usr/bin:/bin"), strdup("LC_ALL=C"), nil]
        defer { for text in environment { free(text) } }
        var process = pid_t()
        let failure = posix_spawn(&process, "/usr/bin/env", &actions, nil, texts, environment)
        guard failure == 0 else { return Result(status: -1, output: String(cString: strerror(failure))) }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        let code = status & 0x7f == 0 ? (status >> 8) & 0xff : -1
        return Result(status: code, output: (try? Workshop(runDirectory: directory).read("output", in: directory)) ?? "")
    }
}
