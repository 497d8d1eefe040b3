public import PluginAPI
import Synchronization

/// Something that happened, as `events` tells it (Engine API `EventMessage`).
public struct EngineEvent: Sendable, Hashable {
    /// What it happened to: `container`, `image`, `service`, `node`, `network`, `volume`, `plugin`, `swarm`.
    public var type: String
    /// `create`, `start`, `die`, …
    public var action: String
    public var actorID: String
    /// Name, image, labels and so on.
    public var attributes: [String: String]
    /// `local` or `swarm`.
    public var scope: String
    public var time: Timestamp

    public init(type: String, action: String, actorID: String, attributes: [String: String] = [:], scope: String = "local", time: Timestamp) {
        self.type = type
        self.action = action
        self.actorID = actorID
        self.attributes = attributes
        self.scope = scope
        self.time = time
    }
}

/// Hands every event to every subscriber, in order, and remembers the last ones for those who come later.
public final class EventHub: Sendable {
    /// Events that are remembered, as dockerd does.
    public static let remembered = 256
    /// Events that a subscriber may fall behind; then it misses the oldest.
    public static let backlog = 4096

    private struct State {
        var recent: [EngineEvent] = []
        var subscribers: [UInt64: AsyncStream<EngineEvent>.Continuation] = [:]
        var nextSubscriber: UInt64 = 0
    }

    private let state = Mutex(State())
    private let departures = Departures()

    public init() {}

    /// Remembers it, and hands it to all who listen, in the same order to each.
    public func publish(_ event: EngineEvent) {
        // Yielded inside of the lock: two events must not reach a subscriber in the wrong order.
        state.withLock { state in
            state.recent.append(event)
            if state.recent.count > Self.remembered { state.recent.removeFirst(state.recent.count - Self.remembered) }
            for number in departures.take() { state.subscribers[number] = nil }
            for subscriber in state.subscribers.values { subscriber.yield(event) }
        }
    }

    /// What happened lately, and everything from now on. The stream ends when its reader stops.
    public func subscribe() -> (recent: [EngineEvent], following: AsyncStream<EngineEvent>) {
        let (stream, continuation) = AsyncStream.makeStream(of: EngineEvent.self, bufferingPolicy: .bufferingNewest(Self.backlog))
        let (recent, number) = state.withLock { state in
            for number in departures.take() { state.subscribers[number] = nil }
            let number = state.nextSubscriber
            state.nextSubscriber += 1
            state.subscribers[number] = continuation
            return (state.recent, number)
        }
        continuation.onTermination = { [departures] _ in departures.add(number) }
        return (recent, stream)
    }
}
