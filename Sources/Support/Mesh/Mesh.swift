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

    /// - Parameters:
    ///   - rules: the nftables of the host's namespace. All calls must come from threads that are in it.
    ///   - routesByAddress: whether packets that leave the node are taken to the mesh by their destination alone. For a balancer that changes the destination
    ///     where connection tracking does not see it as a translation, as IPVS does; such a balancer must let IPVS take part in tracking
    ///     (`net/ipv4/vs/conntrack`). Without it only translated connections, and sockets with `MeshMarks.socket`, get there.
    ///   - log: told what was repaired.
    public init(rules: NFTables, routesByAddress: Bool = false, log: @escaping (LogLevel, String) -> Void) {}

    /// Whether this kernel has what the mesh needs: throws `unavailable` with what is missing. Leaves nothing.
    public func probe() throws(ApusError) {}

    /// Makes the mesh this one; `nil` removes it.
    ///
    /// Call it before connections are given to tasks that are new in it, and after the last was given to tasks that leave it.
    /// - Parameter subnets: `BalancerState.subnets`: clients in them, on the engine itself and on other members of the mesh get the node's address in the
    ///   mesh, because no answer would find them otherwise.
    /// - Throws: `invalidArgument` for a state that makes no sense, `unavailable` for an encrypted one, `notFound` when the node does not
    ///   have the address of the underlay.
    public func apply(_ state: MeshState?, subnets: [IPPrefix]) throws(ApusError) {}

    /// Looks whether all is there as it was left (someone may have flushed the ruleset or removed the device), and makes it anew if not.
    /// - Returns: whether something was missing.
    @discardableResult
    public func repair() throws(ApusError) -> Bool { false }
}
