/// An image to fetch.
public struct PullRequest: Sendable {
    /// `nginx`, `nginx:1.25`, `localhost:5000/team/app@sha256:…`.
    public var reference: String
    /// `nil`: nobody is named to the registry.
    public var credentials: RegistryCredentials?
    /// `linux/amd64`, `linux/arm/v7`; empty: this machine's.
    public var platform: String = ""

    public init(reference: String) { self.reference = reference }
}

/// What a registry asks for.
public struct RegistryCredentials: FieldCoded {
    public var username: String = ""
    public var password: String = ""
    /// Instead of name and password.
    public var identityToken: String = ""

    public init() {}

    public mutating func code<Coder: FieldCoder>(with coder: inout Coder) throws(ApusError) {
        try coder.field(1, "Username", &username)
        try coder.field(2, "Password", &password)
        try coder.field(3, "IdentityToken", &identityToken)
    }

    public init(username: String, password: String, identityToken: String = "") {
        self.username = username
        self.password = password
        self.identityToken = identityToken
    }
}

/// Credentials to try with a registry (Engine API: `POST /auth`).
public struct RegistryLoginRequest: Sendable {
    /// `registry.example.com:5000`, with or without a scheme and a path, which do not matter; empty: Docker Hub.
    public var server: String
    public var credentials: RegistryCredentials

    public init(server: String, credentials: RegistryCredentials) {
        self.server = server
        self.credentials = credentials
    }
}

/// What a registry says of a reference (Engine API: `DistributionInspect`).
public struct ImageDistribution: Sendable, Hashable {
    /// Of the manifest, or of the list of manifests, that the reference stands for.
    public var mediaType: String
    /// `sha256:…`.
    public var digest: String
    /// Of the manifest, in bytes.
    public var size: Int64
    /// What the image can run on.
    public var platforms: [ImageDistributionPlatform]

    public init(mediaType: String, digest: String, size: Int64, platforms: [ImageDistributionPlatform]) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.platforms = platforms
    }
}

/// `linux`, `arm`, `v7`.
public struct ImageDistributionPlatform: Sendable, Hashable {
    public var os: String
    public var architecture: String
    public var variant: String

    public init(os: String, architecture: String, variant: String = "") {
        self.os = os
        self.architecture = architecture
        self.variant = variant
    }
}

/// How far a pull is (Engine API: the stream of `POST /images/create`).
public struct PullProgress: Sendable, Hashable {
    /// The first twelve digits of a layer's digest, or empty for the whole.
    public var id: String
    /// `Pulling fs layer`, `Downloading`, `Verifying Checksum`, `Download complete`, `Extracting`, `Pull complete`, `Already exists`.
    public var status: String
    /// Bytes, or layers, of `total`.
    public var current: Int64
    /// 0: unknown.
    public var total: Int64

    public init(id: String, status: String, current: Int64 = 0, total: Int64 = 0) {
        self.id = id
        self.status = status
        self.current = current
        self.total = total
    }
}

/// An image, or one of its references, to remove.
public struct RemoveImageRequest: Sendable {
    /// A name, or an id that may be shortened.
    public var reference: String
    /// Also when containers use it or several references name it.
    public var force: Bool

    public init(reference: String, force: Bool = false) {
        self.reference = reference
        self.force = force
    }
}

/// What was removed.
public struct RemoveImageAnswer: Sendable, Hashable {
    /// References that are gone.
    public var untagged: [String]
    /// Ids of images and layers that are gone.
    public var deleted: [String]

    public init(untagged: [String] = [], deleted: [String] = []) {
        self.untagged = untagged
        self.deleted = deleted
    }
}

/// A root file system that becomes an image.
public struct ImportImageRequest: Sendable {
    /// A tar, perhaps compressed; the caller closes it.
    public var descriptor: Int32
    /// `name:tag`, or empty.
    public var reference: String
    /// Instructions such as `CMD ["nginx"]`, `ENV A=b`, `EXPOSE 80`.
    public var changes: [String]
    /// For the image's history.
    public var message: String

    public init(descriptor: Int32, reference: String = "", changes: [String] = [], message: String = "") {
        self.descriptor = descriptor
        self.reference = reference
        self.changes = changes
        self.message = message
    }
}

/// Bytes on disk, for `system df`.
public struct RuntimeDiskUsage: Sendable, Hashable {
    /// All layers, each counted once.
    public var layers: Int64
    /// Of each image, the part of its layers that another image has as well. An image that is not here shares nothing.
    public var shared: [ID: Int64] = [:]
    /// The writable layer of each container.
    public var containers: [ID: Int64]
    /// By name.
    public var volumes: [String: Int64]

    public init(layers: Int64 = 0, containers: [ID: Int64] = [:], volumes: [String: Int64] = [:]) {
        self.layers = layers
        self.containers = containers
        self.volumes = volumes
    }
}
