import Fuzzing
import Orchestration
import PluginAPI
import SchedulerSpread
import Wire

@testable import Dispatcher

/// The whole manager and its nodes on a virtual clock: store, reconciler, session table, assignment messages, and nodes that run what they are told.
///
/// Containers are the truth: they run on a node whatever the managers think of it.
struct VirtualSwarm {
    struct Machine {
        let id: ID
        var isPlugged = true
        var isEngineUp = true
        var session: ID?
        var set: AssignmentSet
        /// The manager's side of its stream.
        var cursor: AssignmentCursor
        var containers: [ID: Container] = [:]
        var nextBeat: ContinuousClock.Instant
        var nextAttempt: ContinuousClock.Instant
        /// When it could last not be reached.
        var reachableSince: ContinuousClock.Instant
    }

    struct Container {
        var service: ID
        var slot: UInt64
        var status = TaskStatus()
        var reported: TaskStatus?
        var stopAt: ContinuousClock.Instant?
        var isRunning: Bool { status.state == .running }
    }

    static let step = Duration.milliseconds(100)
    static let stopTime = Duration.seconds(1)

    var swarm: Simulation
    var table: SessionTable
    var machines: [ID: Machine] = [:]
    var now: ContinuousClock.Instant
    let start: ContinuousClock.Instant
    var generator: SplitMix64
    /// No manager leads before that.
    var leaderFrom: ContinuousClock.Instant
    /// Since when a slot runs more than once.
    private var doubled: [String: ContinuousClock.Instant] = [:]
    private var sessionNumber = 0
    private(set) var violations: [String] = []

    init(nodes: Int, seed: UInt64) {
        start = .now
        now = start
        leaderFrom = start
        generator = SplitMix64(seed: seed)
        let objects = (1...nodes).map { makeNode("n\($0)") }
        swarm = Simulation(nodes: objects, seed: seed)
        table = SessionTable(now: start)
        table.takeOver(objects, now: start)
        for node in objects {
            machines[node.id] = Machine(
                id: node.id, set: AssignmentSet(node: node.id), cursor: AssignmentCursor(node: node.id), nextBeat: start, nextAttempt: start,
                reachableSince: start)
        }
    }

    var time: Double { Double((now - start).nanoseconds) / 1e9 }

    // MARK: Faults

    mutating func plug(_ node: ID, _ isPlugged: Bool) {
        machines[node]?.isPlugged = isPlugged
        machines[node]?.reachableSince = now
    }

    /// The engine ends, politely or not; its containers go on.
    mutating func stopEngine(_ node: ID, politely: Bool) {
        guard let machine = machines[node], machine.isEngineUp else { return }
        if politely, machine.isPlugged, let session = machine.session { try? table.end(node, session, isLeaving: false, now: now) }
        machines[node]?.isEngineUp = false
        machines[node]?.session = nil
        machines[node]?.reachableSince = now
    }

    mutating func startEngine(_ node: ID) {
        machines[node]?.isEngineUp = true
        machines[node]?.reachableSince = now
    }

    /// Nothing but the store is left; another leader begins a while later.
    mutating func changeLeader() {
        leaderFrom = now + .milliseconds(Int.random(in: 500...3000, using: &generator))
        for id in machines.keys {
            machines[id]?.session = nil
            machines[id]?.reachableSince = leaderFrom
        }
        table = SessionTable(now: leaderFrom)
        table.takeOver(swarm.state.allNodes, now: leaderFrom)
        swarm.restartManager(seed: UInt64.random(in: 0 ... .max, using: &generator))
    }

    // MARK: Time

    mutating func advance(_ duration: Duration) {
        let end = now + duration
        while now < end { tick() }
    }

    mutating func tick() {
        now += Self.step
        swarm.now = swarm.now + Self.step
        for id in machines.keys.sorted() {
            run(id)
            if now >= leaderFrom { talk(id) }
        }
        if now >= leaderFrom {
            for id in table.expire(now: now) where machines[id]?.isPlugged == false { machines[id]?.session = nil }
            for (id, change) in table.takeChanges(limit: 100).sorted(by: { $0.key < $1.key }) {
                guard var node = swarm.state.nodes[id] else { continue }
                change.apply(to: &node, now: swarm.now)
                swarm.change { $0.put(node) }
            }
            swarm.reconcile()
        }
        check()
    }

    /// The machine brings its containers to where they are to be.
    private mutating func run(_ id: ID) {
        guard var machine = machines[id], machine.isEngineUp else { return }
        for task in machine.set.sorted {
            var container = machine.containers[task.id] ?? Container(service: task.serviceID, slot: task.slot, status: task.status)
            if task.status.state.isTerminal || container.status.state.isTerminal {
                machine.containers[task.id] = container
                continue
            }
            if task.desiredState > .running {
                let stopAt = container.stopAt ?? now + Self.stopTime
                container.stopAt = stopAt
                if now >= stopAt { set(&container, .shutdown) }
            } else {
                let next: TaskState? =
                    switch container.status.state {
                    case .assigned: .preparing
                    case .preparing: .ready
                    case .ready: task.desiredState == .running ? .running : nil
                    default: nil
                    }
                if let next { set(&container, next) }
            }
            machine.containers[task.id] = container
        }
        // What is no more is ended and forgotten.
        machine.containers = machine.containers.filter { machine.set.tasks[$0.key] != nil || machine.set.version == 0 }
        machines[id] = machine
    }

    private func set(_ container: inout Container, _ state: TaskState) {
        container.status.state = state
        container.status.timestamp = swarm.now
    }

    /// One round of the node with the leader.
    private mutating func talk(_ id: ID) {
        guard var machine = machines[id], machine.isPlugged, machine.isEngineUp, swarm.state.nodes[id] != nil else { return }
        defer { machines[id] = machine }
        do throws(ApusError) {
            guard let session = machine.session else {
                guard now >= machine.nextAttempt else { return }
                machine.nextAttempt = now + .milliseconds(Int.random(in: 100...2000, using: &generator))
                sessionNumber += 1
                let new = ID("session\(sessionNumber)")
                try table.register(id, session: new, address: "192.0.2.1", description: makeNode(id.text).description, now: now)
                machine.session = new
                machine.nextBeat = now + .seconds(5)
                machine.cursor = AssignmentCursor(node: id)
                machine.set = AssignmentSet(node: id)
                for task in machine.containers.keys { machine.containers[task]?.reported = nil }
                for message in machine.cursor.full(swarm.state) { _ = try machine.set.apply(message) }
                return
            }
            try table.check(id, session)
            if now >= machine.nextBeat { machine.nextBeat = now + (try table.heartbeat(id, session, now: now, using: &generator)) }
            var news = Mailbox<ID>.News()
            news.keys = Set(machine.set.tasks.keys).union(swarm.state.tasks(onNode: id).map(\.id))
            for message in machine.cursor.changes(news, swarm.state) { _ = try machine.set.apply(message) }
            let statuses = machine.containers.filter { $0.value.reported != $0.value.status }.map { ($0.key, $0.value.status) }
            for (task, status) in statuses { machine.containers[task]?.reported = status }
            if !statuses.isEmpty { swarm.change { _ = try? StatusReports.apply(statuses, to: &$0) } }
        } catch {
            machine.session = nil
        }
    }

    // MARK: What must hold

    /// How often a slot really runs, and where.
    func running() -> [String: [ID]] {
        var running: [String: [ID]] = [:]
        for machine in machines.values {
            for container in machine.containers.values where container.isRunning {
                running["\(container.service)/\(container.slot)", default: []].append(machine.id)
            }
        }
        return running
    }

    private mutating func check() {
        let slots = running().filter { $0.value.count > 1 }
        doubled = doubled.filter { slots[$0.key] != nil }
        for (slot, nodes) in slots {
            let since = doubled[slot] ?? now
            doubled[slot] = since
            guard nodes.allSatisfy({ machines[$0].map { $0.isPlugged && $0.isEngineUp } ?? false }) else { continue }
            let healed = nodes.compactMap { machines[$0]?.reachableSince }.max() ?? now
            // Two heartbeats after whatever happened last.
            if now - max(since, healed) > .seconds(10) + Self.stopTime { violations.append("\(slot) runs on \(nodes) at \(time)") }
        }
    }

    /// What is missing or too much, for a swarm that is to be whole.
    func defects() -> [String] {
        let running = running()
        var defects: [String] = []
        for service in swarm.state.allServices {
            let slots = running.filter { $0.key.hasPrefix("\(service.id)/") }
            let wanted = Int(service.spec.mode.replicated?.replicas ?? 0)
            if slots.count != wanted { defects.append("\(service.id) runs in \(slots.count) of \(wanted) slots") }
            for (slot, nodes) in slots where nodes.count > 1 { defects.append("\(slot) runs on \(nodes)") }
        }
        return defects
    }
}
