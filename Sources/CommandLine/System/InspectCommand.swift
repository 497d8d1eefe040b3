import ArgumentParser
import Coding
import PluginAPI

struct InspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about things of any kind.")

    /// Where each kind is found, in the order in which a name is looked for.
    private static let kinds: [(name: String, path: @Sendable (String) -> String)] = [
        ("container", { "/containers/\($0.pathComponent)/json" }), ("image", { "/images/\($0.pathName)/json" }),
        ("network", { "/networks/\($0.pathComponent)" }), ("volume", { "/volumes/\($0.pathComponent)" }),
        ("service", { "/services/\($0.pathComponent)" }),
        ("task", { "/tasks/\($0.pathComponent)" }), ("node", { "/nodes/\($0.pathComponent)" }), ("plugin", { "/apus/plugins/\($0.pathName)/json" }),
        ("secret", { "/secrets/\($0.pathComponent)" }), ("config", { "/configs/\($0.pathComponent)" }),
    ]

    @OptionGroup var inspect: InspectOptions
    @Option(help: "Look only for this kind, such as container or service.") var type: String?
    @Argument(help: "Names or ids.") var names: [String]

    func run(with context: CommandContext) async throws {
        let kinds = Self.kinds.filter { type == nil || $0.name == type }
        guard !kinds.isEmpty else {
            throw ApusError(.invalidArgument, "--type \(type ?? ""): the kinds are \(Self.kinds.map(\.name).joined(separator: ", "))")
        }
        try await context.inspect(names, format: inspect.format) { name throws(ApusError) in
            for kind in kinds {
                do throws(ApusError) {
                    return try await context.client.get(kind.path(name))
                } catch {
                    // A node without a swarm has no services, and an engine need not have every kind.
                    let isElsewhere =
                        [.notFound, .unimplemented].contains(error.code) || error.code == .unavailable && error.message.contains("swarm")
                    let isNoName = error.code == .invalidArgument && kinds.count > 1
                    guard isElsewhere || isNoName, type == nil else { throw error }
                }
            }
            throw ApusError(.notFound, "there is nothing with the name or id \(name)")
        }
    }
}
