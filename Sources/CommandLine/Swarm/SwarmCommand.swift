import ArgumentParser
import Coding
import PluginAPI

struct SwarmCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swarm", abstract: "The swarm itself.",
        subcommands: [
            SwarmInitCommand.self, SwarmJoinCommand.self, SwarmJoinTokenCommand.self, SwarmUpdateCommand.self, SwarmInspectCommand.self,
            SwarmUnlockCommand.self, SwarmUnlockKeyCommand.self, SwarmCACommand.self, SwarmLeaveCommand.self,
        ])
}

/// What `swarm init` and `swarm update` have in common.
struct SwarmOptions: ParsableArguments {
    @Option(
        parsing: .unconditional, help: ArgumentHelp("How long certificates of nodes are valid (default: 2160h).", valueName: "duration"),
        transform: DurationText.parse)
    var certExpiry: Duration?
    @Option(help: ArgumentHelp("Signers outside of the swarm: protocol=cfssl,url=https://ca.example/sign,cacert=root.pem.", valueName: "spec"))
    var externalCA: [String] = []
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How long after its expiry a certificate may still be renewed; 0 is never (default: 720h).", valueName: "duration"),
        transform: DurationText.parse)
    var expiredRenewalGrace: Duration?
    @Flag(inversion: .prefixedNo, help: "Whether a node that joins waits until `apus node accept` lets it in.") var acceptNodes: Bool?
    @Option(parsing: .unconditional, help: "Ended tasks kept for each place of a service (default: 5).", transform: ServiceOptions.count)
    var taskHistoryLimit: UInt64?
    @Option(parsing: .unconditional, help: ArgumentHelp("How often nodes report (default: 5s).", valueName: "duration"), transform: DurationText.parse)
    var dispatcherHeartbeat: Duration?
    @Option(parsing: .unconditional, help: "Entries of the log between snapshots (default: 10000).", transform: ServiceOptions.count)
    var snapshotInterval: UInt64?
    @Option(parsing: .unconditional, help: "Older snapshots that are kept (default: 0).", transform: ServiceOptions.count)
    var maxSnapshots: UInt64?
    @Flag(inversion: .prefixedNo, help: "Whether a manager that starts asks for a key first.") var autolock: Bool?

    /// Whether any flag was given.
    var isEmpty: Bool {
        certExpiry == nil && externalCA.isEmpty && expiredRenewalGrace == nil && acceptNodes == nil && taskHistoryLimit == nil
            && dispatcherHeartbeat == nil && snapshotInterval == nil && maxSnapshots == nil && autolock == nil
    }

    /// Sets what was given.
    /// - Throws: what is wrong with `--external-ca`.
    func apply(to spec: inout ClusterSpec) throws(ApusError) {
        if let certExpiry { spec.ca.nodeCertificateExpiry = certExpiry }
        if !externalCA.isEmpty { spec.ca.externalCAs = try ExternalCAFlag.parse(externalCA) }
        if let expiredRenewalGrace { spec.ca.expiredRenewalGrace = expiredRenewalGrace }
        if let acceptNodes { spec.ca.joiningWaits = acceptNodes }
        if let taskHistoryLimit { spec.orchestration.taskHistoryLimit = Int64(taskHistoryLimit) }
        if let dispatcherHeartbeat { spec.dispatcher.heartbeatPeriod = dispatcherHeartbeat }
        if let snapshotInterval { spec.raft.snapshotInterval = snapshotInterval }
        if let maxSnapshots { spec.raft.keepOldSnapshots = maxSnapshots }
        if let autolock { spec.encryption.autoLockManagers = autolock }
    }
}

struct SwarmInitCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "init", abstract: "Make a swarm, with this node as its first manager.")

    @Option(help: ArgumentHelp("Address that other nodes use.", valueName: "ip|interface[:port]")) var advertiseAddr = ""
    @Option(help: ArgumentHelp("Address to listen on.", valueName: "ip|interface[:port]")) var listenAddr = "0.0.0.0:2377"
    @Option(help: ArgumentHelp("Address for traffic between containers.", valueName: "ip|interface")) var dataPathAddr = ""
    @Option(parsing: .unconditional, help: "Port for traffic between containers (default: 4789).", transform: SwarmInitCommand.dataPathPort)
    var dataPathPort: UInt64?
    @Option(help: ArgumentHelp("Subnets of networks are taken from here.", valueName: "CIDR")) var defaultAddrPool: [String] = []
    @Option(parsing: .unconditional, help: "Length of those subnets (default: 24).", transform: ServiceOptions.count)
    var defaultAddrPoolMaskLength: UInt64?
    @Option(help: "Whether this node takes tasks: active, pause or drain.", transform: WordFlag.parse) var availability: NodeAvailability?
    @Flag(help: "Go on alone with what this manager knows, when most managers are lost for good.") var forceNewCluster = false
    @OptionGroup var options: SwarmOptions

    static func dataPathPort(_ text: String) throws(ApusError) -> UInt64 {
        guard let port = UInt64(text), port == 0 || (1024...49151).contains(port) else {
            throw ApusError(.invalidArgument, "it is a port from 1024 to 49151")
        }
        return port
    }

    func body() throws(ApusError) -> JSONValue {
        var spec = ClusterSpec()
        try options.apply(to: &spec)
        var body: JSONValue = [
            "ListenAddr": .string(listenAddr), "AdvertiseAddr": .string(advertiseAddr), "DataPathAddr": .string(dataPathAddr),
            "ForceNewCluster": .bool(forceNewCluster), "AutoLockManagers": .bool(options.autolock ?? false), "Spec": JSONFields.encode(spec),
        ]
        if let dataPathPort { body["DataPathPort"] = .integer(Int64(dataPathPort)) }
        let pools = defaultAddrPool.flatMap { $0.split(separator: ",").map { String($0) } }
        for pool in pools {
            guard IPPrefix(pool) != nil else { throw ApusError(.invalidArgument, "--default-addr-pool \(pool): write it like 10.20.0.0/16") }
        }
        if !pools.isEmpty { body["DefaultAddrPool"] = JSONValue(pools) }
        if let defaultAddrPoolMaskLength { body["SubnetSize"] = .integer(Int64(defaultAddrPoolMaskLength)) }
        if let availability { body["Availability"] = .string(availability.rawValue) }
        return body
    }

    func run(with context: CommandContext) async throws {
        let answer = try await context.client.post("/swarm/init", body: try body())
        let console = context.console
        let id = answer.string ?? ""
        if forceNewCluster {
            console.line("Swarm initialized: current node (\(id)) is now its only manager.")
            console.line("The other managers are left behind, shown as Down by `apus node ls`: take them off the list with `apus node rm`.")
            console.line("Should one come back, run `apus swarm leave --force` on it, and let it join again.")
        } else {
            console.line("Swarm initialized: current node (\(id)) is now a manager.")
        }
        console.line("")
        // The swarm is there; what is only shown must not look like a failure of making it.
        do throws(ApusError) {
            let joining = try await SwarmJoining(context.client)
            for role in ["worker", "manager"] { for line in try joining.lines(role: role) { console.line(line) } }
            if let key = options.autolock == true ? try await context.unlockKey() : nil {
                for line in UnlockKeyText.lines(key) { console.line(line) }
            }
        } catch {
            console.errorLine("apus: warning: how other nodes join cannot be shown: \(error.message)")
            let more = options.autolock == true ? ", and `apus swarm unlock-key` the key" : ""
            console.errorLine("`apus swarm join-token worker` shows it later\(more).")
        }
    }
}

/// How other nodes come into the swarm.
struct SwarmJoining: Sendable {
    /// The tokens by role, `Worker` and `Manager`.
    var tokens: JSONValue
    /// Where this manager, or the first that is known, listens.
    var address: String

    private static let defaultPort = 2377

    init(_ client: EngineClient) async throws(ApusError) {
        tokens = try await client.get("/swarm")["JoinTokens"] ?? .null
        let swarm = try await client.get("/info")["Swarm"]
        let managers = swarm?["RemoteManagers"]?.array ?? []
        let own = managers.first { $0["NodeID"] == swarm?["NodeID"] } ?? managers.first
        if let listed = own?["Addr"]?.string, !listed.isEmpty {
            address = listed
        } else {
            let host = swarm?["NodeAddr"]?.string ?? ""
            address = host.isEmpty ? "" : "\(host.contains(":") ? "[\(host)]" : host):\(Self.defaultPort)"
        }
    }

    /// - Throws: when there is no token for the role.
    func token(role: String) throws(ApusError) -> String {
        guard let token = tokens[HumanText.capitalized(role)]?.string, !token.isEmpty else {
            throw ApusError(.failed, "the engine shows no join token for a \(role); make one with `apus swarm join-token --rotate \(role)`")
        }
        return token
    }

    func lines(role: String) throws(ApusError) -> [String] {
        [
            "To add a \(role) to this swarm, run the following command:", "",
            "    apus swarm join --token \(try token(role: role)) \(address.isEmpty ? "HOST:\(Self.defaultPort)" : address)", "",
        ]
    }
}

/// `--external-ca protocol=cfssl,url=URL[,cacert=FILE]`; other keys are options of the signer.
enum ExternalCAFlag {
    static func parse(_ entries: [String]) throws(ApusError) -> [ExternalCA] {
        try entries.map { entry throws(ApusError) in
            func problem(_ what: String) -> ApusError {
                ApusError(.invalidArgument, "--external-ca \(entry): \(what); write protocol=cfssl,url=https://ca.example/sign,cacert=root.pem")
            }
            var authority = ExternalCA()
            for (key, value) in try CommaFields.pairs(entry) {
                guard let value, !value.isEmpty else { throw problem("\(key) has no value") }
                switch key {
                case "protocol":
                    guard value == "cfssl" else { throw problem("the protocol \(value) is not known; cfssl is") }
                    authority.kind = value
                case "url": authority.url = value
                case "cacert": authority.caCertificate = try LocalFile.text(value)
                default: authority.options[key] = value
                }
            }
            guard !authority.kind.isEmpty else { throw problem("the protocol is missing") }
            guard authority.url.hasPrefix("https://") || authority.url.hasPrefix("http://") else { throw problem("a URL with https:// is missing") }
            return authority
        }
    }
}
