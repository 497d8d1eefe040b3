import Allocation
import PluginAPI

/// What the reconciler keeps of networks between two plans: what is worth looking at, and nothing that could not be read from the state again.
struct NetworkNotes {
    /// Nodes, networks, keys or containers' places may have something to be done.
    var isDirty = true
    /// Some node has no address in the ingress network, which is full.
    var lacksMesh = false
    /// When to look again although nothing happens.
    var wakeAt: Timestamp?
    /// Places of containers that are no tasks.
    var attachments: Set<ID> = []
    /// Services that cannot have their virtual addresses, or whose tasks wait for an address.
    var waiting: Set<ID> = []
}

/// The addresses of services, tasks, nodes and containers in networks of the swarm, and the keys of those that are encrypted.
extension Reconciler {
    /// How long the refusal of a place is kept for whoever asked.
    static var refusalAge: Duration { .seconds(60) }

    /// Reads what is in use from the state, when it is first needed in a plan.
    private func give(
        in network: ID, wanted: [String] = [], _ state: some SwarmState, _ addresses: inout NetworkAddresses?
    ) throws(ApusError) -> [String] {
        if addresses == nil {
            addresses = NetworkAddresses(networks: state.allNetworks, services: state.allServices, nodes: state.allNodes, tasks: state.allTasks)
        }
        return try addresses?.give(in: network, wanted: wanted) ?? []
    }

    /// An address in each place that has none; none at all when one cannot be had.
    private func fill(
        _ places: [NetworkAttachment], where isEmpty: (NetworkAttachment) -> Bool, _ state: some SwarmState, _ addresses: inout NetworkAddresses?
    ) throws(ApusError) -> [NetworkAttachment] {
        var filled = places
        var given: [Int] = []
        do throws(ApusError) {
            for index in places.indices where isEmpty(places[index]) {
                filled[index].addresses = try give(in: places[index].network.id, wanted: places[index].addresses, state, &addresses)
                given.append(index)
            }
        } catch {
            // Half of what it needs is of no use to it: somebody else may have it.
            for index in given { addresses?.takeBack(filled[index].addresses, in: places[index].network.id) }
            throw error
        }
        return filled
    }

    // MARK: Nodes, containers, keys

    /// What is to be done for no service.
    mutating func planNetworks(_ state: some SwarmState, now: Timestamp, _ addresses: inout NetworkAddresses?) -> (units: [[PlannedChange]], wakeAt: Timestamp?)
    {
        var changes: [PlannedChange] = []
        var wakeAt: Timestamp?
        func wake(at time: Timestamp) { wakeAt = wakeAt.map { min($0, time) } ?? time }

        planMesh(state, &addresses, &changes)
        for id in networks.attachments.sorted() {
            guard let task = state.task(id) else { continue }
            switch attachmentEnd(task, state) {
            case .some(let end) where end <= now: changes.append(.delete(task: id))
            case .some(let end): wake(at: end)
            case .none: break
            }
            guard task.status.state == .new, state.node(task.nodeID) != nil else { continue }
            changes.append(place(task, state, &addresses))
        }
        if let cluster = state.cluster, state.allNetworks.contains(where: \.isEncrypted) {
            let due = cluster.networkKeys.last.map { $0.createdAt + NetworkKey.period } ?? now
            if due <= now {
                var key = NetworkKey()
                key.number = (cluster.networkKeys.last?.number ?? 0) + 1
                key.key = makeKey()
                key.createdAt = now
                changes.append(.addNetworkKey(key))
                wake(at: now + NetworkKey.period)
            } else {
                wake(at: due)
            }
        }
        return (changes.map { [$0] }, wakeAt)
    }

    /// Every node has an address in the ingress network.
    private mutating func planMesh(_ state: some SwarmState, _ addresses: inout NetworkAddresses?, _ changes: inout [PlannedChange]) {
        let ingress = state.ingressNetwork
        let pools = ingress?.addressPools ?? []
        networks.lacksMesh = false
        let wrong = state.allNodes.filter { node in
            let held = node.meshAddresses.compactMap { IPPrefix($0) }
            return held.count != pools.count || !zip(held, pools).allSatisfy { $0.length == $1.subnet.length && $1.subnet.contains($0.address) }
        }
        for node in wrong.sorted(by: { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }) {
            var given: [String] = []
            // A full network leaves the node without: it takes no connections for other nodes then.
            if let ingress { given = (try? give(in: ingress.id, state, &addresses)) ?? [] }
            if given.isEmpty, ingress != nil { networks.lacksMesh = true }
            if given != node.meshAddresses { changes.append(.mesh(node: node.id, given)) }
        }
    }

    /// When a container's place is to go although nobody gave it back: its node is gone or has been down for too long, or the place was refused.
    private func attachmentEnd(_ task: Task, _ state: some SwarmState) -> Timestamp? {
        guard let node = state.node(task.nodeID) else { return .never }
        if task.status.state.isTerminal { return task.status.timestamp + Self.refusalAge }
        guard node.status.state == .down, !node.status.since.isNever else { return nil }
        return node.status.since + PlanningContext.orphanAge
    }

    private func place(_ task: Task, _ state: some SwarmState, _ addresses: inout NetworkAddresses?) -> PlannedChange {
        do throws(ApusError) {
            return .address(task: task.id, try fill(task.networks, where: { _ in true }, state, &addresses))
        } catch {
            return .refuse(task: task.id, reason: error.message)
        }
    }

    // MARK: Services and their tasks

    /// The service with an address in each of its networks. What it has is kept.
    /// - Throws: `unavailable` when a network is full.
    func virtualIPs(
        of service: Service, ingress: Network?, _ state: some SwarmState, _ addresses: inout NetworkAddresses?
    ) throws(ApusError) -> [VirtualIP] {
        let wanted = TaskTemplate(service, ingress: ingress).virtualNetworks(in: state)
        if wanted.isEmpty { return [] }
        var result: [VirtualIP] = []
        for network in wanted where !result.contains(where: { $0.networkID == network.id }) {
            let pools = network.addressPools
            let held = service.endpoint.virtualIPs.filter { $0.networkID == network.id }
            let isRight =
                held.count == pools.count
                && zip(held, pools).allSatisfy { virtual, pool in
                    IPPrefix(virtual.address).map { $0.length == pool.subnet.length && pool.subnet.contains($0.address) } ?? false
                }
            if isRight {
                result += held
                continue
            }
            guard !pools.isEmpty else { continue }
            result += try give(in: network.id, state, &addresses).map { address in
                var virtual = VirtualIP()
                virtual.networkID = network.id
                virtual.address = address
                return virtual
            }
        }
        return result
    }

    /// A task's places with an address in each; what it has is kept.
    /// - Throws: `unavailable` when a network is full; `notFound` when it was removed.
    func places(of task: Task, _ state: some SwarmState, _ addresses: inout NetworkAddresses?) throws(ApusError) -> [NetworkAttachment] {
        guard task.networks.contains(where: \.addresses.isEmpty) else { return task.networks }
        return try fill(task.networks, where: \.addresses.isEmpty, state, &addresses)
    }
}
