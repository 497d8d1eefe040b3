import ArgumentParser
import Coding
import PluginAPI

struct PluginCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plugin", abstract: "Plugins of the engine.",
        subcommands: [
            PluginListCommand.self, PluginInspectCommand.self, PluginEnableCommand.self, PluginDisableCommand.self, PluginInstallCommand.self,
            PluginRemoveCommand.self, PluginNewCommand.self,
        ])
}

struct PluginListCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the plugins, also those that cannot be used.", aliases: ["list"])

    static let columns: [Listing.Column] = [
        .init("Name", "PLUGIN"), .init("Version", "VERSION"), .init("State", "STATE"), .init("Enabled", "ENABLED"), .init("Default", "DEFAULT"),
        .init("Reason", "REASON"), .init("Role", "ROLE", isShown: false), .init("Path", "PATH", isShown: false),
        .init("SHA256", "SHA256", isShown: false),
    ]

    @Option(
        name: [.customShort("f"), .long],
        help: ArgumentHelp("Show only what fits: enabled=true, role=scheduler, name=…, state=….", valueName: "key=value"))
    var filter: [String] = []
    @Option(help: "table, json (one object a line), or a template such as '{{.Name}} {{.State}}'.") var format: String?
    @Flag(name: [.customShort("q"), .long], help: "Show only names.") var quiet = false
    @Flag(help: "Cut nothing short.") var noTrunc = false

    func run(with context: CommandContext) async throws {
        let filters = try Filters.parse(filter)
        let plugins = try await context.client.get("/apus/plugins").array ?? []
        let rows = try Self.rows(plugins, filters: filters, isShort: format == nil && !noTrunc)
        try context.show(Listing(columns: Self.columns, rows: rows), format: format, quiet: quiet, quietField: "Name")
    }

    /// By name; plugins without a role, that is files that are none, come last.
    static func rows(_ plugins: [JSONValue], filters: [String: [String]], isShort: Bool) throws(ApusError) -> [[String]] {
        for key in filters.keys where !["enabled", "role", "name", "state"].contains(key) {
            throw ApusError(.invalidArgument, "--filter \(key)=…: plugins are filtered by enabled, role, name and state")
        }
        return plugins.map { plugin -> [String] in
            let (role, name) = (plugin["Role"]?.string ?? "", plugin["Name"]?.string ?? "")
            let reason = plugin["Reason"]?.string ?? ""
            return [
                role.isEmpty || name.hasPrefix(role + "/") ? name : "\(role)/\(name)", plugin["Version"]?.string ?? "", plugin["State"]?.string ?? "",
                "\(plugin["Enabled"]?.bool ?? false)", "\(plugin["Default"]?.bool ?? false)", isShort ? reason.printable.shortened(to: 100) : reason,
                role,
                plugin["Path"]?.string ?? "", plugin["SHA256"]?.string ?? "",
            ]
        }.filter { row in
            func fits(_ key: String, _ cell: String) -> Bool { filters[key].map { $0.contains(cell) } ?? true }
            let name = filters["name"].map { wanted in wanted.contains { row[0].contains($0) } } ?? true
            return name && fits("enabled", row[3]) && fits("role", row[6]) && fits("state", row[2])
        }.sorted { left, right in
            left[6].isEmpty != right[6].isEmpty ? right[6].isEmpty : left[0] < right[0]
        }
    }
}

/// `role/name`, as plugins are named.
enum PluginName {
    /// The name without `:latest`, which docker shows. A file that is no plugin is listed too, with a name of its own.
    static func anyName(_ text: String) -> String { text.hasSuffix(":latest") ? String(text.dropLast(7)) : text }

    /// The name of a plugin, without `:latest`.
    static func parse(_ text: String) throws(ApusError) -> String {
        let name = anyName(text)
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, PluginRole(rawValue: String(parts[0])) != nil, !parts[1].isEmpty else {
            throw ApusError(
                .invalidArgument,
                "\"\(text)\" is not the name of a plugin: it is role/name, such as scheduler/binpack, and the roles are "
                    + PluginRole.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return name
    }
}

struct PluginInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about plugins.")

    @OptionGroup var inspect: InspectOptions
    @Argument(help: ArgumentHelp("Plugins.", valueName: "role/name")) var plugins: [String]

    func run(with context: CommandContext) async throws {
        try await context.inspect(plugins, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/apus/plugins/\(PluginName.anyName(name).pathName)/json")
        }
    }
}

struct PluginEnableCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "enable", abstract: "Use plugins from now on.",
        discussion: "A scheduler places the next tasks; those that run stay where they are. The plugin that had the role gives it up.")

    @Argument(help: ArgumentHelp("Plugins.", valueName: "role/name")) var plugins: [String]

    func run(with context: CommandContext) async throws {
        try await context.each(plugins) { name throws(ApusError) in
            try await context.client.post("/plugins/\(try PluginName.parse(name).pathName)/enable")
            context.console.line(name)
        }
    }
}

struct PluginDisableCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "disable", abstract: "Use plugins no more.")

    @Flag(name: [.customShort("f"), .long], help: "Also when something uses it.") var force = false
    @Argument(help: ArgumentHelp("Plugins.", valueName: "role/name")) var plugins: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.each(plugins) { name throws(ApusError) in
            try await context.client.post("/plugins/\(try PluginName.parse(name).pathName)/disable", query)
            context.console.line(name)
        }
    }
}

struct PluginInstallCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Add a plugin from a file on the engine's machine.",
        discussion: "The file is checked before any code of it runs. It is used only after `apus plugin enable`.")

    @Argument(help: ArgumentHelp("The shared library.", valueName: "file.so")) var path: String

    func run(with context: CommandContext) async throws {
        let answer = try await context.client.post("/apus/plugins/install", body: ["Path": .string(try LocalFile.absolute(path))])
        let (role, name) = (answer["Role"]?.string ?? "", answer["Name"]?.string ?? "")
        guard !name.isEmpty else { return context.console.line("Installed \(path).") }
        let full = role.isEmpty || name.hasPrefix(role + "/") ? name : "\(role)/\(name)"
        context.console.line(full)
        context.console.errorLine("Installed. Use it with `apus plugin enable \(full)`.")
    }
}

struct PluginRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove plugins that were installed.", aliases: ["remove"])

    @Flag(name: [.customShort("f"), .long], help: "Also when it is enabled.") var force = false
    @Argument(help: ArgumentHelp("Plugins.", valueName: "role/name")) var plugins: [String]

    func run(with context: CommandContext) async throws {
        var query: Query = [:]
        query.add("force", force)
        try await context.each(plugins) { name throws(ApusError) in
            try await context.client.delete("/plugins/\(PluginName.anyName(name).pathName)", query)
            context.console.line(name)
        }
    }
}
