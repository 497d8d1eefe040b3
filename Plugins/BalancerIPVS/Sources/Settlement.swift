import IPVS
import NFTables
import Netlink
import PluginAPI

/// Makes the virtual servers of the calling thread's namespace those that are wanted.
enum Settlement {
    /// How IPVS is to behave, in each namespace that uses it:
    /// * connection tracking sees what IPVS does, so that sources can be translated and connections be forgotten;
    /// * a connection to a destination that is gone is given to another at once, when it begins anew, and not dropped silently;
    /// * a client that uses a port again before the last connection from it is forgotten gets an answer at once: with 1, older kernels drop
    ///   the first packet, and the client waits for a second. New connections leave a draining destination all the same, see above.
    static let settings = [("conntrack", "1"), ("expire_nodest_conn", "1"), ("expire_quiescent_template", "1"), ("conn_reuse_mode", "0")]

    /// - Throws: `unavailable` when this kernel's IPVS and connection tracking do not know each other.
    static func ensureSettings() throws(ApusError) {
        for (name, value) in settings {
            guard SystemSetting.read("net/ipv4/vs/\(name)") != nil else {
                throw ApusError(.unavailable, "this kernel's IPVS has no setting net.ipv4.vs.\(name) (CONFIG_IP_VS_NFCT)")
            }
            try SystemSetting.ensure("net/ipv4/vs/\(name)", value)
        }
    }

    /// - Parameter rules: sets the marks; called when all that they lead to is there, and before anything is removed.
    /// - Returns: whether destinations wait for the end of their connections.
    static func settle(
        _ socket: IPVSSocket, _ wanted: [VirtualServer: Set<RealServer>], rules: () throws(ApusError) -> Void
    ) throws(ApusError) -> Bool {
        let isOurs = { (server: VirtualServer) in FirewallMark(server.mark).isOurs }
        func difference() throws(ApusError) -> IPVSTable.Difference {
            try socket.table(where: isOurs).difference(to: wanted, isOurs: isOurs, drains: { !FirewallMark($0.mark).isDatagram })
        }
        let first = try difference()
        for change in first.preparing { try socket.make(change) }
        try rules()
        for change in first.finishing { try socket.make(change) }
        guard first.isDraining, !first.finishing.isEmpty else { return first.isDraining }
        // Those that nobody uses need not wait.
        let second = try difference()
        for change in second.preparing + second.finishing { try socket.make(change) }
        return second.isDraining
    }

    /// Removes a table of `balancer/nftables`, which an engine that has ended used and left in force.
    static func removeOther(_ table: String, _ rules: NFTables, _ netfilter: NetfilterSocket) throws(ApusError) {
        if try netfilter.hasTable(table) { try rules.run("delete table inet \(table)\n") }
    }

    /// Removes all of our virtual servers, whatever uses them.
    static func removeAll(_ socket: IPVSSocket) throws(ApusError) {
        for server in try socket.servers() where FirewallMark(server.mark).isOurs { try socket.make(.removeServer(server)) }
    }

    /// Datagrams have no end that tracking could see: a client that goes on would stay with a destination that is gone, or with nobody.
    /// - Parameter isStale: whether a tracked flow of datagrams leads to nobody who is to have it.
    static func forgetDatagrams(_ netfilter: NetfilterSocket, where isStale: (TrackedConnection) -> Bool) throws(ApusError) {
        for connection in try netfilter.connections(where: { $0.original.transport == 17 && isStale($0) }) { try netfilter.forget(connection) }
    }
}
