import Glibc
import PluginAPI

/// Where an answer goes.
enum Asker {
    case datagram(sockaddr_in)
    /// The number of the connection.
    case stream(UInt64)

    var isDatagram: Bool {
        if case .datagram = self { true } else { false }
    }
}

/// A query on its way to upstream servers: whom to ask when, and who has failed. Pure.
///
/// The servers are asked in order, each as soon as the one before has failed or was silent for a while; those that were asked may still answer.
/// A client gives up after five seconds, so all of it takes less.
struct Forwarding {
    static let patience: Duration = .milliseconds(4500)
    /// A datagram may be lost: even a single server is asked so often.
    static let leastAttempts = 3

    struct Attempt: Hashable {
        var server: UpstreamServer
        var isStream: Bool
    }

    let sandbox: String
    let asker: Asker
    let query: Query
    /// As it came.
    let message: [UInt8]
    /// The exchanges that may still bring an answer.
    var exchanges: Set<UInt64> = []
    private(set) var dueNext: ContinuousClock.Instant
    private var attempts: [Attempt]
    private let step: Duration
    private(set) var failureCode = ResponseCode.serverFailure

    init(sandbox: String, asker: Asker, query: Query, message: [UInt8], servers: [UpstreamServer], now: ContinuousClock.Instant) {
        self.sandbox = sandbox
        self.asker = asker
        self.query = query
        self.message = message
        attempts = Self.attempts(servers, isDatagram: asker.isDatagram)
        step = Self.patience / max(1, attempts.count)
        dueNext = now
    }

    /// Who asks over TCP has been told that an answer is too long for a datagram; a server without TCP is asked by datagram in the end.
    private static func attempts(_ servers: [UpstreamServer], isDatagram: Bool) -> [Attempt] {
        guard !servers.isEmpty else { return [] }
        if !isDatagram { return servers.map { Attempt(server: $0, isStream: true) } + servers.map { Attempt(server: $0, isStream: false) } }
        return (0..<max(leastAttempts, servers.count)).map { Attempt(server: servers[$0 % servers.count], isStream: false) }
    }

    /// The next one to ask, if there is one left. The one after it is due a while later.
    mutating func next(_ now: ContinuousClock.Instant) -> Attempt? {
        guard !attempts.isEmpty else { return nil }
        dueNext = now + step
        return attempts.removeFirst()
    }

    /// A server has said that it cannot, or cannot be reached: it is not asked again in the same way.
    mutating func failed(_ attempt: Attempt, code: UInt16?) {
        attempts.removeAll { $0 == attempt }
        if let code { failureCode = code }
    }
}
