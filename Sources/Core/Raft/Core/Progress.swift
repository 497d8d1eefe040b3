/// What a leader knows of a member.
struct Progress: Sendable, Hashable {
    /// How entries go to it.
    enum Mode: Sendable, Hashable {
        /// One message at a time, to find where the logs agree.
        case probing(waiting: Bool)
        /// Many messages at a time, ahead of the answers.
        case streaming
        /// A snapshot is on its way; entries follow after it.
        case snapshot(index: UInt64)
    }

    var mode = Mode.probing(waiting: false)
    /// All up to here is known to be equal and durable.
    var match: UInt64 = 0
    /// The next entry to send.
    var next: UInt64
    /// Last indexes of append messages without an answer, in order.
    var inFlight: [UInt64] = []
    /// Heard from since the last check of the quorum.
    var isActive = false
    /// Ticks since it was heard from.
    var silentTicks = 0
    /// The newest heartbeat that it has answered.
    var round: UInt64 = 0
    /// What was the first message in flight at the last answer to a heartbeat: still the first at the next, it was lost.
    var stalledAt: UInt64?

    init(next: UInt64) { self.next = next }

    /// Takes note of a sign of life, and of the heartbeat that it answers.
    mutating func heard(round: UInt64) {
        isActive = true
        silentTicks = 0
        self.round = max(self.round, round)
    }

    func canSend(limit: Int) -> Bool {
        switch mode {
        case .probing(let waiting): !waiting
        case .streaming: inFlight.count < limit
        case .snapshot: false
        }
    }

    /// Takes note of an answer; true when it brought something new.
    mutating func accept(_ index: UInt64) -> Bool {
        inFlight.removeAll { $0 <= index }
        let isNew = index > match
        let answersProbe = index + 1 >= next
        match = max(match, index)
        next = max(next, match + 1)
        switch mode {
        case .probing where answersProbe: mode = .streaming
        case .probing: break
        case .snapshot(let needed) where match >= needed: mode = .streaming
        case .streaming, .snapshot: break
        }
        return isNew
    }

    /// Takes note of a rejected probe; false when it is an old message.
    mutating func reject(previous: UInt64, agree: UInt64) -> Bool {
        switch mode {
        case .snapshot:
            return false
        case .streaming:
            guard previous > match else { return false }
            next = match + 1
        case .probing:
            guard next - 1 == previous else { return false }
            next = max(min(previous, agree + 1), match + 1)
        }
        mode = .probing(waiting: false)
        inFlight = []
        return true
    }
}
