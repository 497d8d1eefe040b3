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

    public func assignments(for node: ID) -> AsyncStream<[Task]> { Assignments.stream(store, node) }

    public func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) { try await reports.report(statuses) }
}
