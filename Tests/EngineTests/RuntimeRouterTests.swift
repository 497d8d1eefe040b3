import PluginAPI
import Synchronization
import Testing

@testable import Engine

/// A runtime that only keeps a list, and tells what its test says.
private final class ListRuntime: Runtime {
    private struct State {
        var containers: [ID: ContainerConfiguration] = [:]
        var readers: [AsyncStream<RuntimeEvent>.Continuation] = []
    }

    private let state = Mutex(State())
    private let missing = ApusError(.unimplemented, "this runtime only keeps a list")

    var ids: Set<ID> { state.withLock { Set($0.containers.keys) } }

    func tell(_ container: ID) {
        for reader in state.withLock({ $0.readers }) { reader.yield(RuntimeEvent(kind: .ended, containerID: container, state: ContainerState())) }
    }

    func shutDown() async { for reader in state.withLock({ $0.readers }) { reader.finish() } }

    func create(_ configuration: ContainerConfiguration) async throws(ApusError) { state.withLock { $0.containers[configuration.id] = configuration } }
    func remove(_ id: ID) async throws(ApusError) { state.withLock { $0.containers[id] = nil } }

    func containers() async throws(ApusError) -> [Container] {
        state.withLock { state in
            state.containers.values.map { configuration in
                var container = Container()
                container.configuration = configuration
                return container
            }
        }
    }

    func container(_ id: ID) async throws(ApusError) -> Container {
        guard let found = try await containers().first(where: { $0.configuration.id == id }) else { throw ApusError(.notFound, "no such container") }
        return found
    }

    func events() -> AsyncStream<RuntimeEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: RuntimeEvent.self)
        state.withLock { $0.readers.append(continuation) }
        return stream
    }

    func information() async throws(ApusError) -> RuntimeInformation { throw missing }
    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image { throw missing }
    func images() async throws(ApusError) -> [Image] { [] }
    func image(_ reference: String) async throws(ApusError) -> Image { throw missing }
    func tag(source: String, target: String) async throws(ApusError) { throw missing }
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { throw missing }
    func load(descriptor: Int32) async throws(ApusError) -> [String] { throw missing }
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { throw missing }
    func diskUsage() async throws(ApusError) -> RuntimeDiskUsage { throw missing }
    func start(_ id: ID) async throws(ApusError) -> ContainerState { throw missing }
    func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState { throw missing }
    func signal(_ id: ID, _ signal: Int32) async throws(ApusError) { throw missing }
    func wait(_ id: ID) async throws(ApusError) -> ContainerState { throw missing }
    func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer { throw missing }
    func logs(_ request: LogRequest) async throws(ApusError) { throw missing }
    func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics { throw missing }
    func volumes() async throws(ApusError) -> [Volume] { [] }
    func createVolume(_ volume: Volume) async throws(ApusError) -> Volume { throw missing }
    func removeVolume(name: String) async throws(ApusError) { throw missing }
}

struct RuntimeRouterTests {
    private static func container(_ id: ID, on runtime: String) -> ContainerConfiguration {
        var configuration = ContainerConfiguration()
        configuration.id = id
        if !runtime.isEmpty { configuration.annotations["apus.runtime"] = runtime }
        return configuration
    }

    @Test func eachContainerGoesToTheRuntimeThatItNames() async throws {
        let (usual, other) = (ListRuntime(), ListRuntime())
        let router = RuntimeRouter(usual: usual, usualName: "oci") { ["oci": usual, "process": other] }
        for (id, runtime) in [("a", ""), ("b", "oci"), ("c", "process")] { try await router.create(Self.container(ID(id), on: runtime)) }
        #expect(usual.ids == ["a", "b"] && other.ids == ["c"])
        #expect(try await router.containers().count == 3)
        #expect(try await router.container("c").configuration.id == "c")
        await #expect(throws: ApusError.self) { try await router.create(Self.container("d", on: "nobody")) }
        try await router.remove("c")
        #expect(other.ids.isEmpty)

        // Whoever comes later finds out by asking.
        try await router.create(Self.container("e", on: "process"))
        let later = RuntimeRouter(usual: usual, usualName: "oci") { ["oci": usual, "process": other] }
        _ = try await later.containers()
        #expect(try await later.container("e").configuration.id == "e")
    }

    /// What happens right after a runtime was chosen is not missed; and a plugin that was disabled and enabled again is another one.
    @Test func eventsOfAllRuntimesArrive() async throws {
        let usual = ListRuntime()
        let others = Mutex(ListRuntime())
        let router = RuntimeRouter(usual: usual, usualName: "oci") { ["oci": usual, "process": others.withLock { $0 }] }
        var events = router.events().makeAsyncIterator()
        let first = others.withLock { $0 }
        _ = try router.runtime(named: "process")
        first.tell("a")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await router.run() }
            #expect(await events.next()?.containerID == "a")
            await first.shutDown()
            let second = ListRuntime()
            others.withLock { $0 = second }
            _ = try router.runtime(named: "process")
            _ = try router.runtime(named: "process")
            second.tell("b")
            second.tell("c")
            #expect(await events.next()?.containerID == "b")
            #expect(await events.next()?.containerID == "c", "each once")
            group.cancelAll()
        }
    }
}
