import Allocation
public import PluginAPI
public import Store

/// Whether a service may be created or changed as the user wishes.
public enum ServiceValidation {
    /// Services larger than this are refused: a slip of the finger should not take the swarm down.
    public static var replicaLimit: UInt64 { 1_000_000 }

    /// Checks everything that can be known of a spec before it is stored.
    ///
    /// - Parameter replacing: the service that is changed; `nil` for a new one.
    /// - Throws: `invalidArgument` for what is wrong in itself; `conflict` for a name or a port that another service has; `notFound` for a network that does
    ///   not exist; `unimplemented` for what Apus, or swarm mode, does not do.
    public static func check(_ spec: ServiceSpec, in snapshot: StoreSnapshot, replacing: Service?) throws(ApusError) {
        try check(spec, inState: snapshot, replacing: replacing)
    }

    static func check(_ spec: ServiceSpec, inState state: some SwarmState, replacing: Service?) throws(ApusError) {
        try checkName(spec.name)
        try checkLabels(spec.labels, of: "service")
        try checkMode(spec.mode)
        try TaskSpecValidation(spec: spec.task).check()
        try check(spec.update, "update")
        try check(spec.rollback, "rollback")
        try checkEndpoint(spec)
        try checkNetworks(spec, state)
        try checkIdentity(spec, state, replacing)
        try checkPorts(spec, state, replacing)
    }

    // MARK: Identity

    static func checkName(_ name: String) throws(ApusError) {
        guard !name.isEmpty else { throw ApusError(.invalidArgument, "name must be provided") }
        guard name.utf8.count <= 63 else { throw ApusError(.invalidArgument, "name must be 63 characters or fewer") }
        guard isNameComponent(name) else {
            throw ApusError(
                .invalidArgument,
                "name must be valid as a DNS name component: letters and digits, with - and _ between them, not \"\(printable(name))\"")
        }
    }

    private static func checkIdentity(_ spec: ServiceSpec, _ state: some SwarmState, _ replacing: Service?) throws(ApusError) {
        if let replacing {
            guard spec.name == replacing.spec.name else { throw ApusError(.unimplemented, "renaming services is not supported") }
            guard (spec.mode.global != nil) == (replacing.spec.mode.global != nil) else {
                throw ApusError(.unimplemented, "service mode change is not allowed")
            }
        } else if let other = state.service(named: spec.name) {
            throw ApusError(.conflict, "name conflicts with an existing object: service \(other.spec.name) already exists")
        }
    }

    /// Labels have names, and these no control characters.
    public static func checkLabels(_ labels: [String: String], of thing: String) throws(ApusError) {
        for key in labels.keys.sorted() {
            guard !key.isEmpty else { throw ApusError(.invalidArgument, "a label of the \(thing) has no name") }
            guard !hasControlCharacters(key) else {
                throw ApusError(.invalidArgument, "the label \"\(printable(key))\" of the \(thing) has a control character in its name")
            }
        }
    }

    // MARK: Mode

    private static func checkMode(_ mode: ServiceMode) throws(ApusError) {
        let chosen = [mode.replicated != nil, mode.global != nil, mode.replicatedJob != nil, mode.globalJob != nil]
        guard chosen.filter({ $0 }).count <= 1 else {
            throw ApusError(.invalidArgument, "Mode: only one of Replicated, Global, ReplicatedJob and GlobalJob may be set")
        }
        guard mode.replicatedJob == nil, mode.globalJob == nil else {
            throw ApusError(.unimplemented, "jobs (modes replicated-job and global-job) are not supported yet; use replicated or global")
        }
        if let replicas = mode.replicated?.replicas, replicas > replicaLimit {
            throw ApusError(.invalidArgument, "Replicas: \(replicas) is more than the limit of \(replicaLimit)")
        }
    }

    private static func check(_ configuration: UpdateConfig?, _ name: String) throws(ApusError) {
        guard let configuration else { return }
        guard configuration.delay >= .zero else { throw ApusError(.invalidArgument, "TaskSpec: \(name)-delay cannot be negative") }
        guard configuration.monitor ?? .zero >= .zero else { throw ApusError(.invalidArgument, "TaskSpec: \(name)-monitor cannot be negative") }
        guard configuration.maxFailureRatio >= 0, configuration.maxFailureRatio <= 1 else {
            throw ApusError(.invalidArgument, "TaskSpec: \(name)-maxfailureratio cannot be less than 0 or bigger than 1")
        }
        if name == "rollback", configuration.failureAction == .rollback {
            throw ApusError(.invalidArgument, "RollbackConfig: the failure action of a rollback is pause or continue")
        }
    }

    // MARK: Networks and ports

    private static func checkEndpoint(_ spec: ServiceSpec) throws(ApusError) {
        guard let endpoint = spec.endpoint else { return }
        struct Key: Hashable {
            var port: UInt64
            var transport: TransportProtocol
        }
        var seen: [Key: PublishMode] = [:]
        for port in endpoint.ports {
            guard (1...65535).contains(port.targetPort) else {
                throw ApusError(.invalidArgument, "EndpointSpec: the target port \(port.targetPort) is not from 1 to 65535")
            }
            guard port.publishedPort <= 65535 else {
                throw ApusError(.invalidArgument, "EndpointSpec: the published port \(port.publishedPort) is not from 1 to 65535")
            }
            if endpoint.mode == .dnsRoundRobin, port.publishMode == .ingress {
                throw ApusError(.invalidArgument, "EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
            }
            guard port.publishedPort != 0 else { continue }
            guard seen.updateValue(port.publishMode, forKey: Key(port: port.publishedPort, transport: port.transport)) == nil else {
                throw ApusError(
                    .invalidArgument,
                    "EndpointSpec: duplicate published ports provided: \(port.publishedPort)/\(port.transport.rawValue) is named twice")
            }
        }
    }

    private static func checkPorts(_ spec: ServiceSpec, _ state: some SwarmState, _ replacing: Service?) throws(ApusError) {
        guard let ports = spec.endpoint?.ports, ports.contains(where: { $0.publishedPort != 0 }) else { return }
        let others = state.allServices.filter { $0.id != replacing?.id }
        var allocator = PortAllocator(others)
        // A service that was created a moment ago has its ports in its spec only.
        for service in others where service.endpoint.ports.isEmpty {
            var asked = service
            asked.endpoint.ports = service.spec.endpoint?.ports ?? []
            allocator.add(asked)
        }
        try allocator.check(ports, for: replacing?.id ?? "")
    }

    private static func checkNetworks(_ spec: ServiceSpec, _ state: some SwarmState) throws(ApusError) {
        let attachments = spec.task.networks.isEmpty ? spec.networks : spec.task.networks
        var seen: Set<String> = []
        for attachment in attachments {
            guard !attachment.target.isEmpty else { throw ApusError(.invalidArgument, "Networks: an attachment does not name its network") }
            let network = state.network(attachment.target)
            if network == nil, !NetworkDraft.predefined.contains(attachment.target) {
                throw ApusError(.notFound, "network \(printable(attachment.target)) not found")
            }
            guard seen.insert(network?.id.text ?? attachment.target).inserted else {
                throw ApusError(.invalidArgument, "Networks: \"\(printable(network?.spec.name ?? attachment.target))\" is attached twice")
            }
            if let network, network.spec.ingress {
                throw ApusError(
                    .invalidArgument, "Service cannot be explicitly attached to the ingress network \"\(network.spec.name)\"; publishing a port does it")
            }
            guard attachment.driverOptions.isEmpty else {
                throw ApusError(.unimplemented, "Networks: driver options of one attachment (driver-opt) are not supported; a network has options")
            }
            for alias in attachment.aliases where !isHostName(alias) {
                throw ApusError(
                    .invalidArgument, "Networks: the alias \"\(printable(alias))\" is not a name: letters and digits, with -, _ and . between them")
            }
        }
        guard spec.endpoint?.ports.contains(where: { $0.publishMode == .ingress }) == true, state.ingressNetwork == nil else { return }
        throw ApusError(
            .invalidArgument,
            "service needs ingress network, but no ingress network is present: make one with \"network create --ingress -d overlay ingress\", "
                + "or publish with mode=host")
    }

    // MARK: Words

    /// A label of a domain name, with `_` allowed inside as swarm does.
    static func isNameComponent(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, let last = bytes.last, isAlphanumeric(first), isAlphanumeric(last) else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
    }

    /// Labels with dots between them.
    public static func isHostName(_ text: String) -> Bool {
        text.utf8.count <= 253 && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { $0.utf8.count <= 63 && isNameComponent(String($0)) }
    }

    static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }

    /// Such as line feeds and NUL, also those of DEL.
    public static func hasControlCharacters(_ text: String) -> Bool { text.unicodeScalars.contains { $0.value < 32 || $0.value == 127 } }

    /// For messages: control characters would spoil a terminal, a megabyte the log.
    public static func printable(_ text: String) -> String {
        let start = text.unicodeScalars.prefix(100)
        let clean = String(String.UnicodeScalarView(start.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
        return start.endIndex == text.unicodeScalars.endIndex ? clean : clean + "…"
    }
}
