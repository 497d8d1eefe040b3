public import Logging
public import PluginAPI
public import Store

/// The manager of a swarm: keeps every service as it was declared.
///
/// All it knows comes from the store, so a restart, a new leader or a lost event change nothing but the moment.
public final class Manager: Sendable {
    private let loop: ManagerLoop<ObjectStore, SystemClock>

    /// - Parameter scheduler: hands out a scheduler that knows nothing yet; called at the start and after `schedulerChanged()`.
    public init(store: ObjectStore, scheduler: @escaping @Sendable () -> any Scheduler, logger: Logger) {
        loop = ManagerLoop(store: store, clock: SystemClock(), scheduler: scheduler, logger: logger)
    }

    /// Works until it is cancelled. Tasks go on running then.
    public func run() async { await loop.run() }

    /// The next tasks are placed by another scheduler, which gets to know everything first. No running task moves.
    public func schedulerChanged() { loop.schedulerChanged() }
}
