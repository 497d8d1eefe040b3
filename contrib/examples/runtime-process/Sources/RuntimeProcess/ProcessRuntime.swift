import Glibc
public import PluginAPI
import Synchronization

/// Runs containers as plain processes of this machine, without images: what stands in an image's place is the name of a program.
///
/// A process has the machine's files, and its container's network, host name, `/etc/hosts` and `/etc/resolv.conf`. It outlives the engine.
/// What a plain process cannot have (mounts, limits, capabilities, a terminal) is refused by name.
public final class ProcessRuntime: Runtime {
    /// A container, and who waits for its end.
    struct Record {
        var configuration: ContainerConfiguration
        var state = ContainerState()
        var process: ProcessIdentity?
        var isStarting = false
        var waiters: [AsyncStream<ContainerState>.Continuation] = []
    }

    struct State {
        var records: [ID: Record] = [:]
        var readers: [AsyncStream<RuntimeEvent>.Continuation] = []
        var isShutDown = false
    }

    let host: any HostServices
    let layout: Layout
    let monitor: Monitor
    let state = Mutex(State())

    /// Setting `conmon`: the path of the program, `/usr/bin/conmon`.
    /// - Throws: `unavailable` without conmon; `failed` when the state folder cannot be used.
    public init(host: any HostServices) throws(ApusError) {
        self.host = host
        layout = Layout(root: host.stateDirectory)
        monitor = Monitor(layout: layout, program: host.configuration["conmon"] ?? "/usr/bin/conmon")
        for program in [monitor.program, "/usr/bin/nsenter", "/usr/bin/unshare", "/usr/bin/setpriv", "/usr/bin/setsid", "/bin/bash"]
        where !File.isProgram(program) {
            throw ApusError(.unavailable, "\(program) is missing; install conmon, util-linux and bash")
        }
        try File.makeFolder(layout.containers)
        try File.makeFolder(layout.exits)
        try monitor.install()
        takeBack()
        try watch()
    }

    public func shutDown() async {
        let (readers, waiters) = state.withLock { state in
            state.isShutDown = true
            return (state.readers, state.records.values.flatMap(\.waiters))
        }
        try? File.write("", to: layout.bell)
        for reader in readers { reader.finish() }
        for waiter in waiters { waiter.finish() }
    }

    public func information() async throws(ApusError) -> RuntimeInformation {
        RuntimeInformation(ociRuntime: "none: plain processes", monitor: monitor.program, cgroupVersion: 2, storageDriver: "none", seccomp: false)
    }

    func missing(_ what: String) -> ApusError { ApusError(.unimplemented, "the runtime process \(what)") }

    // MARK: Images

    public func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
        throw ApusError(
            .notFound, "the runtime process has no images: in the place of one goes a program of this machine, and there is no \"\(request.reference)\"")
    }

    public func images() async throws(ApusError) -> [Image] { [] }

    /// A program that this machine has, or `host`, after which the command line says what is run.
    public func image(_ reference: String) async throws(ApusError) -> Image {
        let name = reference.hasSuffix(":latest") ? String(reference.dropLast(7)) : reference
        guard let image = ProcessPlan.image(name), name == ProcessPlan.anyProgram || Self.find(name, in: ProcessPlan.defaultPath) != nil else {
            throw ApusError(.notFound, "there is no program \"\(reference)\" on this machine")
        }
        return image
    }

    public func tag(source: String, target: String) async throws(ApusError) { throw missing("has no images to tag") }
    public func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { throw missing("has no images to remove") }
    public func load(descriptor: Int32) async throws(ApusError) -> [String] { throw missing("loads no images") }
    public func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { throw missing("imports no images") }
    public func diskUsage() async throws(ApusError) -> RuntimeDiskUsage { RuntimeDiskUsage() }

    /// A program on a path, as a shell finds it.
    static func find(_ name: String, in path: String) -> String? {
        path.split(separator: ":").lazy.map { "\($0)/\(name)" }.first { File.isProgram($0) }
    }

    // MARK: Volumes

    public func volumes() async throws(ApusError) -> [Volume] { [] }
    public func createVolume(_ volume: Volume) async throws(ApusError) -> Volume { throw missing("has no volumes") }
    public func removeVolume(name: String) async throws(ApusError) { throw missing("has no volumes") }
}
