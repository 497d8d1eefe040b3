import PluginAPI

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
        case .addLearner(let member, let contact):
            guard !changed.all.contains(member) else { return reject(changeID, .badChange) }
            changed.learners.insert(member)
            changed.contacts[member] = contact
        case .promote(let member):
            guard changed.learners.contains(member), let match = progress[member]?.match, match + settings.promotionLag >= log.lastIndex
            else { return reject(changeID, .badChange) }
            changed.learners.remove(member)
            changed.voters.insert(member)
        case .remove(let member):
            guard changed.all.contains(member), changed.voters != [member] else { return reject(changeID, .badChange) }
            changed.voters.remove(member)
            changed.learners.remove(member)
            changed.contacts[member] = nil
        case .relocate(let member, let contact):
            guard changed.all.contains(member) else { return reject(changeID, .badChange) }
            changed.contacts[member] = contact
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
    /// Two lists, voters and learners: a count of four bytes and eight bytes each, little-endian, in rising order. When there are contacts, a third one
    /// follows: of each eight bytes, then node and address with their lengths in four bytes.
    public func encoded() -> [UInt8] {
        var bytes = ByteWriter()
        for list in [voters.sorted(), learners.sorted()] {
            bytes.append(UInt32(clamping: list.count))
            for member in list { bytes.append(member.number) }
        }
        guard !contacts.isEmpty else { return bytes.bytes }
        bytes.append(UInt32(clamping: contacts.count))
        for (member, contact) in contacts.sorted(by: { $0.key < $1.key }) {
            bytes.append(member.number)
            for text in [contact.node.text, contact.address] {
                bytes.append(UInt32(clamping: text.utf8.count))
                bytes.append(Array(text.utf8))
            }
        }
        return bytes.bytes
    }

    /// `nil` for anything that `encoded` does not make.
    public init?(decoding bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        self.init()
        guard let voters = Self.readList(&reader), let learners = Self.readList(&reader) else { return nil }
        self.init(voters: voters, learners: learners)
        if reader.isAtEnd { return }
        guard let contacts = Self.readContacts(&reader), reader.isAtEnd else { return nil }
        self.contacts = contacts
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

    private static func readContacts(_ reader: inout ByteReader) -> [MemberID: MemberContact]? {
        guard let count = reader.readUInt32(), count > 0, Int(count) * 16 <= reader.remaining else { return nil }
        var contacts: [MemberID: MemberContact] = [:]
        for _ in 0..<count {
            guard let number = reader.readUInt64(), let node = readText(&reader), let address = readText(&reader) else { return nil }
            contacts[MemberID(number)] = MemberContact(node: ID(node), address: address)
        }
        return contacts
    }

    private static func readText(_ reader: inout ByteReader) -> String? {
        guard let count = reader.readUInt32(), Int(count) <= reader.remaining, let bytes = reader.readBytes(Int(count)) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
