import GRPCCore
import GRPCInProcessTransport
import Logging
import Orchestration
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Dispatcher

/// Logs of tasks of other nodes, over gRPC in one process.
@Suite(.timeLimit(.minutes(3))) struct LogTests {
    /// What the test has read.
    private final class Reader: Sendable {
        private let pieces = Mutex<[[UInt8]]>([])
        var text: String { pieces.withLock { String(decoding: $0.joined(), as: UTF8.self) } }
        var count: Int { pieces.withLock { $0.count } }
        func add(_ piece: [UInt8]) { pieces.withLock { $0.append(piece) } }
    }

    private func subscription(_ task: ID, follow: Bool = false) -> LogSubscription {
        var subscription = LogSubscription()
        subscription.taskID = task
        subscription.standardOutput = true
        subscription.follow = follow
        return subscription
    }

    /// A manager, and nodes that have logs.
    private func withSwarm(
        logs: @escaping RemoteDispatcher.LogSource, _ body: (TestManager, Cables, RemoteDispatcher) async throws -> Void
    ) async throws {
        let store = try makeStore([makeNode("n1"), makeNode("n2"), makeNode("n3", role: .manager)])
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let remote = makeRemote("n1", cables, logs: logs)
        try await running([{ await manager.sessions.run() }, { await remote.run() }]) {
            #expect(
                await eventually {
                    manager.sessions.contents.withLock { $0.handles["n1"]?.logs.withLock { $0 != nil } ?? false }
                })
            try await body(manager, cables, remote)
        }
    }

    @Test func aLogIsReadFromAnotherNode() async throws {
        try await withSwarm { subscription, write in
            guard subscription.taskID != "broken" else { throw ApusError(.failed, "the disk is gone") }
            for number in 0..<200 { try await write(Array("\(subscription.taskID) \(number) \(subscription.tail ?? -1)\n".utf8)) }
        } _: { manager, cables, _ in
            let reader = Reader()
            var wanted = subscription("t")
            wanted.tail = 7
            try await manager.sessions.readLogs(wanted, on: "n1") { reader.add($0) }
            #expect(reader.text == (0..<200).map { "t \($0) 7\n" }.joined())
            let error = await #expect(throws: ApusError.self) { try await manager.sessions.readLogs(subscription("broken"), on: "n1") { _ in } }
            #expect(error?.message.contains("the disk is gone") == true)
            // Many at once.
            let readers = (0..<20).map { (ID("t\($0)"), Reader()) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (task, reader) in readers {
                    group.addTask { try await manager.sessions.readLogs(subscription(task), on: "n1") { reader.add($0) } }
                }
                try await group.waitForAll()
            }
            for (task, reader) in readers { #expect(reader.text.hasPrefix("\(task) 0") && reader.count == 200) }
            #expect(manager.sessions.contents.withLock { $0.readings.isEmpty })

            // Another manager reads through the leader; a worker may not.
            let other = Reader()
            func read(as identity: PeerIdentity) async -> ApusError? {
                let failure = Mutex<ApusError?>(nil)
                try? await cables.connect(as: identity)("m1") { client in
                    guard let client = client as? GRPCDispatcherClient<InProcessTransport.Client> else {
                        return failure.withLock { $0 = ApusError(.failed, "\(client)") }
                    }
                    var request = ReadLogsRequest()
                    request.nodeID = "n1"
                    request.subscription = subscription("t")
                    do throws(DispatcherFailure) { try await client.readLogs(request) { other.add($0.data) } } catch {
                        failure.withLock { $0 = error.error }
                    }
                }
                return failure.withLock { $0 }
            }
            #expect(await read(as: peer("n3", role: .manager)) == nil)
            #expect(other.count == 200)
            #expect(await read(as: peer("n2"))?.code == .permissionDenied)
            #expect(await read(as: peer("n2", role: .manager))?.code == .permissionDenied, "it was a manager once")
        }
    }

    @Test func whoStopsReadingEndsTheLog() async throws {
        let ended = Mutex(false)
        try await withSwarm { _, write in
            defer { ended.withLock { $0 = true } }
            while true {
                try await write([7])
                try await ConcurrentTask.sleep(for: .milliseconds(5))
            }
        } _: { manager, _, _ in
            let reader = Reader()
            let reading = ConcurrentTask {
                try await manager.sessions.readLogs(subscription("t", follow: true), on: "n1") { reader.add($0) }
            }
            #expect(await eventually { reader.count > 3 })
            #expect(!ended.withLock { $0 })
            reading.cancel()
            _ = try? await reading.value
            #expect(await eventually { ended.withLock { $0 } })
            #expect(manager.sessions.contents.withLock { $0.readings.isEmpty })
        }
    }

    /// The node n2, whose side of the protocol is played by hand. `publish` gets the first log that is asked for, and a first piece of it.
    private func withSecondNode(
        of manager: TestManager, publish: @escaping @Sendable (LogPublication<MemorySwarm>, PublishLogsMessage) async -> Void,
        _ body: () async throws -> Void
    ) async throws {
        let (subscriptions, subscribe) = AsyncStream.makeStream(of: LogSubscription.self)
        let session = Mutex<ID>("")
        try await running([
            { try? await manager.sessions.serveSession(SessionRequest(), from: peer("n2")) { message in session.withLock { $0 = message.sessionID } } }
        ]) {
            #expect(await eventually { session.withLock { !$0.isEmpty } })
            var request = LogsRequest()
            request.sessionID = session.withLock { $0 }
            try await running([
                { [request] in try? await manager.sessions.serveLogs(request, from: peer("n2")) { subscribe.yield($0) } },
                { [request] in
                    for await subscription in subscriptions where !subscription.isEnd {
                        var message = PublishLogsMessage()
                        message.sessionID = request.sessionID
                        message.subscriptionID = subscription.id
                        message.data = [7]
                        return await publish(manager.sessions.publication(from: peer("n2")), message)
                    }
                },
            ]) {
                #expect(await eventually { manager.sessions.contents.withLock { $0.handles["n2"]?.logs.withLock { $0 != nil } ?? false } })
                try await body()
            }
        }
    }

    /// What comes from a node is taken as fast as it is read, and no faster; the transport's own windows do the rest.
    @Test func whoReadsSlowlyIsWaitedFor() async throws {
        try await withSwarm { _, _ in
            while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
        } _: { manager, _, _ in
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let reader = Reader()
            let given = Mutex(0)
            try await withSecondNode(of: manager) { publication, message in
                while (try? await publication.take(message)) != nil { given.withLock { $0 += 1 } }
            } _: {
                try await running([
                    {
                        try? await manager.sessions.readLogs(subscription("t"), on: "n2") { piece in
                            reader.add(piece)
                            for await _ in gate { break }
                        }
                    }
                ]) {
                    for round in 1...5 {
                        #expect(await eventually { reader.count == round && given.withLock { $0 } == round + 1 })
                        try await ConcurrentTask.sleep(for: .milliseconds(50))
                        #expect(given.withLock { $0 } == round + 1, "one is being read, one waits")
                        open.yield()
                    }
                    open.finish()
                }
            }
        }
    }

    @Test func aNodeThatGoesEndsTheReading() async throws {
        try await withSwarm { _, write in
            try await write(Array("first\n".utf8))
            while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
        } _: { manager, cables, remote in
            for goodbye in [false, true] {
                let reader = Reader()
                let reading = ConcurrentTask { () -> ApusError? in
                    do {
                        try await manager.sessions.readLogs(subscription("t", follow: true), on: "n1") { reader.add($0) }
                        return nil
                    } catch { return ApusError(error) }
                }
                #expect(await eventually { reader.text == "first\n" })
                let session = manager.sessions.contents.withLock { $0.handles["n1"]?.id }
                if goodbye { await remote.end(isLeaving: false) } else { cables.unplug("m1") }
                #expect(await reading.value?.code == .unavailable)
                cables.plug("m1")
                if goodbye { break }
                #expect(
                    await eventually {
                        manager.sessions.contents.withLock { contents in
                            contents.handles["n1"].map { $0.id != session && $0.logs.withLock { $0 != nil } } ?? false
                        }
                    })
            }
            // Nobody there: said at once.
            let error = await #expect(throws: ApusError.self) { try await manager.sessions.readLogs(subscription("t"), on: "n2") { _ in } }
            #expect(error?.code == .unavailable)
        }
    }

    @Test func aManagerThatNoLongerLeadsEndsTheReading() async throws {
        let store = try makeStore()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let remote = makeRemote("n1", cables) { _, write in
            try await write([1])
            while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
        }
        let reader = Reader()
        try await running([{ await remote.run() }]) {
            let leading = ConcurrentTask { await manager.sessions.run() }
            #expect(
                await eventually {
                    manager.sessions.contents.withLock { $0.handles["n1"]?.logs.withLock { $0 != nil } ?? false }
                })
            let reading = ConcurrentTask { () -> ApusError? in
                do {
                    try await manager.sessions.readLogs(subscription("t"), on: "n1") { reader.add($0) }
                    return nil
                } catch { return ApusError(error) }
            }
            #expect(await eventually { reader.count == 1 })
            leading.cancel()
            await leading.value
            #expect(await reading.value?.code == .unavailable)
            await #expect(throws: ApusError.self) { try await manager.sessions.readLogs(subscription("t"), on: "n1") { _ in } }
        }
    }

    private func refusal(_ manager: TestManager, _ message: PublishLogsMessage, as node: ID) async -> ApusError.Code? {
        do throws(ApusError) {
            try await manager.sessions.publication(from: peer(node)).take(message)
            return nil
        } catch { return error.code }
    }

    @Test func nobodySpeaksForAnotherNode() async throws {
        try await withSwarm { _, write in
            while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
        } _: { manager, cables, _ in
            let second = makeRemote("n2", cables)
            try await running([{ await second.run() }]) {
                #expect(await eventually { manager.sessions.hasSession("n2") })
                let reading = ConcurrentTask { try await manager.sessions.readLogs(subscription("t"), on: "n1") { _ in } }
                defer { reading.cancel() }
                let id = try #require(
                    await {
                        _ = await eventually { manager.sessions.contents.withLock { $0.readings.values.first?.isOpen.withLock { $0 } ?? false } }
                        return manager.sessions.contents.withLock { $0.readings.keys.first }
                    }())
                var message = PublishLogsMessage()
                message.subscriptionID = id
                for (node, expected) in [("n2", ApusError.Code.notFound), ("n1", .conflict)] {
                    message.sessionID = manager.sessions.contents.withLock { $0.handles[ID(node)]?.id ?? "" }
                    #expect(await refusal(manager, message, as: ID(node)) == expected)
                }
                message.data = [UInt8](repeating: 0, count: 2 << 20)
                #expect(await refusal(manager, message, as: "n1") == .invalidArgument)
                await #expect(throws: ApusError.self) { try await manager.sessions.serveLogs(LogsRequest(), from: peer("n1")) { _ in } }
            }
        }
    }

    /// What the node says counts, not how its stream ends.
    @Test func aStreamThatEndsWithoutItsMarkWasBrokenOff() async throws {
        try await withSwarm { _, write in
            while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
        } _: { manager, _, _ in
            for isComplete in [true, false] {
                try await withSecondNode(of: manager) { publication, message in
                    var message = message
                    message.isComplete = isComplete
                    try? await publication.take(message)
                    publication.end()
                } _: {
                    let pieces = Mutex(0)
                    let read: ApusError.Code?
                    do {
                        try await manager.sessions.readLogs(subscription("t"), on: "n2") { _ in pieces.withLock { $0 += 1 } }
                        read = nil
                    } catch { read = ApusError(error).code }
                    #expect(read == (isComplete ? nil : .unavailable))
                    #expect(pieces.withLock { $0 } == 1)
                }
            }
        }
    }

    @Test func aPipeHandsOverInOrderAndEnds() async throws {
        let pipe = LogPipe()
        let taking = ConcurrentTask {
            var sum: [UInt8] = []
            while let piece = try await pipe.take() { sum += piece }
            return sum
        }
        for number in 0..<100 { try await pipe.give([UInt8(number)]) }
        pipe.finish()
        pipe.finish(ApusError(.failed, "too late"))
        #expect(try await taking.value == (0..<100).map { UInt8($0) })
        await #expect(throws: ApusError.self) { try await pipe.give([1]) }
        let broken = LogPipe()
        try await broken.give([1])
        broken.finish(ApusError(.failed, "broken"))
        #expect(try await broken.take() == [1], "what is on its way arrives")
        await #expect(throws: ApusError.self) { _ = try await broken.take() }
        let full = LogPipe()
        try await full.give([1])
        let waiting = ConcurrentTask { try await full.give([2]) }
        waiting.cancel()
        await #expect(throws: ApusError.self) { try await waiting.value }
    }
}
