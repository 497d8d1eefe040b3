/// Keeps images and runs containers.
///
/// A container outlives the engine: what `create` made is found again by `containers()` after a restart, running or not.
/// Requests name images by reference or id, containers by their full id; the host resolves names and prefixes.
public protocol Runtime: Plugin {
    /// What the runtime is, for `info` and `version`.
    func information() async throws(ApusError) -> RuntimeInformation

    /// Fetches an image from its registry. Progress is reported from any thread, and never after the return.
    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image
    /// Asks the registry what a reference stands for, without fetching the image. A runtime that cannot throws `unimplemented`.
    func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution
    /// The tags that a registry has of the repository of a reference; a tag or digest of the reference itself does not matter. A runtime that cannot throws `unimplemented`.
    func tags(_ request: PullRequest) async throws(ApusError) -> [String]
    /// Tries credentials with a registry, and keeps nothing of them. A runtime that cannot throws `unimplemented`.
    /// - Throws: `unauthenticated` when the registry refuses them.
    func authenticate(_ request: RegistryLoginRequest) async throws(ApusError)
    func images() async throws(ApusError) -> [Image]
    /// By id, prefix of an id, `name:tag` or `name@digest`; `notFound` when there is none.
    func image(_ reference: String) async throws(ApusError) -> Image
    /// `source` is a reference or id; `target` is `name:tag`, taken from another image if it has it.
    func tag(source: String, target: String) async throws(ApusError)
    /// Removes one reference, and the image with its last one. `conflict` while a container uses it, unless forced.
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer
    /// Reads an archive of `docker save` or an OCI layout (tar, perhaps compressed) from a descriptor that the caller closes. Returns the references and ids that it held.
    func load(descriptor: Int32) async throws(ApusError) -> [String]
    /// Makes an image of one layer from a tar of a root file system.
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image
    /// Bytes on disk.
    func diskUsage() async throws(ApusError) -> RuntimeDiskUsage

    /// Makes a container ready to start: file system, mounts, configuration. After an error nothing of it is left.
    func create(_ configuration: ContainerConfiguration) async throws(ApusError)
    /// Starts it, and returns when its process runs. `conflict` when it runs already.
    func start(_ id: ID) async throws(ApusError) -> ContainerState
    /// The stop signal, then after the grace period SIGKILL; returns when it has ended. Succeeds when it does not run.
    func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState
    /// Sends one signal. `conflict` when it does not run.
    func signal(_ id: ID, _ signal: Int32) async throws(ApusError)
    /// Returns when the container has ended, at once if it does not run.
    func wait(_ id: ID) async throws(ApusError) -> ContainerState
    /// Removes it with its writable layer and log. `conflict` while it runs.
    func remove(_ id: ID) async throws(ApusError)
    /// All of them, as they are now.
    func containers() async throws(ApusError) -> [Container]
    func container(_ id: ID) async throws(ApusError) -> Container
    /// Runs a command inside and waits for it; at the time limit it is killed and `timedOut` is thrown.
    func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer
    /// Writes the log to a descriptor as the Engine API's frames (a byte 1 or 2 for the stream, three zeros, the length in four bytes, big-endian; then the bytes),
    /// raw when the container has a terminal. Returns at the end of the log, or with `follow` when the container has ended and all is written, or when cancelled, or when the descriptor's reader is gone.
    func logs(_ request: LogRequest) async throws(ApusError)
    /// Processor time, memory and processes of a container.
    func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics
    /// Starts and ends of containers from now on, also of those that an earlier engine started. The stream ends when the plugin is shut down.
    func events() -> AsyncStream<RuntimeEvent>

    /// Named volumes of this node.
    func volumes() async throws(ApusError) -> [Volume]
    /// Makes the volume, or returns the one of that name.
    func createVolume(_ volume: Volume) async throws(ApusError) -> Volume
    /// `conflict` while a container uses it.
    func removeVolume(name: String) async throws(ApusError)
}

extension Runtime {
    /// Throws `unimplemented`.
    public func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution {
        throw ApusError(.unimplemented, "this runtime cannot ask a registry what \(request.reference) stands for")
    }

    public func tags(_ request: PullRequest) async throws(ApusError) -> [String] {
        throw ApusError(.unimplemented, "this runtime cannot ask a registry for the tags of \(request.reference)")
    }

    public func authenticate(_ request: RegistryLoginRequest) async throws(ApusError) {
        throw ApusError(.unimplemented, "this runtime cannot try credentials with a registry")
    }
}

/// A runtime and the programs that it uses.
public struct RuntimeInformation: Sendable, Hashable {
    /// `runc 1.1.5`.
    public var ociRuntime: String
    /// `conmon 2.1.6`.
    public var monitor: String
    /// `1` or `2`.
    public var cgroupVersion: Int
    public var storageDriver: String
    public var seccomp: Bool
    public var warnings: [String] = []

    public init(ociRuntime: String, monitor: String, cgroupVersion: Int, storageDriver: String, seccomp: Bool) {
        self.ociRuntime = ociRuntime
        self.monitor = monitor
        self.cgroupVersion = cgroupVersion
        self.storageDriver = storageDriver
        self.seccomp = seccomp
    }
}

/// Something that happened to a container.
public struct RuntimeEvent: Sendable, Hashable {
    /// What has happened.
    public enum Kind: String, Sendable, Hashable {
        case started, ended, outOfMemory
    }

    public var kind: Kind
    public var containerID: ID
    public var state: ContainerState

    public init(kind: Kind, containerID: ID, state: ContainerState) {
        self.kind = kind
        self.containerID = containerID
        self.state = state
    }
}

/// When a container is to end.
public struct StopRequest: Sendable {
    public var id: ID
    /// `nil`: the container's own.
    public var signal: Int32?
    /// Until SIGKILL. `nil`: the container's own.
    public var gracePeriod: Duration?

    public init(id: ID, signal: Int32? = nil, gracePeriod: Duration? = nil) {
        self.id = id
        self.signal = signal
        self.gracePeriod = gracePeriod
    }
}

/// A command inside a container.
public struct ExecuteRequest: Sendable {
    public var id: ID
    public var arguments: [String]
    /// Added to the container's.
    public var environment: [String] = []
    public var user: String = ""
    public var timeout: Duration
    /// More output than this many bytes is dropped.
    public var outputLimit = 4096

    public init(id: ID, arguments: [String], timeout: Duration) {
        self.id = id
        self.arguments = arguments
        self.timeout = timeout
    }
}

/// How a command ended.
public struct ExecuteAnswer: Sendable, Hashable {
    public var exitCode: Int32
    /// Both streams.
    public var output: [UInt8]

    public init(exitCode: Int32, output: [UInt8]) {
        self.exitCode = exitCode
        self.output = output
    }
}

/// Which part of a log.
public struct LogRequest: Sendable {
    public var id: ID
    /// Written to, never closed.
    public var descriptor: Int32
    public var standardOutput = true
    public var standardError = true
    /// Goes on with what is yet to come, until the container ends or the reader leaves.
    public var follow = false
    /// RFC 3339 time and a space before each line.
    public var timestamps = false
    /// The last lines only.
    public var tail: Int?
    /// Only lines of this time and later; `never`: all.
    public var since: Timestamp = .never
    /// Only lines of this time and earlier; `never`: all.
    public var until: Timestamp = .never
    /// Put before each line, after the time.
    public var linePrefix = ""
    /// Frames although the container has a terminal.
    public var alwaysFramed = false

    public init(id: ID, descriptor: Int32) {
        self.id = id
        self.descriptor = descriptor
    }
}

/// What a container uses now.
public struct ContainerStatistics: Sendable, Hashable {
    /// Processor time so far.
    public var processorTime: Duration = .zero
    public var memoryBytes: UInt64 = 0
    /// 0: unlimited.
    public var memoryLimitBytes: UInt64 = 0
    public var processes: UInt64 = 0

    public init() {}
}
