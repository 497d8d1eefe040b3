import Orchestration
import PluginAPI
import Wire

@testable import Dispatcher

func makeNetwork(_ name: String, ingress: Bool = false, _ change: (inout Network) -> Void = { _ in }) -> Network {
    var network = Network()
    network.id = ID(name)
    network.spec.name = "name of \(name)"
    network.spec.ingress = ingress
    network.driver.name = "overlay"
    network.vni = 4097
    change(&network)
    return network
}

func makePlace(_ network: String, _ address: String = "10.0.0.7/24") -> NetworkAttachment {
    var place = NetworkAttachment()
    place.network.id = ID(network)
    place.addresses = [address]
    return place
}

/// A task that runs, with a place in each network.
func placed(_ id: String, node: String, in networks: [String], service: String = "web", _ state: TaskState = .running) -> Task {
    makeTask(id, service: service) {
        $0.nodeID = ID(node)
        $0.status.state = state
        $0.serviceName = service
        $0.slot = 1
        $0.networks = networks.map { makePlace($0) }
    }
}

func makeService(_ name: String, in networks: [String] = [], ports: [PortConfig] = []) -> Service {
    var service = Service()
    service.id = ID(name)
    service.spec.name = name
    service.spec.task.networks = networks.map { network in
        var wanted = NetworkAttachmentSpec()
        wanted.target = network
        wanted.aliases = ["\(name)-alias"]
        return wanted
    }
    service.endpoint.ports = ports
    service.endpoint.virtualIPs = networks.map { network in
        var address = VirtualIP()
        address.networkID = ID(network)
        address.address = "10.0.0.2/24"
        return address
    }
    return service
}

/// A leader's index and what nodes make of its messages, without a clock and a wire.
struct EndpointWorld {
    struct Listener {
        var cursor: EndpointCursor
        var set = EndpointSet()
        /// What the leader has not sent yet.
        var news = Mailbox<EndpointKey>.News()
    }

    var state = MemoryState()
    var index = EndpointIndex()
    var listeners: [ID: Listener] = [:]
    private var version: UInt64 = 1

    init(_ body: (inout MemoryTransaction) -> Void = { _ in }) {
        change(body)
        changeLeader()
    }

    /// A commit, of which the leader hears unless it is lost to it.
    @discardableResult
    mutating func change(isHeard: Bool = true, _ body: (inout MemoryTransaction) -> Void) -> EndpointIndex.Changes {
        version += 1
        var transaction = MemoryTransaction(state: state, now: Timestamp(nanoseconds: 1), version: Version(index: version))
        body(&transaction)
        state = transaction.state
        guard isHeard else { return EndpointIndex.Changes() }
        let changes = index.update(index.keys(of: transaction.events, in: state), from: state)
        for node in listeners.keys { if let keys = index.keys(of: changes, for: node) { listeners[node]?.news.keys.formUnion(keys) } }
        return changes
    }

    /// The leader's watch fell behind.
    mutating func catchUp() {
        index = EndpointIndex(state)
        for node in listeners.keys { listeners[node]?.news.isEverything = true }
    }

    /// Another leader begins, and everybody turns to it.
    mutating func changeLeader() {
        index = EndpointIndex(state)
        for node in state.nodes.keys { connect(node) }
    }

    /// A node opens a stream.
    mutating func connect(_ node: ID) {
        var listener = Listener(cursor: EndpointCursor(node: node, version: listeners[node]?.cursor.version ?? 0))
        for message in listener.cursor.full(index).messages { _ = try? listener.set.apply(message) }
        listeners[node] = listener
    }

    /// The leader sends a node what is new.
    mutating func tell(_ node: ID) {
        guard var listener = listeners[node] else { return }
        let update = listener.cursor.changes(listener.news, index)
        listener.news = .init()
        listeners[node] = listener
        do throws(ApusError) {
            for message in update.messages { _ = try listeners[node]?.set.apply(message) }
        } catch {
            connect(node)
        }
    }

    mutating func tellAll() { for node in listeners.keys { tell(node) } }

    /// Nodes whose table is not that of the state, and what is different.
    func defects() -> [String] {
        listeners.sorted { $0.key < $1.key }.compactMap { node, listener in
            let wanted = EndpointTable.of(state, node: node)
            guard listener.set.table == wanted, listener.set.checksum == wanted.checksum, listener.set.isComparable else {
                return "\(node): \(listener.set.table.differences(from: wanted)), version \(listener.set.version)"
            }
            return nil
        }
    }
}

extension EndpointTable {
    /// Entry by entry.
    func differences(from wanted: EndpointTable) -> [String] {
        func compare<Entry: EndpointEntry>(_ ours: [ID: Entry], _ theirs: [ID: Entry]) -> [String] {
            Set(ours.keys).union(theirs.keys).sorted().filter { ours[$0] != theirs[$0] }.map { id in
                "\(EndpointKey(Entry.kind, id).text) is \(ours[id].map { "\($0)" } ?? "missing") instead of \(theirs[id].map { "\($0)" } ?? "nothing")"
            }
        }
        return compare(nodes, wanted.nodes) + compare(networks, wanted.networks) + compare(services, wanted.services) + compare(tasks, wanted.tasks)
    }
}
