public import PluginAPI

/// A container that somebody wants (Engine API `POST /containers/create`, or a task).
public struct ContainerRequest: Sendable {
    /// Without a slash; one is made up when it is absent.
    public var name: String?
    /// What the caller has set, with `imageReference`. The image's configuration is merged into it at creation; `id`, `imageID`, `arguments`,
    /// `endpoints`
    /// and `networkNamespacePath` are filled in by the engine.
    public var configuration = ContainerConfiguration()
    /// Replaces the image's entrypoint, and drops the image's command. Empty, or one empty word: no entrypoint.
    public var entrypoint: [String]?
    /// Replaces the image's command.
    public var command: [String]?
    /// None: the network `bridge`, or with `isPublishedBySwarm` the gateway network.
    public var networks: [ContainerNetwork] = []
    /// Whether connections reach it through the swarm's ingress network.
    public var isPublishedBySwarm = false
    /// Host port 0: one that is free is chosen.
    public var publishedPorts: [ContainerPort] = []
    /// Publishes every port that the image exposes, as `-P` does.
    public var publishesAllPorts = false
    /// `80/tcp` each, besides those of the image.
    public var exposedPorts: [String] = []
    public var restartPolicy = ContainerRestartPolicy()
    /// Lines for `/etc/hosts`: an address and names, or `name:address` as `--add-host` has it. `host-gateway` stands for the host's address in
    /// the network.
    public var extraHosts: [String] = []
    public var dns: DNSConfiguration?
    /// Secrets and configs. Their content is kept nowhere but in memory.
    public var files: [ContainerFile] = []
    /// Makes the network namespace and attaches it at creation, so that the start is quicker.
    public var preparesNetwork = false
    /// The task that it belongs to; empty for a container of its own.
    public var taskID: ID = ""
    public var serviceID: ID = ""
    /// The platform that the image must be for; `nil`: whichever it is for.
    public var platform: RequestedPlatform?
    /// The runtime plugin that it is to run on; empty: the usual one.
    public var runtime = ""

    public init() {}

    public init(image: String, name: String? = nil) {
        configuration.imageReference = image
        self.name = name
    }
}

/// A network that a container joins.
public struct ContainerNetwork: Sendable, Hashable {
    /// Id or name: `bridge`, `host`, `none`, or one that was made.
    public var target: String
    public var aliases: [String]
    /// The address that is asked for, without a length; empty: one is chosen.
    public var address: String
    /// Its place in a network of the swarm, for a task; the managers gave it.
    public var place: NetworkAttachment?

    public init(target: String, aliases: [String] = [], address: String = "") {
        self.target = target
        self.aliases = aliases
        self.address = address
    }
}

/// When the engine starts a container again that has ended (Engine API `RestartPolicy`).
public struct ContainerRestartPolicy: Sendable, Hashable {
    /// The Engine API's words.
    public enum Name: String, Sendable, Hashable, CaseIterable {
        case no, always
        case unlessStopped = "unless-stopped"
        case onFailure = "on-failure"
    }

    public var name: Name
    /// Of `on-failure`; 0: without end.
    public var maximumRetryCount: Int

    public init(name: Name = .no, maximumRetryCount: Int = 0) {
        self.name = name
        self.maximumRetryCount = maximumRetryCount
    }
}

/// A container as `inspect` and `ps` show it.
public struct ContainerDetails: Sendable {
    public var configuration: ContainerConfiguration
    public var state: ContainerState
    /// `nil` without a health check.
    public var health: ContainerHealth?
    public var restartPolicy: ContainerRestartPolicy
    /// Starts by the restart policy since the last start by hand.
    public var restartCount: Int
    /// It has ended, and the restart policy will start it again.
    public var isRestarting: Bool
    public var isBeingRemoved: Bool
    public var publishedPorts: [ContainerPort]
    /// Exposed, published or not: `80/tcp`.
    public var exposedPorts: [String]
    /// As asked for, image included.
    public var entrypoint: [String]
    public var command: [String]
    /// `bridge`, `host`, `none` or the name of the first network.
    public var networkMode: String
    /// Empty for a container of its own.
    public var taskID: ID
    public var serviceID: ID

    public var id: ID { configuration.id }
    public var name: String { configuration.name }
}

/// What health checks found (Engine API `Health`).
public struct ContainerHealth: Sendable, Hashable {
    public var status: HealthState
    public var failingStreak: Int
    /// The last five, oldest first.
    public var log: [HealthResult]

    public init(status: HealthState = .starting, failingStreak: Int = 0, log: [HealthResult] = []) {
        self.status = status
        self.failingStreak = failingStreak
        self.log = log
    }
}

/// One health check.
public struct HealthResult: Sendable, Hashable {
    public var startedAt: Timestamp
    public var finishedAt: Timestamp
    /// 0 is well; -1: it did not end in time or could not be run.
    public var exitCode: Int32
    public var output: String

    public init(startedAt: Timestamp, finishedAt: Timestamp, exitCode: Int32, output: String) {
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.exitCode = exitCode
        self.output = output
    }
}

/// What `wait` waits for (Engine API, `condition`).
public enum ContainerWaitCondition: String, Sendable, Hashable, CaseIterable {
    case notRunning = "not-running"
    case nextExit = "next-exit"
    case removed
}

/// What a container's watcher learns: a summary of every change.
public struct ContainerObservation: Sendable, Hashable {
    public var state: ContainerState
    /// `.none` without a health check.
    public var health: HealthState
    public var isRemoved: Bool

    public init(state: ContainerState, health: HealthState, isRemoved: Bool = false) {
        self.state = state
        self.health = health
        self.isRemoved = isRemoved
    }
}
