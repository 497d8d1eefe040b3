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
    }

    private let host: any HostServices
    /// All of the balancer's work is done here, in order; the lock is never contended.
    private let thread: NamespaceThread
    private let state: Mutex<State>
    private let proxy: Proxy
    private let monitor = Mutex<RulesetMonitor?>(nil)
    /// Whether a check of what is in force waits for its turn.
    private let isCheckWaiting = Mutex(false)

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
        let watching = try RulesetMonitor(in: namespace) { [weak self] occasion in self?.requestCheck(occasion) }
        monitor.withLock { $0 = watching }
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
                return ports.sorted { $0.key.chain < $1.key.chain }.map(\.value) + inside.sorted { $0.key < $1.key }.map(\.value)
            }
        }
        guard let first = failures.first else { return }
        throw ApusError(first.code, failures.map(\.message).joined(separator: "; "))
    }

    public func shutDown() async {
        monitor.withLock { $0 }?.stop()
        if host.configuration["cleanup"] == "true" {
            do throws(ApusError) {
                try await thread.run { () throws(ApusError) in
                    try self.withState { (state) throws(ApusError) in
                        for (path, error) in state.sandboxes.removeEverything() { self.host.log(.warning, "\(path): \(error.message)") }
                        try state.published.removeEverything()
                    }
                }
            } catch {
                host.log(.warning, "the balancer's rules stay: \(error)")
            }
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

    private func requestCheck(_ occasion: RulesetMonitor.Occasion) {
        let isFirst = isCheckWaiting.withLock { isWaiting in
            defer { isWaiting = true }
            return !isWaiting
        }
        guard isFirst else { return }
        thread.post { [weak self] in self?.check(occasion) }
    }

    /// Makes anew what someone has removed, and regularly removes what has drained.
    private func check(_ occasion: RulesetMonitor.Occasion) {
        isCheckWaiting.withLock { $0 = false }
        state.withLock { state in
            do throws(ApusError) { try state.published.repair() } catch {
                host.log(.warning, "what was removed from the ruleset cannot be made anew: \(error)")
            }
            guard occasion == .regular else { return }
            for (path, error) in state.sandboxes.reap() { host.log(.warning, "\(path): \(error.message)") }
        }
    }
}
