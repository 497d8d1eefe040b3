import ArgumentParser
import PluginAPI

/// All flags of `service create`, as a spec.
struct ServiceCreateOptions: ParsableArguments {
    @Option(help: "Name of the service; one is made up without it.") var name: String?
    @Option(help: "replicated, global, replicated-job or global-job.") var mode = "replicated"
    @Option(
        name: [.customShort("p"), .long],
        help: ArgumentHelp(
            "Publish a port: 8080:80/tcp, or published=8080,target=80,protocol=tcp,mode=ingress|host.", valueName: "port"))
    var publish: [String] = []
    @Option(name: [.customShort("e"), .long], help: ArgumentHelp("Environment variable.", valueName: "NAME=value")) var env: [String] = []
    @Option(help: "File with environment variables, one a line.") var envFile: [String] = []
    @Option(name: [.customShort("l"), .long], help: ArgumentHelp("Label of the service.", valueName: "key=value")) var label: [String] = []
    @Option(help: ArgumentHelp("Label of the containers.", valueName: "key=value")) var containerLabel: [String] = []
    @Option(
        help: ArgumentHelp(
            "Mount something: type=bind|volume|tmpfs,source=…,target=…[,readonly] with bind-propagation, bind-recursive, volume-nocopy, "
                + "volume-label, volume-driver, volume-opt, volume-subpath, tmpfs-size, tmpfs-mode.", valueName: "mount"))
    var mount: [String] = []
    @Option(help: ArgumentHelp("Secret to have in /run/secrets: a name, or source=…,target=…,uid=…,gid=…,mode=….", valueName: "secret"))
    var secret: [String] = []
    @Option(help: ArgumentHelp("Config to have as a file: a name, or source=…,target=…,uid=…,gid=…,mode=….", valueName: "config"))
    var config: [String] = []
    @Option(help: ArgumentHelp("Where tasks may go, such as node.role==worker.", valueName: "expression")) var constraint: [String] = []
    @Option(help: ArgumentHelp("How tasks are spread: spread=node.labels.rack.", valueName: "preference")) var placementPref: [String] = []
    @Option(help: ArgumentHelp("Network to join: a name, or name=…,alias=….", valueName: "network")) var network: [String] = []
    @Option(help: ArgumentHelp("Line of /etc/hosts.", valueName: "name:address")) var host: [String] = []
    @Option(help: ArgumentHelp("DNS server.", valueName: "address")) var dns: [String] = []
    @Option(help: ArgumentHelp("DNS search domain.", valueName: "domain")) var dnsSearch: [String] = []
    @Option(help: ArgumentHelp("DNS option.", valueName: "option")) var dnsOption: [String] = []
    @Option(help: ArgumentHelp("Supplementary group of the user.", valueName: "name|gid")) var group: [String] = []
    @Option(help: ArgumentHelp("Give a capability.", valueName: "capability")) var capAdd: [String] = []
    @Option(help: ArgumentHelp("Take a capability away.", valueName: "capability")) var capDrop: [String] = []
    @Option(help: ArgumentHelp("Kernel parameter of the container.", valueName: "key=value")) var sysctl: [String] = []
    @Option(help: ArgumentHelp("Limit of setrlimit.", valueName: "name=soft[:hard]")) var ulimit: [String] = []
    @Option(help: ArgumentHelp("Resource to reserve, such as gpu=1.", valueName: "kind=amount")) var genericResource: [String] = []
    @OptionGroup var shared: ServiceOptions

    /// - Parameters:
    ///   - environment: of the caller, for `--env NAME`.
    ///   - files: the text of every `--env-file`, in order.
    func spec(image: String, arguments: [String], environment: [String: String], files: [String] = []) throws(ApusError) -> ServiceSpec {
        guard !image.isEmpty, !image.hasPrefix("-") else {
            throw ApusError(.invalidArgument, image.isEmpty ? "the image is empty" : "unknown flag: \(image); see `apus service create --help`")
        }
        var spec = ServiceSpec()
        spec.name = name ?? ""
        spec.labels = try KeyValue.map(label, flag: "--label")
        spec.mode = try serviceMode()
        var container = ContainerSpec()
        container.image = image
        container.arguments = arguments
        container.environment = try KeyValue.environment(files.flatMap { KeyValue.lines(ofFile: $0) } + env, from: environment)
        container.labels = try KeyValue.map(containerLabel, flag: "--container-label")
        container.mounts = try Self.each(mount, "--mount", MountFlag.parse)
        container.secrets = try Self.each(secret, "--secret", FileFlag.secret)
        container.configs = try Self.each(config, "--config", FileFlag.config)
        container.hosts = try Self.each(host, "--host", HostFlag.parseLine)
        container.groups = group
        container.capabilityAdd = capAdd.map { Capabilities.normalized($0) }
        container.capabilityDrop = capDrop.map { Capabilities.normalized($0) }
        container.sysctls = try KeyValue.map(sysctl, flag: "--sysctl")
        container.ulimits = try Self.each(ulimit, "--ulimit", UlimitFlag.parse)
        if !dns.isEmpty || !dnsSearch.isEmpty || !dnsOption.isEmpty {
            var resolver = DNSConfiguration()
            resolver.nameservers = dns
            resolver.search = dnsSearch
            resolver.options = dnsOption
            container.dns = resolver
        }
        spec.task.container = container
        spec.task.networks = try Self.each(network, "--network", NetworkFlag.parse)
        if !constraint.isEmpty || !placementPref.isEmpty {
            var placement = Placement()
            placement.constraints = constraint
            placement.preferences = try Self.each(placementPref, "--placement-pref", PreferenceFlag.parse)
            spec.task.placement = placement
        }
        let ports = try Self.each(publish, "--publish", PortFlag.parseService).flatMap { $0 }
        if !ports.isEmpty {
            var endpoint = EndpointSpec()
            endpoint.ports = ports
            spec.endpoint = endpoint
        }
        try shared.apply(to: &spec)
        if !genericResource.isEmpty {
            var requirements = spec.task.resources ?? ResourceRequirements()
            var reservations = requirements.reservations ?? Resources()
            reservations.genericResources = try Self.each(genericResource, "--generic-resource", GenericResourceFlag.parse)
            requirements.reservations = reservations
            spec.task.resources = requirements
        }
        return spec
    }

    private func serviceMode() throws(ApusError) -> ServiceMode {
        var result = ServiceMode()
        if mode != "replicated-job", shared.maxConcurrent != nil {
            throw ApusError(.invalidArgument, "--max-concurrent is for --mode replicated-job alone")
        }
        if mode.hasPrefix("global"), shared.replicas != nil {
            throw ApusError(.invalidArgument, "--replicas does not go with --mode \(mode): it has one task on every node")
        }
        switch mode {
        case "replicated":
            var replicated = ReplicatedService()
            replicated.replicas = shared.replicas ?? 1
            result.replicated = replicated
        case "global": result.global = GlobalService()
        case "replicated-job":
            var job = ReplicatedJob()
            job.totalCompletions = shared.replicas ?? 1
            job.maxConcurrent = shared.maxConcurrent ?? shared.replicas ?? 1
            result.replicatedJob = job
        case "global-job": result.globalJob = GlobalJob()
        default: throw ApusError(.invalidArgument, "--mode \(mode): the modes are replicated, global, replicated-job and global-job")
        }
        return result
    }

    /// Parses every value of a flag; an error names the flag and the value.
    static func each<Value>(_ texts: [String], _ flag: String, _ parse: (String) throws(ApusError) -> Value) throws(ApusError) -> [Value] {
        var values: [Value] = []
        for text in texts {
            do throws(ApusError) {
                values.append(try parse(text))
            } catch {
                throw error.during("\(flag) \(text)")
            }
        }
        return values
    }
}

/// Names of capabilities.
enum Capabilities {
    /// `net_admin` as `CAP_NET_ADMIN`; `ALL` stays.
    static func normalized(_ name: String) -> String {
        let upper = name.uppercased()
        return upper == "ALL" || upper.hasPrefix("CAP_") ? upper : "CAP_" + upper
    }
}
