public import PluginAPI

/// A member of a Raft group, unique for ever in its swarm; never 0.
public struct MemberID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Never 0.
    public let number: UInt64

    public init(_ number: UInt64) { self.number = number }

    public static func < (left: MemberID, right: MemberID) -> Bool { left.number < right.number }

    public var description: String { String(number, radix: 16) }
}

/// Which node a member is, and where the others find it.
public struct MemberContact: Hashable, Sendable {
    /// The node whose manager it is.
    public var node: ID
    /// `host:port`.
    public var address: String

    public init(node: ID, address: String) {
        self.node = node
        self.address = address
    }
}

/// Who takes part: voters decide, learners only follow.
public struct Membership: Hashable, Sendable, CustomStringConvertible {
    /// Those whose majority decides.
    public var voters: Set<MemberID>
    /// Those that get the log and do not vote.
    public var learners: Set<MemberID>
    /// How each is found, as far as the group was told. With it a member knows from its own log whom to ask for votes, and where.
    public var contacts: [MemberID: MemberContact]

    public init(voters: Set<MemberID> = [], learners: Set<MemberID> = [], contacts: [MemberID: MemberContact] = [:]) {
        self.voters = voters
        self.learners = learners
        self.contacts = contacts
    }

    /// Voters and learners.
    public var all: Set<MemberID> { voters.union(learners) }

    public var description: String { "voters \(voters.sorted()), learners \(learners.sorted())" }
}

/// One change of the membership; a group makes one at a time.
public enum MembershipChange: Hashable, Sendable {
    case addLearner(MemberID, at: MemberContact? = nil)
    /// Makes a learner a voter; refused until it has caught up.
    case promote(MemberID)
    case remove(MemberID)
    /// Tells where a member is now.
    case relocate(MemberID, to: MemberContact)
}

/// One entry of the replicated log.
public struct LogEntry: Hashable, Sendable {
    /// What an entry is for.
    public enum Kind: UInt8, Sendable, Hashable {
        /// A new leader's first entry, which commits those of earlier terms.
        case empty = 0
        /// A command of the state machine.
        case command = 1
        /// An encoded `Membership`, in effect from the moment it is in the log.
        case membership = 2
    }

    /// 1 and up, without a gap.
    public var index: UInt64
    /// Of the leader that put it there.
    public var term: UInt64
    /// What the payload is.
    public var kind: Kind
    /// Empty for an entry that only begins a term.
    public var payload: [UInt8]

    public init(index: UInt64, term: UInt64, kind: Kind, payload: [UInt8] = []) {
        self.index = index
        self.term = term
        self.kind = kind
        self.payload = payload
    }
}

/// A place in the log.
public struct LogPosition: Hashable, Sendable, Comparable {
    /// 0: before the first entry.
    public var index: UInt64
    /// Of the entry there; 0 with index 0.
    public var term: UInt64

    public init(index: UInt64 = 0, term: UInt64 = 0) {
        self.index = index
        self.term = term
    }

    /// By term, then index: which of two logs is further.
    public static func < (left: LogPosition, right: LogPosition) -> Bool {
        left.term != right.term ? left.term < right.term : left.index < right.index
    }
}

/// What a member must remember whatever happens.
public struct HardState: Hashable, Sendable {
    /// The newest that this member has seen.
    public var term: UInt64
    /// Who got this member's vote in this term.
    public var vote: MemberID?

    public init(term: UInt64 = 0, vote: MemberID? = nil) {
        self.term = term
        self.vote = vote
    }
}

/// What a snapshot covers.
public struct SnapshotMetadata: Hashable, Sendable {
    /// The last entry that is in it.
    public var position: LogPosition
    /// The membership at that entry.
    public var membership: Membership

    public init(position: LogPosition, membership: Membership) {
        self.position = position
        self.membership = membership
    }
}

/// What a member is at the moment.
public enum RaftRole: String, Sendable, Hashable {
    case follower, preCandidate, candidate, leader
}

/// Timing and limits, in ticks and bytes.
public struct RaftSettings: Sendable, Hashable {
    /// Ticks without a leader until an election, at least; the actual number is random, up to twice as many.
    public var electionTicks = 10
    /// Ticks between heartbeats.
    public var heartbeatTicks = 1
    /// Bytes of one entry's payload.
    public var entryLimit = 1 << 20
    /// Bytes of payload in one append message.
    public var appendLimit = 1 << 20
    /// Append messages on their way to one member.
    public var inFlightLimit = 64
    /// Bytes of entries that are proposed and not committed; more is refused.
    public var uncommittedLimit = 64 << 20
    /// Applied entries kept in memory for slow followers.
    public var keptEntries = 500
    /// Reads that wait on a leader, of its own and of the others; more is refused.
    public var readLimit = 100_000
    /// How far a learner may be behind when it becomes a voter, in entries.
    public var promotionLag: UInt64 = 100

    public init() {}
}

/// A small generator with a seed, so that elections repeat in a simulation (Steele, Lea, Flood: SplitMix, 2014).
public struct SeededGenerator: RandomNumberGenerator, Sendable, Hashable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
