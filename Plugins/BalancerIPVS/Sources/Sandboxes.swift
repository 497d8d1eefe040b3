import Glibc
import IPVS
import NFTables
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// The virtual addresses in the containers' namespaces. Used by the balancer's thread alone.
struct Sandboxes: ~Copyable {
    /// What is in force in one namespace.
    private struct Sandbox: Sendable {
        /// Tells a namespace from a later one with the same path.
        var identity: UInt64
        var plan: SandboxPlan
        var marks: [FirewallMark.Subject: FirewallMark]
        var isDraining: Bool
    }

    /// How many namespaces are worked in at the same time.
    private static let width = 8

    private var known: [String: Sandbox] = [:]

    var isDraining: Bool { known.values.contains(where: \.isDraining) }

    /// Makes the namespaces' virtual addresses these; one that had some and is not named has none any more.
    /// - Returns: why it did not work, by path; a namespace that is gone is no failure.
    mutating func apply(_ plans: [String: SandboxPlan]) -> [String: ApusError] {
        var work: [(path: String, target: Sandbox, previous: Sandbox?)] = []
        for path in Set(plans.keys).union(known.keys) {
            guard let identity = Self.identity(of: path) else {
                known[path] = nil
                continue
            }
            let previous = known[path].flatMap { $0.identity == identity ? $0 : nil }
            let plan = plans[path] ?? SandboxPlan()
            if let previous, previous.plan == plan, !previous.isDraining { continue }
            let marks = FirewallMark.assign(plan.subjects, known: previous?.marks ?? [:])
            work.append((path, Sandbox(identity: identity, plan: plan, marks: marks, isDraining: false), previous))
        }
        var failures: [String: ApusError] = [:]
        for batch in stride(from: 0, to: work.count, by: Self.width).map({ work[$0..<min($0 + Self.width, work.count)] }) {
            let results = Self.inEach(batch.map(\.path)) { (path) throws(ApusError) -> Bool in
                guard let item = batch.first(where: { $0.path == path }) else { return false }
                return try Self.settle(item.target, from: item.previous)
            }
            for item in batch {
                switch results[item.path] {
                case .success(let isDraining):
                    known[item.path] = item.target
                    known[item.path]?.isDraining = isDraining
                    if item.target.plan.services.isEmpty, !isDraining { known[item.path] = nil }
                case .failure(let error):
                    // What is in force is not known: the next time everything is looked at.
                    known[item.path] = nil
                    if error.code != .notFound, NetworkNamespaces.isPinned(path: item.path) { failures[item.path] = error }
                case nil: break
                }
            }
        }
        return failures
    }

    /// Ends also the connections.
    mutating func removeEverything() -> [String: ApusError] {
        let failed = apply([:])
        let draining = Array(failed.keys) + known.keys
        known = [:]
        return Self.inEach(draining) { (_) throws(ApusError) in try Settlement.removeAll(IPVSSocket()) }.compactMapValues { result in
            if case .failure(let error) = result { error } else { nil }
        }
    }

    /// Looks again at those that drain.
    mutating func reap() -> [String: ApusError] { apply(known.mapValues(\.plan)) }

    /// In the namespace.
    private static func settle(_ target: Sandbox, from previous: Sandbox?) throws(ApusError) -> Bool {
        let servers = target.plan.servers(target.marks)
        let socket = try IPVSSocket()
        try Settlement.ensureSettings()
        let isDraining = try Settlement.settle(socket, servers) { () throws(ApusError) in
            if target.plan == previous?.plan { return }
            if previous == nil { try Settlement.removeOther("apus-services", NFTables(), NetfilterSocket()) }
            if target.plan.services.isEmpty {
                if try NetfilterSocket().hasTable(SandboxRules.table) { try NFTables().run(SandboxRules.removeAll) }
            } else {
                try NFTables().run(SandboxRules.replaceAll(by: target.plan, marks: target.marks))
            }
        }
        let addresses = Set(target.plan.services.keys).union(previous.map { Array($0.plan.services.keys) } ?? [])
        try Settlement.forgetDatagrams(NetfilterSocket()) { connection in
            guard addresses.contains(connection.original.destination) else { return false }
            return target.plan.services[connection.original.destination]?.contains(connection.reply.source) != true
        }
        return isDraining
    }

    /// `nil` when no namespace is pinned there.
    private static func identity(of path: String) -> UInt64? {
        var information = stat()
        guard NetworkNamespaces.isPinned(path: path), stat(path, &information) == 0 else { return nil }
        return UInt64(information.st_ino)
    }

    /// Runs `body` inside each namespace at the same time, and blocks until all have ended.
    private static func inEach<Value: Sendable>(
        _ paths: [String], _ body: @escaping @Sendable (String) throws(ApusError) -> Value
    ) -> [String: Result<Value, ApusError>] {
        let results = Results<Value>()
        var threads: [NamespaceThread] = []
        for path in paths {
            do throws(ApusError) {
                let ended = try ThreadSemaphore()
                let thread = try NamespaceThread(in: path)
                let isAccepted = thread.post {
                    do throws(ApusError) { results.add(.success(try body(path)), for: path) } catch { results.add(.failure(error), for: path) }
                    ended.post()
                }
                if isAccepted { results.waitLater(for: ended) }
                threads.append(thread)
            } catch {
                results.add(.failure(error), for: path)
            }
        }
        defer { for thread in threads { thread.stop() } }
        return results.wait()
    }

    /// What the threads of some namespaces come to.
    private final class Results<Value: Sendable>: Sendable {
        private let values = Mutex<[String: Result<Value, ApusError>]>([:])
        private let running = Mutex<[ThreadSemaphore]>([])

        func add(_ result: Result<Value, ApusError>, for path: String) { values.withLock { $0[path] = result } }

        func waitLater(for thread: ThreadSemaphore) { running.withLock { $0.append(thread) } }

        func wait() -> [String: Result<Value, ApusError>] {
            for thread in running.withLock({ $0 }) { thread.wait() }
            return values.withLock { $0 }
        }
    }
}
