/// A network (Engine API `Network` in swarm's form).
public struct Network: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: NetworkSpec = NetworkSpec()
    public var driver: NetworkDriverState = NetworkDriverState()
    /// As allocated: every subnet with its gateway.
    public var ipam: IPAMConfig?
    /// The number in VXLAN, 24 bits; no other network of the swarm has it.
    public var vni: UInt64 = 0

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
        try coder.field(6, "DriverState", &driver)
        try coder.field(7, "IPAMOptions", &ipam)
        try coder.field(8, "VNI", &vni, .internalOnly)
    }
}

/// What the user declares of a network.
public struct NetworkSpec: FieldCoded {
    public var name: String = ""
    public var labels: [String: String] = [:]
    /// What was asked for; `nil`: `overlay`.
    public var driver: NetworkDriverState?
    /// Addresses of both families.
    public var ipv6: Bool = false
    /// Without a way out.
    public var isInternal: Bool = false
    /// Containers of nodes may be in it, besides tasks.
    public var attachable: Bool = false
    /// The one that carries connections to published ports.
    public var ingress: Bool = false
    /// `nil`: one subnet of the cluster's pool.
    public var ipam: IPAMConfig?
    /// `local` or `swarm`.
    public var scope: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Labels", &labels)
        try coder.field(3, "DriverConfiguration", &driver)
        try coder.field(4, "IPv6Enabled", &ipv6)
        try coder.field(5, "Internal", &isInternal)
        try coder.field(6, "Attachable", &attachable)
        try coder.field(7, "Ingress", &ingress)
        try coder.field(8, "IPAMOptions", &ipam)
        try coder.field(9, "Scope", &scope)
    }
}

/// A driver and its options.
public struct NetworkDriverState: FieldCoded {
    /// Of a plugin of the role `network`.
    public var name: String = ""
    public var options: [String: String] = [:]

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name)
        try coder.field(2, "Options", &options)
    }
}

/// Where addresses come from.
public struct IPAMConfig: FieldCoded {
    public var driver: String = ""
    public var options: [String: String] = [:]
    public var configs: [IPAMPool] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Driver", &driver)
        try coder.field(2, "Options", &options)
        try coder.field(3, "Configs", &configs)
    }
}

/// One subnet.
public struct IPAMPool: FieldCoded {
    /// `10.1.0.0/16`; empty: one of the cluster's pool.
    public var subnet: String = ""
    /// A part of the subnet from which addresses are given out; empty: all of it.
    public var range: String = ""
    /// An address of the subnet; empty: the first one.
    public var gateway: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Subnet", &subnet)
        try coder.field(2, "Range", &range)
        try coder.field(3, "Gateway", &gateway)
    }
}

/// A secret (Engine API `Secret`).
public struct Secret: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: SecretSpec = SecretSpec()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
    }
}

/// What the user declares of a secret.
public struct SecretSpec: FieldCoded {
    public var name: String = ""
    public var labels: [String: String] = [:]
    /// Fewer than 512,000 bytes.
    public var data: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Labels", &labels, .always)
        try coder.field(3, "Data", &data, .internalOnly)
    }
}

/// A config (Engine API `Config`).
public struct Config: FieldCoded {
    /// 25 characters of base 36.
    public var id: ID = ""
    public var version: Version = Version()
    public var createdAt: Timestamp = .never
    public var updatedAt: Timestamp = .never
    public var spec: ConfigSpec = ConfigSpec()

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "ID", &id, .always)
        try coder.field(2, "Version", &version, .always)
        try coder.field(3, "CreatedAt", &createdAt, .always)
        try coder.field(4, "UpdatedAt", &updatedAt, .always)
        try coder.field(5, "Spec", &spec, .always)
    }
}

/// What the user declares of a config.
public struct ConfigSpec: FieldCoded {
    public var name: String = ""
    public var labels: [String: String] = [:]
    /// Fewer than 1,024,000 bytes.
    public var data: [UInt8] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Labels", &labels, .always)
        try coder.field(3, "Data", &data)
    }
}
