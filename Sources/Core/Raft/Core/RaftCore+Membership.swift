/// Changes of the membership, one member at a time (the thesis, chapter 4): majorities of the old and the new group overlap.
extension RaftCore {
    mutating func changeMembers(id changeID: UInt64, _ change: MembershipChange) {
        guard role == .leader else { return reject(changeID, .notLeader) }
        guard transferTarget == nil else { return reject(changeID, .transferring) }
        // One at a time, and only once this leader knows all earlier ones.
        guard isEstablishedLeader && !isChangingMembership || mistakes.contains(.membershipChangedEarly) else {
            return reject(changeID, .changePending)
        }
        var changed = membership
        switch change {
        case .addLearner(let member):
            guard !changed.all.contains(member) else { return reject(changeID, .badChange) }
            changed.learners.insert(member)
        case .promote(let member):
            guard changed.learners.contains(member), let match = progress[member]?.match, match + settings.promotionLag >= log.lastIndex
            else { return reject(changeID, .badChange) }
            changed.learners.remove(member)
            changed.voters.insert(member)
        case .remove(let member):
            guard changed.all.contains(member), changed.voters != [member] else { return reject(changeID, .badChange) }
            changed.voters.remove(member)
            changed.learners.remove(member)
        }
        let position = append(kind: .membership, payload: changed.encoded())
        output.accepted.append(RaftOutput.Accepted(id: changeID, position: position))
    }

    /// A membership is in effect from the moment it is in the log.
    mutating func noteMembership(of entry: LogEntry) {
        guard entry.kind == .membership, let membership = Membership(decoding: entry.payload) else { return }
        memberships.append(MembershipRecord(index: entry.index, membership: membership))
        guard role == .leader else { return }
        let all = membership.all
        progress = progress.filter { all.contains($0.key) }
        for member in all where progress[member] == nil {
            progress[member] = Progress(next: log.lastIndex)
            progress[member]?.isActive = true
        }
    }

    mutating func membershipCommitted(upTo index: UInt64) {
        guard let last = memberships.last, last.index <= index, role == .leader else { return }
        // A leader that is not a voter any more leads until its own removal is decided.
        if !last.membership.voters.contains(id) { becomeFollower(term: term, leader: nil) }
    }
}

extension Membership {
    /// Two lists, voters and learners: a count of four bytes and eight bytes each, little-endian, in rising order.
    public func encoded() -> [UInt8] {
        var bytes = ByteWriter()
        for list in [voters.sorted(), learners.sorted()] {
            bytes.append(UInt32(clamping: list.count))
            for member in list { bytes.append(member.number) }
        }
        return bytes.bytes
    }

    /// `nil` for anything that `encoded` does not make.
    public init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        self.init()
        guard let voters = Self.readList(&reader), let learners = Self.readList(&reader), reader.isAtEnd else { return nil }
        self.init(voters: voters, learners: learners)
    }

    private static func readList(_ reader: inout ByteReader) -> Set<MemberID>? {
        guard let count = reader.readUInt32(), Int(count) * 8 <= reader.remaining else { return nil }
        var members: Set<MemberID> = []
        for _ in 0..<count {
            guard let number = reader.readUInt64() else { return nil }
            members.insert(MemberID(number))
        }
        return members
    }
}
