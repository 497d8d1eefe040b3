import PluginAPI
import Wire

/// What a node was told to run, put together from the messages of one stream.
struct AssignmentSet {
    /// More than a node can run.
    static var taskLimit: Int { 100_000 }

    let node: ID
    private(set) var tasks: [ID: Task] = [:]
    /// Of the tasks.
    private(set) var files = AssignedFiles()
    /// 0 before the first full set.
    private(set) var version: UInt64 = 0
    /// The parts of a message that is not complete, gathered.
    private var gathered: AssignmentsMessage?

    init(node: ID) { self.node = node }

    /// Takes a message. Nothing changes before its last part is there.
    /// - Returns: whether the tasks changed.
    /// - Throws: `conflict` when it does not follow on what is there: then the whole is to be asked for again. `tooLarge`.
    mutating func apply(_ message: AssignmentsMessage) throws(ApusError) -> Bool {
        var whole = message
        if message.part == 0 {
            guard gathered == nil else { throw gap("a message begins before the one before it ended") }
        } else {
            guard var begun = gathered, begun.part + 1 == message.part, begun.isFull == message.isFull, begun.appliesTo == message.appliesTo,
                begun.resultsIn == message.resultsIn
            else { throw gap("part \(message.part) does not follow") }
            begun.part = message.part
            begun.tasks += message.tasks
            begun.removedTasks += message.removedTasks
            begun.secrets += message.secrets
            begun.configs += message.configs
            begun.removedSecrets += message.removedSecrets
            begun.removedConfigs += message.removedConfigs
            whole = begun
        }
        guard whole.tasks.count <= Self.taskLimit, whole.removedTasks.count <= Self.taskLimit else {
            throw ApusError(.tooLarge, "the manager assigns more than \(Self.taskLimit) tasks to this node")
        }
        guard message.isFull || (version != 0 && message.appliesTo == version) else {
            throw gap("it applies to set \(message.appliesTo), and this node has \(version)")
        }
        guard message.resultsIn > (message.isFull ? 0 : version) else { throw gap("it results in set \(message.resultsIn)") }
        gathered = message.hasMore ? whole : nil
        guard !message.hasMore else { return false }
        return commit(whole)
    }

    private mutating func commit(_ message: AssignmentsMessage) -> Bool {
        var isChanged = message.isFull
        if message.isFull { tasks = [:] }
        version = message.resultsIn
        files.apply(message)
        // A task of another node would be run twice.
        for task in message.tasks where task.nodeID == node && !task.id.isEmpty {
            tasks[task.id] = task
            isChanged = true
        }
        for id in message.removedTasks where tasks.removeValue(forKey: ID(id)) != nil { isChanged = true }
        return isChanged
    }

    private func gap(_ what: String) -> ApusError {
        ApusError(.conflict, "an assignments message does not follow on the one before (\(what)): the whole set is asked for again")
    }

    /// In the order of creation.
    var sorted: [Task] { tasks.values.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) } }
}
