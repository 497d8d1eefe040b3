import GRPCCore
import Logging
import Orchestration
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Dispatcher

/// Managers and nodes together over gRPC in one process.
@Suite(.timeLimit(.minutes(3))) struct EndToEndTests {
    private func ids(_ follower: Follower<[Task]>) -> [String]? { follower.last?.map(\.id.text).sorted() }

    @Test func aNodeComesAndIsGivenItsTasks() async throws {
        let store = try makeStore()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        var service = Service()
        service.id = "web"
        service.endpoint.ports = [makePort(80, 8080)]
        try store.commit { [service] transaction throws(ApusError) in
            try transaction.create(assigned("a"))
            try transaction.create(assigned("other", node: "n2"))
            transaction.put(service)
        }
        let remote = makeRemote("n1", cables, hostname: "flat")
        let tasks = Follower<[Task]>()
        let ports = Follower<[ID: [PortConfig]]>()
        let news = Follower<SessionNews>()
        try await running([
            { await manager.sessions.run() }, { await remote.run() }, { await tasks.follow(remote.assignments(for: "n1")) },
            { await ports.follow(remote.servicePorts()) }, { await news.follow(remote.news()) },
        ]) {
            #expect(await eventually { ids(tasks) == ["a"] })
            #expect(await eventually { ports.last?["web"]?.first?.publishedPort == 8080 })
            #expect(await eventually { store.read().node("n1")?.status.state == .ready })
            #expect(store.read().node("n1")?.status.address == "192.0.2.9")
            #expect(store.read().node("n1")?.description.hostname == "flat")
            #expect(await eventually { news.last?.connection == .connected("m1") })
            #expect(news.last?.message?.trustRoots == Array("root one".utf8))

            try store.commit { transaction throws(ApusError) in try transaction.create(assigned("b")) }
            #expect(await eventually { ids(tasks) == ["a", "b"] })
            try store.commit { transaction throws(ApusError) in try transaction.removeTask("a") }
            #expect(await eventually { ids(tasks) == ["b"] })
            // The watch breaks, and nothing is missed.
            try store.commit { transaction throws(ApusError) in try transaction.create(assigned("c")) }
            store.dropWatchers()
            #expect(await eventually { ids(tasks) == ["b", "c"] })
            try store.commit { transaction throws(ApusError) in try transaction.removeService("web") }
            #expect(await eventually { ports.last?.isEmpty == true })

            try await remote.report(["b": status(.running), "gone": status(.running)])
            #expect(store.read().task("b")?.status.state == .running)

            // What the user says of the node, and the roots.
            try store.commit { transaction throws(ApusError) in
                var node = transaction.state.nodes["n1"] ?? Node()
                node.spec.role = .manager
                transaction.put(node)
                var cluster = transaction.state.cluster ?? Cluster()
                cluster.root.certificate = "root two"
                transaction.put(cluster)
            }
            #expect(await eventually { news.last?.message?.node.spec.role == .manager })
            #expect(await eventually { news.last?.message?.trustRoots == Array("root two".utf8) })

            await remote.end(isLeaving: false)
            #expect(await eventually { store.read().node("n1")?.status.state == .disconnected })
        }
        #expect(store.read().node("n2")?.status.state == .unknown, "it never came")
        #expect(!manager.sessions.isLeading)
    }

    @Test func manyChangesComeInFewMessagesAndTheFirstAtOnce() async throws {
        let store = try makeStore()
        let manager = TestManager(store)
        let messages = Mutex<[AssignmentsMessage]>([])
        try await running([{ await manager.sessions.run() }]) {
            #expect(await eventually { manager.sessions.isLeading })
            let session = Mutex<ID>("")
            try await running([
                {
                    try? await manager.sessions.serveSession(SessionRequest(), from: peer("n1")) { message in
                        session.withLock { $0 = message.sessionID }
                    }
                }
            ]) {
                #expect(await eventually { session.withLock { !$0.isEmpty } })
                var request = AssignmentsRequest()
                request.sessionID = session.withLock { $0 }
                try await running([
                    { [request] in
                        try? await manager.sessions.serveAssignments(request, from: peer("n1")) { message in messages.withLock { $0.append(message) } }
                    }
                ]) {
                    #expect(await eventually { messages.withLock { $0.count == 1 } })
                    for number in 0..<1000 { try store.commit { transaction throws(ApusError) in try transaction.create(assigned("t\(number)")) } }
                    #expect(await eventually { messages.withLock { $0.reduce(0) { $0 + $1.tasks.count } == 1000 } })
                    #expect(messages.withLock { $0.count } < 200)
                }
            }
        }
    }

    @Test func strangersAreRefused() async throws {
        let store = try makeStore()
        try store.commit { transaction throws(ApusError) in
            try transaction.create(assigned("mine"))
            try transaction.create(assigned("theirs", node: "n2"))
        }
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        func code(as peer: PeerIdentity?, _ body: @escaping @Sendable (any DispatcherClient) async throws -> Void) async -> ApusError.Code? {
            let code = Mutex<ApusError.Code?>(nil)
            try? await cables.connect(as: peer)("m1") { client in
                do { try await body(client) } catch { code.withLock { $0 = DispatcherFailure(error).error.code } }
            }
            return code.withLock { $0 }
        }
        try await running([{ await manager.sessions.run() }]) {
            #expect(await eventually { manager.sessions.isLeading })
            let limit = Duration.seconds(10)
            let beat: @Sendable (any DispatcherClient) async throws -> Void = { _ = try await $0.heartbeat(HeartbeatRequest(), timeout: limit) }
            #expect(await code(as: nil, beat) == .unauthenticated)
            #expect(await code(as: peer("n1", cluster: "another"), beat) == .permissionDenied)
            #expect(await code(as: peer("unheard"), beat) == .permissionDenied)
            #expect(await code(as: peer("n1"), beat) == .notFound, "without a session")
            for identity in [nil, peer("n1", cluster: "another"), peer("unheard")] {
                #expect(await code(as: identity) { try await $0.session(SessionRequest()) { _ in } } != nil)
                #expect(await code(as: identity) { try await $0.assignments(AssignmentsRequest()) { _ in } } != nil)
                #expect(await code(as: identity) { try await $0.updateTaskStatus(UpdateTaskStatusRequest(), timeout: limit) } != nil)
                #expect(await code(as: identity) { try await $0.updateDescription(UpdateNodeDescriptionRequest(), timeout: limit) } != nil)
                #expect(await code(as: identity) { try await $0.endSession(EndSessionRequest(), timeout: limit) } != nil)
            }
            #expect(store.read().allNodes.allSatisfy { $0.status.state == .unknown || $0.status.state == .ready })

            // With a session, but about what is not its own, or cannot be.
            let session = Mutex<ID>("")
            try await running([
                {
                    try? await manager.sessions.serveSession(SessionRequest(), from: peer("n1")) { message in
                        session.withLock { $0 = message.sessionID }
                    }
                }
            ]) {
                #expect(await eventually { session.withLock { !$0.isEmpty } })
                let id = session.withLock { $0 }
                func report(_ task: ID, _ state: TaskState, as node: ID = "n1") async -> ApusError.Code? {
                    await code(as: peer(node)) { client in
                        var request = UpdateTaskStatusRequest()
                        request.sessionID = id
                        var update = TaskStatusUpdate()
                        update.taskID = task
                        update.status = status(state)
                        request.updates = [update]
                        try await client.updateTaskStatus(request, timeout: limit)
                    }
                }
                #expect(await report("theirs", .running) == .permissionDenied)
                #expect(await report("mine", .orphaned) == .invalidArgument)
                #expect(await report("mine", .new) == .invalidArgument)
                #expect(await report("theirs", .running, as: "n2") == .notFound, "a session of another node")
                #expect(await report("mine", .running) == nil)
                #expect(
                    await code(as: peer("n1")) { client in
                        var request = UpdateNodeDescriptionRequest()
                        request.sessionID = id
                        request.description.hostname = String(repeating: "x", count: 100_000)
                        try await client.updateDescription(request, timeout: limit)
                    } == .invalidArgument)
            }
            #expect(store.read().task("theirs")?.status.state == .assigned)
            #expect(store.read().task("mine")?.status.state == .running)
        }
    }

    @Test func aRemovedNodeIsRefusedAtOnceAndKeepsAsking() async throws {
        let store = try makeStore()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let remote = makeRemote("n1", cables)
        let news = Follower<SessionNews>()
        try await running([{ await manager.sessions.run() }, { await remote.run() }, { await news.follow(remote.news()) }]) {
            #expect(await eventually { manager.sessions.sessionCount == 1 })
            try store.commit { transaction throws(ApusError) in transaction.removeNode("n1") }
            #expect(
                await eventually {
                    if case .refused = news.last?.connection { true } else { false }
                })
            #expect(manager.sessions.sessionCount == 0)
        }
    }

    @Test func theLeaderChangesAndNothingStops() async throws {
        let store = try makeStore()
        try store.commit { transaction throws(ApusError) in try transaction.create(assigned("a")) }
        let first = TestManager(store, leader: { "m2" })
        let second = TestManager(store, leader: { "m2" })
        let third = TestManager(store, leader: { "m2" })
        let cables = Cables()
        cables.add("m1", first.service)
        cables.add("m2", second.service)
        cables.add("m3", third.service)
        let remote = makeRemote("n1", cables, managers: ["m1"])
        let tasks = Follower<[Task]>()
        let news = Follower<SessionNews>()
        try await running([
            { await remote.run() }, { await tasks.follow(remote.assignments(for: "n1")) }, { await news.follow(remote.news()) },
        ]) {
            try await running([{ await first.sessions.run() }]) {
                #expect(await eventually { ids(tasks) == ["a"] })
                try await remote.report(["a": status(.running, "once")])
            }
            // The first one has lost the leadership; what it was told before the change may be lost.
            #expect(await eventually { !first.sessions.isLeading })
            try store.commit { transaction throws(ApusError) in
                var task = transaction.state.tasks["a"] ?? Task()
                task.status = assigned("a").status
                try transaction.update(task)
            }
            try await running([{ await second.sessions.run() }]) {
                #expect(await eventually { news.last?.connection == .connected("m2") }, "redirected")
                #expect(await eventually { store.read().node("n1")?.status.state == .ready })
                #expect(await eventually { store.read().task("a")?.status.message == "once" }, "said again")
                try store.commit { transaction throws(ApusError) in try transaction.create(assigned("b")) }
                #expect(await eventually { ids(tasks) == ["a", "b"] })
            }
        }
        #expect(tasks.all.allSatisfy { $0.contains { $0.id == "a" } }, "no moment without the task")
    }

    @Test func reportsWaitForALeader() async throws {
        let store = try makeStore()
        try store.commit { transaction throws(ApusError) in try transaction.create(assigned("a")) }
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        cables.unplug("m1")
        let remote = makeRemote("n1", cables)
        try await running([{ await manager.sessions.run() }, { await remote.run() }]) {
            let reporting = ConcurrentTask {
                try await remote.report(["a": status(.preparing)])
                try await remote.report(["a": status(.running)])
            }
            defer { reporting.cancel() }
            #expect(await eventually { cables.dialled.count > 3 }, "it goes on trying")
            cables.plug("m1")
            try await reporting.value
            #expect(store.read().task("a")?.status.state == .running)
            // A broken cable in between, and errors of the store.
            store.fail(with: [ApusError(.unavailable, "no leader"), ApusError(.unavailable, "no leader")])
            cables.unplug("m1")
            cables.plug("m1")
            try await remote.report(["a": status(.failed)])
            #expect(store.read().task("a")?.status.state == .failed)
            // One that is not accepted does not keep the others.
            try store.commit { transaction throws(ApusError) in
                try transaction.create(assigned("b"))
                try transaction.create(assigned("theirs", node: "n2"))
            }
            try await remote.report(["theirs": status(.running), "b": status(.running)])
            #expect(store.read().task("b")?.status.state == .running)
            #expect(store.read().task("theirs")?.status.state == .assigned)
        }
        let cancelled = ConcurrentTask { try await remote.report(["a": status(.failed)]) }
        cancelled.cancel()
        await #expect(throws: ApusError.self) { try await cancelled.value }
    }

    @Test func aSilentNodeGoesDownAndComesBack() async throws {
        let store = try makeStore([makeNode("n1")])
        let manager = TestManager(store, heartbeat: .milliseconds(300))
        let cables = Cables()
        cables.add("m1", manager.service)
        let remote = makeRemote("n1", cables)
        try await running([{ await manager.sessions.run() }, { await remote.run() }]) {
            #expect(await eventually { manager.sessions.sessionCount == 1 })
            try await ConcurrentTask.sleep(for: .seconds(2))
            #expect(store.read().node("n1")?.status.state == .ready, "heartbeats keep it")
            cables.unplug("m1")
            #expect(await eventually { store.read().node("n1")?.status.state == .down })
            #expect(store.read().node("n1")?.status.since != .never)
            cables.plug("m1")
            #expect(await eventually { store.read().node("n1")?.status.state == .ready })
        }
    }

    @Test func aClockThatIsWrongIsCorrected() async throws {
        let store = try makeStore()
        try store.commit { transaction throws(ApusError) in try transaction.create(assigned("a")) }
        let manager = TestManager(store)
        let session = Mutex<ID>("")
        try await running([
            { await manager.sessions.run() }
        ]) {
            #expect(await eventually { manager.sessions.isLeading })
            try await running([
                { try? await manager.sessions.serveSession(SessionRequest(), from: peer("n1")) { message in session.withLock { $0 = message.sessionID } } }
            ]) {
                #expect(await eventually { session.withLock { !$0.isEmpty } })
                let reports = NodeReports(sessions: manager.sessions, logger: quiet)
                for offset in [Duration.seconds(3600), .seconds(-3600)] {
                    let now = SystemClock().now()
                    var request = UpdateTaskStatusRequest()
                    request.sessionID = session.withLock { $0 }
                    request.sentAt = now + offset
                    var update = TaskStatusUpdate()
                    update.taskID = "a"
                    update.status = status(offset > .zero ? .preparing : .running)
                    update.status.timestamp = now + (offset - .seconds(1))
                    request.updates = [update]
                    try await reports.report(request, from: peer("n1"))
                    let written = store.read().task("a")?.status.timestamp ?? .never
                    let age = SystemClock().now() - written
                    #expect(age >= .seconds(1) && age < .seconds(30))
                    let transactions = store.transactionCount
                    try await reports.report(request, from: peer("n1"))
                    #expect(store.transactionCount == transactions, "the same again is no news")
                }
            }
        }
    }

    @Test func theLeadersWorkEndsWithItsTerm() async throws {
        let runs = Mutex((begun: 0, ended: 0))
        let role = LeaderRole([
            {
                runs.withLock { $0.begun += 1 }
                while !ConcurrentTask.isCancelled { try? await ConcurrentTask.sleep(for: .seconds(60)) }
                runs.withLock { $0.ended += 1 }
            }
        ])
        let (terms, term) = AsyncStream.makeStream(of: UInt64?.self)
        try await running([{ await role.run(terms) }]) {
            term.yield(1)
            #expect(await eventually { runs.withLock { $0 == (1, 0) } })
            term.yield(1)
            term.yield(nil)
            #expect(await eventually { runs.withLock { $0 == (1, 1) } })
            term.yield(2)
            term.yield(3)
            #expect(await eventually { runs.withLock { $0 == (3, 2) } }, "another term, another beginning")
        }
        #expect(runs.withLock { $0 == (3, 3) })
    }
}
