import ArgumentParser
import Coding
import PluginAPI

struct RunCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Make a container of an image and start it.",
        usage: "apus run [<options>] <image> [<command> ...]",
        discussion: """
            Without -d its output is shown until it ends, and its exit code is returned. Standard input is not attached yet: \
            a container that reads it sees its end.
            """,
        helpNames: .long)

    @OptionGroup var options: ContainerOptions
    @Flag(name: [.customShort("d"), .long], help: "Leave it running, and show its id.") var detach = false
    @Flag(name: [.customShort("i"), .long], help: "Keep standard input open in the container; only with -d.") var interactive = false
    @Flag(name: .customLong("rm"), help: "Remove it when it has ended.") var removes = false
    @Flag(name: [.customShort("q"), .long], help: "Show no progress of the image.") var quiet = false
    @Option(help: ArgumentHelp("Write the id into a file that does not exist yet.", valueName: "file")) var cidfile: String?
    @Argument(help: "Image.") var image: String
    @Argument(parsing: .captureForPassthrough, help: "Command and its arguments.") var arguments: [String] = []

    func run(with context: CommandContext) async throws {
        guard detach || !interactive else {
            throw ApusError(.unimplemented, "-i without -d: standard input cannot be attached yet. Leave -i out, or run it in the background with -d")
        }
        let code: Int32
        do throws(ApusError) {
            code = try await start(context)
        } catch {
            context.console.errorLine("apus: \(error.message)")
            throw ExitCode(Self.failureCode(error))
        }
        if code != 0 { throw ExitCode(code) }
    }

    /// Returns the exit code of the container, or zero when it is left running.
    private func start(_ context: CommandContext) async throws(ApusError) -> Int32 {
        // In the foreground it is removed here, after the last of its output was read.
        let id = try await context.createContainer(
            options, image: image, arguments: arguments, opensInput: interactive, removes: removes && detach, quiet: quiet)
        if let cidfile { try LocalFile.create(cidfile, id) }
        try await context.client.post("/containers/\(id)/start")
        if detach {
            context.console.line(id)
            return 0
        }
        let code = try await context.followContainer(id, isTerminal: options.tty)
        if removes { await context.removeEnded(id) }
        return code
    }

    /// As shells do: 127 when the command does not exist, 126 when it cannot be run, 125 for everything of the engine.
    static func failureCode(_ error: ApusError) -> Int32 {
        let text = error.message.lowercased()
        if text.contains("no such file or directory") && text.contains("exec") || text.contains("executable file not found") { return 127 }
        return text.contains("exec") && text.contains("permission denied") ? 126 : 125
    }
}

struct ContainerCreateCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make a container without starting it.", usage: "apus create [<options>] <image> [<command> ...]",
        helpNames: .long)

    @OptionGroup var options: ContainerOptions
    @Flag(name: [.customShort("i"), .long], help: "Keep standard input open.") var interactive = false
    @Flag(name: .customLong("rm"), help: "Remove it when it has ended.") var removes = false
    @Flag(name: [.customShort("q"), .long], help: "Show no progress of the image.") var quiet = false
    @Argument(help: "Image.") var image: String
    @Argument(parsing: .captureForPassthrough, help: "Command and its arguments.") var arguments: [String] = []

    func run(with context: CommandContext) async throws {
        let id = try await context.createContainer(
            options, image: image, arguments: arguments, opensInput: interactive, removes: removes, quiet: quiet)
        context.console.line(id)
    }
}

extension CommandContext {
    /// Makes a container, after pulling its image if need be; returns its id.
    func createContainer(
        _ options: ContainerOptions, image: String, arguments: [String], opensInput: Bool, removes: Bool, quiet: Bool
    ) async throws(ApusError) -> String {
        guard ["missing", "always", "never"].contains(options.pull) else {
            throw ApusError(.invalidArgument, "--pull \(options.pull): it is missing, always or never")
        }
        var files: [String] = []
        for path in options.envFile { files.append(try LocalFile.text(path)) }
        let body = try options.body(
            image: image, arguments: arguments, opensInput: opensInput, removes: removes, environment: environment, files: files)
        var query: Query = [:]
        query.add("name", options.name)
        query.add("platform", options.platform)
        // What is said about the pull must not stand in front of the id on standard output.
        var aside = self
        aside.console = ErrorConsole(console: console)
        // Images of other runtimes, if they have any, are no registry's.
        let pulls = ["", "oci", "runc", "crun"].contains(options.runtime ?? "")
        guard pulls || options.pull != "always" else {
            throw ApusError(.invalidArgument, "--pull always: what the runtime \(options.runtime ?? "") takes for an image is not pulled")
        }
        if options.pull == "always" { try await aside.pull(image, platform: options.platform, quiet: quiet) }
        let answer: JSONValue
        do throws(ApusError) {
            answer = try await client.post("/containers/create", query, body: body)
        } catch  where error.code == .notFound && pulls && options.pull == "missing" && error.message.lowercased().contains("image") {
            if !quiet { aside.console.line("Unable to find image '\(image)' on this node: pulling it") }
            try await aside.pull(image, platform: options.platform, quiet: quiet)
            answer = try await client.post("/containers/create", query, body: body)
        }
        warn(answer)
        guard let id = answer["Id"]?.string else { throw ApusError(.corrupt, "the engine answered without the id of the container") }
        return id
    }

    /// Removes a container whose exit code matters more than that it could not be removed.
    func removeEnded(_ id: String) async {
        do throws(ApusError) {
            try await client.delete("/containers/\(id)", ["v": "1"])
        } catch {
            if error.code != .notFound { console.errorLine("apus: warning: the container was not removed: \(error.message)") }
        }
    }

    /// Shows the output of a container until it ends; returns its exit code. Ctrl-C goes to the container.
    func followContainer(_ id: String, isTerminal: Bool) async throws(ApusError) -> Int32 {
        let signals = SignalForwarder(client: client, id: id)
        do {
            return try await interrupts.handling({ signals.forward($0) }) {
                let printer = LogPrinter(console: console, isRaw: isTerminal)
                try await client.stream(
                    "GET", "/containers/\(id)/logs", ["stdout": "1", "stderr": "1", "follow": "1"], onHead: { printer.begin($0) }
                ) { chunk throws(ApusError) in
                    try printer.take(chunk)
                }
                let answer = try await client.post("/containers/\(id)/wait")
                await signals.finish()
                return Int32(truncatingIfNeeded: answer["StatusCode"]?.integer ?? 125)
            }
        } catch {
            throw ApusError(error)
        }
    }
}

/// Writes what is said on standard output to standard error.
private struct ErrorConsole: Console {
    let console: any Console
    func write(_ bytes: [UInt8]) { console.writeError(bytes) }
    func writeError(_ bytes: [UInt8]) { console.writeError(bytes) }
    var isTerminal: Bool { false }
    var columns: Int { console.columns }
}
