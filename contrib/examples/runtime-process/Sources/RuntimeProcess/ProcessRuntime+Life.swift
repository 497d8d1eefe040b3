import Glibc
public import PluginAPI
import Synchronization

extension ProcessRuntime {
    public func create(_ configuration: ContainerConfiguration) async throws(ApusError) {
        _ = try ProcessPlan(configuration)
        _ = try Signals.number(configuration.stopSignal)
        let id = configuration.id
        guard !id.isEmpty, id.text.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
            throw ApusError(.invalidArgument, "\"\(id)\" is no id of a container")
        }
        let isNew = state.withLock { state in
            if state.records[id] != nil { return false }
            state.records[id] = Record(configuration: configuration)
            return true
        }
        guard isNew else { throw ApusError(.conflict, "container \(id.short) exists already") }
        let folder = layout.folder(id)
        do throws(ApusError) {
            try await Blocking.run { () throws(ApusError) in
                try File.makeFolder(folder)
                try File.write(configuration.hostsFile, to: "\(folder)/hosts", mode: 0o644)
                try File.write(configuration.resolverFile, to: "\(folder)/resolv.conf", mode: 0o644)
                try File.write(configuration.hostname + "\n", to: "\(folder)/hostname", mode: 0o644)
                // The last: a folder without it is none of a container.
                try File.write(try FieldArchive.bytes(configuration), to: "\(folder)/configuration")
            }
        } catch {
            File.removeFolder(folder)
            state.withLock { $0.records[id] = nil }
            throw error
        }
    }

    public func start(_ id: ID) async throws(ApusError) -> ContainerState {
        let answer: Result<ContainerConfiguration, ApusError> = state.withLock { state in
            guard let record = state.records[id] else { return .failure(Self.unknown(id)) }
            guard record.state.phase != .running, !record.isStarting else { return .failure(ApusError(.conflict, "container \(id.short) runs already")) }
            state.records[id]?.isStarting = true
            return .success(record.configuration)
        }
        let configuration = try answer.get()
        let (layout, monitor) = (layout, monitor)
        // Before it can have ended.
        let time = Timestamp.now
        do throws(ApusError) {
            let process = try await Blocking.run { () throws(ApusError) in
                let user = try Self.user(configuration.user)
                let plan = try ProcessPlan(configuration)
                try Self.check(plan)
                return try monitor.launch(id, plan.command(as: user, folder: layout.folder(id)), at: time)
            }
            let started = state.withLock { state -> ContainerState in
                var now = ContainerState()
                now.phase = .running
                now.processID = Int64(process.number)
                now.startedAt = time
                state.records[id]?.isStarting = false
                state.records[id]?.state = now
                state.records[id]?.process = process
                return now
            }
            publish(.started, id, started)
            // It may have ended while nobody knew that it runs.
            collect()
            return started
        } catch {
            state.withLock { $0.records[id]?.isStarting = false }
            throw error
        }
    }

    public func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState {
        let record = try record(request.id)
        guard record.state.phase == .running, let process = record.process else { return record.state }
        let usual = try Signals.number(record.configuration.stopSignal)
        process.signal(request.signal ?? usual)
        let grace = request.gracePeriod ?? record.configuration.stopGracePeriod ?? .seconds(10)
        let ended = await withTaskGroup(of: ContainerState?.self) { group in
            group.addTask { try? await self.wait(request.id) }
            group.addTask {
                try? await _Concurrency.Task.sleep(for: grace)
                return nil
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first
        }
        if let ended { return ended }
        if _Concurrency.Task.isCancelled { throw ApusError(.cancelled, "nobody waits any more for container \(request.id.short) to stop") }
        process.signal(SIGKILL)
        return try await wait(request.id)
    }

    public func signal(_ id: ID, _ signal: Int32) async throws(ApusError) {
        let record = try record(id)
        guard record.state.phase == .running, let process = record.process, process.isRunning else {
            throw ApusError(.conflict, "container \(id.short) is not running")
        }
        process.signal(signal)
    }

    public func wait(_ id: ID) async throws(ApusError) -> ContainerState {
        let (stream, continuation) = AsyncStream.makeStream(of: ContainerState.self)
        let answer: Result<ContainerState?, ApusError> = state.withLock { state in
            guard let record = state.records[id] else { return .failure(Self.unknown(id)) }
            if record.state.phase != .running && !record.isStarting { return .success(record.state) }
            state.records[id]?.waiters.append(continuation)
            return .success(nil)
        }
        if let state = try answer.get() { return state }
        for await state in stream { return state }
        throw ApusError(.cancelled, "the wait for container \(id.short) was given up")
    }

    public func remove(_ id: ID) async throws(ApusError) {
        let failure: ApusError? = state.withLock { state in
            guard let record = state.records[id] else { return Self.unknown(id) }
            guard record.state.phase != .running, !record.isStarting else { return ApusError(.conflict, "container \(id.short) is running: stop it first") }
            state.records[id] = nil
            return nil
        }
        if let failure { throw failure }
        let layout = layout
        try await Blocking.run { () throws(ApusError) in
            unlink("\(layout.folder(id))/configuration")
            unlink(layout.exit(id))
            File.removeFolder(layout.folder(id))
        }
    }

    public func containers() async throws(ApusError) -> [Container] { state.withLock { $0.records.values.map(\.container) } }

    public func container(_ id: ID) async throws(ApusError) -> Container { try record(id).container }

    public func events() -> AsyncStream<RuntimeEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: RuntimeEvent.self)
        let isOver = state.withLock { state in
            state.readers.append(continuation)
            return state.isShutDown
        }
        if isOver { continuation.finish() }
        return stream
    }

    // MARK: What they have in common

    func record(_ id: ID) throws(ApusError) -> Record {
        guard let record = state.withLock({ $0.records[id] }) else { throw Self.unknown(id) }
        return record
    }

    func publish(_ kind: RuntimeEvent.Kind, _ id: ID, _ new: ContainerState) {
        for reader in state.withLock({ $0.readers }) { reader.yield(RuntimeEvent(kind: kind, containerID: id, state: new)) }
    }

    static func unknown(_ id: ID) -> ApusError { ApusError(.notFound, "No such container: \(id)") }

    /// What would only show in the log if the programs on the way found out.
    /// - Throws: `invalidArgument`, in the words that callers know from other runtimes.
    static func check(_ plan: ProcessPlan) throws(ApusError) {
        guard File.isFolder(plan.directory) else {
            throw ApusError(.invalidArgument, "chdir to \"\(plan.directory)\": there is no such folder on this machine")
        }
        let name = plan.configuration.arguments.first ?? ""
        if name.contains("/") {
            let path = name.hasPrefix("/") ? name : "\(plan.directory)/\(name)"
            guard File.isProgram(path) else { throw ApusError(.invalidArgument, "exec: \"\(name)\": no such file or directory, or no program") }
            return
        }
        let path = plan.environment(home: "/").last { $0.hasPrefix("PATH=") }?.dropFirst(5) ?? ""
        guard find(name, in: String(path)) != nil else {
            throw ApusError(.invalidArgument, "exec: \"\(name)\": executable file not found in $PATH")
        }
    }

    /// `name|uid[:group|gid]` in this machine's tables; `nil` for root, who everybody is without a user.
    static func user(_ text: String) throws(ApusError) -> ProcessUser? {
        guard !text.isEmpty else { return nil }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map { String($0) }
        guard let entry = lookUpUser(parts[0]) else { throw ApusError(.invalidArgument, "unable to find user \(parts[0]) on this machine") }
        guard parts.count == 2 else { return entry }
        guard let group = UInt32(parts[1]) ?? lookUpGroup(parts[1]) else {
            throw ApusError(.invalidArgument, "unable to find group \(parts[1]) on this machine")
        }
        var user = entry
        user.group = group
        return user
    }

    private static func lookUpUser(_ name: String) -> ProcessUser? {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16 << 10)
        let number = UInt32(name)
        let failure =
            if let number { getpwuid_r(number, &entry, &buffer, buffer.count, &found) } else { getpwnam_r(name, &entry, &buffer, buffer.count, &found) }
        guard failure == 0, found != nil else { return number.map { ProcessUser(user: $0, group: 0, home: "/", isKnown: false) } }
        return ProcessUser(user: entry.pw_uid, group: entry.pw_gid, home: String(cString: entry.pw_dir), isKnown: true)
    }

    private static func lookUpGroup(_ name: String) -> UInt32? {
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        var buffer = [CChar](repeating: 0, count: 16 << 10)
        guard getgrnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil else { return nil }
        return entry.gr_gid
    }
}

extension ProcessRuntime.Record {
    var container: Container {
        var container = Container()
        container.configuration = configuration
        container.state = state
        return container
    }
}
