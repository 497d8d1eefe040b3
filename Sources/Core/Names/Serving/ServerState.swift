import Glibc
import PluginAPI

/// All that the name server's thread works on: sockets, queries under way, and the state that answers come from.
///
/// Its methods never block. They are called under one lock, a short piece of work each, so that a new state is in force as soon as it is set:
/// no answer from before can be sent after.
struct ServerState: ~Copyable {
    /// One sandbox that is served.
    struct Sandbox {
        let door: SandboxDoor
        let datagramToken: UInt64
        let listenerToken: UInt64
        var queries: Set<UInt64> = []
        var connections: Set<UInt64> = []
        /// Queries that may be looked at now.
        var allowance: Double
        var allowedAt: ContinuousClock.Instant
        /// Neither its sockets nor its connections are listened to until then.
        var pausedUntil: ContinuousClock.Instant?
    }

    /// What a number of the readiness set stands for.
    enum Member {
        case datagrams(String)
        case listener(String)
        case connection
        case exchange
    }

    /// How long a pause is: of a sandbox that asks too much, and when descriptors are short.
    static let pause: Duration = .milliseconds(10)
    /// Time limits are looked at so often, as long as there are any.
    static let tick: Duration = .milliseconds(50)
    /// How many datagrams of one sandbox are looked at before those of others.
    static let batch = 16

    let limits: NameServerLimits
    let readiness: ReadinessSet
    var names = NameState()
    var sandboxes: [String: Sandbox] = [:]
    var members: [UInt64: Member] = [:]
    var connections: [UInt64: Connection] = [:]
    var queries: [UInt64: Forwarding] = [:]
    var exchanges: [UInt64: Exchange] = [:]
    var isStopped = false
    var random = SplitMix(seed: UInt64.random(in: 0...UInt64.max))
    var buffer = [UInt8](repeating: 0, count: 65535)
    var statistics = NameServerStatistics()
    private var paused: Set<String> = []
    private var lastTick = ContinuousClock.now
    private var lastToken: UInt64 = 0

    init(limits: NameServerLimits) throws(ApusError) {
        self.limits = limits
        readiness = try ReadinessSet()
    }

    /// A number that nothing has had before. 0 is nobody's.
    mutating func nextToken() -> UInt64 {
        lastToken += 1
        return lastToken
    }

    // MARK: Sandboxes

    mutating func add(_ door: SandboxDoor, at path: String) {
        let (datagramToken, listenerToken) = (nextToken(), nextToken())
        sandboxes[path] = Sandbox(
            door: door, datagramToken: datagramToken, listenerToken: listenerToken, allowance: Double(limits.queriesPerSecond), allowedAt: .now)
        members[datagramToken] = .datagrams(path)
        members[listenerToken] = .listener(path)
        readiness.add(door.datagrams, datagramToken)
        readiness.add(door.listener, listenerToken)
    }

    /// Closes everything of a sandbox. Who waits for an answer gets none.
    mutating func remove(_ path: String) {
        guard let sandbox = sandboxes.removeValue(forKey: path) else { return }
        paused.remove(path)
        for query in sandbox.queries { drop(query) }
        for connection in sandbox.connections { close(connection: connection) }
        members[sandbox.datagramToken] = nil
        members[sandbox.listenerToken] = nil
        readiness.close(sandbox.door.datagrams)
        readiness.close(sandbox.door.listener)
    }

    mutating func removeAll() { for path in Array(sandboxes.keys) { remove(path) } }

    /// Stops listening to a sandbox for a moment: what it sends is its own to keep.
    mutating func pause(_ path: String, _ now: ContinuousClock.Instant) {
        guard let sandbox = sandboxes[path], sandbox.pausedUntil == nil else { return }
        sandboxes[path]?.pausedUntil = now + Self.pause
        paused.insert(path)
        listen(to: sandbox, false)
    }

    private func listen(to sandbox: Sandbox, _ isWanted: Bool) {
        readiness.change(sandbox.door.datagrams, sandbox.datagramToken, reading: isWanted, writing: false)
        readiness.change(sandbox.door.listener, sandbox.listenerToken, reading: isWanted, writing: false)
    }

    // MARK: Events and time

    mutating func handle(_ token: UInt64, isBroken: Bool, _ now: ContinuousClock.Instant) {
        switch members[token] {
        case .datagrams(let path): readDatagrams(of: path, now)
        case .listener(let path): accept(from: path, now)
        case .connection: if isBroken { close(connection: token) } else { advance(connection: token, now) }
        case .exchange: advance(exchange: token, now)
        case nil: break
        }
    }

    /// Milliseconds until something is due; -1 while nothing is, which is for as long as nobody asks anything.
    var waitingTime: Int32 {
        if !paused.isEmpty { return 10 }
        return queries.isEmpty && connections.isEmpty ? -1 : 50
    }

    /// Does what is due.
    mutating func tick(_ now: ContinuousClock.Instant) {
        for path in paused {
            guard let sandbox = sandboxes[path], let until = sandbox.pausedUntil, until <= now else { continue }
            paused.remove(path)
            sandboxes[path]?.pausedUntil = nil
            listen(to: sandbox, true)
            for connection in sandbox.connections { advance(connection: connection, now) }
        }
        guard now - lastTick >= Self.tick else { return }
        lastTick = now
        for (token, query) in queries where query.dueNext <= now {
            if !askNext(token, now) { fail(token, now) }
        }
        for (token, connection) in connections where connection.pending == 0 && now - connection.lastActive >= limits.silence {
            close(connection: token)
        }
    }

    // MARK: Datagrams of sandboxes

    private mutating func readDatagrams(of path: String, _ now: ContinuousClock.Instant) {
        for _ in 0..<Self.batch {
            guard takeAllowance(path, now), let door = sandboxes[path]?.door else { return }
            guard let (bytes, sender) = Sockets.receive(door.datagrams, &buffer) else { return }
            statistics.datagrams += 1
            answer(bytes, from: path, now, .datagram(sender))
        }
    }

    /// One more query, if the sandbox may have it looked at; else it is paused.
    mutating func takeAllowance(_ path: String, _ now: ContinuousClock.Instant) -> Bool {
        guard var sandbox = sandboxes[path] else { return false }
        if sandbox.allowance < 1 {
            let rate = Double(limits.queriesPerSecond)
            sandbox.allowance = min(rate, sandbox.allowance + rate * ((now - sandbox.allowedAt) / .seconds(1)))
            sandbox.allowedAt = now
        }
        let isAllowed = sandbox.allowance >= 1
        if isAllowed { sandbox.allowance -= 1 }
        sandboxes[path]?.allowance = sandbox.allowance
        sandboxes[path]?.allowedAt = sandbox.allowedAt
        if !isAllowed { pause(path, now) }
        return isAllowed
    }
}

/// What the name server has done since it was made.
public struct NameServerStatistics: Sendable, Hashable {
    /// Queries over UDP, sensible or not.
    public var datagrams: UInt64 = 0
    /// Queries over TCP.
    public var streamQueries: UInt64 = 0
    /// Queries given to upstream servers.
    public var forwarded: UInt64 = 0
    /// Queries that failed because their sandbox had too many under way.
    public var refused: UInt64 = 0
    /// Messages from upstream servers' addresses that were no answer to what was asked.
    public var foreignAnswers: UInt64 = 0
}

/// SplitMix64 (Steele, Lea, Flood 2014), for the order of addresses: nothing secret comes from it.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
