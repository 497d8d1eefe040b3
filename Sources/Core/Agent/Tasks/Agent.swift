public import Dispatcher
import Glibc
public import Logging
import Namespaces
public import PluginAPI
import Synchronization

/// How an agent works.
public struct AgentConfiguration: Sendable {
    /// Containers that are made or started at the same time; pulls do not count.
    public var concurrency: Int
    /// How long a task that is to end waits at most until no other node sends connections to it any more, when the managers do not say so.
    public var withdrawalPatience: Duration = .seconds(3)
    /// How long a task without a health check is given to listen on the TCP ports that it publishes before it counts as running.
    public var listeningPatience: Duration = .seconds(5)
    /// How long a pull's result stands for other tasks of the same image.
    public var pullMemory: Duration = .seconds(10)
    /// How long a task waits for a registry when the image is here already.
    public var pullPatience: Duration = .seconds(5)

    public init() {
        concurrency = max(4, 2 * Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    }
}

/// Runs the tasks that the managers give to this node, and reports how they are.
///
/// Containers survive the agent: when it runs again it takes those of its tasks back, and removes those of tasks that are no more.
public final class Agent: Sendable {
    private let nodeID: ID
    private let source: any AssignmentSource
    private let containers: ContainerEngine
    private let endpoints: EndpointSource?
    private let configuration: AgentConfiguration
    private let logger: Logger
    private let workers = Mutex<[ID: TaskWorker]>([:])

    /// Without `endpoints` the published ports are those of the tasks alone, and there are no networks of the swarm.
    public init(
        nodeID: ID, source: any AssignmentSource, containers: ContainerEngine, endpoints: EndpointSource? = nil,
        configuration: AgentConfiguration = AgentConfiguration(), logger: Logger
    ) {
        self.nodeID = nodeID
        self.source = source
        self.containers = containers
        self.endpoints = endpoints
        self.configuration = configuration
        self.logger = logger
    }

    /// Works until it is cancelled. The containers stay.
    public func run() async {
        let clock = containers.configuration.clock
        let background = BackgroundTasks()
        let reporter = StatusReporter(source: source, clock: clock, logger: logger)
        let machine = await machineFacts()
        let withdrawals = Withdrawals()
        let context = TaskContext(
            node: nodeID, hostname: machine.hostname, platform: machine.platform, containers: containers,
            images: ImagePuller(
                runtime: containers.runtime, clock: clock, tasks: background,
                configuration: .init(memory: configuration.pullMemory, patience: configuration.pullPatience), logger: logger),
            reporter: reporter, withdrawals: withdrawals, files: { [source] in source.files() }, permits: Semaphore(configuration.concurrency),
            withdrawalPatience: endpoints == nil ? .zero : configuration.withdrawalPatience,
            listeningPatience: configuration.listeningPatience, clock: clock, logger: logger)
        await withDiscardingTaskGroup { group in
            group.addTask { await reporter.run() }
            if let endpoints {
                group.addTask { await self.follow(endpoints) }
                group.addTask { for await tasks in endpoints.withdrawn() { withdrawals.note(tasks) } }
            }
            group.addTask { await self.follow(context, background) }
        }
        await background.shutDown()
    }

    private func machineFacts() async -> NodeDescription {
        (try? await DedicatedThread.run { () throws(ApusError) -> NodeDescription in NodeDescriptionGatherer.gather(engineVersion: "", plugins: []) })
            ?? NodeDescription()
    }

    private func follow(_ endpoints: EndpointSource) async {
        for await update in endpoints.tables() {
            if await containers.applyEndpoints(update.table, for: nodeID) { endpoints.confirm(update) }
        }
    }

    private func follow(_ context: TaskContext, _ background: BackgroundTasks) async {
        await withDiscardingTaskGroup { group in
            for await all in source.assignments(for: nodeID) {
                let tasks = all.filter { !$0.isAttachment }
                releaseAttachments(all.filter(\.isAttachment), background)
                if endpoints == nil { containers.setServicePorts(Self.ports(of: tasks)) }
                let wanted = Dictionary(tasks.map { ($0.id, $0) }) { first, _ in first }
                let (known, new) = workers.withLock { workers -> ([ID: TaskWorker], [TaskWorker]) in
                    let known = workers
                    let new = tasks.filter { workers[$0.id] == nil }.map { TaskWorker($0, context: context) }
                    for worker in new { workers[worker.id] = worker }
                    return (known, new)
                }
                for worker in known.values {
                    if let task = wanted[worker.id] { worker.assign(task) } else { worker.leave() }
                }
                for worker in new {
                    group.addTask {
                        await worker.run()
                        self.workers.withLock { workers in
                            if workers[worker.id] === worker { workers[worker.id] = nil }
                        }
                    }
                }
                removeLeftovers(workers.withLock { Set($0.keys) }, background)
            }
            group.cancelAll()
        }
    }

    /// Gives back the places in networks of the swarm whose containers are no more.
    private func releaseAttachments(_ attachments: [Task], _ background: BackgroundTasks) {
        for attachment in attachments where attachment.desiredState <= .running && !containers.holds(attachment: attachment.id) {
            let key = "attachment/\(attachment.id)"
            guard !background.contains(key) else { continue }
            background.add(key) {
                // The container of a new place is being made.
                do { try await self.containers.configuration.clock.sleep(.seconds(60)) } catch { return }
                guard !self.containers.holds(attachment: attachment.id) else { return }
                await self.containers.giveBack(attachment: attachment.id)
            }
        }
    }

    /// Containers of tasks that the managers do not have, from an engine that was away for long.
    private func removeLeftovers(_ known: Set<ID>, _ background: BackgroundTasks) {
        for (container, task) in containers.taskContainers() where !known.contains(task) {
            let key = "leftover/\(container)"
            guard !background.contains(key), (try? containers.inspect(container.text))?.isBeingRemoved == false else { continue }
            logger.info("container \(container) belongs to the task \(task), which is no more, and is removed")
            background.add(key) {
                do throws(ApusError) {
                    await self.containers.setServing(container, false)
                    _ = try await self.containers.stop(container.text)
                    try await self.containers.remove(container.text, force: true, volumes: true)
                } catch  where error.code == .notFound || error.code == .conflict {
                    // It is gone, or somebody removes it.
                } catch {
                    self.logger.error("container \(container) of a task that is no more stays: \(error.message)")
                }
            }
        }
    }

    private static func ports(of tasks: [Task]) -> [ID: [PortConfig]] {
        var ports: [ID: [PortConfig]] = [:]
        for task in tasks {
            for port in task.ports where port.publishMode == .ingress && !(ports[task.serviceID] ?? []).contains(port) {
                ports[task.serviceID, default: []].append(port)
            }
        }
        return ports
    }
}

/// Where an agent learns what its node must know of networks and published ports.
public struct EndpointSource: Sendable {
    /// The newest table at once and after every change.
    public var tables: @Sendable () -> AsyncStream<EndpointUpdate>
    /// Tasks of this node that no other node sends connections to any more.
    public var withdrawn: @Sendable () -> AsyncStream<Set<ID>>
    /// The table is in force here.
    public var confirm: @Sendable (EndpointUpdate) -> Void

    public init(
        tables: @escaping @Sendable () -> AsyncStream<EndpointUpdate>, withdrawn: @escaping @Sendable () -> AsyncStream<Set<ID>>,
        confirm: @escaping @Sendable (EndpointUpdate) -> Void
    ) {
        self.tables = tables
        self.withdrawn = withdrawn
        self.confirm = confirm
    }
}

extension Task {
    /// Stands for the place of a container that is no task in a network of the swarm.
    var isAttachment: Bool { spec.runtime == "attachment" }
}
