import Glibc
import Mesh
import NFTables
import Namespaces
import Netlink
import PluginAPI
import PortProxy
import Synchronization

/// Balances published ports in the kernel, by one nftables table that is changed in single transactions, and virtual addresses by one in each
/// client's namespace. What other programs do to the tables is noticed and repaired.
///
/// Configuration:
/// * `host-namespace`: the path of a network namespace that stands for the host's; without it the engine's own is used.
/// * `proxy-connections`: how many connections of IPv6 clients to IPv4 backends, which the kernel cannot translate, there may be at the same time;
///   512 by default.
/// * `cleanup=true`: the table is removed at shut down. Without it, traffic goes on while no engine runs: containers outlive their engine.
public final class BalancerNFTables: LoadBalancer {
    private struct State: ~Copyable {
        /// What is in force, or `nil` as long as nothing of this engine is.
        var applied: BalancerPlan?
        var holder = PortHolder()
        /// Where the next round over backends starts.
        var turn = 0
        /// The interfaces to the backends, and the subnets that they belong to.
        var localRouting: [IPPrefix: String] = [:]
        /// Kept, because to close such a socket waits for what the kernel still has to clean up.
        var netfilter: NetfilterSocket?
        /// The way to tasks of other nodes.
        var mesh: Mesh?
        var sandboxes = Sandboxes()

        mutating func openNetfilter() throws(ApusError) -> NetfilterSocket {
            if let netfilter { return netfilter }
            let opened = try NetfilterSocket()
            netfilter = opened
            return opened
        }

        mutating func openMesh(_ rules: NFTables, _ host: any HostServices) -> Mesh {
            if let mesh { return mesh }
            let made = Mesh(rules: rules) { [host] level, message in host.log(level, message) }
            mesh = made
            return made
        }
    }

    private let host: any HostServices
    /// All of the balancer's work is done here, in order; the lock is never contended.
    private let thread: NamespaceThread
    private let rules: NFTables
    private let proxy: Proxy
    private let state = Mutex(State())
    private let monitor = Mutex<RulesetMonitor?>(nil)
    /// Whether a check of what is in force waits for its turn.
    private let isCheckWaiting = Mutex(false)

    /// - Throws: `unavailable` without nftables, and when the namespace of the configuration cannot be entered.
    public init(host: any HostServices) throws(ApusError) {
        let namespace = host.configuration["host-namespace"]
        let limitText = host.configuration["proxy-connections"] ?? "\(Proxy.defaultConnectionLimit)"
        guard let limit = Int(limitText), (1...100_000).contains(limit) else {
            throw ApusError(.invalidArgument, "balancer/nftables:proxy-connections must be 1 to 100000, not \"\(limitText)\"")
        }
        self.host = host
        thread = try NamespaceThread(in: namespace)
        rules = try NetworkNamespaces.runBlocking(in: namespace) { () throws(ApusError) in try NFTables() }
        proxy = try Proxy(in: namespace, connectionLimit: limit)
        let watching = try RulesetMonitor(in: namespace) { [weak self] occasion in self?.requestCheck(occasion) }
        monitor.withLock { $0 = watching }
    }

    public func probe() async throws(ApusError) {
        try await thread.run { [rules] () throws(ApusError) in
            do throws(ApusError) {
                try rules.run(BalancerRules.probe)
            } catch {
                throw ApusError(
                    .unavailable,
                    "this kernel cannot balance by nftables; it needs Linux 5.2 with nft_nat, nft_fib, nft_numgen and nft_reject: \(error)")
            }
            try Mesh(rules: rules) { _, _ in }.probe()
        }
    }

    public func apply(_ state: BalancerState) async throws(ApusError) {
        let plan = try BalancerPlan(state)
        let failures = try await thread.run { () throws(ApusError) in try self.apply(state, plan) }
        guard let first = failures.first else { return }
        throw ApusError(first.code, failures.map(\.message).joined(separator: "; "))
    }

    public func shutDown() async {
        monitor.withLock { $0 }?.stop()
        if host.configuration["cleanup"] == "true" {
            do throws(ApusError) { try await apply(BalancerState()) } catch { host.log(.warning, "the balancer's rules stay: \(error)") }
        }
        await proxy.stop()
        do throws(ApusError) {
            try await thread.run { for socket in self.state.withLock({ $0.holder.release(allBut: []) }) { close(socket) } }
        } catch {}
        thread.stop()
    }

    /// Returns what is not in force; everything else is.
    private func apply(_ wanted: BalancerState, _ plan: BalancerPlan) throws(ApusError) -> [ApusError] {
        let result: Result<[ApusError], ApusError> = state.withLock { state in
            do throws(ApusError) { return .success(try apply(wanted, plan, &state)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private func apply(_ wanted: BalancerState, _ plan: BalancerPlan, _ state: inout State) throws(ApusError) -> [ApusError] {
        var failures: [ApusError] = []
        func attempt(_ body: () throws(ApusError) -> Void) {
            do throws(ApusError) { try body() } catch { failures.append(error) }
        }
        // A task must be reachable before a connection is given to it, and as long as one may be.
        let mesh = state.openMesh(rules, host)
        attempt { () throws(ApusError) in try mesh.prepare(for: wanted.mesh, subnets: plan.subnets) }
        let portFailures = try apply(plan, &state)
        failures += portFailures.sorted { $0.key.chain < $1.key.chain }.map(\.value)
        if failures.count == portFailures.count { attempt { () throws(ApusError) in try mesh.apply(wanted.mesh, subnets: plan.subnets) } }
        return failures + state.sandboxes.apply(wanted.sandboxes)
    }

    /// Returns why ports are not published; all others are in force.
    private func apply(_ wanted: BalancerPlan, _ state: inout State) throws(ApusError) -> [PortKey: ApusError] {
        var plan = wanted
        let replaced = state.holder.release(replacedBy: wanted.ports)
        if !replaced.isEmpty { listen(state.applied ?? plan, closing: replaced, state) }
        let failures = state.holder.take(wanted.ports.keys)
        for key in failures.keys { plan.ports[key] = nil }
        let old = state.applied
        if plan.ports.isEmpty {
            try removeEverything(&state)
        } else {
            try changeRules(to: plan, &state)
            routeLoopback(plan.subnets, &state)
        }
        state.applied = plan
        // A port that is free again is only closed when no rule leads past its socket any more.
        let gone = state.holder.release(allBut: Set(plan.ports.keys))
        listen(plan, closing: gone, state)
        forgetDatagrams(from: old, to: plan, &state)
        return failures
    }

    private func requestCheck(_ occasion: RulesetMonitor.Occasion) {
        let isFirst = isCheckWaiting.withLock { isWaiting in
            defer { isWaiting = true }
            return !isWaiting
        }
        guard isFirst else { return }
        thread.post { [weak self] in self?.check(occasion) }
    }

    /// Makes anew what someone has removed.
    private func check(_ occasion: RulesetMonitor.Occasion) {
        isCheckWaiting.withLock { $0 = false }
        state.withLock { state in
            do throws(ApusError) {
                try state.mesh?.repair()
                if let applied = state.applied, !applied.ports.isEmpty, try !state.openNetfilter().hasTable(BalancerRules.table) {
                    try changeRules(to: applied, &state)
                }
            } catch {
                host.log(.warning, "what was removed from the ruleset cannot be made anew: \(error)")
            }
            guard occasion == .regular else { return }
            for path in state.sandboxes.repair() { host.log(.warning, "the table of services in \(path) was gone and is made anew") }
        }
    }

    /// Has the proxy listen on what is held.
    private func listen(_ plan: BalancerPlan, closing: [Int32], _ state: borrowing State) {
        var listeners: [Int32: [Backend]] = [:]
        for (key, socket) in state.holder.sockets where key.transport == .tcp { listeners[socket] = plan.ports[key] ?? [] }
        proxy.listen(on: listeners, markingFor: state.mesh?.prefixes ?? [], closing: closing)
    }

    private func changeRules(to plan: BalancerPlan, _ state: inout State) throws(ApusError) {
        let isThere = try state.openNetfilter().hasTable(BalancerRules.table)
        if let applied = state.applied, !applied.ports.isEmpty, isThere {
            let update = BalancerRules.update(from: applied, to: plan, turn: state.turn)
            if update.isEmpty { return }
            state.turn &+= 1
            do throws(ApusError) {
                try rules.run(update)
                return
            } catch {
                host.log(.warning, "the balancer's table is not as it was left, and is made anew: \(error)")
            }
        } else if let applied = state.applied, !applied.ports.isEmpty {
            host.log(.warning, "the balancer's table was gone (did someone flush the ruleset?) and is made anew")
        }
        try rules.run(BalancerRules.replaceAll(by: plan, turn: state.turn))
    }

    private func removeEverything(_ state: inout State) throws(ApusError) {
        // The guard of the loopback addresses goes with the table, so what it guards ends before.
        for name in Set(state.localRouting.values) {
            do throws(ApusError) { try SystemSetting.ensure("net/ipv4/conf/\(name)/route_localnet", "0") } catch {
                host.log(.warning, "\(error)")
            }
        }
        state.localRouting = [:]
        if try state.openNetfilter().hasTable(BalancerRules.table) { try rules.run(BalancerRules.removeAll) }
    }

    /// Lets answers to the node's own 127.0.0.1 come in from the backends' interfaces. The table's guard drops all else to such addresses.
    private func routeLoopback(_ subnets: [IPPrefix], _ state: inout State) {
        let subnets = subnets.filter(\.address.isIPv4)
        state.localRouting = state.localRouting.filter { entry in
            subnets.contains(entry.key) && SystemSetting.read("net/ipv4/conf/\(entry.value)/route_localnet") == "1"
        }
        guard subnets.contains(where: { state.localRouting[$0] == nil }) else { return }
        do throws(ApusError) {
            let netlink = try NetlinkSocket()
            let addresses = try netlink.addresses()
            for subnet in subnets where state.localRouting[subnet] == nil {
                guard let address = addresses.first(where: { $0.prefix.overlaps(subnet) }), let link = try netlink.link(at: address.linkIndex)
                else { continue }
                try SystemSetting.ensure("net/ipv4/conf/\(link.name)/route_localnet", "1")
                state.localRouting[subnet] = link.name
            }
        } catch {
            host.log(.warning, "published ports may not answer on 127.0.0.1: \(error)")
        }
    }

    /// Datagrams have no end that tracking could see: a client that goes on would stay with a backend that is gone, or with nobody.
    private func forgetDatagrams(from old: BalancerPlan?, to new: BalancerPlan, _ state: inout State) {
        let changed = BalancerPlan.changes(from: old ?? BalancerPlan(), to: new).filter { $0.transport == .udp }
        guard !changed.isEmpty else { return }
        do throws(ApusError) {
            let local = Set(try NetlinkSocket().addresses().map(\.prefix.address))
            let numbers = Set(changed.map(\.port))
            let netfilter = try state.openNetfilter()
            let stale = try netfilter.connections { connection in
                guard connection.original.transport == 17, numbers.contains(connection.original.destinationPort),
                    local.contains(connection.original.destination)
                else { return false }
                let bound = PortKey(transport: .udp, port: connection.original.destinationPort, address: connection.original.destination)
                let free = PortKey(transport: .udp, port: connection.original.destinationPort, address: nil)
                let backends = new.ports[bound] ?? new.ports[free] ?? []
                let server = Backend(address: connection.reply.source, port: connection.reply.sourcePort)
                return !backends.contains(server)
            }
            for connection in stale { try netfilter.forget(connection) }
        } catch {
            host.log(.warning, "UDP clients may still be sent to backends that are gone: \(error)")
        }
    }
}
