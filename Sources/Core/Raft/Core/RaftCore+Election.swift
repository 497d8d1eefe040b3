/// Terms, votes and roles.
extension RaftCore {
    mutating func becomeFollower(term: UInt64, leader: MemberID?) {
        if term > hardState.term { hardState = HardState(term: term) }
        if role == .leader { abandonLeadership() }
        role = .follower
        self.leader = leader
        votes = [:]
        resetElectionTimer()
    }

    private mutating func abandonLeadership() {
        for pending in pendingReads { failRead(pending) }
        pendingReads = []
        progress = [:]
        transferTarget = nil
        uncommittedBytes = 0
    }

    /// Whether this member is a voter, or would be if what is not committed were undone: a member whose log has its own removal may be the
    /// only one that can win and so commit the removal (the thesis, section 4.2.2).
    var mayCampaign: Bool {
        let decided = memberships.lastIndex { $0.index <= log.committed } ?? 0
        return memberships[min(decided, memberships.count)...].contains { $0.membership.voters.contains(id) }
    }

    /// Asks for votes. A pre-vote first finds out whether an election could be won, so that a member that was cut off does not
    /// disturb a working group with its term.
    mutating func campaign(isPreVote: Bool, isTransfer: Bool) {
        guard mayCampaign else { return }
        leader = nil
        resetElectionTimer()
        votes = [id: true]
        if isPreVote {
            role = .preCandidate
        } else {
            role = .candidate
            hardState = HardState(term: term + 1, vote: id)
        }
        let asked = isPreVote ? term + 1 : term
        for member in membership.voters.sorted() where member != id {
            send(to: member, term: asked, .voteRequest(last: log.last, isPreVote: isPreVote, isTransfer: isTransfer))
        }
        countVotes()
    }

    mutating func voteRequested(by candidate: MemberID, term asked: UInt64, last: LogPosition, isPreVote: Bool, isTransfer: Bool) {
        // A member that hears its leader does not help to replace it, unless the leader itself asked for that.
        let hearsLeader = leader != nil && !leaderIsLost && ticksSinceContact < settings.electionTicks
        if hearsLeader, !isTransfer, asked > term { return }
        if !isPreVote, asked > term { becomeFollower(term: asked, leader: nil) }
        let isNewEnough = last >= log.last || mistakes.contains(.voteForShorterLog)
        let isFree: Bool
        if isPreVote {
            isFree = asked > term
        } else {
            isFree = asked == term && (hardState.vote == nil ? leader == nil : hardState.vote == candidate || mistakes.contains(.voteTwice))
        }
        let granted = isNewEnough && isFree
        if granted, !isPreVote {
            hardState.vote = candidate
            resetElectionTimer()
        }
        // A granted pre-vote answers in the term that was asked about; a refusal tells this member's own.
        send(to: candidate, term: granted ? asked : term, .voteResponse(granted: granted, isPreVote: isPreVote))
    }

    mutating func voteReceived(from member: MemberID, term answered: UInt64, granted: Bool, isPreVote: Bool) {
        if !granted, answered > term { return becomeFollower(term: answered, leader: nil) }
        let isCurrent = isPreVote ? role == .preCandidate && (!granted || answered == term + 1) : role == .candidate && answered == term
        guard isCurrent, membership.voters.contains(member) else { return }
        votes[member] = votes[member] ?? granted
        countVotes()
    }

    private mutating func countVotes() {
        let voters = membership.voters
        if Quorum.reached(voters, { votes[$0] == true }) {
            if role == .preCandidate { campaign(isPreVote: false, isTransfer: false) } else { becomeLeader() }
        } else if Quorum.reached(voters, { votes[$0] == false }) {
            becomeFollower(term: term, leader: nil)
        }
    }

    private mutating func becomeLeader() {
        role = .leader
        leader = id
        votes = [:]
        ticksSinceContact = 0
        ticksSinceHeartbeat = 0
        heartbeatRound = 0
        pendingReads = []
        transferTarget = nil
        uncommittedBytes = 0
        progress = [:]
        for member in membership.all {
            progress[member] = Progress(next: log.lastIndex + 1)
            progress[member]?.isActive = true
        }
        // Entries of earlier terms count as committed only through one of this term.
        append(kind: .empty, payload: [])
    }

    /// A leader that a majority does not answer steps down, so that clients learn it soon.
    mutating func checkQuorum() {
        let heard = Quorum.reached(membership.voters) { $0 == id || progress[$0]?.isActive == true }
        for member in progress.keys { progress[member]?.isActive = false }
        if !heard { becomeFollower(term: term, leader: nil) }
    }

    mutating func transferLeadership(to target: MemberID) {
        guard role == .leader, target != id, membership.voters.contains(target), let state = progress[target] else { return }
        transferTarget = target
        ticksSinceContact = 0
        if state.match == log.lastIndex { send(to: target, .timeoutNow) } else { sendEntries(to: target) }
    }
}
