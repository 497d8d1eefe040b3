import PluginAPI

/// A drained node gives its tasks away: the replacement first, and the old task stops when the new one runs.
extension ServicePlanner {
    /// How long a task on a drained node waits for its replacement, such as for one that does not fit anywhere.
    static var drainPatience: Duration { .seconds(120) }

    /// Whether a task that has to leave its node stays until another one runs in its place.
    mutating func isPatient(_ task: Task) -> Bool {
        guard !isGlobal, task.status.state == .running, task.desiredState == .running, case .drained = ground(task.nodeID) else { return false }
        // No other node is there: there is nothing to wait for.
        guard state.allNodes.contains(where: { $0.id != task.nodeID && $0.spec.availability != .drain && $0.status.state == .ready }) else { return false }
        let limit = patienceEnd(task)
        guard now < limit else { return false }
        wake(at: limit)
        return true
    }

    /// From the order to drain on; without one that is known, from the first attempt to replace it.
    private func patienceEnd(_ task: Task) -> Timestamp {
        if let node = state.node(task.nodeID), !node.availabilityChangedAt.isNever { return node.availabilityChangedAt + Self.drainPatience }
        let seat = seats[Seat.Key(task, isGlobal: isGlobal)]
        let first = seat?.tasks.first { $0.createdAt > task.createdAt }
        return (first?.createdAt ?? now) + Self.drainPatience
    }

    /// Brings every seat with more than one living task, or with one on its way out, one step further.
    mutating func handOver() {
        guard !isGlobal else { return }
        for key in seats.keys.sorted() {
            let wanted = seats[key]?.wanted ?? []
            guard !wanted.isEmpty else { continue }
            var leaving: [Task] = []
            var staying: [Task] = []
            for task in wanted { if isDisplaced(task) { leaving.append(task) } else { staying.append(task) } }
            if !leaving.isEmpty {
                let isReplaced = staying.contains { $0.status.state == .running }
                if isReplaced || isDone(key) {
                    for task in leaving { stop(task, in: key) }
                } else if staying.isEmpty {
                    fill(key)
                }
                continue
            }
            // The node was taken back into service meanwhile: of two that are alike, one is too many.
            guard staying.count > 1 else { continue }
            let order = staying.sorted {
                ($0.status.state == .running ? 0 : 1, $0.createdAt, $0.id) < ($1.status.state == .running ? 0 : 1, $1.createdAt, $1.id)
            }
            var kept: [Task] = []
            for task in order {
                if kept.contains(where: { $0.spec == task.spec && $0.ports == task.ports }) { stop(task, in: key) } else { kept.append(task) }
            }
            // Two of different specs live side by side in an update that starts first, and in no other.
            let startsFirst = service.spec.update?.order == .startFirst || service.spec.rollback?.order == .startFirst
            guard kept.count > 1, !startsFirst, kept.contains(where: { !template.isOutdated($0) }) else { continue }
            for task in kept where template.isOutdated(task) { stop(task, in: key) }
        }
    }

    /// The replacement has ended, and by the service's policy there is not to be another.
    private func isDone(_ key: Seat.Key) -> Bool {
        guard let seat = seats[key], let newest = seat.newest, newest.endedByItself, !template.isOutdated(newest) else { return false }
        return !newest.isRestartable(others: seat.tasks)
    }

    /// Whether the task's node has been down for so long that whatever ran there is given up.
    mutating func isLost(_ task: Task) -> Bool {
        guard !task.status.state.isTerminal, task.status.state >= .assigned, case .down = ground(task.nodeID), let node = state.node(task.nodeID),
            !node.status.since.isNever
        else { return false }
        let limit = node.status.since + PlanningContext.orphanAge
        guard now < limit else { return true }
        wake(at: limit)
        return false
    }
}
