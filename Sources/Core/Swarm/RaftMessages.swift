import PluginAPI
import Raft
import Wire

extension RaftEnvelope {
    init(_ message: RaftMessage) {
        self.init()
        from = message.from.number
        to = message.to.number
        term = message.term
        switch message.content {
        case .voteRequest(let last, let isPreVote, let isTransfer):
            kind = 1
            position = last
            self.isPreVote = isPreVote
            self.isTransfer = isTransfer
        case .voteResponse(let granted, let isPreVote):
            kind = 2
            self.granted = granted
            self.isPreVote = isPreVote
        case .append(let previous, let entries, let commit, let round):
            kind = 3
            position = previous
            self.entries = entries.map(RaftEntry.init)
            self.commit = commit
            self.round = round
        case .appendAccepted(let match, let round):
            kind = 4
            self.match = match
            self.round = round
        case .appendRejected(let previousIndex, let hint, let round):
            kind = 5
            match = previousIndex
            position = hint
            self.round = round
        case .installSnapshot(let metadata):
            kind = 6
            position = metadata.position
            voters = metadata.membership.voters.sorted().map(\.description)
            learners = metadata.membership.learners.sorted().map(\.description)
        case .timeoutNow: kind = 7
        case .readRequest(let id):
            kind = 8
            self.id = id
        case .readResponse(let id, let index):
            kind = 9
            self.id = id
            match = index
        case .readRejected(let id, let isBusy):
            kind = 10
            self.id = id
            self.isBusy = isBusy
        }
    }

    private var position: LogPosition {
        get { LogPosition(index: index, term: indexTerm) }
        set { (index, indexTerm) = (newValue.index, newValue.term) }
    }

    /// - Throws: `invalidArgument` for kinds and members that there are not.
    func message() throws(ApusError) -> RaftMessage {
        guard from != 0, to != 0 else { throw ApusError(.invalidArgument, "a message of Raft names no sender or no receiver") }
        return RaftMessage(from: MemberID(from), to: MemberID(to), term: term, content: try content())
    }

    private func content() throws(ApusError) -> RaftMessage.Content {
        switch kind {
        case 1: .voteRequest(last: position, isPreVote: isPreVote, isTransfer: isTransfer)
        case 2: .voteResponse(granted: granted, isPreVote: isPreVote)
        case 3: .append(previous: position, entries: try logEntries(), commit: commit, round: round)
        case 4: .appendAccepted(match: match, round: round)
        case 5: .appendRejected(previousIndex: match, hint: position, round: round)
        case 6:
            .installSnapshot(
                SnapshotMetadata(position: position, membership: Membership(voters: try Self.members(voters), learners: try Self.members(learners))))
        case 7: .timeoutNow
        case 8: .readRequest(id: id)
        case 9: .readResponse(id: id, index: match)
        case 10: .readRejected(id: id, isBusy: isBusy)
        default: throw ApusError(.invalidArgument, "\(kind) is no kind of message of Raft")
        }
    }

    /// An append carries consecutive entries; anything else is no append.
    private func logEntries() throws(ApusError) -> [LogEntry] {
        var result: [LogEntry] = []
        result.reserveCapacity(entries.count)
        for (offset, entry) in entries.enumerated() {
            guard let kind = UInt8(exactly: entry.kind).flatMap(LogEntry.Kind.init), entry.index == index &+ UInt64(offset) &+ 1 else {
                throw ApusError(.invalidArgument, "an append of Raft holds what is no entry after entry \(index)")
            }
            result.append(LogEntry(index: entry.index, term: entry.term, kind: kind, payload: entry.payload))
        }
        return result
    }

    private static func members(_ texts: [String]) throws(ApusError) -> Set<MemberID> {
        var members: Set<MemberID> = []
        for text in texts {
            guard let number = UInt64(text, radix: 16), number != 0 else { throw ApusError(.invalidArgument, "\"\(text.prefix(20))\" is no member") }
            members.insert(MemberID(number))
        }
        return members
    }
}

extension RaftEntry {
    fileprivate init(_ entry: LogEntry) {
        self.init()
        index = entry.index
        term = entry.term
        kind = UInt64(entry.kind.rawValue)
        payload = entry.payload
    }
}
