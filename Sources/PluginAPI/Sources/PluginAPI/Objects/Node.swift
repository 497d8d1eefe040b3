/// A machine of the swarm (Engine API `Node`).
public struct Node: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: NodeSpec = NodeSpec()
    public var description: NodeDescription = NodeDescription()
    public var status: NodeStatus = NodeStatus()
    /// `nil` for a worker.
    public var manager: ManagerStatus?
    /// Apus only: what was issued to the node, and what was refused.
    public var certificate: NodeCertificateRecord = NodeCertificateRecord()
    /// When the user last changed its availability; `.never` since it joined. A drain is patient from here on.
    public var availabilityChangedAt: Timestamp = .never
    /// The node's addresses in the ingress network, with its length: IPv4, and IPv6 where the network has it. Empty while there is none.
    public var meshAddresses: [String] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
        try coder.field(6, "Description", &description, .always)
        try coder.field(7, "Status", &status, .always)
        try coder.field(8, "ManagerStatus", &manager)
        try coder.field(9, "Certificate", &certificate)
        try coder.field(10, "AvailabilityChangedAt", &availabilityChangedAt, .internalOnly)
        try coder.field(11, "MeshAddresses", &meshAddresses, .internalOnly)
    }
}

/// What the user decides of a node.
public struct NodeSpec: FieldCoded {
    /// Besides the hostname; mostly empty.
    public var name: String = ""
    public var labels: [String: String] = [:]
    /// Wanted; the node has it when its certificate says so.
    public var role: NodeRole = .worker
    public var availability: NodeAvailability = .active

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Labels", &labels, .always)
        try coder.field(3, "Role", &role, .always)
        try coder.field(4, "Availability", &availability, .always)
    }
}

/// What a node is in the swarm.
public enum NodeRole: String, Sendable, Hashable, CaseIterable {
    case worker
    case manager
}

/// Whether a node takes tasks.
public enum NodeAvailability: String, Sendable, Hashable, CaseIterable {
    case active
    /// Keeps its tasks and takes no new ones.
    case pause
    /// Gives its tasks away.
    case drain
}

/// What a node says of itself.
public struct NodeDescription: FieldCoded {
    public var hostname: String = ""
    public var platform: Platform = Platform()
    /// All that the node has, not what is free.
    public var resources: Resources = Resources()
    public var engine: EngineDescription = EngineDescription()
    /// What the node trusts.
    public var tls: TLSInfo?
    /// Where VXLAN reaches it, when that is not the address that it advertises.
    public var dataPathAddress: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Hostname", &hostname, .always)
        try coder.field(2, "Platform", &platform, .always)
        try coder.field(3, "Resources", &resources, .always)
        try coder.field(4, "Engine", &engine, .always)
        try coder.field(5, "TLSInfo", &tls)
        try coder.field(6, "DataPathAddress", &dataPathAddress, .internalOnly)
    }
}

/// The engine of a node.
public struct EngineDescription: FieldCoded {
    public var engineVersion: String = ""
    /// Of the engine's configuration.
    public var labels: [String: String] = [:]
    public var plugins: [EnginePlugin] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "EngineVersion", &engineVersion, .always)
        try coder.field(2, "Labels", &labels)
        try coder.field(3, "Plugins", &plugins)
    }
}

/// A plugin that the engine of a node has.
public struct EnginePlugin: FieldCoded {
    /// The role.
    public var type: String = ""
    public var name: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Type", &type)
        try coder.field(2, "Name", &name)
    }
}

/// The certificate authority that a node trusts.
public struct TLSInfo: FieldCoded {
    /// PEM.
    public var trustRoot: String = ""
    /// DER of the root's name.
    public var issuerSubject: [UInt8] = []
    /// DER of the root's SubjectPublicKeyInfo.
    public var issuerPublicKey: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "TrustRoot", &trustRoot)
        try coder.field(2, "CertIssuerSubject", &issuerSubject)
        try coder.field(3, "CertIssuerPublicKey", &issuerPublicKey)
    }
}

/// Whether a node is there.
public struct NodeStatus: FieldCoded {
    public var state: NodeState = .unknown
    /// Why it is in this state.
    public var message: String = ""
    /// Where other nodes reach it, without a port.
    public var address: String = ""
    /// Since when the node is in this state, by the leader's clock.
    public var since: Timestamp = .never

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "State", &state, .always)
        try coder.field(2, "Message", &message)
        try coder.field(3, "Addr", &address)
        try coder.field(10, "Since", &since, .internalOnly)
    }
}

/// States of a node.
public enum NodeState: String, Sendable, Hashable, CaseIterable {
    case unknown
    case down
    case ready
    case disconnected
}

/// A manager's part in Raft.
public struct ManagerStatus: FieldCoded {
    public var leader: Bool = false
    /// As the leader sees it.
    public var reachability: Reachability = .unknown
    /// `host:port` where it listens to managers.
    public var address: String = ""
    /// The member's number in Raft.
    public var raftID: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Leader", &leader)
        try coder.field(2, "Reachability", &reachability, .always)
        try coder.field(3, "Addr", &address)
        try coder.field(10, "RaftID", &raftID, .internalOnly)
    }
}

/// Whether a manager answers.
public enum Reachability: String, Sendable, Hashable, CaseIterable {
    case unknown
    case unreachable
    case reachable
}
