public import PluginAPI
import Glibc

/// What the manager knows of time; tests have one that they move themselves.
public protocol ManagerClock: Sendable {
    /// The time of objects: UTC.
    func now() -> Timestamp
    /// Returns at that time or later, and early only when the task is cancelled.
    func sleep(until time: Timestamp) async
}

/// The machine's clock.
public struct SystemClock: ManagerClock {
    public init() {}

    /// `clock_gettime(2)` of `CLOCK_REALTIME`.
    public func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// Looks at the clock at least every ten seconds, for it may be set.
    public func sleep(until time: Timestamp) async {
        // The wall clock may be set meanwhile: never sleep for long at once.
        while !ConcurrentTask.isCancelled, case let rest = time - now(), rest > .zero {
            try? await ConcurrentTask.sleep(for: min(rest, .seconds(10)))
        }
    }
}
