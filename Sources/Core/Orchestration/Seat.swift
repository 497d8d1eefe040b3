import PluginAPI

/// The place of one task of a service at a time: a slot of a replicated service, a node of a global one.
struct Seat {
    enum Key: Hashable, Comparable {
        case slot(UInt64)
        case node(ID)

        init(_ task: Task, isGlobal: Bool) { self = isGlobal ? .node(task.nodeID) : .slot(task.slot) }

        static func < (left: Key, right: Key) -> Bool {
            switch (left, right) {
            case (.slot(let left), .slot(let right)): left < right
            case (.node(let left), .node(let right)): left < right
            case (.slot, .node): true
            case (.node, .slot): false
            }
        }

        var slot: UInt64 { if case .slot(let slot) = self { slot } else { 0 } }
        var node: ID { if case .node(let node) = self { node } else { "" } }
    }

    let key: Key
    /// From the oldest to the newest, without those that are to be removed.
    var tasks: [Task]

    init(key: Key, tasks: [Task]) {
        self.key = key
        // Of two made in one moment, the one that is to run came later.
        self.tasks = tasks.sorted { ($0.createdAt, $0.isWanted ? 1 : 0, $0.id) < ($1.createdAt, $1.isWanted ? 1 : 0, $1.id) }
    }

    var newest: Task? { tasks.last }
    var wanted: [Task] { tasks.filter(\.isWanted) }
    var isOccupied: Bool { tasks.contains { $0.isWanted } }
    var isRunning: Bool { tasks.contains { $0.isWanted && $0.status.state == .running } }
}
