import Coding
import Events
import Files
import Logging
import Namespaces
public import PluginAPI
import Synchronization

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
        setServicePorts([:])
        _ = await balanced()
        try await balancer?.apply(BalancerState())
        state.withLock { $0.appliedBalance = BalancerState() }
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
            for network in try await joinNetworks(container) { publishNetwork("connect", network, ["container": container.id.text]) }
        } catch {
            await detachNetworks(container)
            throw error
        }
    }

    /// Puts the interfaces into the namespace; those that are there already stay as they are.
    @discardableResult
    func joinNetworks(_ container: ContainerConfiguration) async throws(ApusError) -> [NodeNetwork] {
        var joined: [NodeNetwork] = []
        for (index, endpoint) in container.endpoints.enumerated() {
            let network = try nodeNetworks.find(endpoint.networkID.text)
            guard let local = network.local, let address = IPPrefix(endpoint.address), let mac = MACAddress(endpoint.macAddress) else {
                throw ApusError(.corrupt, "the endpoint of container \(container.name) in the network \(network.name) cannot be read")
            }
            let request = AttachRequest(
                network: local, containerID: container.id, sandboxPath: container.networkNamespacePath, interfaceName: endpoint.interfaceName,
                address: address, macAddress: mac, isDefaultRoute: index == 0 && !network.isInternal)
            _ = try await nodeNetworks.driver(of: network).attach(request)
            joined.append(network)
        }
        return joined
    }

    /// Takes the interfaces and the namespace away, as far as they are there.
    func detachNetworks(_ container: ContainerConfiguration) async {
        guard !container.networkNamespacePath.isEmpty else { return }
        for endpoint in container.endpoints {
            guard let network = try? nodeNetworks.find(endpoint.networkID.text), let local = network.local,
                let driver = try? nodeNetworks.driver(of: network)
            else { continue }
            do throws(ApusError) {
                try await driver.detach(DetachRequest(network: local, containerID: container.id, sandboxPath: container.networkNamespacePath))
                publishNetwork("disconnect", network, ["container": container.id.text])
            } catch {
                logger.warning("container \(container.name) could not be taken out of the network \(network.name): \(error.message)")
            }
        }
        do throws(ApusError) {
            try await configuration.sandboxes.remove(path: container.networkNamespacePath)
        } catch {
            logger.warning("the network namespace of container \(container.name) stays: \(error.message)")
        }
    }

    // MARK: - Published ports

    /// The ports that services publish, by service; takes effect at once and replaces what was said before.
    public func setServicePorts(_ ports: [ID: [PortConfig]]) {
        let isOther = state.withLock { state in
            if state.servicePorts == ports { return false }
            state.servicePorts = ports
            return true
        }
        if isOther { requestBalance() }
    }

    /// Whether a task's container takes connections of published ports. Returns when the balancer has it.
    public func setServing(_ id: ID, _ isServing: Bool) async {
        let changed = change(id) { record -> Bool in
            let isRight = isServing && record.isRunning
            if record.isServing == isRight { return false }
            record.isServing = isRight
            return true
        }
        guard let changed, changed.answer else { return }
        let isBehindPort = state.withLock { state in
            !(state.servicePorts[changed.record.notes.serviceID] ?? []).isEmpty || !changed.record.notes.publishedPorts.isEmpty
        }
        guard isBehindPort else {
            requestBalance()
            return
        }
        if let error = await balanced() { logger.error("published ports are not in force: \(error.message)") }
    }

    /// Whether the container is behind a published port now.
    func isServing(_ id: ID) -> Bool {
        state.withLock { state in
            guard let record = state.records[id], record.isServing else { return false }
            return !(state.servicePorts[record.notes.serviceID] ?? []).isEmpty || !record.notes.publishedPorts.isEmpty
        }
    }

    /// Tells the balancer everything, because another plugin may have taken its place.
    public func rebalance() {
        state.withLock { $0.appliedBalance = nil }
        requestBalance()
    }

    /// One application of the balancer; called by its loop alone.
    func applyBalance() async throws(ApusError) {
        let subnets = nodeNetworks.subnets
        let (wanted, applied, saved, bytes) = state.withLock { state in
            let balance = PublishedPorts.balancerState(containers: state.records.values, servicePorts: state.servicePorts, subnets: subnets)
            let serving = state.records.values.filter(\.isServing).map(\.id.text)
            let bytes = JSONFields.encode(SavedBalance(servicePorts: state.servicePorts, serving: serving), includeInternal: true).bytes()
            return (balance, state.appliedBalance, state.savedBalance, bytes)
        }
        if bytes != saved {
            let path = configuration.balancePath
            do throws(ApusError) {
                try await DedicatedThread.run { () throws(ApusError) -> Void in try Files.writeAtomically(bytes, to: path, sync: false) }
                state.withLock { $0.savedBalance = bytes }
            } catch {
                logger.warning("\(error.message)")
            }
        }
        guard wanted != applied else { return }
        guard let balancer else {
            if !wanted.ports.isEmpty {
                throw ApusError(.unavailable, "no load balancer is enabled on this node, ports are not published; see `apus plugin ls`")
            }
            return
        }
        do throws(ApusError) {
            try await balancer.apply(wanted)
            state.withLock { $0.appliedBalance = wanted }
        } catch {
            logger.error("the load balancer: \(error.message)")
            // A port that another program holds may become free; everything else may heal too.
            state.withLock { $0.appliedBalance = nil }
            let clock = configuration.clock
            tasks.add("balancer-retry") {
                do { try await clock.sleep(.seconds(5)) } catch { return }
                self.requestBalance()
            }
            throw error
        }
    }
}
