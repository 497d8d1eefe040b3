import Logging
import Orchestration
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Dispatcher

/// The table of endpoints on its way, between managers and nodes over gRPC in one process.
@Suite(.timeLimit(.minutes(3))) struct EndpointStreamTests {
    private static let nodes = ["n1", "n2", "n3"]

    private func makeSwarm() throws -> MemorySwarm {
        let store = try makeStore(Self.nodes.map { makeNode($0) })
        try store.commit { transaction throws(ApusError) in
            transaction.put(makeNetwork("ingress", ingress: true))
            transaction.put(makeNetwork("front"))
            transaction.put(makeService("web", in: ["front"], ports: [makePort(80, 8080)]))
            for node in Self.nodes { try transaction.create(placed("web-\(node)", node: node, in: ["front", "ingress"])) }
        }
        return store
    }

    private func put(_ store: MemorySwarm, _ task: ID, _ change: (inout Task) -> Void) throws {
        try store.commit { transaction throws(ApusError) in
            guard var stored = transaction.state.tasks[task] else { throw ApusError(.notFound, "no task \(task)") }
            change(&stored)
            try transaction.update(stored)
        }
    }

    private func isEqual(_ remote: RemoteDispatcher, _ store: MemorySwarm, _ node: ID) -> Bool {
        remote.endpointTable == EndpointTable.of(store.read(), node: node)
    }

    private func runs(_ remotes: [RemoteDispatcher]) -> [@Sendable () async -> Void] { remotes.map { remote in { @Sendable in await remote.run() } } }

    /// An agent that puts every table in force at once.
    private func confirming(_ remote: RemoteDispatcher) -> @Sendable () async -> Void {
        { for await update in remote.endpoints() { remote.confirm(update) } }
    }

    @Test func everyNodeFollowsTheStore() async throws {
        let store = try makeSwarm()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let remotes = Self.nodes.map { (ID($0), makeRemote(ID($0), cables)) }
        func areEqual() -> Bool { remotes.allSatisfy { isEqual($0.1, store, $0.0) } }
        try await running([{ await manager.sessions.run() }] + runs(remotes.map(\.1))) {
            #expect(await eventually { areEqual() })
            #expect(remotes[0].1.endpointTable?.tasks.count == 3)
            // A watch that breaks.
            try put(store, "web-n1") { $0.status.health = .unhealthy }
            store.dropWatchers()
            #expect(await eventually { areEqual() })
            try store.commit { transaction throws(ApusError) in
                transaction.put(makeNetwork("back"))
                try transaction.create(placed("db", node: "n3", in: ["back"], service: "web"))
            }
            #expect(await eventually { areEqual() })
            #expect(remotes[2].1.endpointTable?.networks["back"] != nil && remotes[0].1.endpointTable?.networks["back"] == nil)
            // Many changes at once.
            for round in 0..<20 {
                try store.commit { transaction throws(ApusError) in
                    for number in 0..<20 { try transaction.create(placed("t\(round)-\(number)", node: "n\(number % 3 + 1)", in: ["front"])) }
                }
            }
            #expect(await eventually { areEqual() })
            #expect(remotes[0].1.endpointTable?.tasks.count == 403)
        }
    }

    /// Tasks move on both sides while a node is cut off, and another manager leads in the end; then it is as everybody else.
    @Test func afterAPartitionEverythingIsEqualAgain() async throws {
        let store = try makeSwarm()
        let (first, second) = (TestManager(store, leader: { "m2" }), TestManager(store))
        let cables = Cables()
        cables.add("m1", first.service)
        cables.add("m2", second.service)
        let remotes = Self.nodes.map { (ID($0), makeRemote(ID($0), cables, managers: ["m1", "m2"])) }
        func areEqual() -> Bool { remotes.allSatisfy { isEqual($0.1, store, $0.0) } }
        let seen = Follower<EndpointUpdate>()
        try await running(runs(remotes.map(\.1)) + [{ await seen.follow(remotes[0].1.endpoints()) }]) {
            try await running([{ await first.sessions.run() }]) {
                #expect(await eventually { areEqual() })
                cables.unplug("m1")
                let before = remotes[0].1.endpointTable
                for number in 0..<50 {
                    try store.commit { transaction throws(ApusError) in
                        try transaction.create(placed("new\(number)", node: "n\(number % 3 + 1)", in: number % 2 == 0 ? ["front"] : ["ingress"]))
                    }
                }
                try store.commit { transaction throws(ApusError) in
                    try transaction.removeTask("web-n1")
                    transaction.put(makeNode("n1", state: .down))
                    transaction.put(makeService("other", in: ["front"], ports: [makePort(90, 9090)]))
                }
                #expect(remotes[0].1.endpointTable == before, "the last table stands")
                cables.plug("m1")
                #expect(await eventually { areEqual() })
            }
            try put(store, "web-n2") { $0.desiredState = .shutdown }
            try store.commit { transaction throws(ApusError) in try transaction.removeTask("web-n3") }
            try await running([{ await second.sessions.run() }]) {
                #expect(await eventually { second.sessions.sessionCount == 3 && areEqual() })
            }
        }
        #expect(seen.all.allSatisfy { !$0.table.nodes.isEmpty }, "no moment without a table")
    }

    @Test func aTaskIsWithdrawnWhenEveryNodeHasConfirmed() async throws {
        let store = try makeSwarm()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let remotes = Self.nodes.map { makeRemote(ID($0), cables) }
        let withdrawn = Follower<Set<ID>>()
        let slow = Follower<EndpointUpdate>()
        try await running(
            [
                { await manager.sessions.run() }, confirming(remotes[0]), confirming(remotes[1]), { await slow.follow(remotes[2].endpoints()) },
                { await withdrawn.follow(remotes[0].withdrawn()) },
            ] + runs(remotes)
        ) {
            #expect(await eventually { remotes.allSatisfy { $0.endpointTable?.tasks.count == 3 } })
            if let last = slow.last { remotes[2].confirm(last) }
            try put(store, "web-n1") { $0.desiredState = .shutdown }
            #expect(await eventually { remotes.allSatisfy { $0.endpointTable?.tasks["web-n1"]?.isServing == false } })
            #expect(await eventually { slow.last?.table.tasks["web-n1"]?.isServing == false })
            // The third agent has not put it in force.
            try await ConcurrentTask.sleep(for: .milliseconds(300))
            #expect(withdrawn.last == [])
            if let last = slow.last { remotes[2].confirm(last) }
            #expect(await eventually { withdrawn.last == ["web-n1"] })

            // A node that is gone does not count. What was told stays true until the task has ended.
            try put(store, "web-n2") { $0.desiredState = .shutdown }
            #expect(await eventually { slow.last?.table.tasks["web-n2"]?.isServing == false })
            await remotes[2].end(isLeaving: false)
            let second = Follower<Set<ID>>()
            try await running([{ await second.follow(remotes[1].withdrawn()) }]) {
                #expect(await eventually { second.last == ["web-n2"] })
            }
            try put(store, "web-n1") { $0.status.state = .shutdown }
            try store.commit { transaction throws(ApusError) in try transaction.removeTask("web-n1") }
            #expect(await eventually { withdrawn.last == [] })
        }
    }

    @Test func aNewLeaderSaysItAgain() async throws {
        let store = try makeSwarm()
        let (first, second) = (TestManager(store, leader: { "m2" }), TestManager(store))
        let cables = Cables()
        cables.add("m1", first.service)
        cables.add("m2", second.service)
        let remotes = Self.nodes.map { makeRemote(ID($0), cables, managers: ["m1", "m2"]) }
        let withdrawn = Follower<Set<ID>>()
        let slow = Follower<EndpointUpdate>()
        try await running(
            [confirming(remotes[0]), confirming(remotes[1]), { await slow.follow(remotes[2].endpoints()) }, { await withdrawn.follow(remotes[0].withdrawn()) }]
                + runs(remotes)
        ) {
            try await running([{ await first.sessions.run() }]) {
                #expect(await eventually { remotes.allSatisfy { $0.endpointTable?.tasks.count == 3 } })
                try put(store, "web-n1") { $0.desiredState = .shutdown }
                #expect(await eventually { slow.last?.table.tasks["web-n1"]?.isServing == false })
            }
            #expect(withdrawn.last == [])
            try await running([{ await second.sessions.run() }]) {
                #expect(await eventually { second.sessions.sessionCount == 3 })
                #expect(withdrawn.last == [])
                let confirming = confirming(remotes[2])
                try await running([confirming]) { #expect(await eventually { withdrawn.last == ["web-n1"] }) }
            }
        }
    }

    /// A manager whose tables are not what it says they are.
    private struct Liar: DispatcherClient {
        let asked = Count()

        func session(_ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void) async throws(DispatcherFailure) {
            var message = SessionMessage()
            message.sessionID = "s"
            do {
                try await receive(message)
                while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
            } catch { throw DispatcherFailure(error) }
        }

        func endpoints(_ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void) async throws(DispatcherFailure) {
            let attempt = asked.value.withLock { asked in
                asked += 1
                return asked
            }
            var message = EndpointsMessage()
            message.isFull = true
            message.resultsIn = 1
            message.nodes = [EndpointNode(makeNode("n1"))]
            var table = EndpointTable()
            table.nodes["n1"] = message.nodes[0]
            message.checksum = table.checksum
            do {
                try await receive(message)
                message.isFull = false
                message.appliesTo = 1
                message.resultsIn = 2
                message.nodes = [EndpointNode(makeNode("n2"))]
                if attempt <= 3 { message.checksum = 1 } else { message.checksum &+= EndpointChecksum.digest(message.nodes[0]).hash }
                try await receive(message)
                while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
            } catch { throw DispatcherFailure(error) }
        }

        func assignments(
            _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
        ) async throws(DispatcherFailure) {
            do { while true { try await ConcurrentTask.sleep(for: .seconds(60)) } } catch { throw DispatcherFailure(error) }
        }

        func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse { HeartbeatResponse() }
        func logs(_ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void) async throws(DispatcherFailure) {}
        func publishLogs(
            _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
        ) async throws(DispatcherFailure) {}
        func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure) {}
    }

    private final class Count: Sendable {
        let value = Mutex(0)
    }

    @Test func aWrongChecksumIsHealedByTheWhole() async throws {
        let liar = Liar()
        var configuration = RemoteDispatcherConfiguration()
        configuration.shortestPause = .milliseconds(5)
        let remote = RemoteDispatcher(
            node: "n1", managers: ["m1"], address: "", describe: { NodeDescription() }, connect: { _, use in await use(liar) },
            configuration: configuration, logger: quiet)
        try await running([{ await remote.run() }]) {
            #expect(await eventually { remote.endpointTable?.nodes.count == 2 })
            #expect(liar.asked.value.withLock { $0 } == 4)
        }
    }

    @Test func strangersAreRefused() async throws {
        let store = try makeSwarm()
        let manager = TestManager(store)
        try await running([{ await manager.sessions.run() }]) {
            #expect(await eventually { manager.sessions.isLeading })
            for identity in [nil, peer("n1", cluster: "another"), peer("unheard"), peer("n1")] {
                await #expect(throws: ApusError.self) { try await manager.sessions.serveEndpoints(EndpointsRequest(), from: identity) { _ in } }
                #expect(throws: ApusError.self) { try manager.sessions.confirmEndpoints(ConfirmEndpointsRequest(), from: identity) }
            }
        }
    }
}
