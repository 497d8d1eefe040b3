/// The books of a scheduler: nodes, what they carry, and what has failed on them.
///
/// A plain value, kept up to date one change at a time in constant time. A scheduler feeds it in `apply`, and asks it in `schedule`:
///
/// ```swift
/// func apply(_ changes: [SchedulingChange]) { view.withLock { $0.apply(changes) } }
/// func schedule(_ request: ScheduleRequest) throws(ApusError) -> ScheduleAnswer {
///     view.withLock { view in view.schedule(request) { node, task in NodeRank(node.taskCount(ofService: task.serviceID)) } }
/// }
/// ```
public struct SchedulingView: Sendable {
    /// Dense, so that filters run over an array; a slot without a known node is skipped or used again.
    private(set) var slots: [NodeInfo] = []
    private var slotOfNode: [ID: Int] = [:]
    private var freeSlots: [Int] = []
    /// Records that name a slot; a slot is kept as long as its node is known or a record names it.
    private var references: [Int] = []
    private var records: [ID: TaskRecord] = [:]
    /// Which slots have tasks of a service, and how many.
    private var slotsOfService: [ID: [Int: Int]] = [:]

    public init() {}

    /// The nodes that are known, in no order.
    public var nodes: [NodeInfo] { slots.filter(\.facts.isKnown) }

    /// `nil` for a node that no change has brought.
    public func node(_ id: ID) -> NodeInfo? {
        guard let slot = slotOfNode[id], slots[slot].facts.isKnown else { return nil }
        return slots[slot]
    }

    /// In their order.
    public mutating func apply(_ changes: [SchedulingChange]) {
        for change in changes { apply(change) }
    }

    /// A node or task that is new, other, or gone.
    public mutating func apply(_ change: SchedulingChange) {
        switch change {
        case .reset: self = SchedulingView()
        case .node(let node): update(node)
        case .nodeRemoved(let id): removeNode(id)
        case .task(let task): record(TaskRecord(task), of: task.id)
        case .taskRemoved(let id): record(nil, of: id)
        }
    }

    /// Counts a task as placed on a node, before the change that says so arrives.
    ///
    /// When the placement does not come true, the host feeds the task as it is, and that takes it back.
    public mutating func place(_ task: Task, on node: ID) {
        record(TaskRecord(task, placedOn: node), of: task.id)
    }

    func slot(of node: ID) -> Int? { slotOfNode[node] }
    func slots(ofService service: ID) -> [Int: Int] { slotsOfService[service] ?? [:] }

    private mutating func update(_ node: Node) {
        let slot = makeSlot(node.id)
        var info = NodeInfo(facts: NodeFacts(node, isKnown: true))
        swap(&info, &slots[slot])
        slots[slot].taskCount = info.taskCount
        slots[slot].reservedNanoCPUs = info.reservedNanoCPUs
        slots[slot].reservedMemoryBytes = info.reservedMemoryBytes
        swap(&slots[slot].serviceTasks, &info.serviceTasks)
        swap(&slots[slot].hostPorts, &info.hostPorts)
        swap(&slots[slot].failures, &info.failures)
    }

    private mutating func removeNode(_ id: ID) {
        guard let slot = slotOfNode[id] else { return }
        var unknown = Node()
        unknown.id = id
        let old = slots[slot]
        slots[slot] = NodeInfo(facts: NodeFacts(unknown, isKnown: false))
        slots[slot].taskCount = old.taskCount
        slots[slot].reservedNanoCPUs = old.reservedNanoCPUs
        slots[slot].reservedMemoryBytes = old.reservedMemoryBytes
        slots[slot].serviceTasks = old.serviceTasks
        slots[slot].hostPorts = old.hostPorts
        if references[slot] == 0 { release(slot) }
    }

    // MARK: Tasks

    private mutating func record(_ new: TaskRecord?, of id: ID) {
        let old = records[id]
        if let new, let slot = new.node.map({ makeSlot($0) }) {
            references[slot] += 1
            count(new, in: slot, 1)
            if new.failedAt != nil, old?.failedAt == nil, let time = new.failedAt {
                slots[slot].recordFailure(of: new.version, at: time)
            }
        }
        if let old, let slot = old.node.flatMap({ slotOfNode[$0] }) {
            count(old, in: slot, -1)
            references[slot] -= 1
            if references[slot] == 0, !slots[slot].facts.isKnown { release(slot) }
        }
        records[id] = new
    }

    private mutating func count(_ record: TaskRecord, in slot: Int, _ sign: Int) {
        if record.occupies {
            slots[slot].reservedNanoCPUs += record.nanoCPUs * Int64(sign)
            slots[slot].reservedMemoryBytes += record.memoryBytes * Int64(sign)
            for port in record.hostPorts {
                let held = (slots[slot].hostPorts[port] ?? 0) + sign
                slots[slot].hostPorts[port] = held == 0 ? nil : held
            }
        }
        if record.counts {
            slots[slot].taskCount += sign
            let service = record.version.service
            let tasks = slots[slot].taskCount(ofService: service) + sign
            slots[slot].serviceTasks[service] = tasks == 0 ? nil : tasks
            slotsOfService[service, default: [:]][slot] = tasks == 0 ? nil : tasks
            if slotsOfService[service]?.isEmpty == true { slotsOfService[service] = nil }
        }
    }

    // MARK: Slots

    private mutating func makeSlot(_ id: ID) -> Int {
        if let slot = slotOfNode[id] { return slot }
        var unknown = Node()
        unknown.id = id
        let info = NodeInfo(facts: NodeFacts(unknown, isKnown: false))
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            slots[slot] = info
        } else {
            slot = slots.count
            slots.append(info)
            references.append(0)
        }
        slotOfNode[id] = slot
        return slot
    }

    private mutating func release(_ slot: Int) {
        slotOfNode[slots[slot].id] = nil
        slots[slot] = NodeInfo(facts: NodeFacts(Node(), isKnown: false))
        freeSlots.append(slot)
    }
}

/// What the books keep of a task.
struct TaskRecord: Sendable {
    let node: ID?
    let version: ServiceVersion
    /// Holds its reservation and its ports: placed, and not ended.
    let occupies: Bool
    /// Counts as one of the service's tasks: occupies, and is to run.
    let counts: Bool
    let nanoCPUs: Int64
    let memoryBytes: Int64
    let hostPorts: [HostPort]
    let failedAt: Timestamp?

    init(_ task: Task, placedOn chosen: ID? = nil) {
        let isPlaced = chosen != nil || (!task.nodeID.isEmpty && task.status.state >= .assigned)
        node = isPlaced ? chosen ?? task.nodeID : nil
        version = ServiceVersion(task)
        occupies = isPlaced && !task.status.state.isTerminal
        counts = occupies && task.desiredState <= .complete
        nanoCPUs = task.spec.resources?.reservations?.nanoCPUs ?? 0
        memoryBytes = task.spec.resources?.reservations?.memoryBytes ?? 0
        hostPorts = task.ports.isEmpty ? [] : task.ports.compactMap { HostPort($0) }
        failedAt = task.status.state == .failed || task.status.state == .rejected ? task.status.timestamp : nil
    }
}
