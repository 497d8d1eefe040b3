import PluginAPI
import Wire

/// What one node has been told of endpoints, and the messages that bring it up to date.
///
/// It keeps the index as it was then, which costs what has changed since.
struct EndpointCursor {
    typealias News = Mailbox<EndpointKey>.News

    /// What a node is to be told.
    struct Update {
        /// None: it knows everything already.
        var messages: [EndpointsMessage] = []
        /// Tasks that served for the node before, and do not any more.
        var stopped: Set<ID> = []
    }

    /// Bytes of a message, about; the transport takes four times as much.
    static var sizeLimit: Int { 1 << 20 }

    let node: ID
    /// Of what was told last.
    private(set) var version: UInt64
    private(set) var checksum: UInt64 = 0
    private var index = EndpointIndex()
    private var networks: [ID: UInt64] = [:]
    /// Entries that were compared since the beginning.
    private(set) var comparisons = 0

    /// - Parameter version: the last one that the session has used.
    init(node: ID, version: UInt64 = 0) {
        self.node = node
        self.version = version
    }

    /// Whether the node knows of the task.
    func knows(task: ID) -> Bool { index.item(task: task, in: Set(networks.keys)) != nil }

    /// The whole table.
    mutating func full(_ index: EndpointIndex, withdrawn: Set<ID> = []) -> Update {
        checksum = 0
        self.index = EndpointIndex()
        networks = [:]
        return update(News(isEverything: true), index, withdrawn, isFull: true)
    }

    /// What the news come to. The index must have what the news speak of.
    /// - Parameter withdrawn: tasks of this node that nobody sends anything to any more.
    mutating func changes(_ news: News, _ index: EndpointIndex, withdrawn: Set<ID> = []) -> Update { update(news, index, withdrawn, isFull: false) }

    private mutating func update(_ news: News, _ new: EndpointIndex, _ withdrawn: Set<ID>, isFull: Bool) -> Update {
        let (old, oldNetworks) = (index, networks)
        index = new
        networks = new.networks(of: node)
        let (before, after) = (Set(oldNetworks.keys), Set(networks.keys))
        var keys = news.isEverything ? old.keys(in: before, for: node).union(new.keys(in: after, for: node)) : news.keys
        if old.knowsAllNodes(node) != new.knowsAllNodes(node) { keys.formUnion(old.nodeKeys(for: node).union(new.nodeKeys(for: node))) }
        for network in before.union(after) where oldNetworks[network] != networks[network] {
            keys.formUnion(old.keys(in: network))
            keys.formUnion(new.keys(in: network))
        }
        comparisons += keys.count
        var update = Update()
        var batch = EndpointBatch()
        for key in keys {
            switch key.kind {
            case .node: compare(old.item(node: key.id, for: node), new.item(node: key.id, for: node), key, \.nodes, &batch)
            case .network: compare(old.item(network: key.id, in: before), new.item(network: key.id, in: after), key, \.networks, &batch)
            case .service: compare(old.item(service: key.id, in: before), new.item(service: key.id, in: after), key, \.services, &batch)
            case .task:
                let (was, now) = (old.item(task: key.id, in: before), new.item(task: key.id, in: after))
                compare(was, now, key, \.tasks, &batch)
                if was?.entry.isServing ?? false, !(now?.entry.isServing ?? false) { update.stopped.insert(key.id) }
            }
        }
        guard isFull || !batch.isEmpty || !withdrawn.isEmpty else { return update }
        batch.add(withdrawn: withdrawn)
        update.messages = finish(batch, isFull)
        return update
    }

    private mutating func compare<Entry>(
        _ old: EndpointIndex.Item<Entry>?, _ new: EndpointIndex.Item<Entry>?, _ key: EndpointKey, _ list: WritableKeyPath<EndpointsMessage, [Entry]>,
        _ batch: inout EndpointBatch
    ) {
        guard old?.digest != new?.digest else { return }
        checksum = checksum &- (old?.digest.hash ?? 0) &+ (new?.digest.hash ?? 0)
        if let new { batch.add(new.entry, new.digest.size, to: list) } else { batch.remove(key) }
    }

    private mutating func finish(_ batch: EndpointBatch, _ isFull: Bool) -> [EndpointsMessage] {
        let base = version
        version += 1
        var messages = batch.messages
        for index in messages.indices {
            messages[index].isFull = isFull
            messages[index].appliesTo = isFull ? 0 : base
            messages[index].resultsIn = version
            messages[index].part = UInt64(index)
            messages[index].hasMore = index + 1 < messages.count
        }
        messages[messages.count - 1].checksum = checksum
        return messages
    }
}

/// Fills messages up to their size.
private struct EndpointBatch {
    private(set) var messages = [EndpointsMessage()]
    private var size = 0
    private(set) var isEmpty = true

    mutating func add<Entry: EndpointEntry>(_ entry: Entry, _ size: Int, to list: WritableKeyPath<EndpointsMessage, [Entry]>) {
        make(room: size)
        messages[messages.count - 1][keyPath: list].append(entry)
    }

    mutating func remove(_ key: EndpointKey) {
        let text = key.text
        make(room: text.utf8.count)
        messages[messages.count - 1].removed.append(text)
    }

    mutating func add(withdrawn tasks: Set<ID>) {
        for task in tasks.sorted() {
            make(room: task.text.utf8.count)
            messages[messages.count - 1].withdrawn.append(task.text)
        }
    }

    private mutating func make(room: Int) {
        let room = room + 8
        if size > 0, size + room > EndpointCursor.sizeLimit {
            messages.append(EndpointsMessage())
            size = 0
        }
        size += room
        isEmpty = false
    }
}
