import Dispatcher
public import Events
import Files
public import Logging
import Namespaces
public import PluginAPI
import Synchronization
import Wire

/// All containers of this node: those that people run and those of tasks.
///
/// Containers belong to the runtime and outlive this object. What the engine must know of them again is in their configuration's annotations;
/// names that were changed and the wish that a container stays ended are in `notes.json`.
///
/// References are full ids, unique prefixes of ids, or names with or without a slash.
public final class ContainerEngine: Sendable {
    struct State {
        var records: [ID: ContainerRecord] = [:]
        /// Also those of containers that are being made.
        var names: [String: ID] = [:]
        /// By network; also those of containers that are being made.
        var addresses: [ID: [IPAddress: ID]] = [:]
        var lastAddresses: [ID: IPAddress] = [:]
        /// Host ports of containers that are being made.
        var pendingClaims: [ID: [PublishedPorts.Claim]] = [:]
        var nextEphemeralPort: UInt16 = 0
        var servicePorts: [ID: [PortConfig]] = [:]
        /// What the managers say of networks and published ports, and the node that they say it to.
        var endpoints = EndpointTable()
        var node: ID = ""
        var applied = AppliedNetworks()
        /// What is written down of all this.
        var savedBalance: [UInt8] = []
        var attachments: (any AttachmentProvider)?
        var observers: [ID: [UInt64: @Sendable (ContainerObservation) -> Void]] = [:]
        var waiters: [ID: [UInt64: Waiter]] = [:]
        var nextNumber: UInt64 = 0
        var notes = EngineNotes()
        var events: AsyncStream<RuntimeEvent>?
    }

    /// Somebody who waits until a container is in some state; `nil` stands for a removed one.
    struct Waiter {
        var isMet: @Sendable (ContainerRecord?) -> Bool
        var continuation: CheckedContinuation<Bool, Never>
    }

    let configuration: ContainerEngineConfiguration
    let runtime: any Runtime
    let balancer: (any LoadBalancer)?
    let names: (any NameService)?
    let events: EventHub
    let logger: Logger
    let nodeNetworks: NodeNetworks
    let state = Mutex(State())
    /// One change of a container's life at a time.
    let lifeLock = KeyedLock<ID>()
    /// One change of a network of the swarm at a time.
    let networkLock = KeyedLock<ID>()
    let notesLock = KeyedLock<String>()
    let tasks = BackgroundTasks()
    private let balancerLoop = Mutex<BalancerLoop?>(nil)

    /// `networks` gives the network drivers of the moment by name; without a balancer ports are not published, without a name service names are not
    /// resolved.
    public init(
        configuration: ContainerEngineConfiguration, runtime: any Runtime, networks: @escaping @Sendable () -> [String: any NetworkDriver],
        balancer: (any LoadBalancer)?, names: (any NameService)? = nil, events: EventHub, logger: Logger
    ) {
        self.configuration = configuration
        self.runtime = runtime
        self.balancer = balancer
        self.names = names
        self.events = events
        self.logger = logger
        nodeNetworks = NodeNetworks(configuration: configuration, drivers: networks, logger: logger)
        let loop = BalancerLoop(tasks: tasks) { [weak self] () async throws(ApusError) -> Void in try await self?.applyNetworks() }
        balancerLoop.withLock { $0 = loop }
    }

    /// Takes everything back that an earlier engine left: networks, containers, ports. Nothing that runs is touched. Called once, before
    /// anything else.
    public func start() async throws(ApusError) {
        let stateDirectory = configuration.stateDirectory
        let executionRoot = configuration.executionRoot
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try Files.makeDirectory(stateDirectory)
            try Files.makeDirectory(executionRoot + "/netns")
        }
        let notes = try await EngineNotes.read(configuration.notesPath)
        let balance = await SavedBalance.read(configuration.balancePath)
        try await nodeNetworks.start()
        // Subscribed before the list is taken: what happens in between must not be missed.
        let stream = runtime.events()
        let containers = try await runtime.containers()
        state.withLock { state in
            state.events = stream
            state.notes = notes
            state.servicePorts = balance.servicePorts
            state.endpoints = balance.table
            state.node = balance.node
            state.applied.networks = balance.networks
            for container in containers { adopt(container, in: &state, serving: balance.serving) }
        }
        await removeStrayNamespaces()
        await removeStrayFiles()
    }

    /// Follows the runtime's events, health checks and restart policies until it is cancelled. The containers stay.
    public func run() async {
        let stream = state.withLock { state in
            let stream = state.events
            state.events = nil
            return stream
        }
        requestBalance()
        tasks.add("repair") { await self.repairNetworks() }
        for record in state.withLock({ Array($0.records.values) }) {
            if record.isRunning {
                beginHealthChecks(record.id, adopted: true)
            } else if !record.state.startedAt.isNever {
                tasks.add("end/\(record.id)") { await self.takeBack(record.id) }
            }
        }
        if let stream { for await event in stream { received(event) } }
        await tasks.shutDown()
    }

    private func adopt(_ container: Container, in state: inout State, serving: Set<String>) {
        var record = ContainerRecord(container)
        let id = record.id
        if let name = state.notes.names[id.text] { record.configuration.name = name }
        record.isStoppedByUser = state.notes.stopped.contains(id.text)
        record.isAttached = record.isRunning
        record.holdsPorts = record.isRunning
        record.isServing = record.isRunning && serving.contains(id.text)
        if record.isRunning {
            record.health = HealthMonitor(record.configuration.healthcheck, startedAt: record.state.startedAt)
        } else if !record.state.startedAt.isNever {
            record.ends = 1
        }
        state.names[record.configuration.name] = id
        for endpoint in record.configuration.endpoints {
            if let address = IPPrefix(endpoint.address)?.address { state.addresses[endpoint.networkID, default: [:]][address] = id }
        }
        state.records[id] = record
    }

    /// Interfaces of running containers that went with a bridge that somebody removed. What is whole is left alone.
    private func repairNetworks() async {
        for record in state.withLock({ Array($0.records.values) }) where record.isRunning && !record.configuration.endpoints.isEmpty {
            await lifeLock.withLock(record.id) {
                guard !ConcurrentTask.isCancelled, state.withLock({ $0.records[record.id]?.isRunning ?? false }) else { return }
                do throws(ApusError) {
                    try await joinNetworks(record.configuration)
                } catch {
                    logger.error("the network of container \(record.configuration.name) cannot be repaired: \(error.message)")
                }
            }
        }
    }

    /// Namespaces of containers that are gone.
    private func removeStrayNamespaces() async {
        let folder = configuration.executionRoot + "/netns"
        let known = state.withLock { Set($0.records.keys.map(\.text)) }
        let names = (try? await DedicatedThread.run { () throws(ApusError) -> [String] in try Files.list(folder) }) ?? []
        for name in names where name.utf8.count == 64 && !known.contains(name) {
            try? await configuration.sandboxes.remove(path: "\(folder)/\(name)")
        }
    }

    // MARK: - Looking

    /// A container; `notFound`, or `invalidArgument` when a prefix fits several.
    public func inspect(_ reference: String) throws(ApusError) -> ContainerDetails { try record(reference).details }

    /// All containers, newest first.
    public func list() -> [ContainerDetails] {
        state.withLock { $0.records.values.map(\.details) }.sorted { ($0.configuration.createdAt, $0.id) > ($1.configuration.createdAt, $1.id) }
    }

    /// The full id.
    public func resolve(_ reference: String) throws(ApusError) -> ID { try record(reference).id }

    /// The log, as `Runtime.logs` writes it; the request's id is replaced by the container's.
    public func logs(_ reference: String, _ request: LogRequest) async throws(ApusError) {
        var request = request
        request.id = try record(reference).id
        try await runtime.logs(request)
    }

    /// What a running container uses; `conflict` when it does not run.
    public func statistics(_ reference: String) async throws(ApusError) -> ContainerStatistics {
        let record = try record(reference)
        guard record.isRunning else { throw Self.notRunning(record) }
        return try await runtime.statistics(record.id)
    }

    /// Every change of the container from now on, and first how it is. The handler is called in order, must be quick, and must not call the engine.
    /// `nil` when there is no such container; else what `endObservation` takes.
    func observe(_ id: ID, _ handler: @escaping @Sendable (ContainerObservation) -> Void) -> UInt64? {
        state.withLock { state in
            guard let record = state.records[id] else { return nil }
            state.nextNumber += 1
            state.observers[id, default: [:]][state.nextNumber] = handler
            handler(record.observation)
            return state.nextNumber
        }
    }

    func endObservation(_ id: ID, _ number: UInt64) {
        state.withLock { state in
            state.observers[id]?[number] = nil
            if state.observers[id]?.isEmpty == true { state.observers[id] = nil }
        }
    }

    func record(_ reference: String) throws(ApusError) -> ContainerRecord {
        let text = reference.hasPrefix("/") ? String(reference.dropFirst()) : reference
        let found: [ContainerRecord] = state.withLock { state in
            if let record = state.records[ID(text)] { return [record] }
            if let id = state.names[text] { return state.records[id].map { [$0] } ?? [] }
            if text.isEmpty { return [] }
            return state.records.values.filter { $0.id.text.hasPrefix(text) }
        }
        if found.count > 1 {
            throw ApusError(.invalidArgument, "Multiple IDs found with provided prefix: \(text); write more of the id, or the name")
        }
        guard let record = found.first else { throw ApusError(.notFound, "No such container: \(text)") }
        return record
    }

    static func notRunning(_ record: ContainerRecord) -> ApusError { ApusError(.conflict, "container \(record.id) is not running") }

    // MARK: - Changing records

    /// Changes a record; then tells observers and those who wait. `nil` when it is gone.
    @discardableResult
    func change<Answer>(_ id: ID, _ body: (inout ContainerRecord) -> Answer) -> (answer: Answer, record: ContainerRecord)? {
        let (result, met) = state.withLock { state -> ((Answer, ContainerRecord)?, [CheckedContinuation<Bool, Never>]) in
            guard var record = state.records[id] else { return (nil, []) }
            let before = record.observation
            let answer = body(&record)
            state.records[id] = record
            let after = record.observation
            if after != before { for observer in (state.observers[id] ?? [:]).values { observer(after) } }
            return ((answer, record), Self.takeMet(&state, id, record))
        }
        for continuation in met { continuation.resume(returning: true) }
        return result.map { ($0.0, $0.1) }
    }

    /// Forgets a container and tells everyone.
    func forget(_ id: ID) {
        let met = state.withLock { state -> [CheckedContinuation<Bool, Never>] in
            guard let record = state.records.removeValue(forKey: id) else { return [] }
            release(record.configuration, in: &state)
            var last = record.observation
            last.isRemoved = true
            for observer in (state.observers.removeValue(forKey: id) ?? [:]).values { observer(last) }
            return Self.takeMet(&state, id, nil)
        }
        for continuation in met { continuation.resume(returning: true) }
    }

    /// Gives back the name and the addresses of a container.
    func release(_ configuration: ContainerConfiguration, in state: inout State) {
        if state.names[configuration.name] == configuration.id { state.names[configuration.name] = nil }
        state.pendingClaims[configuration.id] = nil
        for network in state.addresses.keys {
            for (address, owner) in state.addresses[network] ?? [:] where owner == configuration.id { state.addresses[network]?[address] = nil }
        }
    }

    private static func takeMet(_ state: inout State, _ id: ID, _ record: ContainerRecord?) -> [CheckedContinuation<Bool, Never>] {
        guard let waiters = state.waiters[id] else { return [] }
        let met = waiters.filter { $0.value.isMet(record) }
        for number in met.keys { state.waiters[id]?[number] = nil }
        if state.waiters[id]?.isEmpty == true { state.waiters[id] = nil }
        return met.values.map(\.continuation)
    }

    /// Returns when the condition holds; throws `cancelled`.
    func until(_ id: ID, _ isMet: @escaping @Sendable (ContainerRecord?) -> Bool) async throws(ApusError) {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        let isDone = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer: Bool? = state.withLock { state in
                    if isMet(state.records[id]) { return true }
                    // The handler below runs after the task is marked: whoever comes second to the lock sees the other.
                    if ConcurrentTask.isCancelled { return false }
                    state.waiters[id, default: [:]][number] = Waiter(isMet: isMet, continuation: continuation)
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters[id]?.removeValue(forKey: number) }
            waiter?.continuation.resume(returning: false)
        }
        if !isDone { throw ApusError(.cancelled, "the wait was cancelled") }
    }

    // MARK: - Events

    func publish(_ action: String, _ record: ContainerRecord, _ more: [String: String] = [:]) {
        var attributes = record.configuration.labels
        attributes["image"] = record.configuration.imageReference
        attributes["name"] = record.configuration.name
        attributes.merge(more) { _, new in new }
        events.publish(
            EngineEvent(
                type: "container", action: action, actorID: record.id.text, attributes: attributes, scope: "local", time: configuration.clock.now()))
    }

    // MARK: - The balancer

    /// Puts the published ports in force soon.
    func requestBalance() { balancerLoop.withLock { $0 }?.request() }

    /// Puts the published ports in force and returns when they are.
    func balanced() async -> ApusError? { await balancerLoop.withLock { $0 }?.applied() }
}
