import PluginAPI
import Raft
import Synchronization
import Wire

/// What waits to be sent to one member, with a bound: messages may be lost, memory may not.
final class PeerLink: Sendable {
    /// Messages and bytes that wait at most. Beyond that the oldest go.
    static let countLimit = 4096
    static let byteLimit = 64 << 20
    /// Bytes of one batch, about; one message may be larger.
    static let batchSize = 1 << 20

    private struct State {
        var messages: [RaftMessage] = []
        var bytes = 0
        var signal: AsyncStream<Void>.Continuation?
        var isRenewing = false
        var task: ConcurrentTask<Void, Never>?
    }

    let member: MemberID
    private let state = Mutex(State())

    init(_ member: MemberID) { self.member = member }

    func add(_ messages: [RaftMessage]) {
        state.withLock { state in
            state.messages += messages
            state.bytes += messages.reduce(0) { $0 + $1.size }
            var excess = max(0, state.messages.count - Self.countLimit)
            var bytes = state.bytes - state.messages.prefix(excess).reduce(0) { $0 + $1.size }
            while bytes > Self.byteLimit, excess < state.messages.count - 1 {
                bytes -= state.messages[excess].size
                excess += 1
            }
            if excess > 0 { state.messages.removeFirst(excess) }
            state.bytes = bytes
            state.signal?.yield()
        }
    }

    /// The next batch, `nil` when nothing waits.
    func take() -> RaftBatch? {
        state.withLock { state in
            if state.messages.isEmpty { return nil }
            var count = 0
            var bytes = 0
            while count < state.messages.count, count == 0 || bytes + state.messages[count].size <= Self.batchSize {
                bytes += state.messages[count].size
                count += 1
            }
            var batch = RaftBatch()
            batch.messages = state.messages.prefix(count).map { RaftPeerMessage($0) }
            state.messages.removeFirst(count)
            state.bytes -= bytes
            return batch
        }
    }

    /// Old messages are of no use to a connection that is made later.
    func clear() {
        state.withLock { state in
            state.messages = []
            state.bytes = 0
        }
    }

    var waiting: Int { state.withLock { $0.messages.count } }

    /// Tells of messages from here on; only one stream at a time.
    func signals() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        continuation.yield()
        state.withLock { state in
            state.signal?.finish()
            state.signal = continuation
        }
        return stream
    }

    func endSignals() { state.withLock { $0.signal?.finish() } }

    /// Ends the present stream after what waits, so that another one takes its place.
    func renew() {
        state.withLock { state in
            guard let signal = state.signal else { return }
            state.isRenewing = true
            signal.finish()
        }
    }

    /// Whether the last stream ended to be renewed.
    func takeRenewal() -> Bool {
        state.withLock { state in
            defer { state.isRenewing = false }
            return state.isRenewing
        }
    }

    /// Starts the task that sends, once.
    func start(_ body: @escaping @Sendable () async -> Void) {
        state.withLock { state in if state.task == nil { state.task = ConcurrentTask { await body() } } }
    }

    func end() async {
        let task = state.withLock { $0.task }
        task?.cancel()
        endSignals()
        await task?.value
    }
}
