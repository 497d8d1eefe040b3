import Synchronization

/// A value that is set once, after those that need it were made.
final class Latch<Value: Sendable>: Sendable {
    private let content = Mutex<Value?>(nil)

    var value: Value? { content.withLock { $0 } }

    /// The first one counts.
    func set(_ value: Value) { content.withLock { $0 = $0 ?? value } }
}
