/// Linearizable reads without the log (the thesis, section 6.4): the commit index at the time of asking, once a majority has
/// confirmed that this member led then. One heartbeat serves all reads that wait.
extension RaftCore {
    mutating func read(id readID: UInt64, from origin: MemberID) {
        guard role == .leader else {
            if origin == id, let leader {
                send(to: leader, .readRequest(id: readID))
            } else if origin == id {
                reject(readID, .notLeader)
            } else {
                send(to: origin, .readRejected(id: readID, isBusy: false))
            }
            return
        }
        guard pendingReads.count < settings.readLimit else {
            if origin == id { return reject(readID, .busy) }
            return send(to: origin, .readRejected(id: readID, isBusy: true))
        }
        pendingReads.append(PendingRead(id: readID, origin: origin, index: log.committed, round: nil))
        startReads()
    }

    /// Gives the reads that wait their index and heartbeat, as soon as this leader knows what is committed
    /// and the heartbeat for those before them was answered.
    mutating func startReads() {
        guard isEstablishedLeader || mistakes.contains(.readBeforeFirstCommit) else { return }
        guard !pendingReads.isEmpty, pendingReads.allSatisfy({ $0.round == nil }) else { return }
        if membership.voters != [id] { heartbeat() }
        for index in pendingReads.indices where pendingReads[index].round == nil {
            pendingReads[index].index = log.committed
            pendingReads[index].round = heartbeatRound
        }
        confirmReads()
    }

    mutating func confirmReads() {
        guard !pendingReads.isEmpty else { return }
        var waiting: [PendingRead] = []
        for pending in pendingReads {
            guard let round = pending.round,
                mistakes.contains(.readWithoutQuorum) || Quorum.reached(membership.voters, { $0 == id || (progress[$0]?.round ?? 0) >= round })
            else {
                waiting.append(pending)
                continue
            }
            if pending.origin == id {
                output.reads.append(RaftOutput.ReadReady(id: pending.id, index: pending.index))
            } else {
                send(to: pending.origin, .readResponse(id: pending.id, index: pending.index))
            }
        }
        let isDone = waiting.count < pendingReads.count
        pendingReads = waiting
        // Those that came while the round was under way.
        if isDone { startReads() }
    }

    mutating func failRead(_ pending: PendingRead) {
        if pending.origin == id { reject(pending.id, .notLeader) } else { send(to: pending.origin, .readRejected(id: pending.id, isBusy: false)) }
    }
}
