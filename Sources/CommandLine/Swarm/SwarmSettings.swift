import ArgumentParser
import Coding
import PluginAPI

struct SwarmUpdateCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "update", abstract: "Change settings of the swarm.")

    @OptionGroup var options: SwarmOptions

    func run(with context: CommandContext) async throws {
        guard !options.isEmpty else { throw ApusError(.invalidArgument, "say what to change; `apus swarm update --help` lists the flags") }
        let changed = try await context.changeSwarm { spec throws(ApusError) in try options.apply(to: &spec) }
        context.console.line("Swarm updated.")
        if changed.spec.ca.externalCAs != changed.before.ca.externalCAs {
            context.console.line("The nodes go over to the external authority in the background; `apus info` shows whether they have.")
        }
        if changed.spec.encryption.autoLockManagers, !changed.before.encryption.autoLockManagers, let key = try await context.unlockKey() {
            context.console.line("")
            for line in UnlockKeyText.lines(key) { context.console.line(line) }
        }
    }
}

struct SwarmInspectCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show everything about the swarm.")

    @OptionGroup var inspect: InspectOptions
    @OptionGroup var freshness: FreshnessOptions

    func run(with context: CommandContext) async throws {
        var swarm = try await context.reading(freshness).client.get("/swarm")
        // Whoever holds a token can join: it is shown only when it is asked for.
        swarm["JoinTokens"] = nil
        if inspect.format == nil { context.console.line(swarm.text(pretty: true)) } else { try context.showObjects([swarm], format: inspect.format) }
    }
}

extension CommandContext {
    /// Sends the changed spec of the swarm.
    /// - Parameter query: what else the update is to do.
    /// - Returns: the spec before and now.
    @discardableResult
    func changeSwarm(
        _ query: Query = [:], _ edit: (inout ClusterSpec) throws(ApusError) -> Void
    ) async throws(ApusError) -> (before: ClusterSpec, spec: ClusterSpec) {
        let swarm = try await client.get("/swarm")
        let before = try JSONFields.decode(ClusterSpec.self, from: swarm["Spec"] ?? [:])
        var spec = before
        try edit(&spec)
        var whole: Query = ["version": String(swarm["Version"]?["Index"]?.integer ?? 0)]
        for item in query.items { whole.add(item.name, item.value) }
        try await client.post("/swarm/update", whole, body: JSONFields.encode(spec))
        return (before, spec)
    }
}
