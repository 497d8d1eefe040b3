import Dispatcher
import Events
import Logging
import Namespaces
public import PluginAPI
import Synchronization
import Wire

extension ContainerEngine {
    // MARK: - Networks of this node

    /// All networks of this node, oldest first.
    public func networks() -> [NodeNetwork] { nodeNetworks.all }

    /// By id, unique prefix of an id, or name.
    public func network(_ reference: String) throws(ApusError) -> NodeNetwork { try nodeNetworks.find(reference) }

    /// Makes a network. `conflict` when the name is taken.
    public func createNetwork(_ request: NodeNetworkRequest) async throws(ApusError) -> NodeNetwork {
        let network = try await nodeNetworks.create(request)
        publishNetwork("create", network)
        return network
    }

    /// Removes a network; `conflict` while containers are in it.
    public func removeNetwork(_ reference: String) async throws(ApusError) {
        let network = try nodeNetworks.find(reference)
        let users = state.withLock { state in Set((state.addresses[network.id] ?? [:]).values).count }
        guard users == 0 || network.isPredefined else {
            throw ApusError(
                .permissionDenied,
                "error while removing network: network \(network.name) has active endpoints (\(users)); remove its containers first")
        }
        try await nodeNetworks.remove(network)
        publishNetwork("destroy", network)
    }

    /// Takes all networks and published ports from this node; for an engine that is to leave nothing behind. There must be no containers any more.
    public func removeNetworksAndPorts() async throws(ApusError) {
        setEndpoints(EndpointTable(), for: "")
        _ = await balanced()
        try await balancer?.apply(BalancerState())
        state.withLock { $0.applied = AppliedNetworks() }
        for network in nodeNetworks.all {
            guard let local = network.local, let driver = try? nodeNetworks.driver(of: network) else { continue }
            try await driver.remove(local)
        }
    }

    private func publishNetwork(_ action: String, _ network: NodeNetwork, _ more: [String: String] = [:]) {
        let attributes = ["name": network.name, "type": network.driver].merging(more) { _, new in new }
        events.publish(
            EngineEvent(
                type: "network", action: action, actorID: network.id.text, attributes: attributes, scope: "local", time: configuration.clock.now()))
    }

    // MARK: - A container's sandbox

    /// Makes the namespace and puts the interfaces into it. After an error nothing of it is left.
    func attachNetworks(_ container: ContainerConfiguration) async throws(ApusError) {
        guard !container.networkNamespacePath.isEmpty else { return }
        try await configuration.sandboxes.create(path: container.networkNamespacePath)
        do throws(ApusError) {
            try await joinNetworks(container)
        } catch {
            await detachNetworks(container)
            throw error
        }
    }

    /// Puts the interfaces into the namespace; those that are there already stay as they are.
    @discardableResult
    func joinNetworks(_ container: ContainerConfiguration) async throws(ApusError) -> [String] {
        var joined: [String] = []
        // The world is where the first of the node's own networks is.
        let outward = container.endpoints.firstIndex { !$0.gateway.isEmpty && nodeNetworks.isLocal($0.networkID) }
        for (index, endpoint) in container.endpoints.enumerated() {
            guard let address = IPPrefix(endpoint.address), let mac = MACAddress(endpoint.macAddress) else {
                throw ApusError(.corrupt, "the endpoint of container \(container.name) in the network \(endpoint.networkName) cannot be read")
            }
            let (local, driver) = try await driverNetwork(of: endpoint)
            var request = AttachRequest(
                network: local, containerID: container.id, sandboxPath: container.networkNamespacePath, interfaceName: endpoint.interfaceName,
                address: address, macAddress: mac, isDefaultRoute: index == outward)
            request.addressV6 = IPPrefix(endpoint.addressV6)
            _ = try await driver.attach(request)
            joined.append(endpoint.networkName)
            publishNetwork("connect", endpoint, local, ["container": container.id.text])
        }
        return joined
    }

    /// The network of an endpoint, in place on this node, and its driver.
    private func driverNetwork(of endpoint: ContainerEndpoint) async throws(ApusError) -> (LocalNetwork, any NetworkDriver) {
        guard nodeNetworks.isLocal(endpoint.networkID) else {
            return try await placeSwarmNetwork(endpoint.networkID, named: endpoint.networkName)
        }
        let network = try nodeNetworks.find(endpoint.networkID.text)
        guard let local = network.local else { throw ApusError(.corrupt, "the network \(network.name) has no subnet") }
        return (local, try nodeNetworks.driver(of: network))
    }

    /// Takes the interfaces and the namespace away, as far as they are there.
    func detachNetworks(_ container: ContainerConfiguration) async {
        guard !container.networkNamespacePath.isEmpty else { return }
        for endpoint in container.endpoints {
            guard let (local, driver) = knownNetwork(of: endpoint) else { continue }
            do throws(ApusError) {
                try await driver.detach(DetachRequest(network: local, containerID: container.id, sandboxPath: container.networkNamespacePath))
                publishNetwork("disconnect", endpoint, local, ["container": container.id.text])
            } catch {
                logger.warning("container \(container.name) could not be taken out of the network \(endpoint.networkName): \(error.message)")
            }
        }
        do throws(ApusError) {
            try await configuration.sandboxes.remove(path: container.networkNamespacePath)
        } catch {
            logger.warning("the network namespace of container \(container.name) stays: \(error.message)")
        }
    }

    /// What is known of an endpoint's network without waiting for anybody.
    private func knownNetwork(of endpoint: ContainerEndpoint) -> (LocalNetwork, any NetworkDriver)? {
        if nodeNetworks.isLocal(endpoint.networkID) {
            guard let network = try? nodeNetworks.find(endpoint.networkID.text), let local = network.local,
                let driver = try? nodeNetworks.driver(of: network)
            else { return nil }
            return (local, driver)
        }
        let known = state.withLock { $0.applied.networks[endpoint.networkID] }
        if let known, let driver = try? nodeNetworks.driver(named: known.driver, of: endpoint.networkName) { return (known.network, driver) }
        let name = swarmDriverName(of: endpoint.networkID)
        guard let gateway = IPPrefix(endpoint.address), let driver = try? nodeNetworks.driver(named: name, of: endpoint.networkName) else { return nil }
        return (LocalNetwork(id: endpoint.networkID, name: endpoint.networkName, gateway: gateway), driver)
    }

    /// Of a network of the swarm, also when nothing is known of it any more.
    private func swarmDriverName(of id: ID) -> String {
        state.withLock { $0.applied.networks[id]?.driver ?? $0.endpoints.networks[id].map { EndpointView.driverName($0.network) } ?? "overlay" }
    }

    private func publishNetwork(_ action: String, _ endpoint: ContainerEndpoint, _ network: LocalNetwork, _ more: [String: String]) {
        let driver = (try? nodeNetworks.find(endpoint.networkID.text).driver) ?? swarmDriverName(of: endpoint.networkID)
        let attributes = ["name": network.name, "type": driver].merging(more) { _, new in new }
        events.publish(
            EngineEvent(
                type: "network", action: action, actorID: network.id.text, attributes: attributes, scope: network.vni == 0 ? "local" : "swarm",
                time: configuration.clock.now()))
    }

    // MARK: - Published ports

    /// The ports that services publish, by service, where there is no table of endpoints; takes effect at once and replaces what was said before.
    public func setServicePorts(_ ports: [ID: [PortConfig]]) {
        let isOther = state.withLock { state in
            if state.servicePorts == ports { return false }
            state.servicePorts = ports
            return true
        }
        if isOther { requestBalance() }
    }

    /// Whether a task's container takes connections of published ports and virtual addresses. Returns when this node has it so.
    public func setServing(_ id: ID, _ isServing: Bool) async {
        let changed = change(id) { record -> Bool in
            let isRight = isServing && record.isRunning
            if record.isServing == isRight { return false }
            record.isServing = isRight
            return true
        }
        guard let changed, changed.answer else { return }
        let isReached = state.withLock { state -> Bool in self.isReached(changed.record, in: state) }
        guard isReached else {
            requestBalance()
            return
        }
        if let error = await balanced() { logger.error("published ports are not in force: \(error.message)") }
    }

    /// Whether connections are sent to the container now.
    func isServing(_ id: ID) -> Bool {
        state.withLock { state in
            guard let record = state.records[id], record.isServing else { return false }
            return isReached(record, in: state)
        }
    }

    /// By a published port or in a network of the swarm.
    private func isReached(_ record: ContainerRecord, in state: State) -> Bool {
        !(state.servicePorts[record.notes.serviceID] ?? []).isEmpty || !record.notes.publishedPorts.isEmpty
            || record.configuration.endpoints.contains { !nodeNetworks.isLocal($0.networkID) }
    }

    /// Tells the balancer everything, because another plugin may have taken its place.
    public func rebalance() {
        state.withLock { $0.applied.balance = nil }
        requestBalance()
    }

    /// A driver that was enabled just now has been told nothing yet: networks of this node that had to do without it are made, and every
    /// driver learns what is around.
    public func networkDriversChanged() async {
        await nodeNetworks.makeAll()
        state.withLock { state in
            state.applied.surroundings = nil
            let drivers = nodeNetworks.allDrivers
            // A driver that is made anew finds its networks in the kernel, or makes them again.
            for id in state.applied.networks.keys { if drivers[state.applied.networks[id]?.driver ?? ""] != nil { state.applied.networks[id]?.peers = nil } }
        }
        requestBalance()
    }

    /// Whether a network of this node is made by the driver, or one of the swarm is on this node.
    public func usesDriver(_ name: String) -> Bool {
        nodeNetworks.all.contains { $0.driver == name } || state.withLock { $0.applied.networks.values.contains { $0.driver == name } }
    }
}
