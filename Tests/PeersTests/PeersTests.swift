import Coding
import Files
import GRPCCore
import GRPCInProcessTransport
import Logging
import Peers
import PluginAPI
import Raft
import Synchronization
import Testing
import Wire

/// A state machine that is the list of its commands.
private final class Commands: RaftStateMachine {
    let state = Mutex<[[UInt8]]>([])
    var all: [[UInt8]] { state.withLock { $0 } }

    private struct Source: SnapshotSource {
        let commands: [[UInt8]]
        func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError) {
            for command in commands { try sink(command) }
        }
    }

    func apply(_ entries: [LogEntry]) { state.withLock { $0 += entries.filter { $0.kind == .command }.map(\.payload) } }
    func capture() -> any SnapshotSource { Source(commands: all) }
    func restore(_ metadata: SnapshotMetadata, _ chunks: [[UInt8]]) throws(ApusError) { state.withLock { $0 = chunks } }
    func roleChanged(_ change: RaftOutput.RoleChange) {}
    func failed(_ error: ApusError) {}
}

private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Managers in one process, a gRPC server for each pair, so that each call has its caller's identity.
private final class Managers: Sendable {
    struct Pair: Hashable {
        var from: UInt64
        var to: UInt64
    }

    struct Running {
        var node: RaftNode
        var commands: Commands
        var transport: GRPCRaftTransport
    }

    struct State {
        var running: [UInt64: Running] = [:]
        var clients: [Pair: GRPCClient<InProcessTransport.Client>] = [:]
        var servers: [Pair: GRPCServer<InProcessTransport.Server>] = [:]
        var tasks: [Pair: [ConcurrentTask<Void, Never>]] = [:]
    }

    private struct Connector: PeerConnector {
        let managers: Managers
        let from: UInt64
        func client(for member: MemberID) async throws -> any RaftPeer {
            guard let client = managers.client(Pair(from: from, to: member.number)) else { throw ApusError(.unavailable, "it is away") }
            return client
        }
    }

    let state = Mutex(State())
    let directory: String

    init() throws { directory = try Files.makeTemporaryDirectory(prefix: "apus-peers") }

    deinit { try? Files.removeTree(directory) }

    static func nodeID(_ number: UInt64) -> ID { ID("node\(number)") }

    func identity(_ number: UInt64, role: NodeRole = .manager) -> PeerIdentity {
        PeerIdentity(nodeID: Self.nodeID(number), role: role, clusterID: "cluster", serial: "1")
    }

    /// Makes the server of a pair when it is first used.
    func client(_ pair: Pair) -> GRPCClient<InProcessTransport.Client>? {
        state.withLock { state in
            if let client = state.clients[pair] { return client }
            guard let target = state.running[pair.to] else { return nil }
            let (client, server, tasks) = connect(target.node, identity(pair.from))
            state.clients[pair] = client
            state.servers[pair] = server
            state.tasks[pair] = tasks
            return client
        }
    }

    func connect(_ node: RaftNode, _ identity: PeerIdentity?) -> (
        GRPCClient<InProcessTransport.Client>, GRPCServer<InProcessTransport.Server>, [ConcurrentTask<Void, Never>]
    ) {
        let service = RaftService(
            node: node,
            refusal: { peer, member in
                (1...9).contains(member.number) && Self.nodeID(member.number) == peer.nodeID
                    ? nil : ApusError(.permissionDenied, "node \(peer.nodeID) may not speak for member \(member)")
            }, identity: { identity })
        let inProcess = InProcessTransport()
        let server = GRPCServer(transport: inProcess.server, services: [service])
        let client = GRPCClient(transport: inProcess.client)
        let tasks: [ConcurrentTask<Void, Never>] = [
            ConcurrentTask { do { try await server.serve() } catch {} }, ConcurrentTask { do { try await client.runConnections() } catch {} },
        ]
        return (client, server, tasks)
    }

    @discardableResult
    func open(_ number: UInt64, bootstrap: [UInt64]?) async throws -> RaftNode {
        var configuration = RaftConfiguration(
            id: MemberID(number), directory: "\(directory)/\(number)",
            bootstrap: bootstrap.map { Membership(voters: Set($0.map { MemberID($0) })) })
        configuration.tick = .milliseconds(20)
        configuration.snapshotInterval = 20
        configuration.settings.keptEntries = 5
        let transport = GRPCRaftTransport(connector: Connector(managers: self, from: number), logger: silent)
        let commands = Commands()
        let node = try await RaftNode.open(configuration, stateMachine: commands, transport: transport, logger: silent)
        transport.attach(node)
        state.withLock { $0.running[number] = Running(node: node, commands: commands, transport: transport) }
        return node
    }

    /// Ends a manager and its connections, as if its process died.
    func kill(_ number: UInt64) async {
        let (running, tasks) = state.withLock { state -> (Running?, [ConcurrentTask<Void, Never>]) in
            let pairs = state.clients.keys.filter { $0.to == number || $0.from == number }
            var tasks: [ConcurrentTask<Void, Never>] = []
            for pair in pairs {
                tasks += state.tasks.removeValue(forKey: pair) ?? []
                state.clients[pair] = nil
                state.servers[pair] = nil
            }
            return (state.running.removeValue(forKey: number), tasks)
        }
        for task in tasks { task.cancel() }
        await running?.node.close()
        await running?.transport.close()
        for task in tasks { await task.value }
    }

    func closeAll() async {
        for number in state.withLock({ Array($0.running.keys) }) { await kill(number) }
    }

    func node(_ number: UInt64) throws -> RaftNode { try #require(state.withLock { $0.running[number] }).node }
    func commands(_ number: UInt64) -> [[UInt8]] { state.withLock { $0.running[number] }?.commands.all ?? [] }

    func wait(_ what: String, _ condition: () throws -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while try !condition() {
            guard ContinuousClock.now < end else { throw ApusError(.timedOut, "waited in vain: \(what)") }
            try await ConcurrentTask.sleep(for: .milliseconds(5))
        }
    }

    func leader() async throws -> RaftNode {
        var found: RaftNode?
        try await wait("a leader") {
            found = state.withLock { $0.running.values.first { $0.node.nextIndex != nil }?.node }
            return found != nil
        }
        return try #require(found)
    }

    func propose(_ payload: [UInt8]) async throws {
        while true {
            let node = try await leader()
            guard (try? node.propose(payload)) != nil else { continue }
            let end = ContinuousClock.now + .seconds(5)
            while ContinuousClock.now < end {
                if commands(node.status.id.number).contains(payload) { return }
                try await ConcurrentTask.sleep(for: .milliseconds(2))
            }
        }
    }
}

@Suite(.serialized) struct PeersTests {
    private func command(_ number: Int) -> [UInt8] { Array("command \(number)".utf8) }

    @Test func threeManagersAgreeLoseOneAndTakeOthersIn() async throws {
        let managers = try Managers()
        for number in 1...3 as ClosedRange<UInt64> { try await managers.open(number, bootstrap: [1, 2, 3]) }
        for number in 0..<10 { try await managers.propose(command(number)) }
        try await managers.wait("all to be equal") { (1...3).allSatisfy { Set(managers.commands($0)).count == 10 } }
        // A follower's read goes over the wire.
        let leader = try await managers.leader().status.id.number
        try await managers.node(leader % 3 + 1).readBarrier()

        await managers.kill(leader)
        for number in 10..<80 { try await managers.propose(command(number)) }
        // It comes back so late that the log does not reach back to what it has.
        try await managers.open(leader, bootstrap: [1, 2, 3])
        try await managers.wait("the lost one to catch up") { Set(managers.commands(leader)).count == 80 }

        // A fourth joins with nothing, gets a snapshot, and may vote.
        try await managers.open(4, bootstrap: nil)
        try await managers.leader().addLearner(MemberID(4))
        try await managers.leader().promote(MemberID(4))
        try await managers.wait("the joiner") { Set(managers.commands(4)).count == 80 }
        #expect(try await managers.leader().status.members.filter(\.isVoter).count == 4)
        try await managers.leader().transferLeadership(to: MemberID(4))
        #expect(try managers.node(4).status.role == .leader)
        try await managers.propose(command(80))
        try await managers.wait("all to be equal") { (1...4).allSatisfy { Set(managers.commands($0)).count == 81 } }
        await managers.closeAll()
    }

    @Test func onlyManagersMayCallAndOnlyForThemselves() async throws {
        let managers = try Managers()
        let node = try await managers.open(1, bootstrap: [1])
        func attempt(_ identity: PeerIdentity?, from: UInt64, to: UInt64 = 1, _ content: RaftMessage.Content = .timeoutNow) async throws {
            let (client, server, tasks) = managers.connect(node, identity)
            var batch = RaftBatch()
            batch.messages = [RaftPeerMessage(RaftMessage(from: MemberID(from), to: MemberID(to), term: 0, content: content))]
            let sent = batch
            defer {
                client.beginGracefulShutdown()
                server.beginGracefulShutdown()
                for task in tasks { task.cancel() }
            }
            try await client.sendRaft({ write in try await write(sent) }, onEnd: {})
        }
        func refusal(_ identity: PeerIdentity?, from: UInt64, to: UInt64 = 1, _ content: RaftMessage.Content = .timeoutNow) async -> RPCError.Code? {
            do {
                try await attempt(identity, from: from, to: to, content)
                return nil
            } catch { return (error as? RPCError)?.code }
        }
        #expect(await refusal(nil, from: 2) == .unauthenticated)
        #expect(await refusal(managers.identity(2, role: .worker), from: 2) == .permissionDenied)
        #expect(await refusal(managers.identity(20), from: 20) == .permissionDenied)
        #expect(await refusal(managers.identity(3), from: 2) == .permissionDenied)
        #expect(await refusal(managers.identity(2), from: 2, to: 7) == .failedPrecondition)
        let snapshot = SnapshotMetadata(position: LogPosition(index: 100, term: 9), membership: Membership())
        #expect(await refusal(managers.identity(2), from: 2, .installSnapshot(snapshot)) == .invalidArgument)
        #expect(await refusal(managers.identity(2), from: 2) == nil)
        #expect(node.status.role == .leader)
        await managers.closeAll()
    }

    static let messages: [RaftMessage.Content] = [
        .voteRequest(last: LogPosition(index: 3, term: 2), isPreVote: true, isTransfer: false),
        .voteRequest(last: LogPosition(index: 3, term: 2), isPreVote: false, isTransfer: true), .voteResponse(granted: true, isPreVote: false),
        .append(
            previous: LogPosition(index: 7, term: 3),
            entries: [LogEntry(index: 8, term: 4, kind: .command, payload: [1, 2]), LogEntry(index: 9, term: 4, kind: .membership, payload: [])],
            commit: 6, round: .max), .appendAccepted(match: 8, round: 2),
        .appendRejected(previousIndex: 7, hint: LogPosition(index: 5, term: 1), round: 3),
        .installSnapshot(
            SnapshotMetadata(
                position: LogPosition(index: 10, term: 2), membership: Membership(voters: [MemberID(1), MemberID(.max)], learners: [MemberID(3)]))),
        .timeoutNow, .readRequest(id: 9), .readResponse(id: 9, index: 10), .readRejected(id: 9, isBusy: true),
    ]

    @Test(arguments: messages.indices) func messagesSurviveTheWire(_ index: Int) throws {
        let message = RaftMessage(from: MemberID(5), to: MemberID(6), term: 7, content: Self.messages[index])
        let bytes = ProtobufFields.encode(RaftPeerMessage(message))
        #expect(try RaftMessage(ProtobufFields.decode(RaftPeerMessage.self, from: bytes)) == message)
    }

    @Test func strangeMessagesAreRefused() {
        var wire = RaftPeerMessage(RaftMessage(from: MemberID(5), to: MemberID(6), term: 7, content: .timeoutNow))
        wire.kind = 99
        #expect(throws: ApusError.self) { try RaftMessage(wire) }
        wire.kind = 7
        wire.from = 0
        #expect(throws: ApusError.self) { try RaftMessage(wire) }
    }
}
