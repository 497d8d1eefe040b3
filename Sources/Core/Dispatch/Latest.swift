import Events
import Synchronization

/// A value that many follow: each gets the newest at once and after every change, and misses what was replaced before it looked.
final class Latest<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var followers: [UInt64: AsyncStream<Value>.Continuation] = [:]
        var nextFollower: UInt64 = 0
    }

    private let state: Mutex<State>
    private let departures = Departures()

    init(_ value: Value? = nil) { state = Mutex(State(value: value)) }

    var value: Value? { state.withLock(\.value) }

    func set(_ value: Value) {
        // Yielded inside of the lock: two values must not reach a follower in the wrong order.
        state.withLock { state in
            state.value = value
            for number in departures.take() { state.followers[number] = nil }
            for follower in state.followers.values { follower.yield(value) }
        }
    }

    /// Ends with its reader.
    func stream() -> AsyncStream<Value> {
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingNewest(1))
        let number = state.withLock { state in
            for number in departures.take() { state.followers[number] = nil }
            state.nextFollower += 1
            state.followers[state.nextFollower] = continuation
            if let value = state.value { continuation.yield(value) }
            return state.nextFollower
        }
        continuation.onTermination = { [departures] _ in departures.add(number) }
        return stream
    }
}
