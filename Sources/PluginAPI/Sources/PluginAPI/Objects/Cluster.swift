/// The swarm itself (Engine API `Swarm`).
public struct Cluster: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: ClusterSpec = ClusterSpec()
    /// Of the root; of a new one from the end of its rotation on.
    public var tls: TLSInfo?
    /// The nodes are getting certificates of a new root.
    public var rootRotationInProgress: Bool = false
    /// UDP port of VXLAN between the nodes.
    public var dataPathPort: UInt64 = 0
    /// Prefixes such as `10.0.0.0/8`, of which networks without a subnet get one.
    public var defaultAddressPool: [String] = []
    /// Length of the prefix that such a network gets, such as 24.
    public var subnetSize: UInt64 = 0
    public var joinTokens: JoinTokens?
    public var root: RootMaterial = RootMaterial()
    /// `SWMKEY-1-…`; empty while the managers are not locked.
    public var unlockKey: String = ""
    /// What the swarm has agreed to use.
    public var plugins: ActivePlugins = ActivePlugins()
    /// While the swarm goes over to another root; `rootRotationInProgress` says in the API that it does.
    public var rootRotation: RootRotation?
    /// `spec.ca.forceRotate` when the last rotation began.
    public var lastForcedRotation: UInt64 = 0
    /// Of encrypted networks, oldest first, three at most.
    public var networkKeys: [NetworkKey] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
        try coder.field(6, "TLSInfo", &tls)
        try coder.field(7, "RootRotationInProgress", &rootRotationInProgress, .always)
        try coder.field(8, "DataPathPort", &dataPathPort)
        try coder.field(9, "DefaultAddrPool", &defaultAddressPool)
        try coder.field(10, "SubnetSize", &subnetSize)
        try coder.field(11, "JoinTokens", &joinTokens)
        try coder.field(12, "Root", &root, .internalOnly)
        try coder.field(13, "UnlockKey", &unlockKey, .internalOnly)
        try coder.field(14, "Plugins", &plugins, .internalOnly)
        try coder.field(15, "RootRotation", &rootRotation, .internalOnly)
        try coder.field(16, "LastForcedRotation", &lastForcedRotation, .internalOnly)
        try coder.field(17, "NetworkKeys", &networkKeys, .internalOnly)
    }
}

/// What the user decides of a swarm.
public struct ClusterSpec: FieldCoded {
    public var name: String = ""
    public var labels: [String: String] = [:]
    public var orchestration: OrchestrationConfig = OrchestrationConfig()
    public var raft: RaftConfig = RaftConfig()
    public var dispatcher: DispatcherConfig = DispatcherConfig()
    public var ca: CAConfig = CAConfig()
    public var taskDefaults: TaskDefaults = TaskDefaults()
    public var encryption: EncryptionConfig = EncryptionConfig()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Labels", &labels, .always)
        try coder.field(3, "Orchestration", &orchestration, .always)
        try coder.field(4, "Raft", &raft, .always)
        try coder.field(5, "Dispatcher", &dispatcher, .always)
        try coder.field(6, "CAConfig", &ca, .always)
        try coder.field(7, "TaskDefaults", &taskDefaults, .always)
        try coder.field(8, "EncryptionConfig", &encryption, .always)
    }
}

/// How tasks are kept.
public struct OrchestrationConfig: FieldCoded {
    /// Ended tasks kept per slot; five when absent.
    public var taskHistoryLimit: Int64?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "TaskHistoryRetentionLimit", &taskHistoryLimit)
    }
}

/// Raft of the managers; ticks are of one second, as the Engine API counts them.
public struct RaftConfig: FieldCoded {
    /// Log entries between snapshots; 10,000 when zero.
    public var snapshotInterval: UInt64 = 0
    /// Besides the newest one; `nil`: 0.
    public var keepOldSnapshots: UInt64?
    /// 500 when zero.
    public var logEntriesForSlowFollowers: UInt64 = 0
    /// Ticks of silence after which a manager stands for election.
    public var electionTick: Int64 = 0
    /// Ticks between two heartbeats of the leader.
    public var heartbeatTick: Int64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "SnapshotInterval", &snapshotInterval)
        try coder.field(2, "KeepOldSnapshots", &keepOldSnapshots)
        try coder.field(3, "LogEntriesForSlowFollowers", &logEntriesForSlowFollowers)
        try coder.field(4, "ElectionTick", &electionTick)
        try coder.field(5, "HeartbeatTick", &heartbeatTick)
    }
}

/// Sessions of nodes.
public struct DispatcherConfig: FieldCoded {
    /// Five seconds when zero.
    public var heartbeatPeriod: Duration = .zero

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "HeartbeatPeriod", &heartbeatPeriod)
    }
}

/// Certificates.
public struct CAConfig: FieldCoded {
    /// 90 days when zero; 30 minutes at least.
    public var nodeCertificateExpiry: Duration = .zero
    /// Those that sign in place of the managers; empty: the managers do.
    public var externalCAs: [ExternalCA] = []
    /// PEM of a root to rotate to; empty: one is made.
    public var signingCertificate: String = ""
    /// PEM of that root's key; never shown.
    public var signingKey: String = ""
    /// A rotation begins when this changes.
    public var forceRotate: UInt64 = 0
    /// Apus only: whether a node that joins waits for `node accept`; `nil` is no. In an update `nil` leaves what was: Docker's clients do not know
    /// it.
    public var joiningWaits: Bool?
    /// Apus only: how long after its expiry a certificate may still be renewed; `nil` is 30 days, zero never. In an update `nil` leaves what was.
    public var expiredRenewalGrace: Duration?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "NodeCertExpiry", &nodeCertificateExpiry)
        try coder.field(2, "ExternalCAs", &externalCAs)
        try coder.field(3, "SigningCACert", &signingCertificate)
        try coder.field(4, "SigningCAKey", &signingKey)
        try coder.field(5, "ForceRotate", &forceRotate)
        try coder.field(6, "JoiningWaits", &joiningWaits)
        try coder.field(7, "ExpiredRenewalGrace", &expiredRenewalGrace)
    }
}

/// A signer outside of the swarm.
public struct ExternalCA: FieldCoded {
    /// `cfssl`.
    public var kind: String = ""
    /// `https://…`, where certificates are asked for.
    public var url: String = ""
    public var options: [String: String] = [:]
    /// PEM of the root whose certificates it issues.
    public var caCertificate: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Protocol", &kind)
        try coder.field(2, "URL", &url)
        try coder.field(3, "Options", &options)
        try coder.field(4, "CACert", &caCertificate)
    }
}

/// What tasks use unless they say otherwise.
public struct TaskDefaults: FieldCoded {
    /// Of tasks whose spec names none.
    public var logDriver: LogDriver?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "LogDriver", &logDriver)
    }
}

/// Keys at rest.
public struct EncryptionConfig: FieldCoded {
    /// Managers need the unlock key after a restart.
    public var autoLockManagers: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "AutoLockManagers", &autoLockManagers, .always)
    }
}

/// What lets a node join, by role.
public struct JoinTokens: FieldCoded {
    /// `SWMTKN-1-…`.
    public var worker: String = ""
    /// `SWMTKN-1-…`.
    public var manager: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Worker", &worker, .always)
        try coder.field(2, "Manager", &manager, .always)
    }
}

/// The root certificate and, with the internal CA, its key.
public struct RootMaterial: FieldCoded {
    /// PEM.
    public var certificate: String = ""
    /// PEM, PKCS #8; empty with an external CA.
    public var key: String = ""
    /// SHA-256 of the certificate, as join tokens carry it.
    public var digest: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Certificate", &certificate)
        try coder.field(2, "Key", &key)
        try coder.field(3, "Digest", &digest)
    }
}

/// A root that the swarm is going over to.
public struct RootRotation: FieldCoded {
    /// The new root; without a key when an external authority has it.
    public var root: RootMaterial = RootMaterial()
    /// The new root's name and key, signed by the old root, PEM: who trusts only the old root verifies new certificates by it.
    public var crossSignedCertificate: String = ""
    public var startedAt: Timestamp = .never
    /// The plugin that is to sign from now on; empty when it stays the same.
    public var certificateAuthority: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Root", &root)
        try coder.field(2, "CrossSignedCertificate", &crossSignedCertificate)
        try coder.field(3, "StartedAt", &startedAt)
        try coder.field(4, "CertificateAuthority", &certificateAuthority)
    }
}

/// The plugins that are active for the whole swarm.
public struct ActivePlugins: FieldCoded {
    /// A plugin's name such as `spread`.
    public var scheduler: String = ""
    public var certificateAuthority: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Scheduler", &scheduler)
        try coder.field(2, "CertificateAuthority", &certificateAuthority)
    }
}
