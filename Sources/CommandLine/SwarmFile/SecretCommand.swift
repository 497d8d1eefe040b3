import ArgumentParser
import Coding
import PluginAPI

struct SecretCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret", abstract: "Secrets of the swarm: data that only the containers of a service can read.",
        subcommands: [SecretCreateCommand.self, SecretListCommand.self, SecretInspectCommand.self, SecretRemoveCommand.self])
}

struct SecretCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Make a secret of a file, or of standard input.")

    @OptionGroup var options: SwarmFileCreateOptions
    @Option(name: [.customShort("d"), .long], help: .hidden) var driver: String?
    @Argument(help: "Name.") var name: String
    @Argument(help: "File, or - for standard input.") var file: String?

    func run(with context: CommandContext) async throws {
        try await context.createFile("secrets", name: name, file: file, options, driver: driver)
    }
}

struct SecretListCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the secrets.", aliases: ["list"])

    @OptionGroup var list: ListOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws { try await context.listFiles("secrets", list, freshness) }
}

struct SecretInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about secrets but their data.")

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions
    @Argument(help: "Names or ids.") var secrets: [String]

    func run(with context: CommandContext) async throws {
        let context = context.reading(freshness)
        try await context.inspect(secrets, format: inspect.format) { name throws(ApusError) in
            try await context.client.get("/secrets/\(name.pathComponent)")
        }
    }
}

struct SecretRemoveCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove secrets that no service uses.", aliases: ["remove"])

    @Argument(help: "Names or ids.") var secrets: [String]

    func run(with context: CommandContext) async throws { try await context.removeFiles("secrets", secrets) }
}
