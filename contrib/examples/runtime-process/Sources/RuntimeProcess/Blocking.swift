import Glibc
import PluginAPI

/// A thread for work that blocks: an `async` method must not.
enum Blocking {
    private final class Job {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    static func run<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) async throws(ApusError) -> Value {
        let result: Result<Value, ApusError> = await withCheckedContinuation { continuation in
            let failure = start {
                do throws(ApusError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
            if failure != 0 { continuation.resume(returning: .failure(ApusError(.unavailable, "no thread: \(String(cString: strerror(failure)))"))) }
        }
        return try result.get()
    }

    /// Returns the error's number, or 0.
    static func start(_ body: @escaping () -> Void) -> Int32 {
        let pointer = Unmanaged.passRetained(Job(body)).toOpaque()
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { pointer in
                if let pointer { Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue().body() }
                return nil
            }, pointer)
        if failure != 0 { Unmanaged<Job>.fromOpaque(pointer).release() } else { pthread_detach(thread) }
        return failure
    }
}

/// Starting programs.
enum Spawn {
    /// Starts a program with no input, in a process group of its own.
    /// - Parameter files: what its descriptors are, besides nothing for 1 and 2; the files are opened in the child, so that no program that another
    ///   thread starts at the same moment gets them too. Of the engine's own it gets none: a process that outlives the engine and holds
    ///   its socket would keep the next engine from starting.
    /// - Throws: `unavailable` when it cannot be started.
    static func start(_ command: [String], environment: [String], files: [Int32: String]) throws(ApusError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        let nothing: [Int32: String] = [1: "/dev/null", 2: "/dev/null"]
        for (number, path) in nothing.merging(files, uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) {
            posix_spawn_file_actions_addopen(&actions, number, path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        // In the child itself, so that none slips through which another thread opens at this moment.
        let close = "for f in /proc/self/fd/*; do f=${f##*/}; [ $f -le $0 ] || eval \"exec $f>&-\"; done; exec \"$@\""
        let whole = ["/bin/bash", "-c", close, String(max(2, files.keys.max() ?? 2))] + command
        let texts = whole.map { strdup($0) } + [nil]
        defer { for text in texts { free(text) } }
        let variables = environment.map { strdup($0) } + [nil]
        defer { for variable in variables { free(variable) } }
        var process = pid_t()
        let failure = posix_spawn(&process, whole[0], &actions, &attributes, texts, variables)
        guard failure == 0 else { throw ApusError(.unavailable, "\(whole[0]) cannot be started: \(String(cString: strerror(failure)))") }
        return process
    }

    /// Waits for a child. Blocks.
    /// - Returns: what it exited with, 128 and the signal after a signal; `nil` when it runs still at the time limit.
    static func wait(_ process: pid_t, atMost limit: Duration? = nil) -> Int32? {
        let end = limit.map { ContinuousClock.now + $0 }
        var status: Int32 = 0
        while true {
            let ended = waitpid(process, &status, end == nil ? 0 : WNOHANG)
            if ended == process { return status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f) }
            if ended < 0, errno != EINTR { return 255 }
            guard let end, ended == 0 else { continue }
            if ContinuousClock.now >= end { return nil }
            usleep(5000)
        }
    }
}
