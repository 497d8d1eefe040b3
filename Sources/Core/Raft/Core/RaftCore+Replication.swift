/// Entries on their way from the leader to the others, and what makes them committed.
extension RaftCore {
    // MARK: Leader

    mutating func propose(id: UInt64, payload: [UInt8]) {
        guard role == .leader else { return reject(id, .notLeader) }
        guard transferTarget == nil else { return reject(id, .transferring) }
        guard payload.count <= settings.entryLimit else { return reject(id, .tooLarge) }
        guard uncommittedBytes == 0 || uncommittedBytes + payload.count <= settings.uncommittedLimit else { return reject(id, .busy) }
        let position = append(kind: .command, payload: payload)
        output.accepted.append(RaftOutput.Accepted(id: id, position: position))
    }

    /// A new entry at the end of the leader's log, on its way to everybody.
    @discardableResult
    mutating func append(kind: LogEntry.Kind, payload: [UInt8]) -> LogPosition {
        let entry = LogEntry(index: log.lastIndex + 1, term: term, kind: kind, payload: payload)
        log.append(entry)
        noteMembership(of: entry)
        uncommittedBytes += payload.count
        persist { $0.entries.append(entry) }
        replicate()
        return LogPosition(index: entry.index, term: entry.term)
    }

    private func others() -> [MemberID] { membership.all.subtracting([id]).sorted() }

    /// Sends to each member what it lacks and may take now.
    private mutating func replicate() {
        for member in others() { sendEntries(to: member) }
    }

    mutating func sendEntries(to member: MemberID) {
        while var state = progress[member], state.canSend(limit: settings.inFlightLimit) {
            let previousIndex = state.next - 1
            guard let previousTerm = log.term(at: previousIndex), let entries = log.entries(from: state.next, byteLimit: settings.appendLimit)
            else { return sendSnapshot(to: member) }
            let isProbe = state.mode == .probing(waiting: false)
            guard !entries.isEmpty || isProbe else { return }
            if isProbe {
                state.mode = .probing(waiting: true)
            } else if let last = entries.last {
                state.inFlight.append(last.index)
                state.next = last.index + 1
            }
            progress[member] = state
            send(
                to: member,
                .append(
                    previous: LogPosition(index: previousIndex, term: previousTerm), entries: entries, commit: log.committed,
                    round: heartbeatRound))
        }
    }

    private mutating func sendSnapshot(to member: MemberID) {
        guard progress[member]?.isActive == true else {
            // It is asked for a sign of life first: a snapshot is too large to send into the void.
            return send(to: member, .append(previous: LogPosition(), entries: [], commit: 0, round: heartbeatRound))
        }
        guard snapshot.position.index >= log.base.index else {
            output.wantsSnapshot = true
            return
        }
        progress[member]?.mode = .snapshot(index: snapshot.position.index)
        send(to: member, .installSnapshot(snapshot))
    }

    mutating func snapshotDelivered(to member: MemberID) {
        guard let state = progress[member], case .snapshot(let index) = state.mode else { return }
        progress[member]?.next = max(state.match, index) + 1
        progress[member]?.mode = .probing(waiting: false)
        sendEntries(to: member)
    }

    /// An empty append to everybody: it keeps followers quiet, carries the commit index and confirms reads.
    mutating func heartbeat() {
        ticksSinceHeartbeat = 0
        heartbeatRound += 1
        for member in others() {
            guard let state = progress[member] else { continue }
            if case .snapshot = state.mode {
                // The position is in the snapshot; it only says that the leader lives.
                send(to: member, .append(previous: LogPosition(), entries: [], commit: 0, round: heartbeatRound))
                continue
            }
            if case .probing = state.mode {
                // The last probe may have been lost.
                progress[member]?.mode = .probing(waiting: false)
                sendEntries(to: member)
                continue
            }
            guard let previousTerm = log.term(at: state.match) else {
                // What it needs is gone from the log. Its answer tells whether what is in flight was lost; then it gets a snapshot.
                send(to: member, .append(previous: LogPosition(), entries: [], commit: 0, round: heartbeatRound))
                sendEntries(to: member)
                continue
            }
            let previous = LogPosition(index: state.match, term: previousTerm)
            send(to: member, .append(previous: previous, entries: [], commit: min(log.committed, state.match), round: heartbeatRound))
        }
    }

    mutating func appendAccepted(from member: MemberID, match: UInt64, round: UInt64) {
        guard role == .leader, var state = progress[member] else { return }
        state.heard(round: round)
        let isNew = match <= log.lastIndex && state.accept(match)
        if !isNew, state.mode == .streaming, round == heartbeatRound, let first = state.inFlight.first {
            let isLost = state.stalledAt == first
            state.stalledAt = first
            if !isLost {
                progress[member] = state
                return confirmReads()
            }
            state.next = state.match + 1
            state.inFlight = []
            state.stalledAt = nil
        }
        progress[member] = state
        if isNew { advanceCommit() }
        guard role == .leader else { return }
        confirmReads()
        if transferTarget == member, progress[member]?.match == log.lastIndex { send(to: member, .timeoutNow) }
        sendEntries(to: member)
    }

    mutating func appendRejected(from member: MemberID, previousIndex: UInt64, hint: LogPosition, round: UInt64) {
        guard role == .leader, var state = progress[member] else { return }
        state.heard(round: round)
        let agree = log.agreement(with: hint)
        let mustSend = state.reject(previous: previousIndex, agree: agree.index)
        progress[member] = state
        confirmReads()
        if mustSend { sendEntries(to: member) }
    }

    /// Commits what a majority has made durable, if it is of this term: an entry of an earlier one could still be overwritten.
    mutating func advanceCommit() {
        let reached = Quorum.committed(membership.voters) {
            $0 == id ? (mistakes.contains(.countUnpersisted) ? log.lastIndex : log.persisted) : progress[$0]?.match ?? 0
        }
        guard log.term(at: reached) == term || mistakes.contains(.commitOlderTerm) else { return }
        let before = log.committed
        guard log.commit(reached) else { return }
        for index in before + 1...log.committed { uncommittedBytes -= log.payloadCount(at: index) }
        uncommittedBytes = max(0, uncommittedBytes)
        startReads()
        membershipCommitted(upTo: log.committed)
        guard role == .leader else { return }
        // Followers learn it with the next message; a quiet group hears it at once.
        for member in others() {
            guard let state = progress[member], state.mode == .streaming, state.inFlight.isEmpty, let matchTerm = log.term(at: state.match) else {
                continue
            }
            send(
                to: member,
                .append(
                    previous: LogPosition(index: state.match, term: matchTerm), entries: [],
                    commit: min(log.committed, state.match), round: heartbeatRound))
        }
    }

    // MARK: Follower

    mutating func appendReceived(from member: MemberID, previous: LogPosition, entries: [LogEntry], commit: UInt64, round: UInt64) {
        // A leader's entries follow each other without a gap and are not of a later term than its own: anything else is garbage.
        var expected = previous
        for entry in entries {
            guard entry.index == expected.index + 1, entry.term >= expected.term, entry.term <= term else { return }
            expected = LogPosition(index: entry.index, term: entry.term)
        }
        if mistakes.contains(.oldAppendTruncates) { log.truncate(after: max(previous.index, log.committed)) }
        guard previous.index <= log.lastIndex, let new = log.merge(entries, after: previous) else {
            let hint = log.agreement(with: LogPosition(index: min(previous.index, log.lastIndex), term: previous.term))
            return send(to: member, .appendRejected(previousIndex: previous.index, hint: hint, round: round))
        }
        if let first = new.first {
            memberships.removeAll { $0.index >= first.index }
            for entry in new { noteMembership(of: entry) }
            persist { $0.entries = new }
        }
        let match = max(entries.last?.index ?? previous.index, previous.index)
        if log.commit(mistakes.contains(.commitBeyondMatch) ? commit : min(commit, match)) { membershipCommitted(upTo: log.committed) }
        send(to: member, .appendAccepted(match: match, round: round))
    }

    mutating func snapshotReceived(from member: MemberID, _ metadata: SnapshotMetadata) {
        guard metadata.position.index > log.committed else {
            return send(to: member, .appendAccepted(match: log.committed, round: 0))
        }
        // Where the log has that entry, nothing of it may go: what follows may be acknowledged already.
        if log.term(at: metadata.position.index) == metadata.position.term, !mistakes.contains(.snapshotDropsSuffix) {
            if log.commit(metadata.position.index) { membershipCommitted(upTo: log.committed) }
            return send(to: member, .appendAccepted(match: metadata.position.index, round: 0))
        }
        log.reset(to: metadata.position)
        snapshot = metadata
        memberships = [MembershipRecord(index: metadata.position.index, membership: metadata.membership)]
        persist {
            $0.snapshot = metadata
            $0.entries = []
        }
        output.restore = metadata
        send(to: member, .appendAccepted(match: metadata.position.index, round: 0))
    }
}
