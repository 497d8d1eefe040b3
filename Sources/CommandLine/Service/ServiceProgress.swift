import PluginAPI

/// How far a service is on its way to what was asked, from what the API says of it at one moment.
struct ServiceProgress: Sendable, Hashable {
    /// What there was before the command, so that its effect can be told from it.
    struct Baseline: Sendable, Hashable {
        /// Tasks that the command replaces; empty when it changes none.
        var replacedTasks: Set<ID> = []
        var updateStatus: UpdateStatus?
        /// Whether going back is what was asked.
        var isRollback = false
    }

    /// One place for a task.
    struct Slot: Sendable, Hashable {
        /// `nil`: there is no task for it yet.
        var state: TaskState?
        /// Why the last task here ended, or why this one cannot go on.
        var error = ""
        var isDone = false
    }

    /// How it ended, if it did.
    enum Outcome: Sendable, Hashable {
        /// Everything is as asked, and the engine's own watch is over too.
        case completed
        /// The engine gave up; the message has the reason and the errors of the tasks.
        case failed(String)
    }

    private(set) var slots: [Slot] = []
    /// All places are as asked now. It counts when it stays so for the monitor time, unless `outcome` says that it is over.
    private(set) var isConverged = false
    private(set) var outcome: Outcome?
    /// The engine is at work on an update, or watches what it has done.
    private(set) var isUpdating = false
    /// How the engine calls what it is doing: `rolling back`, or empty.
    private(set) var activity = ""
    let isJob: Bool

    var done: Int { slots.count(where: \.isDone) }
    var total: Int { slots.count }

    /// - Parameter tasks: all of the service, also those that ended.
    init(service: Service, tasks: [Task], baseline: Baseline) {
        let mode = service.spec.mode
        isJob = mode.replicatedJob != nil || mode.globalJob != nil
        let status = service.updateStatus == baseline.updateStatus ? nil : service.updateStatus
        let isUpdateOver = status?.state == .completed || status?.state == .rollbackCompleted
        let isGlobal = mode.global != nil || mode.globalJob != nil
        let places = Dictionary(grouping: tasks) {
            isGlobal ? $0.nodeID.text : String(repeating: "0", count: max(0, 20 - String($0.slot).count)) + String($0.slot)
        }
        var ended: [Slot] = []
        for key in places.keys.sorted() {
            let here = (places[key] ?? []).sorted { $0.createdAt > $1.createdAt }
            let wanted: TaskState = isJob ? .complete : .running
            guard let task = here.first(where: { $0.desiredState <= wanted && $0.desiredState != .shutdown }) else {
                if let error = here.first.map(Self.reason), !error.isEmpty { ended.append(Slot(error: error)) }
                continue
            }
            let isOld = !isUpdateOver && baseline.replacedTasks.contains(task.id) && task.spec != service.spec.task
            let isDone = isJob ? task.status.state == .complete : task.status.state == .running && task.desiredState == .running && !isOld
            var error = Self.reason(task)
            if error.isEmpty, !isDone, let last = here.first(where: { $0.status.state == .failed || $0.status.state == .rejected }), !isOld {
                error = Self.reason(last)
            }
            slots.append(Slot(state: isOld ? nil : task.status.state, error: isDone ? "" : error, isDone: isDone))
        }
        let hasExtra = addMissing(mode, ended)
        // Tasks may all run while the engine still watches the new ones, and may yet take them back.
        isUpdating = status?.state == .updating || status?.state == .rollbackStarted
        isConverged = !isUpdating && !hasExtra && done == total && (total > 0 || (mode.replicated?.replicas ?? 1) == 0)
        judge(status, baseline)
        if isJob, isConverged { outcome = .completed }
    }

    /// Fills up to the number of tasks that was asked; returns whether there are more than that.
    private mutating func addMissing(_ mode: ServiceMode, _ ended: [Slot]) -> Bool {
        let asked: UInt64
        if let job = mode.replicatedJob {
            asked = job.totalCompletions ?? 1
        } else if mode.global != nil || mode.globalJob != nil {
            slots += ended
            return false
        } else {
            asked = mode.replicated?.replicas ?? 1
        }
        // A number beyond all reason is not drawn task by task.
        let limit = Int(clamping: min(asked, 100_000))
        slots += ended.prefix(max(0, limit - slots.count))
        while slots.count < limit { slots.append(Slot()) }
        return slots.count > limit
    }

    private mutating func judge(_ status: UpdateStatus?, _ baseline: Baseline) {
        guard let status else { return }
        func message(_ what: String) -> String {
            let errors = Set(slots.map(\.error).filter { !$0.isEmpty }).sorted()
            return ([status.message.isEmpty ? what : "\(what): \(status.message)"] + errors.prefix(3)).joined(separator: "; ")
        }
        switch status.state {
        case .completed: if isConverged { outcome = .completed }
        case .paused: outcome = .failed(message("the update is paused"))
        case .rollbackStarted: activity = status.message.isEmpty ? "rolling back" : "rolling back (\(status.message))"
        case .rollbackPaused: outcome = .failed(message("the rollback is paused"))
        case .rollbackCompleted:
            if baseline.isRollback {
                if isConverged { outcome = .completed }
            } else if isConverged {
                outcome = .failed(message("the update failed and the service was rolled back"))
            }
        case .updating, .unset: break
        @unknown default: break
        }
    }

    private static func reason(_ task: Task) -> String {
        if !task.status.error.isEmpty { return task.status.error }
        if task.status.state == .failed || task.status.state == .rejected { return task.status.message }
        return ""
    }
}
