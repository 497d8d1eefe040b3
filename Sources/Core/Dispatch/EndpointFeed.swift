import PluginAPI
import Synchronization

/// A table of endpoints as it came to this node.
public struct EndpointUpdate: Sendable {
    public let table: EndpointTable
    /// Counts the tables that came to this node, whatever manager they are from.
    let number: UInt64
}

/// The tables that came to this node, and what it has to say of them.
final class EndpointFeed: Sendable {
    private struct Contents {
        var number: UInt64 = 0
        /// The last one that is in force.
        var confirmed: UInt64 = 0
        /// Tables of the stream that the leader wants to hear of, oldest first: their numbers here, and their versions there.
        var demanded: [(number: UInt64, version: UInt64)] = []
        var withdrawn: Set<ID> = []
        var wakeup: AsyncStream<Void>.Continuation?
    }

    let updates = Latest<EndpointUpdate>()
    let withdrawn = Latest<Set<ID>>([])
    let ports = Latest<[ID: [PortConfig]]>()
    private let contents = Mutex(Contents())

    /// A stream begins: what the one before it wanted to hear is of no use.
    func begin() { contents.withLock { $0.demanded = [] } }

    func deliver(_ table: EndpointTable, _ effect: EndpointSet.Effect) {
        // Inside of the lock: two tables must not pass each other.
        contents.withLock { contents in
            contents.number += 1
            if effect.mustConfirm { contents.demanded.append((contents.number, effect.version)) }
            updates.set(EndpointUpdate(table: table, number: contents.number))
            let published = table.servicePorts
            if published != ports.value { ports.set(published) }
            guard !effect.withdrawn.isSubset(of: contents.withdrawn) else { return }
            contents.withdrawn.formUnion(effect.withdrawn)
            withdrawn.set(contents.withdrawn)
        }
    }

    func confirm(_ update: EndpointUpdate) {
        contents.withLock { contents in
            contents.confirmed = max(contents.confirmed, update.number)
            if let first = contents.demanded.first, first.number <= contents.confirmed { contents.wakeup?.yield() }
        }
    }

    /// The tasks that the node has now; whether others are withdrawn is of no interest.
    func keep(_ tasks: some Sequence<ID>) {
        contents.withLock { contents in
            let kept = contents.withdrawn.intersection(tasks)
            guard kept != contents.withdrawn else { return }
            contents.withdrawn = kept
            withdrawn.set(kept)
        }
    }

    /// A session begins. Returns one element each time that there may be something to confirm.
    func confirmations() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        contents.withLock { $0.wakeup = continuation }
        continuation.yield()
        return stream
    }

    /// The version that is to be confirmed now; what a table before it was waited for counts too.
    func takeConfirmation() -> UInt64? {
        contents.withLock { contents in
            let inForce = contents.demanded.prefix { $0.number <= contents.confirmed }
            contents.demanded.removeFirst(inForce.count)
            return inForce.last?.version
        }
    }
}
