import Glibc
import IPVS
import Mesh
import NFTables
import Netlink
import PluginAPI
import PortProxy

/// The published ports in the host's namespace. Used by the balancer's thread alone.
struct PublishedPorts: ~Copyable {
    private let rules: NFTables
    private let mesh: Mesh
    private let proxy: Proxy
    private let log: @Sendable (LogLevel, String) -> Void

    /// What is in force, or `nil` as long as nothing of this engine is.
    private var applied: HostPlan?
    private var marks: [FirewallMark.Subject: FirewallMark] = [:]
    /// The rules that are in force; empty: no table.
    private var appliedRules: String?
    private var holder = PortHolder()
    private var loopback = LoopbackRouting()
    private(set) var isDraining = false
    /// Whether it is known that no other balancer has left anything.
    private var isAlone = false
    /// Kept, because to close such a socket waits for what the kernel still has to clean up.
    private var netfilter: NetfilterSocket?
    private var virtualServers: IPVSSocket?

    init(rules: NFTables, proxy: Proxy, log: @escaping @Sendable (LogLevel, String) -> Void) {
        self.rules = rules
        self.proxy = proxy
        self.log = log
        mesh = Mesh(rules: rules, routesByAddress: true, log: log)
    }

    private mutating func openNetfilter() throws(ApusError) -> NetfilterSocket {
        if let netfilter { return netfilter }
        let opened = try NetfilterSocket()
        netfilter = opened
        return opened
    }

    private mutating func openIPVS() throws(ApusError) -> IPVSSocket {
        if let virtualServers { return virtualServers }
        let opened = try IPVSSocket()
        virtualServers = opened
        return opened
    }

    /// - Throws: what the kernel lacks.
    mutating func probe() throws(ApusError) {
        let socket = try openIPVS()
        try Settlement.ensureSettings()
        // The scheduler and the families are modules of their own.
        for isIPv4 in [true, false] {
            let server = VirtualServer(mark: FirewallMark.probe.value, isIPv4: isIPv4)
            do throws(ApusError) {
                try socket.make(.addServer(server))
                try socket.make(.removeServer(server))
            } catch {
                throw ApusError(.unavailable, "it needs the scheduler rr (CONFIG_IP_VS_RR)\(isIPv4 ? "" : " and IPv6 (CONFIG_IP_VS_IPV6)"): \(error.message)")
            }
        }
        do throws(ApusError) { try rules.run(HostRules.probe) } catch {
            throw ApusError(.unavailable, "it needs nftables of Linux 5.2 with nft_nat, nft_fib, nft_numgen and nft_reject: \(error.message)")
        }
        try mesh.probe()
    }

    /// Returns why ports are not published; all others are in force.
    mutating func apply(_ wanted: HostPlan) throws(ApusError) -> [PortKey: ApusError] {
        var plan = wanted
        let replaced = holder.release(replacedBy: wanted.ports)
        if !replaced.isEmpty { listen(applied ?? plan, closing: replaced) }
        let failures = holder.take(wanted.ports.keys)
        for key in failures.keys { plan.ports[key] = nil }
        let old = applied
        applied = nil
        // A task must be reachable before a connection is given to it, and as long as one may be.
        try mesh.prepare(for: plan.mesh, subnets: plan.subnets)
        try settle(plan)
        try mesh.apply(plan.mesh, subnets: plan.subnets)
        applied = plan
        // A port that is free again is only closed when no rule leads past its socket any more.
        listen(plan, closing: holder.release(allBut: Set(plan.ports.keys)))
        forgetDatagrams(from: old, to: plan)
        return failures
    }

    /// Makes anew what someone has removed, and removes destinations that have drained.
    mutating func repair() throws(ApusError) {
        try mesh.repair()
        guard let applied, !applied.ports.isEmpty || isDraining else { return }
        try settle(applied)
    }

    /// Ends also the connections.
    mutating func removeEverything() throws(ApusError) {
        _ = try apply(HostPlan())
        try removeTable()
        if isDraining { try Settlement.removeAll(try openIPVS()) }
        isDraining = false
    }

    /// Lets the ports go, when the proxy listens no longer.
    mutating func closePorts() { for socket in holder.release(allBut: []) { close(socket) } }

    private mutating func settle(_ plan: HostPlan) throws(ApusError) {
        let socket = try openIPVS()
        try Settlement.ensureSettings()
        let marks = FirewallMark.assign(plan.subjects, known: marks)
        let text = HostRules.replaceAll(by: plan, marks: marks)
        let isThere = try openNetfilter().hasTable(HostRules.table)
        if !isThere, appliedRules != nil { log(.warning, "the balancer's table was gone (did someone flush the ruleset?) and is made anew") }
        let isInForce = isThere && text == appliedRules
        isDraining = try Settlement.settle(socket, plan.servers(marks)) { [rules] () throws(ApusError) in
            if !isInForce, isThere || !plan.ports.isEmpty { try rules.run(text) }
        }
        self.marks = marks
        if !isAlone {
            try Settlement.removeOther("apus-balancer", rules, try openNetfilter())
            isAlone = true
        }
        if plan.ports.isEmpty, !isDraining {
            try removeTable()
        } else {
            appliedRules = text
            do throws(ApusError) { try loopback.route(plan.subnets) } catch {
                log(.warning, "published ports may not answer on 127.0.0.1: \(error)")
            }
        }
    }

    private mutating func removeTable() throws(ApusError) {
        // The guard of the loopback addresses goes with the table, so what it guards ends before.
        for error in loopback.end() { log(.warning, "\(error)") }
        if try openNetfilter().hasTable(HostRules.table) { try rules.run(HostRules.removeAll) }
        appliedRules = nil
    }

    /// Has the proxy listen on what is held.
    private func listen(_ plan: HostPlan, closing: [Int32]) {
        var listeners: [Int32: [Backend]] = [:]
        for (key, socket) in holder.sockets where key.transport == .tcp { listeners[socket] = plan.ports[key] ?? [] }
        proxy.listen(on: listeners, markingFor: mesh.prefixes, closing: closing)
    }

    private mutating func forgetDatagrams(from old: HostPlan?, to new: HostPlan) {
        let changed = Set((old?.ports ?? [:]).keys).union(new.ports.keys).filter { $0.transport == .udp && old?.ports[$0] != new.ports[$0] }
        guard !changed.isEmpty else { return }
        do throws(ApusError) {
            let local = Set(try NetlinkSocket().addresses().map(\.prefix.address))
            let numbers = Set(changed.map(\.port))
            try Settlement.forgetDatagrams(try openNetfilter()) { connection in
                guard numbers.contains(connection.original.destinationPort), local.contains(connection.original.destination) else { return false }
                let bound = PortKey(transport: .udp, port: connection.original.destinationPort, address: connection.original.destination)
                let free = PortKey(transport: .udp, port: connection.original.destinationPort)
                let backends = new.ports[bound] ?? new.ports[free] ?? []
                return !backends.contains(Backend(address: connection.reply.source, port: connection.reply.sourcePort))
            }
        } catch {
            log(.warning, "UDP clients may still be sent to backends that are gone: \(error)")
        }
    }
}
