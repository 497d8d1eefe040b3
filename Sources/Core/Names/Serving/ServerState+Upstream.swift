import Glibc
import PluginAPI

/// One query to one upstream server, over a socket of its own: the system chooses another port each time, and an answer from elsewhere does not arrive.
struct Exchange {
    /// So many messages that are no answer end it: somebody guesses.
    static let foreignLimit = 16

    let descriptor: Int32
    let query: UInt64
    let attempt: Forwarding.Attempt
    let id: UInt16
    /// Over TCP: not written yet.
    var output: ArraySlice<UInt8>
    /// Over TCP: read so far.
    var input: [UInt8] = []
    var foreign = 0
}

extension ServerState {
    /// Has a query answered by upstream servers.
    mutating func forward(_ query: Query, _ message: [UInt8], from path: String, _ asker: Asker, _ now: ContinuousClock.Instant) {
        let servers = names.sandboxes[path]?.upstream ?? []
        guard !servers.isEmpty, let own = sandboxes[path]?.queries.count, own < limits.forwardedPerSandbox else {
            if !servers.isEmpty { statistics.refused += 1 }
            send(make(query, code: ResponseCode.serverFailure, isOwn: false, for: asker), to: asker, of: path, now)
            return
        }
        if queries.count >= limits.forwarded, let heaviest = sandboxes.values.max(by: { $0.queries.count < $1.queries.count }) {
            statistics.refused += 1
            if let oldest = heaviest.queries.min() { fail(oldest, now) }
        }
        let token = nextToken()
        queries[token] = Forwarding(sandbox: path, asker: asker, query: query, message: message, servers: servers, now: now)
        sandboxes[path]?.queries.insert(token)
        if case .stream(let connection) = asker { connections[connection]?.pending += 1 }
        statistics.forwarded += 1
        if !askNext(token, now) { fail(token, now) }
    }

    /// Asks the next server. `false` when none is left.
    mutating func askNext(_ token: UInt64, _ now: ContinuousClock.Instant) -> Bool {
        while let attempt = queries[token]?.next(now) {
            if begin(attempt, for: token) { return true }
            queries[token]?.failed(attempt, code: nil)
        }
        return false
    }

    private mutating func begin(_ attempt: Forwarding.Attempt, for token: UInt64) -> Bool {
        guard let forwarding = queries[token] else { return false }
        let descriptor: Int32
        do throws(ApusError) {
            let address = try SocketAddress(attempt.server.address, attempt.server.port, zone: attempt.server.zone)
            descriptor = try Sockets.open(address.family, attempt.isStream ? SOCK_STREAM : SOCK_DGRAM)
            // A socket that is connected has a random port, and hears of a server that is not there.
            guard address.with({ connect(descriptor, $0, $1) }) == 0 || errno == EINPROGRESS else {
                Glibc.close(descriptor)
                return false
            }
        } catch {
            return false
        }
        let id = UInt16.random(in: 0...UInt16.max)
        var message = forwarding.message
        message[0] = UInt8(id >> 8)
        message[1] = UInt8(id & 0xff)
        let exchange = nextToken()
        var output: ArraySlice<UInt8> = []
        if attempt.isStream {
            output = [UInt8(message.count >> 8), UInt8(message.count & 0xff)] + message
        } else if Sockets.write(descriptor, message[...]) != message.count {
            Glibc.close(descriptor)
            return false
        }
        members[exchange] = .exchange
        exchanges[exchange] = Exchange(descriptor: descriptor, query: token, attempt: attempt, id: id, output: output)
        queries[token]?.exchanges.insert(exchange)
        readiness.add(descriptor, exchange, writing: attempt.isStream)
        return true
    }

    mutating func advance(exchange token: UInt64, _ now: ContinuousClock.Instant) {
        guard let exchange = exchanges[token] else { return }
        if exchange.attempt.isStream { advance(stream: exchange, token, now) } else { advance(datagram: exchange, token, now) }
    }

    private mutating func advance(datagram exchange: Exchange, _ token: UInt64, _ now: ContinuousClock.Instant) {
        for _ in 0..<Self.batch {
            switch Sockets.read(exchange.descriptor, &buffer) {
            case .bytes(let bytes): if take(bytes, from: token, exchange, now) { return }
            case .nothing: return
            // An empty datagram is no answer either.
            case .ended: if countForeign(token, now) { return }
            case .failed:
                failed(token, code: nil, now)
                return
            }
        }
    }

    private mutating func advance(stream exchange: Exchange, _ token: UInt64, _ now: ContinuousClock.Instant) {
        if !exchange.output.isEmpty {
            // While it is not connected, writing says "not now".
            var error: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(exchange.descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
            guard error == 0, let count = Sockets.write(exchange.descriptor, exchange.output) else {
                failed(token, code: nil, now)
                return
            }
            exchanges[token]?.output.removeFirst(count)
            if count == exchange.output.count { readiness.change(exchange.descriptor, token, reading: true, writing: false) }
        }
        switch Sockets.read(exchange.descriptor, &buffer) {
        case .nothing: return
        case .ended, .failed:
            failed(token, code: nil, now)
            return
        case .bytes(let bytes): exchanges[token]?.input += bytes
        }
        guard let input = exchanges[token]?.input, input.count >= 2 else { return }
        let length = Int(input[0]) << 8 | Int(input[1])
        guard input.count >= 2 + length else { return }
        if !take(Array(input[2..<(2 + length)]), from: token, exchange, now) { failed(token, code: nil, now) }
    }

    /// Looks at a message from a server's address. `true` when the exchange is over.
    private mutating func take(_ bytes: [UInt8], from token: UInt64, _ exchange: Exchange, _ now: ContinuousClock.Instant) -> Bool {
        guard let forwarding = queries[exchange.query] else { return true }
        switch UpstreamAnswer(bytes, id: exchange.id, question: forwarding.query.question) {
        case .foreign: return countForeign(token, now)
        case .failure(let code): failed(token, code: code, now)
        case .formatError:
            finish(exchange.query, make(forwarding.query, code: ResponseCode.formatError, isOwn: false, for: forwarding.asker), now)
        case .answer:
            var answer = bytes
            answer[0] = UInt8(forwarding.query.header.id >> 8)
            answer[1] = UInt8(forwarding.query.header.id & 0xff)
            if forwarding.asker.isDatagram, answer.count > forwarding.query.datagramLimit {
                answer = Response.truncated(forwarding.query, code: UInt16(bytes[3] & 0xf))
            }
            finish(exchange.query, answer, now)
        }
        return true
    }

    /// `true` when it was one too many.
    private mutating func countForeign(_ token: UInt64, _ now: ContinuousClock.Instant) -> Bool {
        statistics.foreignAnswers += 1
        exchanges[token]?.foreign += 1
        guard let foreign = exchanges[token]?.foreign, foreign >= Exchange.foreignLimit else { return false }
        failed(token, code: nil, now)
        return true
    }

    /// A server cannot or will not. The next one is asked at once.
    private mutating func failed(_ token: UInt64, code: UInt16?, _ now: ContinuousClock.Instant) {
        guard let exchange = close(exchange: token) else { return }
        queries[exchange.query]?.exchanges.remove(token)
        queries[exchange.query]?.failed(exchange.attempt, code: code)
        if !askNext(exchange.query, now), queries[exchange.query]?.exchanges.isEmpty == true { fail(exchange.query, now) }
    }

    /// Nobody has answered.
    mutating func fail(_ token: UInt64, _ now: ContinuousClock.Instant) {
        guard let forwarding = queries[token] else { return }
        finish(token, make(forwarding.query, code: forwarding.failureCode, isOwn: false, for: forwarding.asker), now)
    }

    /// Ends a query with an answer, unless its name has become known here meanwhile: that goes first.
    private mutating func finish(_ token: UInt64, _ answer: [UInt8], _ now: ContinuousClock.Instant) {
        guard let forwarding = drop(token) else { return }
        let own = ownAnswer(forwarding.query, forwarding.sandbox, forwarding.asker)
        send(own ?? answer, to: forwarding.asker, of: forwarding.sandbox, now)
        if case .stream(let connection) = forwarding.asker { workOff(connection, now) }
    }

    /// Ends a query without an answer.
    @discardableResult
    mutating func drop(_ token: UInt64) -> Forwarding? {
        guard let forwarding = queries.removeValue(forKey: token) else { return nil }
        for exchange in forwarding.exchanges { close(exchange: exchange) }
        sandboxes[forwarding.sandbox]?.queries.remove(token)
        if case .stream(let connection) = forwarding.asker { connections[connection]?.pending -= 1 }
        return forwarding
    }

    @discardableResult
    private mutating func close(exchange token: UInt64) -> Exchange? {
        guard let exchange = exchanges.removeValue(forKey: token) else { return nil }
        members[token] = nil
        readiness.close(exchange.descriptor)
        return exchange
    }
}
