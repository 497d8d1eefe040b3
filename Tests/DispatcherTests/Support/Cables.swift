import Dispatcher
import GRPCCore
import GRPCInProcessTransport
import Logging
import Orchestration
import PluginAPI
import Synchronization
import Wire

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
let clusterID: ID = "cluster"

/// Says who the caller is, as the transport does from the certificate.
private struct Identify: ServerInterceptor {
    let peer: PeerIdentity?

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingServerRequest<Input>, context: ServerContext,
        next: @Sendable (StreamingServerRequest<Input>, ServerContext) async throws -> StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
        try await PeerIdentity.$current.withValue(peer) { try await next(request, context) }
    }
}

/// Managers by address, and the cables to them.
final class Cables: Sendable {
    private struct Contents {
        var services: [String: DispatcherService<MemorySwarm>] = [:]
        var unplugged: Set<String> = []
        var cables: [Int: (address: String, cut: AsyncStream<Void>.Continuation)] = [:]
        var nextCable = 0
        var dialled: [String] = []
    }

    private let contents = Mutex(Contents())

    func add(_ address: String, _ service: DispatcherService<MemorySwarm>) { contents.withLock { $0.services[address] = service } }
    var dialled: [String] { contents.withLock(\.dialled) }

    /// Cuts every connection to a manager, and lets none through.
    func unplug(_ address: String) {
        let cut = contents.withLock { contents in
            contents.unplugged.insert(address)
            return contents.cables.values.filter { $0.address == address }.map(\.cut)
        }
        for cable in cut { cable.finish() }
    }

    func plug(_ address: String) { _ = contents.withLock { $0.unplugged.remove(address) } }

    func connect(as peer: PeerIdentity?) -> RemoteDispatcher.Connect {
        { address, use throws(ApusError) in
            let (cut, continuation) = AsyncStream.makeStream(of: Void.self)
            let (service, number) = self.contents.withLock { contents in
                contents.dialled.append(address)
                contents.nextCable += 1
                contents.cables[contents.nextCable] = (address, continuation)
                return (contents.unplugged.contains(address) ? nil : contents.services[address], contents.nextCable)
            }
            defer { self.contents.withLock { $0.cables[number] = nil } }
            guard let service else { throw ApusError(.unavailable, "no route to \(address)") }
            let transport = InProcessTransport()
            let server = GRPCServer(transport: transport.server, services: [service], interceptors: [Identify(peer: peer)])
            let client = GRPCClient(transport: transport.client)
            await withTaskGroup(of: Bool.self) { group in
                group.addTask {
                    try? await server.serve()
                    return false
                }
                group.addTask {
                    try? await client.runConnections()
                    return false
                }
                group.addTask {
                    await use(GRPCDispatcherClient(client))
                    return true
                }
                group.addTask {
                    for await _ in cut {}
                    return true
                }
                for await isEnd in group where isEnd { break }
                group.cancelAll()
            }
        }
    }
}

func peer(_ node: ID, cluster: ID = clusterID, role: NodeRole = .worker) -> PeerIdentity {
    PeerIdentity(nodeID: node, role: role, clusterID: cluster, serial: "1")
}

/// Polls until it holds, for a long time.
func eventually(_ seconds: Int = 30, _ condition: () throws -> Bool) async rethrows -> Bool {
    for _ in 0..<(seconds * 100) {
        if try condition() { return true }
        try? await ConcurrentTask.sleep(for: .milliseconds(10))
    }
    return try condition()
}

/// A manager with a store; several may share one, as after a change of leader.
struct TestManager: Sendable {
    let store: MemorySwarm
    let sessions: NodeSessions<MemorySwarm>
    let service: DispatcherService<MemorySwarm>

    init(
        _ store: MemorySwarm, heartbeat: Duration = .seconds(5), leader: @escaping @Sendable () -> String? = { nil },
        change: (inout NodeSessionsConfiguration<MemoryState>) -> Void = { _ in }
    ) {
        self.store = store
        var configuration = NodeSessionsConfiguration<MemoryState>()
        configuration.sessions.heartbeatPeriod = heartbeat
        configuration.sessions.registrationLimit = 100
        change(&configuration)
        sessions = NodeSessions(store: store, configuration: configuration, logger: quiet)
        service = DispatcherService(sessions: sessions, leader: leader, logger: quiet)
    }
}

func makeStore(_ nodes: [Node] = [makeNode("n1"), makeNode("n2")]) throws -> MemorySwarm {
    let store = MemorySwarm()
    try store.commit { transaction throws(ApusError) in
        var cluster = Cluster()
        cluster.id = clusterID
        cluster.root.certificate = "root one"
        transaction.put(cluster)
        for node in nodes { transaction.put(node) }
    }
    return store
}

func makeRemote(
    _ node: ID, _ cables: Cables, managers: [String] = ["m1"], as identity: PeerIdentity? = nil, hostname: String = "host",
    logs: RemoteDispatcher.LogSource? = nil
) -> RemoteDispatcher {
    var configuration = RemoteDispatcherConfiguration()
    configuration.shortestPause = .milliseconds(5)
    configuration.longestPause = .milliseconds(100)
    configuration.callTimeout = .seconds(10)
    return RemoteDispatcher(
        node: node, managers: managers, address: "192.0.2.9",
        describe: {
            var description = makeNode(node.text).description
            description.hostname = hostname
            return description
        }, connect: cables.connect(as: identity ?? peer(node)), logs: logs, configuration: configuration, logger: quiet)
}

func assigned(_ id: String, node: String = "n1", _ state: TaskState = .assigned) -> Task {
    makeTask(id) {
        $0.nodeID = ID(node)
        $0.status.state = state
        $0.status.timestamp = Timestamp(nanoseconds: 1)
    }
}

func status(_ state: TaskState, _ message: String = "") -> TaskStatus {
    var status = TaskStatus()
    status.state = state
    status.timestamp = SystemClock().now()
    status.message = message
    return status
}

/// Runs things until the body is done.
func running(_ work: [@Sendable () async -> Void], _ body: () async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        for item in work { group.addTask { await item() } }
        defer { group.cancelAll() }
        try await body()
    }
}
