import Orchestration
import PluginAPI

/// The tasks of one node as a stream that is drawn from: what changes while nobody asks is seen once.
enum Assignments {
    static func stream(_ store: some SwarmStore, _ node: ID) -> AsyncStream<[Task]> {
        let feed = AssignmentFeed(store: store, node: node)
        return AsyncStream { await feed.next() }
    }

    /// What a node must know of a state, in the order of creation.
    static func tasks(of node: ID, in state: some SwarmState) -> [Task] {
        state.tasks(onNode: node).filter { $0.status.state >= .assigned }.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
    }

    /// What of a task a node acts on. Its own reports are no news to it.
    struct Order: Hashable {
        var desired: TaskState
        var spec: TaskSpec
        var networks: [NetworkAttachment]

        init(_ task: Task) {
            desired = task.desiredState
            spec = task.spec
            networks = task.networks
        }
    }
}

private actor AssignmentFeed<Store: SwarmStore> {
    private let store: Store
    private let node: ID
    private var iterator: AsyncStream<[SwarmEvent]>.Iterator?
    private var sent: [ID: Assignments.Order]?

    init(store: Store, node: ID) {
        self.store = store
        self.node = node
    }

    func next() async -> [Task]? {
        while !ConcurrentTask.isCancelled {
            if iterator == nil { iterator = store.watchEvents().commits.makeAsyncIterator() }
            // Read after the watch began, so that nothing falls between the two.
            let tasks = Assignments.tasks(of: node, in: store.read())
            let orders = Dictionary(tasks.map { ($0.id, Assignments.Order($0)) }) { first, _ in first }
            if orders != sent {
                sent = orders
                return tasks
            }
            await waitForChange()
        }
        return nil
    }

    /// Returns after a commit that may concern the node.
    private func waitForChange() async {
        while !ConcurrentTask.isCancelled {
            guard var iterator else { return }
            let events = await iterator.next(isolation: self)
            self.iterator = iterator
            guard let events else {
                // The watch fell behind: look at everything again. A store that is closed ends every watch, so not at once.
                self.iterator = nil
                try? await ConcurrentTask.sleep(for: .milliseconds(50))
                return
            }
            let isConcerned = events.contains { event in
                switch event {
                case .task(let task, let old):
                    task.nodeID == node && (old.map { $0.status.state < .assigned || $0.desiredState != task.desiredState } ?? true)
                case .taskRemoved(let task): task.nodeID == node
                default: false
                }
            }
            if isConcerned { return }
        }
    }
}
