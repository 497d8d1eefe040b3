import Logging
import NIOCore
import Synchronization

/// Connections whose peer has shown no valid certificate, so that they stay few.
final class StrangerTable: Sendable {
    private struct Entry {
        var address: String
        /// Whether its handshake is over: it waits for nothing but its answer, such as a node that joins.
        var isOpen = false
        weak var connection: ServerConnection?
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var perAddress: [String: Int] = [:]
        var next: UInt64 = 1
    }

    private let limits: StrangerLimits
    private let state = Mutex(State())

    init(_ limits: StrangerLimits) { self.limits = limits }

    /// Enters one more; those that must go for it.
    func add(_ address: String) -> (UInt64, [ServerConnection]) {
        state.withLock { state in
            var evicted: [ServerConnection] = []
            if state.perAddress[address, default: 0] >= limits.connectionsPerAddress {
                evict(&state, &evicted) { $0.address == address }
            }
            if state.entries.count >= limits.connections { evict(&state, &evicted) { _ in true } }
            let number = state.next
            state.next += 1
            state.entries[number] = Entry(address: address)
            state.perAddress[address, default: 0] += 1
            return (number, evicted)
        }
    }

    // Numbers grow, so the least is the oldest. The search is over a thousand at most by default.
    private func evict(_ state: inout State, _ evicted: inout [ServerConnection], where matches: (Entry) -> Bool) {
        // Those without a handshake first: many honest nodes may come from one address, and what they have finished is not for the next one to undo.
        let candidates = state.entries.filter { matches($0.value) }
        guard let number = candidates.min(by: { ($0.value.isOpen ? 1 : 0, $0.key) < ($1.value.isOpen ? 1 : 0, $1.key) })?.key else { return }
        if let connection = state.entries[number]?.connection { evicted.append(connection) }
        Self.remove(number, &state)
    }

    func set(_ connection: ServerConnection, _ number: UInt64) { state.withLock { $0.entries[number]?.connection = connection } }

    /// Its handshake is over, without a certificate.
    func setOpen(_ number: UInt64) { state.withLock { $0.entries[number]?.isOpen = true } }

    /// It has shown a certificate, or is gone.
    func remove(_ number: UInt64) { state.withLock { Self.remove(number, &$0) } }

    private static func remove(_ number: UInt64, _ state: inout State) {
        guard let entry = state.entries.removeValue(forKey: number) else { return }
        let left = (state.perAddress[entry.address] ?? 1) - 1
        state.perAddress[entry.address] = left > 0 ? left : nil
    }

    var count: Int { state.withLock { $0.entries.count } }
}

/// Warnings that a peer can cause, so that it cannot fill the log: twenty at once, then one a second, with a count of those left out.
final class RefusalLog: Sendable {
    private struct State {
        var bucket = TokenBucket(burst: 20, perSecond: 1)
        var suppressed = 0
    }

    private let state = Mutex(State())

    func log(_ message: Logger.Message, _ logger: Logger, _ metadata: Logger.Metadata) {
        let suppressed = state.withLock { state -> Int? in
            guard state.bucket.take(now: NIODeadline.now().uptimeNanoseconds) else {
                state.suppressed += 1
                return nil
            }
            defer { state.suppressed = 0 }
            return state.suppressed
        }
        guard let suppressed else { return }
        var metadata = metadata
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        logger.warning(message, metadata: metadata)
    }
}
