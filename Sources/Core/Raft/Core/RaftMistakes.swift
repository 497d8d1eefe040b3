/// Deliberate mistakes: with any of them the simulation must find that the group is wrong. None is ever set in the product.
struct RaftMistakes: OptionSet, Sendable, Hashable {
    let rawValue: Int

    /// A second vote in the same term.
    static let voteTwice = RaftMistakes(rawValue: 1 << 0)
    /// A vote for a candidate whose log is behind.
    static let voteForShorterLog = RaftMistakes(rawValue: 1 << 1)
    /// Entries of an earlier term count as committed by their number of copies alone (the thesis, section 3.6.2).
    static let commitOlderTerm = RaftMistakes(rawValue: 1 << 2)
    /// The leader counts its own copy before it is durable.
    static let countUnpersisted = RaftMistakes(rawValue: 1 << 3)
    /// A read is answered without asking whether this member still leads.
    static let readWithoutQuorum = RaftMistakes(rawValue: 1 << 4)
    /// A new leader answers reads before it knows what is committed.
    static let readBeforeFirstCommit = RaftMistakes(rawValue: 1 << 5)
    /// A change of the membership on top of one that is not committed.
    static let membershipChangedEarly = RaftMistakes(rawValue: 1 << 6)
    /// Messages of an earlier term are taken for those of this one.
    static let staleLeaderFollowed = RaftMistakes(rawValue: 1 << 7)
    /// An append that comes late cuts off what followed it.
    static let oldAppendTruncates = RaftMistakes(rawValue: 1 << 8)
    /// A follower commits entries that it has not compared with the leader's.
    static let commitBeyondMatch = RaftMistakes(rawValue: 1 << 9)
    /// A snapshot that comes late takes the entries after it along.
    static let snapshotDropsSuffix = RaftMistakes(rawValue: 1 << 10)
    /// For the simulated shell: messages leave before what they depend on is durable.
    static let sendBeforePersisting = RaftMistakes(rawValue: 1 << 11)
}
