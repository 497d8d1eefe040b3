public import PluginAPI

/// Changes that are made together or not at all. Reads its own writes.
///
/// Objects come out of it stamped: version, and times of creation and update, are the store's.
public struct StoreTransaction {
    /// The state as this transaction leaves it so far.
    public private(set) var snapshot: StoreSnapshot
    /// What everything that this transaction makes or changes gets.
    let version: Version
    let now: Timestamp
    /// The object before the transaction, `nil` for a new one; in the order of the first change.
    private var originals: [Key: StoredObject?] = [:]
    private var order: [Key] = []

    private struct Key: Hashable {
        var kind: ObjectKind
        var id: ID
    }

    init(snapshot: StoreSnapshot, version: Version, now: Timestamp) {
        self.snapshot = snapshot
        self.version = version
        self.now = now
    }

    /// Adds an object; its version and times are set by the store.
    /// - Throws: `conflict` when the id or the name exists, or a second cluster is made; `invalidArgument` without an id.
    public mutating func create(_ object: StoredObject) throws(ApusError) {
        guard !object.id.isEmpty else { throw ApusError(.invalidArgument, "a new \(object.kind.rawValue) has no id") }
        guard snapshot.object(object.kind, object.id) == nil else {
            throw ApusError(.conflict, "\(object.kind.rawValue) \(object.id) exists already")
        }
        if case .cluster = object, snapshot.cluster != nil { throw ApusError(.conflict, "this node is part of a swarm already") }
        try checkName(of: object)
        note(object.kind, object.id, nil)
        snapshot.put(object.stamped(version: version, createdAt: now, updatedAt: now))
    }

    /// Replaces an object.
    /// - Parameter version: What the object must have; `nil` takes any.
    /// - Throws: `notFound`; `conflict` when the version is another or the new name exists.
    public mutating func update(_ object: StoredObject, matching version: Version? = nil) throws(ApusError) {
        guard let current = snapshot.object(object.kind, object.id) else {
            throw ApusError(.notFound, "\(object.kind.rawValue) \(object.id) not found")
        }
        if let version, version != current.version, version != (original(object.kind, object.id) ?? current).version {
            throw ApusError(
                .conflict,
                "update out of sequence: \(object.kind.rawValue) \(object.id) is at version \(current.version.index), "
                    + "not \(version.index); read it again and repeat"
            )
        }
        try checkName(of: object)
        note(object.kind, object.id, current)
        snapshot.put(object.stamped(version: self.version, createdAt: current.createdAt, updatedAt: now))
    }

    /// - Throws: `notFound`.
    public mutating func remove(_ kind: ObjectKind, _ id: ID) throws(ApusError) {
        guard let current = snapshot.object(kind, id) else { throw ApusError(.notFound, "\(kind.rawValue) \(id) not found") }
        note(kind, id, current)
        snapshot.remove(current)
    }

    private func checkName(of object: StoredObject) throws(ApusError) {
        guard let name = object.uniqueName, let owner = snapshot.id(named: name, object.kind), owner != object.id else { return }
        throw ApusError(.conflict, "the name \"\(name)\" is taken by \(object.kind.rawValue) \(owner)")
    }

    private func original(_ kind: ObjectKind, _ id: ID) -> StoredObject? { originals[Key(kind: kind, id: id)] ?? nil }

    private mutating func note(_ kind: ObjectKind, _ id: ID, _ original: StoredObject?) {
        let key = Key(kind: kind, id: id)
        guard originals[key] == nil else { return }
        originals.updateValue(original, forKey: key)
        order.append(key)
    }

    /// What it comes to: one change for each object that is there after it or was before.
    var changes: [StoreChange] {
        order.compactMap { key in
            switch (original(key.kind, key.id), snapshot.object(key.kind, key.id)) {
            case (nil, nil): nil
            case (nil, let object?): .created(object)
            case (let original?, let object?): .updated(object, from: original)
            case (let original?, nil): .removed(original)
            }
        }
    }
}
