import Files
import PluginAPI
import Synchronization
import Testing

@testable import Raft

/// Nodes with real folders in one process, and a network between them that can be cut.
final class NodeGroup: Sendable {
    struct State {
        var nodes: [MemberID: RaftNode] = [:]
        var recorders: [MemberID: Recorder] = [:]
        var cut: Set<MemberID> = []
        var snapshots = 0
        var brokenSnapshots = 0
    }

    private final class Link: RaftTransport {
        let group: NodeGroup
        init(_ group: NodeGroup) { self.group = group }

        func send(_ messages: [RaftMessage]) {
            for message in messages { group.target(message)?.receive(message) }
        }

        func sendSnapshot(_ message: RaftMessage, _ chunks: SnapshotChunks) async throws(ApusError) {
            guard let node = group.target(message) else { throw ApusError(.unavailable, "it is away") }
            let isBroken = group.state.withLock { state in
                state.snapshots += 1
                state.brokenSnapshots -= 1
                return state.brokenSnapshots >= 0
            }
            if isBroken {
                // The connection breaks in the middle.
                let half = AsyncThrowingStream<SnapshotChunk, any Error> { continuation in
                    continuation.yield(SnapshotChunk(bytes: [1], endsPiece: false))
                    continuation.finish()
                }
                return try await node.receiveSnapshot(message, chunks: half)
            }
            try await node.receiveSnapshot(message, chunks: chunks)
        }
    }

    let state = Mutex(State())
    let directory: TemporaryDirectory
    private let change: @Sendable (inout RaftConfiguration) -> Void

    init(_ change: @escaping @Sendable (inout RaftConfiguration) -> Void = { _ in }) throws {
        directory = try TemporaryDirectory()
        self.change = change
    }

    func target(_ message: RaftMessage) -> RaftNode? {
        state.withLock { $0.cut.contains(message.from) || $0.cut.contains(message.to) ? nil : $0.nodes[message.to] }
    }

    func path(_ number: UInt64) -> String { "\(directory.path)/\(number)" }

    @discardableResult
    func open(_ number: UInt64, bootstrap: [UInt64]?, files: any StorageFiles = SystemStorageFiles()) async throws -> RaftNode {
        var configuration = RaftConfiguration(
            id: MemberID(number), directory: path(number), bootstrap: bootstrap.map { Membership(voters: Set($0.map { MemberID($0) })) })
        configuration.tick = .milliseconds(10)
        configuration.files = files
        change(&configuration)
        let recorder = Recorder()
        let node = try await RaftNode.open(configuration, stateMachine: recorder, transport: Link(self), logger: silent)
        state.withLock { state in
            state.nodes[MemberID(number)] = node
            state.recorders[MemberID(number)] = recorder
        }
        return node
    }

    func close(_ number: UInt64) async {
        let node = state.withLock { $0.nodes.removeValue(forKey: MemberID(number)) }
        await node?.close()
    }

    func closeAll() async {
        let nodes = state.withLock { state in
            defer { state.nodes = [:] }
            return Array(state.nodes.values)
        }
        for node in nodes { await node.close() }
    }

    func node(_ number: UInt64) throws -> RaftNode { try #require(state.withLock { $0.nodes[MemberID(number)] }) }
    func commands(_ number: UInt64) -> [[UInt8]] { state.withLock { $0.recorders[MemberID(number)] }?.commands ?? [] }

    /// Waits for a condition, a minute at most.
    func wait(_ what: String, _ condition: () throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while try !condition() {
            guard ContinuousClock.now < end else {
                Issue.record("waited in vain: \(what)")
                throw ApusError(.timedOut, what)
            }
            try await ConcurrentTask.sleep(for: .milliseconds(2))
        }
    }

    /// The established leader among those that are not cut off.
    func leader() async throws -> RaftNode {
        var found: RaftNode?
        try await wait("a leader") {
            found = state.withLock { state in
                state.nodes.filter { !state.cut.contains($0.key) && $0.value.nextIndex != nil && $0.value.status.suspension == nil }.values.first
            }
            return found != nil
        }
        return try #require(found)
    }

    /// Proposes until it is applied by whoever leads.
    func propose(_ payload: [UInt8]) async throws {
        while true {
            let node = try await leader()
            guard let position = try? node.propose(payload) else { continue }
            let recorder = try #require(state.withLock { $0.recorders[node.status.id] })
            try await wait("a decision") { node.status.appliedIndex >= position.index || node.status.role != .leader }
            if recorder.commands.contains(payload) { return }
        }
    }
}
