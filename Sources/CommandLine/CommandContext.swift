import ArgumentParser
import Coding
import Glibc
import PluginAPI

/// What a command works with.
struct CommandContext: Sendable {
    var client: EngineClient
    var console: any Console
    var environment: [String: String]
    /// The time of day.
    var now: @Sendable () -> Timestamp
    /// Waits; cancelling ends it with an error.
    var sleep: @Sendable (Duration) async throws -> Void
    /// Asks for a line that nobody should see; without a terminal it comes from standard input.
    var secret: @Sendable (_ question: String) throws(ApusError) -> String
    /// Does something when the user presses Ctrl-C while `body` runs.
    var interrupts: any InterruptSource

    /// Set for the time of a command.
    @TaskLocal static var current: CommandContext?

    static var systemTime: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}

/// A command that talks to the engine.
protocol EngineCommand: AsyncParsableCommand {
    func run(with context: CommandContext) async throws
}

extension EngineCommand {
    mutating func run() async throws {
        guard let context = CommandContext.current else { throw ApusError(.failed, "the command was run outside of the apus program") }
        try await run(with: context)
    }
}

extension CommandContext {
    /// Does the same for several things; all are tried, what fails is said at once, and the exit code is 1 if any did.
    func each<Item>(_ items: [Item], _ body: (Item) async throws(ApusError) -> Void) async throws {
        var hasFailed = false
        for item in items {
            do throws(ApusError) {
                try await body(item)
            } catch {
                hasFailed = true
                console.errorLine("apus: \(error.message)")
            }
        }
        if hasFailed { throw ExitCode.failure }
    }

    func show(_ listing: Listing, format: String?, quiet: Bool = false, quietField: String = "ID") throws(ApusError) {
        let lines = quiet ? listing.values(of: quietField) : try listing.lines(format: format)
        if !lines.isEmpty { console.line(lines.joined(separator: "\n")) }
    }

    /// Objects as `inspect` shows them: an array, or one line each with a template or `json`.
    func showObjects(_ objects: [JSONValue], format: String?) throws(ApusError) {
        switch format {
        case nil, "": console.line(JSONValue.array(objects).text(pretty: true))
        case "json": for object in objects { console.line(object.text()) }
        case let text?:
            let template = try Template(FormatText.unescaped(text))
            for object in objects { console.line(try template.render(object)) }
        }
    }

    /// Inspects every name; those that exist are shown also when others do not.
    func inspect(_ names: [String], format: String?, _ body: (String) async throws(ApusError) -> JSONValue) async throws {
        var objects: [JSONValue] = []
        var failures: [String] = []
        for name in names {
            do throws(ApusError) {
                objects.append(try await body(name))
            } catch {
                failures.append(error.message)
            }
        }
        if !objects.isEmpty || format == nil { try showObjects(objects, format: format) }
        for failure in failures { console.errorLine("apus: \(failure)") }
        if !failures.isEmpty { throw ExitCode.failure }
    }
}

extension String {
    /// As one component of a path.
    var pathComponent: String { Query.escaped(self) }
    /// As the name of an image in a path, whose slashes stay.
    var pathName: String { Query.escaped(self, keepsSlashes: true) }
}
