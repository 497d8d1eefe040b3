import Logging
import PluginAPI
import Synchronization

extension ContainerEngine {
    /// What the runtime tells.
    func received(_ event: RuntimeEvent) {
        if event.kind == .outOfMemory {
            if let changed = change(event.containerID, { $0.state.outOfMemory = true }) { publish("oom", changed.record) }
            return
        }
        take(event.containerID, event.state)
    }

    /// Takes a container's state, from whoever learned it first, and draws the consequences that need no waiting.
    func take(_ id: ID, _ new: ContainerState) {
        let changed = change(id) { record in
            let change = record.merge(new)
            switch change {
            case .nothing: break
            case .started:
                record.isRestarting = false
                record.health = HealthMonitor(record.configuration.healthcheck, startedAt: record.state.startedAt)
            case .ended:
                record.isServing = false
            }
            return change
        }
        guard let changed else { return }
        switch changed.answer {
        case .nothing: break
        case .started:
            publish("start", changed.record)
            beginHealthChecks(id, adopted: false)
            requestBalance()
        case .ended:
            publish("die", changed.record, ["exitCode": String(changed.record.state.exitCode)])
            tasks.cancel("health/\(id)")
            requestBalance()
            tasks.add("end/\(id)") {
                await self.lifeLock.withLock(id) { await self.finishEnd(id, allowsRestart: true) }
            }
        }
    }

    /// What follows an end: the network is given back, and the container is started again, removed, or left. Inside of the container's lock;
    /// each end once.
    func finishEnd(_ id: ID, allowsRestart: Bool) async {
        let now = configuration.clock.now()
        let decision = change(id) { record -> (isNew: Bool, restartsAfter: Duration?) in
            guard !record.isRunning, record.handledEnds < record.ends else { return (false, nil) }
            record.handledEnds = record.ends
            let finished = record.state.finishedAt.isNever ? now : record.state.finishedAt
            guard allowsRestart, !record.isBeingRemoved,
                record.notes.restartPolicy.restarts(
                    exitCode: record.state.exitCode, restartCount: record.restartCount, isStoppedByUser: record.isStoppedByUser)
            else {
                record.isRestarting = false
                return (true, nil)
            }
            record.isRestarting = true
            return (true, record.backoff.next(afterRunOf: finished - record.state.startedAt))
        }
        guard let decision, decision.answer.isNew else { return }
        if let delay = decision.answer.restartsAfter {
            tasks.add("restart/\(id)") { await self.restartByPolicy(id, after: delay) }
            return
        }
        await detachNetworks(decision.record.configuration)
        change(id) { record in
            record.isAttached = false
            record.holdsPorts = false
        }
        requestBalance()
        if decision.record.configuration.removeWhenEnded, !decision.record.isBeingRemoved, allowsRestart || decision.record.isStoppedByUser {
            tasks.add("remove/\(id)") {
                do throws(ApusError) {
                    try await self.remove(id.text, force: false, volumes: true)
                } catch  where error.code == .notFound || error.code == .conflict {
                    // Somebody else removes it.
                } catch {
                    self.logger.error("container \(decision.record.configuration.name) was to be removed at its end, and is not: \(error.message)")
                }
            }
        }
    }

    /// Starts it after the delay, unless it was stopped, started or removed meanwhile; a failed start counts as an end.
    private func restartByPolicy(_ id: ID, after delay: Duration) async {
        do { try await configuration.clock.sleep(delay) } catch { return }
        await lifeLock.withLock(id) {
            guard let record = state.withLock({ $0.records[id] }), record.isRestarting, !record.isRunning, !record.isBeingRemoved,
                !ConcurrentTask.isCancelled
            else { return }
            change(id) { $0.restartCount += 1 }
            do throws(ApusError) {
                try await startLocked(id)
            } catch {
                logger.warning("container \(record.configuration.name) could not be started again: \(error.message)")
                let retry = change(id) { record -> Duration? in
                    guard
                        record.notes.restartPolicy.restarts(
                            exitCode: 128, restartCount: record.restartCount, isStoppedByUser: record.isStoppedByUser)
                    else {
                        record.isRestarting = false
                        return nil
                    }
                    return record.backoff.next(afterRunOf: .zero)
                }
                if let delay = retry?.answer { tasks.add("restart/\(id)") { await self.restartByPolicy(id, after: delay) } }
            }
        }
    }

    /// A container that had ended when the engine came up.
    func takeBack(_ id: ID) async {
        await lifeLock.withLock(id) {
            guard let record = state.withLock({ $0.records[id] }), !record.isRunning, record.handledEnds < record.ends else { return }
            let starts = record.notes.restartPolicy.startsWithEngine(
                ranBefore: !record.state.startedAt.isNever, exitCode: record.state.exitCode, isStoppedByUser: record.isStoppedByUser)
            await finishEnd(id, allowsRestart: false)
            if starts {
                change(id) { record in
                    record.isStoppedByUser = false
                    record.isRestarting = true
                }
                tasks.add("restart/\(id)") { await self.restartByPolicy(id, after: .zero) }
            } else if record.configuration.removeWhenEnded {
                tasks.add("remove/\(id)") { try? await self.remove(id.text, force: false, volumes: true) }
            }
        }
    }

    // MARK: - Health

    /// Checks a running container until it ends.
    func beginHealthChecks(_ id: ID, adopted: Bool) {
        guard let record = state.withLock({ $0.records[id] }), record.health != nil else { return }
        let startedAt = record.state.startedAt
        tasks.add("health/\(id)") { await self.checkHealth(id, of: startedAt, adopted: adopted) }
    }

    private func checkHealth(_ id: ID, of run: Timestamp, adopted: Bool) async {
        var isFirst = adopted
        let clock = configuration.clock
        while !ConcurrentTask.isCancelled {
            guard let monitor = state.withLock({ $0.records[id]?.health }) else { return }
            // After a restart of the engine nobody should wait for a whole interval to learn what was known before.
            if !isFirst { do { try await clock.sleep(monitor.delay(at: clock.now())) } catch { return } }
            isFirst = false
            let isSame = state.withLock { $0.records[id].map { $0.isRunning && $0.state.startedAt == run } ?? false }
            guard isSame else { return }
            let result = await healthResult(id, monitor)
            if ConcurrentTask.isCancelled { return }
            let changed = change(id) { record -> HealthState? in
                guard record.isRunning, record.state.startedAt == run else { return nil }
                return record.health?.take(result)
            }
            if let changed, let status = changed.answer {
                publish("health_status: \(status.rawValue)", changed.record)
            }
        }
    }

    private func healthResult(_ id: ID, _ monitor: HealthMonitor) async -> HealthResult {
        let startedAt = configuration.clock.now()
        var request = ExecuteRequest(id: id, arguments: monitor.arguments, timeout: monitor.timeout)
        request.outputLimit = HealthMonitor.outputLimit
        var exitCode: Int32 = -1
        var output: String
        do throws(ApusError) {
            let answer = try await runtime.execute(request)
            exitCode = answer.exitCode
            output = String(decoding: answer.output, as: UTF8.self)
        } catch {
            output = error.code == .timedOut ? "Health check exceeded timeout (\(monitor.timeout.components.seconds)s)" : error.message
        }
        return HealthResult(startedAt: startedAt, finishedAt: configuration.clock.now(), exitCode: exitCode, output: output)
    }
}
