/// How a group looks from one member.
public struct RaftStatus: Sendable, Hashable {
    /// One member of the group.
    public struct Member: Sendable, Hashable {
        public var id: MemberID
        /// False for a learner.
        public var isVoter: Bool
        public var isLeader: Bool
        /// Whether it was heard from within an election time. `nil` when this member does not lead, and so does not know; a leader
        /// reaches itself.
        public var isReachable: Bool?
        /// All entries up to here are durable on it. `nil` when this member does not lead.
        public var matchIndex: UInt64?
    }

    public var id: MemberID
    public var role: RaftRole
    public var term: UInt64
    /// `nil` when none is known, or when the known one was lost.
    public var leader: MemberID?
    /// Voters and learners, in rising order of their numbers.
    public var members: [Member]
    public var lastIndex: UInt64
    public var committedIndex: UInt64
    public var appliedIndex: UInt64
    /// Why this member cannot write at the moment, such as a full disk; it goes on by itself when that is over.
    public var suspension: String?
}

extension RaftCore {
    /// What is known of the group.
    var status: RaftStatus {
        let members = membership.all.sorted().map { member in
            RaftStatus.Member(
                id: member, isVoter: membership.voters.contains(member), isLeader: leader == member,
                isReachable: role == .leader ? isReachable(member) : nil,
                matchIndex: role == .leader ? (member == id ? log.persisted : progress[member]?.match ?? 0) : nil)
        }
        return RaftStatus(
            id: id, role: role, term: term, leader: leaderIsLost ? nil : leader, members: members, lastIndex: log.lastIndex,
            committedIndex: log.committed, appliedIndex: log.applied, suspension: nil)
    }

    /// For a leader: whether a member was heard from lately.
    func isReachable(_ member: MemberID) -> Bool {
        member == id || (progress[member].map { $0.silentTicks < settings.electionTicks } ?? false)
    }

    /// The voter that is furthest among those that can be reached, without this member.
    var bestSuccessor: MemberID? {
        membership.voters.filter { $0 != id && isReachable($0) }.max {
            (progress[$0]?.match ?? 0, $1) < (progress[$1]?.match ?? 0, $0)
        }
    }

    /// Whether a learner has what it takes to become a voter.
    func hasCaughtUp(_ member: MemberID) -> Bool {
        guard let state = progress[member] else { return false }
        return isReachable(member) && state.match + settings.promotionLag >= log.lastIndex
    }

    /// What is left when a member goes: voters that have answered this heartbeat or a later one, and all. The leader answers itself.
    func votersLeft(without member: MemberID, answering round: UInt64) -> (answered: Int, total: Int) {
        let rest = membership.voters.subtracting([member])
        return (rest.count { $0 == id || (progress[$0]?.round ?? 0) >= round }, rest.count)
    }
}
