/// An image that a node has.
public struct Image: FieldCoded {
    /// `sha256:` and the digest of its configuration.
    public var id: ID = ""
    /// `name:tag`, names as users type them: `nginx:latest`.
    public var references: [String] = []
    /// `name@sha256:…` of the manifest.
    public var digests: [String] = []
    public var createdAt: Timestamp = .never
    public var architecture: String = ""
    public var os: String = ""
    public var author: String = ""
    public var comment: String = ""
    /// Bytes of all layers, unpacked.
    public var size: Int64 = 0
    public var configuration: ImageConfiguration = ImageConfiguration()
    /// Digests of the unpacked layers (diff ids), lowest first.
    public var layers: [String] = []
    public var history: [ImageHistory] = []

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Id", &id, .always)
        try coder.field(2, "RepoTags", &references, .always)
        try coder.field(3, "RepoDigests", &digests, .always)
        try coder.field(4, "Created", &createdAt, .always)
        try coder.field(5, "Architecture", &architecture, .always)
        try coder.field(6, "Os", &os, .always)
        try coder.field(7, "Author", &author)
        try coder.field(8, "Comment", &comment)
        try coder.field(9, "Size", &size, .always)
        try coder.field(10, "Config", &configuration, .always)
        try coder.field(11, "Layers", &layers)
        try coder.field(12, "History", &history)
    }
}

/// What an image says about its containers (OCI image specification, `config`).
public struct ImageConfiguration: FieldCoded {
    public var user: String = ""
    /// `80/tcp` each, with empty values.
    public var exposedPorts: [String: String] = [:]
    public var environment: [String] = []
    public var entrypoint: [String] = []
    public var command: [String] = []
    /// Paths, with empty values.
    public var volumes: [String: String] = [:]
    public var workingDirectory: String = ""
    public var labels: [String: String] = [:]
    public var stopSignal: String = ""
    public var healthcheck: Healthcheck?

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "User", &user)
        try coder.field(2, "ExposedPorts", &exposedPorts)
        try coder.field(3, "Env", &environment)
        try coder.field(4, "Entrypoint", &entrypoint)
        try coder.field(5, "Cmd", &command)
        try coder.field(6, "Volumes", &volumes)
        try coder.field(7, "WorkingDir", &workingDirectory)
        try coder.field(8, "Labels", &labels)
        try coder.field(9, "StopSignal", &stopSignal)
        try coder.field(10, "Healthcheck", &healthcheck)
    }
}

/// One step of how an image was made.
public struct ImageHistory: FieldCoded {
    public var createdAt: Timestamp = .never
    /// The instruction.
    public var createdBy: String = ""
    public var comment: String = ""
    /// The step changed only the configuration.
    public var emptyLayer: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Created", &createdAt)
        try coder.field(2, "CreatedBy", &createdBy)
        try coder.field(3, "Comment", &comment)
        try coder.field(4, "EmptyLayer", &emptyLayer)
    }
}

/// A named volume of a node (Engine API `Volume`).
public struct Volume: FieldCoded {
    public var name: String = ""
    public var driver: String = ""
    /// Absolute path on the node.
    public var mountpoint: String = ""
    public var createdAt: Timestamp = .never
    public var labels: [String: String] = [:]
    public var options: [String: String] = [:]
    /// `local`.
    public var scope: String = ""
    /// Made for one container, and removed with it on request.
    public var isAnonymous: Bool = false

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Name", &name, .always)
        try coder.field(2, "Driver", &driver, .always)
        try coder.field(3, "Mountpoint", &mountpoint, .always)
        try coder.field(4, "CreatedAt", &createdAt)
        try coder.field(5, "Labels", &labels, .always)
        try coder.field(6, "Options", &options, .always)
        try coder.field(7, "Scope", &scope, .always)
        try coder.field(8, "Anonymous", &isAnonymous, .internalOnly)
    }
}
