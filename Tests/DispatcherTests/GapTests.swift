import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Dispatcher

@Suite(.timeLimit(.minutes(3))) struct GapTests {
    /// A client whose manager talks nonsense.
    private struct Liar: DispatcherClient {
        let count: Counter

        func session(_ request: SessionRequest, receive: @escaping @Sendable (SessionMessage) async throws -> Void) async throws(DispatcherFailure) {
            var message = SessionMessage()
            message.sessionID = "s"
            message.heartbeatPeriod = .seconds(-5)
            var peer = ManagerPeer()
            peer.address = String(repeating: "m", count: 1000)
            message.managers = [peer]
            do {
                try await receive(message)
                while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
            } catch { throw DispatcherFailure(error) }
        }

        func assignments(
            _ request: AssignmentsRequest, receive: @escaping @Sendable (AssignmentsMessage) async throws -> Void
        ) async throws(DispatcherFailure) {
            let attempt = count.next()
            var message = AssignmentsMessage()
            message.isFull = true
            message.resultsIn = 1
            message.tasks = [assigned("a"), assigned("theirs", node: "n2")]
            do {
                if attempt > 2 { try await receive(message) }
                message.isFull = false
                message.appliesTo = 7
                message.resultsIn = 8
                message.tasks = []
                message.removedTasks = ["a"]
                if attempt <= 5 { try await receive(message) }
                while true { try await ConcurrentTask.sleep(for: .seconds(60)) }
            } catch { throw DispatcherFailure(error) }
        }

        func endpoints(
            _ request: EndpointsRequest, receive: @escaping @Sendable (EndpointsMessage) async throws -> Void
        ) async throws(DispatcherFailure) {
            do { while true { try await ConcurrentTask.sleep(for: .seconds(60)) } } catch { throw DispatcherFailure(error) }
        }

        func logs(_ request: LogsRequest, receive: @escaping @Sendable (LogSubscription) async throws -> Void) async throws(DispatcherFailure) {}
        func publishLogs(
            _ produce: @escaping @Sendable (_ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void) async throws -> Void
        ) async throws(DispatcherFailure) {}
        func confirmEndpoints(_ request: ConfirmEndpointsRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func heartbeat(_ request: HeartbeatRequest, timeout: Duration) async throws(DispatcherFailure) -> HeartbeatResponse { HeartbeatResponse() }
        func updateTaskStatus(_ request: UpdateTaskStatusRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func updateDescription(_ request: UpdateNodeDescriptionRequest, timeout: Duration) async throws(DispatcherFailure) {}
        func endSession(_ request: EndSessionRequest, timeout: Duration) async throws(DispatcherFailure) {}
    }

    private final class Counter: Sendable {
        private let value = Mutex(0)
        func next() -> Int {
            value.withLock { value in
                value += 1; return value
            }
        }
        var now: Int { value.withLock { $0 } }
    }

    @Test func gapsAreFilledByAskingForTheWholeAgain() async throws {
        let count = Counter()
        var configuration = RemoteDispatcherConfiguration()
        configuration.shortestPause = .milliseconds(5)
        let remote = RemoteDispatcher(
            node: "n1", managers: ["m1"], address: "", describe: { NodeDescription() },
            connect: { _, use in await use(Liar(count: count)) }, configuration: configuration, logger: quiet)
        let tasks = Follower<[Task]>()
        try await running([{ await remote.run() }, { await tasks.follow(remote.assignments(for: "n1")) }]) {
            #expect(await eventually { count.now == 6 && tasks.last?.map(\.id) == ["a"] })
            #expect(tasks.all.allSatisfy { $0.map(\.id) == ["a"] }, "no gap ends a task, and no task of another node begins")
            #expect(remote.managers == ["m1"])
        }
    }
}
