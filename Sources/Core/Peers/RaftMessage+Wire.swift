public import PluginAPI
public import Raft
public import Wire

extension RaftPeerMessage {
    public init(_ message: RaftMessage) {
        self.init()
        from = message.from.number
        to = message.to.number
        term = message.term
        switch message.content {
        case .voteRequest(let last, let isPreVote, let isTransfer):
            kind = 1
            set(last)
            self.isPreVote = isPreVote
            self.isTransfer = isTransfer
        case .voteResponse(let granted, let isPreVote):
            kind = 2
            isGranted = granted
            self.isPreVote = isPreVote
        case .append(let previous, let entries, let commit, let round):
            kind = 3
            set(previous)
            self.entries = entries.map { entry in
                var record = RaftLogEntry()
                record.index = entry.index
                record.term = entry.term
                record.kind = UInt64(entry.kind.rawValue)
                record.payload = entry.payload
                return record
            }
            self.commit = commit
            self.round = round
        case .appendAccepted(let match, let round):
            kind = 4
            index = match
            self.round = round
        case .appendRejected(let previousIndex, let hint, let round):
            kind = 5
            index = previousIndex
            set(hint)
            self.round = round
        case .installSnapshot(let metadata):
            kind = 6
            set(metadata.position)
            members = metadata.membership.all.sorted().map { member in
                var record = RaftMember()
                record.id = member.number
                record.isLearner = metadata.membership.learners.contains(member)
                if let contact = metadata.membership.contacts[member] {
                    record.nodeID = contact.node
                    record.address = contact.address
                }
                return record
            }
        case .timeoutNow: kind = 7
        case .readRequest(let id):
            kind = 8
            request = id
        case .readResponse(let id, let index):
            kind = 9
            request = id
            self.index = index
        case .readRejected(let id, let isBusy):
            kind = 10
            request = id
            self.isBusy = isBusy
        }
    }

    private mutating func set(_ position: LogPosition) {
        positionIndex = position.index
        positionTerm = position.term
    }
}

extension RaftMessage {
    /// - Throws: `invalidArgument` for a kind that is not known, or content that no member sends.
    public init(_ wire: RaftPeerMessage) throws(ApusError) {
        guard wire.from != 0, wire.to != 0 else { throw ApusError(.invalidArgument, "a message without a sender or receiver") }
        let position = LogPosition(index: wire.positionIndex, term: wire.positionTerm)
        let content: Content
        switch wire.kind {
        case 1: content = .voteRequest(last: position, isPreVote: wire.isPreVote, isTransfer: wire.isTransfer)
        case 2: content = .voteResponse(granted: wire.isGranted, isPreVote: wire.isPreVote)
        case 3:
            var entries: [LogEntry] = []
            for entry in wire.entries {
                guard let number = UInt8(exactly: entry.kind), let kind = LogEntry.Kind(rawValue: number) else {
                    throw ApusError(.invalidArgument, "an entry of unknown kind \(entry.kind)")
                }
                entries.append(LogEntry(index: entry.index, term: entry.term, kind: kind, payload: entry.payload))
            }
            content = .append(previous: position, entries: entries, commit: wire.commit, round: wire.round)
        case 4: content = .appendAccepted(match: wire.index, round: wire.round)
        case 5: content = .appendRejected(previousIndex: wire.index, hint: position, round: wire.round)
        case 6:
            let learners = wire.members.filter(\.isLearner).map { MemberID($0.id) }
            let voters = wire.members.filter { !$0.isLearner }.map { MemberID($0.id) }
            var membership = Membership(voters: Set(voters), learners: Set(learners))
            for member in wire.members where !member.address.isEmpty {
                membership.contacts[MemberID(member.id)] = MemberContact(node: member.nodeID, address: member.address)
            }
            content = .installSnapshot(SnapshotMetadata(position: position, membership: membership))
        case 7: content = .timeoutNow
        case 8: content = .readRequest(id: wire.request)
        case 9: content = .readResponse(id: wire.request, index: wire.index)
        case 10: content = .readRejected(id: wire.request, isBusy: wire.isBusy)
        default: throw ApusError(.invalidArgument, "a message of unknown kind \(wire.kind)")
        }
        self.init(from: MemberID(wire.from), to: MemberID(wire.to), term: wire.term, content: content)
    }

    /// About how many bytes it has on the wire.
    var size: Int {
        guard case .append(_, let entries, _, _) = content else { return 64 }
        return entries.reduce(64) { $0 + $1.payload.count + 32 }
    }
}
