import Agent
import Files
import Glibc
import Logging
public import PluginAPI
import PluginHost

/// How an engine is to run; the options of `apusd`.
public struct EngineConfiguration: Sendable {
    /// The engine's own version.
    public static let version = "0.1.0"

    /// The compiler that built this, as plugins must have been built with it.
    public static var compiler: String {
        #if compiler(>=6.3.2)
            "6.3.2+"
        #elseif compiler(>=6.3.1)
            "6.3.1"
        #else
            "6.3"
        #endif
    }

    /// What survives a reboot.
    public var dataRoot = "/var/lib/apus"
    /// What does not; on a tmpfs.
    public var execRoot = "/run/apus"
    /// `unix:///path` each.
    public var hosts = ["unix:///run/apus.sock"]
    /// Holds the process number while the engine runs; empty: none.
    public var pidFile = ""
    /// The group that may use the socket; ignored when it does not exist and was not named by the user.
    public var group = "apus"
    public var debug = false
    /// Asked before docker.io.
    public var registryMirrors: [String] = []
    /// May be spoken to without, or with unknown, certificates.
    public var insecureRegistries: [String] = []
    /// `key=value` labels of the engine.
    public var labels: [String] = []
    /// Where the default plugins are; empty: `../lib/apus/plugins` from the program.
    public var defaultPluginDirectory = ""
    /// Drop-in folders, in the order in which they are searched.
    public var pluginDirectories: [String] = ["/usr/local/lib/apus/plugins"]
    /// `role/name` to its settings.
    public var pluginOptions: [String: [String: String]] = [:]
    /// The network `bridge` with its gateway; `nil`: chosen.
    public var bridgeSubnet: IPPrefix?
    /// The runtime plugin that containers run on.
    public var runtime = "oci"

    public init() {}
}

extension EngineConfiguration {
    func registry(logger: Logger) -> PluginRegistryConfiguration {
        var options = pluginOptions
        // Flags of dockerd that belong to a plugin here; an explicit --plugin-opt goes before.
        let runtimeName = "runtime/\(runtime)"
        let flags = ["registry-mirror": registryMirrors, "insecure-registry": insecureRegistries]
        for (key, values) in flags where !values.isEmpty && options[runtimeName]?[key] == nil {
            options[runtimeName, default: [:]][key] = values.joined(separator: ",")
        }
        return PluginRegistryConfiguration(
            defaultDirectory: defaultPluginDirectory.isEmpty ? Self.prefix + "/lib/apus/plugins" : defaultPluginDirectory,
            dropInDirectories: pluginDirectories, dataRoot: dataRoot, execRoot: execRoot, engineVersion: Self.version, options: options, logger: logger)
    }

    /// The folder above the program's own: `/usr/local` for `/usr/local/bin/apusd`.
    static var prefix: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        guard count > 0 else { return "/usr/local" }
        let program = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return Files.parent(Files.parent(program))
    }

    /// This node as the swarm sees it. `registry` tells its plugins.
    func describeNode(plugins registry: PluginRegistry?) -> NodeDescription {
        var plugins = ["host", "null"].map { EnginePlugin("Network", $0) } + [EnginePlugin("Volume", "local")]
        for identity in registry?.enabled ?? [] {
            plugins.append(identity.role == .network ? EnginePlugin("Network", identity.name) : EnginePlugin("apus.\(identity.role.rawValue)", identity.name))
        }
        var labels: [String: String] = [:]
        for label in self.labels {
            let halves = label.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            labels[halves[0]] = halves.count == 2 ? halves[1] : ""
        }
        return NodeDescriptionGatherer.gather(engineVersion: Self.version, plugins: plugins, labels: labels)
    }
}

extension EnginePlugin {
    fileprivate init(_ type: String, _ name: String) {
        self.init()
        self.type = type
        self.name = name
    }
}
