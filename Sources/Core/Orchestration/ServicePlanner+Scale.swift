import PluginAPI

extension ServicePlanner {
    /// Replicated: as many occupied slots as there are to be replicas.
    mutating func fillSlots() {
        let replicas = Int(clamping: service.spec.mode.replicated?.replicas ?? 1)
        var occupied: [Seat] = []
        var empty: [Seat] = []
        for seat in seats.values {
            if seat.isOccupied || isAtRest(seat) { occupied.append(seat) } else { empty.append(seat) }
        }
        if occupied.count > replicas {
            for key in Self.surplus(occupied, keeping: replicas) { remove(key) }
        }
        var missing = max(0, replicas - occupied.count)
        // A slot with a history goes on with it, so that restart delays and limits hold.
        for seat in empty.sorted(by: { $0.key < $1.key }) {
            if missing > 0 {
                fill(seat.key)
                missing -= 1
            } else {
                remove(seat.key)
            }
        }
        var slot: UInt64 = 1
        while missing > 0, room > 0 {
            if seats[.slot(slot)] == nil {
                fill(.slot(slot))
                missing -= 1
            }
            slot += 1
        }
    }

    /// The slots to give up: those that do not run first, then from the nodes with the most tasks of the service, the youngest numbers first.
    private static func surplus(_ seats: [Seat], keeping replicas: Int) -> [Seat.Key] {
        let sorted = seats.sorted { $0.key < $1.key }
        var seen: [ID: Int] = [:]
        // The n-th task on its node has the place n: giving up high places first takes from the fullest nodes, as one would by counting anew after each.
        let placed = sorted.map { seat in
            guard seat.isRunning, let task = seat.wanted.last(where: { $0.status.state == .running }) else {
                return (key: seat.key, isRunning: false, place: 0)
            }
            seen[task.nodeID, default: 0] += 1
            return (key: seat.key, isRunning: true, place: seen[task.nodeID] ?? 0)
        }
        let order = placed.sorted { left, right in
            if left.isRunning != right.isRunning { return right.isRunning }
            if left.place != right.place { return left.place > right.place }
            return left.key > right.key
        }
        return order.prefix(seats.count - replicas).map(\.key)
    }

    /// Global: one task on every node that takes tasks and fits.
    mutating func fillNodes() {
        var eligible: Set<ID> = []
        for node in state.allNodes where node.status.state == .ready && node.spec.availability == .active && requirements.isEligible(node) {
            eligible.insert(node.id)
        }
        for key in seats.keys {
            switch ground(key.node) {
            case .gone: remove(key)
            // A paused node keeps what it has.
            case .paused: break
            case .down, .drained, .active:
                guard !eligible.contains(key.node) else { break }
                for task in seats[key]?.tasks ?? [] where task.isWanted && !isComingBack(key.node) { stop(task, in: key) }
            }
        }
        for node in eligible.sorted() {
            let key = Seat.Key.node(node)
            if let seat = seats[key], seat.isOccupied || isAtRest(seat) { continue }
            fill(key)
        }
    }

    /// Neither ready nor known to be down: what runs there is left alone.
    private func isComingBack(_ id: ID) -> Bool {
        guard let node = state.node(id), node.spec.availability == .active else { return false }
        return (node.status.state == .unknown || node.status.state == .disconnected) && requirements.isEligible(node)
    }
}
