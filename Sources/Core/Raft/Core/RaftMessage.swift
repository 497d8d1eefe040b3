/// What members say to each other.
public struct RaftMessage: Hashable, Sendable {
    /// The kinds of messages.
    public enum Content: Hashable, Sendable {
        /// Asks for a vote. A pre-vote asks whether there would be one, and changes nothing; a transfer ignores that there is a leader.
        case voteRequest(last: LogPosition, isPreVote: Bool, isTransfer: Bool)
        case voteResponse(granted: Bool, isPreVote: Bool)
        /// Entries that follow `previous`. `round` counts the leader's heartbeats, for reads.
        case append(previous: LogPosition, entries: [LogEntry], commit: UInt64, round: UInt64)
        /// Everything up to `match` is the leader's log and durable.
        case appendAccepted(match: UInt64, round: UInt64)
        /// `previous` of the leader's message is not in the log; `hint` is where the two may agree.
        case appendRejected(previousIndex: UInt64, hint: LogPosition, round: UInt64)
        /// The follower's log must begin with this snapshot, whose bytes the shell streams beside.
        case installSnapshot(SnapshotMetadata)
        /// Campaign at once: the leader hands over.
        case timeoutNow
        /// A follower's read, for the leader to answer.
        case readRequest(id: UInt64)
        case readResponse(id: UInt64, index: UInt64)
        /// `isBusy`: it leads, and too many reads wait.
        case readRejected(id: UInt64, isBusy: Bool)
    }

    /// Who sends it.
    public var from: MemberID
    /// Whom it is for.
    public var to: MemberID
    /// The sender's term, or for a pre-vote the one that it would have.
    public var term: UInt64
    /// What it says.
    public var content: Content

    /// A message of a term.
    public init(from: MemberID, to: MemberID, term: UInt64, content: Content) {
        self.from = from
        self.to = to
        self.term = term
        self.content = content
    }
}
