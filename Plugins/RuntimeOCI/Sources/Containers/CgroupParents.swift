import PluginAPI
import Synchronization

/// Groups that users name for their containers (`--cgroup-parent`). The OCI runtime makes one that is not there; it is taken away again with the last
/// container in it, while one that was there before stays.
final class CgroupParents: Sendable {
    /// A start that is under way.
    private struct Start {
        var parent: String
        /// The highest group that is made for it; empty when all were there.
        var highest: String
    }

    private let starting = Mutex<[ID: Start]>([:])

    /// Begins a start below `parent`, and returns the highest group that is made for it: the first that is not there, or that was made for another
    /// container which still runs. Empty: none.
    ///
    /// - Parameters:
    ///   - made: what was made for the containers that run.
    ///   - exists: whether there is a group.
    func begin(_ id: ID, below parent: String, made: [String], exists: (String) -> Bool) -> String {
        starting.withLock { starting in
            let known = Set(made + starting.values.map(\.highest))
            let highest = Self.path(to: parent).first { known.contains($0) || !exists($0) } ?? ""
            starting[id] = Start(parent: parent, highest: highest)
            return highest
        }
    }

    /// The start is through, in one way or the other.
    func end(_ id: ID) { starting.withLock { _ = $0.removeValue(forKey: id) } }

    /// Removes the empty groups from `parent` up to `highest` behind a container, unless another is about to start in one of them.
    func remove(_ parent: String, upTo highest: String, of id: ID, removeIfEmpty: (String) -> Void) {
        guard !highest.isEmpty else { return }
        func isBelow(_ group: String) -> Bool { group == highest || group.hasPrefix("\(highest)/") }
        starting.withLock { starting in
            guard !starting.contains(where: { $0.key != id && isBelow($0.value.parent) }) else { return }
            for group in Self.path(to: parent).reversed() where isBelow(group) { removeIfEmpty(group) }
        }
    }

    /// `/a`, `/a/b`, `/a/b/c`.
    static func path(to group: String) -> [String] {
        var path: [String] = []
        for part in group.split(separator: "/") { path.append("\(path.last ?? "")/\(part)") }
        return path
    }
}
