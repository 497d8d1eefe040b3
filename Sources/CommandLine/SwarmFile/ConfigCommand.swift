import ArgumentParser
import PluginAPI

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Configs of the swarm: files that containers of services have.",
        subcommands: [
            ConfigCreateCommand.self, SwarmFileListCommand<ConfigFiles>.self, SwarmFileInspectCommand<ConfigFiles>.self,
            SwarmFileRemoveCommand<ConfigFiles>.self,
        ])
}

enum ConfigFiles: SwarmFileKind {
    static var word: String { "config" }
    static var whatIsShown: String { "everything about configs" }
}

struct ConfigCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "create", abstract: "Make a config of a file, or of standard input.")

    @OptionGroup var options: SwarmFileCreateOptions
    @Argument(help: "Name.") var name: String
    @Argument(help: "File, or - for standard input.") var file: String

    func run(with context: CommandContext) async throws {
        try await context.createFile(ConfigFiles.self, name: name, file: file, options, driver: nil)
    }
}
