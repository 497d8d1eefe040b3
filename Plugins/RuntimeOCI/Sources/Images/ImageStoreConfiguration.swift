import Glibc
import PluginAPI

/// Where images are kept, how they are fetched, and what is refused.
package struct ImageStoreConfiguration: Sendable {
    /// The store's own folder.
    package var directory: String
    /// The program that unpacks a layer.
    package var unpackPath: String
    /// URLs of registries that are asked first for what is on docker.io.
    package var mirrors: [String] = []
    /// Where docker.io is.
    package var hub = "https://registry-1.docker.io"
    /// `host`, `host:port` or an IPv4 network `10.0.0.0/8`: certificates are not checked, and plain HTTP is tried after HTTPS. Loopback addresses always are.
    package var insecureRegistries: [String] = []
    /// `<directory>/<host:port>/ca.crt`, `client.cert` and `client.key`, as Docker has it in /etc/docker/certs.d.
    package var certificateDirectory = "/etc/apus/certs.d"
    package var parallelDownloads = 3
    /// Of one layer.
    package var maximumEntries = 1_000_000
    /// Of one layer, unpacked.
    package var maximumBytes: Int64 = 64 << 30
    /// Unpacked to compressed.
    package var maximumRatio: Int64 = 500
    /// Layers of less than this, unpacked, may have any ratio: zeros shrink well, and little of them harms nobody.
    package var ratioFloor: Int64 = 256 << 20
    package var connectTimeout: Duration = .seconds(5)
    /// How long a registry may be silent.
    package var stallTimeout: Duration = .seconds(30)
    /// Whether a layer must be on disk before its image is there; off for tests and throw-away machines.
    package var isDurable = true
    package var log: @Sendable (LogLevel, String) -> Void = { _, _ in }

    package init(directory: String, unpackPath: String = ImageStoreConfiguration.defaultUnpackPath) {
        self.directory = directory
        self.unpackPath = unpackPath
    }

    /// Reads `registry-mirror`, `insecure-registry` (lists, separated by commas), `unpack-path`, `certificate-directory`,
    /// `maximum-layer-bytes`, `maximum-layer-entries` and `maximum-layer-ratio`.
    /// - Throws: `invalidArgument` for a mirror that is no URL or a limit that is no number.
    package init(host: any HostServices) throws(ApusError) {
        let options = host.configuration
        self.init(directory: host.stateDirectory + "/images")
        if let path = options["unpack-path"] { unpackPath = path }
        if let path = options["certificate-directory"] { certificateDirectory = path }
        mirrors = Self.list(options["registry-mirror"])
        insecureRegistries = Self.list(options["insecure-registry"])
        for mirror in mirrors where RegistryAddress(url: mirror) == nil {
            throw ApusError(.invalidArgument, "the registry mirror \"\(mirror)\" is not a URL such as http://127.0.0.1:5000")
        }
        maximumBytes = try Self.number(options, "maximum-layer-bytes") ?? maximumBytes
        maximumEntries = try Self.number(options, "maximum-layer-entries").map { Int($0) } ?? maximumEntries
        maximumRatio = try Self.number(options, "maximum-layer-ratio") ?? maximumRatio
        log = { level, message in host.log(level, message) }
    }

    private static func list(_ text: String?) -> [String] {
        (text ?? "").split(separator: ",").map { $0.filter { $0 != " " } }.filter { !$0.isEmpty }
    }

    private static func number(_ options: [String: String], _ name: String) throws(ApusError) -> Int64? {
        guard let text = options[name] else { return nil }
        guard let value = Int64(text), value > 0 else {
            throw ApusError(.invalidArgument, "\(name) is \"\(text)\"; it must be a whole number above zero")
        }
        return value
    }

    /// Beside the engine as it is installed, or as it is built.
    package static let defaultUnpackPath: String = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { bytes in bytes.baseAddress.map { readlink("/proc/self/exe", $0, bytes.count) } ?? 0 }
        let program = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        let folder = program.lastIndex(of: "/").map { String(program[..<$0]) } ?? "."
        let installed = folder + "/../libexec/apus/apus-unpack"
        let built = folder + "/apus-unpack"
        return access(installed, X_OK) != 0 && access(built, X_OK) == 0 ? built : installed
    }()
}
