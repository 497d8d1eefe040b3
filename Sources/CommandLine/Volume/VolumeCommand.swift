import ArgumentParser
import Coding
import PluginAPI

struct VolumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "volume", abstract: "Volumes of this node.",
        subcommands: [VolumeListCommand.self, VolumeCreateCommand.self, VolumeInspectCommand.self, VolumeRemoveCommand.self])
}

struct VolumeListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the volumes.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("Driver", "DRIVER"), .init("Name", "VOLUME NAME"), .init("Mountpoint", "MOUNTPOINT", isShown: false),
        .init("Scope", "SCOPE", isShown: false),
        .init("Labels", "LABELS", isShown: false),
    ]

    @OptionGroup var list: ListOptions

    func run(with context: CommandContext) async throws {
        let volumes = try await context.client.get("/volumes", try list.query())["Volumes"]?.array ?? []
        let rows = volumes.map { volume in
            ["Driver", "Name", "Mountpoint", "Scope"].map { volume[$0]?.string ?? "" } + [ServiceText.labels(volume.strings("Labels"))]
        }
        try context.show(
            Listing(columns: Self.columns, rows: rows.sorted { $0[1] < $1[1] }), format: list.format, quiet: list.quiet, quietField: "Name")
    }
}

struct VolumeCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Make a volume.")

    @Option(name: [.customShort("d"), .long], help: "What keeps it.") var driver = "local"
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Option of the driver.", valueName: "key=value")) var opt: [String] = []
    @Option(help: ArgumentHelp("Label.", valueName: "key=value")) var label: [String] = []
    @Argument(help: "Name; one is made up without it.") var name: String?

    func run(with context: CommandContext) async throws {
        let body: JSONValue = [
            "Name": .string(name ?? ""), "Driver": .string(driver), "DriverOpts": JSONValue(try KeyValue.map(opt, flag: "--opt")),
            "Labels": JSONValue(try KeyValue.map(label, flag: "--label")),
        ]
        context.console.line(try await context.client.post("/volumes/create", body: body)["Name"]?.string ?? name ?? "")
    }
}

struct VolumeInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about volumes.")

    @OptionGroup var inspect: InspectOptions
    @Argument(help: "Names.") var volumes: [String]

    func run(with context: CommandContext) async throws {
        try await context.inspect(volumes, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/volumes/\(name.pathComponent)")
        }
    }
}

struct VolumeRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove volumes with all that is in them.", aliases: ["remove"])

    @Flag(name: [.customShort("f"), .long], help: "No error when there is none of that name.") var force = false
    @Argument(help: "Names.") var volumes: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.each(volumes) { name throws(ApusError) in
            try await context.client.delete("/volumes/\(name.pathComponent)", query)
            context.console.line(name)
        }
    }
}

extension JSONValue {
    /// The texts of a member that is an object.
    func strings(_ key: String) -> [String: String] {
        (self[key]?.object ?? [:]).reduce(into: [:]) { $0[$1.key] = $1.value.string }
    }
}
