import PluginAPI

/// What is to be done for one service now, and when to look again although nothing happens.
struct ServicePlan {
    /// Changes that belong together, seat by seat.
    var units: [[PlannedChange]] = []
    var wakeAt: Timestamp?
}

/// What a plan depends on besides the state.
struct PlanningContext {
    var now: Timestamp
    /// Since when tasks run, as far as it was seen; the store keeps the last state of a task only.
    var runningSince: [ID: Timestamp] = [:]
    /// The ingress network of the swarm.
    var ingress: Network?
    var makeID: () -> ID = { ID.random() }

    /// Tasks kept for each seat, the living one included, unless the cluster says otherwise.
    static var historyLimit: Int64 { 5 }
    /// How long the node of a task may be down before nobody counts with the task any more (SwarmKit has the same).
    static var orphanAge: Duration { .seconds(24 * 60 * 60) }
}

/// Compares what a service declares with its tasks, and says how to get there.
///
/// It holds nothing from one call to the next: whatever it needs, such as the time of a restart or how far an update is, it reads from
/// the objects. Every step is safe to repeat, and safe to lose.
struct ServicePlanner<State: SwarmState> {
    let service: Service
    let template: TaskTemplate
    let state: State
    let context: PlanningContext
    let isGlobal: Bool
    /// For the constraints of the tasks that are made now.
    let requirements: TaskRequirements
    let hasConstraints: Bool
    var seats: [Seat.Key: Seat] = [:]
    private(set) var wakeAt: Timestamp?
    private var changes: [Seat.Key: [PlannedChange]] = [:]
    private var looseChanges: [PlannedChange] = []
    private var grounds: [ID: NodeGround] = [:]
    /// The places of a new task in networks, still without addresses.
    private var attachments: [NetworkAttachment]?
    /// How many more tasks may be made now.
    private(set) var room = Int.max

    /// The most tasks of one replicated service that wait for a node at a time. They are alike: what has no node for so many has none for more, and a million
    /// of them would only take memory, and time from other services. When they have found their nodes the next ones are made.
    static var waitingLimit: Int { 2000 }

    var now: Timestamp { context.now }

    /// How a task can be on a node.
    enum NodeGround {
        case gone, down, drained, paused, active
    }

    static func plan(_ service: Service, in state: State, _ context: PlanningContext) -> ServicePlan {
        var planner = ServicePlanner(service, state, context)
        return planner.plan()
    }

    /// For tasks whose service is gone.
    static func planRemoval(ofService id: ID, in state: State) -> ServicePlan {
        var service = Service()
        service.id = id
        service.pendingDelete = true
        var planner = ServicePlanner(service, state, PlanningContext(now: .never))
        return planner.plan()
    }

    private init(_ service: Service, _ state: State, _ context: PlanningContext) {
        self.service = service
        self.state = state
        self.context = context
        template = TaskTemplate(service, ingress: context.ingress)
        isGlobal = service.spec.mode.global != nil
        hasConstraints = template.spec.placement?.constraints.isEmpty == false
        var model = Task()
        model.serviceID = service.id
        model.spec = template.spec
        requirements = TaskRequirements(model)
    }

    private mutating func plan() -> ServicePlan {
        let tasks = state.tasks(ofService: service.id)
        if service.pendingDelete {
            removeAll(tasks)
        } else {
            takeSeats(tasks)
            if !isGlobal { room = max(0, Self.waitingLimit - tasks.count { isWaiting($0) }) }
            retire()
            handOver()
            if isGlobal { fillNodes() } else { fillSlots() }
            update()
            promote()
            trim()
        }
        let ordered = changes.sorted { $0.key < $1.key }.map(\.value)
        return ServicePlan(units: looseChanges.map { [$0] } + ordered, wakeAt: wakeAt)
    }

    // MARK: Steps that all parts use

    mutating func emit(_ change: PlannedChange, _ seat: Seat.Key) { changes[seat, default: []].append(change) }
    mutating func emit(_ change: PlannedChange) { looseChanges.append(change) }
    mutating func wake(at time: Timestamp) { wakeAt = wakeAt.map { min($0, time) } ?? time }

    mutating func ground(_ node: ID) -> NodeGround {
        if let known = grounds[node] { return known }
        let ground: NodeGround =
            if let node = state.node(node) {
                switch (node.status.state, node.spec.availability) {
                case (.down, _): .down
                case (_, .drain): .drained
                case (_, .pause): .paused
                default: .active
                }
            } else {
                .gone
            }
        grounds[node] = ground
        return ground
    }

    /// Whether something of the task may still run on a node that can be asked to end it.
    mutating func isStopping(_ task: Task) -> Bool {
        guard !task.isWanted, !task.status.state.isTerminal, task.status.state >= .assigned else { return false }
        switch ground(task.nodeID) {
        case .gone, .down: return false
        case .drained, .paused, .active: return true
        }
    }

    /// Whether no node knows the task, or will ever speak of it again.
    mutating func isDeletable(_ task: Task) -> Bool {
        task.status.state.isTerminal || task.status.state < .assigned || ground(task.nodeID) == .gone || isLost(task)
    }

    /// Ends a task for another one in its seat; one that no node has heard of just goes.
    mutating func stop(_ task: Task, in key: Seat.Key) {
        guard let index = seats[key]?.tasks.firstIndex(where: { $0.id == task.id }) else { return }
        if task.status.state < .assigned {
            emit(.delete(task: task.id), key)
            seats[key]?.tasks.remove(at: index)
        } else {
            emit(.desire(task: task.id, .shutdown), key)
            seats[key]?.tasks[index].desiredState = .shutdown
        }
    }

    /// Ends and forgets everything in a seat.
    mutating func remove(_ key: Seat.Key) {
        for task in seats[key]?.tasks ?? [] {
            emit(isDeletable(task) ? .delete(task: task.id) : .desire(task: task.id, .remove), key)
        }
        seats[key] = nil
    }

    /// Whether it has no node yet, and is as new ones would be.
    private func isWaiting(_ task: Task) -> Bool { task.isWanted && task.status.state <= .pending && !template.isOutdated(task) }

    /// Puts a new task into a seat, if there is room for it. It waits as READY for what is still stopping there, and for the restart delay when its predecessor ended by itself.
    mutating func fill(_ key: Seat.Key) {
        guard room > 0 else { return }
        let seat = seats[key] ?? Seat(key: key, tasks: [])
        var mustWait = false
        for task in seat.tasks where isStopping(task) { mustWait = true }
        if !seat.tasks.isEmpty {
            switch pause(after: seat.tasks.count - 1, in: seat) {
            case .none: break
            case .ready: mustWait = true
            case .empty(let time):
                if now < time { return wake(at: time) }
            }
        }
        let attachments = attachments ?? template.attachments(in: state)
        self.attachments = attachments
        let task = template.makeTask(
            id: context.makeID(), slot: key.slot, node: key.node, desired: mustWait ? .ready : .running, networks: attachments, now: now)
        emit(.create(task), key)
        room -= 1
        seats[key, default: seat].tasks.append(task)
    }

    /// What lies between the end of a task and the start of the next one in its seat.
    enum Pause {
        case none
        /// The next is made at once, and starts when it has been READY for so long.
        case ready(Duration)
        /// The task ended while it was still waiting for its own start, such as one whose image is missing: the next is not made before that time,
        /// or rejections would follow each other without a pause.
        case empty(until: Timestamp)
    }

    func pause(after index: Int, in seat: Seat) -> Pause {
        let task = seat.tasks[index]
        guard task.endedByItself, !template.isOutdated(task) else { return .none }
        let delay = template.spec.restartDelay
        let pace = max(delay, .milliseconds(100))
        if index > 0, case let previous = seat.tasks[index - 1], previous.endedByItself, !template.isOutdated(previous),
            task.status.timestamp < task.createdAt + (task.status.state == .rejected ? pace : delay)
        {
            return .empty(until: task.createdAt + pace)
        }
        return delay > .zero ? .ready(delay) : .none
    }

    /// Ended for good: nothing is to take this seat until the spec changes.
    func isAtRest(_ seat: Seat) -> Bool {
        guard !seat.isOccupied, let newest = seat.newest, newest.endedByItself, !template.isOutdated(newest) else { return false }
        return !newest.isRestartable(others: seat.tasks)
    }

    // MARK: The steps of a plan

    private mutating func removeAll(_ tasks: [Task]) {
        for task in tasks {
            if isDeletable(task) {
                emit(.delete(task: task.id))
            } else if task.desiredState < .remove {
                emit(.desire(task: task.id, .remove))
            }
        }
        if tasks.isEmpty { emit(.deleteService(service.id)) }
    }

    /// Groups the tasks, and forgets those that were to be removed and are gone.
    private mutating func takeSeats(_ tasks: [Task]) {
        var staying: [Seat.Key: [Task]] = [:]
        for task in tasks {
            let key = Seat.Key(task, isGlobal: isGlobal)
            if task.desiredState >= .remove {
                if isDeletable(task) { emit(.delete(task: task.id), key) }
            } else {
                staying[key, default: []].append(task)
            }
        }
        for (key, tasks) in staying { seats[key] = Seat(key: key, tasks: tasks) }
    }

    /// Closes the tasks that have ended or lost their node.
    private mutating func retire() {
        for key in seats.keys {
            for task in seats[key]?.tasks ?? [] {
                let isGone = !task.nodeID.isEmpty && !task.status.state.isTerminal && task.status.state >= .assigned && ground(task.nodeID) == .gone
                if isGone, let index = seats[key]?.tasks.firstIndex(where: { $0.id == task.id }) {
                    emit(.orphan(task: task.id), key)
                    seats[key]?.tasks[index].status.state = .orphaned
                }
                if isLost(task), let index = seats[key]?.tasks.firstIndex(where: { $0.id == task.id }) {
                    emit(.orphan(task: task.id), key)
                    seats[key]?.tasks[index].status.state = .orphaned
                }
                if task.isWanted, isGone || task.status.state.isTerminal || (isDisplaced(task) && !isPatient(task)) { stop(task, in: key) }
            }
        }
    }

    /// Whether the task must leave its node.
    mutating func isDisplaced(_ task: Task) -> Bool {
        guard task.status.state >= .assigned, !task.nodeID.isEmpty else { return false }
        switch ground(task.nodeID) {
        case .gone, .down, .drained: return true
        case .paused, .active: break
        }
        guard hasConstraints, !template.isOutdated(task), let node = state.node(task.nodeID) else { return false }
        return !requirements.isEligible(node)
    }

    /// Starts READY tasks when nothing of their predecessors runs any more and the restart delay is over.
    private mutating func promote() {
        for (key, seat) in seats {
            for (index, task) in seat.tasks.enumerated() where task.desiredState == .ready {
                let patience: Duration = max(.seconds(60), template.spec.stopGracePeriod + .seconds(30))
                var isBlocked = false
                for other in seat.tasks where isStopping(other) { isBlocked = true }
                if isBlocked, now < task.createdAt + patience {
                    wake(at: task.createdAt + patience)
                    continue
                }
                if index > 0, seat.tasks[index - 1].status.timestamp <= task.createdAt, case .ready(let delay) = pause(after: index - 1, in: seat),
                    now < task.createdAt + delay
                {
                    wake(at: task.createdAt + delay)
                    continue
                }
                emit(.promote(task: task.id), key)
            }
        }
    }

    /// Deletes the oldest ended tasks of each seat.
    private mutating func trim() {
        var limit = state.cluster?.spec.orchestration.taskHistoryLimit ?? PlanningContext.historyLimit
        guard limit >= 0 else { return }
        // Attempts are counted from history: there must be enough of it.
        if let attempts = template.spec.restartPolicy?.maxAttempts, attempts > 0 { limit = max(limit, Int64(min(attempts, 1000)) + 1) }
        for (key, seat) in seats {
            let ended = seat.tasks.filter { !$0.isWanted && $0.status.state.isTerminal }
            let living = seat.tasks.count { $0.isWanted }
            let kept = max(Int(limit) - living, living == 0 ? 1 : 0)
            for task in ended.prefix(max(0, ended.count - kept)) { emit(.delete(task: task.id), key) }
        }
    }
}
