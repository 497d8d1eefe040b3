import Coding
import Files
import Glibc
import PluginAPI
import Processes

extension Containers {
    // MARK: - Start

    func start(_ id: ID) async throws(ApusError) -> ContainerState {
        let layers = try await rootLayers(try table.record(id))
        return try await workers.run(key: id.text) { () throws(ApusError) in try self.startBlocking(id, layers: layers) }
    }

    private func startBlocking(_ id: ID, layers: [String]) throws(ApusError) -> ContainerState {
        var record = try table.record(id)
        guard record.container.state.phase != .running else { throw ApusError(.conflict, "container \(id.short) runs already") }
        defer { cgroupParents.end(id) }
        do throws(ApusError) {
            record.container.state.exitCode = 0
            try clean(record)
            beginGroup(&record)
            let launched = try launch(&record, layers: layers)
            record.container.state = ContainerState()
            record.container.state.phase = .running
            record.container.state.processID = Int64(launched.process.number)
            record.processStart = launched.process.start
            record.monitorID = Int64(launched.monitor.number)
            record.monitorStart = launched.monitor.start
            record.boot = ProcessIdentity.boot
            watch(record)
            record.container.state.startedAt = .now()
            try conmon.release(id.text, process: launched.process)
        } catch {
            abandon(record)
            record.madeCgroup = ""
            record.container.state.phase = record.container.state.phase == .running ? .created : record.container.state.phase
            record.container.state.processID = 0
            record.container.state.startedAt = .never
            record.container.state.error = error.message
            if record.container.state.exitCode == 0 { record.container.state.exitCode = 128 }
            table.update(record)
            keep(record)
            throw error
        }
        table.update(record)
        keep(record)
        events.publish(.started, id, record.container.state)
        return record.container.state
    }

    private func launch(_ record: inout ContainerRecord, layers: [String]) throws(ApusError) -> Conmon.Launched {
        let configuration = record.configuration
        let home = layout.home(configuration.id.text)
        let bundle = layout.bundle(configuration.id.text)
        try Files.makeDirectory(bundle.root, permissions: 0o755)
        try Overlay.mount(layers: layers, home: home, at: bundle.root)
        let user = try ProcessUser.resolve(configuration.user, groups: configuration.groups, root: bundle.root)
        var files = ["/etc/hostname": home.hostname]
        if !configuration.hostsFile.isEmpty { files["/etc/hosts"] = home.hosts }
        if !configuration.resolverFile.isEmpty { files["/etc/resolv.conf"] = home.resolver }
        let specification = try specification(
            configuration, user: user, mounts: try MountSources(volumes: volumes).resolve(configuration.mounts), files: files)
        try Files.writeAtomically(try specification.json().bytes(), to: bundle.specification, sync: false)
        switch try conmon.launch(configuration) {
        case .created(let launched): return launched
        case .refused(let failure):
            record.container.state.exitCode = failure.exitCode
            throw failure.error
        }
    }

    /// Begins to watch a running container.
    func watch(_ record: ContainerRecord) {
        let home = layout.home(record.id.text)
        let bundle = layout.bundle(record.id.text)
        var rotation: LogRotation?
        if LogOptions.isKept(record.configuration.log), let options = try? LogOptions(record.configuration.log), let size = options.maximumSize {
            rotation = LogRotation(path: home.log, control: bundle.control, maximumSize: size, maximumFiles: options.maximumFiles)
        }
        monitor.watch(record.id.text, bundle: bundle, monitor: record.monitor, rotation: rotation)
    }

    /// Takes away a container that was created, or is just being created by a conmon that outlived its engine, and must not run.
    func abandon(_ record: ContainerRecord) {
        // First conmon, so that nothing new comes: a killed conmon takes the OCI runtime with it.
        // Looked for until none is seen twice: while it puts itself in the background, one look can miss both the old and the new process.
        var unseen = 0
        for _ in 0..<500 where unseen < 2 {
            let monitors = Self.monitors(of: record.id)
            unseen = monitors.isEmpty ? unseen + 1 : 0
            for monitor in monitors { _ = monitor.signal(SIGKILL) }
            usleep(2000)
        }
        do throws(ApusError) { try clean(record) } catch { log(.warning, "container \(record.id.short): \(error.message)") }
        unlink(layout.home(record.id.text).exit)
    }

    /// All conmon processes of a container, also those that have not written their number down yet.
    private static func monitors(of id: ID) -> [ProcessIdentity] {
        var result: [ProcessIdentity] = []
        for name in (try? Files.list("/proc")) ?? [] {
            guard let number = Int32(name), (try? Files.readText("/proc/\(name)/comm", limit: 256)) == "conmon\n",
                let arguments = try? Files.readText("/proc/\(name)/cmdline", limit: 1 << 20),
                arguments.split(separator: "\0").contains(Substring(id.text)), let identity = ProcessIdentity(running: number)
            else { continue }
            result.append(identity)
        }
        return result
    }

    /// Writes the record; a failure is told but stops nothing: the container runs.
    func keep(_ record: ContainerRecord) {
        do throws(ApusError) { try record.write(layout.home(record.id.text).record) } catch {
            log(.error, "container \(record.id.short): its state was not saved: \(error.message)")
        }
    }

    // MARK: - Signals

    func signal(_ id: ID, _ signal: Int32) throws(ApusError) {
        guard (1...64).contains(signal) else { throw ApusError(.invalidArgument, "Invalid signal: \(signal)") }
        let record = try table.record(id)
        guard let process = record.process, process.signal(signal) else {
            throw ApusError(.conflict, "cannot kill container: \(id): container \(id) is not running")
        }
    }

    func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState {
        let record = try table.record(request.id)
        guard record.container.state.phase == .running else { return record.container.state }
        let configured = record.configuration.stopSignal.isEmpty ? SIGTERM : try SignalName.number(record.configuration.stopSignal)
        let grace = request.gracePeriod ?? record.configuration.stopGracePeriod ?? .seconds(10)
        if let state = try await end(record, with: request.signal ?? configured, within: grace) { return state }
        try? signal(request.id, SIGKILL)
        if let state = try await table.waitForEnd(request.id, limit: .seconds(30)) { return state }
        throw ApusError(.timedOut, "container \(request.id.short) did not end within 30 seconds of SIGKILL")
    }

    /// Sends the stop signal; `nil` when the grace period passes.
    ///
    /// The kernel drops a signal for which process 1 of a container has no handler, and one that was only just started has none yet: such a
    /// signal is sent once more when there is a handler.
    private func end(_ record: ContainerRecord, with signal: Int32, within grace: Duration) async throws(ApusError) -> ContainerState? {
        let due = ContinuousClock.now + grace
        let isHeard = record.process?.catches(signal) ?? true
        try? self.signal(record.id, signal)
        guard !isHeard else { return try await table.waitForEnd(record.id, limit: grace) }
        let patience = min(due, .now + Self.startingTime)
        while ContinuousClock.now < patience {
            if let state = try await table.waitForEnd(record.id, limit: min(.milliseconds(20), patience - .now)) { return state }
            if record.process?.catches(signal) ?? false {
                try? self.signal(record.id, signal)
                break
            }
        }
        return try await table.waitForEnd(record.id, limit: max(.zero, due - .now))
    }

    /// How long a program may take until it has its signal handlers.
    private static var startingTime: Duration { .seconds(3) }

    // MARK: - Ends

    /// From the monitor: the container with this id has perhaps ended.
    func noticeEnd(_ id: String) {
        workers.submit(key: id) { self.endBlocking(ID(id)) }
    }

    func noticeOutOfMemory(_ id: String) {
        workers.submit(key: id) {
            guard var record = try? self.table.record(ID(id)), record.container.state.phase == .running, !record.container.state.outOfMemory else {
                return
            }
            record.container.state.outOfMemory = true
            self.table.update(record)
            self.keep(record)
            self.events.publish(.outOfMemory, record.id, record.container.state)
        }
    }

    func endBlocking(_ id: ID) {
        guard var record = try? table.record(id), record.container.state.phase == .running else {
            unlink(layout.bundle(id.text).exitFile)
            return
        }
        let home = layout.home(id.text)
        var status = stat()
        if stat(home.exit, &status) == 0, let code = (try? Files.readText(home.exit)).flatMap({ Int64($0) }) {
            record.container.state.exitCode = code
            record.container.state.finishedAt = Timestamp(nanoseconds: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec))
        } else {
            // Nobody wrote an exit code: conmon was killed, or the machine was restarted.
            if let process = record.process, process.isRunning {
                _ = process.signal(SIGKILL)
                _ = process.waitForEnd(milliseconds: 10_000)
                record.container.state.exitCode = 137
                record.container.state.error = "conmon, which watched over the container, ended before it"
            } else {
                record.container.state.exitCode = 255
                record.container.state.error = "the container ended and nobody learnt how, perhaps by a restart of the machine"
            }
            record.container.state.finishedAt = .now()
        }
        // The time of a file may be some milliseconds old.
        record.container.state.finishedAt = max(record.container.state.finishedAt, record.container.state.startedAt)
        let wasKilled = Files.exists(home.outOfMemory) || cgroups.outOfMemoryKills(cgroup(record.configuration)) > 0
        if wasKilled, !record.container.state.outOfMemory {
            record.container.state.outOfMemory = true
            events.publish(.outOfMemory, id, record.container.state)
        }
        // It has written the exit code and is about to end.
        if let monitor = record.monitor { _ = monitor.waitForEnd(milliseconds: 2000) }
        do throws(ApusError) { try clean(record) } catch { log(.warning, "container \(id.short): \(error.message)") }
        record.madeCgroup = ""
        record.container.state.phase = .exited
        record.container.state.processID = 0
        record.monitorID = 0
        keep(record)
        unlink(home.exit)
        unlink(home.outOfMemory)
        table.end(record)
        events.publish(.ended, id, record.container.state)
    }
}
