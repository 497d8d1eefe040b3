import ArgumentParser
import Coding
import PluginAPI

struct NetworkCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network", abstract: "Networks of this node and of the swarm.",
        subcommands: [
            NetworkCreateCommand.self, NetworkListCommand.self, NetworkInspectCommand.self, NetworkRemoveCommand.self, NetworkPruneCommand.self,
            NetworkConnectCommand.self, NetworkDisconnectCommand.self,
        ])
}

struct NetworkListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the networks.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("ID", "NETWORK ID"), .init("Name", "NAME"), .init("Driver", "DRIVER"), .init("Scope", "SCOPE"),
        .init("Subnet", "SUBNET", isShown: false), .init("Labels", "LABELS", isShown: false), .init("IPv6", "IPV6", isShown: false),
        .init("Internal", "INTERNAL", isShown: false), .init("CreatedAt", "CREATED AT", isShown: false),
    ]

    @OptionGroup var list: ListOptions
    @Flag(help: "Cut nothing short.") var noTrunc = false

    func run(with context: CommandContext) async throws {
        let networks = try await context.client.get("/networks", try list.query()).array ?? []
        let rows = networks.map { network in
            let id = network["Id"]?.string ?? ""
            let subnets = (network["IPAM"]?["Config"]?.array ?? []).compactMap { $0["Subnet"]?.string }
            return [
                noTrunc ? id : String(id.prefix(12)), network["Name"]?.string ?? "", network["Driver"]?.string ?? "", network["Scope"]?.string ?? "",
                subnets.joined(separator: ","), ServiceText.labels(network.strings("Labels")), "\(network["EnableIPv6"]?.bool ?? false)",
                "\(network["Internal"]?.bool ?? false)", network["Created"]?.string ?? "",
            ]
        }
        try context.show(Listing(columns: Self.columns, rows: rows.sorted { $0[1] < $1[1] }), format: list.format, quiet: list.quiet)
    }
}

struct NetworkInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about networks.")

    @OptionGroup var inspect: InspectOptions
    @Flag(name: [.customShort("v"), .long], help: "Show the services and tasks in a network of the swarm, too.") var verbose = false
    @Argument(help: "Names or ids.") var networks: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("verbose", verbose)
        try await context.inspect(networks, format: inspect.format) { [query] name throws(ApusError) in
            try await context.client.get("/networks/\(name.pathComponent)", query)
        }
    }
}

struct NetworkRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove networks that nothing uses.", aliases: ["remove"])

    @Flag(name: [.customShort("f"), .long], help: "No error when there is none of that name.") var force = false
    @Argument(help: "Names or ids.") var networks: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(networks) { name throws(ApusError) in
            do throws(ApusError) {
                try await context.client.delete("/networks/\(name.pathComponent)")
            } catch {
                guard force, error.code == .notFound else { throw error }
                return
            }
            context.console.line(name)
        }
    }
}

struct NetworkPruneCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Remove all networks that nothing uses, of this node and of the swarm.")

    @Flag(name: [.customShort("f"), .long], help: "Do it without asking.") var force = false
    @Option(help: ArgumentHelp("Only what fits: until=24h, label=key[=value].", valueName: "key=value")) var filter: [String] = []

    func run(with context: CommandContext) async throws {
        guard force else {
            throw ApusError(.invalidArgument, "this removes all custom networks that nothing uses; repeat it with --force to do it")
        }
        var query: Query = [:]
        query.add(filters: try Filters.parse(filter))
        let answer = try await context.client.post("/networks/prune", query)
        let deleted = (answer["NetworksDeleted"]?.array ?? []).compactMap(\.string)
        guard !deleted.isEmpty else { return }
        context.console.line("Deleted Networks:")
        for name in deleted { context.console.line(name) }
    }
}

struct NetworkConnectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "connect", abstract: "Put a container into a network.")

    @Option(help: ArgumentHelp("Another name of the container in the network.", valueName: "name")) var alias: [String] = []
    @Option(name: .customLong("ip"), help: ArgumentHelp("IPv4 address of the container.", valueName: "address")) var address = ""
    @Option(name: .customLong("ip6"), help: ArgumentHelp("IPv6 address of the container.", valueName: "address")) var addressV6 = ""
    @Option(help: ArgumentHelp("Option of the network's driver.", valueName: "key=value")) var driverOpt: [String] = []
    @Argument(help: "Name or id of the network.") var network: String
    @Argument(help: "Name or id of the container.") var container: String

    func run(with context: CommandContext) async throws {
        for (flag, text, isIPv4) in [("--ip", address, true), ("--ip6", addressV6, false)] where !text.isEmpty {
            guard IPAddress(text)?.isIPv4 == isIPv4 else {
                throw ApusError(.invalidArgument, "\(flag) \(text): it is not an \(isIPv4 ? "IPv4" : "IPv6") address")
            }
        }
        var endpoint: JSONValue = ["Aliases": JSONValue(alias)]
        if !address.isEmpty || !addressV6.isEmpty { endpoint["IPAMConfig"] = ["IPv4Address": .string(address), "IPv6Address": .string(addressV6)] }
        if !driverOpt.isEmpty { endpoint["DriverOpts"] = JSONValue(try KeyValue.map(driverOpt, flag: "--driver-opt")) }
        try await context.client.post(
            "/networks/\(network.pathComponent)/connect", body: ["Container": .string(container), "EndpointConfig": endpoint])
    }
}

struct NetworkDisconnectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "disconnect", abstract: "Take a container out of a network.")

    @Flag(name: [.customShort("f"), .long], help: "Also when the container does not answer.") var force = false
    @Argument(help: "Name or id of the network.") var network: String
    @Argument(help: "Name or id of the container.") var container: String

    func run(with context: CommandContext) async throws {
        try await context.client.post(
            "/networks/\(network.pathComponent)/disconnect", body: ["Container": .string(container), "Force": .bool(force)])
    }
}
