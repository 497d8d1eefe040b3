import ArgumentParser
import Coding
import Glibc
import PluginAPI

struct LoginCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "login", abstract: "Keep the credentials of a registry.",
        discussion: "They are kept in ~/.docker/config.json (or in DOCKER_CONFIG), readable by you alone but not encrypted.")

    @Option(name: [.customShort("u"), .long], help: "Name of the user.") var username: String?
    @Option(name: [.customShort("p"), .long], parsing: .unconditional, help: "Password or token; others can see it in the list of processes.")
    var password: String?
    @Flag(help: "Read the password from standard input.") var passwordStdin = false
    @Argument(help: "The registry, such as registry.example.com:5000; Docker Hub without it.") var server: String?

    func run(with context: CommandContext) async throws {
        guard !(passwordStdin && password != nil) else { throw ApusError(.invalidArgument, "--password and --password-stdin do not go together") }
        let name = try user(context)
        let secret = try secret(context)
        let key = RegistryCredentials.key(server ?? "")
        let known = try RegistryCredentials.load(context.environment)
        try await check(name, secret, key, context)
        let changed = known.setting(registry: server ?? "", name: name, password: secret)
        try changed.save()
        context.console.line("Login succeeded: the credentials of \(key) are in \(changed.path).")
    }

    private func user(_ context: CommandContext) throws(ApusError) -> String {
        var name = username ?? ""
        if username == nil { name = try Prompt.read("Username: ", isHidden: false, console: context.console) }
        guard !name.isEmpty, !name.contains(":") else { throw ApusError(.invalidArgument, "--username: it is empty or has a colon") }
        return name
    }

    private func secret(_ context: CommandContext) throws(ApusError) -> String {
        var text = password ?? ""
        if passwordStdin {
            text = String(String(decoding: try LocalFile.bytes(of: 0, named: "standard input"), as: UTF8.self).prefix { !$0.isNewline })
        } else if password == nil {
            text = try Prompt.read("Password: ", isHidden: true, console: context.console)
        }
        guard !text.isEmpty else { throw ApusError(.invalidArgument, "the password is empty") }
        return text
    }

    /// Has the engine try the credentials.
    private func check(_ name: String, _ secret: String, _ key: String, _ context: CommandContext) async throws(ApusError) {
        do throws(ApusError) {
            try await context.client.post("/auth", body: ["username": .string(name), "password": .string(secret), "serveraddress": .string(key)])
        } catch {
            guard error.code == .unimplemented else { throw error }
            context.console.errorLine("apus: warning: the engine cannot check credentials; they are kept unchecked")
        }
    }
}

struct LogoutCommand: EngineCommand {
    static let configuration = CommandConfiguration(commandName: "logout", abstract: "Forget the credentials of a registry.")

    @Argument(help: "The registry; Docker Hub without it.") var server: String?

    func run(with context: CommandContext) async throws {
        var credentials = try RegistryCredentials.load(context.environment)
        let key = RegistryCredentials.key(server ?? "")
        guard credentials.remove(registry: server ?? "") else {
            context.console.line("There are no credentials of \(key).")
            return
        }
        try credentials.save()
        context.console.line("The credentials of \(key) are forgotten.")
    }
}

/// Questions to the user.
enum Prompt {
    /// One line of the terminal; a hidden one is not shown while it is written.
    static func read(_ question: String, isHidden: Bool, console: any Console) throws(ApusError) -> String {
        guard isatty(0) == 1 else {
            throw ApusError(.invalidArgument, "standard input is no terminal: give --username, and the password with --password-stdin")
        }
        console.writeError(Array(question.utf8))
        guard isHidden else { return readLine() ?? "" }
        let shown = silenced()
        let line = readLine() ?? ""
        if var shown { tcsetattr(0, TCSANOW, &shown) }
        console.errorLine("")
        return line
    }

    /// A hidden line of the terminal, or the first line of standard input when that is none.
    static func secret(_ question: String, console: any Console) throws(ApusError) -> String {
        guard isatty(0) == 1 else {
            return String(String(decoding: try LocalFile.bytes(of: 0, named: "standard input"), as: UTF8.self).prefix { !$0.isNewline })
        }
        return try read(question, isHidden: true, console: console)
    }

    /// Turns the echo off; returns the settings before, or `nil` when they cannot be had.
    private static func silenced() -> termios? {
        var settings = termios()
        guard tcgetattr(0, &settings) == 0 else { return nil }
        let shown = settings
        settings.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(0, TCSANOW, &settings)
        return shown
    }
}
