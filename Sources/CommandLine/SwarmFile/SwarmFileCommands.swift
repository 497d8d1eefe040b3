import ArgumentParser
import Coding
import Glibc
import PluginAPI

/// Secrets or configs: which of the two a command is about.
protocol SwarmFileKind: Sendable {
    /// `secret` or `config`.
    static var word: String { get }
    /// What `inspect` shows, for its help.
    static var whatIsShown: String { get }
}

extension SwarmFileKind {
    /// `secrets` or `configs`, as in the API's paths.
    static var plural: String { word + "s" }
}

struct SwarmFileListCommand<Kind: SwarmFileKind>: EngineCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "ls", abstract: "List the \(Kind.plural).", aliases: ["list"])
    }

    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws { try await context.listFiles(Kind.self, list, freshness) }
}

struct SwarmFileInspectCommand<Kind: SwarmFileKind>: EngineCommand {
    static var configuration: CommandConfiguration { CommandConfiguration(commandName: "inspect", abstract: "Show \(Kind.whatIsShown).") }

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions
    @Argument(help: ArgumentHelp("Names or ids.", valueName: Kind.plural)) var names: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        try await context.inspect(names, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/\(Kind.plural)/\(name.pathComponent)")
        }
    }
}

struct SwarmFileRemoveCommand<Kind: SwarmFileKind>: EngineCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "rm", abstract: "Remove \(Kind.plural) that no service uses.", aliases: ["remove"])
    }

    @Argument(help: ArgumentHelp("Names or ids.", valueName: Kind.plural)) var names: [String]

    func run(with context: CommandContext) async throws { try await context.removeFiles(Kind.self, names) }
}

/// The flags of `secret create` and `config create`.
struct SwarmFileCreateOptions: ParsableArguments {
    @Option(name: [.customShort("l"), .long], help: ArgumentHelp("Label.", valueName: "key=value")) var label: [String] = []
    @Option(help: .hidden) var templateDriver: String?
}

/// What the commands of `secret` and `config` do.
extension CommandContext {
    func createFile<Kind: SwarmFileKind>(
        _ kind: Kind.Type, name: String, file: String?, _ options: SwarmFileCreateOptions, driver: String?
    ) async throws {
        var body: JSONValue = ["Name": .string(name), "Labels": JSONValue(try KeyValue.map(options.label, flag: "--label"))]
        // An external store has the data of a secret that names its driver.
        if file != nil || driver == nil { body["Data"] = .string(Base64.encode(try Self.content(file))) }
        if let driver { body["Driver"] = ["Name": .string(driver)] }
        if let template = options.templateDriver { body["Templating"] = ["Name": .string(template)] }
        let answer = try await client.post("/\(kind.plural)/create", body: body)
        guard let id = answer["ID"]?.string else { throw ApusError(.corrupt, "the engine answered without an id") }
        console.line(id)
    }

    private static func content(_ file: String?) throws(ApusError) -> [UInt8] {
        if let file, file != "-" { return try LocalFile.bytes(file) }
        guard isatty(0) == 0 else { throw ApusError(.invalidArgument, "standard input is a terminal: name a file, or feed the data with `<`") }
        return try LocalFile.bytes(of: 0, named: "standard input")
    }

    func listFiles<Kind: SwarmFileKind>(_ kind: Kind.Type, _ list: ListOptions, _ freshness: FreshnessOptions) async throws {
        let columns: [Listing.Column] = [
            .init("ID", "ID"), .init("Name", "NAME"), .init("CreatedAt", "CREATED"), .init("UpdatedAt", "UPDATED"),
            .init("Labels", "LABELS", isShown: false),
        ]
        let files = try await reading(freshness).client.get("/\(kind.plural)", try list.query()).array ?? []
        let now = now()
        let rows = files.map { file in
            func time(_ key: String) -> String { Timestamp(file[key]?.string ?? "").map { HumanText.ago($0, now: now) } ?? "" }
            return [
                file["ID"]?.string ?? "", file["Spec"]?["Name"]?.string ?? "", time("CreatedAt"), time("UpdatedAt"),
                ServiceText.labels(file["Spec"]?.strings("Labels") ?? [:]),
            ]
        }
        try show(Listing(columns: columns, rows: rows), format: list.format, quiet: list.quiet)
    }

    func removeFiles<Kind: SwarmFileKind>(_ kind: Kind.Type, _ names: [String]) async throws {
        try await each(names) { name throws(ApusError) in
            _ = try await client.delete("/\(kind.plural)/\(name.pathComponent)")
            console.line(name)
        }
    }
}
