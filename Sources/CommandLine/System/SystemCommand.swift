import ArgumentParser
import Coding
import PluginAPI

struct SystemCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "system", abstract: "The engine and its machine.", subcommands: [DiskUsageCommand.self, InfoCommand.self, EventsCommand.self])
}

struct DiskUsageCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "df", abstract: "Show what takes how much of the disk.")

    static let columns: [Listing.Column] = [
        .init("Type", "TYPE"), .init("TotalCount", "TOTAL"), .init("Active", "ACTIVE"), .init("Size", "SIZE"), .init("Reclaimable", "RECLAIMABLE"),
    ]

    @Option(help: "table, json (one object a line), or a template.") var format: String?

    func run(with context: CommandContext) async throws {
        try context.show(Listing(columns: Self.columns, rows: Self.rows(try await context.client.get("/system/df"))), format: format)
    }

    static func rows(_ usage: JSONValue) -> [[String]] {
        let images = (usage["Images"]?.array ?? []).map { image in
            let shared = max(0, image.count("SharedSize"))
            return Item(isUsed: image.count("Containers") > 0, size: image.count("Size") - shared)
        }
        let containers = (usage["Containers"]?.array ?? []).map { container in
            let state = container["State"]?.string ?? ""
            return Item(isUsed: state == "running" || state == "paused", size: container.count("SizeRw"))
        }
        let volumes = (usage["Volumes"]?.array ?? []).map { volume in
            let data = volume["UsageData"] ?? .null
            return Item(isUsed: data.count("RefCount") > 0, size: data.count("Size"))
        }
        return [row("Images", images, total: usage["LayersSize"]?.integer), row("Containers", containers), row("Local Volumes", volumes)]
    }

    private struct Item {
        var isUsed: Bool
        /// Bytes that nothing else shares; negative when they are not known.
        var size: Int64
    }

    private static func row(_ name: String, _ items: [Item], total: Int64? = nil) -> [String] {
        var all: Int64 = 0
        var free: Int64 = 0
        for item in items where item.size > 0 {
            all += item.size
            if !item.isUsed { free += item.size }
        }
        if let total { all = total }
        free = min(free, all)
        var reclaimable = ByteSize.decimalText(free)
        if all > 0 { reclaimable += " (\(Int(Double(free) * 100 / Double(all)))%)" }
        return [name, "\(items.count)", "\(items.count(where: \.isUsed))", ByteSize.decimalText(all), reclaimable]
    }
}

extension JSONValue {
    /// A number of an object, or zero.
    fileprivate func count(_ key: String) -> Int64 { self[key]?.integer ?? 0 }
}

struct VersionCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Show the versions of apus and of the engine.")

    @OptionGroup var inspect: InspectOptions

    func run(with context: CommandContext) async throws {
        let client: JSONValue = [
            "Version": .string(CommandLineTool.version), "ApiVersion": .string(EngineAPIVersion.newest.text),
            "Context": .string(context.client.connection.name),
        ]
        let server: JSONValue
        do throws(ApusError) {
            server = try await context.client.get("/version")
        } catch {
            if inspect.format == nil { for line in Self.lines("Client", client) { context.console.line(line) } }
            throw error
        }
        guard inspect.format == nil else {
            try context.showObjects([["Client": client, "Server": server]], format: inspect.format)
            return
        }
        for line in Self.lines("Client", client) { context.console.line(line) }
        context.console.line("")
        for line in Self.lines("Server", server) { context.console.line(line) }
    }

    private static let names: [(key: String, name: String)] = [
        ("Version", "Version"), ("ApiVersion", "API version"), ("MinAPIVersion", "Oldest API version"), ("Context", "Engine"), ("Os", "System"),
        ("Arch", "Architecture"), ("KernelVersion", "Kernel"),
    ]

    private static func lines(_ title: String, _ values: JSONValue) -> [String] {
        var lines = ["\(title):"]
        for (key, name) in names {
            if let value = values[key]?.string { lines.append(" " + (name + ":").padded(to: 20) + value.printable) }
        }
        return lines
    }
}

struct InfoCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "info", abstract: "Show the state of the engine and its machine.")

    @OptionGroup var inspect: InspectOptions

    func run(with context: CommandContext) async throws {
        let info = try await context.client.get("/info")
        guard inspect.format == nil else {
            try context.showObjects([info], format: inspect.format)
            return
        }
        for line in Self.lines(info) { context.console.line(line) }
        for warning in info["Warnings"]?.array ?? [] {
            // Some say themselves what they are, for programs that print them as they come.
            let prefix = "WARNING: "
            let text = warning.string ?? ""
            context.console.errorLine("apus: warning: \(text.hasPrefix(prefix) ? String(text.dropFirst(prefix.count)) : text)")
        }
    }

    static func lines(_ info: JSONValue) -> [String] {
        var lines: [String] = []
        func line(_ name: String, _ value: JSONValue?, level: Int = 0) {
            guard let value, !value.isNull, value != .string("") else { return }
            lines.append(String(repeating: " ", count: level) + "\(name): \(Template.text(of: value).printable)")
        }
        line("Containers", info["Containers"])
        line("Running", info["ContainersRunning"], level: 1)
        line("Paused", info["ContainersPaused"], level: 1)
        line("Stopped", info["ContainersStopped"], level: 1)
        line("Images", info["Images"])
        line("Engine version", info["ServerVersion"])
        line("Storage driver", info["Driver"])
        line("Balancer", info["Balancer"]?["Name"])
        line("Logging driver", info["LoggingDriver"])
        line("Cgroup driver", info["CgroupDriver"])
        line("Cgroup version", info["CgroupVersion"])
        if let swarm = info["Swarm"] { lines += SwarmInformation.lines(swarm) }
        func list(_ name: String, _ values: [String]) {
            if !values.isEmpty { lines.append("\(name): \(values.joined(separator: ", ").printable)") }
        }
        list("Runtimes", info["Runtimes"]?.object?.keys.sorted() ?? [])
        line("Default runtime", info["DefaultRuntime"])
        list("Security options", (info["SecurityOptions"]?.array ?? []).compactMap(\.string))
        line("Kernel version", info["KernelVersion"])
        line("Operating system", info["OperatingSystem"])
        line("Architecture", info["Architecture"])
        line("CPUs", info["NCPU"])
        if let memory = info["MemTotal"]?.integer { line("Memory", .string(ByteSize.binaryText(memory))) }
        line("Name", info["Name"])
        line("ID", info["ID"])
        line("Data root", info["DockerRootDir"])
        line("Debug", info["Debug"])
        list("Registry mirrors", (info["RegistryConfig"]?["Mirrors"]?.array ?? []).compactMap(\.string))
        return lines
    }
}
