public import Logging
public import PluginAPI
import Synchronization
public import Wire

/// How a node deals with its managers.
public struct RemoteDispatcherConfiguration: Sendable {
    /// For an answer, and for the first message of a session.
    public var callTimeout: Duration = .seconds(5)
    /// Between two attempts lies a random time, that grows from the one to the other.
    public var shortestPause: Duration = .milliseconds(100)
    public var longestPause: Duration = .seconds(8)
    /// Between two looks at whether the node's description has changed.
    public var descriptionPeriod: Duration = .seconds(3)

    public init() {}
}

/// How the node stands with its managers, and what they last said.
public struct SessionNews: Sendable, Hashable {
    /// Whether there is a session, and if not, why.
    public enum Connection: Sendable, Hashable {
        /// No session, and why the last attempt failed. What runs goes on.
        case searching(ApusError?)
        /// `host:port` of the leader.
        case connected(String)
        /// The managers say that this node is not, or no longer, part of the swarm. It goes on asking, seldom.
        case refused(ApusError)
    }

    /// Now.
    public var connection: Connection
    /// The last one of any session: the node's object (role, availability, labels), the managers, the heartbeat period,
    /// trust roots, the wish for a renewal.
    public var message: SessionMessage?
}

/// The node's side: keeps one session with the leader, wherever it is, and is the agent's source of tasks.
///
/// Whatever happens to the managers, the last set of tasks stands until a leader sends another one: no container stops for want of a manager.
public final class RemoteDispatcher: AssignmentSource {
    /// Opens a connection to a manager, `host:port`, lends a client for it, and closes it when `use` returns or the caller is cancelled.
    public typealias Connect =
        @Sendable (
            _ address: String, _ use: @escaping @Sendable (any DispatcherClient) async -> Void
        ) async throws(ApusError) -> Void

    /// Writes the log of a task of this node as whole frames, to its end or until it is cancelled.
    public typealias LogSource =
        @Sendable (
            _ subscription: LogSubscription, _ write: @escaping @Sendable ([UInt8]) async throws -> Void
        ) async throws -> Void

    struct Session: Sendable {
        var id: ID
        var client: any DispatcherClient
    }

    struct State {
        var managers: [ManagerPeer]
        var session: Session?
        var message: SessionMessage?
        var hasEnded = false
        /// Of the tasks that were last assigned.
        var files = AssignedFiles()
    }

    let node: ID
    let address: String
    let describe: @Sendable () -> NodeDescription
    let connect: Connect
    let logs: LogSource?
    let configuration: RemoteDispatcherConfiguration
    let logger: Logger
    let state: Mutex<State>
    let tasks = Latest<[Task]>()
    let feed = EndpointFeed()
    let currentNews: Latest<SessionNews>
    let reports = ReportQueue()

    /// - Parameters:
    ///   - managers: `host:port` of those that are known at first; the leader tells of the others.
    ///   - address: where other nodes reach this one, without a port.
    ///   - describe: the node's description now; called at times.
    ///   - logs: what managers read of the logs of this node's tasks; without it they read nothing.
    public init(
        node: ID, managers: [String], address: String, describe: @escaping @Sendable () -> NodeDescription, connect: @escaping Connect,
        logs: LogSource? = nil, configuration: RemoteDispatcherConfiguration = .init(), logger: Logger
    ) {
        self.node = node
        self.address = address
        self.describe = describe
        self.connect = connect
        self.logs = logs
        self.configuration = configuration
        self.logger = logger
        state = Mutex(State(managers: Self.peers(managers)))
        currentNews = Latest(SessionNews(connection: .searching(nil), message: nil))
    }

    private static func peers(_ addresses: [String]) -> [ManagerPeer] {
        addresses.filter { !$0.isEmpty }.map { address in
            var peer = ManagerPeer()
            peer.address = address
            peer.weight = 1
            return peer
        }
    }

    /// The managers that are known, `host:port`; worth remembering for the next start.
    public var managers: [String] { state.withLock { $0.managers.map(\.address) } }

    /// How the node stands with its managers, at once and whenever it changes; for any number of readers.
    public func news() -> AsyncStream<SessionNews> { currentNews.stream() }

    /// How the node stands with its managers now.
    public var connection: SessionNews.Connection { currentNews.value?.connection ?? .searching(nil) }

    /// What the node must know of networks and published ports: the newest, at once when it is known and after every change; for any number of
    /// readers. While no manager is there the last one stands.
    ///
    /// Whoever puts the tables in force calls `confirm` after each: a task that is to end waits for it.
    public func endpoints() -> AsyncStream<EndpointUpdate> { feed.updates.stream() }

    /// The newest table; `nil` before a leader has sent one.
    public var endpointTable: EndpointTable? { feed.updates.value?.table }

    /// The table is in force everywhere on this node, and so what changed in those before it.
    public func confirm(_ update: EndpointUpdate) { feed.confirm(update) }

    /// Tasks of this node that no node opens new connections to any more: all that the node still has, at once and after every change; for any
    /// number of readers.
    public func withdrawn() -> AsyncStream<Set<ID>> { feed.withdrawn.stream() }

    /// The published ports of all services, at once when they are known and after every change; for any number of readers.
    public func servicePorts() -> AsyncStream<[ID: [PortConfig]]> { feed.ports.stream() }

    /// The tasks of this node; nothing before a leader has sent the whole set.
    public func assignments(for node: ID) -> AsyncStream<[Task]> { tasks.stream() }

    /// The secrets and configs that the tasks of this node need.
    public func files() -> AssignedFiles { state.withLock(\.files) }

    /// Returns when a leader has committed the statuses, or newer ones; waits for a leader as long as it takes.
    public func report(_ statuses: [ID: TaskStatus]) async throws(ApusError) { try await reports.report(statuses) }

    /// Says goodbye, so that the managers need not wait for this node's silence, and looks for no manager any more: `run` returns.
    /// - Parameter isLeaving: for good, with all tasks ended.
    public func end(isLeaving: Bool) async {
        let session = state.withLock { state in
            state.hasEnded = true
            return state.session
        }
        guard let session else { return }
        var request = EndSessionRequest()
        request.sessionID = session.id
        request.isLeaving = isLeaving
        do throws(DispatcherFailure) {
            try await session.client.endSession(request, timeout: configuration.callTimeout)
        } catch {
            logger.warning("the managers could not be told that this node ends: \(error.error.message)")
        }
    }

    // MARK: Looking for the leader

    /// Keeps a session until it is cancelled, or `end` was called.
    public func run() async {
        var pause = configuration.shortestPause
        var redirect: String?
        var hops = 0
        var failed: String?
        while !ConcurrentTask.isCancelled, !state.withLock(\.hasEnded) {
            let address = redirect ?? choose(except: failed)
            redirect = nil
            var failure = DispatcherFailure(ApusError(.unavailable, "no manager is known: give this node the address of one"))
            var wasConnected = false
            if let address {
                (wasConnected, failure) = await attempt(address)
                failed = address
            }
            if ConcurrentTask.isCancelled || state.withLock(\.hasEnded) { break }
            publish(failure.error)
            if wasConnected {
                logger.warning("the session with the manager \(address ?? "") is lost; the tasks go on: \(failure.error.message)")
                pause = configuration.shortestPause
                hops = 0
            }
            if let leader = failure.leader, leader != address, hops < 3 {
                hops += 1
                redirect = leader
                continue
            }
            hops = 0
            pause = min(pause * 2, configuration.longestPause)
            logger.debug("no session with a manager: \(failure.error.message)", metadata: ["address": "\(address ?? "")"])
            try? await ConcurrentTask.sleep(for: Self.random(configuration.shortestPause, pause))
        }
        currentNews.set(SessionNews(connection: .searching(nil), message: currentNews.value?.message))
    }

    private func publish(_ error: ApusError) {
        let isRefusal = error.code == .permissionDenied || error.code == .unauthenticated
        let news = SessionNews(connection: isRefusal ? .refused(error) : .searching(error), message: state.withLock(\.message))
        guard news != currentNews.value else { return }
        if isRefusal { logger.error("the managers refuse this node: \(error.message)") }
        currentNews.set(news)
    }

    static func random(_ least: Duration, _ most: Duration) -> Duration {
        .nanoseconds(Int64.random(in: min(least, most).nanoseconds...max(least, most).nanoseconds))
    }

    /// One of the managers, by weight; another one than the last, if there is one.
    private func choose(except failed: String?) -> String? {
        let managers = state.withLock(\.managers)
        let others = managers.filter { $0.address != failed }
        let candidates = (others.isEmpty ? managers : others).map { (address: $0.address, weight: Int(min(max($0.weight, 1), 1000))) }
        guard !candidates.isEmpty else { return nil }
        var ticket = Int.random(in: 0..<candidates.reduce(0) { $0 + $1.weight })
        for candidate in candidates {
            ticket -= candidate.weight
            if ticket < 0 { return candidate.address }
        }
        return candidates.last?.address
    }

    /// A session with one manager, from its beginning to its end.
    private func attempt(_ address: String) async -> (wasConnected: Bool, DispatcherFailure) {
        let outcome = Mutex(DispatcherFailure(ApusError(.unavailable, "the connection to \(address) ended")))
        let wasConnected = Mutex(false)
        do throws(ApusError) {
            try await connect(address) { client in
                let failure = await self.serve(client, address) { wasConnected.withLock { $0 = true } }
                outcome.withLock { $0 = failure }
            }
        } catch {
            outcome.withLock { $0 = DispatcherFailure(error.during("manager \(address)")) }
        }
        state.withLock { $0.session = nil }
        return (wasConnected.withLock { $0 }, outcome.withLock { $0 })
    }
}
