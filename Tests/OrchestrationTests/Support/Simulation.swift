import Fuzzing
import Orchestration
import PluginAPI
import SchedulerSpread
import Synchronization
import Testing

/// A swarm on a virtual clock: the reconciler, a state in memory, and nodes that do what images tell them.
///
/// Images: `steady` runs until it is stopped; `crash` fails at its start; `once` ends well after a second; `fragile-N` fails after N seconds; `missing` is
/// rejected. A node takes a step per task and round, as fast as rounds go; time moves only in `advance`.
struct Simulation {
    var state = MemoryState()
    var reconciler: Reconciler
    var now = Timestamp(nanoseconds: 1_700_000_000_000_000_000)
    var version: UInt64 = 1
    var pending: [SwarmEvent] = []
    /// Nodes that neither act nor report.
    var silent: Set<ID> = []
    /// How long a stop takes.
    var stopTime: Duration = .zero
    /// One planned unit in four is lost on its way to the store, by this generator.
    var losses: SplitMix64?
    private var stopSince: [ID: Timestamp] = [:]
    private var runSince: [ID: Timestamp] = [:]
    /// Every task ever made, in order.
    var created: [Task] = []
    var planCount = 0

    init(nodes: [Node] = [makeNode("n1")], scheduler: any Scheduler = SpreadScheduler(), seed: UInt64 = 1) {
        let generator = Mutex(SplitMix64(seed: seed))
        reconciler = Reconciler(scheduler: scheduler) { generator.withLock { ID.random(using: &$0) } }
        for node in nodes { state.nodes[node.id] = node }
        reconciler.load(state)
    }

    /// A change of the user.
    mutating func change(_ body: (inout MemoryTransaction) -> Void) {
        version += 1
        var transaction = MemoryTransaction(state: state, now: now, version: Version(index: version))
        body(&transaction)
        take(transaction)
    }

    private mutating func take(_ transaction: MemoryTransaction) {
        state = transaction.state
        for case .task(let task, nil) in transaction.events { created.append(task) }
        pending += transaction.events
    }

    @discardableResult
    mutating func add(_ spec: ServiceSpec) -> ID {
        let service = ServiceDraft.create(spec, id: ID(spec.name))
        change { $0.put(service) }
        return service.id
    }

    mutating func update(_ id: ID, _ body: (inout ServiceSpec) -> Void) {
        guard let service = state.services[id] else { return }
        var spec = service.spec
        body(&spec)
        let changed = ServiceDraft.update(service, to: spec)
        change { $0.put(changed) }
    }

    mutating func updateNode(_ id: ID, _ body: (inout Node) -> Void) {
        guard var node = state.nodes[id] else { return }
        body(&node)
        change { $0.put(node) }
    }

    /// Plans and applies until there is nothing more to do at this moment.
    mutating func reconcile() {
        for _ in 0..<1000 {
            let events = pending
            pending = []
            reconciler.note(events, in: state)
            guard reconciler.hasWork(now: now) else { return }
            planCount += 1
            let plan = reconciler.plan(state, now: now)
            guard !plan.isEmpty else { continue }
            version += 1
            var transaction = MemoryTransaction(state: state, now: now, version: Version(index: version))
            var skipped: [PlannedChange] = []
            for unit in plan.units {
                if isLost() {
                    skipped += unit
                    continue
                }
                for change in unit {
                    do throws(ApusError) {
                        if try !change.apply(to: &transaction, now: now) { skipped.append(change) }
                    } catch {
                        skipped.append(change)
                    }
                }
            }
            take(transaction)
            reconciler.takeBack(skipped, state)
        }
        Issue.record("the reconciler does not come to rest")
    }

    private mutating func isLost() -> Bool {
        guard var generator = losses else { return false }
        defer { losses = generator }
        return Int.random(in: 0..<4, using: &generator) == 0
    }

    /// One step of every node; says whether anything moved.
    mutating func stepNodes() -> Bool {
        var moved = false
        for task in state.tasks.values.sorted(by: { $0.id < $1.id }) {
            guard !task.nodeID.isEmpty, task.status.state >= .assigned, !task.status.state.isTerminal, state.nodes[task.nodeID] != nil,
                !silent.contains(task.nodeID), let next = nextState(task)
            else { continue }
            moved = true
            var task = task
            task.status.state = next
            task.status.timestamp = now
            if next == .running { runSince[task.id] = now }
            change { try? $0.update(task) }
        }
        return moved
    }

    private mutating func nextState(_ task: Task) -> TaskState? {
        if task.desiredState > .running {
            let since = stopSince[task.id] ?? now
            stopSince[task.id] = since
            return now - since >= stopTime ? .shutdown : nil
        }
        let image = task.spec.container?.image ?? ""
        switch task.status.state {
        case .assigned: return .accepted
        case .accepted: return .preparing
        case .preparing: return image == "missing" ? .rejected : .ready
        case .ready: return task.desiredState == .running ? .starting : nil
        case .starting: return image == "crash" ? .failed : .running
        case .running:
            let ran = now - (runSince[task.id] ?? now)
            if image == "once" { return ran >= .seconds(1) ? .complete : nil }
            if image.hasPrefix("fragile-"), let seconds = Int(image.dropFirst(8)) { return ran >= .seconds(seconds) ? .failed : nil }
            return nil
        default: return nil
        }
    }

    /// Lets everything happen that happens without time.
    mutating func settle() {
        for _ in 0..<10_000 {
            reconcile()
            if !stepNodes() { return }
        }
        Issue.record("the swarm does not settle")
    }

    /// Lets time pass in steps of half a second.
    mutating func advance(_ duration: Duration) {
        settle()
        var rest = duration
        while rest > .zero {
            let step = min(rest, .milliseconds(500))
            now = now + step
            rest -= step
            settle()
        }
    }

    /// As if the manager had been killed: nothing but the state is left.
    mutating func restartManager(scheduler: any Scheduler = SpreadScheduler(), seed: UInt64 = 99) {
        let generator = Mutex(SplitMix64(seed: seed &+ version))
        reconciler = Reconciler(scheduler: scheduler) { generator.withLock { ID.random(using: &$0) } }
        pending = []
        reconciler.load(state)
    }

    // MARK: What tests look at

    func tasks(_ service: ID) -> [Task] {
        func age(_ task: Task) -> (Timestamp, Int, ID) { (task.createdAt, task.desiredState <= .running ? 1 : 0, task.id) }
        return state.tasks(ofService: service).sorted { age($0) < age($1) }
    }
    func running(_ service: ID) -> [Task] { tasks(service).filter { $0.status.state == .running && $0.desiredState == .running } }
    func slots(_ service: ID) -> [UInt64] { running(service).map(\.slot).sorted() }
    func perNode(_ service: ID) -> [String: Int] { Dictionary(running(service).map { ($0.nodeID.text, 1) }, uniquingKeysWith: +) }
    func service(_ id: ID) -> Service { state.services[id] ?? Service() }

    /// A task ends by itself.
    mutating func end(_ task: Task, _ end: TaskState = .failed) {
        var task = state.tasks[task.id] ?? task
        task.status.state = end
        task.status.timestamp = now
        change { try? $0.update(task) }
    }
}
