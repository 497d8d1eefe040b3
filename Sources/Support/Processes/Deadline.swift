import CLinux
import Glibc
import Synchronization

/// Calls back after a time, on one thread for all.
///
/// For what a task group with a sleeping child cannot do: ending something that is not cancelled by cancellation.
public final class Deadline: Sendable {
    public static let shared = Deadline()

    /// Names a call, to take it back.
    public struct Handle: Sendable, Hashable {
        fileprivate var number: UInt64
    }

    private struct State {
        var calls: [UInt64: (due: ContinuousClock.Instant, body: @Sendable () -> Void)] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())
    private let wake: Int32

    private init() {
        wake = eventfd(0, Int32(EFD_CLOEXEC))
        startThread(named: "apus-deadline") { [self] in run() }
    }

    /// The call must be short: others wait for it.
    public func after(_ duration: Duration, _ body: @escaping @Sendable () -> Void) -> Handle {
        let handle = state.withLock { state in
            state.next += 1
            state.calls[state.next] = (.now + duration, body)
            return Handle(number: state.next)
        }
        var one: UInt64 = 1
        write(wake, &one, 8)
        return handle
    }

    /// Takes a call back; one that is being made goes on.
    public func cancel(_ handle: Handle) { _ = state.withLock { $0.calls.removeValue(forKey: handle.number) } }

    private func run() {
        while true {
            let now = ContinuousClock.now
            let (due, next) = state.withLock { state in
                let due = state.calls.filter { $0.value.due <= now }
                for key in due.keys { state.calls[key] = nil }
                return (due.sorted { $0.value.due < $1.value.due }.map(\.value.body), state.calls.values.map(\.due).min())
            }
            for body in due { body() }
            let (seconds, attoseconds) = next.map { ContinuousClock.now.duration(to: $0).components } ?? (3600, 0)
            let milliseconds = max(0, min(seconds, 3600) * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
            var descriptor = pollfd(fd: wake, events: Int16(POLLIN), revents: 0)
            if poll(&descriptor, 1, Int32(milliseconds)) > 0 {
                var count: UInt64 = 0
                read(wake, &count, 8)
            }
        }
    }
}
