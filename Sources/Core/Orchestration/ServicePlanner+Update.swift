import PluginAPI

extension ServicePlanner {
    /// Replaces tasks whose spec is not the service's any more, a few at a time, and judges how the new ones do.
    mutating func update() {
        finishHandovers()
        let outdated = seats.values.filter { seat in seat.wanted.contains { template.isOutdated($0) } }.sorted { $0.key < $1.key }
        var status = service.updateStatus ?? UpdateStatus()
        switch status.state {
        case .paused, .rollbackPaused: return
        case .updating, .rollbackStarted: break
        default:
            guard !outdated.isEmpty else { return }
            status = UpdateStatus()
            status.state = .updating
            status.startedAt = now
            status.message = "update in progress"
            save(status)
        }
        let isRollback = status.state == .rollbackStarted
        let configuration = (isRollback ? service.spec.rollback : service.spec.update) ?? Self.defaultConfiguration
        if let failed = failedTask(since: status.startedAt, configuration), react(to: failed, status, configuration, isRollback) { return }
        guard outdated.isEmpty else {
            replace(outdated, since: status.startedAt, configuration)
            return
        }
        complete(status, configuration, isRollback)
    }

    private static var defaultConfiguration: UpdateConfig {
        var configuration = UpdateConfig()
        configuration.parallelism = 1
        return configuration
    }

    private mutating func save(_ status: UpdateStatus) {
        var changed = service
        changed.updateStatus = status
        emit(.updateService(changed, matching: service.version))
    }

    /// Start-first: the old task goes when the new one runs.
    private mutating func finishHandovers() {
        for (key, seat) in seats {
            let wanted = seat.wanted
            guard wanted.contains(where: { !template.isOutdated($0) && $0.status.state == .running }) else { continue }
            for task in wanted where template.isOutdated(task) { stop(task, in: key) }
        }
    }

    private mutating func replace(_ outdated: [Seat], since start: Timestamp, _ configuration: UpdateConfig) {
        let waiting = outdated.filter { seat in !seat.wanted.contains { !template.isOutdated($0) } }
        var budget = waiting.count
        if configuration.parallelism > 0 {
            let busy = seats.values.filter { isBusy($0, since: start, configuration) }.count
            budget = max(0, Int(clamping: configuration.parallelism) - busy)
        }
        // What does not run is replaced first: nobody will miss it.
        let order = waiting.sorted { ($0.isRunning ? 1 : 0, $0.key) < ($1.isRunning ? 1 : 0, $1.key) }
        // What cannot be replaced now is not stopped now.
        for seat in order.prefix(min(budget, room)) {
            // Start-first keeps the one that runs; there may be more after an update in the middle of another.
            let kept = configuration.order == .startFirst ? seat.wanted.last { $0.status.state == .running } : nil
            for task in seat.wanted where task.id != kept?.id { stop(task, in: seat.key) }
            fill(seat.key)
        }
    }

    /// Whether the update is at work on a seat: its new task does not run yet, or the delay after it is not over. A seat whose new task failed once is not waited for again.
    private mutating func isBusy(_ seat: Seat, since start: Timestamp, _ configuration: UpdateConfig) -> Bool {
        guard !seat.tasks.contains(where: { hasFailed($0, since: start) }) else { return false }
        guard let task = seat.wanted.first(where: { !template.isOutdated($0) && $0.createdAt >= start }) else { return false }
        guard task.status.state == .running else { return true }
        let rested = (context.runningSince[task.id] ?? task.status.timestamp) + configuration.delay
        guard now < rested else { return false }
        wake(at: rested)
        return true
    }

    private func hasFailed(_ task: Task, since start: Timestamp) -> Bool {
        (task.status.state == .failed || task.status.state == .rejected) && task.createdAt >= start && task.status.timestamp >= start
            && !template.isOutdated(task)
    }

    /// A task that failed while it was watched, when more than the tolerated share did.
    private func failedTask(since start: Timestamp, _ configuration: UpdateConfig) -> Task? {
        let monitor = configuration.monitor ?? .seconds(5)
        var failures = 0
        var example: Task?
        for seat in seats.values {
            let failed = seat.tasks.last { task in
                guard hasFailed(task, since: start) else { return false }
                guard let since = context.runningSince[task.id] else { return true }
                return task.status.timestamp - since <= monitor
            }
            if let failed {
                failures += 1
                example = example.map { $0.id < failed.id ? $0 : failed } ?? failed
            }
        }
        guard Double(failures) / Double(max(1, seats.count)) > configuration.maxFailureRatio else { return nil }
        return example
    }

    /// Pauses or rolls back; says whether the plan ends here.
    private mutating func react(to task: Task, _ status: UpdateStatus, _ configuration: UpdateConfig, _ isRollback: Bool) -> Bool {
        var status = status
        let cause = "due to failure or early termination of task \(task.id)"
        switch configuration.failureAction {
        case .continue:
            return false
        case .rollback where !isRollback && service.previousSpec != nil:
            guard let reverted = ServiceDraft.automaticRollback(of: service, now: now, message: "update rolled back \(cause)") else { return false }
            emit(.updateService(reverted, matching: service.version))
            return true
        default:
            status.state = isRollback ? .rollbackPaused : .paused
            status.message = "\(isRollback ? "rollback" : "update") paused \(cause)"
            save(status)
            return true
        }
    }

    /// The end of an update: all new tasks have run for as long as they are watched.
    private mutating func complete(_ status: UpdateStatus, _ configuration: UpdateConfig, _ isRollback: Bool) {
        let monitor = configuration.monitor ?? .seconds(5)
        for seat in seats.values where !seat.tasks.contains(where: { hasFailed($0, since: status.startedAt) }) {
            for task in seat.wanted {
                guard task.status.state == .running else { return }
                guard task.createdAt >= status.startedAt else { continue }
                let watched = (context.runningSince[task.id] ?? task.status.timestamp) + monitor
                if now < watched {
                    wake(at: watched)
                    return
                }
            }
        }
        var status = status
        status.state = isRollback ? .rollbackCompleted : .completed
        status.completedAt = now
        status.message = isRollback ? "rollback completed" : "update completed"
        save(status)
    }
}
