import ArgumentParser
import PluginAPI

/// The flags that `service create` and `service update` have in common.
struct ServiceOptions: ParsableArguments {
    @OptionGroup var process: ServiceProcessOptions
    @OptionGroup(title: "Resources") var resources: ServiceResourceOptions
    @OptionGroup(title: "Health checks") var health: HealthOptions
    @OptionGroup(title: "Restarts") var restart: ServiceRestartOptions
    @OptionGroup(title: "Updates") var update: ServiceUpdateOptions
    @OptionGroup(title: "Rollbacks") var rollback: ServiceRollbackOptions

    @Option(parsing: .unconditional, help: "Number of tasks.", transform: ServiceOptions.count) var replicas: UInt64?
    @Option(parsing: .unconditional, help: "Tasks of a job that run at once.", transform: ServiceOptions.count) var maxConcurrent: UInt64?
    @Option(parsing: .unconditional, help: "Most tasks on one node; 0 is without limit.", transform: ServiceOptions.count)
    var replicasMaxPerNode: UInt64?
    @Option(help: "How names of the service resolve: vip (one address) or dnsrr (those of the tasks).", transform: WordFlag.parse) var endpointMode:
        EndpointMode?
    @Option(help: "Runtime plugin that runs the tasks; container is the usual one of each node.", transform: ServiceOptions.runtimeName)
    var runtime: String?
    @Option(help: "Where output goes, such as json-file or none.") var logDriver: String?
    @Option(help: ArgumentHelp("Option of the log driver.", valueName: "key=value")) var logOpt: [String] = []

    /// A number that is not negative.
    static func count(_ text: String) throws(ApusError) -> UInt64 {
        guard let number = UInt64(text), number <= UInt64(Int64.max) else {
            throw ApusError(.invalidArgument, "it is a whole number that is not negative")
        }
        return number
    }

    /// As plugins are named. Whether a node has it is the scheduler's business.
    static func runtimeName(_ text: String) throws(ApusError) -> String {
        guard !text.isEmpty else { throw ApusError(.invalidArgument, "it is the name of a runtime plugin, or container") }
        return text
    }

    /// Sets what the caller gave, and leaves the rest alone.
    func apply(to spec: inout ServiceSpec) throws(ApusError) {
        if let runtime { spec.task.runtime = runtime }
        var container = spec.task.container ?? ContainerSpec()
        try process.apply(to: &container)
        if let check = try health.apply(to: container.healthcheck) { container.healthcheck = check }
        spec.task.container = container
        resources.apply(to: &spec.task)
        restart.apply(to: &spec.task)
        spec.update = update.apply(to: spec.update)
        spec.rollback = rollback.apply(to: spec.rollback)
        if let endpointMode {
            var endpoint = spec.endpoint ?? EndpointSpec()
            endpoint.mode = endpointMode
            spec.endpoint = endpoint
        }
        if let replicasMaxPerNode {
            var placement = spec.task.placement ?? Placement()
            placement.maxReplicas = replicasMaxPerNode
            spec.task.placement = placement
        }
        if logDriver != nil || !logOpt.isEmpty {
            var driver = logDriver == nil ? spec.task.logDriver ?? LogDriver() : LogDriver()
            if let logDriver { driver.name = logDriver }
            driver.options.merge(try KeyValue.map(logOpt, flag: "--log-opt")) { _, new in new }
            spec.task.logDriver = driver
        }
    }
}

/// How the process of a task runs.
struct ServiceProcessOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Replaces the image's entrypoint; words are split as a shell does.") var entrypoint: String?
    @Option(help: "Host name of the containers.") var hostname: String?
    @Option(name: [.customShort("u"), .long], help: ArgumentHelp("User in the container.", valueName: "name|uid[:group|gid]")) var user: String?
    @Option(name: [.customShort("w"), .long], help: "Working directory in the container.") var workdir: String?
    @Flag(name: [.customShort("t"), .long], inversion: .prefixedNo, help: "Give the process a terminal.") var tty: Bool?
    @Flag(name: .customLong("init"), inversion: .prefixedNo, help: "Run a small init as process 1.") var useInit: Bool?
    @Flag(inversion: .prefixedNo, help: "Make the container's root file system read-only.") var readOnly: Bool?
    @Option(help: "Signal that stops a container, such as SIGQUIT.") var stopSignal: String?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("How long a container may take to stop (default: 10s).", valueName: "duration"),
        transform: DurationText.parse)
    var stopGracePeriod: Duration?
    @Option(parsing: .unconditional, help: "How readily the kernel kills the process when memory ends (-1000 to 1000).", transform: WordFlag.oomScore)
    var oomScoreAdj: Int64?
    @Option(help: .hidden) var isolation: String?

    func apply(to container: inout ContainerSpec) throws(ApusError) {
        if let entrypoint { container.command = try ShellWords.split(entrypoint) }
        if let hostname { container.hostname = hostname }
        if let user { container.user = user }
        if let workdir { container.workingDirectory = workdir }
        if let tty { container.terminal = tty }
        if let useInit { container.initProcess = useInit }
        if let readOnly { container.readOnly = readOnly }
        if let stopSignal { container.stopSignal = stopSignal }
        if let stopGracePeriod { container.stopGracePeriod = stopGracePeriod }
        if let oomScoreAdj { container.oomScoreAdjustment = oomScoreAdj }
        if let isolation { container.isolation = isolation }
    }
}

/// Limits and reservations.
struct ServiceResourceOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: ArgumentHelp("Most CPU time, in CPUs.", valueName: "decimal"), transform: ByteSize.parseCPUs) var limitCpu: Int64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Most memory, such as 512m.", valueName: "bytes"), transform: ByteSize.parse) var limitMemory: Int64?
    @Option(parsing: .unconditional, help: "Most processes; 0 is without limit.", transform: ServiceOptions.count) var limitPids: UInt64?
    @Option(parsing: .unconditional, help: ArgumentHelp("CPUs to keep free for a task.", valueName: "decimal"), transform: ByteSize.parseCPUs) var reserveCpu:
        Int64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Memory to keep free for a task.", valueName: "bytes"), transform: ByteSize.parse) var reserveMemory:
        Int64?

    func apply(to task: inout TaskSpec) {
        guard limitCpu != nil || limitMemory != nil || limitPids != nil || reserveCpu != nil || reserveMemory != nil else { return }
        var requirements = task.resources ?? ResourceRequirements()
        if limitCpu != nil || limitMemory != nil || limitPids != nil {
            var limits = requirements.limits ?? Resources()
            if let limitCpu { limits.nanoCPUs = limitCpu }
            if let limitMemory { limits.memoryBytes = limitMemory }
            if let limitPids { limits.pids = Int64(limitPids) }
            requirements.limits = limits
        }
        if reserveCpu != nil || reserveMemory != nil {
            var reservations = requirements.reservations ?? Resources()
            if let reserveCpu { reservations.nanoCPUs = reserveCpu }
            if let reserveMemory { reservations.memoryBytes = reserveMemory }
            requirements.reservations = reservations
        }
        task.resources = requirements
    }
}

/// What happens after a task has ended.
struct ServiceRestartOptions: ParsableArguments {
    @Option(help: "When a task that ended is replaced: none, on-failure or any (default: any).", transform: WordFlag.parse) var restartCondition:
        RestartCondition?
    @Option(parsing: .unconditional, help: ArgumentHelp("Wait before a replacement (default: 5s).", valueName: "duration"), transform: DurationText.parse)
    var restartDelay: Duration?
    @Option(parsing: .unconditional, help: "Most replacements; 0 is without limit.", transform: ServiceOptions.count)
    var restartMaxAttempts: UInt64?
    @Option(parsing: .unconditional, help: ArgumentHelp("How long a replacement counts.", valueName: "duration"), transform: DurationText.parse)
    var restartWindow: Duration?

    func apply(to task: inout TaskSpec) {
        guard restartCondition != nil || restartDelay != nil || restartMaxAttempts != nil || restartWindow != nil else { return }
        var policy = task.restartPolicy ?? RestartPolicy()
        if let restartCondition { policy.condition = restartCondition }
        if let restartDelay { policy.delay = restartDelay }
        if let restartMaxAttempts { policy.maxAttempts = restartMaxAttempts }
        if let restartWindow { policy.window = restartWindow }
        task.restartPolicy = policy
    }
}

/// How a new spec replaces the old.
struct ServiceUpdateOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Tasks replaced at once; 0 is all (default: 1).", transform: ServiceOptions.count)
    var updateParallelism: UInt64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Wait between replacements (default: 0s).", valueName: "duration"), transform: DurationText.parse)
    var updateDelay: Duration?
    @Option(help: "What a failed update does: pause, continue or rollback (default: pause).", transform: WordFlag.parse) var updateFailureAction: FailureAction?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("How long a new task is watched for failure (default: 5s).", valueName: "duration"),
        transform: DurationText.parse)
    var updateMonitor: Duration?
    @Option(help: "Share of failures that is accepted (default: 0).", transform: WordFlag.ratio) var updateMaxFailureRatio: Double?
    @Option(help: "Which of the two tasks goes first: stop-first or start-first (default: stop-first).", transform: WordFlag.parse)
    var updateOrder: UpdateOrder?

    func apply(to config: UpdateConfig?) -> UpdateConfig? {
        config.changed(
            parallelism: updateParallelism, delay: updateDelay, failureAction: updateFailureAction, monitor: updateMonitor,
            maxFailureRatio: updateMaxFailureRatio, order: updateOrder)
    }
}

/// How the spec before replaces a new one.
struct ServiceRollbackOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Tasks rolled back at once; 0 is all (default: 1).", transform: ServiceOptions.count)
    var rollbackParallelism: UInt64?
    @Option(parsing: .unconditional, help: ArgumentHelp("Wait between tasks (default: 0s).", valueName: "duration"), transform: DurationText.parse)
    var rollbackDelay: Duration?
    @Option(help: "What a failed rollback does: pause or continue (default: pause).", transform: WordFlag.rollbackFailureAction)
    var rollbackFailureAction: FailureAction?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("How long a task is watched for failure (default: 5s).", valueName: "duration"),
        transform: DurationText.parse)
    var rollbackMonitor: Duration?
    @Option(help: "Share of failures that is accepted (default: 0).", transform: WordFlag.ratio) var rollbackMaxFailureRatio: Double?
    @Option(help: "Which of the two tasks goes first: stop-first or start-first (default: stop-first).", transform: WordFlag.parse)
    var rollbackOrder: UpdateOrder?

    func apply(to config: UpdateConfig?) -> UpdateConfig? {
        config.changed(
            parallelism: rollbackParallelism, delay: rollbackDelay, failureAction: rollbackFailureAction, monitor: rollbackMonitor,
            maxFailureRatio: rollbackMaxFailureRatio, order: rollbackOrder)
    }
}

extension UpdateConfig? {
    /// The same with what is given; a new one has the defaults, because a zero has a meaning of its own.
    fileprivate func changed(
        parallelism: UInt64?, delay: Duration?, failureAction: FailureAction?, monitor: Duration?, maxFailureRatio: Double?, order: UpdateOrder?
    ) -> UpdateConfig? {
        guard parallelism != nil || delay != nil || failureAction != nil || monitor != nil || maxFailureRatio != nil || order != nil else {
            return self
        }
        var config: UpdateConfig
        if let self {
            config = self
        } else {
            config = UpdateConfig()
            config.parallelism = 1
            config.failureAction = .pause
            config.monitor = .seconds(5)
            config.order = .stopFirst
        }
        if let parallelism { config.parallelism = parallelism }
        if let delay { config.delay = delay }
        if let failureAction { config.failureAction = failureAction }
        if let monitor { config.monitor = monitor }
        if let maxFailureRatio { config.maxFailureRatio = maxFailureRatio }
        if let order { config.order = order }
        return config
    }
}

/// How to find out whether a container is well.
struct HealthOptions: ParsableArguments {
    @Option(parsing: .unconditional, help: "Command that tells whether a container is healthy; a shell in the container runs it.") var healthCmd: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("Time between checks.", valueName: "duration"), transform: DurationText.parse) var healthInterval:
        Duration?
    @Option(parsing: .unconditional, help: ArgumentHelp("Longest time of a check.", valueName: "duration"), transform: DurationText.parse) var healthTimeout:
        Duration?
    @Option(parsing: .unconditional, help: "Failures in a row that make a container unhealthy.", transform: ServiceOptions.count)
    var healthRetries: UInt64?
    @Option(
        parsing: .unconditional, help: ArgumentHelp("Time after the start in which failures do not count.", valueName: "duration"),
        transform: DurationText.parse)
    var healthStartPeriod: Duration?
    @Option(parsing: .unconditional, help: ArgumentHelp("Time between checks in the start period.", valueName: "duration"), transform: DurationText.parse)
    var healthStartInterval: Duration?
    @Flag(help: "Turn the image's health check off.") var noHealthcheck = false

    /// `nil` when no flag was given.
    func apply(to check: Healthcheck?) throws(ApusError) -> Healthcheck? {
        let isSet =
            healthCmd != nil || healthInterval != nil || healthTimeout != nil || healthRetries != nil || healthStartPeriod != nil
            || healthStartInterval != nil
        if noHealthcheck {
            guard !isSet else { throw ApusError(.invalidArgument, "--no-healthcheck turns the check off: leave the other --health flags out") }
            var off = Healthcheck()
            off.test = ["NONE"]
            return off
        }
        guard isSet else { return nil }
        var check = check ?? Healthcheck()
        if check.test == ["NONE"] { check.test = [] }
        if let healthCmd { check.test = healthCmd.isEmpty ? [] : ["CMD-SHELL", healthCmd] }
        if let healthInterval { check.interval = healthInterval }
        if let healthTimeout { check.timeout = healthTimeout }
        if let healthRetries { check.retries = Int64(healthRetries) }
        if let healthStartPeriod { check.startPeriod = healthStartPeriod }
        if let healthStartInterval { check.startInterval = healthStartInterval }
        return check
    }
}
