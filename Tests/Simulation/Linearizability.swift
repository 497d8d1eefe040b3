/// One operation of a client on a register.
struct RegisterOperation: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        case write(UInt32)
        /// 0 is the register's first value.
        case read(UInt32)
    }

    var kind: Kind
    /// When it was asked for.
    var start: Int
    /// When it was answered; `nil` when it never was, so that it may have happened at any time after its start, or not at all.
    var end: Int?
}

/// Whether a history could have happened on one register, each operation at one moment between its question and its answer
/// (Wing, Gong, "Testing and verifying concurrent objects", 1993; states that were seen before are not tried again, after Lowe, 2017).
struct LinearizabilityChecker {
    enum Verdict: Equatable {
        case linearizable
        case wrong
        /// More states than the limit.
        case undecided
    }

    /// Operations of one history at most: one bit each.
    static let operationLimit = 64

    var stateLimit = 1_000_000

    private struct State: Hashable {
        /// The operations that have happened.
        var done: UInt64 = 0
        var value: UInt32 = 0
    }

    func check(_ history: [RegisterOperation]) -> Verdict {
        guard history.count <= Self.operationLimit else { return .undecided }
        // A read without an answer tells nothing.
        let operations = history.filter { operation in
            if case .read = operation.kind { return operation.end != nil }
            return true
        }
        var required: UInt64 = 0
        for (index, operation) in operations.enumerated() where operation.end != nil { required |= 1 << UInt64(index) }
        var seen: Set<State> = [State()]
        var stack = [State()]
        while let state = stack.popLast() {
            if state.done & required == required { return .linearizable }
            // Nothing may happen after the answer to something that has not happened yet.
            var firstEnd = Int.max
            for (index, operation) in operations.enumerated() where state.done & (1 << UInt64(index)) == 0 {
                if let end = operation.end { firstEnd = min(firstEnd, end) }
            }
            for (index, operation) in operations.enumerated() where state.done & (1 << UInt64(index)) == 0 && operation.start < firstEnd {
                var next = state
                next.done |= 1 << UInt64(index)
                switch operation.kind {
                case .write(let value): next.value = value
                case .read(let value): if value != state.value { continue }
                }
                if seen.insert(next).inserted { stack.append(next) }
            }
            if seen.count > stateLimit { return .undecided }
        }
        return .wrong
    }
}
