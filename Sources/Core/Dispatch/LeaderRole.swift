import PluginAPI

/// What a manager does while it leads, and only then.
public struct LeaderRole: Sendable {
    private let work: [@Sendable () async -> Void]

    /// - Parameter work: each works until it is cancelled: `Manager.run`, `NodeSessions.run`, the loops of the certificate authority.
    public init(_ work: [@Sendable () async -> Void]) { self.work = work }

    /// Follows the terms in which this manager leads: begins the work with each, and cancels and awaits it at once when the term is over.
    /// Two never overlap. Returns, with the work ended, when the stream ends or this is cancelled.
    /// - Parameter terms: Raft's term while this manager leads, `nil` while it does not. Values that were replaced
    ///   before they were looked at may be missing.
    public func run(_ terms: AsyncStream<UInt64?>) async {
        var current: UInt64?
        var running: ConcurrentTask<Void, Never>?
        for await term in terms where term != current {
            running?.cancel()
            await running?.value
            running = nil
            current = term
            guard term != nil else { continue }
            let work = work
            running = ConcurrentTask {
                await withDiscardingTaskGroup { group in
                    for body in work { group.addTask { await body() } }
                }
            }
        }
        running?.cancel()
        await running?.value
    }
}
