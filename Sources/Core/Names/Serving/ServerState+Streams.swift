import CLinux
import Glibc
import PluginAPI

/// A TCP connection from a sandbox (RFC 7766): any number of queries, answered as answers come.
struct Connection {
    /// No more queries of one connection wait for upstream servers.
    static let pendingLimit = 16
    /// So much is read at once: others wait for what comes of it.
    static let inputBatch = 4096
    /// Nothing more is read while so many bytes of answers wait for the client to read them.
    static let outputLimit = 256 << 10

    let descriptor: Int32
    let sandbox: String
    /// Read, and not answered yet.
    var input: [UInt8] = []
    /// Answers, and not written yet.
    var output: [UInt8] = []
    /// Queries that wait for upstream servers.
    var pending = 0
    /// The client asks nothing more, and may still wait for answers.
    var isInputEnded = false
    /// Its input is being worked off: what is answered meanwhile must not begin again with it.
    var isBusy = false
    var lastActive: ContinuousClock.Instant

    var takesMore: Bool { pending < Self.pendingLimit && output.count < Self.outputLimit }
    /// What is left of the input is no whole query then.
    var isFinished: Bool { isInputEnded && pending == 0 && output.isEmpty && !Self.hasWholeQuery(input, at: 0) }

    static func hasWholeQuery(_ input: [UInt8], at place: Int) -> Bool {
        input.count - place >= 2 && input.count - place - 2 >= Int(input[place]) << 8 | Int(input[place + 1])
    }
}

extension ServerState {
    mutating func accept(from path: String, _ now: ContinuousClock.Instant) {
        for _ in 0..<Self.batch {
            guard let door = sandboxes[path]?.door else { return }
            let descriptor = Glibc.accept(door.listener, nil, nil)
            guard descriptor >= 0 else {
                // Without a free descriptor a waiting client would wake the loop for ever.
                if errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS { pause(path, now) }
                return
            }
            // A program started in between inherits nothing: the engine's children close what they are not given.
            _ = apus_fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            _ = apus_fcntl(descriptor, F_SETFL, O_NONBLOCK)
            Sockets.set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            makeRoomForConnection(from: path)
            let token = nextToken()
            members[token] = .connection
            connections[token] = Connection(descriptor: descriptor, sandbox: path, lastActive: now)
            sandboxes[path]?.connections.insert(token)
            readiness.add(descriptor, token)
        }
    }

    private mutating func makeRoomForConnection(from path: String) {
        if let own = sandboxes[path]?.connections, own.count >= limits.connectionsPerSandbox {
            closeOldest(own)
        } else if connections.count >= limits.connections, let heaviest = sandboxes.values.max(by: { $0.connections.count < $1.connections.count }) {
            closeOldest(heaviest.connections)
        }
    }

    private mutating func closeOldest(_ tokens: Set<UInt64>) {
        let oldest = tokens.compactMap { token in connections[token].map { (token, $0.lastActive) } }.min { $0.1 < $1.1 }
        if let oldest { close(connection: oldest.0) }
    }

    mutating func close(connection token: UInt64) {
        guard let connection = connections.removeValue(forKey: token) else { return }
        members[token] = nil
        if let sandbox = sandboxes[connection.sandbox] {
            for query in sandbox.queries {
                if case .stream(token) = queries[query]?.asker { drop(query) }
            }
            sandboxes[connection.sandbox]?.connections.remove(token)
        }
        readiness.close(connection.descriptor)
    }

    /// Writes, reads and answers what can be.
    mutating func advance(connection token: UInt64, _ now: ContinuousClock.Instant) {
        flush(token, now)
        guard let connection = connections[token] else { return }
        if connection.takesMore, !connection.isInputEnded, !isPaused(connection.sandbox) {
            switch Sockets.read(connection.descriptor, &buffer, limit: Connection.inputBatch) {
            case .bytes(let bytes):
                connections[token]?.input += bytes
                connections[token]?.lastActive = now
            case .ended: connections[token]?.isInputEnded = true
            case .nothing: break
            case .failed:
                close(connection: token)
                return
            }
        }
        workOff(token, now)
    }

    /// Answers the queries that have come whole, as long as the connection takes more.
    mutating func workOff(_ token: UInt64, _ now: ContinuousClock.Instant) {
        guard let path = connections[token]?.sandbox, connections[token]?.isBusy == false else { return }
        connections[token]?.isBusy = true
        // Taken out for the time being: what is held twice would be copied with each change.
        var input = connections[token]?.input ?? []
        connections[token]?.input = []
        var place = 0
        while connections[token]?.takesMore == true, Connection.hasWholeQuery(input, at: place), takeAllowance(path, now) {
            let end = place + 2 + (Int(input[place]) << 8 | Int(input[place + 1]))
            let message = Array(input[(place + 2)..<end])
            place = end
            statistics.streamQueries += 1
            guard answer(message, from: path, now, .stream(token)) else {
                close(connection: token)
                return
            }
        }
        input.removeFirst(place)
        // What is announced as longer than any query is not waited for.
        if input.count >= 2, Int(input[0]) << 8 | Int(input[1]) > Query.lengthLimit {
            close(connection: token)
            return
        }
        connections[token]?.input = input
        connections[token]?.isBusy = false
        flush(token, now)
        // Writing may have made room for more.
        if place > 0, let left = connections[token], left.takesMore, Connection.hasWholeQuery(left.input, at: 0), !isPaused(path) { workOff(token, now) }
    }

    private func isPaused(_ path: String) -> Bool { sandboxes[path]?.pausedUntil != nil }

    /// Appends an answer to what a connection is to be sent.
    mutating func write(_ answer: [UInt8], to token: UInt64, _ now: ContinuousClock.Instant) {
        guard answer.count <= Response.streamLimit, let isBusy = connections[token]?.isBusy else { return }
        connections[token]?.output += [UInt8(answer.count >> 8), UInt8(answer.count & 0xff)] + answer
        if !isBusy { flush(token, now) }
    }

    /// Writes what can be, and waits for what is next.
    private mutating func flush(_ token: UInt64, _ now: ContinuousClock.Instant) {
        guard var output = connections[token]?.output, let descriptor = connections[token]?.descriptor else { return }
        if !output.isEmpty {
            connections[token]?.output = []
            guard let count = Sockets.write(descriptor, output[...]) else {
                close(connection: token)
                return
            }
            output.removeFirst(count)
            connections[token]?.output = output
            // Who still reads is not silent.
            if count > 0 { connections[token]?.lastActive = now }
        }
        guard let connection = connections[token] else { return }
        if connection.isFinished {
            close(connection: token)
        } else {
            let reads = connection.takesMore && !connection.isInputEnded && !isPaused(connection.sandbox)
            readiness.change(descriptor, token, reading: reads, writing: !connection.output.isEmpty)
        }
    }
}
