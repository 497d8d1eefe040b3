import Events
import Files
import Logging
import PluginAPI
import Synchronization
import Wire

@testable import Agent
@testable import Dispatcher

/// An engine over fakes, in a folder of its own.
final class House: Sendable {
    let clock = VirtualClock()
    let runtime: FakeRuntime
    let network = FakeNetwork()
    let balancer = FakeBalancer()
    let sandboxes = FakeSandboxes()
    let events = EventHub()
    let folder: String
    private let current = Mutex<ContainerEngine?>(nil)
    private let running = Mutex<[ConcurrentTask<Void, Never>]>([])
    let heldPorts = Mutex<Set<UInt16>>([])
    let overlay = FakeNetwork(scope: .swarm)
    /// Those of plugins that are enabled later.
    let otherDrivers = Mutex<[String: any NetworkDriver]>([:])
    let names = FakeNames()
    /// Of every container's clients.
    let connections = Mutex(0)
    /// The ports on which every container listens; `nil`: on all.
    let listening = Mutex<Set<UInt16>?>(nil)
    let withdrawn: (stream: AsyncStream<Set<ID>>, yield: AsyncStream<Set<ID>>.Continuation) = {
        let (stream, continuation) = AsyncStream.makeStream(of: Set<ID>.self)
        return (stream, continuation)
    }()
    let confirmed = Mutex<[UInt64]>([])

    init() throws {
        folder = try Files.makeTemporaryDirectory(prefix: "apus-agent-test")
        runtime = FakeRuntime(now: clock.clock.now)
    }

    static func with(_ body: (House) async throws -> Void) async throws {
        let house = try House()
        try await house.boot()
        do {
            try await body(house)
        } catch {
            await house.close()
            throw error
        }
        await house.close()
    }

    var engine: ContainerEngine {
        get throws {
            guard let engine = current.withLock({ $0 }) else { throw ApusError(.failed, "the engine is off") }
            return engine
        }
    }

    /// An engine comes up, perhaps after another.
    func boot(run: Bool = true) async throws {
        var configuration = ContainerEngineConfiguration(stateDirectory: folder + "/state", executionRoot: folder + "/run")
        configuration.clock = clock.clock
        configuration.sandboxes = sandboxes
        configuration.routesPath = "/nonexistent"
        configuration.isHostPortFree = { [self] _, _, port in !heldPorts.withLock { $0.contains(port) } }
        configuration.countConnections = { [self] _ in connections.withLock { $0 } }
        configuration.isListening = { [self] _, ports in listening.withLock { $0?.isSuperset(of: ports) ?? true } }
        configuration.resolverPath = folder + "/resolv.conf"
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let drivers: [String: any NetworkDriver] = ["bridge": network, "overlay": overlay]
        let engine = ContainerEngine(
            configuration: configuration, runtime: runtime, networks: { [self] in drivers.merging(otherDrivers.withLock { $0 }) { own, _ in own } },
            balancer: balancer, names: names, events: events, logger: logger)
        try await engine.start()
        current.withLock { $0 = engine }
        if run { own(ConcurrentTask { await engine.run() }) }
    }

    /// An agent works over the engine that is up.
    @discardableResult
    func hire(
        _ source: FakeSource, tables: AsyncStream<EndpointUpdate>? = nil, _ configure: (inout AgentConfiguration) -> Void = { _ in }
    ) throws -> Agent {
        var configuration = AgentConfiguration()
        configuration.withdrawalPatience = .zero
        configure(&configuration)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        var endpoints: EndpointSource?
        if let tables {
            endpoints = EndpointSource(
                tables: { tables }, withdrawn: { [self] in withdrawn.stream }, confirm: { [self] update in confirmed.withLock { $0.append(update.number) } })
        }
        let agent = Agent(
            nodeID: "node", source: source, containers: try engine, endpoints: endpoints, configuration: configuration, logger: logger)
        own(ConcurrentTask { await agent.run() })
        return agent
    }

    private func own(_ task: ConcurrentTask<Void, Never>) { running.withLock { $0.append(task) } }

    /// Everything of the engine and the agent ends; the containers stay.
    func halt() async {
        let tasks = running.withLock { running in
            let tasks = running
            running = []
            return tasks
        }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
        current.withLock { $0 = nil }
    }

    func close() async {
        try? await current.withLock { $0 }?.removeAllFiles()
        await halt()
        try? Files.removeTree(folder)
    }

    /// A container that was started.
    func run(_ name: String, _ configure: (inout ContainerRequest) -> Void = { _ in }) async throws -> ID {
        runtime.add("nginx:latest")
        var request = ContainerRequest(image: "nginx:latest", name: name)
        configure(&request)
        let engine = try engine
        let id = try await engine.create(request)
        try await engine.start(id.text)
        return id
    }

    func actions(of id: ID) -> [String] { events.subscribe().recent.filter { $0.actorID == id.text }.map(\.action) }

    static func port(_ host: UInt64, _ container: UInt64) -> ContainerPort {
        var port = ContainerPort()
        port.hostPort = host
        port.containerPort = container
        return port
    }

    static func task(_ id: ID, slot: UInt64 = 1, desired: TaskState = .running, image: String = "nginx:latest") -> Task {
        var task = Task()
        task.id = id
        task.serviceID = "service"
        task.serviceName = "web"
        task.slot = slot
        task.nodeID = "node"
        task.desiredState = desired
        task.status.state = .assigned
        var container = ContainerSpec()
        container.image = image
        task.spec.container = container
        return task
    }
}
