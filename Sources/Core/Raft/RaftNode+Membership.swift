public import PluginAPI
import Synchronization

/// Who takes part. All of it is for the leader; each change returns when it is committed, and is done at once when it holds already.
extension RaftNode {
    /// Takes a member in that gets everything and decides nothing.
    /// - Parameter contact: Where it is; a member that was taken in already is there from now on.
    /// - Throws: `unavailable` when this member does not lead or loses the lead (then the change may have happened or not);
    ///   `timedOut` when another change, or a majority, keeps it waiting for `limit`.
    public func addLearner(_ member: MemberID, at contact: MemberContact? = nil, limit: Duration = .seconds(20)) async throws(ApusError) {
        try await change(.addLearner(member, at: contact), limit: limit) { core throws(ApusError) in
            core.membership.all.contains(member) ? .holds : .due
        }
        if let contact { try await relocate(member, to: contact, limit: limit) }
    }

    /// Tells the group where a member is.
    /// - Throws: `notFound` for a member that is not there; like `addLearner` otherwise.
    public func relocate(_ member: MemberID, to contact: MemberContact, limit: Duration = .seconds(20)) async throws(ApusError) {
        try await change(.relocate(member, to: contact), limit: limit) { core throws(ApusError) in
            guard core.membership.all.contains(member) else { throw ApusError(.notFound, "\(member) is not a member: add it first") }
            return core.membership.contacts[member] == contact ? .holds : .due
        }
    }

    /// Makes a learner a voter, as soon as it has caught up.
    /// - Throws: `notFound` for a member that is not there; `timedOut` when it does not catch up within `limit`; like `addLearner` otherwise.
    public func promote(_ member: MemberID, limit: Duration = .seconds(60)) async throws(ApusError) {
        try await change(.promote(member), limit: limit) { core throws(ApusError) in
            if core.membership.voters.contains(member) { return .holds }
            guard core.membership.learners.contains(member) else { throw ApusError(.notFound, "\(member) is not a member: add it first") }
            return core.hasCaughtUp(member) ? .due : .mustWait("manager \(member) has not caught up with the log")
        }
    }

    /// Takes a member out. The leader does not take itself out: it hands leadership to another voter, and throws `unavailable` with
    /// the new leader's name, which then is to be asked.
    /// - Throws: `conflict` when it is the last voter, or when no majority of those that remain answers; like `addLearner` otherwise.
    public func remove(_ member: MemberID, limit: Duration = .seconds(20)) async throws(ApusError) {
        if member == configuration.id, status.role == .leader {
            guard status.members.contains(where: { $0.isVoter && $0.id != member }) else { throw Self.lastVoter }
            try await transferLeadership(to: nil)
            throw ApusError(
                .unavailable, "this manager led and has handed leadership over" + (status.leader.map { " to \($0)" } ?? "") + ": ask the new leader")
        }
        let round = try await confirmMajority(without: member)
        try await change(.remove(member), limit: limit) { core throws(ApusError) in
            guard core.membership.all.contains(member) else { return .holds }
            guard core.membership.voters.contains(member) else { return .due }
            let left = core.votersLeft(without: member, answering: round)
            guard left.total > 0 else { throw Self.lastVoter }
            guard left.answered * 2 > left.total else { throw Self.noMajority(without: member, left) }
            return .due
        }
    }

    /// Makes sure that the group can go on without a voter: asks those that would remain, now, and waits until a majority of them has answered.
    /// What was heard earlier proves nothing: a cable may have been pulled since.
    /// - Returns: The heartbeat that was answered.
    /// - Throws: `conflict` when too few answer within an election time, and when there would be none; `unavailable` when this member does not lead.
    @discardableResult
    public func confirmMajority(without member: MemberID) async throws(ApusError) -> UInt64 {
        let (round, term) = try state.withLock { state throws(ApusError) -> (UInt64, UInt64) in
            if let error = state.failure ?? state.suspension ?? (state.isClosing ? Self.closing : nil) { throw error }
            guard state.core.role == .leader else { throw Self.error(.init(id: 0, reason: .notLeader, leader: state.core.leader), limit: 0) }
            Self.step(&state, .heartbeat)
            return (state.core.heartbeatRound, state.core.term)
        }
        wakeUp.wake()
        let end = ContinuousClock.now + configuration.tick * configuration.settings.electionTicks
        while true {
            let core = state.withLock { $0.core }
            guard core.role == .leader, core.term == term else { throw Self.error(.init(id: 0, reason: .notLeader, leader: core.leader), limit: 0) }
            guard core.membership.voters.contains(member) else { return round }
            let left = core.votersLeft(without: member, answering: round)
            guard left.total > 0 else { throw Self.lastVoter }
            if left.answered * 2 > left.total { return round }
            guard ContinuousClock.now < end else { throw Self.noMajority(without: member, left) }
            try await pause()
        }
    }

    private static func noMajority(without member: MemberID, _ left: (answered: Int, total: Int)) -> ApusError {
        ApusError(
            .conflict,
            "can't remove member \(member) from the raft: this would result in a loss of quorum: without it only \(left.answered) of \(left.total) managers "
                + "answer, which is no majority: bring the others back first, or add managers")
    }

    private static var lastVoter: ApusError { ApusError(.conflict, "the last manager cannot be removed") }

    /// Hands leadership to another voter, or with `nil` to the one that is furthest, and returns when it leads.
    /// - Throws: `unavailable` when this member does not lead, or the other did not take over within an election time; `invalidArgument`
    ///   when it is no voter; `conflict` when nobody else can be reached.
    public func transferLeadership(to wanted: MemberID?) async throws(ApusError) {
        let target = try state.withLock { state throws(ApusError) -> MemberID in
            let core = state.core
            guard core.role == .leader else { throw Self.error(.init(id: 0, reason: .notLeader, leader: core.leader), limit: 0) }
            guard let target = wanted ?? core.bestSuccessor else { throw ApusError(.conflict, "no other manager can be reached that could lead") }
            guard core.membership.voters.contains(target) else { throw ApusError(.invalidArgument, "\(target) is not a manager that may lead") }
            if target != core.id { Self.step(&state, .transferLeadership(to: target)) }
            return target
        }
        wakeUp.wake()
        if target == configuration.id { return }
        while true {
            let (core, failure) = state.withLock { ($0.core, $0.isClosing ? Self.closing : $0.failure) }
            if let failure { throw failure }
            if core.role != .leader, let leader = core.leader {
                guard leader == target else { throw ApusError(.unavailable, "\(leader) leads now, not \(target)") }
                return
            }
            if core.role == .leader, core.transferTarget != target {
                throw ApusError(.unavailable, "\(target) did not take over in time: it may be away or too far behind")
            }
            try await pause()
        }
    }

    /// The members and what is known of them.
    public var status: RaftStatus {
        state.withLock { state in
            var status = state.core.status
            status.suspension = state.suspension?.message
            return status
        }
    }

    /// Tells that the transport lost the way to a member: its connection broke, or cannot be made.
    public func unreachable(_ member: MemberID) { step(.unreachable(member)) }

    // MARK: How

    private enum Readiness {
        case holds
        case due
        /// For this reason.
        case mustWait(String)
    }

    private func pause() async throws(ApusError) {
        do { try await ConcurrentTask.sleep(for: .milliseconds(20)) } catch { throw ApusError(.cancelled, "the operation was cancelled") }
    }

    private func change(
        _ change: MembershipChange, limit: Duration, _ readiness: @Sendable (RaftCore) throws(ApusError) -> Readiness
    ) async throws(ApusError) {
        let end = ContinuousClock.now + limit
        while true {
            var reason = "another change of the managers is under way"
            switch try attempt(change, readiness) {
            case .done: return
            case .started(let outcome):
                // Waits no longer than the limit: without a majority nothing may ever be decided.
                let timer = ConcurrentTask {
                    try await ConcurrentTask.sleep(until: end)
                    outcome.fulfil(ApusError(.timedOut, "no majority of the managers has confirmed the change in time; it may yet happen"))
                }
                let error = await withTaskCancellationHandler {
                    await outcome.value()
                } onCancel: {
                    outcome.fulfil(ApusError(.cancelled, "the operation was cancelled; the change may yet happen"))
                }
                timer.cancel()
                _ = await timer.result
                if let error { throw error }
                return
            case .later(let why): reason = why ?? reason
            }
            guard ContinuousClock.now < end else { throw ApusError(.timedOut, "\(reason): try again") }
            try await pause()
        }
    }

    private enum Attempt {
        case done
        case started(Promise<ApusError?>)
        case later(String?)
    }

    private func attempt(
        _ change: MembershipChange, _ readiness: (RaftCore) throws(ApusError) -> Readiness
    ) throws(ApusError) -> Attempt {
        defer { wakeUp.wake() }
        return try state.withLock { state throws(ApusError) -> Attempt in
            if let error = state.failure ?? state.suspension ?? (state.isClosing ? Self.closing : nil) { throw error }
            guard state.core.role == .leader else { throw Self.error(.init(id: 0, reason: .notLeader, leader: state.core.leader), limit: 0) }
            // What is in the log and not committed holds for nobody yet.
            guard state.core.isEstablishedLeader, !state.core.isChangingMembership else { return .later(nil) }
            switch try readiness(state.core) {
            case .holds: return .done
            case .mustWait(let reason): return .later(reason)
            case .due: break
            }
            let output = Self.step(&state, .changeMembers(id: 0, change))
            guard let accepted = output.accepted.first else {
                if output.rejected.first?.reason == .badChange { throw ApusError(.invalidArgument, "the managers cannot be changed like this") }
                return .later(nil)
            }
            let outcome = Promise<ApusError?>()
            state.changes[accepted.position.index] = (accepted.position.term, outcome)
            return .started(outcome)
        }
    }
}
