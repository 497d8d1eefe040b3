import Glibc
import PluginAPI

extension ServerState {
    /// Answers a message, at once or when upstream servers have.
    /// - Returns: `false` for what is not answered at all.
    @discardableResult
    mutating func answer(_ bytes: [UInt8], from path: String, _ now: ContinuousClock.Instant, _ asker: Asker) -> Bool {
        let query: Query
        switch Query.receive(bytes) {
        case .ignored: return false
        case .refused(let header, let code):
            send(Response.refusal(header, code: code), to: asker, of: path, now)
            return true
        case .query(let received): query = received
        }
        if let extensions = query.extensions, extensions.version != 0 {
            send(make(query, code: ResponseCode.badVersion, isOwn: false, for: asker), to: asker, of: path, now)
        } else if query.question.type == RecordType.transfer || query.question.type == RecordType.incrementalTransfer {
            send(make(query, code: ResponseCode.notImplemented, isOwn: false, for: asker), to: asker, of: path, now)
        } else if let answer = ownAnswer(query, path, asker) {
            send(answer, to: asker, of: path, now)
        } else {
            forward(query, bytes, from: path, asker, now)
        }
        return true
    }

    /// What is known here; `nil` when upstream servers are to be asked.
    mutating func ownAnswer(_ query: Query, _ path: String, _ asker: Asker) -> [UInt8]? {
        guard let sandbox = names.sandboxes[path] else { return make(query, code: ResponseCode.serverFailure, isOwn: false, for: asker) }
        switch NameLookup.resolve(query.question, in: sandbox, names.networks) {
        case .unknown: return nil
        case .missing: return make(query, code: ResponseCode.nameError, isOwn: true, for: asker)
        case .answer(.addresses(var addresses)):
            // Clients take the first: each query has another one there.
            if addresses.count > 1 { addresses.shuffle(using: &random) }
            return make(query, .addresses(addresses), isOwn: true, for: asker)
        case .answer(let content): return make(query, content, isOwn: true, for: asker)
        }
    }

    func make(_ query: Query, code: UInt16 = ResponseCode.noError, _ content: Response.Content = .empty, isOwn: Bool, for asker: Asker) -> [UInt8] {
        let limit = asker.isDatagram ? query.datagramLimit : Response.streamLimit
        return Response.make(query, code: code, content, isOwn: isOwn, limit: limit, isDatagram: asker.isDatagram)
    }

    mutating func send(_ answer: [UInt8], to asker: Asker, of path: String, _ now: ContinuousClock.Instant) {
        switch asker {
        case .datagram(let receiver):
            if let door = sandboxes[path]?.door { Sockets.send(door.datagrams, answer, to: receiver) }
        case .stream(let connection): write(answer, to: connection, now)
        }
    }
}
