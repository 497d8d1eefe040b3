import ArgumentParser
import Coding
import PluginAPI

struct NetworkCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network", abstract: "Networks of this node and of the swarm.",
        subcommands: [NetworkListCommand.self, NetworkInspectCommand.self])
}

struct NetworkListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the networks.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("ID", "NETWORK ID"), .init("Name", "NAME"), .init("Driver", "DRIVER"), .init("Scope", "SCOPE"),
        .init("Subnet", "SUBNET", isShown: false), .init("Labels", "LABELS", isShown: false),
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
                subnets.joined(separator: ","), ServiceText.labels(network.strings("Labels")),
            ]
        }
        try context.show(Listing(columns: Self.columns, rows: rows.sorted { $0[1] < $1[1] }), format: list.format, quiet: list.quiet)
    }
}

struct NetworkInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about networks.")

    @OptionGroup var inspect: InspectOptions
    @Argument(help: "Names or ids.") var networks: [String]

    func run(with context: CommandContext) async throws {
        try await context.inspect(networks, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/networks/\(name.pathComponent)")
        }
    }
}
