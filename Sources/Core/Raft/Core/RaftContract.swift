/// What happens to a core.
public enum RaftInput: Sendable, Hashable {
    /// A tick of the clock has passed (100 ms).
    case tick
    /// A message arrived, perhaps late, twice, or out of order.
    case received(RaftMessage)
    /// A command for the log. `id` comes back in the output.
    case propose(id: UInt64, payload: [UInt8])
    /// Everything up to here, of an earlier output's `persist`, is durable.
    case persisted(LogPosition)
    /// The state machine has applied everything up to here.
    case applied(UInt64)
    /// Asks from which index on a read is linearizable. `id` comes back in the output.
    case readIndex(id: UInt64)
    /// Changes the membership by one step. `id` comes back in the output.
    case changeMembers(id: UInt64, MembershipChange)
    /// The leader hands over to this voter, when that has caught up.
    case transferLeadership(to: MemberID)
    /// A leader asks everybody for a sign of life now.
    case heartbeat
    /// The shell has a durable snapshot; the log before it may go.
    case snapshotTaken(SnapshotMetadata)
    /// The transport lost the way to a member, or failed to bring it a snapshot. When it is the leader, the next election comes soon.
    case unreachable(MemberID)
    /// This member cannot do a leader's work now, such as for want of disk space: somebody else shall lead.
    case stepDown
    /// The transport brought a member the snapshot that was sent last.
    case snapshotDelivered(MemberID)
    /// Campaign now: a group of one need not wait.
    case campaign
}

/// What the shell must do, in this order: persist, then send, then apply. Reads and the rest may be answered at any time, and some messages may
/// be sent before: ``sendOrder(of:)``.
public struct RaftOutput: Sendable, Hashable {
    /// To be made durable, together, before anything below is done. `nil` when there is nothing.
    public var persist: RaftPersist?
    /// To be sent after that; each may be lost.
    public var send: [RaftMessage] = []
    /// Committed entries, in order and each once, after those of earlier outputs.
    public var apply: [LogEntry] = []
    /// A snapshot of a leader that replaces the whole state; it comes before `apply`. Its bytes came with the message.
    public var restore: SnapshotMetadata?
    /// Reads that may be answered once the state machine has applied the index.
    public var reads: [ReadReady] = []
    /// Proposals and membership changes that are in the log now, at a place where they may yet be overwritten by another leader.
    public var accepted: [Accepted] = []
    /// Proposals, membership changes and reads that will not happen.
    public var rejected: [Rejected] = []
    /// Set when role, term or leader are new.
    public var roleChange: RoleChange?
    /// A member needs a snapshot newer than the last one: take one, and say `snapshotTaken`.
    public var wantsSnapshot = false

    public init() {}

    /// The messages of outputs that are carried out together: those that may be sent before anything of them is durable, and the rest.
    ///
    /// A leader may send entries while it writes them itself (Ongaro, "Consensus: Bridging Theory and Practice", 10.2.1): its own copy counts only when
    /// `persisted` has been said. Everything else is a promise, and must wait; so must all, where a term or a vote is not durable yet.
    public static func sendOrder(of outputs: [RaftOutput]) -> (early: [RaftMessage], late: [RaftMessage]) {
        let messages = outputs.flatMap(\.send)
        guard outputs.allSatisfy({ $0.persist?.hardState == nil && $0.persist?.snapshot == nil && $0.restore == nil }) else { return ([], messages) }
        var order: (early: [RaftMessage], late: [RaftMessage]) = ([], [])
        for message in messages {
            if case .append = message.content { order.early.append(message) } else { order.late.append(message) }
        }
        return order
    }

    /// A read that is linearizable from an index on.
    public struct ReadReady: Sendable, Hashable {
        /// Of `readIndex`.
        public var id: UInt64
        /// The read may be answered once this is applied.
        public var index: UInt64
    }

    /// A proposal that is in the log, but not committed yet.
    public struct Accepted: Sendable, Hashable {
        /// Of `propose` or `changeMembers`.
        public var id: UInt64
        /// Committed when an entry of this index and term is applied; lost when one of another term is.
        public var position: LogPosition
    }

    /// A proposal, membership change or read that will not happen.
    public struct Rejected: Sendable, Hashable {
        /// Of the input.
        public var id: UInt64
        public var reason: Reason
        /// Where to try instead, if known.
        public var leader: MemberID?
    }

    /// Why something was rejected.
    public enum Reason: Sendable, Hashable {
        case notLeader
        case tooLarge
        /// Too much is waiting to be committed.
        case busy
        /// Leadership is being handed over.
        case transferring
        /// Another change of the membership is on its way, or the term has not begun yet.
        case changePending
        /// The change makes no sense: an unknown member, a learner that lags, the last voter.
        case badChange
    }

    /// What a member is from now on.
    public struct RoleChange: Sendable, Hashable {
        /// In this term.
        public var role: RaftRole
        /// The current one.
        public var term: UInt64
        /// Of this term; `nil` while it is not known.
        public var leader: MemberID?

        /// A role in a term.
        public init(role: RaftRole, term: UInt64, leader: MemberID?) {
            self.role = role
            self.term = term
            self.leader = leader
        }
    }
}

/// What must be durable before an output's messages leave.
public struct RaftPersist: Sendable, Hashable {
    /// `nil` when it has not changed.
    public var hardState: HardState?
    /// A snapshot that replaces the whole log; it comes before `entries`.
    public var snapshot: SnapshotMetadata?
    /// In order; an index that is in the log already replaces it and all that follow.
    public var entries: [LogEntry] = []

    public init() {}

    /// What to report as `persisted`; `nil` when the log has not changed.
    public var position: LogPosition? {
        if let last = entries.last { return LogPosition(index: last.index, term: last.term) }
        return snapshot?.position
    }
}
