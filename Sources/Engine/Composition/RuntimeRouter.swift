import Agent
import Logging
import PluginAPI
import Synchronization

/// Several runtimes as one: a container runs on the runtime that it names, and on the usual one when it names none. Images and volumes are the usual one's.
///
/// Which runtime has a container is written in the container's annotations, and found again by asking all of them.
final class RuntimeRouter: Runtime, RuntimeChoice {
    private struct State {
        /// Of containers that are not on the usual runtime.
        var homes: [ID: String] = [:]
        /// Runtimes whose events are followed, by name; a plugin that is enabled again is another one.
        var followed: [String: ObjectIdentifier] = [:]
        var events: AsyncStream<RuntimeEvent>.Continuation?
    }

    private let usual: any Runtime
    private let usualName: String
    private let enabled: @Sendable () -> [String: any Runtime]
    private let state = Mutex(State())
    private let newcomers: AsyncStream<AsyncStream<RuntimeEvent>>
    private let newcomer: AsyncStream<AsyncStream<RuntimeEvent>>.Continuation

    /// `enabled` gives the runtimes of the moment by name, the usual one among them.
    init(usual: any Runtime, usualName: String, enabled: @escaping @Sendable () -> [String: any Runtime]) {
        self.usual = usual
        self.usualName = usualName
        self.enabled = enabled
        (newcomers, newcomer) = AsyncStream.makeStream(of: AsyncStream<RuntimeEvent>.self)
    }

    /// Follows the events of all runtimes until it is cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.follow(self.usual.events()) }
            for await events in newcomers { group.addTask { await self.follow(events) } }
            group.cancelAll()
        }
    }

    private func follow(_ events: AsyncStream<RuntimeEvent>) async {
        for await event in events { _ = state.withLock { $0.events?.yield(event) } }
    }

    // MARK: Which one

    func runtime(named name: String) throws(ApusError) -> any Runtime {
        if name.isEmpty || name == usualName { return usual }
        guard let runtime = enabled()[name] else {
            throw ApusError(.invalidArgument, "there is no runtime \"\(name)\" on this node: enable the plugin runtime/\(name); see apus plugin ls")
        }
        let isNew = state.withLock { $0.followed.updateValue(ObjectIdentifier(runtime), forKey: name) != ObjectIdentifier(runtime) }
        // Subscribed here and now: the caller may start a container next, and that may end before anybody else comes to run.
        if isNew { newcomer.yield(runtime.events()) }
        return runtime
    }

    private func home(of container: ID) throws(ApusError) -> any Runtime {
        guard let name = state.withLock({ $0.homes[container] }) else { return usual }
        return try runtime(named: name)
    }

    // MARK: Containers

    func create(_ configuration: ContainerConfiguration) async throws(ApusError) {
        let name = configuration.runtimeName
        let runtime = try runtime(named: name)
        if !name.isEmpty, name != usualName { state.withLock { $0.homes[configuration.id] = name } }
        do throws(ApusError) {
            try await runtime.create(configuration)
        } catch {
            state.withLock { $0.homes[configuration.id] = nil }
            throw error
        }
    }

    func containers() async throws(ApusError) -> [Container] {
        var all = try await usual.containers()
        for name in enabled().keys.sorted() where name != usualName {
            let others = try await runtime(named: name).containers()
            state.withLock { state in for container in others { state.homes[container.configuration.id] = name } }
            all += others
        }
        return all
    }

    func remove(_ id: ID) async throws(ApusError) {
        try await home(of: id).remove(id)
        state.withLock { $0.homes[id] = nil }
    }

    func start(_ id: ID) async throws(ApusError) -> ContainerState { try await home(of: id).start(id) }
    func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState { try await home(of: request.id).stop(request) }
    func signal(_ id: ID, _ signal: Int32) async throws(ApusError) { try await home(of: id).signal(id, signal) }
    func wait(_ id: ID) async throws(ApusError) -> ContainerState { try await home(of: id).wait(id) }
    func container(_ id: ID) async throws(ApusError) -> Container { try await home(of: id).container(id) }
    func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer { try await home(of: request.id).execute(request) }
    func logs(_ request: LogRequest) async throws(ApusError) { try await home(of: request.id).logs(request) }
    func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics { try await home(of: id).statistics(id) }

    /// For one reader.
    func events() -> AsyncStream<RuntimeEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: RuntimeEvent.self)
        state.withLock { $0.events = continuation }
        return stream
    }

    // MARK: The usual one's

    func information() async throws(ApusError) -> RuntimeInformation { try await usual.information() }
    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
        try await usual.pull(request, progress: progress)
    }
    func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution { try await usual.distribution(request) }
    func tags(_ request: PullRequest) async throws(ApusError) -> [String] { try await usual.tags(request) }
    func authenticate(_ request: RegistryLoginRequest) async throws(ApusError) { try await usual.authenticate(request) }
    func images() async throws(ApusError) -> [Image] { try await usual.images() }
    func image(_ reference: String) async throws(ApusError) -> Image { try await usual.image(reference) }
    func tag(source: String, target: String) async throws(ApusError) { try await usual.tag(source: source, target: target) }
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { try await usual.removeImage(request) }
    func load(descriptor: Int32) async throws(ApusError) -> [String] { try await usual.load(descriptor: descriptor) }
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { try await usual.importImage(request) }
    func diskUsage() async throws(ApusError) -> RuntimeDiskUsage { try await usual.diskUsage() }
    func volumes() async throws(ApusError) -> [Volume] { try await usual.volumes() }
    func createVolume(_ volume: Volume) async throws(ApusError) -> Volume { try await usual.createVolume(volume) }
    func removeVolume(name: String) async throws(ApusError) { try await usual.removeVolume(name: name) }
}
