import PluginAPI
import Raft
import Store
import Synchronization
import Testing

/// A way from one member to another, which can be cut.
private final class Cable: RaftTransport {
    private let target = Mutex<RaftNode?>(nil)

    func lead(to node: RaftNode?) { target.withLock { $0 = node } }

    func send(_ messages: [RaftMessage]) {
        guard let node = target.withLock({ $0 }) else { return }
        for message in messages { node.receive(message) }
    }

    func sendSnapshot(_ message: RaftMessage, _ chunks: SnapshotChunks) async throws(ApusError) {
        guard let node = target.withLock({ $0 }) else { throw ApusError(.unavailable, "the cable is cut") }
        try await node.receiveSnapshot(message, chunks: chunks)
    }
}

@Suite(.timeLimit(.minutes(2))) struct StoreTests {
    @Test func createdObjectsAreStampedReadAndKept() async throws {
        let directory = try TemporaryDirectory()
        let time = Timestamp(nanoseconds: 1_700_000_000_000_000_000)
        let store = try await ObjectStore.open(configuration(directory) { $0.now = { time } })
        let made = try await store.create(makeService("web"))
        #expect(made.version.index > 0)
        #expect(made.createdAt == time)
        #expect(made.updatedAt == time)
        #expect(store.read().service(named: "web") == made)
        #expect(store.read().version == made.version)
        #expect(store.isLeader)
        await store.close()

        let again = try await ObjectStore.open(configuration(directory))
        #expect(again.read().service(named: "web") == made)
        #expect(again.read().version == made.version)
        await again.close()
    }

    @Test func aStaleVersionIsRefused() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let first = try await store.create(makeService("web"))
        var second = first
        second.spec.labels["a"] = "1"
        let changed = second
        try await store.update { transaction throws(ApusError) in try transaction.update(.service(changed), matching: first.version) }
        let now = try #require(store.read().services[first.id])
        #expect(now.version > first.version)
        #expect(now.createdAt == first.createdAt)
        let error = await #expect(throws: ApusError.self) {
            try await store.update { transaction throws(ApusError) in try transaction.update(.service(changed), matching: first.version) }
        }
        #expect(error?.code == .conflict)
        #expect(error?.message.contains("update out of sequence") == true)
        #expect(store.read().services[first.id] == now)
        // Without a version the last writer wins.
        try await store.update { transaction throws(ApusError) in try transaction.update(.service(first)) }
        #expect(store.read().services[first.id]?.spec.labels == [:])
        await store.close()
    }

    @Test func namesOfServicesNetworksSecretsAndConfigsAreUnique() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        func object(_ kind: ObjectKind, _ name: String) -> StoredObject? {
            switch kind {
            case .service: return .service(makeService(name))
            case .network:
                var network = Network()
                network.id = .random()
                network.spec.name = name
                return .network(network)
            case .secret:
                var secret = Secret()
                secret.id = .random()
                secret.spec.name = name
                return .secret(secret)
            case .config:
                var config = Config()
                config.id = .random()
                config.spec.name = name
                return .config(config)
            case .cluster, .node, .task: return nil
            }
        }
        for kind in [ObjectKind.service, .network, .secret, .config] {
            let first = try #require(object(kind, "same"))
            try await store.update { transaction throws(ApusError) in try transaction.create(first) }
            let second = try #require(object(kind, "same"))
            let error = await #expect(throws: ApusError.self) {
                try await store.update { transaction throws(ApusError) in try transaction.create(second) }
            }
            #expect(error?.code == .conflict)
            // The name is free again once its object is gone.
            try await store.update { transaction throws(ApusError) in
                try transaction.remove(kind, first.id)
                try transaction.create(second)
            }
        }
        for _ in 0..<2 {
            var node = Node()
            node.id = .random()
            node.spec.name = "same"
            let made = node
            try await store.update { transaction throws(ApusError) in try transaction.create(.node(made)) }
        }
        #expect(store.read().nodes.count == 2)
        await store.close()
    }

    @Test func aServiceMayBeRenamedAndLeavesItsName() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        var service = try await store.create(makeService("old"))
        service.spec.name = "new"
        let renamed = service
        try await store.update { transaction throws(ApusError) in try transaction.update(.service(renamed)) }
        #expect(store.read().service(named: "old") == nil)
        #expect(store.read().service(named: "new")?.id == service.id)
        try await store.create(makeService("old"))
        let error = await #expect(throws: ApusError.self) {
            try await store.update { transaction throws(ApusError) in
                var again = renamed
                again.spec.name = "old"
                try transaction.update(.service(again))
            }
        }
        #expect(error?.code == .conflict)
        await store.close()
    }

    @Test func thereIsOneCluster() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        for (number, expected) in [(1, nil), (2, ApusError.Code.conflict)] as [(Int, ApusError.Code?)] {
            var code: ApusError.Code?
            do {
                try await store.update { transaction throws(ApusError) in
                    var cluster = Cluster()
                    cluster.id = ID("cluster\(number)")
                    try transaction.create(.cluster(cluster))
                }
            } catch { code = error.code }
            #expect(code == expected)
        }
        #expect(store.read().cluster?.id == "cluster1")
        await store.close()
    }

    @Test func tasksAreFoundByServiceAndNode() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let first = makeTask(of: "s1", on: "n1")
        let second = makeTask(of: "s1")
        try await store.update { transaction throws(ApusError) in
            try transaction.create(.task(first))
            try transaction.create(.task(second))
            #expect(transaction.snapshot.tasks(ofService: "s1").count == 2)
        }
        #expect(store.read().tasks(onNode: "n1").map(\.id) == [first.id])
        #expect(store.read().tasks(onNode: "").isEmpty)
        try await store.update { transaction throws(ApusError) in
            var moved = first
            moved.nodeID = "n2"
            try transaction.update(.task(moved))
        }
        #expect(store.read().tasks(onNode: "n1").isEmpty)
        #expect(store.read().tasks(onNode: "n2").map(\.id) == [first.id])
        try await store.update { transaction throws(ApusError) in try transaction.remove(.task, first.id) }
        #expect(store.read().tasks(ofService: "s1").map(\.id) == [second.id])
        #expect(store.read().tasks(onNode: "n2").isEmpty)
        await store.close()
    }

    @Test func aTransactionThatThrowsOrChangesNothingLeavesNoTrace() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let service = try await store.create(makeService("web"))
        let error = await #expect(throws: ApusError.self) {
            try await store.update { transaction throws(ApusError) in
                try transaction.create(.service(makeService("other")))
                throw ApusError(.invalidArgument, "no")
            }
        }
        #expect(error?.message == "no")
        try await store.update { transaction throws(ApusError) in
            let passing = makeService("passing")
            try transaction.create(.service(passing))
            try transaction.remove(.service, passing.id)
        }
        #expect(store.read().version == service.version)
        #expect(store.read().services.count == 1)
        let missing = await #expect(throws: ApusError.self) {
            try await store.update { transaction throws(ApusError) in try transaction.remove(.service, "nothing") }
        }
        #expect(missing?.code == .notFound)
        await store.close()
    }

    @Test func aTransactionOfMoreThanOneMebibyteIsRefused() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        let error = await #expect(throws: ApusError.self) {
            try await store.update { transaction throws(ApusError) in
                for number in 0..<2 {
                    var config = Config()
                    config.id = .random()
                    config.spec.name = "large\(number)"
                    config.spec.data = [UInt8](repeating: 1, count: 600_000)
                    try transaction.create(.config(config))
                }
            }
        }
        #expect(error?.code == .tooLarge)
        #expect(store.read().configs.isEmpty)
        // The store goes on.
        try await store.create(makeService("web"))
        await store.close()
        let again = try await ObjectStore.open(configuration(directory))
        #expect(again.read().services.count == 1)
        #expect(again.read().configs.isEmpty)
        await again.close()
    }

    @Test func aClosedStoreRefusesWrites() async throws {
        let directory = try TemporaryDirectory()
        let store = try await ObjectStore.open(configuration(directory))
        await store.close()
        let error = await #expect(throws: ApusError.self) { try await store.create(makeService("web")) }
        #expect(error?.code == .unavailable)
        #expect(await store.failure().code == .unavailable)
    }

    /// As when an engine is told to end that leads, and has just lost the others.
    @Test func whatNobodyDecidesIsNotWaitedForAfterTheEnd() async throws {
        let directories = [try TemporaryDirectory(), try TemporaryDirectory()]
        let (forth, back) = (Cable(), Cable())
        let store = try await ObjectStore.open(configuration(directories[0]) { $0.transport = forth })
        let other = try await ObjectStore.open(
            configuration(directories[1]) {
                $0.transport = back
                $0.isJoining = true
            })
        forth.lead(to: other.raft)
        back.lead(to: store.raft)
        try await store.raft.addLearner(other.memberID)
        try await store.raft.promote(other.memberID)
        try await store.create(makeService("decided"))
        forth.lead(to: nil)
        back.lead(to: nil)
        let next = store.raft.nextIndex
        let waiting = ConcurrentTask { try await store.create(makeService("undecided")) }
        while store.raft.nextIndex == next { try await ConcurrentTask.sleep(for: .milliseconds(1)) }
        await store.close()
        let error = await #expect(throws: ApusError.self) { _ = try await waiting.value }
        #expect(error?.code == .unavailable)
        await other.close()
    }
}
