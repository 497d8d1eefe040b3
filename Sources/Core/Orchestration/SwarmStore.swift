public import PluginAPI

/// What the manager and the dispatcher need of a store; the object store is this, and so is the memory of a test.
public protocol SwarmStore: Sendable {
    associatedtype State: SwarmState & Sendable
    associatedtype Transaction: SwarmTransaction

    /// What is committed and applied.
    func read() -> State
    /// What is there, and every commit after it, in order. The stream may end when the reader falls behind: then watch anew.
    func watchEvents() -> (state: State, commits: AsyncStream<[SwarmEvent]>)
    /// Returns after the commit.
    func transact<Result: Sendable>(
        _ body: @escaping @Sendable (inout Transaction) throws(ApusError) -> Result
    ) async throws(ApusError) -> Result
}

/// What became of planned changes.
public struct ApplyOutcome: Sendable {
    /// Skipped because they made no sense any more, or not reached because of the error.
    public var notApplied: [PlannedChange] = []
    public var error: ApusError?
}

extension SwarmStore {
    /// Applies changes in transactions of a bounded size; a unit stays whole unless it is larger than that.
    public func apply(_ units: [[PlannedChange]], now: Timestamp, chunk limit: Int = 200) async -> ApplyOutcome {
        var outcome = ApplyOutcome()
        var chunk: [PlannedChange] = []
        var rest = units[...]
        while outcome.error == nil, let unit = rest.first {
            if chunk.isEmpty || chunk.count + unit.count <= limit {
                chunk += unit
                rest.removeFirst()
                if !rest.isEmpty { continue }
            }
            await commit(chunk, now, &outcome)
            chunk = []
        }
        for unit in rest { outcome.notApplied += unit }
        return outcome
    }

    private func commit(_ chunk: [PlannedChange], _ now: Timestamp, _ outcome: inout ApplyOutcome) async {
        do throws(ApusError) {
            outcome.notApplied += try await transact { transaction throws(ApusError) in
                var skipped: [PlannedChange] = []
                for change in chunk {
                    do throws(ApusError) {
                        if try !change.apply(to: &transaction, now: now) { skipped.append(change) }
                    } catch  where error.code == .conflict || error.code == .notFound {
                        skipped.append(change)
                    }
                }
                return skipped
            }
        } catch {
            if error.code == .tooLarge, chunk.count > 1 {
                await commit(Array(chunk.prefix(chunk.count / 2)), now, &outcome)
                await commit(Array(chunk.dropFirst(chunk.count / 2)), now, &outcome)
            } else {
                outcome.error = error
                outcome.notApplied += chunk
            }
        }
    }
}
