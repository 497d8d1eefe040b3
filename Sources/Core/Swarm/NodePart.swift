import Agent
import Dispatcher
import Logging
import PluginAPI
import Security
import Synchronization
import Transport
import Wire

/// What every node of a swarm does, manager or not: keeps its certificate fresh, a session with the leader, and its tasks running.
final class NodePart: Sendable {
    let connections: PeerConnections
    let dispatcher: RemoteDispatcher
    let renewer: CertificateRenewer
    private let agent: Agent
    let file: NodeRecordFile
    private let environment: SwarmEnvironment

    /// - Parameters:
    ///   - manager: This node's own part as a manager, if it has one at the moment.
    ///   - onCertificate: Called with every new certificate, after the connections have it.
    init(
        _ file: NodeRecordFile, certificate: NodeCertificate, lock: @escaping @Sendable () -> LocalLock?,
        manager: @escaping @Sendable () -> ManagerPart?, onCertificate: @escaping @Sendable (NodeCertificate) async -> Void,
        environment: SwarmEnvironment
    ) throws(ApusError) {
        self.file = file
        let record = file.record
        self.environment = environment
        let logger = environment.logger
        let credentials = try TransportCredentials(certificate)
        let connections = PeerConnections(credentials: credentials, logger: logger)
        self.connections = connections
        let present = PresentCertificate(certificate)
        let own = record.advertiseAddress
        let isManager = certificate.role == .manager
        let known = record.managers + record.members.map(\.address) + (isManager ? [own] : [])
        let dispatcher = RemoteDispatcher(
            node: record.nodeID, managers: Self.unique(known), address: record.address,
            describe: { Self.describe(environment, record, present.value) },
            connect: { address, use throws(ApusError) in
                if address == own, let manager = manager() {
                    await use(manager.localDispatcher)
                } else {
                    await use(GRPCDispatcherClient(try connections.client(for: address)))
                }
            }, logs: environment.taskLogs, logger: logger)
        self.dispatcher = dispatcher
        var configuration = CertificateRenewer.Configuration(
            directory: "\(environment.directory)/certificates",
            connector: ManagerConnector(managers: { dispatcher.managers }, logger: logger)
        ) { certificate in
            do throws(ApusError) { try credentials.update(certificate) } catch {
                logger.error("the new certificate cannot be used: \(error.message)")
            }
            // What was opened before still shows the old role.
            if present.exchange(certificate).role != certificate.role { connections.renew() }
            await onCertificate(certificate)
        }
        configuration.lock = lock
        configuration.logger = logger
        renewer = CertificateRenewer(certificate, configuration)
        agent = Agent(
            nodeID: record.nodeID, source: dispatcher, containers: environment.containers, endpoints: EndpointSource(dispatcher), logger: logger)
    }

    private static func unique(_ texts: [String]) -> [String] {
        var seen: Set<String> = []
        return texts.filter { !$0.isEmpty && seen.insert($0).inserted }
    }

    private static func describe(_ environment: SwarmEnvironment, _ record: NodeRecord, _ certificate: NodeCertificate) -> NodeDescription {
        var description = environment.describe()
        description.dataPathAddress = record.dataPathAddress
        description.tls = try? TLSInfo(of: certificate)
        return description
    }

    /// Works until it is cancelled; containers go on.
    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.connections.run() }
            group.addTask { await self.renewer.run() }
            group.addTask { await self.dispatcher.run() }
            group.addTask { await self.agent.run() }
            group.addTask { await self.followNews() }
            await group.waitForAll()
        }
    }

    /// What the leader says of this node and of the others.
    private func followNews() async {
        var roots = renewer.certificate.root
        for await news in dispatcher.news() {
            guard let message = news.message else { continue }
            if message.renewCertificate { renewer.renewNow("the managers ask for it") }
            let wanted = String(decoding: message.trustRoots, as: UTF8.self)
            if !wanted.isEmpty, wanted != roots {
                roots = wanted
                if wanted != renewer.certificate.root { renewer.trustChanged() }
            }
            remember(message.managers.map(\.address))
        }
    }

    private func remember(_ managers: [String]) {
        guard !managers.isEmpty else { return }
        do throws(ApusError) { try file.update { $0.managers = managers } } catch {
            environment.logger.error("the managers could not be remembered: \(error.message)")
        }
    }
}

/// The node's certificate as it is now: what it describes itself with.
private final class PresentCertificate: Sendable {
    private let certificate: Mutex<NodeCertificate>

    init(_ certificate: NodeCertificate) { self.certificate = Mutex(certificate) }

    var value: NodeCertificate { certificate.withLock { $0 } }

    /// Takes another one, and returns the one before.
    func exchange(_ new: NodeCertificate) -> NodeCertificate {
        certificate.withLock { certificate in
            defer { certificate = new }
            return certificate
        }
    }
}

extension EndpointSource {
    fileprivate init(_ dispatcher: RemoteDispatcher) {
        self.init(tables: { dispatcher.endpoints() }, withdrawn: { dispatcher.withdrawn() }, confirm: { dispatcher.confirm($0) })
    }
}
