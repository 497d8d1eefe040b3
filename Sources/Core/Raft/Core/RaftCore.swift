/// Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014) as a value: no clock, no input or output, no randomness but a seed.
///
/// `step` is all there is. Its output says what to persist, then send, then apply; that order is the contract, and nothing
/// else of it matters for safety. The shell reports what became durable and what was applied with inputs of their own.
public struct RaftCore: Sendable, Hashable {
    /// This member's.
    public let id: MemberID
    /// Fixed for the core's life.
    public let settings: RaftSettings

    /// What must survive a crash; what is new of it was in an output's `persist`.
    public internal(set) var hardState: HardState
    /// In the current term.
    public internal(set) var role = RaftRole.follower
    /// Of the current term; `nil` while it is not known.
    public internal(set) var leader: MemberID?
    var log: RaftLog
    /// Memberships in the log from the newest committed one on; the last is in effect.
    var memberships: [MembershipRecord]
    var generator: SeededGenerator

    var ticksSinceContact = 0
    /// The transport lost the leader: until the leader is heard again, this member may help to replace it.
    var leaderIsLost = false
    var ticksSinceHeartbeat = 0
    var electionTimeout = 0
    var votes: [MemberID: Bool] = [:]

    var progress: [MemberID: Progress] = [:]
    var heartbeatRound: UInt64 = 0
    var pendingReads: [PendingRead] = []
    var transferTarget: MemberID?
    var uncommittedBytes = 0
    /// The newest snapshot of the shell.
    var snapshot: SnapshotMetadata

    var output = RaftOutput()
    /// Only ever set by a simulation, which must find each of them.
    var mistakes: RaftMistakes = []

    struct MembershipRecord: Sendable, Hashable {
        var index: UInt64
        var membership: Membership
    }

    /// A read that waits for proof that this member still leads.
    struct PendingRead: Sendable, Hashable {
        var id: UInt64
        var origin: MemberID
        var index: UInt64
        /// The heartbeat that a majority must answer; `nil` until the first entry of the term is committed.
        var round: UInt64?
    }

    /// A member as its storage remembers it: the state machine holds `snapshot`, `entries` follow it without a gap.
    public init(
        id: MemberID, settings: RaftSettings = RaftSettings(), hardState: HardState, snapshot: SnapshotMetadata, entries: [LogEntry], seed: UInt64
    ) {
        self.id = id
        self.settings = settings
        self.hardState = hardState
        self.snapshot = snapshot
        log = RaftLog(base: snapshot.position, entries: entries)
        memberships = [MembershipRecord(index: snapshot.position.index, membership: snapshot.membership)]
        // Scattered, so that members with the same seed and numbers in a row do not draw the same times.
        var scatter = SeededGenerator(seed: id.number)
        generator = SeededGenerator(seed: seed ^ scatter.next())
        for entry in entries { noteMembership(of: entry) }
        resetElectionTimer()
    }

    /// The membership in effect: the newest in the log, committed or not.
    public var membership: Membership { memberships.last?.membership ?? Membership() }
    /// The membership as of a committed index that is not older than what was applied last.
    public func membership(at index: UInt64) -> Membership { memberships.last { $0.index <= index }?.membership ?? snapshot.membership }
    /// The current one.
    public var term: UInt64 { hardState.term }
    /// Of the last entry in the log, committed or not; 0 for an empty log.
    public var lastIndex: UInt64 { log.lastIndex }
    /// Up to here the log is the group's and stays so.
    public var committedIndex: UInt64 { log.committed }
    /// Up to here the shell has said `applied`.
    public var appliedIndex: UInt64 { log.applied }
    /// Whether a change of the membership is in the log and not committed.
    public var isChangingMembership: Bool { (memberships.last?.index ?? 0) > log.committed }
    /// False while nothing depends on time: a group of one with a leader.
    public var needsTicks: Bool { !(role == .leader && membership.all == [id]) }
    /// Whether this member leads and has committed an entry of its term, so that it knows everything that was ever committed.
    public var isEstablishedLeader: Bool { role == .leader && log.term(at: log.committed) == term }

    /// Takes one input and says what follows from it.
    public mutating func step(_ input: RaftInput) -> RaftOutput {
        let before = (role, hardState, leader)
        switch input {
        case .tick: tick()
        case .received(let message): receive(message)
        case .propose(let id, let payload): propose(id: id, payload: payload)
        case .persisted(let position): persisted(position)
        case .applied(let index): applied(index)
        case .readIndex(let id): read(id: id, from: self.id)
        case .changeMembers(let id, let change): changeMembers(id: id, change)
        case .transferLeadership(let target): transferLeadership(to: target)
        case .snapshotTaken(let metadata): if metadata.position.index > snapshot.position.index { snapshot = metadata }
        case .unreachable(let member): lost(member)
        case .stepDown: if role == .leader { becomeFollower(term: term, leader: nil) }
        case .snapshotDelivered(let member): snapshotDelivered(to: member)
        case .heartbeat: if role == .leader { heartbeat() }
        case .campaign: if role != .leader { campaign(isPreVote: membership.voters != [id], isTransfer: false) }
        }
        output.apply += log.takeCommitted()
        if hardState != before.1 { persist { [hardState] in $0.hardState = hardState } }
        if role != before.0 || hardState.term != before.1.term || leader != before.2 {
            output.roleChange = RaftOutput.RoleChange(role: role, term: term, leader: leader)
        }
        let result = output
        output = RaftOutput()
        return result
    }

    mutating func persist(_ change: (inout RaftPersist) -> Void) {
        var persist = output.persist ?? RaftPersist()
        change(&persist)
        output.persist = persist
    }

    mutating func send(to member: MemberID, term: UInt64? = nil, _ content: RaftMessage.Content) {
        output.send.append(RaftMessage(from: id, to: member, term: term ?? self.term, content: content))
    }

    mutating func reject(_ id: UInt64, _ reason: RaftOutput.Reason) {
        output.rejected.append(RaftOutput.Rejected(id: id, reason: reason, leader: leader))
    }

    // MARK: Time

    private mutating func tick() {
        ticksSinceContact += 1
        guard role == .leader else {
            if ticksSinceContact >= electionTimeout, mayCampaign {
                campaign(isPreVote: membership.voters != [id], isTransfer: false)
            }
            return
        }
        if ticksSinceContact >= settings.electionTicks {
            ticksSinceContact = 0
            transferTarget = nil
            checkQuorum()
        }
        for member in progress.keys { progress[member]?.silentTicks += 1 }
        ticksSinceHeartbeat += 1
        if role == .leader, ticksSinceHeartbeat >= settings.heartbeatTicks { heartbeat() }
    }

    mutating func resetElectionTimer() {
        leaderIsLost = false
        ticksSinceContact = 0
        electionTimeout = settings.electionTicks + Int.random(in: 0..<max(1, settings.electionTicks), using: &generator)
    }

    // MARK: Messages

    private mutating func receive(_ message: RaftMessage) {
        guard message.to == id, message.from != id else { return }
        if case .voteRequest(let last, let isPreVote, let isTransfer) = message.content {
            return voteRequested(by: message.from, term: message.term, last: last, isPreVote: isPreVote, isTransfer: isTransfer)
        }
        if case .voteResponse(let granted, let isPreVote) = message.content {
            return voteReceived(from: message.from, term: message.term, granted: granted, isPreVote: isPreVote)
        }
        if message.term > term {
            var newLeader: MemberID?
            switch message.content {
            case .append, .installSnapshot: newLeader = message.from
            default: break
            }
            becomeFollower(term: message.term, leader: newLeader)
        } else if message.term < term, !mistakes.contains(.staleLeaderFollowed) {
            // A leader of an earlier term must learn that it is none any more, also when this member may not campaign.
            switch message.content {
            case .append(let previous, _, _, let round):
                send(to: message.from, .appendRejected(previousIndex: previous.index, hint: LogPosition(), round: round))
            case .installSnapshot: send(to: message.from, .appendRejected(previousIndex: 0, hint: LogPosition(), round: 0))
            default: break
            }
            return
        }
        switch message.content {
        case .voteRequest, .voteResponse: break
        case .append(let previous, let entries, let commit, let round):
            follow(message.from)
            appendReceived(from: message.from, previous: previous, entries: entries, commit: commit, round: round)
        case .installSnapshot(let metadata):
            follow(message.from)
            snapshotReceived(from: message.from, metadata)
        case .appendAccepted(let match, let round): appendAccepted(from: message.from, match: match, round: round)
        case .appendRejected(let previousIndex, let hint, let round):
            appendRejected(from: message.from, previousIndex: previousIndex, hint: hint, round: round)
        case .timeoutNow: if role != .leader { campaign(isPreVote: false, isTransfer: true) }
        case .readRequest(let id): read(id: id, from: message.from)
        case .readResponse(let id, let index): output.reads.append(RaftOutput.ReadReady(id: id, index: index))
        case .readRejected(let id, let isBusy): reject(id, isBusy ? .busy : .notLeader)
        }
    }

    /// The way to a member is lost. A leader begins anew with it; a follower that lost its leader does not wait out the whole
    /// election time. Should the leader live after all, the others hear it and refuse the pre-vote.
    private mutating func lost(_ member: MemberID) {
        if role == .leader {
            progress[member]?.mode = .probing(waiting: false)
            progress[member]?.inFlight = []
            progress[member]?.silentTicks = settings.electionTicks
        } else if role == .follower, leader == member, !leaderIsLost {
            leaderIsLost = true
            electionTimeout = min(electionTimeout, ticksSinceContact + Int.random(in: 1...3, using: &generator))
        }
    }

    /// A message of the leader of this term has come.
    private mutating func follow(_ member: MemberID) {
        if role != .follower || leader != member { becomeFollower(term: term, leader: member) }
        if leaderIsLost { resetElectionTimer() }
        ticksSinceContact = 0
    }

    // MARK: The shell's reports

    private mutating func persisted(_ position: LogPosition) {
        guard log.markPersisted(position) else { return }
        if role == .leader { advanceCommit() }
        release()
    }

    private mutating func applied(_ index: UInt64) {
        log.markApplied(index)
        release()
    }

    private mutating func release() {
        // The same for any order of the members: a simulation must repeat itself.
        let usual = membership.all == [id] ? 0 : UInt64(settings.keptEntries)
        var kept = usual
        for (member, state) in progress where member != id {
            let lag = log.lastIndex - min(state.match, log.lastIndex)
            // A member that is behind and still fed from the log keeps what it needs, within reason.
            if state.isActive, lag < 4 * usual { kept = max(kept, lag) }
            // What follows a snapshot that is on its way is needed when it has arrived.
            guard case .snapshot(let index) = state.mode else { continue }
            let rest = log.lastIndex - min(index, log.lastIndex)
            if rest < 64 * usual { kept = max(kept, rest) }
        }
        log.release(keeping: kept)
        let applied = log.applied
        if let newest = memberships.lastIndex(where: { $0.index <= applied }), newest > 0 { memberships.removeFirst(newest) }
    }
}
