import Coding
import Glibc
import PluginAPI

/// Names and passwords of registries in `~/.docker/config.json`, in the form that other programs of this kind read and write.
///
/// The file has more than credentials; what this program does not know stays as it is.
struct RegistryCredentials {
    /// Where Docker Hub's are kept.
    static let hub = "https://index.docker.io/v1/"

    private var content: JSONValue
    let path: String

    init(content: JSONValue, path: String) {
        self.content = content
        self.path = path
    }

    /// A missing file is an empty one.
    static func load(_ environment: [String: String]) throws(ApusError) -> RegistryCredentials {
        let folder = environment["DOCKER_CONFIG"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(environment["HOME"] ?? "/root")/.docker"
        let path = folder + "/config.json"
        let bytes: [UInt8]
        do throws(ApusError) {
            bytes = try LocalFile.bytes(path)
        } catch  where error.code == .notFound {
            return RegistryCredentials(content: [:], path: path)
        }
        do throws(ApusError) {
            return RegistryCredentials(content: bytes.isEmpty ? [:] : try JSONValue.parse(bytes), path: path)
        } catch {
            throw error.during(path)
        }
    }

    /// The key in the file for a registry as users name it.
    static func key(_ registry: String) -> String {
        var name = registry
        for scheme in ["https://", "http://"] where name.hasPrefix(scheme) { name.removeFirst(scheme.count) }
        name = name.cut(at: "/").head
        return ["", "docker.io", "index.docker.io", "registry-1.docker.io"].contains(name) ? hub : name
    }

    /// Name and password.
    func credentials(registry: String) -> (name: String, password: String)? {
        let key = Self.key(registry)
        let entries = content["auths"]?.object ?? [:]
        let entry = entries[key] ?? entries["https://\(key)"] ?? entries["http://\(key)"] ?? entries["https://\(key)/v1/"]
        guard let text = entry?["auth"]?.string, let bytes = Base64.decode(text) else { return nil }
        let (name, password) = String(decoding: bytes, as: UTF8.self).cut(at: ":")
        guard let password, !name.isEmpty else { return nil }
        return (name, password)
    }

    /// The same with those of one registry.
    func setting(registry: String, name: String, password: String) -> RegistryCredentials {
        var entries = content["auths"] ?? [:]
        entries[Self.key(registry)] = ["auth": .string(Base64.encode(Array("\(name):\(password)".utf8)))]
        var changed = self
        changed.content["auths"] = entries
        return changed
    }

    /// Whether there was something to remove.
    mutating func remove(registry: String) -> Bool {
        guard var entries = content["auths"], entries[Self.key(registry)] != nil else { return false }
        entries[Self.key(registry)] = nil
        content["auths"] = entries
        return true
    }

    /// The header for an image, or nothing when there are no credentials for its registry.
    func headers(image: String) -> [String: String] {
        let registry = ImageReference.registry(image)
        guard let (name, password) = credentials(registry: registry) else { return [:] }
        return ["X-Registry-Auth": Self.header(name: name, password: password, server: Self.key(registry))]
    }

    /// JSON in the URL form of base 64.
    static func header(name: String, password: String, server: String) -> String {
        let json: JSONValue = ["username": .string(name), "password": .string(password), "serveraddress": .string(server)]
        return String(
            Base64.encode(json.bytes()).map { character in
                character == "+" ? "-" : character == "/" ? "_" : character
            })
    }

    /// Writes the file for its owner alone: a new one takes the place of the old, so that a crash leaves one of them.
    func save() throws(ApusError) {
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        if mkdir(folder, 0o700) != 0, errno != EEXIST { throw Self.failure(folder) }
        let temporary = "\(path).\(getpid())"
        let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Self.failure(temporary) }
        var rest = (content.bytes(pretty: true) + [0x0a])[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            rest = rest.dropFirst(count)
        }
        let isWritten = rest.isEmpty && fsync(descriptor) == 0
        close(descriptor)
        guard isWritten, rename(temporary, path) == 0 else {
            let error = Self.failure(path)
            unlink(temporary)
            throw error
        }
    }

    private static func failure(_ path: String) -> ApusError { ApusError(.failed, "\(path) cannot be written: \(String(cString: strerror(errno)))") }
}
