public import Logging
import Orchestration
public import PluginAPI
public import Store

/// The assignments of a node that is in the same process as the store.
public final class LocalDispatcher: AssignmentSource {
    private let store: ObjectStore
    private let reports: StatusReports

    public init(store: ObjectStore, logger: Logger) {
        self.store = store
        reports = StatusReports(store: store, logger: logger)
    }

    /// The node's tasks, and the whole set again after every change of it.
    public func assignments(for node: ID) -> AsyncStream<[Task]> { Assignments.stream(store, node) }

    /// All that there are: whoever is in the store's process can read it anyway.
    public func files() -> AssignedFiles {
        let snapshot = store.read()
        return AssignedFiles(
            secrets: Dictionary(uniqueKeysWithValues: snapshot.secrets.values.map { ($0.id, $0) }),
            configs: Dictionary(uniqueKeysWithValues: snapshot.configs.values.map { ($0.id, $0) }))
    }

    /// Returns when they are committed.
    public func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) { try await reports.report(statuses) }
}
