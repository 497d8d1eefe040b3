import Glibc
import NFTables
import Namespaces
import Netlink
import PluginAPI

/// The containers whose virtual addresses are balanced: one table in the namespace of each. Used on the balancer's thread alone.
struct Sandboxes: ~Copyable {
    private var sandboxes: [String: Sandbox] = [:]
    private var turn = 0

    /// Makes the sandboxes these; only those that differ are touched, and those whose namespace is gone are skipped.
    /// - Returns: why some could not be changed; all others are.
    mutating func apply(_ states: [SandboxState]) -> [ApusError] {
        var failures: [ApusError] = []
        var wanted: [String: SandboxState] = [:]
        for state in states { wanted[state.path] = state }
        for (path, sandbox) in sandboxes where wanted[path] == nil {
            attempt(path, &failures) { () throws(ApusError) in try sandbox.remove() }
            sandboxes[path] = nil
        }
        for (path, state) in wanted {
            if let sandbox = sandboxes[path], sandbox.state == state, sandbox.isThere { continue }
            let known = sandboxes[path].flatMap { $0.isThere ? $0 : nil }
            var used = known
            let isThere = attempt(path, &failures) { () throws(ApusError) in
                try checkAddresses(state)
                let sandbox: Sandbox
                if let known { sandbox = known } else { sandbox = try Sandbox(path) }
                used = sandbox
                try sandbox.apply(state, turn: turn)
            }
            sandboxes[path] = isThere ? used : nil
        }
        turn &+= 1
        return failures
    }

    /// Makes the tables anew that someone has removed. Returns where.
    func repair() -> [String] {
        var repaired: [String] = []
        var failures: [ApusError] = []
        for (path, sandbox) in sandboxes where sandbox.isThere {
            attempt(path, &failures) { () throws(ApusError) in if try sandbox.repair(turn: turn) { repaired.append(path) } }
        }
        return repaired
    }

    /// Removes all tables.
    mutating func removeAll() { _ = apply([]) }

}

/// Does something in a namespace. One that ends under our hands is no failure, nor is anything that follows from it: then the answer is `false`.
@discardableResult
private func attempt(_ path: String, _ failures: inout [ApusError], _ body: () throws(ApusError) -> Void) -> Bool {
    guard NetworkNamespaces.isPinned(path: path) else { return false }
    do throws(ApusError) {
        try body()
    } catch {
        guard NetworkNamespaces.isPinned(path: path) else { return false }
        failures.append(error.during("the services of \(path)"))
    }
    return true
}

private func checkAddresses(_ state: SandboxState) throws(ApusError) {
    var known: Set<IPAddress> = []
    for service in state.services {
        guard service.backends.allSatisfy({ $0.isIPv4 == service.address.isIPv4 }) else {
            throw ApusError(.invalidArgument, "the virtual address \(service.address) has a backend of the other IP family")
        }
        guard known.insert(service.address).inserted else {
            throw ApusError(.invalidArgument, "the virtual address \(service.address) is there twice")
        }
    }
}

/// One container's namespace, and what is in force there.
private final class Sandbox {
    private let path: String
    /// Of the namespace: its path may come to lead to another.
    private let identity: UInt
    /// Kept for as long as the namespace: to close such sockets waits for the kernel's clean-up.
    private let rules: NFTables
    private let netfilter: NetfilterSocket
    /// What is in force, or `nil` as long as nothing of this engine is.
    private(set) var state: SandboxState?
    private var services: [IPAddress: [IPAddress]] = [:]

    init(_ path: String) throws(ApusError) {
        self.path = path
        identity = Self.identity(of: path)
        rules = try NetworkNamespaces.runBlocking(in: path) { () throws(ApusError) in try NFTables() }
        netfilter = try NetfilterSocket(inNamespace: path)
    }

    /// Whether the path still leads to this namespace.
    var isThere: Bool { Self.identity(of: path) == identity }

    func apply(_ wanted: SandboxState, turn: Int) throws(ApusError) {
        let new = Self.services(wanted)
        let hasTable = try netfilter.hasTable(SandboxRules.table)
        if new.isEmpty {
            if hasTable { try run(SandboxRules.removeAll) }
        } else if state != nil, hasTable, !services.isEmpty {
            let update = SandboxRules.update(from: services, to: new, turn: turn)
            if !update.isEmpty {
                do throws(ApusError) { try run(update) } catch { try run(SandboxRules.replaceAll(by: new, turn: turn)) }
            }
        } else {
            try run(SandboxRules.replaceAll(by: new, turn: turn))
        }
        let old = services
        let isFirst = state == nil
        services = new
        state = wanted
        // Without a table there was no tracking, hence nothing to forget.
        if hasTable { try forgetDatagrams(from: isFirst ? nil : old) }
    }

    /// Makes the table anew if it is gone. Returns whether it was.
    func repair(turn: Int) throws(ApusError) -> Bool {
        guard !services.isEmpty, try !netfilter.hasTable(SandboxRules.table) else { return false }
        try run(SandboxRules.replaceAll(by: services, turn: turn))
        return true
    }

    func remove() throws(ApusError) {
        guard isThere, try netfilter.hasTable(SandboxRules.table) else { return }
        try run(SandboxRules.removeAll)
    }

    private func run(_ text: String) throws(ApusError) {
        try NetworkNamespaces.runBlocking(in: path) { [rules] () throws(ApusError) in _ = try rules.run(text) }
    }

    /// Datagrams have no end that tracking could see: a client that goes on would stay with a backend that is gone. Connections keep theirs.
    /// - Parameter old: what was in force, or `nil` when that is not known.
    private func forgetDatagrams(from old: [IPAddress: [IPAddress]]?) throws(ApusError) {
        let services = services
        if let old {
            let lost = SandboxRules.changes(from: old, to: services).contains { address in
                let after = services[address] ?? []
                return old[address].map { before in before.isEmpty || before.contains { !after.contains($0) } } ?? true
            }
            guard lost else { return }
        }
        let stale = try netfilter.connections { connection in
            let address = connection.original.destination
            guard Self.isDatagram(connection.original.transport), services[address] != nil || old?[address] != nil else { return false }
            return !(services[address] ?? []).contains(connection.reply.source)
        }
        for connection in stale { try netfilter.forget(connection) }
    }

    /// Whether it is not TCP or SCTP, whose ends tracking sees.
    private static func isDatagram(_ transport: UInt8) -> Bool { transport != 6 && transport != 132 }

    private static func services(_ state: SandboxState) -> [IPAddress: [IPAddress]] {
        var services: [IPAddress: [IPAddress]] = [:]
        for service in state.services {
            var known: Set<IPAddress> = []
            services[service.address] = service.backends.filter { known.insert($0).inserted }
        }
        return services
    }

    private static func identity(of path: String) -> UInt {
        var information = stat()
        return stat(path, &information) == 0 ? UInt(information.st_ino) : 0
    }
}
