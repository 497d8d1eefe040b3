import GRPCCore
import Logging
import PluginAPI
import Synchronization
import Transport
import Wire

/// One connection to each manager that this node speaks to, made when it is needed.
final class PeerConnections: Sendable {
    typealias Client = GRPCClient<NodeClientTransport>

    private struct State {
        var clients: [String: Client] = [:]
        var onRenewal: @Sendable () -> Void = {}
        var hasEnded = false
    }

    let credentials: TransportCredentials
    private let state = Mutex(State())
    private let logger: Logger
    private let made: AsyncStream<Client>
    private let make: AsyncStream<Client>.Continuation

    init(credentials: TransportCredentials, logger: Logger) {
        self.credentials = credentials
        self.logger = logger
        (made, make) = AsyncStream.makeStream(of: Client.self)
    }

    /// The client for a manager at `host:port`.
    /// - Throws: `invalidArgument` for what is no address, `unavailable` after the end.
    func client(for address: String) throws(ApusError) -> Client {
        let endpoint = try NodeAddress(address)
        let result = state.withLock { state -> Result<Client, ApusError> in
            if let client = state.clients[address] { return .success(client) }
            if state.hasEnded { return .failure(ApusError(.unavailable, "this node is leaving the swarm")) }
            do {
                let transport = try NodeClientTransport(
                    host: endpoint.host, port: endpoint.port, security: .tls(credentials), configuration: Self.configuration, logger: logger,
                    onRetire: { [weak self] in self?.renew(address) })
                let client = GRPCClient(transport: transport)
                state.clients[address] = client
                make.yield(client)
                return .success(client)
            } catch {
                return .failure(ApusError(.failed, "no connection to \(address) can be set up: \(error)"))
            }
        }
        return try result.get()
    }

    /// Makes sure that a node is where it says.
    /// - Throws: `invalidArgument` with what is at the address instead.
    func check(_ node: ID, isAt address: NodeAddress) async throws(ApusError) {
        do {
            try await NodeClientTransport(
                host: address.host, port: address.port,
                security: .tls(
                    credentials,
                    expecting: { $0.nodeID == node ? NodeClientTransport.expectManager($0) : "it is the address of node \($0.nodeID)" }),
                configuration: Self.configuration, logger: logger
            ).probe()
        } catch {
            throw ApusError(
                .invalidArgument,
                "node \(node) says that it is at \(address), and cannot be reached there: \((error as? RPCError)?.message ?? "\(error)"). "
                    + "Give it the address under which the other managers reach it: --advertise-addr")
        }
    }

    /// Large enough for a full batch of Raft; a lost manager is noticed within a heartbeat.
    static var configuration: TransportConfiguration {
        var configuration = TransportConfiguration()
        configuration.maximumMessageBytes = 16 << 20
        configuration.keepaliveIdle = .seconds(3)
        configuration.keepaliveAnswer = .seconds(2)
        configuration.maximumBackoff = .seconds(2)
        return configuration
    }

    /// Calls from now on are made over new connections, with the certificate as it is now; those under way end on the old ones.
    func renew() {
        for address in state.withLock({ Array($0.clients.keys) }) { renew(address) }
    }

    private func renew(_ address: String) {
        let (old, onRenewal) = state.withLock { ($0.clients.removeValue(forKey: address), $0.onRenewal) }
        guard let old else { return }
        old.beginGracefulShutdown()
        onRenewal()
    }

    /// Sets what is called when a connection is to be replaced: calls that never end by themselves have to begin anew.
    func setRenewal(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.onRenewal = body } }

    /// Keeps the connections until it is cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            for await client in made {
                group.addTask {
                    await withTaskCancellationHandler {
                        try? await client.runConnections()
                    } onCancel: {
                        client.beginGracefulShutdown()
                    }
                }
            }
            state.withLock { state in
                state.hasEnded = true
                state.clients = [:]
            }
            group.cancelAll()
        }
    }
}
