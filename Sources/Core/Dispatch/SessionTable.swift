public import PluginAPI

/// The sessions of the nodes, as a value: who is registered, who has been heard of, and who is to be given up.
///
/// No clock and no store: the time comes with every call, and what is to be written comes out of `takeChanges`. Time is monotonic, so a clock that is set
/// gives nobody up. A node with a session costs some 200 bytes, a heartbeat a look into a dictionary.
public struct SessionTable: Sendable {
    /// Of a clock that nobody sets.
    public typealias Instant = ContinuousClock.Instant

    /// How patient the managers are.
    public struct Configuration: Sendable, Hashable {
        /// Between two signs of life; five seconds when it is zero or less.
        public var heartbeatPeriod: Duration = .seconds(5)
        /// Periods of silence after which a node is down.
        public var grace = 3
        /// Registrations of one node within `registrationWindow` that are accepted.
        public var registrationLimit = 3
        public var registrationWindow: Duration = .seconds(8)

        public init() {}

        /// Up to a tenth of the period, and half a second, earlier or later, so that nodes do not come all at once.
        var jitter: Duration { min(.milliseconds(500), heartbeatPeriod / 10) }
        var silence: Duration { heartbeatPeriod * grace }
    }

    /// What is to be written of a node.
    public struct Change: Sendable, Hashable {
        public var state: NodeState
        public var message: String
        /// `nil` leaves what is written.
        public var address: String?
        /// `nil` leaves what is written.
        public var description: NodeDescription?
    }

    private struct Entry {
        var state: NodeState
        /// Empty without one.
        var session: ID = ""
        /// When the node is given up; `nil` when it is already.
        var deadline: Instant?
        /// Where in the wheel it is.
        var bucket: Int64?
        var registrations: [Instant] = []
    }

    public var configuration: Configuration {
        didSet { if configuration.heartbeatPeriod <= .zero { configuration.heartbeatPeriod = .seconds(5) } }
    }
    private var entries: [ID: Entry] = [:]
    private var wheel: DeadlineWheel
    private var changes: [ID: Change] = [:]

    public init(_ configuration: Configuration = Configuration(), now: Instant) {
        self.configuration = configuration
        if configuration.heartbeatPeriod <= .zero { self.configuration.heartbeatPeriod = .seconds(5) }
        wheel = DeadlineWheel(start: now)
    }

    /// Nodes that have a session.
    public var sessionCount: Int { entries.values.count { !$0.session.isEmpty } }
    /// Whether `takeChanges` has something.
    public var hasChanges: Bool { !changes.isEmpty }
    /// `nil` for a node that is not known.
    public func state(of node: ID) -> NodeState? { entries[node]?.state }

    // MARK: The swarm's nodes

    /// A new leader takes over: nobody is known to be there until he registers, for which there is twice the usual time. Nodes that are down stay so.
    public mutating func takeOver(_ nodes: some Sequence<Node>, now: Instant) {
        for node in nodes { add(node, now: now) }
    }

    /// A node of the store that is not known yet; others are left alone.
    public mutating func add(_ node: Node, now: Instant) {
        guard entries[node.id] == nil else { return }
        if node.status.state == .down {
            entries[node.id] = Entry(state: .down)
            return
        }
        entries[node.id] = Entry(state: .unknown)
        expect(node.id, by: now + configuration.silence * 2)
        if node.status.state != .unknown {
            changes[node.id] = Change(state: .unknown, message: "waiting for the node to turn to the new leader")
        }
    }

    /// The node is no longer part of the swarm.
    public mutating func remove(_ node: ID) {
        entries[node] = nil
        changes[node] = nil
    }

    /// All nodes that are known, in no order.
    public var nodes: [ID] { Array(entries.keys) }

    // MARK: What nodes do

    /// A node comes. A session that it had is over.
    /// - Throws: `unavailable` when it comes too often.
    public mutating func register(
        _ node: ID, session: ID, address: String, description: NodeDescription, now: Instant
    ) throws(ApusError) {
        var entry = entries[node] ?? Entry(state: .unknown)
        entry.registrations.removeAll { now - $0 >= configuration.registrationWindow }
        guard entry.registrations.count < configuration.registrationLimit else {
            throw ApusError(
                .unavailable,
                "node \(node) registers too often: more than \(configuration.registrationLimit) times in \(configuration.registrationWindow); "
                    + "it is to wait, and to be looked for twice under one identity")
        }
        entry.registrations.append(now)
        entry.session = session
        entry.state = .ready
        entries[node] = entry
        expect(node, by: now + configuration.silence)
        changes[node] = Change(state: .ready, message: "", address: address, description: description)
    }

    /// - Throws: `notFound` when the session is not the node's.
    public func check(_ node: ID, _ session: ID) throws(ApusError) {
        guard let entry = entries[node], !session.isEmpty, entry.session == session else {
            throw ApusError(.notFound, "the session \(session) of node \(node) is over; the node must register again")
        }
    }

    /// A sign of life. Returns when the next one is due.
    /// - Throws: `notFound` when the session is not the node's.
    public mutating func heartbeat(
        _ node: ID, _ session: ID, now: Instant, using generator: inout some RandomNumberGenerator
    ) throws(ApusError) -> Duration {
        try check(node, session)
        // In place: this is the hot path.
        let deadline = now + configuration.silence
        entries[node]?.deadline = deadline
        // The period was shortened.
        if let bucket = entries[node]?.bucket, wheel.bucket(of: deadline) < bucket { expect(node, by: deadline) }
        let jitter = configuration.jitter.nanoseconds
        return configuration.heartbeatPeriod + .nanoseconds(Int64.random(in: -jitter...jitter, using: &generator))
    }

    /// - Throws: `notFound` when the session is not the node's.
    public mutating func describe(_ node: ID, _ session: ID, _ description: NodeDescription) throws(ApusError) {
        try check(node, session)
        var change = changes[node] ?? Change(state: entries[node]?.state ?? .ready, message: "")
        change.description = description
        changes[node] = change
    }

    /// The node says goodbye. One that leaves for good is down at once; another one has the usual time to come back.
    /// - Throws: `notFound` when the session is not the node's.
    public mutating func end(_ node: ID, _ session: ID, isLeaving: Bool, now: Instant) throws(ApusError) {
        try check(node, session)
        entries[node]?.session = ""
        if isLeaving {
            giveUp(node, "the node has left the swarm")
        } else {
            set(node, .disconnected, "the node's engine has ended")
            expect(node, by: now + configuration.silence)
        }
    }

    // MARK: Time

    /// Gives up those whose time is over, and returns the sessions that end by it.
    public mutating func expire(now: Instant) -> [ID] {
        var ended: [ID] = []
        for (bucket, nodes) in wheel.due(at: now) {
            for node in nodes {
                // One that was removed, or has been put elsewhere meanwhile.
                guard let entry = entries[node], entry.bucket == bucket else { continue }
                entries[node]?.bucket = nil
                guard let deadline = entry.deadline else { continue }
                guard deadline <= now else {
                    entries[node]?.bucket = wheel.add(node, at: deadline)
                    continue
                }
                if !entry.session.isEmpty { ended.append(node) }
                entries[node]?.session = ""
                switch entry.state {
                case .unknown: giveUp(node, "the node has not turned to the new leader")
                case .disconnected: giveUp(node, "the node's engine ended and did not come back")
                default: giveUp(node, "heartbeat failure: nothing was heard of the node for \(configuration.silence)")
                }
            }
        }
        return ended
    }

    /// The manager itself was away for so long, stopped or starved: nobody is given up for what could not be heard.
    public mutating func forgive(_ absence: Duration) {
        for (node, entry) in entries { if let deadline = entry.deadline { entries[node]?.deadline = deadline + absence } }
    }

    /// What is to be written, of up to so many nodes. What cannot be written comes back with `putBack`.
    public mutating func takeChanges(limit: Int) -> [ID: Change] {
        guard changes.count > limit else {
            defer { changes = [:] }
            return changes
        }
        var taken: [ID: Change] = [:]
        for (node, change) in changes.prefix(limit) { taken[node] = change }
        for node in taken.keys { changes[node] = nil }
        return taken
    }

    /// Takes back what could not be written; what has changed since counts more.
    public mutating func putBack(_ failed: [ID: Change]) {
        for (node, change) in failed {
            guard entries[node] != nil else { continue }
            guard var newer = changes[node] else {
                changes[node] = change
                continue
            }
            newer.address = newer.address ?? change.address
            newer.description = newer.description ?? change.description
            changes[node] = newer
        }
    }

    private mutating func giveUp(_ node: ID, _ message: String) {
        set(node, .down, message)
        entries[node]?.deadline = nil
        entries[node]?.registrations = []
    }

    private mutating func set(_ node: ID, _ state: NodeState, _ message: String) {
        guard entries[node]?.state != state else { return }
        entries[node]?.state = state
        var change = changes[node] ?? Change(state: state, message: message)
        change.state = state
        change.message = message
        changes[node] = change
    }

    private mutating func expect(_ node: ID, by deadline: Instant) {
        entries[node]?.deadline = deadline
        // An earlier bucket will find the new deadline by itself; a later one would be late.
        let bucket = wheel.add(node, at: deadline)
        entries[node]?.bucket = bucket
    }
}

extension SessionTable.Change {
    init(state: NodeState, message: String) {
        self.init(state: state, message: message, address: nil, description: nil)
    }
}

extension SessionTable {
    /// Removes the nodes that are not to be kept.
    mutating func keep(where isKept: (ID) -> Bool) {
        for node in nodes where !isKept(node) { remove(node) }
    }
}
