import PluginAPI

/// Makes a container's request from a task. Pure.
enum TaskContainer {
    enum Label {
        static let node = "com.docker.swarm.node.id"
        static let service = "com.docker.swarm.service.id"
        static let serviceName = "com.docker.swarm.service.name"
        static let task = "com.docker.swarm.task"
        static let taskID = "com.docker.swarm.task.id"
        static let taskName = "com.docker.swarm.task.name"
    }

    /// `unimplemented` for what Apus cannot do yet, `invalidArgument` for what makes no sense; both reject the task.
    static func request(
        for task: Task, node: ID, hostname: String, platform: Platform, isLocalNetwork: (String) -> Bool
    ) throws(ApusError) -> ContainerRequest {
        guard let spec = task.spec.container else { throw ApusError(.unimplemented, "the task has no container; other runtimes are not supported") }
        try check(task, spec, isLocalNetwork: isLocalNetwork)
        let template = TaskTemplate(task: task, node: node, hostname: hostname, platform: platform)

        var request = ContainerRequest(image: spec.image, name: task.name)
        request.taskID = task.id
        request.serviceID = task.serviceID
        request.runtime = task.spec.runtime == "container" ? "" : task.spec.runtime
        request.preparesNetwork = true
        request.entrypoint = spec.command.isEmpty ? nil : spec.command
        request.command = spec.arguments.isEmpty ? nil : spec.arguments
        request.extraHosts = spec.hosts
        request.dns = spec.dns
        request.networks = networks(of: task)
        request.isPublishedBySwarm = task.networks.contains(where: \.network.spec.ingress)
        request.publishedPorts = task.ports.filter { $0.publishMode == .host }.map { port in
            var published = ContainerPort()
            published.transport = port.transport
            published.containerPort = port.targetPort
            published.hostPort = port.publishedPort
            return published
        }

        var configuration = request.configuration
        configuration.labels = spec.labels
        configuration.labels[Label.node] = node.text
        configuration.labels[Label.service] = task.serviceID.text
        configuration.labels[Label.serviceName] = task.serviceName
        configuration.labels[Label.task] = ""
        configuration.labels[Label.taskID] = task.id.text
        configuration.labels[Label.taskName] = task.name
        configuration.environment = try spec.environment.map { (entry) throws(ApusError) in try template.expand(entry) }
        configuration.hostname = try template.expand(spec.hostname)
        configuration.mounts = try spec.mounts.map { (mount) throws(ApusError) in try expanded(mount, template) }
        configuration.workingDirectory = spec.workingDirectory
        configuration.user = spec.user
        configuration.groups = spec.groups
        configuration.terminal = spec.terminal
        configuration.openStandardInput = spec.openStandardInput
        configuration.readOnlyRoot = spec.readOnly
        configuration.stopSignal = spec.stopSignal
        configuration.stopGracePeriod = spec.stopGracePeriod
        configuration.healthcheck = spec.healthcheck
        configuration.initProcess = spec.initProcess ?? false
        configuration.sysctls = spec.sysctls
        configuration.capabilityAdd = spec.capabilityAdd
        configuration.capabilityDrop = spec.capabilityDrop
        configuration.ulimits = spec.ulimits
        configuration.oomScoreAdjustment = spec.oomScoreAdjustment
        configuration.log = task.spec.logDriver ?? LogDriver()
        if let limits = task.spec.resources?.limits {
            configuration.resources.nanoCPUs = limits.nanoCPUs
            configuration.resources.memoryBytes = limits.memoryBytes
            configuration.resources.processes = limits.pids
        }
        if let reservations = task.spec.resources?.reservations { configuration.resources.memoryReservationBytes = reservations.memoryBytes }
        if let privileges = spec.privileges {
            configuration.noNewPrivileges = privileges.noNewPrivileges
            if let seccomp = privileges.seccomp {
                switch seccomp.mode {
                case "", "default": break
                case "unconfined": configuration.seccompProfile = "unconfined"
                case "custom": configuration.seccompProfile = String(decoding: seccomp.profile, as: UTF8.self)
                default: throw ApusError(.invalidArgument, "unknown seccomp mode \"\(seccomp.mode)\": there are default, unconfined and custom")
                }
            }
        }
        request.configuration = configuration
        return request
    }

    /// Places in networks of the swarm, and what the spec names of the node's own.
    private static func networks(of task: Task) -> [ContainerNetwork] {
        task.spec.networks.map { wanted in
            var network = ContainerNetwork(target: wanted.target, aliases: wanted.aliases)
            network.place = place(of: wanted, in: task)
            return network
        }
    }

    private static func place(of wanted: NetworkAttachmentSpec, in task: Task) -> NetworkAttachment? {
        task.networks.first { !$0.network.spec.ingress && ($0.network.id.text == wanted.target || $0.network.spec.name == wanted.target) }
    }

    private static func check(_ task: Task, _ spec: ContainerSpec, isLocalNetwork: (String) -> Bool) throws(ApusError) {
        guard !spec.image.isEmpty else { throw ApusError(.invalidArgument, "the service names no image") }
        for network in task.spec.networks where !isLocalNetwork(network.target) && place(of: network, in: task) == nil {
            throw ApusError(.notFound, "network \(network.target) not found: neither this node nor the task has it")
        }
        guard spec.isolation.isEmpty || spec.isolation == "default" else {
            throw ApusError(.unimplemented, "isolation \"\(spec.isolation)\" is not supported on Linux")
        }
        if let privileges = spec.privileges {
            if let credential = privileges.credentialSpec, credential != CredentialSpec() {
                throw ApusError(.unimplemented, "credential specs are not supported on Linux")
            }
            if let selinux = privileges.selinux, selinux != SELinuxContext(), !selinux.disable {
                throw ApusError(.unimplemented, "SELinux labels are not supported yet")
            }
        }
        if let generic = task.spec.resources?.reservations?.genericResources, !generic.isEmpty {
            throw ApusError(.unimplemented, "generic resources are not supported yet")
        }
    }

    private static func expanded(_ mount: Mount, _ template: TaskTemplate) throws(ApusError) -> Mount {
        var mount = mount
        mount.source = try template.expand(mount.source)
        mount.target = try template.expand(mount.target)
        if var options = mount.volumeOptions {
            for (key, value) in options.labels { options.labels[key] = try template.expand(value) }
            mount.volumeOptions = options
        }
        return mount
    }
}
