import Dispatcher
import Logging
import PluginAPI
import Synchronization
import Wire

/// What the tasks of an agent share.
struct TaskContext: Sendable {
    var node: ID
    var hostname: String
    var platform: Platform
    var containers: ContainerEngine
    var images: ImagePuller
    var reporter: StatusReporter
    var withdrawals: Withdrawals
    /// The secrets and configs of the node's tasks, as they are now.
    var files: @Sendable () -> AssignedFiles
    /// Creations and starts at the same time; pulls are not among them.
    var permits: Semaphore
    /// At most from leaving the balancer of this node until all others have left it too.
    var withdrawalPatience: Duration
    var listeningPatience: Duration
    var clock: EngineClock
    var logger: Logger
}

/// Runs one task: feeds its machine with what happens, and does what the machine says.
final class TaskWorker: Sendable {
    private enum Message: Sendable {
        case input(TaskMachine.Input)
    }

    let id: ID
    private let task: Mutex<Task>
    private let context: TaskContext
    private let messages: AsyncStream<Message>
    private let inbox: AsyncStream<Message>.Continuation
    private let actions = BackgroundTasks()

    init(_ task: Task, context: TaskContext) {
        id = task.id
        self.task = Mutex(task)
        self.context = context
        (messages, inbox) = AsyncStream.makeStream(of: Message.self)
    }

    /// The task as the manager has it now.
    func assign(_ new: Task) {
        task.withLock { $0 = new }
        inbox.yield(.input(.desired(new.desiredState)))
    }

    /// The manager no longer has it.
    func leave() { inbox.yield(.input(.gone)) }

    /// Returns when nothing is left of the task, or when cancelled; then its container stays.
    func run() async {
        let task = task.withLock { $0 }
        let existing = context.containers.container(ofTask: id)
        var machine = TaskMachine(reported: task.status.state, desired: task.desiredState, container: existing)
        var observation: (container: ID, number: UInt64)?
        func follow(_ container: ID) {
            guard observation?.container != container else { return }
            if let observation { context.containers.endObservation(observation.container, observation.number) }
            let inbox = inbox
            observation = context.containers.observe(container) { inbox.yield(.input(.observed($0))) }.map { (container, $0) }
        }
        if let existing { follow(existing.id) }
        var isFinished = await perform(machine.begin(), machine)
        if !isFinished {
            for await message in messages {
                guard case .input(let input) = message else { continue }
                if case .prepared(let container) = input { follow(container) }
                isFinished = await perform(machine.step(input), machine)
                if isFinished { break }
            }
        }
        await actions.shutDown()
        context.withdrawals.forget(id)
        if let observation { context.containers.endObservation(observation.container, observation.number) }
    }

    /// True when the task is through.
    private func perform(_ outputs: [TaskMachine.Output], _ machine: TaskMachine) async -> Bool {
        for output in outputs {
            switch output {
            case .report(let report): context.reporter.put(id, status(report, machine))
            case .serve(let isServing):
                if let container = machine.containerID { await context.containers.setServing(container, isServing) }
            case .cancelAction: actions.cancel("action")
            case .perform(let action):
                let container = machine.containerID
                actions.add("action") { self.inbox.yield(.input(await self.outcome(of: action, container))) }
            case .finish: return true
            }
        }
        return false
    }

    private func status(_ report: TaskMachine.Report, _ machine: TaskMachine) -> TaskStatus {
        var status = TaskStatus()
        status.timestamp = context.clock.now()
        status.state = report.state
        status.message = report.message
        status.error = report.error
        if let container = machine.containerID, let details = try? context.containers.inspect(container.text) {
            var known = ContainerStatus()
            known.containerID = container
            known.processID = details.state.processID
            known.exitCode = report.exitCode ?? details.state.exitCode
            status.container = known
            status.health = details.health?.status ?? .none
        }
        status.ports.ports = task.withLock { $0.ports.filter { $0.publishMode == .host } }
        return status
    }

    // MARK: - Actions

    private func outcome(of action: TaskMachine.Action, _ container: ID?) async -> TaskMachine.Input {
        switch action {
        case .prepare:
            do throws(ApusError) {
                return .prepared(try await prepare())
            } catch {
                return .prepareFailed(error)
            }
        case .start:
            guard let container else { return .startFailed(ApusError(.failed, "the task has no container")) }
            do throws(ApusError) {
                let containers = context.containers
                // Its files are gone when the machine has started since the container was made.
                try await containers.restoreFiles(try files(), of: container)
                try await context.permits.withPermit { () async throws(ApusError) -> Void in _ = try await containers.start(container.text) }
                await self.awaitListening(container)
                let health = (try? containers.inspect(container.text))?.health
                return .started(isWell: health == nil || health?.status == .healthy)
            } catch {
                return .startFailed(error)
            }
        case .stop:
            return await persistently(failed: TaskMachine.Input.stopFailed) { () async throws(ApusError) -> TaskMachine.Input in
                guard let container else { return .stopped }
                let containers = self.context.containers
                await self.drain(container)
                do throws(ApusError) {
                    try await containers.stop(container.text)
                } catch  where error.code == .notFound {
                    // The observation says so as well.
                }
                return .stopped
            }
        case .remove:
            return await persistently(failed: TaskMachine.Input.removeFailed) { () async throws(ApusError) -> TaskMachine.Input in
                guard let container else { return .removed }
                do throws(ApusError) {
                    try await self.context.containers.remove(container.text, force: true, volumes: true)
                } catch  where error.code == .notFound {
                    // Somebody else was quicker.
                }
                return .removed
            }
        }
    }

    /// On a runtime of the task's choice, which has images of its own, or none and takes any word for one.
    private func bringImage(of request: ContainerRequest, credentials: RegistryCredentials?) async throws(ApusError) {
        let runtime = try context.containers.runtime(named: request.runtime)
        let reference = request.configuration.imageReference
        do throws(ApusError) {
            _ = try await runtime.image(reference)
        } catch {
            guard error.code == .notFound else { throw error }
            var pull = PullRequest(reference: reference)
            pull.credentials = credentials
            _ = try await runtime.pull(pull) { _ in }
        }
    }

    /// Who is told that the task runs gives it connections at once, so that it must listen on the ports that it publishes. Programs that never do
    /// are not waited for long; those with a health check are waited for by that.
    private func awaitListening(_ container: ID) async {
        let containers = context.containers
        let task = task.withLock { $0 }
        let published = task.ports + (containers.endpoints.services[task.serviceID]?.ports ?? [])
        let ports = Set(published.filter { $0.transport == .tcp }.compactMap { UInt16(exactly: $0.targetPort) })
        guard !ports.isEmpty, (try? containers.inspect(container.text))?.health == nil else { return }
        let clock = context.clock
        let end = clock.now() + context.listeningPatience
        var pause: Duration = .milliseconds(5)
        while clock.now() < end, let state = try? containers.inspect(container.text).state, state.phase == .running {
            if await containers.configuration.isListening(state.processID, ports) { return }
            do { try await clock.sleep(pause) } catch { return }
            pause = min(pause * 2, .milliseconds(100))
        }
    }

    /// Takes the container out of every balancer, and lets the connections that it has come to their ends, for its grace period at most.
    private func drain(_ container: ID) async {
        let containers = context.containers
        guard containers.isServing(container) else { return }
        await containers.setServing(container, false)
        await context.withdrawals.wait(for: id, atMost: context.withdrawalPatience, clock: context.clock)
        guard let details = try? containers.inspect(container.text), !details.configuration.networkNamespacePath.isEmpty else { return }
        let clock = context.clock
        let end = clock.now() + (details.configuration.stopGracePeriod ?? .seconds(10))
        while clock.now() < end, !ConcurrentTask.isCancelled {
            guard let now = try? containers.inspect(container.text), now.state.phase == .running,
                await containers.configuration.countConnections(now.state.processID) > 0
            else { return }
            do { try await clock.sleep(.milliseconds(50)) } catch { return }
        }
    }

    private func files() throws(ApusError) -> [ContainerFile] {
        guard let spec = task.withLock({ $0.spec.container }), !spec.secrets.isEmpty || !spec.configs.isEmpty else { return [] }
        return try TaskFiles.files(of: spec, from: context.files())
    }

    private func prepare() async throws(ApusError) -> ID {
        let task = task.withLock { $0 }
        let containers = context.containers
        var prepared = try TaskContainer.request(
            for: task, node: context.node, hostname: context.hostname, platform: context.platform,
            isLocalNetwork: { (try? containers.network($0)) != nil })
        prepared.files = try files()
        let request = prepared
        if request.runtime.isEmpty {
            try await context.images.bring(request.configuration.imageReference, credentials: task.spec.container?.registryCredentials)
        } else {
            try await bringImage(of: request, credentials: task.spec.container?.registryCredentials)
        }
        return try await context.permits.withPermit { () async throws(ApusError) -> ID in try await containers.create(request) }
    }

    /// What must not fail is tried again and again, less and less often.
    private func persistently(
        failed: @Sendable (ApusError) -> TaskMachine.Input, _ body: @Sendable () async throws(ApusError) -> TaskMachine.Input
    ) async -> TaskMachine.Input {
        var delay: Duration = .milliseconds(100)
        while true {
            do throws(ApusError) {
                return try await body()
            } catch {
                if ConcurrentTask.isCancelled { return failed(error) }
                context.logger.error("task \(id): \(error.message); it will be tried again")
                do { try await context.clock.sleep(delay) } catch let cancellation { return failed(ApusError(cancellation)) }
                delay = min(delay * 2, .seconds(8))
            }
        }
    }
}

extension ContainerEngine {
    /// The container of a task; the newest when there should be several.
    func container(ofTask task: ID) -> ContainerDetails? {
        state.withLock { state in
            state.records.values.filter { $0.notes.taskID == task && !$0.isBeingRemoved }.max {
                $0.configuration.createdAt < $1.configuration.createdAt
            }?.details
        }
    }

    /// Ids of the containers of tasks.
    func taskContainers() -> [(container: ID, task: ID)] {
        state.withLock { state in state.records.values.compactMap { $0.notes.taskID.isEmpty ? nil : ($0.id, $0.notes.taskID) } }
    }

    /// Stops and removes every container of a task; for a node that leaves its swarm.
    public func removeTaskContainers() async {
        setEndpoints(EndpointTable(), for: "")
        await withDiscardingTaskGroup { group in
            for (container, _) in taskContainers() {
                group.addTask {
                    do throws(ApusError) {
                        _ = try await self.stop(container.text)
                        try await self.remove(container.text, force: true, volumes: true)
                    } catch  where error.code == .notFound || error.code == .conflict {
                        // It is gone, or somebody removes it.
                    } catch {
                        self.logger.error("container \(container) of a task stays: \(error.message)")
                    }
                }
            }
        }
    }
}
