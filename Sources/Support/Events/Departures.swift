import Synchronization

/// Readers that have left, until whoever serves them comes to strike them off.
///
/// A reader leaves while the runtime holds the lock of its task. Whoever serves readers gives them elements under a lock of its own, and for that needs the
/// task's. So the one must never wait for the other: leaving takes no lock under which anything is given out.
public final class Departures: Sendable {
    private let numbers = Mutex<[UInt64]>([])

    public init() {}

    /// A reader has left.
    public func add(_ number: UInt64) { numbers.withLock { $0.append(number) } }

    /// Those that have left since the last time.
    public func take() -> [UInt64] {
        numbers.withLock { numbers in
            defer { numbers = [] }
            return numbers
        }
    }
}
