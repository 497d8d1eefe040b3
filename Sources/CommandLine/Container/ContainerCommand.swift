import ArgumentParser
import Coding
import PluginAPI

struct ContainerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "container", abstract: "Containers of this node.",
        subcommands: [
            ContainerListCommand.self, RunCommand.self, ContainerCreateCommand.self, StartCommand.self, StopCommand.self, RestartCommand.self,
            KillCommand.self, WaitCommand.self, RenameCommand.self, ContainerLogsCommand.self, ContainerInspectCommand.self,
            ContainerRemoveCommand.self,
        ])
}

/// `apus ps` and `apus container ls`.
struct ContainerListOptions: ParsableArguments {
    @OptionGroup var list: ListOptions
    @Flag(name: [.customShort("a"), .long], help: "Also those that do not run.") var all = false
    @Flag(help: "Cut nothing short.") var noTrunc = false
    @Flag(name: [.customShort("l"), .long], help: "Only the newest.") var latest = false
    @Option(name: [.customShort("n"), .long], parsing: .unconditional, help: "Only so many of the newest.", transform: ServiceOptions.count)
    var last: UInt64?
    @Flag(name: [.customShort("s"), .long], help: "Show how much each wrote.") var size = false

    func run(with context: CommandContext) async throws {
        var query = try list.query()
        query.add("all", all)
        query.add("size", size)
        query.add("limit", latest ? "1" : last.map { String($0) })
        let containers = try await context.client.get("/containers/json", query).array ?? []
        let rows = containers.map { ContainerText.row($0, now: context.now(), noTrunc: noTrunc) }
        var columns = ContainerText.columns
        columns[columns.count - 1].isShown = size
        try context.show(Listing(columns: columns, rows: rows), format: list.format, quiet: list.quiet)
    }
}

struct ContainersCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List the containers of this node.")
    @OptionGroup var options: ContainerListOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

struct ContainerListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the containers of this node.", aliases: ["list", "ps"])
    @OptionGroup var options: ContainerListOptions
    func run(with context: CommandContext) async throws { try await options.run(with: context) }
}

/// Containers as rows.
enum ContainerText {
    static let columns: [Listing.Column] = [
        .init("ID", "CONTAINER ID"), .init("Image", "IMAGE"), .init("Command", "COMMAND"), .init("RunningFor", "CREATED"), .init("Status", "STATUS"),
        .init("Ports", "PORTS"), .init("Names", "NAMES"), .init("State", "STATE", isShown: false), .init("CreatedAt", "CREATED AT", isShown: false),
        .init("Labels", "LABELS", isShown: false), .init("Networks", "NETWORKS", isShown: false), .init("Mounts", "MOUNTS", isShown: false),
        .init("Size", "SIZE", isShown: false),
    ]

    static func row(_ container: JSONValue, now: Timestamp, noTrunc: Bool) -> [String] {
        let id = container["Id"]?.string ?? ""
        let created = Timestamp(nanoseconds: (container["Created"]?.integer ?? 0).multipliedReportingOverflow(by: 1_000_000_000).partialValue)
        let command = (container["Command"]?.string ?? "").printable
        let names = (container["Names"]?.array ?? []).compactMap(\.string).map { $0.hasPrefix("/") ? String($0.dropFirst()) : $0 }
        let image = container["Image"]?.string ?? ""
        return [
            noTrunc ? id : String(id.prefix(12)), noTrunc ? image : ImageText.isID(image) ? ImageText.shortID(image) : ServiceText.image(image),
            "\"\(noTrunc ? command : command.shortened(to: 20))\"", HumanText.ago(created, now: now), container["Status"]?.string ?? "",
            ports(container["Ports"]?.array ?? []), names.joined(separator: ","), container["State"]?.string ?? "", created.description,
            ServiceText.labels(container.strings("Labels")),
            (container["NetworkSettings"]?["Networks"]?.object?.keys ?? []).sorted().joined(separator: ","),
            (container["Mounts"]?.array ?? []).map { $0["Name"]?.string ?? $0["Source"]?.string ?? "" }.joined(separator: ","),
            "\(ByteSize.decimalText(container["SizeRw"]?.integer ?? 0)) (virtual \(ByteSize.decimalText(container["SizeRootFs"]?.integer ?? 0)))",
        ]
    }

    /// `0.0.0.0:80->80/tcp, 443/tcp`.
    static func ports(_ ports: [JSONValue]) -> String {
        ports.sorted { ($0["PrivatePort"]?.integer ?? 0, $0["IP"]?.string ?? "") < ($1["PrivatePort"]?.integer ?? 0, $1["IP"]?.string ?? "") }.map {
            port in
            let inner = "\(port["PrivatePort"]?.integer ?? 0)/\(port["Type"]?.string ?? "tcp")"
            guard let outer = port["PublicPort"]?.integer, outer > 0 else { return inner }
            let address = port["IP"]?.string ?? ""
            return "\(address.contains(":") ? "[\(address)]" : address)\(address.isEmpty ? "" : ":")\(outer)->\(inner)"
        }.joined(separator: ", ")
    }
}

extension ImageText {
    /// Whether it is no name but an id.
    static func isID(_ text: String) -> Bool { text.hasPrefix("sha256:") && !text.contains("/") }
}

struct ContainerInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about containers.")

    @OptionGroup var inspect: InspectOptions
    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws {
        try await context.inspect(containers, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/containers/\(name.pathComponent)/json")
        }
    }
}

struct StartCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "start", abstract: "Start containers.")

    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws { try await context.act(on: containers, "start") }
}

/// How a container is stopped.
struct StopOptions: ParsableArguments {
    @Option(name: [.customShort("s"), .long], help: "Signal to send first.") var signal: String?
    @Option(
        name: [.customShort("t"), .customLong("timeout"), .customLong("time")], parsing: .unconditional,
        help: ArgumentHelp("How long it may take, then it is killed; -1 waits for ever.", valueName: "seconds"))
    var timeout: Int64?

    var query: Query {
        var query: Query = [:]
        query.add("signal", signal)
        query.add("t", timeout.map { String($0) })
        return query
    }
}

struct StopCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "stop", abstract: "Stop containers.")

    @OptionGroup var options: StopOptions
    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws { try await context.act(on: containers, "stop", options.query) }
}

struct RestartCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "restart", abstract: "Stop containers and start them again.")

    @OptionGroup var options: StopOptions
    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws { try await context.act(on: containers, "restart", options.query) }
}

struct KillCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "kill", abstract: "Send a signal to containers.")

    @Option(name: [.customShort("s"), .long], help: "Name or number (default: KILL).") var signal = "KILL"
    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws { try await context.act(on: containers, "kill", ["signal": signal]) }
}

struct RenameCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rename", abstract: "Give a container another name.")

    @Argument(help: "Name or id.") var container: String
    @Argument(help: "The new name.") var name: String

    func run(with context: CommandContext) async throws {
        try await context.client.post("/containers/\(container.pathComponent)/rename", ["name": name])
    }
}

struct WaitCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "wait", abstract: "Wait until containers end, and show their exit codes.")

    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(containers) { name throws(ApusError) in
            let answer = try await context.client.post("/containers/\(name.pathComponent)/wait")
            context.console.line("\(answer["StatusCode"]?.integer ?? 0)")
        }
    }
}

struct ContainerRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove containers.", aliases: ["remove"])

    @Flag(name: [.customShort("f"), .long], help: "Also one that runs; it is killed.") var force = false
    @Flag(name: [.customShort("v"), .long], help: "With the volumes that have no name.") var volumes = false
    @Argument(help: "Names or ids.") var containers: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        query.add("v", volumes)
        try await context.each(containers) { name throws(ApusError) in
            try await context.client.delete("/containers/\(name.pathComponent)", query)
            context.console.line(name)
        }
    }
}

struct ContainerLogsCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "logs", abstract: "Show what a container writes.")

    @OptionGroup var options: LogOptions
    @Option(help: ArgumentHelp("Up to a time, or until so long ago.", valueName: "time")) var until: String?
    @Argument(help: "Name or id.") var container: String

    func run(with context: CommandContext) async throws {
        let now = context.now()
        var query = try options.query(now: now)
        query.add("details", options.details)
        query.add("until", try until.map { text throws(ApusError) in try TimeFlag.parse(text, now: now, flag: "--until") })
        let path = "/containers/\(container.pathComponent)"
        let isTerminal = try await context.client.get(path + "/json")["Config"]?["Tty"]?.bool ?? false
        let printer = LogPrinter(console: context.console, isRaw: isTerminal)
        try await context.client.stream("GET", path + "/logs", query, onHead: { printer.begin($0) }) { chunk throws(ApusError) in
            try printer.take(chunk)
        }
    }
}

extension CommandContext {
    /// The same call for each container, whose name is shown when it succeeded.
    func act(on containers: [String], _ verb: String, _ query: Query = [:]) async throws {
        try await each(containers) { name throws(ApusError) in
            try await client.post("/containers/\(name.pathComponent)/\(verb)", query)
            console.line(name)
        }
    }
}
