import ArgumentParser

/// The command of all commands.
struct Apus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus", abstract: "Keeps services running on many machines.",
        usage: "apus [-H <host>] <command> [<options>]",
        discussion: """
            The engine is found at -H/--host, else APUS_HOST, else DOCKER_HOST, else unix:///run/apus.sock. \
            On TCP, --tlscacert, --tlscert and --tlskey name the certificates.
            """,
        version: "apus version \(CommandLineTool.version)",
        groupedSubcommands: [
            CommandGroup(
                name: "Swarm",
                subcommands: [
                    SwarmCommand.self, ServiceCommand.self, NodeCommand.self, SecretCommand.self, ConfigCommand.self, PluginCommand.self,
                ]),
            CommandGroup(
                name: "Containers",
                subcommands: [
                    RunCommand.self, ContainersCommand.self, ContainerCommand.self, ContainerCreateCommand.self, StartCommand.self, StopCommand.self,
                    RestartCommand.self, KillCommand.self, WaitCommand.self, RenameCommand.self, ContainerLogsCommand.self,
                    ContainerRemoveCommand.self,
                ]),
            CommandGroup(
                name: "Images",
                subcommands: [
                    PullCommand.self, ImagesCommand.self, ImageCommand.self, TagCommand.self, RemoveImageCommand.self, LoadCommand.self,
                    ImportCommand.self,
                    LoginCommand.self, LogoutCommand.self,
                ]),
            CommandGroup(
                name: "Machine",
                subcommands: [
                    VolumeCommand.self, NetworkCommand.self, EventsCommand.self, InspectCommand.self, InfoCommand.self, VersionCommand.self,
                    SystemCommand.self,
                ]),
        ])
}

extension Apus {
    /// What the first word can be.
    static var commandNames: Set<String> {
        var names: Set<String> = ["help"]
        for command in configuration.subcommands {
            names.insert(command._commandName)
            names.formUnion(command.configuration.aliases)
        }
        return names
    }
}
