import Coding
import Files
import Namespaces
import PluginAPI
import Synchronization

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

/// What the balancer was last told of services: `balancer.json` on a tmpfs, so that an engine that restarts does not take ports away before the
/// agent has spoken.
struct SavedBalance: FieldCoded {
    struct ServiceEntry: FieldCoded {
        var service: ID = ""
        var ports: [PortConfig] = []

        init() {}

        mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
            try coder.field(1, "Service", &service)
            try coder.field(2, "Ports", &ports)
        }
    }

    var services: [ServiceEntry] = []
    var servingContainers: [String] = []

    init() {}

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Services", &services)
        try coder.field(2, "Serving", &servingContainers)
    }

    init(servicePorts: [ID: [PortConfig]], serving: [String]) {
        services = servicePorts.sorted { $0.key < $1.key }.map { service, ports in
            var entry = ServiceEntry()
            entry.service = service
            entry.ports = ports
            return entry
        }
        servingContainers = serving.sorted()
    }

    var servicePorts: [ID: [PortConfig]] { Dictionary(services.map { ($0.service, $0.ports) }) { first, _ in first } }
    var serving: Set<String> { Set(servingContainers) }

    /// Empty when there is none or it is damaged: the agent will say it again.
    static func read(_ path: String) async -> SavedBalance {
        let answer = try? await DedicatedThread.run { () throws(ApusError) -> SavedBalance in
            guard Files.exists(path) else { return SavedBalance() }
            return try JSONFields.decode(
                SavedBalance.self, from: try JSONValue.parse(try Files.read(path)), unknownFields: .ignore, includeInternal: true)
        }
        return answer ?? SavedBalance()
    }
}

extension ContainerEngineConfiguration {
    var notesPath: String { stateDirectory + "/notes.json" }
    var balancePath: String { executionRoot + "/balancer.json" }
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
