import GRPCCore
import Synchronization

/// What tasks ask of a connection's event loop; it is woken once for any number of orders.
final class Mailbox: Sendable {
    enum Order {
        /// The call has something to send.
        case wrote(CallStream)
        /// So many bytes of the call were read: the peer may send as many.
        case credit(CallStream, Int)
        /// Nobody wants the call any more.
        case cancel(CallStream)
    }

    private struct State {
        var orders: [Order] = []
        var isScheduled = false
        /// Set when the connection is gone.
        var end: RPCError?
    }

    private let state = Mutex(State())

    /// Whether the loop is to be woken.
    func post(_ order: Order) -> Bool {
        let (wake, end) = state.withLock { state -> (Bool, RPCError?) in
            if let end = state.end { return (false, end) }
            state.orders.append(order)
            defer { state.isScheduled = true }
            return (!state.isScheduled, nil)
        }
        if let end { Self.refuse(order, end) }
        return wake
    }

    func take() -> [Order] {
        state.withLock { state in
            state.isScheduled = false
            defer { state.orders = [] }
            return state.orders
        }
    }

    /// Refuses what comes from now on; what had come.
    func close(_ error: RPCError) -> [Order] {
        state.withLock { state in
            state.end = error
            defer { state.orders = [] }
            return state.orders
        }
    }

    static func refuse(_ order: Order, _ error: RPCError) {
        if case .wrote(let stream) = order { stream.close(error) }
    }
}
