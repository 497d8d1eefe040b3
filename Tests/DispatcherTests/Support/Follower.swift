import Synchronization

/// The last value of a stream, kept while the test looks elsewhere.
final class Follower<Value: Sendable>: Sendable {
    private let seen = Mutex<[Value]>([])
    var last: Value? { seen.withLock(\.last) }
    var all: [Value] { seen.withLock { $0 } }
    func follow(_ stream: AsyncStream<Value>) async { for await value in stream { seen.withLock { $0.append(value) } } }
}
