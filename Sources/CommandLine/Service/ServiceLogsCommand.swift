import ArgumentParser
import Coding
import PluginAPI
import Synchronization

/// Flags of all logs.
struct LogOptions: ParsableArguments {
    @Flag(name: [.customShort("f"), .customLong("follow")], help: "Go on with what is written from now on.") var follow = false
    @Option(name: [.customShort("n"), .long], help: ArgumentHelp("Only that many last lines.", valueName: "number|all")) var tail = "all"
    @Option(help: ArgumentHelp("From a time on (2026-01-31T12:00:00Z) or so long ago (10m).", valueName: "time")) var since: String?
    @Flag(name: [.customShort("t"), .long], help: "Show when each line was written.") var timestamps = false
    @Flag(help: "Show what the log driver knows besides.") var details = false

    func query(now: Timestamp) throws(ApusError) -> Query {
        guard tail == "all" || Int(tail).map({ $0 >= 0 }) == true else {
            throw ApusError(.invalidArgument, "--tail \(tail): it is a number of lines, or all")
        }
        var query: Query = ["stdout": "1", "stderr": "1"]
        query.add("follow", follow)
        query.add("tail", tail)
        query.add("since", try since.map { text throws(ApusError) in try TimeFlag.parse(text, now: now, flag: "--since") })
        query.add("timestamps", timestamps)
        return query
    }
}

/// `--since` and `--until`.
enum TimeFlag {
    /// Seconds of Unix time, from a time of day, such seconds, or a duration before now.
    static func parse(_ text: String, now: Timestamp, flag: String) throws(ApusError) -> String {
        let number = text.cut(at: ".")
        if let seconds = Int64(number.head), seconds >= 0, number.tail.map({ $0.utf8.allSatisfy { (48...57).contains($0) } }) ?? true { return text }
        if let time = time(text) { return seconds(time) }
        guard let duration = try? DurationText.parse(text) else {
            throw ApusError(
                .invalidArgument, "\(flag) \(text): write a time such as 2026-01-31T12:00:00Z, seconds of Unix time, or how long ago, such as 10m")
        }
        return seconds(Timestamp(nanoseconds: now.nanoseconds &- duration.nanoseconds))
    }

    private static func time(_ text: String) -> Timestamp? {
        for ending in ["", "Z", ":00Z", ":00:00Z", "T00:00:00Z"] {
            if let time = Timestamp(text + ending) { return time }
        }
        return nil
    }

    private static func seconds(_ time: Timestamp) -> String { ByteSize.fixed(max(0, time.nanoseconds), per: 1_000_000_000, places: 9) }
}

struct ServiceLogsCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "logs", abstract: "Show what the tasks of a service, or one task, write.")

    @OptionGroup var options: LogOptions
    @Flag(help: "Cut nothing short.") var noTrunc = false
    @Flag(help: "Show ids in place of names.") var noResolve = false
    @Flag(help: "Leave the ids of the tasks out.") var noTaskIds = false
    @Flag(help: "Show the lines as they are.") var raw = false
    @Argument(help: "Name or id of a service, or id of a task.") var target: String

    func run(with context: CommandContext) async throws {
        var query = try options.query(now: context.now())
        // The details say which task wrote a line.
        query.add("details", true)
        let (path, isTerminal) = try await find(context)
        let names = ServiceLogNames(
            tasks: raw ? [] : try await context.client.tasks(filters: path.filters),
            nodes: raw || noResolve ? [:] : try await context.nodeNames(), service: noResolve ? nil : path.name, noTrunc: noTrunc,
            noTaskIDs: noTaskIds)
        let printer = ServiceLogPrinter(
            console: context.console, names: names, isTerminal: isTerminal, isRaw: raw, hasTimestamps: options.timestamps,
            showsDetails: options.details)
        try await context.client.stream("GET", path.logs, query, onHead: { printer.begin($0) }) { chunk throws(ApusError) in try printer.take(chunk) }
        printer.finish()
    }

    private func find(_ context: CommandContext) async throws(ApusError) -> (
        (logs: String, filters: [String: [String]], name: String), isTerminal: Bool
    ) {
        do throws(ApusError) {
            let service = try await context.client.service(target)
            return (
                ("/services/\(service.id.text)/logs", ["service": [service.id.text]], service.spec.name),
                service.spec.task.container?.terminal ?? false
            )
        } catch  where error.code == .notFound {
            guard let task = try? await context.client.get("/tasks/\(target.pathComponent)") else {
                throw ApusError(.notFound, "there is no service and no task \(target)")
            }
            let found = try JSONFields.decode(Task.self, from: task, unknownFields: .ignore)
            let service = try await context.client.service(found.serviceID.text)
            return (("/tasks/\(found.id.text)/logs", ["id": [found.id.text]], service.spec.name), found.spec.container?.terminal ?? false)
        }
    }
}

extension CommandContext {
    /// Host names by id.
    func nodeNames() async throws(ApusError) -> [ID: String] {
        var names: [ID: String] = [:]
        for node in try await client.get("/nodes").array ?? [] { names[ID(node["ID"]?.string ?? "")] = node["Description"]?["Hostname"]?.string }
        return names
    }
}

/// Names in front of the lines of a service's log.
struct ServiceLogNames: Sendable {
    private var names: [String: String] = [:]
    private let nodes: [ID: String]
    private let width: Int

    init(tasks: [Task], nodes: [ID: String], service: String?, noTrunc: Bool, noTaskIDs: Bool) {
        self.nodes = nodes
        for task in tasks {
            let place = task.slot > 0 ? String(task.slot) : task.nodeID.text
            var name = "\(service ?? task.serviceID.text).\(place)"
            if !noTaskIDs { name += "." + (noTrunc ? task.id.text : task.id.short) }
            names[task.id.text] = "\(name)@\(nodes[task.nodeID] ?? task.nodeID.text)"
        }
        width = names.values.map(\.count).max() ?? 0
    }

    /// The name for the details of a line.
    func name(task: String, node: String) -> String {
        (names[task] ?? "\(task)@\(nodes[ID(node)] ?? node)").padded(to: width)
    }
}

/// Writes the lines of a service's log.
private final class ServiceLogPrinter: Sendable {
    private struct State {
        var reader: LogStreamReader
        var lines = LogLines()
    }

    private let console: any Console
    private let names: ServiceLogNames
    private let isRaw: Bool
    private let hasTimestamps: Bool
    private let showsDetails: Bool
    private let state: Mutex<State>

    init(console: any Console, names: ServiceLogNames, isTerminal: Bool, isRaw: Bool, hasTimestamps: Bool, showsDetails: Bool) {
        self.console = console
        self.names = names
        self.isRaw = isRaw
        self.hasTimestamps = hasTimestamps
        self.showsDetails = showsDetails
        state = Mutex(State(reader: LogStreamReader(isRaw: isTerminal)))
    }

    func begin(_ head: EngineResponse) { state.withLock { $0.reader.begin(head) } }

    func take(_ chunk: [UInt8]) throws(ApusError) {
        let lines = try state.withLock { state throws(ApusError) in
            var lines: [(LogOutput, String)] = []
            for piece in try state.reader.take(chunk) {
                lines += state.lines.take(piece.bytes, from: piece.output).map { (piece.output, $0) }
            }
            return lines
        }
        for (output, line) in lines { show(line, output) }
    }

    func finish() {
        for (output, line) in state.withLock({ $0.lines.finish() }) { show(line, output) }
    }

    private func show(_ line: String, _ output: LogOutput) {
        let parts = ServiceLogLine(line, hasTimestamp: hasTimestamps)
        var text = parts.time.map { $0 + " " } ?? ""
        if !isRaw, let task = parts.details["com.docker.swarm.task.id"] {
            text += names.name(task: task, node: parts.details["com.docker.swarm.node.id"] ?? "") + "    | "
        }
        if showsDetails {
            let rest = parts.details.filter { !$0.key.hasPrefix("com.docker.swarm.") }
            if !rest.isEmpty { text += ServiceText.labels(rest) + " " }
        }
        text += parts.message
        if output == .error { console.errorLine(text) } else { console.line(text) }
    }
}

/// A line of a service's log: a time if asked for, details, and what was written.
struct ServiceLogLine: Hashable {
    var time: String?
    var details: [String: String] = [:]
    var message: String

    init(_ line: String, hasTimestamp: Bool) {
        var rest = line
        if hasTimestamp {
            let (time, tail) = rest.cut(at: " ")
            self.time = time
            rest = tail ?? ""
        }
        let (head, tail) = rest.cut(at: " ")
        guard head.contains("="), head.contains("com.docker.swarm.") else {
            message = rest
            return
        }
        for entry in head.split(separator: ",") {
            let (key, value) = entry.cut(at: "=")
            details[Self.unescaped(key)] = Self.unescaped(value ?? "")
        }
        message = tail ?? ""
    }

    private static func unescaped(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == UInt8(ascii: "+") ? 32 : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
