import ArgumentParser
import PluginAPI

/// Flags of every list.
struct ListOptions: ParsableArguments {
    @Option(name: [.customShort("f"), .long], help: ArgumentHelp("Show only what fits.", valueName: "key=value")) var filter: [String] = []
    @Option(help: "table, json (one object a line), or a template such as '{{.ID}} {{.Name}}', also with \"table\" in front.") var format: String?
    @Flag(name: [.customShort("q"), .long], help: "Show only ids.") var quiet = false

    /// A query with the filters.
    func query() throws(ApusError) -> Query {
        var query: Query = [:]
        query.add(filters: try Filters.parse(filter))
        return query
    }
}

/// The flag of every `inspect`.
struct InspectOptions: ParsableArguments {
    @Option(name: [.customShort("f"), .long], help: "json (one object a line), or a template such as '{{.ID}}'.") var format: String?
}
