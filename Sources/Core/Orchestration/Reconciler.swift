public import PluginAPI
import Allocation

/// The whole of orchestration as a value: it is told what happened, and asked what to do.
///
/// It keeps notes of what is worth looking at (services that changed, tasks without a node, times to wake up), and nothing that could not be read from the
/// state again: after `load` a new one comes to the same decisions. No clock, no store and no waiting are in here, so a test can drive it through years in a moment.
public struct Reconciler {
    /// The next changes, to be applied together unit by unit.
    public struct Plan: Sendable {
        public var units: [[PlannedChange]] = []
        /// When to plan again although nothing happens.
        public var wakeAt: Timestamp?
        public var isEmpty: Bool { units.isEmpty }
    }

    private var scheduler: any Scheduler
    private var schedulerProblem: String?
    private var dirtyServices: Set<ID> = []
    private var globalServices: Set<ID> = []
    private var wakeTimes: [ID: Timestamp] = [:]
    /// Tasks that wait for a node.
    private var unplaced: Set<ID> = []
    /// Something changed that may make room for them.
    private var mayPlace = false
    /// Services that cannot get their ports or their virtual addresses, and why.
    private var problems: [ID: String] = [:]
    private var runningSince: [ID: Timestamp] = [:]
    var networks = NetworkNotes()
    private let makeID: @Sendable () -> ID
    /// Makes a key of encrypted networks.
    let makeKey: @Sendable () -> [UInt8]

    /// - Parameters:
    ///   - makeID: makes the ids of new tasks; tests hand in a seeded one.
    ///   - makeKey: makes 16 random bytes.
    public init(
        scheduler: any Scheduler, makeID: @escaping @Sendable () -> ID = { ID.random() }, makeKey: (@Sendable () -> [UInt8])? = nil
    ) {
        self.scheduler = scheduler
        self.makeID = makeID
        self.makeKey =
            makeKey ?? {
                // The system's generator is fit for keys.
                var generator = SystemRandomNumberGenerator()
                return (0..<NetworkKey.size).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
            }
    }

    // MARK: What happened

    /// Looks at everything anew: at the start, after a gap, and with another scheduler, which is fed all there is.
    public mutating func load(_ state: some SwarmState, scheduler: (any Scheduler)? = nil) {
        if let scheduler { self.scheduler = scheduler }
        var feed = [SchedulingChange.reset] + state.allNodes.map { SchedulingChange.node($0) }
        dirtyServices = []
        globalServices = []
        unplaced = []
        let seen = runningSince
        runningSince = [:]
        for service in state.allServices {
            dirtyServices.insert(service.id)
            if service.spec.mode.global != nil { globalServices.insert(service.id) }
        }
        networks = NetworkNotes()
        for task in state.allTasks {
            guard !task.isAttachment else {
                networks.attachments.insert(task.id)
                continue
            }
            // Tasks of services that are gone.
            dirtyServices.insert(task.serviceID)
            feed.append(.task(task))
            if Self.waitsForNode(task) { unplaced.insert(task.id) }
            if let time = seen[task.id] {
                runningSince[task.id] = time
            } else if task.status.state == .running {
                runningSince[task.id] = task.status.timestamp
            }
        }
        mayPlace = true
        self.scheduler.apply(feed)
    }

    /// Takes note of committed changes, in order.
    public mutating func note(_ events: some Sequence<SwarmEvent>, in state: some SwarmState) {
        var feed: [SchedulingChange] = []
        for event in events {
            switch event {
            case .service(let service):
                dirtyServices.insert(service.id)
                if service.spec.mode.global != nil { globalServices.insert(service.id) }
                // It may have given up a port or an address for which another one waits.
                noteRoom()
            case .serviceRemoved(let service):
                dirtyServices.insert(service.id)
                globalServices.remove(service.id)
                // Its ports and addresses are free for whoever waits for them.
                noteRoom()
            case .node(let node, let old):
                feed.append(.node(node))
                let isOther = old.map { $0.meshAddresses != node.meshAddresses || $0.status.state != node.status.state && !networks.attachments.isEmpty }
                if isOther ?? true { networks.isDirty = true }
                noteNode(node, old, state)
            case .nodeRemoved(let node):
                feed.append(.nodeRemoved(node.id))
                noteNode(node, nil, state)
                // Its address in the mesh is free, and its containers' places are.
                noteRoom()
                networks.isDirty = true
            case .task(let task, _) where task.isAttachment:
                networks.attachments.insert(task.id)
                networks.isDirty = true
                if !task.holdsAddresses { noteRoom() }
            case .taskRemoved(let task) where task.isAttachment:
                networks.attachments.remove(task.id)
                noteRoom()
            case .task(let task, _):
                feed.append(.task(task))
                noteTask(task)
            case .taskRemoved(let task):
                noteRoom()
                feed.append(.taskRemoved(task.id))
                dirtyServices.insert(task.serviceID)
                unplaced.remove(task.id)
                runningSince[task.id] = nil
                mayPlace = true
            case .cluster:
                // The history limit may have changed.
                dirtyServices.formUnion(state.allServices.map(\.id))
                networks.isDirty = true
            case .network(let network), .networkRemoved(let network):
                noteRoom()
                networks.isDirty = true
                // Every service with published ports has to do with it.
                if network.spec.ingress { dirtyServices.formUnion(state.allServices.map(\.id)) }
            }
        }
        if !feed.isEmpty { scheduler.apply(feed) }
    }

    /// A port or an address may be free that somebody waits for.
    private mutating func noteRoom() {
        dirtyServices.formUnion(problems.keys)
        if !networks.waiting.isEmpty { mayPlace = true }
        if networks.lacksMesh { networks.isDirty = true }
    }

    private mutating func noteNode(_ node: Node, _ old: Node?, _ state: some SwarmState) {
        if let old, old.spec == node.spec, old.status.state == node.status.state, old.description == node.description,
            old.status.address == node.status.address
        {
            return
        }
        mayPlace = true
        dirtyServices.formUnion(globalServices)
        for task in state.tasks(onNode: node.id) { dirtyServices.insert(task.serviceID) }
    }

    private mutating func noteTask(_ task: Task) {
        dirtyServices.insert(task.serviceID)
        if Self.waitsForNode(task) { unplaced.insert(task.id) } else { unplaced.remove(task.id) }
        if task.status.state == .running {
            if runningSince[task.id] == nil { runningSince[task.id] = task.status.timestamp }
        } else if task.status.state.isTerminal || !task.isWanted {
            // It may have freed what others wait for.
            mayPlace = true
            if !task.networks.isEmpty, task.status.state.isTerminal { noteRoom() }
        }
    }

    private static func waitsForNode(_ task: Task) -> Bool { task.status.state <= .pending && task.isWanted && !task.isAttachment }

    /// Whether `plan` has something to look at now.
    public func hasWork(now: Timestamp) -> Bool {
        !dirtyServices.isEmpty || (mayPlace && !unplaced.isEmpty) || wakeTimes.values.contains { $0 <= now } || networks.isDirty
            || networks.wakeAt.map { $0 <= now } ?? false
    }

    /// The first time at which there is something to do although nothing happens.
    public var nextWake: Timestamp? { [wakeTimes.values.min(), networks.wakeAt].compactMap { $0 }.min() }

    // MARK: What to do

    /// Plans for everything that changed. The scheduler counts the placements at once; changes that are not applied go to `takeBack`.
    public mutating func plan(_ state: some SwarmState, now: Timestamp) -> Plan {
        for (service, time) in wakeTimes where time <= now { dirtyServices.insert(service) }
        var plan = Plan()
        // A container's place is no service's task.
        let services = dirtyServices.filter { !$0.isEmpty }.sorted()
        dirtyServices = []
        var allocator: PortAllocator?
        var addresses: NetworkAddresses?
        if networks.isDirty || networks.wakeAt.map({ $0 <= now }) ?? false {
            networks.isDirty = false
            let part = planNetworks(state, now: now, &addresses)
            plan.units += part.units
            networks.wakeAt = part.wakeAt
        }
        let ingress = services.isEmpty ? nil : state.ingressNetwork
        for id in services {
            wakeTimes[id] = nil
            guard let stored = state.service(id) else {
                problems[id] = nil
                plan.units += ServicePlanner.planRemoval(ofService: id, in: state).units.filter { $0 != [.deleteService(id)] }
                continue
            }
            let service = allocate(stored, ingress, state, &allocator, &addresses)
            let context = PlanningContext(now: now, runningSince: runningSince, ingress: ingress, makeID: makeID)
            let part = ServicePlanner.plan(service, in: state, context)
            if service != stored, !part.units.contains(where: { $0.contains { if case .updateService = $0 { true } else { false } } }) {
                plan.units.append([.updateService(service, matching: stored.version)])
            }
            plan.units += part.units
            wakeTimes[id] = part.wakeAt
        }
        place(&plan, state, Set(services), now, &addresses)
        plan.wakeAt = nextWake
        return plan
    }

    /// Looks again at what could not be applied, and corrects the scheduler's books.
    public mutating func takeBack(_ changes: [PlannedChange], _ state: some SwarmState) {
        var feed: [SchedulingChange] = []
        for change in changes {
            switch change {
            case .create(let task):
                dirtyServices.insert(task.serviceID)
                if state.task(task.id) == nil { feed.append(.taskRemoved(task.id)) }
            case .updateService(let service, _): dirtyServices.insert(service.id)
            case .deleteService(let id): dirtyServices.insert(id)
            case .assign(let id, _):
                if let task = state.task(id) { feed.append(.task(task)) } else { feed.append(.taskRemoved(id)) }
                fallthrough
            case .address(let id, _), .refuse(let id, _), .desire(let id, _), .promote(let id), .orphan(let id), .explain(let id, _), .delete(let id):
                guard let task = state.task(id) else { continue }
                if task.isAttachment {
                    networks.isDirty = true
                    continue
                }
                dirtyServices.insert(task.serviceID)
                if Self.waitsForNode(task) { unplaced.insert(id) }
                mayPlace = true
            case .mesh, .addNetworkKey: networks.isDirty = true
            }
        }
        if !feed.isEmpty { scheduler.apply(feed) }
    }

    // MARK: Allocation

    /// The service with its ports and its virtual addresses, if it can have them.
    private mutating func allocate(
        _ service: Service, _ ingress: Network?, _ state: some SwarmState, _ allocator: inout PortAllocator?, _ addresses: inout NetworkAddresses?
    ) -> Service {
        guard !service.pendingDelete else { return service }
        let wanted = service.spec.endpoint ?? EndpointSpec()
        var changed = service
        do throws(ApusError) {
            changed.endpoint.ports = []
            if !wanted.ports.isEmpty {
                if allocator == nil { allocator = PortAllocator(state.allServices) }
                changed.endpoint.ports = try allocator?.allocate(service) ?? []
            }
            changed.endpoint.virtualIPs = try virtualIPs(of: service, ingress: ingress, state, &addresses)
        } catch {
            problems[service.id] = error.message
            return service
        }
        changed.endpoint.spec = wanted
        if problems.removeValue(forKey: service.id) != nil { mayPlace = true }
        return changed
    }

    // MARK: Placement

    /// Asks the scheduler for the new tasks of the plan and, when something may have made room, for those that wait.
    private mutating func place(
        _ plan: inout Plan, _ state: some SwarmState, _ services: Set<ID>, _ now: Timestamp, _ addresses: inout NetworkAddresses?
    ) {
        var leaving: Set<ID> = []
        var created: [ID: (unit: Int, index: Int)] = [:]
        var tasks: [Task] = []
        for unit in plan.units.indices {
            for index in plan.units[unit].indices {
                switch plan.units[unit][index] {
                case .create(let task):
                    created[task.id] = (unit, index)
                    tasks.append(task)
                case .desire(let id, _), .delete(let id): leaving.insert(id)
                case .promote, .orphan, .assign, .explain, .updateService, .deleteService, .address, .refuse, .mesh, .addNetworkKey: break
                }
            }
        }
        if mayPlace {
            mayPlace = false
            networks.waiting = []
            tasks += unplaced.sorted().compactMap { id in
                guard !leaving.contains(id), let task = state.task(id), Self.waitsForNode(task) else { return nil }
                return task
            }
        } else {
            tasks += unplaced.sorted().compactMap { id in
                guard !leaving.contains(id), let task = state.task(id), services.contains(task.serviceID), task.status.state == .new else {
                    return nil
                }
                return task
            }
        }
        guard !tasks.isEmpty else { return }
        var answer = ScheduleAnswer()
        var ready: [Task] = []
        var addressed: Set<ID> = []
        for index in tasks.indices {
            let task = tasks[index]
            if let problem = problems[task.serviceID] {
                answer.reasons[task.id] = problem
                continue
            }
            do throws(ApusError) {
                tasks[index].networks = try places(of: task, state, &addresses)
                if tasks[index].networks != task.networks { addressed.insert(task.id) }
                ready.append(tasks[index])
            } catch {
                answer.reasons[task.id] = error.message
                networks.waiting.insert(task.serviceID)
            }
        }
        ask(ready, now, &answer)
        for task in tasks {
            let node = answer.placements[task.id].flatMap { state.node($0) == nil ? nil : $0 }
            let reason = answer.reasons[task.id] ?? "the scheduler did not answer for this task"
            if let place = created[task.id] {
                var task = task
                if let node { PlannedChange.assign(&task, node, now) } else { PlannedChange.explain(&task, reason, now) }
                plan.units[place.unit][place.index] = .create(task)
                continue
            }
            var unit: [PlannedChange] = addressed.contains(task.id) ? [.address(task: task.id, task.networks)] : []
            if let node {
                unit.append(.assign(task: task.id, node: node))
            } else if task.status.error != reason || task.status.state != .pending {
                unit.append(.explain(task: task.id, reason: reason))
            }
            if !unit.isEmpty { plan.units.append(unit) }
        }
    }

    private mutating func ask(_ tasks: [Task], _ now: Timestamp, _ answer: inout ScheduleAnswer) {
        guard !tasks.isEmpty else { return }
        do throws(ApusError) {
            let given = try scheduler.schedule(ScheduleRequest(tasks: tasks, now: now))
            answer.placements = given.placements
            answer.reasons.merge(given.reasons) { first, _ in first }
        } catch {
            for task in tasks { answer.reasons[task.id] = "the scheduler failed: \(error.message)" }
        }
    }
}
