import ArgumentParser
import Coding
import PluginAPI
import Synchronization

struct PullCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "pull", abstract: "Get an image from a registry.")

    @Flag(name: [.customShort("q"), .long], help: "Show no progress.") var quiet = false
    @Flag(name: [.customShort("a"), .long], help: "Get all tags of the name.") var allTags = false
    @Option(help: ArgumentHelp("Platform, such as linux/arm64.", valueName: "os/architecture")) var platform: String?
    @Argument(help: "Name with or without tag or digest.") var image: String

    func run(with context: CommandContext) async throws {
        try await context.pull(image, platform: platform, allTags: allTags, quiet: quiet)
        context.console.line(quiet || !context.console.isTerminal ? image : Self.fullName(image))
    }

    /// With the registry and the tag that are understood.
    static func fullName(_ image: String) -> String {
        let (name, tag) = ImageReference.split(image)
        let hasDigest = tag.contains(":")
        let registry = ImageReference.registry(image)
        let path = registry == "docker.io" && !name.hasPrefix("docker.io/") ? "docker.io/" + (name.contains("/") ? name : "library/" + name) : name
        return path + (hasDigest ? "@" : ":") + tag
    }
}

extension CommandContext {
    /// Pulls an image and shows how far it is.
    func pull(_ image: String, platform: String? = nil, allTags: Bool = false, quiet: Bool = false) async throws(ApusError) {
        guard !image.isEmpty, !image.hasPrefix("-") else { throw ApusError(.invalidArgument, "\"\(image)\" is not the name of an image") }
        let (name, tag) = ImageReference.split(image)
        var query: Query = ["fromImage": name]
        if !allTags { query.add("tag", tag) }
        query.add("platform", platform)
        let headers = try RegistryCredentials.load(environment).headers(image: image)
        try await followProgress("POST", "/images/create", query, headers: headers, quiet: quiet)
    }

    /// Follows a stream of JSON progress and shows it; an error in the stream is thrown.
    func followProgress(
        _ method: String, _ path: String, _ query: Query, body: EngineRequest.Body = .none, headers: [String: String] = [:], quiet: Bool
    ) async throws(ApusError) {
        let display = TransferDisplay(console: console, isQuiet: quiet)
        try await client.stream(method, path, query, body: body, headers: headers) { chunk throws(ApusError) in try display.take(chunk) }
        try display.finish()
    }
}

/// Shows the progress of a stream on a console.
private final class TransferDisplay: Sendable {
    private struct State {
        var reader = JSONStreamReader()
        var progress = TransferProgress()
        var live = LiveLines()
    }

    private let console: any Console
    private let isQuiet: Bool
    private let state = Mutex(State())

    init(console: any Console, isQuiet: Bool) {
        self.console = console
        self.isQuiet = isQuiet
    }

    func take(_ chunk: [UInt8]) throws(ApusError) {
        let columns = console.isTerminal ? console.columns : nil
        let text = try state.withLock { state throws(ApusError) in
            var plain: [String] = []
            for message in try state.reader.take(chunk) {
                if let error = message["errorDetail"]?["message"]?.string ?? message["error"]?.string {
                    throw ApusError(.failed, EngineFailure.hinted(error))
                }
                plain += state.progress.apply(message)
            }
            if let columns { return state.live.replacing(with: state.progress.lines(columns: columns)) }
            return plain.isEmpty ? "" : plain.joined(separator: "\n") + "\n"
        }
        if !isQuiet, !text.isEmpty { console.text(text) }
    }

    func finish() throws(ApusError) {
        guard !state.withLock({ $0.reader.isCutShort }) else { throw ApusError(.corrupt, "the engine ended its answer in the middle") }
    }
}

/// The state of every layer of a transfer, from the messages of the API.
struct TransferProgress: Hashable {
    private struct Entry: Hashable {
        var id: String
        var status: String
        var current: Int64 = 0
        var total: Int64 = 0
    }

    private var entries: [Entry] = []

    /// Takes a message in; returns what to say of it where lines cannot be written again.
    mutating func apply(_ message: JSONValue) -> [String] {
        let status = message["status"]?.string ?? message["stream"]?.string?.trimmed ?? ""
        let id = message["id"]?.string ?? ""
        guard !status.isEmpty else { return [] }
        let detail = message["progressDetail"]
        let entry = Entry(id: id, status: status.printable, current: detail?["current"]?.integer ?? 0, total: detail?["total"]?.integer ?? 0)
        let line = id.isEmpty ? entry.status : "\(id.printable): \(entry.status)"
        if !id.isEmpty, let index = entries.firstIndex(where: { $0.id == id }) {
            let isNews = entries[index].status != entry.status
            entries[index] = entry
            return isNews ? [line] : []
        }
        entries.append(entry)
        return [line]
    }

    /// One line for each layer.
    func lines(columns: Int) -> [String] {
        entries.map { entry in
            var line = entry.id.isEmpty ? entry.status : "\(entry.id.printable): \(entry.status)"
            if entry.total > 0, entry.current > 0 {
                let amount = "\(ByteSize.decimalText(entry.current))/\(ByteSize.decimalText(entry.total))"
                let width = min(50, columns - line.count - amount.count - 5)
                let bar = width >= 8 ? " " + ServiceProgressText.bar(Double(entry.current) / Double(entry.total), width: width) : ""
                line += "\(bar) \(amount)"
            } else if entry.current > 0 {
                line += " \(ByteSize.decimalText(entry.current))"
            }
            return line.shortened(to: max(20, columns - 1))
        }
    }
}
