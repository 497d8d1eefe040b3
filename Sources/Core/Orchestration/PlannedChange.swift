import Allocation
public import PluginAPI

/// One step that a planner decided on.
///
/// Steps say what to do and when it still makes sense, instead of carrying whole objects: a status report that arrives in between does no harm. A step that makes
/// no sense any more is skipped; the commit that made it so calls the planner again.
public enum PlannedChange: Sendable, Hashable {
    case create(Task)
    /// Forward only.
    case desire(task: ID, TaskState)
    /// READY to RUNNING, unless something else is desired by now.
    case promote(task: ID)
    /// The node is gone, or has been down for so long that it will not come back, and so is whatever ran there.
    case orphan(task: ID)
    case assign(task: ID, node: ID)
    /// It waits, and why.
    case explain(task: ID, reason: String)
    case delete(task: ID)
    /// The task gets its addresses; a container's place is taken by it.
    case address(task: ID, [NetworkAttachment])
    /// A container's place cannot be had, and why.
    case refuse(task: ID, reason: String)
    /// The node's addresses in the ingress network; none when there is no such network.
    case mesh(node: ID, [String])
    /// The next key of encrypted networks; of more than three the oldest goes.
    case addNetworkKey(NetworkKey)
    case updateService(Service, matching: Version)
    case deleteService(ID)

    /// The task that it is about.
    public var taskID: ID? {
        switch self {
        case .create(let task): task.id
        case .desire(let id, _), .promote(let id), .orphan(let id), .assign(let id, _), .explain(let id, _), .delete(let id), .address(let id, _),
            .refuse(let id, _):
            id
        case .updateService, .deleteService, .mesh, .addNetworkKey: nil
        }
    }

    /// Applies the step, and says whether it still made sense.
    public func apply(to transaction: inout some SwarmTransaction, now: Timestamp) throws(ApusError) -> Bool {
        switch self {
        case .create(let task):
            guard transaction.task(task.id) == nil, let service = transaction.service(task.serviceID), !service.pendingDelete,
                Self.haveNetworks(task.networks, transaction)
            else { return false }
            try transaction.create(task)
        case .desire(let id, let state):
            guard var task = transaction.task(id), task.desiredState < state else { return false }
            task.desiredState = state
            try transaction.update(task)
        case .promote(let id):
            guard var task = transaction.task(id), task.desiredState == .ready else { return false }
            task.desiredState = .running
            try transaction.update(task)
        case .orphan(let id):
            guard var task = transaction.task(id), !task.status.state.isTerminal else { return false }
            task.status.state = .orphaned
            task.status.timestamp = now
            task.status.message = transaction.node(task.nodeID) == nil ? "the node of the task was removed" : "the node of the task has been down for too long"
            try transaction.update(task)
        case .assign(let id, let node):
            guard var task = transaction.task(id), task.status.state <= .pending, task.desiredState <= .running,
                task.nodeID.isEmpty || task.nodeID == node, transaction.node(node) != nil
            else { return false }
            Self.assign(&task, node, now)
            try transaction.update(task)
        case .explain(let id, let reason):
            guard var task = transaction.task(id), task.status.state <= .pending, task.status.error != reason else { return false }
            Self.explain(&task, reason, now)
            try transaction.update(task)
        case .delete(let id):
            guard transaction.task(id) != nil else { return false }
            try transaction.removeTask(id)
        case .address(let id, let networks):
            guard var task = transaction.task(id), task.status.state <= .pending, task.networks != networks, Self.haveNetworks(networks, transaction)
            else { return false }
            task.networks = networks
            if task.isAttachment {
                task.status.state = .running
                task.status.timestamp = now
                task.status.message = "attached"
                task.status.error = ""
            }
            try transaction.update(task)
        case .refuse(let id, let reason):
            guard var task = transaction.task(id), task.isAttachment, task.status.state == .new else { return false }
            task.status.state = .rejected
            task.status.timestamp = now
            task.status.error = reason
            try transaction.update(task)
        case .mesh(let id, let addresses):
            guard var node = transaction.node(id), node.meshAddresses != addresses else { return false }
            node.meshAddresses = addresses
            try transaction.update(node)
        case .addNetworkKey(let key):
            guard var cluster = transaction.cluster, (cluster.networkKeys.last?.number ?? 0) + 1 == key.number else { return false }
            cluster.networkKeys = (cluster.networkKeys + [key]).suffix(NetworkKey.limit)
            try transaction.update(cluster)
        case .updateService(let service, let version):
            guard let current = transaction.service(service.id), current.version == version else { return false }
            try transaction.update(service, matching: version)
        case .deleteService(let id):
            guard let service = transaction.service(id), service.pendingDelete, transaction.tasks(ofService: id).isEmpty else { return false }
            try transaction.removeService(id)
        }
        return true
    }

    /// A network may have been removed since the plan was made.
    private static func haveNetworks(_ attachments: [NetworkAttachment], _ transaction: some SwarmTransaction) -> Bool {
        attachments.allSatisfy { transaction.network($0.network.id.text)?.id == $0.network.id }
    }

    static func assign(_ task: inout Task, _ node: ID, _ now: Timestamp) {
        task.nodeID = node
        task.status.state = .assigned
        task.status.timestamp = now
        task.status.message = "scheduler assigned task to node"
        task.status.error = ""
    }

    static func explain(_ task: inout Task, _ reason: String, _ now: Timestamp) {
        task.status.state = .pending
        task.status.timestamp = now
        task.status.message = "pending task scheduling"
        task.status.error = reason
    }
}
