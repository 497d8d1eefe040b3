public import PluginAPI

// The messages of CertificateAuthority.proto, package docker.swarmkit.v1.

/// Asks for the root certificate. Anybody may: the answer is compared with the digest in a join token.
public struct GetRootCACertificateRequest: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The root whose digest the join tokens carry.
public struct GetRootCACertificateResponse: FieldCoded {
    /// PEM.
    public var certificate: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "certificate", &certificate)
    }
}

/// A manager asks for the key of a locked swarm.
public struct GetUnlockKeyRequest: FieldCoded {
    public init() {}
    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {}
}

/// The key that managers lock their files with.
public struct GetUnlockKeyResponse: FieldCoded {
    /// 32 bytes; empty when the swarm is not locked.
    public var unlockKey: [UInt8] = []
    /// Of the cluster object.
    public var version = Version()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "unlock_key", &unlockKey)
        try coder.field(2, "version", &version)
    }
}

/// A node's wish for a certificate: to join, with a token, or to renew the one that it shows.
public struct IssueNodeCertificateRequest: FieldCoded {
    /// `NodeRole`; not read.
    public var role: UInt64 = 0
    /// PKCS #10, PEM. Only its key counts.
    public var signingRequest: [UInt8] = []
    /// A join token; empty when a node renews the certificate that it shows.
    public var token: String = ""
    /// What `availability` encodes.
    public var availabilityNumber: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "role", &role)
        try coder.field(2, "csr", &signingRequest)
        try coder.field(3, "token", &token)
        try coder.field(4, "availability", &availabilityNumber)
    }

    /// Of a node that joins; unknown numbers are `active`.
    public var availability: NodeAvailability {
        get {
            switch availabilityNumber {
            case 1: .pause
            case 2: .drain
            default: .active
            }
        }
        set {
            switch newValue {
            case .active: availabilityNumber = 0
            case .pause: availabilityNumber = 1
            case .drain: availabilityNumber = 2
            @unknown default: availabilityNumber = 0
            }
        }
    }
}

/// Who the node is from now on; the certificate is asked for by this id.
public struct IssueNodeCertificateResponse: FieldCoded {
    /// New for a node that joins, its own for one that renews.
    public var nodeID: ID = ""
    /// `NodeSpec.Membership`: 1 when the node is accepted.
    public var membershipNumber: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "node_id", &nodeID)
        try coder.field(2, "node_membership", &membershipNumber)
    }

    /// What `membershipNumber` encodes; unknown numbers are `pending`.
    public var membership: NodeMembership {
        get { membershipNumber == 1 ? .accepted : .pending }
        set { membershipNumber = newValue == .accepted ? 1 : 0 }
    }
}

/// Asks how far a node's certificate is; the node asks again until it is issued.
public struct NodeCertificateStatusRequest: FieldCoded {
    /// Of `IssueNodeCertificateResponse`.
    public var nodeID: ID = ""

    public init() {}

    /// Asks for the certificate of that node.
    public init(nodeID: ID) { self.nodeID = nodeID }

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "node_id", &nodeID)
    }
}

/// How far the certificate is, and the certificate when it is issued.
public struct NodeCertificateStatusResponse: FieldCoded {
    /// The certificate's, once more on its own.
    public var status = IssuanceStatus()
    /// Without a chain until it is issued.
    public var certificate: IssuedCertificate?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "status", &status)
        try coder.field(2, "certificate", &certificate)
    }
}

/// How far a certificate is.
public struct IssuanceStatus: FieldCoded {
    /// `IssuanceStatus.State`.
    public enum State: UInt64, Sendable, Hashable, CaseIterable {
        case unknown = 0
        case renew = 1
        case pending = 2
        case issued = 3
        case failed = 4
        case rotate = 5
    }

    /// What `state` encodes.
    public var stateNumber: UInt64 = 0
    /// Why it failed, or what it waits for.
    public var message: String = ""

    public init() {}

    /// A state, and what it waits for or why it failed.
    public init(_ state: State, _ message: String = "") {
        stateNumber = state.rawValue
        self.message = message
    }

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "state", &stateNumber)
        try coder.field(2, "err", &message)
    }

    /// `unknown` for numbers of a later version.
    public var state: State { State(rawValue: stateNumber) ?? .unknown }
}

/// SwarmKit's `Certificate`.
public struct IssuedCertificate: FieldCoded {
    /// `NodeRole`.
    public var roleNumber: UInt64 = 0
    /// PKCS #10, PEM.
    public var signingRequest: [UInt8] = []
    /// How far it is; with `issued` the chain is there.
    public var status = IssuanceStatus()
    /// PEM, the node's own first, then intermediates.
    public var certificateChain: [UInt8] = []
    /// The common name that it is issued to.
    public var nodeID: ID = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "role", &roleNumber)
        try coder.field(2, "csr", &signingRequest)
        try coder.field(3, "status", &status)
        try coder.field(4, "certificate", &certificateChain)
        try coder.field(5, "cn", &nodeID)
    }

    /// What `roleNumber` encodes; unknown numbers are `worker`.
    public var role: NodeRole {
        get { roleNumber == 1 ? .manager : .worker }
        set { roleNumber = newValue == .manager ? 1 : 0 }
    }
}
