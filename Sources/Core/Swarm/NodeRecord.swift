import Coding
import Files
import PluginAPI
import Synchronization
import Wire

/// What a node remembers of its part in a swarm: `<data root>/swarm/node`, JSON. Its certificate and, on a manager, the store lie beside it.
struct NodeRecord: FieldCoded {
    var nodeID: ID = ""
    /// Where other nodes reach this one, without a port.
    var address = ""
    /// Where a manager listens, `host:port`.
    var listenAddress = ""
    /// Where other managers reach this one, `host:port`.
    var advertiseAddress = ""
    /// Managers that were known last, `host:port`.
    var managers: [String] = []
    /// The group that was known last; on a manager.
    var members: [GroupMember] = []
    /// Where VXLAN reaches this node, when that is another address.
    var dataPathAddress = ""

    mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NodeID", &nodeID)
        try coder.field(2, "Address", &address, .omitEmpty)
        try coder.field(3, "ListenAddress", &listenAddress, .omitEmpty)
        try coder.field(4, "AdvertiseAddress", &advertiseAddress, .omitEmpty)
        try coder.field(5, "Managers", &managers, .omitEmpty)
        try coder.field(6, "Members", &members, .omitEmpty)
        try coder.field(7, "DataPathAddress", &dataPathAddress, .omitEmpty)
    }

    /// `nil` when this node is in no swarm.
    static func read(directory: String) throws(ApusError) -> NodeRecord? {
        let path = "\(directory)/node"
        guard Files.exists(path) else { return nil }
        do throws(ApusError) {
            let record = try JSONFields.decode(NodeRecord.self, from: JSONValue.parse(try Files.read(path)))
            guard !record.nodeID.isEmpty, !record.advertiseAddress.isEmpty else { throw ApusError(.corrupt, "it names no node or no address") }
            return record
        } catch {
            throw ApusError(.corrupt, "\(path) is damaged: \(error.message). Restore it from a copy, or remove \(directory) and join again")
        }
    }

    func write(directory: String) throws(ApusError) {
        try Files.writeAtomically(JSONFields.encode(self).bytes(), to: "\(directory)/node")
    }
}

/// The one owner of `<data root>/swarm/node`: what two parts of a node remember at the same time, neither loses.
final class NodeRecordFile: Sendable {
    private struct State {
        var record: NodeRecord
        var isWritten: Bool
    }

    private let state: Mutex<State>
    private let directory: String

    /// - Parameter isWritten: False while a swarm is being made: what is there without the file was not finished.
    init(_ record: NodeRecord, directory: String, isWritten: Bool) {
        state = Mutex(State(record: record, isWritten: isWritten))
        self.directory = directory
    }

    var record: NodeRecord { state.withLock { $0.record } }

    /// Changes the record and, if that made a difference, the file.
    func update(_ change: (inout NodeRecord) -> Void) throws(ApusError) {
        try state.withLock { state throws(ApusError) in
            var changed = state.record
            change(&changed)
            guard changed != state.record else { return }
            if state.isWritten { try changed.write(directory: directory) }
            state.record = changed
        }
    }

    /// Writes the file, and from now on every change.
    func finish() throws(ApusError) {
        try state.withLock { state throws(ApusError) in
            try state.record.write(directory: directory)
            state.isWritten = true
        }
    }
}
