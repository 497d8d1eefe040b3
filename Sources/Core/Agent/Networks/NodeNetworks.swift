import Coding
import Files
import Logging
import Namespaces
import PluginAPI
import Synchronization

/// The networks of this node, kept in `networks.json`.
final class NodeNetworks: Sendable {
    private let table = Mutex<[ID: NodeNetwork]>([:])
    private let lock = KeyedLock<String>()
    private let path: String
    private let configuration: ContainerEngineConfiguration
    private let drivers: @Sendable () -> [String: any NetworkDriver]
    private let logger: Logger

    init(configuration: ContainerEngineConfiguration, drivers: @escaping @Sendable () -> [String: any NetworkDriver], logger: Logger) {
        self.configuration = configuration
        self.drivers = drivers
        self.logger = logger
        path = configuration.stateDirectory + "/networks.json"
    }

    /// Reads the table, adds the predefined networks and makes all of them on the node.
    func start() async throws(ApusError) {
        let (path, routesPath) = (path, configuration.routesPath)
        let (stored, routes) = try await DedicatedThread.run { () throws(ApusError) -> ([NodeNetwork], [IPPrefix]) in
            let routes = (try? Files.readText(routesPath)) ?? ""
            guard Files.exists(path) else { return ([], AddressChoice.routes(routes)) }
            do throws(ApusError) {
                let json = try JSONValue.parse(try Files.read(path))
                let table = try JSONFields.decode(NodeNetworkTable.self, from: json, unknownFields: .ignore, includeInternal: true)
                return (table.networks, AddressChoice.routes(routes))
            } catch {
                throw error.during("\(path) cannot be read; repair it, or move it away to begin with the default networks")
            }
        }
        var networks = stored
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] where !networks.contains(where: { $0.name == name }) {
            var network = NodeNetwork()
            network.id = .randomContainer()
            network.name = name
            network.driver = driver
            network.createdAt = configuration.clock.now()
            if name == "bridge" {
                let prefix: IPPrefix
                if let wanted = configuration.bridgeSubnet {
                    prefix = wanted.address == wanted.network.address ? try AddressChoice.gateway(of: wanted, named: nil) : wanted
                } else {
                    let taken = routes + networks.compactMap(\.gatewayPrefix)
                    prefix = try AddressChoice.gateway(of: try AddressChoice.subnet(avoiding: taken), named: nil)
                }
                network.gateway = prefix.description
            }
            networks.append(network)
        }
        if let wanted = configuration.bridgeSubnet, let bridge = networks.first(where: { $0.name == "bridge" })?.gatewayPrefix,
            wanted.network != bridge.network
        {
            logger.warning(
                "the network bridge keeps its subnet \(bridge.network); \(wanted.network) takes effect without containers and \(path)"
            )
        }
        let all = Dictionary(networks.map { ($0.id, $0) }) { first, _ in first }
        table.withLock { $0 = all }
        if networks != stored { try await save() }
        await makeAll()
    }

    /// Makes every network whose driver there is on the node, or repairs it.
    func makeAll() async {
        for network in all {
            guard let local = network.local, let driver = drivers()[network.driver] else { continue }
            do throws(ApusError) {
                try await driver.create(local)
            } catch {
                // Containers that need it will say so; all others can live without it.
                logger.error("network \(network.name) cannot be made: \(error.message)")
            }
        }
    }

    var all: [NodeNetwork] { table.withLock { $0.values.sorted { ($0.createdAt, $0.name) < ($1.createdAt, $1.name) } } }

    var subnets: [IPPrefix] { table.withLock { $0.values.compactMap { $0.gatewayPrefix?.network }.sorted { $0.address < $1.address } } }

    /// By id, unique prefix of an id, or name; `default` is `bridge`.
    func find(_ reference: String) throws(ApusError) -> NodeNetwork {
        let reference = reference == "default" ? "bridge" : reference
        let (exact, prefixed) = table.withLock { table in
            (
                table[ID(reference)] ?? table.values.first { $0.name == reference },
                reference.isEmpty ? [] : table.values.filter { $0.id.text.hasPrefix(reference) }
            )
        }
        if let exact { return exact }
        if prefixed.count > 1 {
            throw ApusError(.invalidArgument, "network \(reference) is ambiguous (\(prefixed.count) matches found based on ID prefix)")
        }
        guard let found = prefixed.first else { throw ApusError(.notFound, "network \(reference) not found") }
        return found
    }

    func driver(of network: NodeNetwork) throws(ApusError) -> any NetworkDriver { try driver(named: network.driver, of: network.name) }

    func driver(named driver: String, of network: String) throws(ApusError) -> any NetworkDriver {
        guard let found = drivers()[driver] else {
            throw ApusError(.unavailable, "the network \(network) needs the plugin network/\(driver), which is not enabled; see `apus plugin ls`")
        }
        return found
    }

    var allDrivers: [String: any NetworkDriver] { drivers() }

    /// Whether the network is this node's own.
    func isLocal(_ id: ID) -> Bool { table.withLock { $0[id] != nil } }

    /// The network by which tasks in networks of the swarm reach the world; made when it is asked for first.
    func gatewayNetwork() async throws(ApusError) -> NodeNetwork {
        if let network = try? find(NodeNetwork.gatewayName) { return network }
        var request = NodeNetworkRequest(name: NodeNetwork.gatewayName)
        request.options["com.docker.network.bridge.enable_icc"] = "false"
        request.options["com.docker.network.bridge.name"] = NodeNetwork.gatewayName
        var generator = SystemRandomNumberGenerator()
        request.gatewayV6 = AddressChoice.uniqueLocal(using: &generator)
        do throws(ApusError) {
            return try await create(request)
        } catch {
            // Somebody else asked at the same time.
            if let network = try? find(NodeNetwork.gatewayName) { return network }
            throw error
        }
    }

    func create(_ request: NodeNetworkRequest) async throws(ApusError) -> NodeNetwork {
        try await lock.withLock("") { () async throws(ApusError) -> NodeNetwork in
            try ContainerName.check(request.name, of: "network")
            if all.contains(where: { $0.name == request.name }) {
                throw ApusError(.conflict, "network with name \(request.name) already exists")
            }
            var network = NodeNetwork()
            network.id = .randomContainer()
            network.name = request.name
            network.driver = request.driver.isEmpty ? "bridge" : request.driver
            network.isInternal = request.isInternal
            network.labels = request.labels
            network.options = request.options
            network.createdAt = configuration.clock.now()
            guard network.driver != "host", network.driver != "null" else {
                throw ApusError(.permissionDenied, "only one instance of \"\(network.driver)\" network is allowed")
            }
            let others = all.compactMap(\.gatewayPrefix)
            let subnet: IPPrefix
            if let wanted = request.subnet {
                if let other = others.first(where: { $0.overlaps(wanted) }) {
                    throw ApusError(.permissionDenied, "Pool overlaps with other one on this address space: \(wanted) and \(other.network)")
                }
                subnet = wanted.network
            } else {
                let path = configuration.routesPath
                let routes = try await DedicatedThread.run { () throws(ApusError) -> String in (try? Files.readText(path)) ?? "" }
                subnet = try AddressChoice.subnet(avoiding: others + AddressChoice.routes(routes))
            }
            network.gateway = try AddressChoice.gateway(of: subnet, named: request.gateway).description
            network.gatewayV6 = request.gatewayV6?.description ?? ""
            guard let local = network.local else { throw ApusError(.invalidArgument, "the network has no subnet") }
            let driver = try driver(of: network)
            try await driver.create(local)
            table.withLock { $0[network.id] = network }
            do throws(ApusError) {
                try await save()
            } catch {
                table.withLock { _ = $0.removeValue(forKey: network.id) }
                try? await driver.remove(local)
                throw error
            }
            return network
        }
    }

    func remove(_ network: NodeNetwork) async throws(ApusError) {
        try await lock.withLock("") { () async throws(ApusError) -> Void in
            guard !network.isPredefined else {
                throw ApusError(.permissionDenied, "\(network.name) is a pre-defined network and cannot be removed")
            }
            if let local = network.local { try await driver(of: network).remove(local) }
            table.withLock { _ = $0.removeValue(forKey: network.id) }
            try await save()
        }
    }

    private func save() async throws(ApusError) {
        var table = NodeNetworkTable()
        table.networks = all
        let bytes = JSONFields.encode(table, includeInternal: true).bytes()
        let path = path
        try await DedicatedThread.run { () throws(ApusError) -> Void in
            try Files.makeDirectory(Files.parent(path))
            try Files.writeAtomically(bytes, to: path)
        }
    }
}
