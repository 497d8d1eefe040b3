@testable import Raft

/// Clients that write and read registers, one request each at a time, and what they saw.
struct Clients {
    private struct Request {
        var client: Int
        var key: Int
        /// In the history of the key.
        var operation: Int
        var member: Int
        /// Where a write must be decided.
        var position: LogPosition?
        var isRead: Bool
    }

    private static let count = 4
    private var busy = [UInt64?](repeating: nil, count: Clients.count)
    private var requests: [UInt64: Request] = [:]
    private var histories = [[RegisterOperation?]](repeating: [], count: Registers.count)
    private var now = 0
    private var nextID: UInt64 = 1
    private var nextValue: UInt32 = 1
    private(set) var writes = 0
    private(set) var reads = 0

    func idle(using generator: inout SeededGenerator) -> Int? { busy.indices.filter { busy[$0] == nil }.randomElement(using: &generator) }

    private mutating func begin(_ client: Int, _ key: Int, _ kind: RegisterOperation.Kind, _ member: Int, isRead: Bool) -> UInt64? {
        guard histories[key].count < LinearizabilityChecker.operationLimit else { return nil }
        now += 1
        let id = nextID
        nextID += 1
        requests[id] = Request(client: client, key: key, operation: histories[key].count, member: member, position: nil, isRead: isRead)
        histories[key].append(RegisterOperation(kind: kind, start: now, end: nil))
        busy[client] = id
        return id
    }

    mutating func beginWrite(_ client: Int, _ key: Int) -> (id: UInt64, value: UInt32)? {
        let value = nextValue
        guard let id = begin(client, key, .write(value), -1, isRead: false) else { return nil }
        nextValue += 1
        return (id, value)
    }

    mutating func beginRead(_ client: Int, _ key: Int, _ member: Int) -> UInt64? { begin(client, key, .read(0), member, isRead: true) }

    mutating func accepted(_ id: UInt64, _ member: Int, _ position: LogPosition) {
        requests[id]?.member = member
        requests[id]?.position = position
    }

    /// It did not happen, and never will.
    mutating func rejected(_ id: UInt64) {
        guard let request = requests.removeValue(forKey: id) else { return }
        histories[request.key][request.operation] = nil
        if busy[request.client] == id { busy[request.client] = nil }
    }

    private mutating func finish(_ id: UInt64, _ request: Request) {
        now += 1
        histories[request.key][request.operation]?.end = now
        requests[id] = nil
        if busy[request.client] == id { busy[request.client] = nil }
    }

    /// A read is answered from a state machine.
    mutating func answered(_ id: UInt64, _ registers: Registers) {
        guard let request = requests[id], request.isRead else { return }
        histories[request.key][request.operation]?.kind = .read(registers.values[request.key])
        finish(id, request)
        reads += 1
    }

    /// A member has applied an entry: its client's write is decided.
    mutating func applied(_ member: Int, _ entry: LogEntry) {
        for id in busy {
            guard let id, let request = requests[id], request.member == member, let position = request.position, position.index <= entry.index
            else { continue }
            if position == LogPosition(index: entry.index, term: entry.term) {
                finish(id, request)
                writes += 1
            } else {
                rejected(id)
            }
        }
    }

    /// A member has crashed, or skipped entries: its clients do not know what became of their requests.
    mutating func lostTrack(of member: Int) {
        for (client, id) in busy.enumerated() {
            guard let id, let request = requests[id], request.member == member else { continue }
            requests[id] = nil
            busy[client] = nil
        }
    }

    mutating func giveUp(using generator: inout SeededGenerator) {
        guard let client = busy.indices.filter({ busy[$0] != nil }).randomElement(using: &generator), let id = busy[client] else { return }
        requests[id] = nil
        busy[client] = nil
    }

    /// What is wrong with what the clients saw, if anything.
    func verdict() -> String? {
        for (key, history) in histories.enumerated() {
            switch LinearizabilityChecker().check(history.compactMap { $0 }) {
            case .linearizable: continue
            case .wrong: return "register \(key) is not linearizable: \(history.compactMap { $0 })"
            case .undecided: return "the history of register \(key) is too large to be checked"
            }
        }
        return nil
    }
}
