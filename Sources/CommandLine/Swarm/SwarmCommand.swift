import ArgumentParser
import Coding
import PluginAPI

struct SwarmCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "swarm", abstract: "The swarm itself.",
        subcommands: [
            SwarmInitCommand.self, SwarmJoinCommand.self, SwarmJoinTokenCommand.self, SwarmUpdateCommand.self, SwarmInspectCommand.self,
            SwarmLeaveCommand.self,
        ])
}

/// What `swarm init` and `swarm update` have in common.
struct SwarmOptions: ParsableArguments {
    @Option(help: ArgumentHelp("How long certificates of nodes are valid (default: 2160h).", valueName: "duration"), transform: DurationText.parse)
    var certExpiry: Duration?
    @Option(help: "Ended tasks kept for each place of a service (default: 5).", transform: ServiceOptions.count)
    var taskHistoryLimit: UInt64?
    @Option(help: ArgumentHelp("How often nodes report (default: 5s).", valueName: "duration"), transform: DurationText.parse)
    var dispatcherHeartbeat: Duration?
    @Option(help: "Entries of the log between snapshots (default: 10000).", transform: ServiceOptions.count)
    var snapshotInterval: UInt64?
    @Option(help: "Older snapshots that are kept (default: 0).", transform: ServiceOptions.count)
    var maxSnapshots: UInt64?
    @Flag(inversion: .prefixedNo, help: "Whether a manager that starts asks for a key first.") var autolock: Bool?

    /// Whether any flag was given.
    var isEmpty: Bool {
        certExpiry == nil && taskHistoryLimit == nil && dispatcherHeartbeat == nil && snapshotInterval == nil && maxSnapshots == nil
            && autolock == nil
    }

    /// Sets what was given.
    func apply(to spec: inout ClusterSpec) {
        if let certExpiry { spec.ca.nodeCertificateExpiry = certExpiry }
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
    @Option(help: "Port for traffic between containers (default: 4789).", transform: SwarmInitCommand.dataPathPort)
    var dataPathPort: UInt64?
    @Option(help: ArgumentHelp("Subnets of networks are taken from here.", valueName: "CIDR")) var defaultAddrPool: [String] = []
    @Option(help: "Length of those subnets (default: 24).", transform: ServiceOptions.count)
    var defaultAddrPoolMaskLength: UInt64?
    @Option(help: "Whether this node takes tasks: active, pause or drain.", transform: WordFlag.parse) var availability: NodeAvailability?
    @Flag(help: "Make a new swarm out of the state of this node.") var forceNewCluster = false
    @OptionGroup var options: SwarmOptions

    static func dataPathPort(_ text: String) throws(ApusError) -> UInt64 {
        guard let port = UInt64(text), port == 0 || (1024...49151).contains(port) else {
            throw ApusError(.invalidArgument, "it is a port from 1024 to 49151")
        }
        return port
    }

    func body() throws(ApusError) -> JSONValue {
        var spec = ClusterSpec()
        options.apply(to: &spec)
        var body: JSONValue = [
            "ListenAddr": .string(listenAddr), "AdvertiseAddr": .string(advertiseAddr), "DataPathAddr": .string(dataPathAddr),
            "ForceNewCluster": .bool(forceNewCluster), "Spec": JSONFields.encode(spec),
        ]
        if let dataPathPort { body["DataPathPort"] = .integer(Int64(dataPathPort)) }
        for pool in defaultAddrPool {
            guard IPPrefix(pool) != nil else { throw ApusError(.invalidArgument, "--default-addr-pool \(pool): write it like 10.20.0.0/16") }
        }
        if !defaultAddrPool.isEmpty { body["DefaultAddrPool"] = JSONValue(defaultAddrPool) }
        if let defaultAddrPoolMaskLength { body["SubnetSize"] = .integer(Int64(defaultAddrPoolMaskLength)) }
        if let availability { body["Availability"] = .string(availability.rawValue) }
        return body
    }

    func run(with context: CommandContext) async throws {
        let answer = try await context.client.post("/swarm/init", body: try body())
        let console = context.console
        console.line("Swarm initialized: current node (\(answer.string ?? "")) is now a manager.")
        console.line("")
        // A command that the other engine would refuse helps nobody.
        console.line("No other node can join it yet: that is not in this version of Apus. Begin with `apus service create`.")
        if options.autolock == true, let key = try? await context.client.get("/swarm/unlockkey")["UnlockKey"]?.string {
            console.line("")
            console.line("This key unlocks a manager when it starts. Keep it where it is safe:")
            console.line("")
            console.line("    \(key)")
        }
    }
}

extension CommandContext {
    /// The command that adds a node.
    func showJoinCommand(role: String) async throws(ApusError) {
        let swarm = try await client.get("/swarm")
        let info = try await client.get("/info")
        guard let token = swarm["JoinTokens"]?[HumanText.capitalized(role)]?.string else {
            throw ApusError(.failed, "the engine shows no join token for a \(role)")
        }
        let managers = info["Swarm"]?["RemoteManagers"]?.array ?? []
        let address = managers.first { $0["NodeID"] == info["Swarm"]?["NodeID"] }?["Addr"]?.string ?? managers.first?["Addr"]?.string ?? ""
        console.line("To add a \(role) to this swarm, run the following command:")
        console.line("")
        console.line("    apus swarm join --token \(token) \(address)")
        console.line("")
    }
}

struct SwarmJoinTokenCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "join-token", abstract: "Show the command that adds a node, or change its token.")

    @Flag(help: "Make a new token; the old one is no longer accepted.") var rotate = false
    @Flag(name: [.customShort("q"), .long], help: "Show only the token.") var quiet = false
    @Argument(help: "worker or manager.") var role: String

    func run(with context: CommandContext) async throws {
        guard ["worker", "manager"].contains(role) else { throw ApusError(.invalidArgument, "\"\(role)\" is not a role: write worker or manager") }
        if rotate {
            let swarm = try await context.client.get("/swarm")
            var query: Query = ["version": String(swarm["Version"]?["Index"]?.integer ?? 0)]
            query.add(role == "worker" ? "rotateWorkerToken" : "rotateManagerToken", "true")
            try await context.client.post("/swarm/update", query, body: swarm["Spec"])
            if !quiet { context.console.line("The \(role) join token is another one now.\n") }
        }
        if quiet {
            let token = try await context.client.get("/swarm")["JoinTokens"]?[HumanText.capitalized(role)]?.string
            context.console.line(token ?? "")
        } else {
            try await context.showJoinCommand(role: role)
            context.console.errorLine("This version of Apus keeps the token, but cannot join yet.")
        }
    }
}

struct SwarmUpdateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "update", abstract: "Change settings of the swarm.")

    @OptionGroup var options: SwarmOptions

    func run(with context: CommandContext) async throws {
        guard !options.isEmpty else { throw ApusError(.invalidArgument, "say what to change; `apus swarm update --help` lists the flags") }
        let swarm = try await context.client.get("/swarm")
        var spec = try JSONFields.decode(ClusterSpec.self, from: swarm["Spec"] ?? [:])
        options.apply(to: &spec)
        try await context.client.post(
            "/swarm/update", ["version": String(swarm["Version"]?["Index"]?.integer ?? 0)], body: JSONFields.encode(spec))
        context.console.line("Swarm updated.")
    }
}

struct SwarmInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about the swarm.")

    @OptionGroup var inspect: InspectOptions

    func run(with context: CommandContext) async throws {
        var swarm = try await context.client.get("/swarm")
        // Whoever holds a token can join: it is shown only when it is asked for.
        swarm["JoinTokens"] = nil
        if inspect.format == nil { context.console.line(swarm.text(pretty: true)) } else { try context.showObjects([swarm], format: inspect.format) }
    }
}

struct SwarmLeaveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "leave", abstract: "Take this node out of the swarm.")

    @Flag(name: [.customShort("f"), .long], help: "Leave although this ends the swarm.") var force = false

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.client.post("/swarm/leave", query)
        context.console.line("Node left the swarm.")
    }
}

struct SwarmJoinCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "join", abstract: "Take this node into a swarm.")

    @Option(help: "The token that `apus swarm join-token` shows.") var token: String
    @Option(help: ArgumentHelp("Address that other nodes use.", valueName: "ip|interface[:port]")) var advertiseAddr = ""
    @Option(help: ArgumentHelp("Address to listen on.", valueName: "ip|interface[:port]")) var listenAddr = "0.0.0.0:2377"
    @Option(help: ArgumentHelp("Address for traffic between containers.", valueName: "ip|interface")) var dataPathAddr = ""
    @Option(help: "Whether this node takes tasks: active, pause or drain.", transform: WordFlag.parse) var availability: NodeAvailability?
    @Argument(help: ArgumentHelp("Address of a manager.", valueName: "host:port")) var manager: String

    func run(with context: CommandContext) async throws {
        var body: JSONValue = [
            "JoinToken": .string(token), "RemoteAddrs": JSONValue([manager]), "AdvertiseAddr": .string(advertiseAddr),
            "ListenAddr": .string(listenAddr),
            "DataPathAddr": .string(dataPathAddr),
        ]
        if let availability { body["Availability"] = .string(availability.rawValue) }
        try await context.client.post("/swarm/join", body: body)
        context.console.line("This node joined a swarm.")
    }
}
