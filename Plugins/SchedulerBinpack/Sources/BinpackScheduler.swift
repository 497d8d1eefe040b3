public import PluginAPI
import Synchronization

/// Fills one node after the other, so that whole nodes stay empty.
///
/// The node that would be left with the least free share of memory and CPU, by what tasks reserve; then the one with the most tasks.
public final class BinpackScheduler: Scheduler {
    private let view = Mutex(SchedulingView())

    public init() {}

    public func apply(_ changes: [SchedulingChange]) {
        view.withLock { $0.apply(changes) }
    }

    public func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
        view.withLock { view in
            view.schedule(request) { node, _ in NodeRank(-Self.fullness(node), -Int64(node.taskCount)) }
        }
    }

    /// Reserved shares of memory and CPU in millionths, added up.
    private static func fullness(_ node: NodeInfo) -> Int64 {
        share(node.reservedMemoryBytes, of: node.memoryBytes) + share(node.reservedNanoCPUs, of: node.nanoCPUs)
    }

    private static func share(_ used: Int64, of all: Int64) -> Int64 {
        all > 0 ? Int64(Double(used) / Double(all) * 1_000_000) : 0
    }
}
