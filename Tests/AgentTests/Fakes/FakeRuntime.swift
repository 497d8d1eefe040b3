import PluginAPI
import Synchronization

/// A runtime without processes: containers are records, and end when a test says so.
final class FakeRuntime: Runtime {
    enum Call: String, Sendable {
        case pull, image, create, start, stop, signal, remove, execute
    }

    struct State {
        var images: [String: Image] = [:]
        var registry: [String: Image] = [:]
        var containers: [ID: Container] = [:]
        var volumes: [String: Volume] = [:]
        var calls: [String] = []
        /// Thrown by the next calls, first to last.
        var failures: [Call: [ApusError]] = [:]
        /// Passed before the call does anything.
        var gates: [Call: Gate] = [:]
        /// The container ends so soon after each start.
        var endsAtOnce: Int64?
        var health: Result<Int32, ApusError> = .success(0)
        var nextProcess: Int64 = 1000
        var streams: [AsyncStream<RuntimeEvent>.Continuation] = []
        var waiting: [ID: [CheckedContinuation<Void, Never>]] = [:]
        var running = 0
        var concurrentCreates = 0
        var mostConcurrentCreates = 0
    }

    let state = Mutex(State())
    let now: @Sendable () -> Timestamp

    init(now: @escaping @Sendable () -> Timestamp) { self.now = now }

    func calls(_ call: Call) -> Int { state.withLock { $0.calls.count { $0.hasPrefix(call.rawValue + " ") } } }

    func fail(_ call: Call, _ errors: ApusError...) { state.withLock { $0.failures[call, default: []] += errors } }

    /// An image that is here.
    func add(_ reference: String, _ configure: (inout ImageConfiguration) -> Void = { _ in }) {
        state.withLock { $0.images[reference] = Self.image(reference, configure) }
    }

    /// An image that can be pulled.
    func publish(_ reference: String) { state.withLock { $0.registry[reference] = Self.image(reference) { _ in } } }

    static func image(_ reference: String, _ configure: (inout ImageConfiguration) -> Void) -> Image {
        var image = Image()
        image.id = ID("sha256:" + reference)
        image.references = [reference]
        image.configuration.command = ["serve"]
        configure(&image.configuration)
        return image
    }

    /// Its process ends.
    func end(_ id: ID, exitCode: Int64 = 0, silently: Bool = false) {
        let (event, streams, waiting) = state.withLock { state in
            guard var container = state.containers[id], container.state.phase == .running else {
                return (RuntimeEvent?.none, state.streams, [CheckedContinuation<Void, Never>]())
            }
            container.state.phase = .exited
            container.state.processID = 0
            container.state.exitCode = exitCode
            container.state.finishedAt = now()
            state.containers[id] = container
            return (RuntimeEvent(kind: .ended, containerID: id, state: container.state), state.streams, state.waiting.removeValue(forKey: id) ?? [])
        }
        if !silently, let event { for stream in streams { stream.yield(event) } }
        for continuation in waiting { continuation.resume() }
    }

    private func begin(_ call: Call, _ detail: String) async throws(ApusError) {
        let (gate, failure) = state.withLock { state in
            state.calls.append("\(call.rawValue) \(detail)")
            let failure = state.failures[call]?.isEmpty == false ? state.failures[call]?.removeFirst() : nil
            return (state.gates[call], failure)
        }
        if let gate { await gate.pass() }
        if let failure { throw failure }
    }

    // MARK: - Runtime

    func information() async throws(ApusError) -> RuntimeInformation {
        RuntimeInformation(ociRuntime: "fake 1", monitor: "fake 1", cgroupVersion: 2, storageDriver: "none", seccomp: false)
    }

    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
        try await begin(.pull, request.reference)
        let image = state.withLock { state in
            let image = state.registry[request.reference]
            if let image { state.images[request.reference] = image }
            return image
        }
        guard let image else { throw ApusError(.notFound, "manifest unknown") }
        return image
    }

    func images() async throws(ApusError) -> [Image] { state.withLock { Array($0.images.values) } }

    func image(_ reference: String) async throws(ApusError) -> Image {
        guard let image = state.withLock({ $0.images[reference] }) else { throw ApusError(.notFound, "no image \(reference)") }
        return image
    }

    func tag(source: String, target: String) async throws(ApusError) {}
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { RemoveImageAnswer() }
    func load(descriptor: Int32) async throws(ApusError) -> [String] { [] }
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { Image() }
    func diskUsage() async throws(ApusError) -> RuntimeDiskUsage { RuntimeDiskUsage() }

    func create(_ configuration: ContainerConfiguration) async throws(ApusError) {
        state.withLock { state in
            state.concurrentCreates += 1
            state.mostConcurrentCreates = max(state.mostConcurrentCreates, state.concurrentCreates)
        }
        defer { state.withLock { $0.concurrentCreates -= 1 } }
        try await begin(.create, configuration.name)
        await ConcurrentTask.yield()
        var container = Container()
        container.configuration = configuration
        let made = container
        state.withLock { $0.containers[configuration.id] = made }
    }

    func start(_ id: ID) async throws(ApusError) -> ContainerState {
        try await begin(.start, id.text)
        let answer: Result<(ContainerState, Int64?), ApusError> = state.withLock { state in
            guard var container = state.containers[id] else { return .failure(ApusError(.notFound, "no container \(id)")) }
            if container.state.phase == .running { return .failure(ApusError(.conflict, "it runs")) }
            container.state = ContainerState()
            container.state.phase = .running
            state.nextProcess += 1
            container.state.processID = state.nextProcess
            container.state.startedAt = now() + .nanoseconds(state.nextProcess)
            state.containers[id] = container
            return .success((container.state, state.endsAtOnce))
        }
        let (state, endsAtOnce) = try answer.get()
        if let endsAtOnce { end(id, exitCode: endsAtOnce) }
        return state
    }

    func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState {
        try await begin(.stop, request.id.text)
        end(request.id, exitCode: 143)
        return try await container(request.id).state
    }

    func signal(_ id: ID, _ signal: Int32) async throws(ApusError) {
        try await begin(.signal, "\(id) \(signal)")
        if signal == 9 { end(id, exitCode: 137) }
    }

    func wait(_ id: ID) async throws(ApusError) -> ContainerState {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                guard state.containers[id]?.state.phase == .running else { return true }
                state.waiting[id, default: []].append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
        return try await container(id).state
    }

    func remove(_ id: ID) async throws(ApusError) {
        try await begin(.remove, id.text)
        let problem: ApusError? = state.withLock { state in
            guard let container = state.containers[id] else { return ApusError(.notFound, "no container \(id)") }
            if container.state.phase == .running { return ApusError(.conflict, "it runs") }
            state.containers[id] = nil
            return nil
        }
        if let problem { throw problem }
    }

    func containers() async throws(ApusError) -> [Container] { state.withLock { Array($0.containers.values) } }

    func container(_ id: ID) async throws(ApusError) -> Container {
        guard let container = state.withLock({ $0.containers[id] }) else { throw ApusError(.notFound, "no container \(id)") }
        return container
    }

    func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer {
        try await begin(.execute, request.arguments.joined(separator: " "))
        return ExecuteAnswer(exitCode: try state.withLock { $0.health }.get(), output: Array("checked".utf8))
    }

    func logs(_ request: LogRequest) async throws(ApusError) {}
    func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics { ContainerStatistics() }

    func events() -> AsyncStream<RuntimeEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: RuntimeEvent.self)
        state.withLock { $0.streams.append(continuation) }
        return stream
    }

    func volumes() async throws(ApusError) -> [Volume] { state.withLock { Array($0.volumes.values) } }

    func createVolume(_ volume: Volume) async throws(ApusError) -> Volume {
        state.withLock { state in
            if let volume = state.volumes[volume.name] { return volume }
            state.volumes[volume.name] = volume
            return volume
        }
    }

    func removeVolume(name: String) async throws(ApusError) { state.withLock { $0.volumes[name] = nil } }
}
