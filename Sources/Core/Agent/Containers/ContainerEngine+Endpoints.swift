import Coding
public import Dispatcher
import Files
import Logging
import Namespaces
public import Names
public import PluginAPI
import Synchronization
import Wire

/// Resolves names in the namespaces of containers.
public protocol NameService: Sendable {
    /// Returns when the names are in force. Namespaces that are not in the state are given up.
    /// - Returns: why namespaces, by path, are not served.
    func apply(_ state: NameState) async -> [String: ApusError]
}

extension NameServer: NameService {}

/// What drivers, the balancer and the name server were told last.
struct AppliedNetworks: Sendable {
    struct SwarmNetwork: Sendable {
        var network: LocalNetwork
        var driver: String
        var peers: [NetworkPeer]?
        /// As the managers said it, and this node with it: kept for as long as the network is on this node.
        var entry: EndpointNetwork
        var home: EndpointNode

        /// `nil` when the table does not have it, or this node has no address for it.
        init?(_ id: ID, in table: EndpointTable, on node: ID) {
            guard let entry = table.networks[id], let home = table.nodes[node], let local = EndpointView(table: table, node: node).localNetwork(id)
            else { return nil }
            network = local
            driver = EndpointView.driverName(entry.network)
            self.entry = entry
            self.home = home
        }
    }

    var balance: BalancerState?
    var names: NameState?
    var surroundings: NetworkSurroundings?
    /// Networks of the swarm that are on this node.
    var networks: [ID: SwarmNetwork] = [:]
}

extension ContainerEngine {
    /// What the managers say of networks, names and published ports, whole; takes effect soon and replaces what was said before.
    public func setEndpoints(_ table: EndpointTable, for node: ID) {
        let isOther = state.withLock { state in
            if state.endpoints == table, state.node == node { return false }
            state.endpoints = table
            state.node = node
            state.servicePorts = EndpointView(table: table, node: node).servicePorts
            return true
        }
        if isOther { requestBalance() }
    }

    /// As `setEndpoints`, and returns when everything on this node is as the table says; false when something is not.
    public func applyEndpoints(_ table: EndpointTable, for node: ID) async -> Bool {
        setEndpoints(table, for: node)
        return await balanced() == nil
    }

    /// The networks of the swarm that this node takes part in.
    public var endpoints: EndpointTable { state.withLock { $0.endpoints } }

    // MARK: - Networks of the swarm

    /// What the table says of a network; waits for a table that has it, for the task may be here before it.
    func swarmNetwork(_ id: ID, named name: String) async throws(ApusError) -> AppliedNetworks.SwarmNetwork {
        for _ in 0..<500 {
            if let network = wantedNetwork(id) { return network }
            do { try await configuration.clock.sleep(.milliseconds(20)) } catch let cancellation { throw ApusError(cancellation) }
        }
        throw ApusError(.unavailable, "the managers have not said what the network \(name) is like; it is tried again with the next task")
    }

    private func wantedNetwork(_ id: ID) -> AppliedNetworks.SwarmNetwork? {
        let (table, node) = state.withLock { ($0.endpoints, $0.node) }
        return AppliedNetworks.SwarmNetwork(id, in: table, on: node)
    }

    /// Makes a network of the swarm on this node, with everybody who is in it.
    func placeSwarmNetwork(_ id: ID, named name: String) async throws(ApusError) -> (LocalNetwork, any NetworkDriver) {
        let wanted = try await swarmNetwork(id, named: name)
        let driver = try nodeNetworks.driver(named: wanted.driver, of: name)
        try await networkLock.withLock(id) { () async throws(ApusError) -> Void in try await place(wanted, driver) }
        return (wanted.network, driver)
    }

    /// Inside of the network's lock.
    private func place(_ wanted: AppliedNetworks.SwarmNetwork, _ driver: any NetworkDriver) async throws(ApusError) {
        let id = wanted.network.id
        let applied = state.withLock { $0.applied.networks[id] }
        // One that an earlier engine left is gone over once.
        let isNew = applied?.network != wanted.network || applied?.peers == nil
        if isNew {
            try await driver.create(wanted.network)
            state.withLock { $0.applied.networks[id] = wanted }
        }
        let peers = state.withLock { EndpointView(table: $0.endpoints, node: $0.node).peers(in: id) }
        guard isNew || applied?.peers != peers else { return }
        try await driver.setPeers(PeersRequest(network: wanted.network, peers: peers))
        state.withLock { $0.applied.networks[id]?.peers = peers }
    }

    /// Brings every network of the swarm that a container is in up to date, and removes those that nobody needs any more.
    private func updateSwarmNetworks() async throws(ApusError) {
        let (used, applied, table) = state.withLock { state in
            let endpoints = state.records.values.lazy.filter { $0.isAttached || $0.isRunning }.flatMap(\.configuration.endpoints)
            return (Set(endpoints.map(\.networkID)), state.applied.networks, state.endpoints)
        }
        var failure: ApusError?
        for id in used where !nodeNetworks.isLocal(id) {
            guard let wanted = wantedNetwork(id), let driver = try? nodeNetworks.driver(named: wanted.driver, of: wanted.network.name) else { continue }
            do throws(ApusError) {
                try await networkLock.withLock(id) { () async throws(ApusError) -> Void in try await place(wanted, driver) }
            } catch {
                logger.error("network \(wanted.network.name): \(error.message)")
                failure = failure ?? error
            }
        }
        for (id, known) in applied where !used.contains(id) && table.networks[id] == nil {
            guard let driver = try? nodeNetworks.driver(named: known.driver, of: known.network.name) else { continue }
            do throws(ApusError) {
                try await networkLock.withLock(id) { () async throws(ApusError) -> Void in try await driver.remove(known.network) }
                state.withLock { $0.applied.networks[id] = nil }
            } catch {
                logger.warning("network \(known.network.name) stays on this node: \(error.message)")
            }
        }
        if let failure { throw failure }
    }

    private func updateSurroundings() async throws(ApusError) {
        let (wanted, applied) = state.withLock { (EndpointView(table: $0.endpoints, node: $0.node).surroundings, $0.applied.surroundings) }
        guard wanted != applied else { return }
        for (name, driver) in nodeNetworks.allDrivers {
            do throws(ApusError) {
                try await driver.setSurroundings(wanted)
            } catch {
                throw error.during("network/\(name)")
            }
        }
        state.withLock { $0.applied.surroundings = wanted }
    }

    // MARK: - One application

    /// Brings everything up to date: who is where before who is asked, so that nothing is sent to a place that cannot be reached yet. Called by the
    /// balancer's loop alone.
    func applyNetworks() async throws(ApusError) {
        await writeBalance()
        var failure: ApusError?
        do throws(ApusError) { try await updateSurroundings() } catch { failure = error }
        do throws(ApusError) { try await updateSwarmNetworks() } catch { failure = failure ?? error }
        await updateNames()
        do throws(ApusError) { try await updateBalancer() } catch { failure = failure ?? error }
        guard let failure else { return }
        logger.error("networks and ports are not as they should be: \(failure.message)")
        let clock = configuration.clock
        tasks.add("balancer-retry") {
            do { try await clock.sleep(.seconds(5)) } catch { return }
            self.requestBalance()
        }
        throw failure
    }

    private func updateNames() async {
        guard let names else { return }
        let resolverPath = configuration.resolverPath
        let host = (try? await DedicatedThread.run { () throws(ApusError) -> String in try Files.readText(resolverPath) }) ?? ""
        let locals = nodeNetworks.all
        let (wanted, applied) = state.withLock { state in
            let view = EndpointView(table: state.endpoints, node: state.node, containers: state.records.values)
            let records = state.records.values.filter { ($0.isAttached || $0.isRunning) && usesNameServer($0.configuration) }
            return (NodeNames.state(view: view, containers: records, localNetworks: locals, hostResolver: host), state.applied.names)
        }
        guard wanted != applied else { return }
        let failures = await names.apply(wanted)
        for (path, error) in failures.sorted(by: { $0.key < $1.key }) { logger.warning("names are not resolved in \(path): \(error.message)") }
        // What failed is tried again with the next change.
        state.withLock { $0.applied.names = failures.isEmpty ? wanted : nil }
    }

    private func updateBalancer() async throws(ApusError) {
        let (wanted, applied) = state.withLock { state in (balance(of: state), state.applied.balance) }
        guard wanted != applied else { return }
        guard let balancer else {
            if !wanted.ports.isEmpty {
                throw ApusError(.unavailable, "no load balancer is enabled on this node, ports are not published; see `apus plugin ls`")
            }
            return
        }
        do throws(ApusError) {
            try await balancer.apply(wanted)
            state.withLock { $0.applied.balance = wanted }
        } catch {
            // A port that another program holds may become free; everything else may heal too.
            state.withLock { $0.applied.balance = nil }
            throw error.during("the load balancer")
        }
    }

    private func balance(of state: State) -> BalancerState {
        let view = EndpointView(table: state.endpoints, node: state.node, containers: state.records.values)
        var balance = PublishedPorts.balancerState(
            containers: state.records.values, servicePorts: state.servicePorts, subnets: nodeNetworks.subnets,
            isLocal: { nodeNetworks.isLocal($0) }, remote: view.remoteBackends())
        balance.mesh = view.mesh { PublishedPorts.reachableAddresses(of: $0) { nodeNetworks.isLocal($0) } }
        let services = view.virtualServices()
        guard !services.isEmpty else { return balance }
        for record in state.records.values where record.isAttached || record.isRunning {
            let own = record.configuration.endpoints.flatMap { services[$0.networkID] ?? [] }
            guard !own.isEmpty, !record.configuration.networkNamespacePath.isEmpty else { continue }
            balance.sandboxes.append(
                SandboxState(path: record.configuration.networkNamespacePath, services: own.sorted { $0.address < $1.address }))
        }
        balance.sandboxes.sort { $0.path < $1.path }
        // Who is in a network that a task here is in too would be answered there, and not the way that he came.
        balance.subnets += state.applied.networks.values.flatMap { [$0.network.gateway.network, $0.network.gatewayV6?.network].compactMap { $0 } }
            .sorted { $0.address < $1.address }
        return balance
    }

    /// What an engine that starts again needs before the managers have spoken.
    private func writeBalance() async {
        let (bytes, saved) = state.withLock { state in
            let serving = state.records.values.filter(\.isServing).map(\.id.text)
            let leaving = state.applied.networks.values.filter { state.endpoints.networks[$0.network.id] == nil }
            let balance = SavedBalance(
                table: state.endpoints, node: state.node, servicePorts: state.servicePorts, serving: serving, leaving: leaving)
            return (ProtobufFields.encode(balance), state.savedBalance)
        }
        guard bytes != saved else { return }
        let path = configuration.balancePath
        do throws(ApusError) {
            try await DedicatedThread.run { () throws(ApusError) -> Void in
                try Files.writeAtomically(bytes, to: path, permissions: 0o600, sync: false)
            }
            state.withLock { $0.savedBalance = bytes }
        } catch {
            logger.warning("\(error.message)")
        }
    }
}
