/// Majorities of a set of voters.
enum Quorum {
    /// Whether those of `voters` for whom `holds` is true are a majority. Never for an empty set.
    static func reached(_ voters: Set<MemberID>, _ holds: (MemberID) -> Bool) -> Bool {
        let count = voters.reduce(0) { $0 + (holds($1) ? 1 : 0) }
        return count * 2 > voters.count
    }

    /// The largest value that a majority of voters has reached.
    static func committed(_ voters: Set<MemberID>, _ value: (MemberID) -> UInt64) -> UInt64 {
        guard !voters.isEmpty else { return 0 }
        let values = voters.map(value).sorted(by: >)
        return values[voters.count / 2]
    }
}
