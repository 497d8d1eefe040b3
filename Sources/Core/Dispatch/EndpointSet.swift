import PluginAPI
import Wire

/// The table of endpoints as it is put together from the messages of one stream.
struct EndpointSet {
    /// Entries of one kind; more than a swarm can have.
    static var limit: Int { 1_000_000 }

    private(set) var table = EndpointTable()
    /// 0 before the first whole table.
    private(set) var version: UInt64 = 0
    private(set) var checksum: UInt64 = 0
    /// False when this node's checksum of the whole was another than the leader's: one of the two knows fields that the other does not, so that
    /// their checksums cannot be compared.
    private(set) var isComparable = true
    /// The parts of a message that is not complete, gathered.
    private var gathered: EndpointsMessage?

    /// What a message comes to.
    struct Effect: Equatable {
        var version: UInt64
        var mustConfirm: Bool
        var withdrawn: Set<ID>
    }

    /// Takes a message. Nothing changes, and nothing is returned, before its last part is there.
    /// - Throws: `conflict` when it does not follow on what is there, or the result is not what the leader has: then the whole is to be asked for
    ///   again. `tooLarge`.
    mutating func apply(_ message: EndpointsMessage) throws(ApusError) -> Effect? {
        let whole = try gather(message)
        for count in [whole.nodes.count, whole.networks.count, whole.services.count, whole.tasks.count, whole.removed.count, whole.withdrawn.count] {
            guard count <= Self.limit else { throw ApusError(.tooLarge, "the manager tells of more than \(Self.limit) endpoints") }
        }
        guard message.isFull || (version != 0 && message.appliesTo == version) else {
            throw gap("it applies to table \(message.appliesTo), and this node has \(version)")
        }
        guard message.resultsIn > (message.isFull ? 0 : version) else { throw gap("it results in table \(message.resultsIn)") }
        gathered = message.hasMore ? whole : nil
        return message.hasMore ? nil : try commit(whole)
    }

    private func gather(_ message: EndpointsMessage) throws(ApusError) -> EndpointsMessage {
        guard message.part > 0 else {
            guard gathered == nil else { throw gap("a message begins before the one before it ended") }
            return message
        }
        guard var begun = gathered, begun.part + 1 == message.part, begun.isFull == message.isFull, begun.appliesTo == message.appliesTo,
            begun.resultsIn == message.resultsIn
        else { throw gap("part \(message.part) does not follow") }
        begun.part = message.part
        begun.nodes += message.nodes
        begun.networks += message.networks
        begun.services += message.services
        begun.tasks += message.tasks
        begun.removed += message.removed
        begun.withdrawn += message.withdrawn
        begun.mustConfirm = begun.mustConfirm || message.mustConfirm
        begun.checksum = message.checksum
        return begun
    }

    private mutating func commit(_ message: EndpointsMessage) throws(ApusError) -> Effect {
        if message.isFull {
            table = EndpointTable()
            checksum = 0
        }
        version = message.resultsIn
        for text in message.removed { if let key = EndpointKey(text) { remove(key) } }
        for entry in message.nodes { put(entry, \.nodes) }
        for entry in message.networks { put(entry, \.networks) }
        for entry in message.services { put(entry, \.services) }
        for entry in message.tasks { put(entry, \.tasks) }
        if message.isFull {
            isComparable = checksum == message.checksum
        } else if isComparable, checksum != message.checksum {
            throw gap("table \(version) has the checksum \(checksum), and the manager's has \(message.checksum)")
        }
        return Effect(version: version, mustConfirm: message.mustConfirm, withdrawn: Set(message.withdrawn.map { ID($0) }))
    }

    private mutating func put<Entry: EndpointEntry>(_ entry: Entry, _ list: WritableKeyPath<EndpointTable, [ID: Entry]>) {
        if let old = table[keyPath: list].updateValue(entry, forKey: entry.id) { checksum = checksum &- EndpointChecksum.digest(old).hash }
        checksum = checksum &+ EndpointChecksum.digest(entry).hash
    }

    private mutating func remove(_ key: EndpointKey) {
        switch key.kind {
        case .node: remove(key.id, \.nodes)
        case .network: remove(key.id, \.networks)
        case .service: remove(key.id, \.services)
        case .task: remove(key.id, \.tasks)
        }
    }

    private mutating func remove<Entry: EndpointEntry>(_ id: ID, _ list: WritableKeyPath<EndpointTable, [ID: Entry]>) {
        if let old = table[keyPath: list].removeValue(forKey: id) { checksum = checksum &- EndpointChecksum.digest(old).hash }
    }

    private func gap(_ what: String) -> ApusError {
        ApusError(.conflict, "a message of endpoints does not follow on the one before (\(what)): the whole table is asked for again")
    }
}
