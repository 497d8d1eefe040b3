public import PluginAPI

/// The default runtime: images in a content-addressed store, containers by an OCI runtime under conmon.
///
/// Options: `runtime` and `conmon` (names or paths), `cgroup-parent` (default `/apus`), `unpack-path`, `registry-mirror`, `insecure-registry`.
public final class RuntimeOCI: Runtime {
    private let host: any HostServices
    private let images: any ImageProvider
    private let containers: Containers

    init(host: any HostServices, images: any ImageProvider) throws(ApusError) {
        self.host = host
        self.images = images
        let cgroups = Cgroups()
        let tools = try RuntimeTools.find(configuration: host.configuration, cgroupVersion: cgroups.version)
        let parent = host.configuration["cgroup-parent"] ?? "/apus"
        guard parent.hasPrefix("/"), parent.count > 1, !parent.split(separator: "/").contains("..") else {
            throw ApusError(.invalidArgument, "cgroup-parent must be an absolute path below the root of the cgroups, not \"\(parent)\"")
        }
        containers = try Containers(
            layout: RuntimeLayout(state: host.stateDirectory, run: host.runDirectory), tools: tools, cgroups: cgroups, cgroupParent: parent,
            images: images, log: { level, message in host.log(level, message) })
    }

    /// The containers as they are now.
    var records: [ContainerRecord] { containers.table.all() }

    public func shutDown() async {
        await containers.shutDown()
        await images.shutDown()
    }

    public func information() async throws(ApusError) -> RuntimeInformation {
        let tools = containers.tools
        var information = RuntimeInformation(
            ociRuntime: await RuntimeTools.version(of: tools.runtime), monitor: await RuntimeTools.version(of: tools.conmon),
            cgroupVersion: containers.cgroups.version, storageDriver: "overlay2", seccomp: SeccompPlatform.isSupported)
        if !SeccompPlatform.isSupported { information.warnings.append("WARNING: this kernel has no seccomp: system calls are not filtered") }
        if !containers.cgroups.limitsSwap { information.warnings.append("WARNING: No swap limit support") }
        return information
    }

    // MARK: - Images

    public func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
        try await images.pull(request, progress: progress)
    }

    public func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution { try await images.distribution(request) }

    public func tags(_ request: PullRequest) async throws(ApusError) -> [String] { try await images.tags(request) }

    public func authenticate(_ request: RegistryLoginRequest) async throws(ApusError) { try await images.authenticate(request) }

    public func images() async throws(ApusError) -> [Image] { try await images.images() }

    public func image(_ reference: String) async throws(ApusError) -> Image { try await images.image(reference) }

    public func tag(source: String, target: String) async throws(ApusError) { try await images.tag(source: source, target: target) }

    public func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { try await images.removeImage(request) }

    public func load(descriptor: Int32) async throws(ApusError) -> [String] { try await images.load(descriptor: descriptor) }

    public func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { try await images.importImage(request) }

    public func diskUsage() async throws(ApusError) -> RuntimeDiskUsage {
        let layers = try await images.layersSize()
        let usage = try await containers.diskUsage()
        var total = RuntimeDiskUsage(layers: layers, containers: usage.containers, volumes: usage.volumes)
        total.shared = try await images.sharedSizes()
        return total
    }

    // MARK: - Containers

    public func create(_ configuration: ContainerConfiguration) async throws(ApusError) { try await containers.create(configuration) }

    public func start(_ id: ID) async throws(ApusError) -> ContainerState { try await containers.start(id) }

    public func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState { try await containers.stop(request) }

    public func signal(_ id: ID, _ signal: Int32) async throws(ApusError) { try containers.signal(id, signal) }

    public func wait(_ id: ID) async throws(ApusError) -> ContainerState {
        guard let state = try await containers.table.waitForEnd(id) else { throw ContainerTable.noSuchContainer(id) }
        return state
    }

    public func remove(_ id: ID) async throws(ApusError) { try await containers.remove(id) }

    public func containers() async throws(ApusError) -> [Container] {
        containers.table.all().map(\.container).sorted {
            ($0.configuration.createdAt, $0.configuration.id) > ($1.configuration.createdAt, $1.configuration.id)
        }
    }

    public func container(_ id: ID) async throws(ApusError) -> Container { try containers.table.record(id).container }

    public func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer { try await containers.execute(request) }

    public func logs(_ request: LogRequest) async throws(ApusError) { try await containers.logs(request) }

    public func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics { try containers.statistics(id) }

    public func events() -> AsyncStream<RuntimeEvent> { containers.events.follow() }

    // MARK: - Volumes

    public func volumes() async throws(ApusError) -> [Volume] { try containers.volumes.all() }

    public func createVolume(_ volume: Volume) async throws(ApusError) -> Volume {
        var volume = volume
        if volume.name.isEmpty {
            volume.name = ID.randomContainer().text
            volume.isAnonymous = true
        }
        return try await containers.createVolume(volume)
    }

    public func removeVolume(name: String) async throws(ApusError) { try await containers.removeVolume(named: name) }
}
