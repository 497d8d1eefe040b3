import ArgumentParser
import Glibc
import PluginAPI

/// The `apus` program.
public enum CommandLineTool {
    /// The version of Apus.
    public static let version = "0.1.0"

    /// Runs the program and returns its exit code.
    ///
    /// - Parameter arguments: without the name of the program.
    public static func run(arguments: [String]) async -> Int32 {
        let console = SystemConsole()
        let environment = processEnvironment()
        let globals: GlobalArguments
        let connection: HTTPEngineConnection
        do throws(ApusError) {
            globals = try GlobalArguments(arguments, environment: environment)
            connection = HTTPEngineConnection(host: globals.host, tls: globals.tls)
        } catch {
            console.errorLine("apus: \(error.message)")
            return 125
        }
        let context = CommandContext(
            client: EngineClient(connection: connection), console: console, environment: environment, now: { CommandContext.systemTime },
            sleep: { try await ConcurrentTask.sleep(for: $0) }, secret: { (question) throws(ApusError) in try Prompt.secret(question, console: console) },
            interrupts: SignalInterrupts())
        return await run(globals.rest, in: context)
    }

    /// Runs a command with its arguments.
    static func run(_ arguments: [String], in context: CommandContext) async -> Int32 {
        do {
            if let name = arguments.first, !name.hasPrefix("-"), !Apus.commandNames.contains(name) {
                context.console.errorLine("apus: \"\(name.printable)\" is not a command; `apus --help` lists the commands")
                return 125
            }
            let arguments = BooleanArguments.rewritten(arguments)
            var command = try Apus.parseAsRoot(arguments)
            try await CommandContext.$current.withValue(context) {
                if var command = command as? any AsyncParsableCommand {
                    try await command.run()
                } else {
                    try command.run()
                }
            }
            return 0
        } catch let code as ExitCode {
            return code.rawValue
        } catch let error as ApusError {
            context.console.errorLine("apus: \(error.message)")
            return 1
        } catch {
            return show(error, context.console)
        }
    }

    /// Help goes to standard output; a mistake in the arguments goes to standard error.
    private static func show(_ error: any Error, _ console: any Console) -> Int32 {
        let code = Apus.exitCode(for: error)
        let text = Apus.fullMessage(for: error)
        if code == .success {
            if !text.isEmpty { console.line(text) }
            return 0
        }
        let message = text.hasPrefix("Error: ") ? "apus: " + text.dropFirst(7) : text
        if !message.isEmpty { console.errorLine(message) }
        return code == .validationFailure ? 125 : code.rawValue
    }

    private static func processEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee {
            let (name, value) = String(cString: text).cut(at: "=")
            result[name] = value ?? ""
            entry += 1
        }
        return result
    }
}

/// What stands before the first command: where the engine is.
struct GlobalArguments {
    var host: EngineHost
    var tls: EngineTLS?
    /// Everything else.
    var rest: [String]

    init(_ arguments: [String], environment: [String: String]) throws(ApusError) {
        var hostText = [environment["APUS_HOST"], environment["DOCKER_HOST"]].compactMap { $0 }.first { !$0.isEmpty }
        var files = EngineTLS()
        var verifies = !(environment["DOCKER_TLS_VERIFY"] ?? "").isEmpty
        if let folder = [environment["APUS_CERT_PATH"], environment["DOCKER_CERT_PATH"]].compactMap({ $0 }).first(where: { !$0.isEmpty }) {
            files = EngineTLS(authorityFile: folder + "/ca.pem", certificateFile: folder + "/cert.pem", keyFile: folder + "/key.pem")
        }
        var remaining = arguments[...]
        while let argument = remaining.first, argument.hasPrefix("-") {
            let (name, attached) = argument.hasPrefix("--") ? argument.cut(at: "=") : (argument, nil)
            func value() throws(ApusError) -> String {
                if let attached { return attached }
                remaining.removeFirst()
                guard let next = remaining.first else { throw ApusError(.invalidArgument, "\(name) needs a value") }
                return next
            }
            switch name {
            case "-H", "--host": hostText = try value()
            case "--tlsverify", "--tls": verifies = attached != "false"
            case "--tlscacert": (files.authorityFile, verifies) = (try value(), true)
            case "--tlscert": (files.certificateFile, verifies) = (try value(), true)
            case "--tlskey": (files.keyFile, verifies) = (try value(), true)
            default:
                // `-Hunix:///…` too.
                guard argument.hasPrefix("-H"), argument.count > 2 else {
                    self = Self(
                        host: try hostText.map { text throws(ApusError) in try EngineHost(text) } ?? .standard, tls: verifies ? files : nil,
                        rest: Array(remaining))
                    return
                }
                hostText = String(argument.dropFirst(2))
            }
            remaining.removeFirst()
        }
        let host = try hostText.map { text throws(ApusError) in try EngineHost(text) } ?? .standard
        self = Self(host: host, tls: verifies ? files : nil, rest: Array(remaining))
    }

    private init(host: EngineHost, tls: EngineTLS?, rest: [String]) {
        self.host = host
        self.tls = tls
        self.rest = rest
    }
}
