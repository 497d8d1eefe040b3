import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Synchronization

@testable import RuntimeOCI

/// A folder that is gone after the test.
final class ImagesFolder: Sendable {
    let path: String

    init() throws { path = try Files.makeTemporaryDirectory(prefix: "apus-images") }

    deinit { try? Files.removeTree(path) }

    func store(_ change: (inout ImageStoreConfiguration) -> Void = { _ in }) throws -> ImageStore {
        var configuration = ImageStoreConfiguration(directory: "\(path)/images")
        configuration.certificateDirectory = "\(path)/certificates"
        configuration.isDurable = false
        configuration.connectTimeout = .seconds(2)
        configuration.stallTimeout = .seconds(5)
        change(&configuration)
        return try ImageStore(configuration: configuration)
    }

    /// Everything that the store holds: nothing of a pull that failed may be among it.
    func contents() throws -> [String] {
        try ["blobs/sha256", "l", "partial"].flatMap { part in try Files.list("\(path)/images/\(part)").map { "\(part)/\($0)" } }.sorted()
    }
}

/// Text in another form of compression, by programs of the system.
func compressed(_ bytes: [UInt8], with program: String, _ arguments: [String] = []) async throws -> [UInt8] {
    try await Processes.run(ProcessRequest(program, arguments), input: bytes, outputLimit: 256 << 20).output
}

/// An image made by a test.
struct TestImage {
    var layers: [[UInt8]]
    /// The tars, decompressed.
    var plainLayers: [[UInt8]]
    var configuration: [UInt8]
    var manifest: [UInt8]
    var mediaType: String

    var id: String { ContentDigest(of: configuration).description }
    var digest: ContentDigest { ContentDigest(of: manifest) }

    static let ociManifest = ManifestParser.imageTypes[0]
    static let dockerManifest = ManifestParser.imageTypes[1]

    /// - Parameter change: the last word on the manifest.
    init(
        layers plain: [[UInt8]], compressed layers: [[UInt8]]? = nil, layerType: String = "application/vnd.oci.image.layer.v1.tar",
        mediaType: String = TestImage.ociManifest, architecture: String = ImagePlatform.current.architecture, command: [String] = ["sh"],
        differences: [String]? = nil, change: (inout JSONValue) -> Void = { _ in }
    ) {
        let layers = layers ?? plain
        let differences = differences ?? plain.map { ContentDigest(of: $0).description }
        let configuration: JSONValue = [
            "architecture": .string(architecture), "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": ["Cmd": JSONValue(command), "Env": ["A=b"]],
            "rootfs": ["type": "layers", "diff_ids": JSONValue(differences)],
        ]
        self.plainLayers = plain
        self.layers = layers
        self.configuration = configuration.bytes()
        self.mediaType = mediaType
        var manifest: JSONValue = [
            "schemaVersion": 2, "mediaType": .string(mediaType),
            "config": Self.descriptor(
                self.configuration,
                mediaType == Self.ociManifest ? "application/vnd.oci.image.config.v1+json" : "application/vnd.docker.container.image.v1+json"),
            "layers": .array(layers.map { Self.descriptor($0, layerType) }),
        ]
        change(&manifest)
        self.manifest = manifest.bytes()
    }

    static func descriptor(_ bytes: [UInt8], _ type: String) -> JSONValue {
        ["mediaType": .string(type), "digest": .string(ContentDigest(of: bytes).description), "size": .integer(Int64(bytes.count))]
    }

    /// One file, whose text makes the image another one.
    static func small(_ text: String, mediaType: String = TestImage.ociManifest, architecture: String = ImagePlatform.current.architecture)
        -> TestImage
    {
        var tar = TestTar()
        tar.folder("etc")
        tar.file("etc/text", text)
        return TestImage(layers: [tar.finished()], mediaType: mediaType, architecture: architecture)
    }

    /// As `docker save` writes it.
    func saved(_ reference: String?) -> [UInt8] {
        var tar = TestTar()
        var paths: [String] = []
        for (index, layer) in layers.enumerated() {
            let path = "layer\(index)/layer.tar"
            tar.add(.init(name: path, content: layer))
            paths.append(path)
        }
        tar.add(.init(name: "config.json", content: configuration))
        let manifest: JSONValue = [["Config": "config.json", "RepoTags": reference.map { [.string($0)] } ?? .null, "Layers": JSONValue(paths)]]
        tar.add(.init(name: "manifest.json", content: manifest.bytes()))
        return tar.finished()
    }
}

/// A registry whose answers a test can bend: what `bend` answers itself is not answered again.
final class FakeRegistry: Sendable {
    private struct Content {
        var manifests: [String: (type: String, bytes: [UInt8])] = [:]
        var blobs: [String: [UInt8]] = [:]
    }

    let server: ScriptedServer
    private let box: ContentBox

    /// - Parameter bend: true when it has dealt with the request.
    init(_ bend: @escaping @Sendable (ScriptedServer.Request, ScriptedServer.Connection) -> Bool = { _, _ in false }) {
        let box = ContentBox()
        self.box = box
        server = ScriptedServer { request, connection in
            if bend(request, connection) { return }
            box.answer(request, connection)
        }
    }

    private final class ContentBox: Sendable {
        let content = Mutex(Content())

        func answer(_ request: ScriptedServer.Request, _ connection: ScriptedServer.Connection) {
            let name = String(request.path.split(separator: "/").last ?? "")
            if request.path.contains("/manifests/"), let manifest = content.withLock({ $0.manifests[request.path] }) {
                return connection.answer(200, ["Content-Type": manifest.type], manifest.bytes)
            }
            if request.path.contains("/blobs/"), let blob = content.withLock({ $0.blobs[name] }) {
                if let range = request.headers["range"], range.hasPrefix("bytes="), let start = Int(range.dropFirst(6).dropLast()), start < blob.count {
                    return connection.answer(206, ["Content-Range": "bytes \(start)-\(blob.count - 1)/\(blob.count)"], Array(blob[start...]))
                }
                return connection.answer(200, ["Content-Type": "application/octet-stream"], blob)
            }
            connection.answer(404, ["Content-Type": "application/json"], Array("{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}".utf8))
        }
    }

    var host: String { "127.0.0.1:\(server.port)" }
    var requests: [ScriptedServer.Request] { server.requests }
    func stop() { server.stop() }

    func put(_ image: TestImage, _ repository: String, tag: String = "latest") {
        put(manifest: image.manifest, image.mediaType, repository, tag: tag)
        for blob in image.layers + [image.configuration] { put(blob: blob) }
    }

    func put(manifest: [UInt8], _ type: String, _ repository: String, tag: String) {
        box.content.withLock { content in
            for name in [tag, ContentDigest(of: manifest).description] { content.manifests["/v2/\(repository)/manifests/\(name)"] = (type, manifest) }
        }
    }

    func put(blob: [UInt8], as digest: String? = nil) {
        box.content.withLock { $0.blobs[digest ?? ContentDigest(of: blob).description] = blob }
    }
}

/// The error of an operation that must fail.
func failure<Value>(_ body: () async throws -> Value) async -> ApusError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return ApusError(error)
    }
}
