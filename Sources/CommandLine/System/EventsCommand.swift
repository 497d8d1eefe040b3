import ArgumentParser
import Coding
import PluginAPI
import Synchronization

struct EventsCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "events", abstract: "Show what happens on the engine, as it happens.")

    @Option(
        name: [.customShort("f"), .long], help: ArgumentHelp("Show only what fits, such as type=service or event=start.", valueName: "key=value"))
    var filter: [String] = []
    @Option(help: ArgumentHelp("From a time on, or so long ago.", valueName: "time")) var since: String?
    @Option(help: ArgumentHelp("Up to a time; then it ends.", valueName: "time")) var until: String?
    @Option(help: "json (one object a line), or a template such as '{{.Type}} {{.Action}}'.") var format: String?

    func run(with context: CommandContext) async throws {
        let now = context.now()
        var query: Query = [:]
        query.add("since", try since.map { text throws(ApusError) in try TimeFlag.parse(text, now: now, flag: "--since") })
        query.add("until", try until.map { text throws(ApusError) in try TimeFlag.parse(text, now: now, flag: "--until") })
        query.add(filters: try Filters.parse(filter))
        let template = try format.flatMap { $0 == "json" ? nil : $0 }.map { text throws(ApusError) in try Template(FormatText.unescaped(text)) }
        let isJSON = format == "json"
        let reader = Mutex(JSONStreamReader())
        let console = context.console
        try await context.client.stream("GET", "/events", query) { chunk throws(ApusError) in
            for event in try reader.withLock({ reader throws(ApusError) in try reader.take(chunk) }) {
                console.line(isJSON ? event.text() : try template?.render(event) ?? Self.line(event))
            }
        }
    }

    /// `2026-01-31T12:00:00.5Z container start 4f… (image=nginx, name=web)`.
    static func line(_ event: JSONValue) -> String {
        let seconds = event["time"]?.integer ?? 0
        let time = Timestamp(nanoseconds: event["timeNano"]?.integer ?? seconds.multipliedReportingOverflow(by: 1_000_000_000).partialValue)
        let attributes = event["Actor"]?.strings("Attributes") ?? [:]
        var words = [time.description, event["Type"]?.string ?? "", event["Action"]?.string ?? "", event["Actor"]?["ID"]?.string ?? ""]
        let pairs = attributes.keys.sorted().map { key in "\(key)=\(attributes[key] ?? "")" }
        if !pairs.isEmpty { words.append("(\(pairs.joined(separator: ", ")))") }
        return words.filter { !$0.isEmpty }.joined(separator: " ").printable
    }
}
