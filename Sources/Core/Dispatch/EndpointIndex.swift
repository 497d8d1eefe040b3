import HashTreeCollections
import Orchestration
import PluginAPI
import Wire

/// What the tables of all nodes are made of: computed once for all of them, and kept up from change to change.
///
/// An immutable value over persistent trees, as the store's snapshots are: the streams of a thousand nodes keep theirs, and share what is equal.
struct EndpointIndex: Sendable {
    struct Item<Entry: EndpointEntry>: Sendable {
        let entry: Entry
        let digest: EndpointChecksum.Digest

        init(_ entry: Entry) {
            self.entry = entry
            digest = EndpointChecksum.digest(entry)
        }
    }

    /// What a change of some keys comes to.
    struct Changes {
        /// Those that all nodes know.
        var common: Set<EndpointKey> = []
        /// Those that nodes in a network know, all when a port is published, and each of itself.
        var nodes: Set<EndpointKey> = []
        /// Those that nodes with a place in the network know.
        var byNetwork: [ID: Set<EndpointKey>] = [:]
        /// Nodes that have come into a network, or have left it.
        var moved: Set<ID> = []
        /// The ingress network is another, or the first port is published, or the last one is no more.
        var haveAllMoved = false
        /// Tasks that are to serve no more, by id, with their nodes.
        var leaving: [ID: ID] = [:]
        /// Tasks that have no place any more.
        var gone: Set<ID> = []

        var isEmpty: Bool { common.isEmpty && nodes.isEmpty && byNetwork.isEmpty && moved.isEmpty && !haveAllMoved && leaving.isEmpty && gone.isEmpty }
    }

    private var nodes = TreeDictionary<ID, Item<EndpointNode>>()
    private var managers = TreeSet<ID>()
    private var networks = TreeDictionary<ID, Item<EndpointNetwork>>()
    private var services = TreeDictionary<ID, Item<EndpointService>>()
    private var tasks = TreeDictionary<ID, Item<EndpointTask>>()
    /// Tasks that are to serve no more but have not ended, with their nodes.
    private(set) var leaving: [ID: ID] = [:]
    private var published = TreeSet<ID>()
    private var publishedSince: UInt64 = 0
    /// Services that are not to go, whether they are told of or not.
    private var present = TreeSet<ID>()
    private var servicesByNetwork = TreeDictionary<ID, TreeSet<ID>>()
    private var tasksByNetwork = TreeDictionary<ID, TreeSet<ID>>()
    /// By node and network.
    private var places = TreeDictionary<ID, TreeDictionary<ID, Place>>()
    /// When nodes came into the first of their networks.
    private var placedSince = TreeDictionary<ID, UInt64>()
    private(set) var ingress: ID?
    private var ingressSince: UInt64 = 0
    /// Counts how often a node came into a network, and how often the first port was published.
    private var arrivals: UInt64 = 0

    private struct Place: Sendable, Hashable {
        var tasks: Int
        var since: UInt64
    }

    init() {}

    init(_ state: some SwarmState) {
        ingress = EndpointNetwork.ingress(of: state)
        var keys = Set(state.allNodes.map { EndpointKey(.node, $0.id) })
        keys.formUnion(state.allNetworks.map { EndpointKey(.network, $0.id) })
        keys.formUnion(state.allServices.map { EndpointKey(.service, $0.id) })
        keys.formUnion(state.allTasks.map { EndpointKey(.task, $0.id) })
        _ = update(keys, from: state)
    }

    // MARK: What is known

    /// Those that a node takes part in, and the ingress network, with a number that is another when it has left and come back meanwhile:
    /// of what happened while it was away it was not told.
    func networks(of node: ID) -> [ID: UInt64] {
        var known = Dictionary(uniqueKeysWithValues: (places[node] ?? [:]).map { ($0.key, $0.value.since) })
        if let ingress { known[ingress] = ingressSince }
        return known.filter { networks[$0.key] != nil }
    }

    /// Since when a node is told of all others; `nil`: it is told of itself and the managers alone, and not of what others do meanwhile.
    func knowsAllNodes(_ node: ID) -> UInt64? { published.isEmpty ? placedSince[node] : publishedSince }

    /// What `listener` knows of a node.
    func item(node: ID, for listener: ID) -> Item<EndpointNode>? {
        node == listener || managers.contains(node) || knowsAllNodes(listener) != nil ? nodes[node] : nil
    }

    func item(network: ID, in known: Set<ID>) -> Item<EndpointNetwork>? { known.contains(network) ? networks[network] : nil }

    func item(service: ID, in known: Set<ID>) -> Item<EndpointService>? {
        guard let item = services[service] else { return nil }
        if item.entry.networks.isSubset(of: known) { return item }
        return item.entry.limited(to: known).map(Item.init)
    }

    func item(task: ID, in known: Set<ID>) -> Item<EndpointTask>? {
        guard let item = tasks[task] else { return nil }
        if item.entry.attachments.allSatisfy({ known.contains($0.network.id) }) { return item }
        return item.entry.limited(to: known).map(Item.init)
    }

    /// The network, and what is in it.
    func keys(in network: ID) -> [EndpointKey] {
        [EndpointKey(.network, network)] + (servicesByNetwork[network] ?? []).map { EndpointKey(.service, $0) }
            + (tasksByNetwork[network] ?? []).map { EndpointKey(.task, $0) }
    }

    /// The nodes that a node is told of.
    func nodeKeys(for node: ID) -> Set<EndpointKey> {
        if knowsAllNodes(node) != nil { return Set(nodes.keys.lazy.map { EndpointKey(.node, $0) }) }
        return Set(managers.union([node]).lazy.map { EndpointKey(.node, $0) })
    }

    /// What is in the table of a node in these networks.
    func keys(in known: Set<ID>, for node: ID) -> Set<EndpointKey> {
        var keys = nodeKeys(for: node)
        keys.formUnion(published.map { EndpointKey(.service, $0) })
        for network in known { keys.formUnion(self.keys(in: network)) }
        return keys
    }

    /// Of the changes, what a node is to look at; `nil`: nothing has changed for it.
    func keys(of changes: Changes, for node: ID) -> Set<EndpointKey>? {
        var keys = changes.common
        if knowsAllNodes(node) != nil {
            keys.formUnion(changes.nodes)
        } else if changes.nodes.contains(EndpointKey(.node, node)) {
            keys.insert(EndpointKey(.node, node))
        }
        for network in placesAndIngress(of: node) { if let changed = changes.byNetwork[network] { keys.formUnion(changed) } }
        return keys.isEmpty && !changes.haveAllMoved && !changes.moved.contains(node) ? nil : keys
    }

    private func placesAndIngress(of node: ID) -> [ID] {
        var known = places[node].map { Array($0.keys) } ?? []
        if let ingress, !known.contains(ingress) { known.append(ingress) }
        return known
    }

    // MARK: Changes

    /// The entries that events can have changed.
    func keys(of events: [SwarmEvent], in state: some SwarmState) -> Set<EndpointKey> {
        var keys: Set<EndpointKey> = []
        func add(_ kind: EndpointKey.Kind, _ ids: some Sequence<ID>) { for id in ids { keys.insert(EndpointKey(kind, id)) } }
        for event in events {
            switch event {
            case .node(let node, let old):
                add(.node, [node.id])
                if (old?.status.state ?? .down) == .down || node.status.state == .down { add(.task, state.tasks(onNode: node.id).map(\.id)) }
            case .nodeRemoved(let node):
                add(.node, [node.id])
                add(.task, state.tasks(onNode: node.id).map(\.id))
            case .service(let service):
                add(.service, [service.id])
                if service.pendingDelete == present.contains(service.id) { add(.task, state.tasks(ofService: service.id).map(\.id)) }
            case .serviceRemoved(let service):
                add(.service, [service.id])
                add(.task, state.tasks(ofService: service.id).map(\.id))
            case .task(let task, _): add(.task, [task.id])
            case .taskRemoved(let task): add(.task, [task.id])
            case .cluster: add(.network, state.allNetworks.map(\.id))
            case .network(let network):
                add(.network, [network.id])
                // Services name their networks.
                add(.service, state.allServices.map(\.id))
            case .networkRemoved(let network):
                add(.network, [network.id])
                add(.service, state.allServices.map(\.id))
            }
        }
        return keys
    }

    /// Computes these entries anew.
    mutating func update(_ keys: Set<EndpointKey>, from state: some SwarmState) -> Changes {
        var changes = Changes()
        for key in keys {
            switch key.kind {
            case .node: updateNode(key, state, &changes)
            case .network: updateNetwork(key, state, &changes)
            case .service: updateService(key, state, &changes)
            case .task: updateTask(key, state, &changes)
            }
        }
        return changes
    }

    private mutating func updateNode(_ key: EndpointKey, _ state: some SwarmState, _ changes: inout Changes) {
        let item = state.node(key.id).map { Item(EndpointNode($0)) }
        guard item?.digest != nodes[key.id]?.digest else { return }
        let (wasManager, isManager) = (managers.contains(key.id), item.map { !$0.entry.managerAddress.isEmpty } ?? false)
        nodes[key.id] = item
        if isManager { managers.insert(key.id) } else { managers.remove(key.id) }
        if wasManager || isManager { changes.common.insert(key) } else { changes.nodes.insert(key) }
    }

    private mutating func updateNetwork(_ key: EndpointKey, _ state: some SwarmState, _ changes: inout Changes) {
        let network = state.network(key.id.text).flatMap { $0.id == key.id ? $0 : nil }
        let item = network.map { Item(EndpointNetwork($0, in: state.cluster)) }
        guard item?.digest != networks[key.id]?.digest else { return }
        networks[key.id] = item
        changes.byNetwork[key.id, default: []].insert(key)
        let ingress = EndpointNetwork.ingress(of: state)
        if ingress != self.ingress {
            self.ingress = ingress
            arrivals += 1
            ingressSince = arrivals
            changes.haveAllMoved = true
        }
    }

    private mutating func updateService(_ key: EndpointKey, _ state: some SwarmState, _ changes: inout Changes) {
        if state.service(key.id)?.pendingDelete ?? true { present.remove(key.id) } else { present.insert(key.id) }
        let old = services[key.id]
        let new = state.service(key.id).flatMap { EndpointService($0, in: state) }.map(Item.init)
        guard old?.digest != new?.digest else { return }
        services[key.id] = new
        let (before, after) = (old?.entry.networks ?? [], new?.entry.networks ?? [])
        for network in before.subtracting(after) { Self.unlink(key.id, from: network, &servicesByNetwork) }
        for network in after.subtracting(before) { servicesByNetwork[network, default: []].insert(key.id) }
        for network in before.union(after) { changes.byNetwork[network, default: []].insert(key) }
        if !(old?.entry.ports.isEmpty ?? true) || !(new?.entry.ports.isEmpty ?? true) { changes.common.insert(key) }
        let wasPublishing = !published.isEmpty
        if new?.entry.ports.isEmpty ?? true { published.remove(key.id) } else { published.insert(key.id) }
        if published.isEmpty == wasPublishing {
            arrivals += 1
            publishedSince = arrivals
            changes.haveAllMoved = true
        }
    }

    private mutating func updateTask(_ key: EndpointKey, _ state: some SwarmState, _ changes: inout Changes) {
        let old = tasks[key.id]
        let task = state.task(key.id)
        let new = task.flatMap { EndpointTask($0, in: state) }.map(Item.init)
        noteLeaving(new?.entry, task.map { EndpointTask.isLeaving($0, in: state) } ?? true, key.id, &changes)
        guard old?.digest != new?.digest else { return }
        tasks[key.id] = new
        let (before, after) = (Self.networks(old?.entry), Self.networks(new?.entry))
        for network in before.subtracting(after) { Self.unlink(key.id, from: network, &tasksByNetwork) }
        for network in after.subtracting(before) { tasksByNetwork[network, default: []].insert(key.id) }
        for network in before.union(after) { changes.byNetwork[network, default: []].insert(key) }
        if let old { for network in before { count(-1, old.entry.nodeID, network, &changes) } }
        if let new { for network in after { count(1, new.entry.nodeID, network, &changes) } }
    }

    private mutating func noteLeaving(_ entry: EndpointTask?, _ isLeaving: Bool, _ id: ID, _ changes: inout Changes) {
        let node = isLeaving ? entry?.nodeID : nil
        guard leaving[id] != node else { return }
        leaving[id] = node
        if let node { changes.leaving[id] = node } else { changes.gone.insert(id) }
    }

    private static func networks(_ entry: EndpointTask?) -> Set<ID> { Set(entry?.attachments.map(\.network.id) ?? []) }

    private mutating func count(_ difference: Int, _ node: ID, _ network: ID, _ changes: inout Changes) {
        var place = places[node]?[network]
        if place == nil {
            arrivals += 1
            place = Place(tasks: 0, since: arrivals)
            changes.moved.insert(node)
        }
        place?.tasks += difference
        if place?.tasks == 0 {
            place = nil
            changes.moved.insert(node)
        }
        let wasPlaced = places[node] != nil
        places[node, default: [:]][network] = place
        if places[node]?.isEmpty ?? false { places[node] = nil }
        if (places[node] != nil) != wasPlaced {
            arrivals += 1
            placedSince[node] = wasPlaced ? nil : arrivals
        }
    }

    private static func unlink(_ id: ID, from network: ID, _ index: inout TreeDictionary<ID, TreeSet<ID>>) {
        guard var ids = index[network] else { return }
        ids.remove(id)
        index[network] = ids.isEmpty ? nil : ids
    }
}
