import NFTables
import Netlink
import PluginAPI

/// The way between the engines on one of them: everything of the routing mesh except the choice of a backend.
///
/// A balancer translates the destination of a connection to a task's address in the mesh, and nothing else; from there on the mesh does the rest:
/// it sends what goes to a task of another node to that node, masquerades clients that no answer would find, brings what other nodes send
/// to the tasks of this node, and sends the answers back to the node that brought the connection.
///
/// All of it works by the marks of `MeshMarks`: nothing depends on the node's main routing table, and the node has no address in the mesh, so that an
/// ingress network that overlaps the LAN (10.0.0.0/16 is both a default pool and an ordinary LAN) harms nobody.
/// What is in force survives the engine; all calls are level-triggered, and cut no connection. Not for concurrent use.
public final class Mesh {
    /// Of the VXLAN device, in the host's namespace.
    public static let deviceName = "apus-ingress"
    /// Of the nftables tables, in the families `inet` and `netdev`.
    public static let table = "apus-mesh"

    private let rules: NFTables
    private let routesByAddress: Bool
    private let log: @Sendable (LogLevel, String) -> Void
    /// What is in force, or `nil` as long as nothing of this engine is.
    private var applied: MeshPlan?
    /// As they were given for what is in force.
    private var requestedSubnets: [IPPrefix] = []
    /// Of the device that is in force.
    private var linkIndex = 0
    /// Whether it is known that nothing is left of an earlier engine.
    private var isClean = false
    /// Kept, because to close such a socket waits for what the kernel still has to clean up.
    private var netfilter: NetfilterSocket?

    /// - Parameters:
    ///   - rules: the nftables of the host's namespace. All calls must come from threads that are in it.
    ///   - routesByAddress: whether packets that leave the node are taken to the mesh by their destination alone. For a balancer that changes the destination
    ///     where connection tracking does not see it as a translation, as IPVS does; such a balancer must let IPVS take part in tracking
    ///     (`net/ipv4/vs/conntrack`). Without it only translated connections, and sockets with `MeshMarks.socket`, get there.
    ///   - log: told what was repaired.
    public init(rules: NFTables, routesByAddress: Bool = false, log: @escaping @Sendable (LogLevel, String) -> Void) {
        self.rules = rules
        self.routesByAddress = routesByAddress
        self.log = log
    }

    /// Whether this kernel has what the mesh needs: throws `unavailable` with what is missing. Leaves nothing.
    public func probe() throws(ApusError) {
        let own = IPAddress(v4: 192, 0, 2, 1)
        guard let address = IPPrefix(own, length: 24) else { return }
        var state = MeshState(networkID: ID.random(), vni: 1, underlay: own, address: address)
        state.addressV6 = IPPrefix("2001:db8::1/64")
        do throws(ApusError) {
            try rules.run(MeshRules.probe(try MeshPlan(state, subnets: [], underlayMTU: 1500)))
        } catch {
            throw ApusError(
                .unavailable, "this kernel cannot do the routing mesh; it needs Linux 5.16 with nft_nat, nft_ct, nft_fib and netdev egress hooks: \(error)")
        }
    }

    /// Of the mesh that is in force: where the addresses of tasks are reached through it alone.
    public var prefixes: [IPPrefix] { [applied?.state.address.network, applied?.state.addressV6?.network].compactMap { $0 } }

    /// Makes room for what is new in a mesh and leaves what is not in it any more: to be called before connections are given to tasks that are new;
    /// when none is given to the others any more, `apply` does the rest.
    public func prepare(for state: MeshState?, subnets: [IPPrefix]) throws(ApusError) {
        guard let state else { return }
        try apply(applied.map { state.extended(by: $0.state) } ?? state, subnets: subnets)
    }

    /// Makes the mesh this one; `nil` removes it. Established connections to tasks that leave it go on.
    ///
    /// - Parameter subnets: `BalancerState.subnets`: clients in them, on the engine itself and on other members of the mesh get the node's address in the
    ///   mesh, because no answer would find them otherwise.
    /// - Throws: `invalidArgument` for a state that makes no sense, `unavailable` for an encrypted one, `notFound` when the node does not
    ///   have the address of the underlay.
    public func apply(_ state: MeshState?, subnets: [IPPrefix]) throws(ApusError) {
        guard let state else { return try removeAll() }
        if let applied, applied.state == state, requestedSubnets == subnets { return }
        let netlink = try NetlinkSocket()
        let plan = try MeshPlan(state, subnets: subnets, underlayMTU: MeshDevices.mtu(ofUnderlay: state.underlay, netlink))
        isClean = false
        if let applied, plan.hasSameFrame(as: applied) {
            try update(from: applied, to: plan, netlink)
        } else {
            try makeAll(plan, netlink)
        }
        requestedSubnets = subnets
    }

    /// Looks whether all is there as it was left (someone may have flushed the ruleset or removed the device), and makes it anew if not.
    /// - Returns: whether something was missing.
    @discardableResult
    public func repair() throws(ApusError) -> Bool {
        guard let applied else { return false }
        let netlink = try NetlinkSocket()
        let plan = try MeshPlan(
            applied.state, subnets: applied.subnets, underlayMTU: MeshDevices.mtu(ofUnderlay: applied.state.underlay, netlink))
        if plan.device == applied.device, try hasTable(NetfilterSocket.inetFamily), try hasTable(Self.netdevFamily),
            try MeshDevices.isIntact(plan, linkIndex: linkIndex, netlink)
        {
            return false
        }
        log(.warning, "the routing mesh was not as it was left (did someone flush the ruleset?) and is made anew")
        try makeAll(plan, netlink)
        return true
    }

    private func makeAll(_ plan: MeshPlan, _ netlink: NetlinkSocket) throws(ApusError) {
        applied = nil
        linkIndex = try MeshDevices.makeAll(plan, netlink, log)
        try rules.run(MeshRules.replaceAll(by: plan, routesByAddress: routesByAddress))
        applied = plan
        forgetOthers(MeshElements.moves(from: nil, to: plan.state))
    }

    /// Forgets connections to tasks that had an address before the ones that have it now.
    private func forgetOthers(_ moves: MeshElements.Moves) {
        guard !moves.isEmpty else { return }
        do throws(ApusError) {
            let netfilter = try openNetfilter()
            let stale = try netfilter.connections { moves.concern($0.original.destination, answeredBy: $0.reply.source) }
            for connection in stale { try netfilter.forget(connection) }
        } catch {
            log(.warning, "connections to tasks that are gone may not be forgotten: \(error)")
        }
    }

    private func openNetfilter() throws(ApusError) -> NetfilterSocket {
        if let netfilter { return netfilter }
        let opened = try NetfilterSocket()
        netfilter = opened
        return opened
    }

    private func update(from old: MeshPlan, to plan: MeshPlan, _ netlink: NetlinkSocket) throws(ApusError) {
        let changes = MeshElements.changes(from: old, to: plan)
        do throws(ApusError) {
            // New nodes can be reached before a rule leads to them, old ones as long as a rule does.
            for entry in plan.forwarding.subtracting(old.forwarding) { try netlink.setMeshForwarding(entry, ofLinkAt: linkIndex) }
            if !changes.isEmpty { try rules.run(changes) }
            forgetOthers(MeshElements.moves(from: old.state, to: plan.state))
            let known = Set(plan.forwarding.map(\.macAddress))
            for entry in old.forwarding where !known.contains(entry.macAddress) { try netlink.removeMeshForwarding(entry, ofLinkAt: linkIndex) }
            applied = plan
        } catch {
            log(.warning, "the routing mesh is not as it was left, and is made anew: \(error)")
            try makeAll(plan, netlink)
        }
    }

    private func removeAll() throws(ApusError) {
        guard !isClean else { return }
        let isThere = [try hasTable(NetfilterSocket.inetFamily), try hasTable(Self.netdevFamily)]
        if isThere.contains(true) { try rules.run(MeshRules.removeAll) }
        try MeshDevices.removeAll(try NetlinkSocket())
        applied = nil
        isClean = true
    }

    /// NFPROTO_NETDEV of the kernel.
    private static let netdevFamily: UInt8 = 5

    private func hasTable(_ family: UInt8) throws(ApusError) -> Bool {
        try openNetfilter().hasTable(Self.table, family: family)
    }
}
