import Logging
public import PluginAPI
import Processes
import Synchronization

extension ContainerEngine {
    /// Starts a container; false when it runs already. `conflict` when a host port is taken.
    @discardableResult
    public func start(_ reference: String) async throws(ApusError) -> Bool {
        let id = try record(reference).id
        return try await lifeLock.withLock(id) { () async throws(ApusError) -> Bool in
            let record = try record(id.text)
            if record.isRunning { return false }
            if record.isBeingRemoved { throw ApusError(.conflict, "container is marked for removal and cannot be started") }
            await finishEnd(id, allowsRestart: false)
            change(id) { record in
                record.isStoppedByUser = false
                record.isRestarting = false
                record.restartCount = 0
                record.backoff.reset()
            }
            tasks.cancel("restart/\(id)")
            try await noteStopped(record, false)
            try await startLocked(id)
            return true
        }
    }

    /// Ends a container: its stop signal (or this one), after the grace period SIGKILL. False when it does not run.
    @discardableResult
    public func stop(_ reference: String, signal: String? = nil, gracePeriod: Duration? = nil) async throws(ApusError) -> Bool {
        let number = try signal.flatMap { $0.isEmpty ? nil : $0 }.map { (name) throws(ApusError) in try SignalName.number(name) }
        let id = try record(reference).id
        return try await lifeLock.withLock(id) { () async throws(ApusError) -> Bool in
            try await stopLocked(id, signal: number, gracePeriod: gracePeriod)
        }
    }

    /// Stops it if it runs, and starts it.
    public func restart(_ reference: String, signal: String? = nil, gracePeriod: Duration? = nil) async throws(ApusError) {
        let number = try signal.flatMap { $0.isEmpty ? nil : $0 }.map { (name) throws(ApusError) in try SignalName.number(name) }
        let id = try record(reference).id
        try await lifeLock.withLock(id) { () async throws(ApusError) -> Void in
            if try record(id.text).isBeingRemoved { throw ApusError(.conflict, "container is marked for removal and cannot be started") }
            _ = try await stopLocked(id, signal: number, gracePeriod: gracePeriod)
            change(id) { record in
                record.isStoppedByUser = false
                record.restartCount = 0
                record.backoff.reset()
            }
            try await noteStopped(try record(id.text), false)
            try await startLocked(id)
            if let record = state.withLock({ $0.records[id] }) { publish("restart", record) }
        }
    }

    /// Sends a signal by name or number; returns after the end when it is SIGKILL. `conflict` when the container does not run.
    public func kill(_ reference: String, signal: String = "KILL") async throws(ApusError) {
        let number = try SignalName.number(signal.isEmpty ? "KILL" : signal)
        let record = try record(reference)
        let id = record.id
        guard record.isRunning else {
            throw ApusError(.conflict, "Cannot kill container: \(record.configuration.name): container \(id) is not running")
        }
        let stopSignal = (try? SignalName.number(record.configuration.stopSignal)) ?? 15
        // A user who ends it does not want it back.
        let ends = number == 9 || number == 15 || number == stopSignal
        if ends { change(id) { $0.isStoppedByUser = true } }
        do throws(ApusError) {
            try await runtime.signal(id, number)
        } catch {
            if ends { change(id) { $0.isStoppedByUser = record.isStoppedByUser } }
            throw error
        }
        publish("kill", record, ["signal": String(number)])
        if ends { try await noteStopped(record, true) }
        if number == 9 {
            let final = try await runtime.wait(id)
            take(id, final)
        }
    }

    /// Waits for the end of a container, and returns how it ended.
    public func wait(_ reference: String, _ condition: ContainerWaitCondition = .notRunning) async throws(ApusError) -> ContainerState {
        try await beginWait(reference, condition)()
    }

    /// Begins to wait: what happens after the return counts, also before the answer is called, once, for the end.
    public func beginWait(
        _ reference: String, _ condition: ContainerWaitCondition = .notRunning
    ) throws(ApusError) -> @Sendable () async throws(ApusError) -> ContainerState {
        let record = try record(reference)
        let id = record.id
        let last = LastState(record.state)
        // Its last state must be known when it is removed before somebody asks.
        let observation = observe(id) { last.set($0.state) }
        return { [self] () async throws(ApusError) -> ContainerState in
            defer { if let observation { endObservation(id, observation) } }
            try await until(id) { now in
                guard let now else { return true }
                last.set(now.state)
                switch condition {
                case .notRunning: return !now.isRunning && !now.isRestarting
                case .nextExit: return now.ends > record.ends
                case .removed: return false
                }
            }
            return last.value
        }
    }

    /// Gives it another name.
    public func rename(_ reference: String, to name: String) async throws(ApusError) {
        let name = name.hasPrefix("/") ? String(name.dropFirst()) : name
        try ContainerName.check(name)
        let record = try record(reference)
        let old = record.configuration.name
        if old == name { throw ApusError(.invalidArgument, "Renaming a container with the same name as its current name") }
        let holder: ID? = state.withLock { state in
            if let holder = state.names[name] { return holder }
            state.names[name] = record.id
            return nil
        }
        if let holder {
            throw Self.nameTaken(name, by: holder)
        }
        do throws(ApusError) {
            try await note { $0.names[record.id.text] = name }
        } catch {
            state.withLock { _ = $0.names.removeValue(forKey: name) }
            throw error
        }
        let renamed = change(record.id) { $0.configuration.name = name }
        state.withLock { state in
            if state.names[old] == record.id { state.names[old] = nil }
        }
        if let renamed { publish("rename", renamed.record, ["oldName": "/" + old]) }
    }

    /// Removes a container; with `force` also a running one. `volumes`: those that were made for it alone too.
    public func remove(_ reference: String, force: Bool = false, volumes: Bool = false) async throws(ApusError) {
        let record = try record(reference)
        let id = record.id
        if record.isRunning, !force {
            throw ApusError(
                .conflict,
                "cannot remove container \"/\(record.configuration.name)\": container is running: stop the container before removing or force remove")
        }
        let isFirst = change(id) { record in
            if record.isBeingRemoved { return false }
            record.isBeingRemoved = true
            return true
        }
        guard let isFirst else { throw ApusError(.notFound, "No such container: \(reference)") }
        guard isFirst.answer else { throw ApusError(.conflict, "removal of container \(id) is already in progress") }
        tasks.cancel("restart/\(id)")
        // A stop that waits for the end of a long grace period must not hold this up.
        if record.isRunning { try? await runtime.signal(id, 9) }
        try await lifeLock.withLock(id) { () async throws(ApusError) -> Void in
            do throws(ApusError) {
                change(id) { record in
                    record.isStoppedByUser = true
                    record.isRestarting = false
                }
                if try self.record(id.text).isRunning {
                    take(id, try await runtime.stop(StopRequest(id: id, signal: 9, gracePeriod: .zero)))
                }
                try await removeLocked(id, volumes: volumes)
            } catch {
                change(id) { $0.isBeingRemoved = false }
                throw error
            }
        }
    }

    // MARK: - Inside of the container's lock

    func startLocked(_ id: ID) async throws(ApusError) {
        let record = try claimPorts(id)
        do throws(ApusError) {
            if !record.isAttached { try await attachNetworks(record.configuration) }
            change(id) { $0.isAttached = true }
            // Its first question may be for a name, and its first connection to a virtual address.
            if usesNameServer(record.configuration), let error = await balanced() {
                logger.warning("the network of container \(record.configuration.name) is not as it should be: \(error.message)")
            }
            take(id, try await runtime.start(id))
        } catch {
            await detachNetworks(record.configuration)
            change(id) { record in
                record.isAttached = false
                record.holdsPorts = false
                record.state.error = error.message
                if record.state.exitCode == 0 { record.state.exitCode = 128 }
            }
            throw error
        }
        if !record.notes.publishedPorts.isEmpty, let error = await balanced() {
            logger.error("ports of container \(record.configuration.name) are not published: \(error.message)")
        }
    }

    func stopLocked(_ id: ID, signal: Int32?, gracePeriod: Duration?) async throws(ApusError) -> Bool {
        let record = try record(id.text)
        guard record.isRunning else {
            let wasRestarting = record.isRestarting
            change(id) { record in
                record.isRestarting = false
                record.isStoppedByUser = true
            }
            tasks.cancel("restart/\(id)")
            await finishEnd(id, allowsRestart: false)
            if wasRestarting { try await noteStopped(record, true) }
            return wasRestarting
        }
        change(id) { $0.isStoppedByUser = true }
        try await noteStopped(record, true)
        let grace = (gracePeriod ?? record.configuration.stopGracePeriod).map(Self.bounded)
        let request = StopRequest(id: id, signal: signal, gracePeriod: grace)
        let shown = signal ?? (try? SignalName.number(record.configuration.stopSignal)) ?? 15
        publish("kill", record, ["signal": String(shown)])
        take(id, try await runtime.stop(request))
        await finishEnd(id, allowsRestart: false)
        if let record = state.withLock({ $0.records[id] }) { publish("stop", record) }
        return true
    }

    /// A grace period as a runtime knows it: negative is without end, which is a year.
    static func bounded(_ grace: Duration) -> Duration {
        let year: Duration = .seconds(86400 * 365)
        return grace < .zero ? year : min(grace, year)
    }

    func removeLocked(_ id: ID, volumes: Bool) async throws(ApusError) {
        let record = try record(id.text)
        await finishEnd(id, allowsRestart: false)
        do throws(ApusError) {
            try await runtime.remove(id)
        } catch  where error.code == .notFound {
            // It is gone already, which is what is wanted.
        }
        await removeFiles(of: id)
        await detachNetworks(record.configuration)
        await giveBackAttachments(record.notes)
        if volumes || record.configuration.removeWhenEnded {
            for volume in record.notes.anonymousVolumes {
                do throws(ApusError) {
                    try await runtime.removeVolume(name: volume)
                } catch {
                    logger.warning("volume \(volume) of the removed container \(record.configuration.name) stays: \(error.message)")
                }
            }
        }
        forget(id)
        publish("destroy", record)
        try? await note { notes in
            notes.stopped.removeAll { $0 == id.text }
            notes.names[id.text] = nil
        }
    }

    private func claimPorts(_ id: ID) throws(ApusError) -> ContainerRecord {
        for claim in try record(id.text).notes.publishedPorts.compactMap(PublishedPorts.claim) {
            if let address = claim.address, !configuration.hasHostAddress(address) { throw PublishedPorts.noSuchAddress(claim, address) }
        }
        let isFree = configuration.isHostPortFree
        let answer: Result<ContainerRecord, ApusError> = state.withLock { state in
            guard var record = state.records[id] else { return .failure(ApusError(.notFound, "No such container: \(id)")) }
            let own = record.notes.publishedPorts.compactMap(PublishedPorts.claim)
            if !own.isEmpty, !record.holdsPorts {
                let others =
                    state.records.values.filter { $0.holdsPorts && $0.id != id }.flatMap { $0.notes.publishedPorts.compactMap(PublishedPorts.claim) }
                    + Self.claims(of: state.servicePorts)
                if let taken = own.first(where: { claim in others.contains { $0.collides(with: claim) } }) {
                    return .failure(PublishedPorts.allocated(taken))
                }
                // The balancer may still hold what it was told last.
                let held = (state.applied.balance?.ports ?? []).map {
                    PublishedPorts.Claim(transport: $0.transport, address: $0.hostAddress, port: $0.port)
                }
                for claim in own where !held.contains(where: { $0.collides(with: claim) }) && !isFree(claim.transport, claim.address, claim.port) {
                    return .failure(PublishedPorts.allocated(claim))
                }
            }
            record.holdsPorts = true
            state.records[id] = record
            return .success(record)
        }
        return try answer.get()
    }
}

/// The last state that was seen, also of a container that is removed meanwhile.
private final class LastState: Sendable {
    private let state: Mutex<ContainerState>
    init(_ state: ContainerState) { self.state = Mutex(state) }
    var value: ContainerState { state.withLock { $0 } }
    func set(_ new: ContainerState) { state.withLock { $0 = new } }
}
