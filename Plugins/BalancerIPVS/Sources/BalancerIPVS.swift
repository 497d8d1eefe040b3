import Glibc
import IPVS
import Mesh
import NFTables
import Namespaces
import Netlink
import PluginAPI
import PortProxy
import Synchronization

/// Balances published ports and virtual addresses in the kernel, by IPVS.
///
/// Rules of nftables mark what is to be balanced, virtual servers choose by the mark. A packet's source is left alone, so tasks see their clients.
/// A destination that leaves keeps its connections with weight 0, and is removed when it has none any more.
///
/// Published ports come to IPVS behind the host's input chains: a firewall that drops what it does not know must let them in.
///
/// Configuration:
/// * `host-namespace`: the path of a network namespace that stands for the host's; without it the engine's own is used.
/// * `proxy-connections`: how many connections there may be at the same time that the kernel cannot translate, those of IPv6 clients to
///   IPv4 backends; 512 by default.
/// * `cleanup=true`: everything is removed at shut down. Without it, traffic goes on while no engine runs: containers outlive their engine.
public final class BalancerIPVS: LoadBalancer {
    private struct State: ~Copyable {
        var published: PublishedPorts
        var sandboxes = Sandboxes()
        /// Looks after destinations that drain, while there are any.
        var reaper: ConcurrentTask<Void, Never>?
    }

    /// How often it is looked whether destinations have drained. They cost a few hundred bytes until then, and nothing else.
    private static let reapInterval: Duration = .seconds(10)

    private let host: any HostServices
    /// All of the balancer's work is done here, in order; the lock is never contended.
    private let thread: NamespaceThread
    private let state: Mutex<State>
    private let proxy: Proxy

    /// - Throws: `unavailable` without nftables, and when the namespace of the configuration cannot be entered.
    public init(host: any HostServices) throws(ApusError) {
        let namespace = host.configuration["host-namespace"]
        let limitText = host.configuration["proxy-connections"] ?? "\(Proxy.defaultConnectionLimit)"
        guard let limit = Int(limitText), (1...100_000).contains(limit) else {
            throw ApusError(.invalidArgument, "balancer/ipvs:proxy-connections must be 1 to 100000, not \"\(limitText)\"")
        }
        self.host = host
        thread = try NamespaceThread(in: namespace)
        let rules = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in try NFTables() }
        proxy = try Proxy(in: namespace, connectionLimit: limit)
        state = Mutex(State(published: PublishedPorts(rules: rules, proxy: proxy) { level, message in host.log(level, message) }))
    }

    public func probe() async throws(ApusError) {
        try await thread.run { () throws(ApusError) in
            do throws(ApusError) {
                try self.withState { (state) throws(ApusError) in try state.published.probe() }
            } catch {
                throw ApusError(.unavailable, "this kernel cannot balance by IPVS: \(error.message)")
            }
        }
    }

    public func apply(_ state: BalancerState) async throws(ApusError) {
        let plan = try HostPlan(state)
        let sandboxes = Dictionary(state.sandboxes.map { ($0.path, SandboxPlan($0)) }, uniquingKeysWith: { _, later in later })
        let failures = try await thread.run { () throws(ApusError) in
            try self.withState { (state) throws(ApusError) -> [ApusError] in
                // Who calls in turn from inside is served even where ports of the node fail, and the other way round.
                let inside = state.sandboxes.apply(sandboxes)
                let ports = try state.published.apply(plan)
                self.watch(&state)
                return ports.sorted { $0.key.chain < $1.key.chain }.map(\.value) + inside.sorted { $0.key < $1.key }.map(\.value)
            }
        }
        guard let first = failures.first else { return }
        throw ApusError(first.code, failures.map(\.message).joined(separator: "; "))
    }

    public func shutDown() async {
        let isCleanedUp = host.configuration["cleanup"] == "true"
        do throws(ApusError) {
            let reaper = try await thread.run { () throws(ApusError) in
                try self.withState { (state) throws(ApusError) -> ConcurrentTask<Void, Never>? in
                    defer { state.reaper = nil }
                    if isCleanedUp {
                        for (path, error) in state.sandboxes.removeEverything() { self.host.log(.warning, "\(path): \(error.message)") }
                        try state.published.removeEverything()
                    }
                    return state.reaper
                }
            }
            reaper?.cancel()
        } catch {
            host.log(.warning, "the balancer's rules stay: \(error)")
        }
        await proxy.stop()
        do throws(ApusError) { try await thread.run { () throws(ApusError) in self.state.withLock { $0.published.closePorts() } } } catch {}
        thread.stop()
    }

    private func withState<Value: Sendable>(_ body: (inout State) throws(ApusError) -> Value) throws(ApusError) -> Value {
        let result: Result<Value, ApusError> = state.withLock { state in
            do throws(ApusError) { return .success(try body(&state)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Has somebody come back for what drains.
    private func watch(_ state: inout State) {
        guard state.reaper == nil, state.published.isDraining || state.sandboxes.isDraining else { return }
        state.reaper = ConcurrentTask { [weak self] in
            while true {
                do { try await ConcurrentTask.sleep(for: Self.reapInterval) } catch { return }
                guard let self, await self.reap() else { return }
            }
        }
    }

    /// Returns whether there is something left to come back for.
    private func reap() async -> Bool {
        do throws(ApusError) {
            return try await thread.run { () throws(ApusError) in
                try self.withState { (state) throws(ApusError) in
                    for (path, error) in state.sandboxes.reap() { self.host.log(.warning, "\(path): \(error.message)") }
                    do throws(ApusError) { try state.published.reap() } catch { self.host.log(.warning, "\(error.message)") }
                    let isDraining = state.published.isDraining || state.sandboxes.isDraining
                    if !isDraining { state.reaper = nil }
                    return isDraining
                }
            }
        } catch {
            // The thread has ended, and with it the balancer.
            return false
        }
    }
}
