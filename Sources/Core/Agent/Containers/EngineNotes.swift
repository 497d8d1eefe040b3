import Coding
import Dispatcher
import Files
import Namespaces
import PluginAPI
import Synchronization
import Wire

/// What changes about containers after their creation and must survive the engine: `notes.json`.
struct EngineNotes: FieldCoded {
    /// Ids of containers that the user has stopped.
    var stopped: [String] = []
    /// Names given by `rename`, by id.
    var names: [String: String] = [:]

    init() {}

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Stopped", &stopped)
        try coder.field(2, "Names", &names)
    }

    static func read(_ path: String) async throws(ApusError) -> EngineNotes {
        try await DedicatedThread.run { () throws(ApusError) -> EngineNotes in
            guard Files.exists(path) else { return EngineNotes() }
            do throws(ApusError) {
                return try JSONFields.decode(
                    EngineNotes.self, from: try JSONValue.parse(try Files.read(path)), unknownFields: .ignore, includeInternal: true)
            } catch {
                throw error.during("\(path) cannot be read; move it away to forget changed names and which containers were stopped by hand")
            }
        }
    }
}

/// What the managers said last of networks and published ports: a file on a tmpfs, so that an engine that restarts does not take ports, names and
/// networks away before the managers have spoken. It may hold the keys of encrypted networks, and only root may read it.
struct SavedBalance: FieldCoded {
    var node: ID = ""
    private var message = EndpointsMessage()
    private var ports: [ServicePortsEntry] = []
    private var servingContainers: [String] = []
    private var leaving: [LeavingEntry] = []

    /// The ports of a service, where there is no table.
    private struct ServicePortsEntry: FieldCoded {
        var service: ID = ""
        var ports: [PortConfig] = []

        init() {}

        mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
            try coder.field(1, "Service", &service)
            try coder.field(2, "Ports", &ports)
        }
    }

    /// A network that the managers do not name any more, and that is on this node still.
    private struct LeavingEntry: FieldCoded {
        var network = EndpointNetwork()
        /// This node when the network was made.
        var home = EndpointNode()

        init() {}

        mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
            try coder.field(1, "Network", &network)
            try coder.field(2, "Home", &home)
        }
    }

    init() {}

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Node", &node)
        try coder.field(2, "Endpoints", &message)
        try coder.field(3, "Services", &ports)
        try coder.field(4, "Serving", &servingContainers)
        try coder.field(5, "Leaving", &leaving)
    }

    init(
        table: EndpointTable, node: ID, servicePorts: [ID: [PortConfig]], serving: [String], leaving: [AppliedNetworks.SwarmNetwork]
    ) {
        self.node = node
        message.isFull = true
        message.nodes = table.nodes.values.sorted { $0.id < $1.id }
        message.networks = table.networks.values.sorted { $0.network.id < $1.network.id }
        message.services = table.services.values.sorted { $0.id < $1.id }
        message.tasks = table.tasks.values.sorted { $0.id < $1.id }
        ports = servicePorts.sorted { $0.key < $1.key }.map { service, ports in
            var entry = ServicePortsEntry()
            entry.service = service
            entry.ports = ports
            return entry
        }
        servingContainers = serving.sorted()
        self.leaving = leaving.sorted { $0.network.id < $1.network.id }.map { network in
            var entry = LeavingEntry()
            entry.network = network.entry
            entry.home = network.home
            return entry
        }
    }

    /// Those that were on this node, and those that may have been.
    var networks: [ID: AppliedNetworks.SwarmNetwork] {
        let table = table
        var networks: [ID: AppliedNetworks.SwarmNetwork] = [:]
        for id in table.networks.keys { networks[id] = AppliedNetworks.SwarmNetwork(id, in: table, on: node) }
        for entry in leaving {
            var past = EndpointTable()
            let id = entry.network.network.id
            past.networks[id] = entry.network
            past.nodes[entry.home.id] = entry.home
            networks[id] = networks[id] ?? AppliedNetworks.SwarmNetwork(id, in: past, on: entry.home.id)
        }
        return networks
    }

    var servicePorts: [ID: [PortConfig]] { Dictionary(ports.map { ($0.service, $0.ports) }) { first, _ in first } }
    var serving: Set<String> { Set(servingContainers) }

    var table: EndpointTable {
        var table = EndpointTable()
        for node in message.nodes { table.nodes[node.id] = node }
        for network in message.networks { table.networks[network.network.id] = network }
        for service in message.services { table.services[service.id] = service }
        for task in message.tasks { table.tasks[task.id] = task }
        return table
    }

    /// Empty when there is none or it is damaged: the managers will say it again.
    static func read(_ path: String) async -> SavedBalance {
        let answer = try? await DedicatedThread.run { () throws(ApusError) -> SavedBalance in
            guard Files.exists(path) else { return SavedBalance() }
            return try ProtobufFields.decode(SavedBalance.self, from: try Files.read(path))
        }
        return answer ?? SavedBalance()
    }
}

extension ContainerEngineConfiguration {
    var notesPath: String { stateDirectory + "/notes.json" }
    var balancePath: String { executionRoot + "/endpoints" }
    func namespacePath(_ id: ID) -> String { "\(executionRoot)/netns/\(id)" }
}

extension ContainerEngine {
    /// Changes what is kept in `notes.json`, and writes it when it is another.
    func note(_ change: (inout EngineNotes) -> Void) async throws(ApusError) {
        let isOther = state.withLock { state in
            let before = state.notes
            change(&state.notes)
            return state.notes != before
        }
        guard isOther else { return }
        try await notesLock.withLock("") { () async throws(ApusError) -> Void in
            let bytes = JSONFields.encode(state.withLock { $0.notes }, includeInternal: true).bytes()
            let path = configuration.notesPath
            try await DedicatedThread.run { () throws(ApusError) -> Void in try Files.writeAtomically(bytes, to: path) }
        }
    }

    /// Remembers whether the user wants the container to stay ended; only where a restart policy asks for it.
    func noteStopped(_ record: ContainerRecord, _ isStopped: Bool) async throws(ApusError) {
        guard record.notes.restartPolicy.name != .no else { return }
        try await note { notes in
            notes.stopped.removeAll { $0 == record.id.text }
            if isStopped { notes.stopped.append(record.id.text) }
        }
    }
}
