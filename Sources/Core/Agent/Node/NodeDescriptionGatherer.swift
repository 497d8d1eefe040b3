import Files
import Glibc
public import PluginAPI

/// What this machine is, for the node object.
public enum NodeDescriptionGatherer {
    /// Blocks for a moment: it reads a few small files.
    public static func gather(engineVersion: String, plugins: [EnginePlugin], labels: [String: String] = [:]) -> NodeDescription {
        var description = NodeDescription()
        description.hostname = hostname()
        description.platform.architecture = architecture()
        description.platform.os = "linux"
        description.resources.nanoCPUs = Int64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) * 1_000_000_000
        description.resources.memoryBytes = memoryBytes((try? Files.readText("/proc/meminfo")) ?? "")
        description.engine.engineVersion = engineVersion
        description.engine.labels = labels
        description.engine.plugins = plugins.sorted { ($0.type, $0.name) < ($1.type, $1.name) }
        return description
    }

    /// The machine's name.
    public static func hostname() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `x86_64`, `aarch64` and so on, as uname(2) has it.
    static func architecture() -> String {
        var name = utsname()
        guard uname(&name) == 0 else { return "" }
        return withUnsafeBytes(of: &name.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Of `/proc/meminfo`.
    static func memoryBytes(_ text: String) -> Int64 {
        for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix("MemTotal:") {
            let words = line.split(separator: " ")
            return (words.count > 1 ? Int64(words[1]) ?? 0 : 0) * 1024
        }
        return 0
    }
}
