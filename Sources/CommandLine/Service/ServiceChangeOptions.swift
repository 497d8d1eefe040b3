import ArgumentParser
import PluginAPI

/// All flags of `service update` that change the spec.
struct ServiceChangeOptions: ParsableArguments {
    @Option(help: "Another image.") var image: String?
    @Option(parsing: .unconditional, help: "Arguments of the command; words are split as a shell does.") var args: String?
    @Flag(help: "Replace the tasks also when nothing changed.") var force = false
    @Option(help: ArgumentHelp("Publish a port.", valueName: "port")) var publishAdd: [String] = []
    @Option(help: ArgumentHelp("Publish a port no more.", valueName: "target-port")) var publishRm: [String] = []
    @Option(help: ArgumentHelp("Environment variable to set.", valueName: "NAME=value")) var envAdd: [String] = []
    @Option(help: ArgumentHelp("Environment variable to remove.", valueName: "NAME")) var envRm: [String] = []
    @Option(help: ArgumentHelp("Label of the service to set.", valueName: "key=value")) var labelAdd: [String] = []
    @Option(help: ArgumentHelp("Label of the service to remove.", valueName: "key")) var labelRm: [String] = []
    @Option(help: ArgumentHelp("Label of the containers to set.", valueName: "key=value")) var containerLabelAdd: [String] = []
    @Option(help: ArgumentHelp("Label of the containers to remove.", valueName: "key")) var containerLabelRm: [String] = []
    @Option(help: ArgumentHelp("Mount to add, or to replace the one at its target.", valueName: "mount")) var mountAdd: [String] = []
    @Option(help: ArgumentHelp("Mount to remove.", valueName: "target")) var mountRm: [String] = []
    @Option(help: ArgumentHelp("Secret to add, or to replace the one of that name.", valueName: "secret")) var secretAdd: [String] = []
    @Option(help: ArgumentHelp("Secret to remove.", valueName: "name")) var secretRm: [String] = []
    @Option(help: ArgumentHelp("Config to add, or to replace the one of that name.", valueName: "config")) var configAdd: [String] = []
    @Option(help: ArgumentHelp("Config to remove.", valueName: "name")) var configRm: [String] = []
    @Option(help: ArgumentHelp("Constraint to add.", valueName: "expression")) var constraintAdd: [String] = []
    @Option(help: ArgumentHelp("Constraint to remove.", valueName: "expression")) var constraintRm: [String] = []
    @Option(help: ArgumentHelp("Placement preference to add.", valueName: "preference")) var placementPrefAdd: [String] = []
    @Option(help: ArgumentHelp("Placement preference to remove.", valueName: "preference")) var placementPrefRm: [String] = []
    @Option(help: ArgumentHelp("Network to join.", valueName: "network")) var networkAdd: [String] = []
    @Option(help: ArgumentHelp("Network to leave.", valueName: "network")) var networkRm: [String] = []
    @Option(help: ArgumentHelp("Line of /etc/hosts to add.", valueName: "name:address")) var hostAdd: [String] = []
    @Option(help: ArgumentHelp("Line of /etc/hosts to remove.", valueName: "name[:address]")) var hostRm: [String] = []
    @Option(help: ArgumentHelp("DNS server to add.", valueName: "address")) var dnsAdd: [String] = []
    @Option(help: ArgumentHelp("DNS server to remove.", valueName: "address")) var dnsRm: [String] = []
    @Option(help: ArgumentHelp("DNS search domain to add.", valueName: "domain")) var dnsSearchAdd: [String] = []
    @Option(help: ArgumentHelp("DNS search domain to remove.", valueName: "domain")) var dnsSearchRm: [String] = []
    @Option(help: ArgumentHelp("DNS option to add.", valueName: "option")) var dnsOptionAdd: [String] = []
    @Option(help: ArgumentHelp("DNS option to remove.", valueName: "option")) var dnsOptionRm: [String] = []
    @Option(help: ArgumentHelp("Supplementary group to add.", valueName: "group")) var groupAdd: [String] = []
    @Option(help: ArgumentHelp("Supplementary group to remove.", valueName: "group")) var groupRm: [String] = []
    @Option(help: ArgumentHelp("Capability to give.", valueName: "capability")) var capAdd: [String] = []
    @Option(help: ArgumentHelp("Capability to take away.", valueName: "capability")) var capDrop: [String] = []
    @Option(help: ArgumentHelp("Kernel parameter to set.", valueName: "key=value")) var sysctlAdd: [String] = []
    @Option(help: ArgumentHelp("Kernel parameter to remove.", valueName: "key")) var sysctlRm: [String] = []
    @Option(help: ArgumentHelp("Limit to set.", valueName: "name=soft[:hard]")) var ulimitAdd: [String] = []
    @Option(help: ArgumentHelp("Limit to remove.", valueName: "name")) var ulimitRm: [String] = []
    @Option(help: ArgumentHelp("Resource to reserve.", valueName: "kind=amount")) var genericResourceAdd: [String] = []
    @Option(help: ArgumentHelp("Resource to reserve no more.", valueName: "kind")) var genericResourceRm: [String] = []
    @OptionGroup var shared: ServiceOptions

    /// - Parameters:
    ///   - environment: of the caller, for `--env-add NAME`.
    ///   - networkIDs: the id of every network that is named, for `--network-rm`.
    func apply(to spec: inout ServiceSpec, environment: [String: String], networkIDs: [String: String] = [:]) throws(ApusError) {
        try applyMode(to: &spec)
        try shared.apply(to: &spec)
        var container = spec.task.container ?? ContainerSpec()
        if let image { container.image = image }
        if let args { container.arguments = try ShellWords.split(args) }
        if force { spec.task.forceUpdate += 1 }
        spec.labels.edit(try KeyValue.map(labelAdd, flag: "--label-add"), removing: labelRm)
        try applyProcess(to: &container, environment: environment)
        spec.task.container = container
        try applyPlacement(to: &spec.task)
        try applyNetworks(to: &spec, networkIDs)
        try applyPorts(to: &spec)
    }

    private func applyMode(to spec: inout ServiceSpec) throws(ApusError) {
        guard shared.replicas != nil || shared.maxConcurrent != nil else { return }
        if var job = spec.mode.replicatedJob {
            if let replicas = shared.replicas { job.totalCompletions = replicas }
            if let maxConcurrent = shared.maxConcurrent { job.maxConcurrent = maxConcurrent }
            spec.mode.replicatedJob = job
            return
        }
        guard shared.maxConcurrent == nil else { throw ApusError(.invalidArgument, "--max-concurrent: \(spec.name) is not a replicated job") }
        guard spec.mode.global == nil, spec.mode.globalJob == nil else {
            throw ApusError(.invalidArgument, "--replicas: \(spec.name) is a global service, with one task on every node")
        }
        var replicated = spec.mode.replicated ?? ReplicatedService()
        replicated.replicas = shared.replicas
        spec.mode.replicated = replicated
    }

    private func applyProcess(to container: inout ContainerSpec, environment: [String: String]) throws(ApusError) {
        let added = try KeyValue.environment(envAdd, from: environment)
        container.environment.edit(added, removing: envRm) { $0.cut(at: "=").head }
        container.labels.edit(try KeyValue.map(containerLabelAdd, flag: "--container-label-add"), removing: containerLabelRm)
        container.mounts.edit(try ServiceCreateOptions.each(mountAdd, "--mount-add", MountFlag.parse), removing: mountRm) { $0.target }
        // As in Docker, an id will not do here.
        container.secrets.edit(try ServiceCreateOptions.each(secretAdd, "--secret-add", FileFlag.secret), removing: secretRm) { $0.secretName }
        container.configs.edit(try ServiceCreateOptions.each(configAdd, "--config-add", FileFlag.config), removing: configRm) { $0.configName }
        for entry in hostRm {
            let (name, address) = entry.cut(at: ":")
            container.hosts.removeAll { line in
                let words = line.split(separator: " ").map { String($0) }
                return words.dropFirst().contains(name) && (address == nil || words.first == address)
            }
        }
        let hosts = try ServiceCreateOptions.each(hostAdd, "--host-add", HostFlag.parseLine)
        container.hosts.edit(hosts, removing: []) { $0 }
        if ![dnsAdd, dnsRm, dnsSearchAdd, dnsSearchRm, dnsOptionAdd, dnsOptionRm].allSatisfy(\.isEmpty) {
            var resolver = container.dns ?? DNSConfiguration()
            resolver.nameservers.edit(dnsAdd, removing: dnsRm) { $0 }
            resolver.search.edit(dnsSearchAdd, removing: dnsSearchRm) { $0 }
            resolver.options.edit(dnsOptionAdd, removing: dnsOptionRm) { $0 }
            container.dns = resolver == DNSConfiguration() ? nil : resolver
        }
        container.groups.edit(groupAdd, removing: groupRm) { $0 }
        // A capability is in one of the two lists at most: the last word counts.
        let given = capAdd.map { Capabilities.normalized($0) }
        let taken = capDrop.map { Capabilities.normalized($0) }
        container.capabilityAdd.edit(given, removing: taken) { $0 }
        container.capabilityDrop.edit(taken, removing: given) { $0 }
        container.sysctls.edit(try KeyValue.map(sysctlAdd, flag: "--sysctl-add"), removing: sysctlRm)
        container.ulimits.edit(try ServiceCreateOptions.each(ulimitAdd, "--ulimit-add", UlimitFlag.parse), removing: ulimitRm) { $0.name }
    }

    private func applyPlacement(to task: inout TaskSpec) throws(ApusError) {
        if ![constraintAdd, constraintRm, placementPrefAdd, placementPrefRm].allSatisfy(\.isEmpty) {
            var placement = task.placement ?? Placement()
            placement.constraints.edit(constraintAdd, removing: constraintRm) { $0 }
            let removed = try ServiceCreateOptions.each(placementPrefRm, "--placement-pref-rm", PreferenceFlag.parse)
            placement.preferences.removeAll { removed.contains($0) }
            placement.preferences += try ServiceCreateOptions.each(placementPrefAdd, "--placement-pref-add", PreferenceFlag.parse)
            task.placement = placement
        }
        guard !genericResourceAdd.isEmpty || !genericResourceRm.isEmpty else { return }
        var requirements = task.resources ?? ResourceRequirements()
        var reservations = requirements.reservations ?? Resources()
        let added = try ServiceCreateOptions.each(genericResourceAdd, "--generic-resource-add", GenericResourceFlag.parse)
        reservations.genericResources.edit(added, removing: genericResourceRm) { $0.discrete?.kind ?? $0.named?.kind ?? "" }
        requirements.reservations = reservations
        task.resources = requirements
    }

    private func applyNetworks(to spec: inout ServiceSpec, _ networkIDs: [String: String]) throws(ApusError) {
        guard !networkAdd.isEmpty || !networkRm.isEmpty else { return }
        if spec.task.networks.isEmpty {
            spec.task.networks = spec.networks
            spec.networks = []
        }
        for name in networkRm {
            let count = spec.task.networks.count
            spec.task.networks.removeAll { $0.target == name || $0.target == networkIDs[name] }
            guard spec.task.networks.count < count else { throw ApusError(.notFound, "--network-rm \(name): \(spec.name) is not in that network") }
        }
        for attachment in try ServiceCreateOptions.each(networkAdd, "--network-add", NetworkFlag.parse) {
            guard !spec.task.networks.contains(where: { $0.target == attachment.target || $0.target == networkIDs[attachment.target] }) else {
                throw ApusError(.conflict, "--network-add \(attachment.target): \(spec.name) is in that network already")
            }
            spec.task.networks.append(attachment)
        }
    }

    private func applyPorts(to spec: inout ServiceSpec) throws(ApusError) {
        guard !publishAdd.isEmpty || !publishRm.isEmpty else { return }
        var endpoint = spec.endpoint ?? EndpointSpec()
        for (text, target) in zip(publishRm, try ServiceCreateOptions.each(publishRm, "--publish-rm", PortFlag.parseTarget)) {
            let count = endpoint.ports.count
            endpoint.ports.removeAll { $0.targetPort == target.port && (target.transport == nil || $0.transport == target.transport) }
            guard endpoint.ports.count < count else {
                throw ApusError(.notFound, "--publish-rm \(text): \(spec.name) does not publish that port of its containers")
            }
        }
        for port in try ServiceCreateOptions.each(publishAdd, "--publish-add", PortFlag.parseService).flatMap({ $0 })
        where !endpoint.ports.contains(port) {
            endpoint.ports.append(port)
        }
        spec.endpoint = endpoint
    }
}

extension Array where Element: Equatable {
    /// Removes elements by their key, then adds or replaces others.
    fileprivate mutating func edit(_ added: [Element], removing removed: [String], key: (Element) -> String) {
        if !removed.isEmpty { removeAll { removed.contains(key($0)) } }
        for element in added {
            if let index = firstIndex(where: { key($0) == key(element) }) {
                self[index] = element
            } else {
                append(element)
            }
        }
    }
}

extension [String: String] {
    fileprivate mutating func edit(_ added: [String: String], removing removed: [String]) {
        for key in removed { self[key] = nil }
        merge(added) { _, new in new }
    }
}
