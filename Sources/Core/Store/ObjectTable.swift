import HashTreeCollections
public import PluginAPI

/// The objects of one kind by id. An immutable value: a copy costs nothing and never changes.
public struct ObjectTable<Object: Sendable>: Sendable {
    var objects = TreeDictionary<ID, Object>()

    public init() {}

    /// `nil` when there is none of that id.
    public subscript(id: ID) -> Object? { objects[id] }
    public var count: Int { objects.count }
    public var isEmpty: Bool { objects.isEmpty }
    /// In no particular order.
    public var values: some Collection<Object> { objects.values }
    /// In no particular order.
    public var ids: some Collection<ID> { objects.keys }
}
