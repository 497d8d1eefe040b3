import CAInternal
import Files
import Foundation
import OpenSSL
import PluginAPI
import Security
import Store
import Synchronization
import Testing
import Wire

/// What the engine hands to a plugin.
final class Host: HostServices {
    let engineVersion = "test"
    let configuration: [String: String]
    let stateDirectory = "/nonexistent"
    let runDirectory = "/nonexistent"
    init(_ configuration: [String: String] = [:]) { self.configuration = configuration }
    func log(_ level: LogLevel, _ message: String) {}
    func count(_ counter: String, by amount: Int) {}
}

/// An authority that answers with something else than what it was asked for.
final class Liar: CertificateAuthority {
    let honest = InternalAuthority(host: Host())
    let change: @Sendable (inout IssueRequest) throws(ApusError) -> Void
    var isExternal: Bool { false }

    init(_ change: @escaping @Sendable (inout IssueRequest) throws(ApusError) -> Void) { self.change = change }

    func createRoot(_ request: CreateRootRequest) async throws(ApusError) -> RootMaterial { try await honest.createRoot(request) }

    func issue(_ request: IssueRequest) async throws(ApusError) -> IssueAnswer {
        var changed = request
        try change(&changed)
        return try await honest.issue(changed)
    }
}

/// A clock that stands until it is moved.
final class HandClock: IdentityClock {
    private struct State {
        var now: Timestamp
        var sleepers: [Int: (until: Timestamp, continuation: CheckedContinuation<Void, Never>)] = [:]
        var next = 0
        var cancelled: Set<Int> = []
    }

    private let state: Mutex<State>
    /// Every sleep ends at once and moves the clock.
    let skips: Bool

    init(_ now: Timestamp, skips: Bool = false) {
        state = Mutex(State(now: now))
        self.skips = skips
    }

    func now() -> Timestamp { state.withLock { $0.now } }

    var earliestSleeper: Timestamp? { state.withLock { $0.sleepers.values.map(\.until).min() } }

    func set(_ time: Timestamp) {
        let woken = state.withLock { state in
            state.now = time
            let due = state.sleepers.filter { $0.value.until <= time }
            for key in due.keys { state.sleepers[key] = nil }
            return due.values.map(\.continuation)
        }
        for continuation in woken { continuation.resume() }
    }

    func advance(_ duration: Duration) { set(now() + duration) }

    func sleep(until time: Timestamp) async {
        if skips {
            state.withLock { $0.now = max($0.now, time) }
            await ConcurrentTask.yield()
            return
        }
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDone = state.withLock { state in
                    if time <= state.now || state.cancelled.contains(number) { return true }
                    state.sleepers[number] = (time, continuation)
                    return false
                }
                if isDone { continuation.resume() }
            }
        } onCancel: {
            let sleeper = state.withLock { state in
                state.cancelled.insert(number)
                return state.sleepers.removeValue(forKey: number)
            }
            sleeper?.continuation.resume()
        }
    }
}

/// The leader of a swarm, with a store of its own in a folder of its own.
final class Leader: Sendable {
    let path: String
    let store: ObjectStore
    let clock: HandClock
    let service: CertificateService
    let first: NodeCertificate
    let sessions = Mutex<Set<ID>>([])
    let events = Mutex<[IdentityEvent]>([])
    let authority: Mutex<any CertificateAuthority>
    /// By plugin name; others are `authority`.
    let named = Mutex<[String: any CertificateAuthority]>([:])

    static let start = Timestamp(nanoseconds: 1_780_000_000_000_000_000)

    private final class Box: Sendable {
        let leader = Mutex<Weak>(Weak())
        struct Weak { weak var value: Leader? }
    }

    init(authority: any CertificateAuthority = InternalAuthority(host: Host()), limits: CertificateLimits = CertificateLimits()) async throws {
        path = try Files.makeTemporaryDirectory(prefix: "apus-security")
        clock = HandClock(Self.start)
        let clock = clock
        var configuration = StoreConfiguration(directory: path + "/raft")
        configuration.now = { clock.now() }
        store = try await ObjectStore.open(configuration)
        for _ in 0..<2000 where !store.isLeader { try await ConcurrentTask.sleep(for: .milliseconds(5)) }
        self.authority = Mutex(authority)
        let made = try await SwarmIdentity.bootstrap(
            clusterID: "cluster1", nodeID: "manager1", authority: InternalAuthority(host: Host()), directory: path + "/certificates", now: Self.start)
        first = made.certificate
        var cluster = Cluster()
        cluster.id = "cluster1"
        cluster.root = made.root
        cluster.joinTokens = made.tokens
        cluster.tls = made.tls
        cluster.plugins.certificateAuthority = "internal"
        var node = Node()
        node.id = "manager1"
        node.spec.role = .manager
        node.status.state = .ready
        node.certificate = made.record
        let (finalCluster, finalNode) = (cluster, node)
        try await store.update { transaction throws(ApusError) in
            try transaction.create(.cluster(finalCluster))
            try transaction.create(.node(finalNode))
        }
        let box = Box()
        var environment = CertificateService.Environment(
            store: store,
            authority: { name throws(ApusError) in
                guard let leader = box.leader.withLock({ $0.value }) else { throw ApusError(.unavailable, "no leader") }
                if let authority = leader.named.withLock({ $0[name] }) { return authority }
                return leader.authority.withLock { $0 }
            },
            hasSession: { id in box.leader.withLock { $0.value }?.sessions.withLock { $0.contains(id) } ?? false },
            onEvent: { event in box.leader.withLock { $0.value }?.events.withLock { $0.append(event) } })
        environment.limits = limits
        environment.clock = clock
        service = CertificateService(environment)
        box.leader.withLock { $0.value = self }
    }

    func end() async {
        await store.close()
        try? Files.removeTree(path)
    }

    var cluster: Cluster { store.read().cluster ?? Cluster() }
    func node(_ id: ID) -> Node? { store.read().nodes[id] }
    func kinds() -> [IdentityEvent.Kind] { events.withLock { $0.map(\.kind) } }

    func change(_ body: @escaping @Sendable (inout Cluster) -> Void) async throws {
        try await store.update { transaction throws(ApusError) in
            guard var cluster = transaction.snapshot.cluster else { return }
            body(&cluster)
            try transaction.update(.cluster(cluster))
        }
    }

    func changeNode(_ id: ID, _ body: @escaping @Sendable (inout Node) -> Void) async throws {
        try await store.update { transaction throws(ApusError) in
            guard var node = transaction.snapshot.nodes[id] else { return }
            body(&node)
            try transaction.update(.node(node))
        }
    }

    func remove(_ id: ID) async throws {
        try await store.update { transaction throws(ApusError) in try transaction.remove(.node, id) }
    }

    func connector(address: String = "192.0.2.7:40000") -> LocalConnector { LocalConnector(leader: self, address: address) }

    /// A node that has joined.
    func join(_ role: NodeRole = .worker, directory: String? = nil) async throws -> NodeCertificate {
        let tokens = try #require(cluster.joinTokens)
        let directory = try directory ?? Files.makeTemporaryDirectory(in: path, prefix: "node")
        var flow = JoinFlow(
            token: try JoinToken(parsing: role == .manager ? tokens.manager : tokens.worker), directory: directory, connector: connector())
        flow.clock = clock
        return try await flow.run()
    }
}

func withLeader(
    authority: any CertificateAuthority = InternalAuthority(host: Host()), limits: CertificateLimits = CertificateLimits(),
    _ body: (Leader) async throws -> Void
) async throws {
    let leader = try await Leader(authority: authority, limits: limits)
    do {
        try await body(leader)
    } catch {
        await leader.end()
        throw error
    }
    await leader.end()
}

/// What TLS would do, in memory: verifies certificates as the connection says, and lets the service see who calls.
struct LocalConnector: CertificateConnector {
    let leader: Leader
    var address: String
    /// Before a call: a broken network throws.
    var fault: @Sendable () throws(ApusError) -> Void = {}
    /// After an answer: one that is lost throws.
    var loss: @Sendable (String) throws(ApusError) -> Void = { _ in }

    func withClient<Result: Sendable>(
        _ connection: CertificateConnection, _ body: @Sendable (any CertificateClient) async throws(ApusError) -> Result
    ) async throws(ApusError) -> Result {
        try fault()
        var caller = CertificateCaller(address: address)
        if case .authenticated(let certificate) = connection {
            guard !certificate.isExpired(now: leader.clock.now()) else { throw ApusError(.unavailable, "TLS: certificate expired") }
            let chain = try CertificateChain.certificates(pem: certificate.certificateChain)
            try CertificateChain.verify(
                chain[0], intermediates: Array(chain.dropFirst()), roots: try CertificateChain.certificates(pem: leader.cluster.trustBundle),
                at: leader.clock.now())
            caller = CertificateCaller(
                peer: PeerIdentity(
                    nodeID: certificate.nodeID, role: certificate.role, clusterID: certificate.clusterID, serial: certificate.serial), address: address)
        }
        return try await body(LocalClient(service: leader.service, caller: caller, loss: loss))
    }
}

struct LocalClient: CertificateClient {
    let service: CertificateService
    let caller: CertificateCaller
    let loss: @Sendable (String) throws(ApusError) -> Void

    func root() async throws(ApusError) -> GetRootCACertificateResponse { try service.rootCertificate() }
    func trust() async throws(ApusError) -> GetTrustResponse { try service.trust(for: caller) }
    func unlockKey() async throws(ApusError) -> GetUnlockKeyResponse { try service.unlockKey(for: caller) }

    func issue(_ request: IssueNodeCertificateRequest) async throws(ApusError) -> IssueNodeCertificateResponse {
        let answer = try await service.issue(request, for: caller)
        try loss("issue")
        return answer
    }

    func status(_ request: NodeCertificateStatusRequest) async throws(ApusError) -> NodeCertificateStatusResponse {
        let answer = try await service.status(request, for: caller)
        try loss("status")
        return answer
    }

    func renewExpired(_ request: RenewExpiredCertificateRequest) async throws(ApusError) -> RenewExpiredCertificateResponse {
        let answer = try await service.renewExpired(request, for: caller)
        try loss("renewExpired")
        return answer
    }
}

/// Runs a program, and returns its status and what it wrote.
func run(_ program: String, _ arguments: [String], input: [UInt8] = []) throws -> (status: Int32, output: [UInt8]) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let (stdin, stdout) = (Pipe(), Pipe())
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = stdout
    try process.run()
    try stdin.fileHandleForWriting.write(contentsOf: Data(input))
    try stdin.fileHandleForWriting.close()
    let output = try stdout.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, Array(output))
}

/// Waits for a condition, generously.
func eventually(_ what: String, _ condition: @Sendable () async throws -> Bool) async throws {
    for _ in 0..<2000 {
        if try await condition() { return }
        try await ConcurrentTask.sleep(for: .milliseconds(10))
    }
    Issue.record("did not come about: \(what)")
}
