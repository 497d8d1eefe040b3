import PluginAPI

/// Which tasks are to serve no more, and which nodes may still send them new connections: the leader's books, without a clock or a wire.
///
/// A task is withdrawn when every node that was told that it serves has confirmed a table without it. Nodes that went away do not count. A new
/// leader does not know what nodes were told: it waits for each that is not down to come and confirm a whole table, or to be given up.
struct Withdrawals: Sendable {
    private enum Wait: Equatable {
        /// The node is to be told.
        case untold
        /// It is to confirm this version.
        case confirmation(UInt64)
    }

    private struct Entry {
        /// The task's own node.
        var node: ID
        /// Who is waited for.
        var waiting: [ID: Wait] = [:]
        var isDone = false
    }

    private var entries: [ID: Entry] = [:]
    /// Tasks that a node is waited for.
    private var open: [ID: Set<ID>] = [:]
    /// Nodes that have not come to this leader yet.
    private var expected: Set<ID>
    private var completed: [ID: Set<ID>] = [:]

    /// - Parameter nodes: those that the leader before may have told something.
    init(expecting nodes: Set<ID> = []) { expected = nodes }

    var all: Set<ID> { Set(entries.keys) }

    /// Tasks that are waited for.
    var unfinished: Set<ID> { Set(entries.lazy.filter { !$0.value.isDone }.map(\.key)) }

    /// Tasks of a node that nobody sends anything to any more.
    func withdrawn(on node: ID) -> Set<ID> { Set(entries.lazy.filter { $0.value.isDone && $0.value.node == node }.map(\.key)) }

    /// The tasks whose withdrawal is complete since the last call, by their nodes.
    mutating func takeCompleted() -> [ID: Set<ID>] {
        defer { completed = [:] }
        return completed
    }

    /// A task is to serve no more.
    /// - Parameter sessions: nodes that are about to be told.
    mutating func begin(_ task: ID, on node: ID, telling sessions: some Sequence<ID>) {
        guard entries[task] == nil else { return }
        var entry = Entry(node: node)
        for session in sessions {
            entry.waiting[session] = .untold
            open[session, default: []].insert(task)
        }
        entries[task] = entry
        finish(task)
    }

    /// The task has ended: nobody waits for its withdrawal.
    mutating func forget(_ task: ID) {
        guard let entry = entries.removeValue(forKey: task) else { return }
        for session in entry.waiting.keys { close(session, task) }
        completed[entry.node]?.remove(task)
        if completed[entry.node]?.isEmpty ?? false { completed[entry.node] = nil }
    }

    /// Tasks of which a node has not been told yet.
    func untold(_ session: ID) -> Set<ID> { (open[session] ?? []).filter { entries[$0]?.waiting[session] == .untold } }

    /// A node is sent a whole table; it does not matter what it was waited for before.
    /// - Parameters:
    ///   - tasks: `unfinished` when the table was made.
    ///   - known: those of them that are in the table.
    /// - Returns: whether it is to confirm the table.
    mutating func opened(_ session: ID, version: UInt64, unfinished tasks: Set<ID>, knowing known: Set<ID>) -> Bool {
        for task in tasks {
            if known.contains(task), entries[task]?.isDone == false { wait(for: session, version, task) } else { settle(session, task) }
        }
        if expected.remove(session) != nil, expected.isEmpty { for task in entries.keys { finish(task) } }
        return !known.isEmpty
    }

    /// A node is sent a change.
    /// - Parameters:
    ///   - tasks: those of `untold` that the change takes account of.
    ///   - stopped: those that served for the node until then.
    /// - Returns: whether it is to confirm the table.
    mutating func told(_ session: ID, version: UInt64, of tasks: Set<ID>, stopped: Set<ID>) -> Bool {
        var mustConfirm = false
        for task in tasks where entries[task]?.waiting[session] == .untold {
            if stopped.contains(task) {
                wait(for: session, version, task)
                mustConfirm = true
            } else {
                settle(session, task)
            }
        }
        return mustConfirm
    }

    /// A table is in force on a node.
    mutating func confirm(_ session: ID, version: UInt64) {
        for task in open[session] ?? [] { if case .confirmation(let wanted) = entries[task]?.waiting[session], wanted <= version { settle(session, task) } }
    }

    /// A node has gone: its session is over, it is down, or it was removed.
    mutating func gone(_ session: ID) {
        for task in open[session] ?? [] { settle(session, task) }
        if expected.remove(session) != nil, expected.isEmpty { for task in entries.keys { finish(task) } }
    }

    private mutating func wait(for session: ID, _ version: UInt64, _ task: ID) {
        entries[task]?.waiting[session] = .confirmation(version)
        open[session, default: []].insert(task)
    }

    private mutating func settle(_ session: ID, _ task: ID) {
        entries[task]?.waiting.removeValue(forKey: session)
        close(session, task)
        finish(task)
    }

    private mutating func close(_ session: ID, _ task: ID) {
        open[session]?.remove(task)
        if open[session]?.isEmpty ?? false { open[session] = nil }
    }

    private mutating func finish(_ task: ID) {
        guard let entry = entries[task], !entry.isDone, entry.waiting.isEmpty, expected.isEmpty else { return }
        entries[task]?.isDone = true
        completed[entry.node, default: []].insert(task)
    }
}
