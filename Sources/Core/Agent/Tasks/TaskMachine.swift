import PluginAPI

/// The life of one task on its node, as a value: it is told what happened and says what to do next. It neither waits nor runs anything.
///
/// It is level-triggered: after every input it looks at the whole situation, so that a repeated or late input does no harm.
struct TaskMachine: Sendable, Hashable {
    /// What happened.
    enum Input: Sendable, Hashable {
        /// The manager's wish.
        case desired(TaskState)
        /// The manager no longer has the task.
        case gone
        case prepared(ID)
        case prepareFailed(ApusError)
        /// Its process runs; `false`: its health is still to be seen.
        case started(isWell: Bool)
        case startFailed(ApusError)
        case observed(ContainerObservation)
        case stopped
        case stopFailed(ApusError)
        case removed
        case removeFailed(ApusError)
    }

    /// What to do.
    enum Output: Sendable, Hashable {
        case report(Report)
        case perform(Action)
        /// Give up what is being done; its result is still awaited.
        case cancelAction
        /// Whether it takes connections of published ports.
        case serve(Bool)
        /// Nothing is left of it.
        case finish
    }

    /// One at a time.
    enum Action: Sendable, Hashable {
        case prepare
        case start
        /// Leaves the balancer, drains, stops.
        case stop
        case remove
    }

    struct Report: Sendable, Hashable {
        var state: TaskState
        var message: String
        var error = ""
        /// `nil`: unchanged.
        var exitCode: Int64?
    }

    /// What there is of the container.
    enum Stage: Sendable, Hashable {
        case absent, prepared, running, ended
    }

    private(set) var state: TaskState
    private(set) var desired: TaskState
    private(set) var stage: Stage = .absent
    private(set) var action: Action?
    private(set) var isGone = false
    private(set) var containerID: ID?
    private(set) var isServing = false
    private var isCancelling = false
    private var isUnwell = false
    private var lastExitCode: Int64 = 0
    /// The user, or an accident, has removed the container.
    private var isContainerLost = false

    /// `reported` is the state that the manager knows, from an earlier engine perhaps; `container` what is there of it.
    init(reported: TaskState, desired: TaskState, container: ContainerDetails?) {
        state = reported
        self.desired = desired
        guard let container else {
            // It ran, and nothing is left of it.
            isContainerLost = reported >= .starting && !reported.isTerminal
            return
        }
        containerID = container.id
        switch container.state.phase {
        case .running, .paused: stage = .running
        case .exited, .dead:
            stage = .ended
            lastExitCode = container.state.exitCode
        default: stage = .prepared
        }
    }

    /// What to do at the very beginning.
    mutating func begin() -> [Output] {
        var outputs: [Output] = []
        if stage == .running, state == .running { outputs += serve(true) }
        return outputs + next()
    }

    mutating func step(_ input: Input) -> [Output] {
        var outputs: [Output] = []
        switch input {
        case .desired(let wish):
            // It only ever moves forward.
            if wish > desired { desired = wish }
        case .gone: isGone = true
        case .prepared(let id):
            action = nil
            containerID = id
            if stage == .absent { stage = .prepared }
            if !state.isTerminal { outputs += report(.ready, "prepared") }
        case .prepareFailed(let error):
            action = nil
            stage = .absent
            if !isWindingDown { outputs += report(.rejected, "preparing", error: error.message) }
        case .started(let isWell):
            action = nil
            if stage == .prepared { stage = .running }
            if stage == .running, isWell { outputs += running() }
        case .startFailed(let error):
            action = nil
            if stage == .running { stage = .ended }
            if !isWindingDown { outputs += report(.failed, "starting", error: error.message) }
        case .observed(let observation): outputs += observe(observation)
        case .stopped:
            action = nil
            isServing = false
            if stage == .running { stage = .ended }
            outputs += settled()
        case .stopFailed, .removeFailed:
            // The worker waits a little, and asks again by the next input.
            action = nil
        case .removed:
            action = nil
            stage = .absent
            containerID = nil
        }
        return outputs + next()
    }

    private var isWindingDown: Bool { isGone || desired > .complete }

    private mutating func observe(_ observation: ContainerObservation) -> [Output] {
        if observation.isRemoved {
            guard action != .remove, stage != .absent else { return [] }
            let wasAlive = stage != .ended
            stage = .absent
            containerID = nil
            isContainerLost = wasAlive
            return serve(false)
        }
        switch observation.state.phase {
        case .running, .paused:
            if stage == .prepared || stage == .absent { stage = .running }
            guard stage == .running else { return [] }
            if observation.health == .unhealthy, action != .stop, !isUnwell {
                isUnwell = true
                return serve(false)
            }
            // Without a health check, the end of the start says when it takes connections.
            return observation.health == .healthy || observation.health == .none && action != .start ? running() : []
        case .exited, .dead:
            guard stage == .running || stage == .prepared && action == .start else { return [] }
            lastExitCode = observation.state.exitCode
            stage = .ended
            let leaving = serve(false)
            // The stop itself reports, when it is through.
            return action == .stop ? leaving : leaving + settled()
        default: return []
        }
    }

    private mutating func running() -> [Output] {
        guard !state.isTerminal, !isWindingDown, !isUnwell else { return [] }
        // Who sees the task running may use its ports.
        return serve(true) + report(.running, "started")
    }

    private mutating func serve(_ wanted: Bool) -> [Output] {
        guard isServing != wanted else { return [] }
        isServing = wanted
        return [.serve(wanted)]
    }

    /// The report of an ended container.
    private mutating func settled() -> [Output] {
        guard !state.isTerminal else { return [] }
        if isUnwell {
            let error = lastExitCode == 0 ? "task: unhealthy container" : "task: non-zero exit (\(lastExitCode)): unhealthy container"
            return report(.failed, "started", error: error, exitCode: lastExitCode)
        }
        if isWindingDown { return report(.shutdown, "shutdown", exitCode: lastExitCode) }
        if lastExitCode != 0 { return report(.failed, "started", error: "task: non-zero exit (\(lastExitCode))", exitCode: lastExitCode) }
        return report(.complete, "finished", exitCode: 0)
    }

    private mutating func report(_ new: TaskState, _ message: String, error: String = "", exitCode: Int64? = nil) -> [Output] {
        guard new > state else { return [] }
        state = new
        return [.report(Report(state: new, message: message, error: error, exitCode: exitCode))]
    }

    private mutating func perform(_ next: Action) -> [Output] {
        action = next
        isCancelling = false
        return [.perform(next)]
    }

    private mutating func next() -> [Output] {
        if let action {
            guard isWindingDown, action == .prepare || action == .start, !isCancelling else { return [] }
            isCancelling = true
            return [.cancelAction]
        }
        var outputs: [Output] = []
        if isContainerLost {
            isContainerLost = false
            if isWindingDown {
                outputs += report(.shutdown, "shutdown")
            } else {
                outputs += report(.failed, "started", error: "the container of the task is gone: it was removed, or the node was reinstalled")
            }
        }
        if stage == .ended { outputs += settled() }
        if isWindingDown || isUnwell || state.isTerminal {
            if stage == .running { return outputs + perform(.stop) }
        }
        if isWindingDown {
            outputs += report(.shutdown, "shutdown")
            if isGone || desired >= .remove, stage != .absent { return outputs + perform(.remove) }
            if isGone, stage == .absent { outputs.append(.finish) }
            return outputs
        }
        if state.isTerminal { return outputs }
        outputs += report(.accepted, "accepted")
        switch stage {
        case .absent:
            guard desired >= .ready else { return outputs }
            outputs += report(.preparing, "preparing")
            return outputs + perform(.prepare)
        case .prepared:
            outputs += report(.ready, "prepared")
            guard desired >= .running else { return outputs }
            outputs += report(.starting, "starting")
            return outputs + perform(.start)
        case .running:
            // An adopted container whose health was being waited for.
            outputs += report(.starting, "starting")
            return outputs
        case .ended: return outputs
        }
    }
}
