import ArgumentParser
import Coding
import PluginAPI

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Configs of the swarm: files that containers of services have.",
        subcommands: [ConfigCreateCommand.self, ConfigListCommand.self, ConfigInspectCommand.self, ConfigRemoveCommand.self])
}

struct ConfigCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Make a config of a file, or of standard input.")

    @OptionGroup var options: SwarmFileCreateOptions
    @Argument(help: "Name.") var name: String
    @Argument(help: "File, or - for standard input.") var file: String

    func run(with context: CommandContext) async throws { try await context.createFile("configs", name: name, file: file, options, driver: nil) }
}

struct ConfigListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the configs.", aliases: ["list"])

    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws { try await context.listFiles("configs", list, freshness) }
}

struct ConfigInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about configs.")

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions
    @Argument(help: "Names or ids.") var configs: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        try await context.inspect(configs, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/configs/\(name.pathComponent)")
        }
    }
}

struct ConfigRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove configs that no service uses.", aliases: ["remove"])

    @Argument(help: "Names or ids.") var configs: [String]

    func run(with context: CommandContext) async throws { try await context.removeFiles("configs", configs) }
}
