import ArgumentParser
import PluginAPI

/// The flag of commands that can do without a leader.
struct FreshnessOptions: ParsableArguments {
    @Flag(help: "Show what this manager knows by itself, also when the managers have no leader.") var stale = false
}

extension CommandContext {
    /// The same, whose reads take what the manager knows when that is asked for.
    func reading(_ freshness: FreshnessOptions) -> CommandContext {
        var context = self
        if freshness.stale { context.client = EngineClient(connection: client.connection, readsStale: true) }
        return context
    }
}
