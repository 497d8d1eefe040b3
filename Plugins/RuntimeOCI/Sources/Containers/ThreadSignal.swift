import CLinux
import Glibc
import Processes

/// What is true of all threads of this plugin.
enum ThreadSignals {
    /// A pipe whose reader is gone is an error of the write, not the end of the engine.
    static func blockBrokenPipe() {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }
}

/// Tells a thread that polls something: that its caller has gone, that a container has ended.
final class ThreadSignal: Sendable {
    private let handle = Descriptor(eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)))

    /// Readable once it was sent; holds how often.
    var descriptor: Int32 { handle.number }

    func send() {
        var one: UInt64 = 1
        write(handle.number, &one, 8)
    }
}
