import ArgumentParser
import PluginAPI

struct SecretCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret", abstract: "Secrets of the swarm: data that only the containers of a service can read.",
        subcommands: [
            SecretCreateCommand.self, SwarmFileListCommand<SecretFiles>.self, SwarmFileInspectCommand<SecretFiles>.self,
            SwarmFileRemoveCommand<SecretFiles>.self,
        ])
}

enum SecretFiles: SwarmFileKind {
    static var word: String { "secret" }
    static var whatIsShown: String { "everything about secrets but their data" }
}

struct SecretCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Make a secret of a file, or of standard input.")

    @OptionGroup var options: SwarmFileCreateOptions
    @Option(name: [.customShort("d"), .long], help: .hidden) var driver: String?
    @Argument(help: "Name.") var name: String
    @Argument(help: "File, or - for standard input.") var file: String?

    func run(with context: CommandContext) async throws {
        try await context.createFile(SecretFiles.self, name: name, file: file, options, driver: driver)
    }
}
