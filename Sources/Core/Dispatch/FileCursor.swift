import Orchestration
import PluginAPI

/// Which secrets and configs a node has been given, and which its tasks need.
///
/// A node is given what a task of its own that is to run needs, and nothing else. The data of a secret or config never changes, so each is sent once.
struct FileCursor {
    /// What one task needs.
    private struct Need: Hashable {
        var secrets: Set<ID> = []
        var configs: Set<ID> = []
        var isEmpty: Bool { secrets.isEmpty && configs.isEmpty }
    }

    /// What is to be sent.
    struct Changes {
        var secrets: [Secret] = []
        var configs: [Config] = []
        var removedSecrets: [ID] = []
        var removedConfigs: [ID] = []
    }

    /// By task; those that need nothing are not in it.
    private var needs: [ID: Need] = [:]
    private var sent = Need()

    /// Forgets what was sent: a full set follows.
    mutating func reset() { self = FileCursor() }

    /// A task that the node has, as it is now.
    mutating func put(_ task: Task) {
        var need = Need()
        // One that has ended, or is to end, reads nothing any more.
        if task.desiredState <= .complete, !task.status.state.isTerminal, let container = task.spec.container {
            need.secrets = Set(container.secrets.map(\.secretID))
            need.configs = Set(container.configs.map(\.configID))
        }
        needs[task.id] = need.isEmpty ? nil : need
    }

    /// A task that the node has no more.
    mutating func remove(_ task: ID) { needs[task] = nil }

    /// What brings the node up to date; afterwards it counts as sent.
    mutating func changes(_ state: some SwarmState) -> Changes {
        guard !needs.isEmpty || !sent.isEmpty else { return Changes() }
        var wanted = Need()
        for need in needs.values {
            wanted.secrets.formUnion(need.secrets)
            wanted.configs.formUnion(need.configs)
        }
        guard wanted != sent else { return Changes() }
        var changes = Changes()
        changes.removedSecrets = sent.secrets.subtracting(wanted.secrets).sorted()
        changes.removedConfigs = sent.configs.subtracting(wanted.configs).sorted()
        changes.secrets = wanted.secrets.subtracting(sent.secrets).sorted().compactMap { state.secret($0) }
        changes.configs = wanted.configs.subtracting(sent.configs).sorted().compactMap { state.config($0) }
        // What does not exist is not sent, and is looked for again.
        sent.secrets = sent.secrets.intersection(wanted.secrets).union(changes.secrets.map(\.id))
        sent.configs = sent.configs.intersection(wanted.configs).union(changes.configs.map(\.id))
        return changes
    }
}
