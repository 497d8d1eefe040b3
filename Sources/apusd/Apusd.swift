import ArgumentParser
import CLinux
import Engine
import Glibc
import Logging
import PluginAPI
import Processes

/// The engine's program.
@main
struct Apusd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apusd", abstract: "Runs containers, and swarms of engines that keep services running.",
        version: "Apus \(EngineConfiguration.version)", subcommands: [Run.self, Clean.self, Recover.self], defaultSubcommand: Run.self)

    /// Some preloaded libraries (Debian's libfaketime) leave a Swift program without its arguments; an engine with all defaults would be another one
    /// than the one that was asked for.
    static func main() async {
        guard !CommandLine.arguments.isEmpty else {
            let message = "apusd: the arguments of this process cannot be read: is a library preloaded (LD_PRELOAD) that hides them?\n"
            _ = message.withCString { write(STDERR_FILENO, $0, strlen($0)) }
            _exit(EX_OSERR)
        }
        await main(nil)
    }
}

/// Options that say where an engine keeps its things.
struct RootOptions: ParsableArguments {
    @Option(help: "Folder of what survives a reboot.")
    var dataRoot = EngineConfiguration().dataRoot

    @Option(help: "Folder of what does not survive a reboot.")
    var execRoot = EngineConfiguration().execRoot

    @Option(help: ArgumentHelp("Folder of the default plugins; otherwise ../lib/apus/plugins from the program.", valueName: "directory"))
    var defaultPluginDir = ""

    @Option(help: ArgumentHelp("A further folder of drop-in plugins; can be given several times.", valueName: "directory"))
    var pluginDir: [String] = []

    @Option(help: ArgumentHelp("A setting of a plugin; can be given several times.", valueName: "role/name:key=value"))
    var pluginOpt: [String] = []

    @Flag(name: [.customShort("D"), .long], help: "Log every request and decision.")
    var debug = false

    func configuration() throws -> EngineConfiguration {
        var configuration = EngineConfiguration()
        configuration.dataRoot = try Self.absolute(dataRoot, "--data-root")
        configuration.execRoot = try Self.absolute(execRoot, "--exec-root")
        configuration.defaultPluginDirectory = defaultPluginDir.isEmpty ? "" : try Self.absolute(defaultPluginDir, "--default-plugin-dir")
        for directory in pluginDir { configuration.pluginDirectories.append(try Self.absolute(directory, "--plugin-dir")) }
        for option in pluginOpt {
            guard let colon = option.firstIndex(of: ":"), let equals = option[colon...].firstIndex(of: "=") else {
                throw ValidationError("--plugin-opt \(option) is not of the form role/name:key=value")
            }
            let plugin = String(option[..<colon])
            let key = String(option[option.index(after: colon)..<equals])
            configuration.pluginOptions[plugin, default: [:]][key] = String(option[option.index(after: equals)...])
        }
        configuration.debug = debug
        return configuration
    }

    private static func absolute(_ path: String, _ option: String) throws -> String {
        guard path.hasPrefix("/"), path != "/" else { throw ValidationError("\(option) \(path): an absolute path is needed") }
        return path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    func logger(_ level: Logger.Level = .info) -> Logger {
        var logger = Logger(label: "apusd") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = debug ? .debug : level
        return logger
    }
}

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the engine until SIGTERM or SIGINT; containers go on.")

    @OptionGroup var roots: RootOptions

    @Option(name: [.customShort("H"), .long], help: "A socket to listen on; can be given several times.")
    var host: [String] = []

    @Option(name: [.customShort("G"), .long], help: "The group that may use the socket.")
    var group = EngineConfiguration().group

    @Option(name: [.customShort("p"), .long], help: "Where to write the process number.")
    var pidfile = ""

    @Option(help: ArgumentHelp("A registry that is asked before docker.io; can be given several times.", valueName: "url"))
    var registryMirror: [String] = []

    @Option(help: ArgumentHelp("A registry that may be spoken to without a known certificate; can be given several times.", valueName: "host:port"))
    var insecureRegistry: [String] = []

    @Option(help: ArgumentHelp("A label of the engine; can be given several times.", valueName: "key=value"))
    var label: [String] = []

    @Option(help: ArgumentHelp("The network \"bridge\": the gateway's address and the length of the network.", valueName: "address/length"))
    var bip = ""

    func run() async throws {
        var configuration = try roots.configuration()
        if !host.isEmpty { configuration.hosts = host }
        configuration.group = group
        configuration.pidFile = pidfile
        configuration.registryMirrors = registryMirror
        configuration.insecureRegistries = insecureRegistry
        configuration.labels = label
        if !bip.isEmpty {
            guard let prefix = IPPrefix(bip), prefix.address.isIPv4, (8...30).contains(prefix.length) else {
                throw ValidationError("--bip \(bip) is not an address with a length, such as 172.30.0.1/16")
            }
            configuration.bridgeSubnet = prefix
        }
        try await Program.run(EngineServer(configuration: configuration, logger: roots.logger()))
    }
}

struct Clean: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove everything that an engine left: containers, images, volumes, networks, swarm. The engine must not run.")

    @OptionGroup var roots: RootOptions

    func run() async throws {
        try await EngineCleaner(configuration: roots.configuration(), logger: roots.logger(.warning)).run()
    }
}

struct Recover: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Give up the damaged end of the swarm's log. The engine must not run.",
        discussion: "An engine that finds its log damaged in the middle does not start, and prints this command with the index of the last entry that is whole."
    )

    @OptionGroup var roots: RootOptions

    @Option(help: ArgumentHelp("The last entry to keep.", valueName: "index"))
    var discardAfter: UInt64

    func run() throws {
        print(try EngineRecovery.discard(after: discardAfter, configuration: roots.configuration()))
    }
}

/// What a server's process needs around the server.
enum Program {
    /// Runs until a signal.
    static func run(_ server: EngineServer) async throws {
        // An engine is small and runs for months; what a burst of work took must not stay with it.
        apus_tune_allocator()
        Signals.take()
        signal(SIGPIPE, SIG_IGN)
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            group.addTask { await Signals.waitForEnd() }
            // The first that ends, ends the other: a signal ends the server, and a failure of the server is the program's.
            try await group.next()
            group.cancelAll()
            try await group.waitForAll()
        }
    }
}

/// SIGTERM and SIGINT as something to wait for.
enum Signals {
    /// An eventfd(2) that the handler writes to: the one thing that it may do.
    private static let descriptor = eventfd(0, Int32(EFD_CLOEXEC))

    /// From now on the two no longer end the process.
    static func take() {
        guard descriptor >= 0 else { return }
        for number in [SIGTERM, SIGINT] { signal(number) { _ in Signals.wake() } }
    }

    /// Returns at the first of the two, or when cancelled.
    static func waitForEnd() async {
        await withTaskCancellationHandler {
            await ReadinessPoller.shared.waitUntilReadable(descriptor)
        } onCancel: {
            wake()
        }
    }

    private static func wake() {
        var one: UInt64 = 1
        write(descriptor, &one, 8)
    }
}
