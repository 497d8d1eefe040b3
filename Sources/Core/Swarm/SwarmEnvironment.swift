public import Agent
public import Dispatcher
public import Events
public import Logging
public import PluginAPI
public import Store
public import Wire

/// What a node needs of its engine to take part in a swarm.
public struct SwarmEnvironment: Sendable {
    /// `<data root>/swarm`.
    public var directory: String
    public var containers: ContainerEngine
    public var events: EventHub
    /// What this machine is.
    public var describe: @Sendable () -> NodeDescription
    /// The enabled scheduler.
    public var scheduler: @Sendable () -> any Scheduler
    /// The certificate authority with this plugin name, as the cluster object has it.
    public var authority: @Sendable (_ name: String) async throws(ApusError) -> any CertificateAuthority
    /// The names of the plugins that are active for the swarm.
    public var activePlugins: @Sendable () -> ActivePlugins
    /// What this engine has of a plugin, by `role/name`.
    public var reportPlugin: @Sendable (_ name: String) async -> PluginReport
    /// Answers a call of the Engine API that a follower has forwarded to this leader.
    public var answer: @Sendable (ForwardRequest) async -> ForwardResponse
    /// Follows a manager's store until it is cancelled: what the engine shows of its changes.
    public var follow: @Sendable (ObjectStore) async -> Void
    /// What managers read of the logs of this node's tasks.
    public var taskLogs: RemoteDispatcher.LogSource?
    /// Called when the engine must end: the log's disk failed.
    public var onFailure: @Sendable (ApusError) -> Void
    public var logger: Logger

    public init(
        directory: String, containers: ContainerEngine, events: EventHub, describe: @escaping @Sendable () -> NodeDescription,
        scheduler: @escaping @Sendable () -> any Scheduler,
        authority: @escaping @Sendable (_ name: String) async throws(ApusError) -> any CertificateAuthority,
        activePlugins: @escaping @Sendable () -> ActivePlugins, reportPlugin: @escaping @Sendable (_ name: String) async -> PluginReport,
        answer: @escaping @Sendable (ForwardRequest) async -> ForwardResponse,
        follow: @escaping @Sendable (ObjectStore) async -> Void, taskLogs: RemoteDispatcher.LogSource? = nil,
        onFailure: @escaping @Sendable (ApusError) -> Void, logger: Logger
    ) {
        self.directory = directory
        self.containers = containers
        self.events = events
        self.describe = describe
        self.scheduler = scheduler
        self.authority = authority
        self.activePlugins = activePlugins
        self.reportPlugin = reportPlugin
        self.answer = answer
        self.follow = follow
        self.taskLogs = taskLogs
        self.onFailure = onFailure
        self.logger = logger
    }
}
