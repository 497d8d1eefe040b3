import Coding
import Files
import PluginAPI

/// What is written down of a container, so that a later engine finds it again.
struct ContainerRecord: FieldCoded {
    var container = Container()
    /// Clock ticks; tells the container's process from a later one with its number.
    var processStart: Int64 = 0
    /// conmon.
    var monitorID: Int64 = 0
    var monitorStart: Int64 = 0
    /// The boot of the machine that the numbers are of.
    var boot = ""
    /// The highest group of `--cgroup-parent` that was made for it; empty when all were there, and while it does not run.
    var madeCgroup = ""

    init() {}

    init(_ configuration: ContainerConfiguration) { container.configuration = configuration }

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Container", &container)
        try coder.field(2, "ProcessStart", &processStart)
        try coder.field(3, "Monitor", &monitorID)
        try coder.field(4, "MonitorStart", &monitorStart)
        try coder.field(5, "Boot", &boot)
        try coder.field(6, "MadeCgroup", &madeCgroup)
    }

    var id: ID { container.configuration.id }
    var configuration: ContainerConfiguration { container.configuration }

    /// The container's first process, if it may run.
    var process: ProcessIdentity? {
        guard container.state.phase == .running, container.state.processID > 0, boot == ProcessIdentity.boot else { return nil }
        return ProcessIdentity(number: Int32(clamping: container.state.processID), start: processStart)
    }

    var monitor: ProcessIdentity? {
        guard monitorID > 0, boot == ProcessIdentity.boot else { return nil }
        return ProcessIdentity(number: Int32(clamping: monitorID), start: monitorStart)
    }

    static func read(_ path: String) throws(ApusError) -> ContainerRecord {
        try JSONFields.decode(
            ContainerRecord.self, from: try JSONValue.parse(try Files.read(path)), unknownFields: .ignore, includeInternal: true)
    }

    /// - Parameter sync: also against a power failure.
    func write(_ path: String, sync: Bool = false) throws(ApusError) {
        try Files.writeAtomically(JSONFields.encode(self, includeInternal: true).bytes(), to: path, sync: sync)
    }
}
