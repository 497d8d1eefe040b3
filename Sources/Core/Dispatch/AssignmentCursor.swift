import Coding
import Orchestration
import PluginAPI
import Wire

/// What one node has been told, and the messages that bring it up to date.
///
/// It compares with the state as it is, so that it does not matter how changes were gathered or which of them were missed. Of every task
/// that was sent it keeps the id and a digest.
struct AssignmentCursor {
    /// Bytes of a message, about; the transport takes four times as much.
    static var sizeLimit: Int { 1 << 20 }

    let node: ID
    private var sent: [ID: Int] = [:]
    private var files = FileCursor()
    private var version: UInt64 = 0

    init(node: ID) { self.node = node }

    /// The whole set.
    mutating func full(_ state: some SwarmState) -> [AssignmentsMessage] {
        sent = [:]
        files.reset()
        var batch = Batch(isFull: true)
        for task in Assignments.tasks(of: node, in: state) {
            sent[task.id] = Self.digest(task)
            files.put(task)
            batch.add(task)
        }
        batch.add(files.changes(state))
        return finish(batch)
    }

    /// What the news come to; nothing when the node knows it already.
    mutating func changes(_ news: Mailbox<ID>.News, _ state: some SwarmState) -> [AssignmentsMessage] {
        guard !news.isEverything else { return full(state) }
        var batch = Batch(isFull: false)
        let tasks = news.keys.map { ($0, state.task($0)) }.sorted { ($0.1?.createdAt ?? .never, $0.0) < ($1.1?.createdAt ?? .never, $1.0) }
        for (id, task) in tasks {
            guard let task, task.nodeID == node, task.status.state >= .assigned else {
                files.remove(id)
                if sent.removeValue(forKey: id) != nil { batch.remove(id) }
                continue
            }
            files.put(task)
            let digest = Self.digest(task)
            guard sent[id] != digest else { continue }
            sent[id] = digest
            batch.add(task)
        }
        batch.add(files.changes(state))
        return batch.isEmpty ? [] : finish(batch)
    }

    private mutating func finish(_ batch: Batch) -> [AssignmentsMessage] {
        let base = version
        version += 1
        var messages = batch.messages
        for index in messages.indices {
            messages[index].isFull = batch.isFull
            messages[index].appliesTo = batch.isFull ? 0 : base
            messages[index].resultsIn = version
            messages[index].part = UInt64(index)
            messages[index].hasMore = index + 1 < messages.count
        }
        return messages
    }

    /// Of what a node acts on; two that differ are equal once in 2^64.
    private static func digest(_ task: Task) -> Int { Assignments.Order(task).hashValue }
}

/// Fills messages up to their size.
private struct Batch {
    let isFull: Bool
    private(set) var messages = [AssignmentsMessage()]
    private var size = 0
    /// Tasks of one version of a service are about equally large: only the first is measured.
    private var sizes: [Key: Int] = [:]

    private struct Key: Hashable {
        var service: ID
        var version: Version
        var networks: Int
    }

    init(isFull: Bool) { self.isFull = isFull }

    var isEmpty: Bool { size == 0 }

    mutating func add(_ task: Task) {
        let key = Key(service: task.serviceID, version: task.specVersion, networks: task.networks.count)
        let length = sizes[key] ?? ProtobufFields.encode(task).count
        sizes[key] = length
        make(room: length)
        messages[messages.count - 1].tasks.append(task)
    }

    mutating func remove(_ id: ID) {
        make(room: id.text.utf8.count)
        messages[messages.count - 1].removedTasks.append(id.text)
    }

    mutating func add(_ files: FileCursor.Changes) {
        for secret in files.secrets {
            make(room: secret.spec.data.count + 500)
            messages[messages.count - 1].secrets.append(secret)
        }
        for config in files.configs {
            make(room: config.spec.data.count + 500)
            messages[messages.count - 1].configs.append(config)
        }
        for id in files.removedSecrets {
            make(room: id.text.utf8.count)
            messages[messages.count - 1].removedSecrets.append(id.text)
        }
        for id in files.removedConfigs {
            make(room: id.text.utf8.count)
            messages[messages.count - 1].removedConfigs.append(id.text)
        }
    }

    private mutating func make(room: Int) {
        let room = room + 8
        if size > 0, size + room > AssignmentCursor.sizeLimit {
            messages.append(AssignmentsMessage())
            size = 0
        }
        size += room
    }
}
