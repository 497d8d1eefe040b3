import Dispatcher
import GRPCCore
import Logging
import PluginAPI
import Synchronization
import Transport

/// The nodes of a measurement over TLS, all in one process: each with a key, a connection and the product's own dispatcher; no containers.
extension Benchmark {
    private final class Progress: Sendable {
        struct State {
            var connected = 0
            var tasks = 0
        }

        let state = Mutex(State())

        var connected: Int { state.withLock { $0.connected } }
        var tasks: Int { state.withLock { $0.tasks } }
    }

    /// Nodes that look for the manager at once: handshakes that are under way count as strangers', who are few from one address.
    private static let attempts = 64

    /// Keeps so many nodes connected until it is killed, and says when all are, and when they have so many tasks.
    /// - Parameter withEndpoints: Whether they also ask for the table of endpoints.
    static func simulate(_ folder: String, _ port: Int, _ count: Int, _ taskCount: Int, withEndpoints: Bool) async throws {
        let logger = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        let authority = try Authority.load(folder)
        let nodes = (0..<count).map { makeNode($0) }
        let credentials = try nodes.map { try authority.credentials($0.id, unit: "swarm-worker") }
        let progress = Progress()
        report("prepared", [])
        let begin = monotonicSeconds()
        await withTaskGroup(of: Void.self) { group in
            for (number, (node, credential)) in zip(nodes, credentials).enumerated() {
                while progress.connected + attempts <= number { try? await ConcurrentTask.sleep(for: .milliseconds(2)) }
                group.addTask { await live(node, credential, port, withEndpoints, progress, logger) }
            }
            await until { progress.connected == count }
            report("connected", [("s", monotonicSeconds() - begin)])
            while progress.tasks < taskCount { try? await ConcurrentTask.sleep(for: .milliseconds(2)) }
            report("delivered", [("at", monotonicSeconds())])
            await group.waitForAll()
        }
    }

    private static func live(_ node: Node, _ credentials: TransportCredentials, _ port: Int, _ withEndpoints: Bool, _ progress: Progress, _ logger: Logger)
        async
    {
        // As a node of a swarm has it.
        var configuration = TransportConfiguration()
        configuration.keepaliveIdle = .seconds(3)
        configuration.keepaliveAnswer = .seconds(2)
        configuration.maximumBackoff = .seconds(2)
        guard
            let transport = try? NodeClientTransport(
                host: "127.0.0.1", port: port, security: .tls(credentials), configuration: configuration, logger: logger)
        else { return }
        let client = GRPCClient(transport: transport)
        let dispatcher = RemoteDispatcher(
            node: node.id, managers: ["127.0.0.1:\(port)"], address: node.status.address, describe: { node.description },
            connect: { _, use in
                let manager = GRPCDispatcherClient(client)
                if withEndpoints { await use(manager) } else { await use(EndpointlessClient(client: manager)) }
            }, logger: logger)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await client.runConnections() }
            group.addTask { await dispatcher.run() }
            var known: Int?
            for await tasks in dispatcher.assignments(for: node.id) {
                let before = known
                progress.state.withLock { state in
                    if before == nil { state.connected += 1 }
                    state.tasks += tasks.count - (before ?? 0)
                }
                known = tasks.count
            }
        }
    }
}
