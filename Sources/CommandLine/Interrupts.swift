import Glibc
import PluginAPI
import Synchronization

/// Ctrl-C and the ends that others ask for.
protocol InterruptSource: Sendable {
    /// Runs `body`; from its begin to its end, `action` answers SIGINT and SIGTERM in place of the process ending.
    func handling<Result: Sendable>(
        _ action: @escaping @Sendable (Int32) -> Void, during body: @Sendable () async throws -> Result
    ) async throws -> Result
}

/// The signals of this process.
///
/// A handler may only call what is safe in a signal, so it writes the number into a pipe, and a thread reads it there.
struct SignalInterrupts: InterruptSource {
    private static let pipeEnd = Atomic<Int32>(-1)

    func handling<Result: Sendable>(
        _ action: @escaping @Sendable (Int32) -> Void, during body: @Sendable () async throws -> Result
    ) async throws -> Result {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw ApusError(.failed, "no pipe could be made (error \(errno))") }
        let (reading, writing) = (ends[0], ends[1])
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        Self.pipeEnd.store(writing, ordering: .sequentiallyConsistent)
        let context = Unmanaged.passRetained(SignalReader(descriptor: reading, action: action))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<SignalReader>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            context.release()
            close(reading)
            close(writing)
            throw ApusError(.failed, "no thread could be made (error \(result))")
        }
        for number in [SIGINT, SIGTERM] { signal(number) { SignalInterrupts.note($0) } }
        defer {
            for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
            Self.pipeEnd.store(-1, ordering: .sequentiallyConsistent)
            // The reader sees the end of the pipe and closes its own side.
            close(writing)
            pthread_detach(thread)
        }
        return try await body()
    }

    private static func note(_ number: Int32) {
        let end = pipeEnd.load(ordering: .sequentiallyConsistent)
        var byte = UInt8(truncatingIfNeeded: number)
        if end >= 0 { _ = write(end, &byte, 1) }
    }
}

private final class SignalReader: Sendable {
    let descriptor: Int32
    let action: @Sendable (Int32) -> Void

    init(descriptor: Int32, action: @escaping @Sendable (Int32) -> Void) {
        self.descriptor = descriptor
        self.action = action
    }

    func run() {
        var byte: UInt8 = 0
        while true {
            let count = read(descriptor, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1 else { break }
            action(Int32(byte))
        }
        close(descriptor)
    }
}
