public import PluginAPI

/// Who is at the other end of a connection, as its certificate says; the certificate was verified against the swarm's roots.
public struct PeerIdentity: Sendable, Hashable {
    /// The common name.
    public var nodeID: ID
    /// The organizational unit: `swarm-manager` or `swarm-worker`.
    public var role: NodeRole
    /// The organization.
    public var clusterID: ID
    /// The certificate's serial number, lower-case hexadecimal.
    public var serial: String

    /// What a verified certificate says.
    public init(nodeID: ID, role: NodeRole, clusterID: ID, serial: String) {
        self.nodeID = nodeID
        self.role = role
        self.clusterID = clusterID
        self.serial = serial
    }

    /// The peer of the call that is being handled; `nil` outside of a call, and when the peer showed no certificate.
    @TaskLocal public static var current: PeerIdentity?
}
