public import PluginAPI

/// Where a node learns which tasks it has, and tells how they are.
public protocol AssignmentSource: Sendable {
    /// All tasks that the node must know, at once and each time something but their status changed: those that were given to it and are not deleted.
    ///
    /// A task is to be brought to its desired state. What vanishes from the set is to be ended and forgotten.
    func assignments(for node: ID) -> AsyncStream<[Task]>
    /// The secrets and configs of these tasks. Those of a task are here before the task is.
    func files() -> AssignedFiles
    /// Returns when the statuses are committed. A status that is behind what is known is dropped, and so is one of an unknown task.
    func report(_ statuses: [ID: TaskStatus]) async throws(ApusError)
}
