import PluginAPI
import Store

/// Finds objects as users name them: by id, by name, by the beginning of an id.
enum ObjectReferences {
    static func service(_ reference: String, in snapshot: StoreSnapshot) throws(ApusError) -> Service {
        if let service = snapshot.services[ID(reference)] ?? snapshot.service(named: reference) { return service }
        return try byPrefix(reference, "service", snapshot.services.values.map { $0 }, id: \.id)
    }

    static func task(_ reference: String, in snapshot: StoreSnapshot) throws(ApusError) -> Task {
        if let task = snapshot.tasks[ID(reference)] { return task }
        return try byPrefix(reference, "task", snapshot.tasks.values.map { $0 }, id: \.id)
    }

    static func node(_ reference: String, in snapshot: StoreSnapshot, selfID: ID) throws(ApusError) -> Node {
        if let node = snapshot.nodes[reference == "self" ? selfID : ID(reference)] { return node }
        let named = snapshot.nodes.values.filter { $0.description.hostname == reference || $0.spec.name == reference }
        if named.count > 1 {
            // A machine that left and joined again is two nodes: who says its name means the one that is there.
            let ready = named.filter { $0.status.state == .ready }
            if let only = ready.first, ready.count == 1 { return only }
            let ids = named.map(\.id.text).sorted().joined(separator: ", ")
            throw ApusError(.invalidArgument, "node \(reference) is ambiguous (\(named.count) matches found): say which by its id: \(ids)")
        }
        if let node = named.first { return node }
        return try byPrefix(reference, "node", snapshot.nodes.values.map { $0 }, id: \.id)
    }

    static func byPrefix<Object>(_ reference: String, _ kind: String, _ all: [Object], id: (Object) -> ID) throws(ApusError) -> Object {
        let found = reference.isEmpty ? [] : all.filter { id($0).text.hasPrefix(reference) }
        if found.count > 1 { throw ambiguous(reference, kind, found.count) }
        guard let only = found.first else { throw ApusError(.notFound, "\(kind) \(reference) not found") }
        return only
    }

    private static func ambiguous(_ reference: String, _ kind: String, _ count: Int) -> ApusError {
        ApusError(.invalidArgument, "\(kind) \(reference) is ambiguous (\(count) matches found); give more of its id")
    }
}
