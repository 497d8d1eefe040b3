import Coding
import Files
import Glibc
import PluginAPI
import Synchronization
import Testing

@testable import RuntimeOCI

/// Registries that answer wrongly: a clear error, and nothing is left behind.
@Suite("Images: hostile registries")
struct ImagesHostileTests {
    /// Pulls `x` from a bent registry that has a good image, and expects a failure that leaves nothing.
    private func refused(
        _ image: TestImage = TestImage.small("hostile"), _ bend: @escaping @Sendable (ScriptedServer.Request, ScriptedServer.Connection) -> Bool,
        change: (FakeRegistry) -> Void = { _ in }, configure: (inout ImageStoreConfiguration) -> Void = { _ in },
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> ApusError {
        let folder = try ImagesFolder()
        let registry = FakeRegistry(bend)
        defer { registry.stop() }
        registry.put(image, "x")
        change(registry)
        let store = try folder.store(configure)
        let error = await failure { try await store.pull(PullRequest(reference: "\(registry.host)/x")) }
        #expect(try folder.contents() == [], sourceLocation: sourceLocation)
        #expect(store.images().isEmpty, sourceLocation: sourceLocation)
        let found = try #require(error, "the pull must fail", sourceLocation: sourceLocation)
        #expect(found.message.contains("cannot be pulled"), sourceLocation: sourceLocation)
        return found
    }

    private static func isManifest(_ request: ScriptedServer.Request) -> Bool { request.path.contains("/manifests/") }
    private static func isBlob(_ request: ScriptedServer.Request) -> Bool { request.path.contains("/blobs/") }

    @Test(
        "manifests that are none",
        arguments: [
            ("text/html", "<html>hotel wifi</html>", "text/html"),
            ("application/json", "{", "no JSON"),
            ("application/vnd.oci.image.manifest.v1+json", "[1]", "not an object"),
            ("application/vnd.oci.image.manifest.v1+json", "{\"schemaVersion\":2}", "no config"),
            ("application/vnd.oci.image.manifest.v1+json", "{\"schemaVersion\":3,\"config\":{}}", "schemaVersion"),
            (
                "application/vnd.oci.image.manifest.v1+json",
                "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../../etc\",\"size\":1},\"layers\":[]}", "digest"
            ),
            (
                "application/vnd.oci.image.manifest.v1+json", "{\"schemaVersion\":2,\"config\":{\"digest\":\"md5:00\",\"size\":1},\"layers\":[]}",
                "digest"
            ),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{\"schemaVersion\":1}", "schema 1"),
            ("application/vnd.oci.image.index.v1+json", "{\"schemaVersion\":2,\"manifests\":[]}", "no image for"),
            (
                "application/vnd.oci.image.index.v1+json", "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"}",
                "says that it is"
            ),
        ])
    func wrongManifest(type: String, text: String, words: String) async throws {
        let error = try await refused { request, connection in
            guard Self.isManifest(request) else { return false }
            connection.answer(200, ["Content-Type": type], Array(text.utf8))
            return true
        }
        #expect(error.message.contains(words), "\(error.message)")
    }

    @Test("an artifact that is no image")
    func artifact() async throws {
        let image = TestImage(layers: []) { manifest in
            manifest["config"]?["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        }
        let error = try await refused(image, { _, _ in false })
        #expect(error.message.contains("no container image"))
    }

    @Test("a manifest whose digest is not what the registry says")
    func manifestDigest() async throws {
        let error = try await refused { request, connection in
            guard Self.isManifest(request) else { return false }
            let image = TestImage.small("other")
            connection.answer(
                200, ["Content-Type": image.mediaType, "Docker-Content-Digest": "sha256:" + String(repeating: "0", count: 64)], image.manifest)
            return true
        }
        #expect(error.code == .corrupt)
        #expect(error.message.contains("digest"))
    }

    @Test("blobs with the right size and the wrong digest")
    func wrongDigest() async throws {
        let made = TestImage.small("right")
        let error = try await refused(
            made, { _, _ in false },
            change: { registry in
                var wrong = made.layers[0]
                wrong[700] ^= 1
                registry.put(blob: wrong, as: ContentDigest(of: made.layers[0]).description)
            })
        #expect(error.code == .corrupt)
        #expect(error.message.contains("digest"))
        let configuration = try await refused(
            made, { _, _ in false },
            change: { registry in
                var wrong = made.configuration
                wrong[wrong.count - 1] = 32
                registry.put(blob: wrong, as: made.id)
            })
        #expect(configuration.code == .corrupt)
    }

    @Test("blobs that are longer or shorter than the manifest says")
    func wrongSize() async throws {
        let made = TestImage.small("right")
        let digest = ContentDigest(of: made.layers[0]).description
        for other in [made.layers[0] + [0], Array(made.layers[0].dropLast())] {
            let error = try await refused(made, { _, _ in false }, change: { $0.put(blob: other, as: digest) })
            #expect(error.code == .corrupt)
            #expect(error.message.contains("where the manifest says"))
        }
    }

    @Test("bodies without end: of a manifest, of a layer")
    func endless() async throws {
        for part in ["/manifests/", "/blobs/"] {
            let error = try await refused { request, connection in
                guard request.path.contains(part) else { return false }
                connection.write("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nTransfer-Encoding: chunked\r\n\r\n")
                let chunk = "10000\r\n" + String(repeating: "x", count: 65536) + "\r\n"
                while connection.write(chunk) {}
                connection.close()
                return true
            }
            #expect([.tooLarge, .corrupt].contains(error.code), "\(error.message)")
        }
    }

    @Test("redirects in a circle")
    func redirectLoop() async throws {
        let error = try await refused { request, connection in
            connection.answer(302, ["Location": request.path])
            return true
        }
        #expect(error.code == .corrupt)
    }

    @Test("a registry that says nothing, and one that drips")
    func slow() async throws {
        for isDripping in [false, true] {
            let error = try await refused(
                TestImage.small("slow"),
                { request, connection in
                    guard Self.isManifest(request) else { return false }
                    if isDripping {
                        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                        while connection.write("x") { usleep(20_000) }
                    } else {
                        connection.waitForEnd()
                    }
                    connection.close()
                    return true
                }, configure: { $0.stallTimeout = .milliseconds(200) })
            #expect(error.code == .timedOut, "\(error.message)")
        }
    }

    @Test("an image that lies about its layers")
    func lies() async throws {
        var tar = TestTar()
        tar.file("a", "a")
        let layer = tar.finished()
        let wrong = TestImage(layers: [layer], differences: ["sha256:" + String(repeating: "1", count: 64)])
        let error = try await refused(wrong, { _, _ in false })
        #expect(error.code == .corrupt)
        #expect(error.message.contains("when decompressed"))
        let few = try await refused(TestImage(layers: [layer], differences: []), { _, _ in false })
        #expect(few.message.contains("names 0 layers"))
        let many = TestImage(layers: [layer]) { manifest in
            manifest["layers"] = .array(Array(repeating: manifest["layers"]?[0] ?? .null, count: 200))
        }
        #expect(try await refused(many, { _, _ in false }).code == .tooLarge)
        let foreign = TestImage(layers: [layer], layerType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        #expect(try await refused(foreign, { _, _ in false }).message.contains("cannot be unpacked"))
    }

    @Test("a layer that leads out of the image, a bomb and plain garbage are refused, and nothing of the image is kept")
    func layers() async throws {
        var escape = TestTar()
        escape.file("../../escape", "x")
        var good = TestTar()
        good.file("good", "x")
        let error = try await refused(TestImage(layers: [good.finished(), escape.finished()]), { _, _ in false })
        #expect(error.code == .corrupt)
        #expect(error.message.contains("leads out of the image"))
        let garbage = try await refused(TestImage(layers: [Array("this is no archive".utf8)]), { _, _ in false })
        #expect(garbage.message.contains("no tar"))
        var bomb = TestTar()
        bomb.add(.init(name: "zeros", content: [UInt8](repeating: 0, count: 8 << 20)))
        let packed = try await compressed(bomb.finished(), with: "gzip", ["-c"])
        let image = TestImage(layers: [bomb.finished()], compressed: [packed], layerType: "application/vnd.oci.image.layer.v1.tar+gzip")
        let large = try await refused(image, { _, _ in false }, configure: { $0.maximumBytes = 4 << 20 })
        #expect(large.code == .tooLarge, "\(large.message)")
    }

    @Test("what is not there, and what is not allowed")
    func statuses() async throws {
        for (status, code) in [(404, ApusError.Code.notFound), (403, .permissionDenied), (401, .unauthenticated)] {
            let error = try await refused { _, connection in
                connection.answer(status)
                return true
            }
            #expect(error.code == code)
            #expect(error.message.contains("needs a login"))
        }
    }

    @Test("a server error that passes is tried again")
    func transient() async throws {
        let folder = try ImagesFolder()
        let failures = Mutex(2)
        let registry = FakeRegistry { _, connection in
            let isBad = failures.withLock { left in
                defer { left = max(0, left - 1) }
                return left > 0
            }
            if isBad { connection.answer(503, ["Retry-After": "0"]) }
            return isBad
        }
        defer { registry.stop() }
        registry.put(TestImage.small("again"), "x")
        let store = try folder.store()
        _ = try await store.pull(PullRequest(reference: "\(registry.host)/x"))
        #expect(registry.requests.count == 5)
    }

    // MARK: Authorization

    @Test("Basic: credentials are sent when asked for, and wrong ones are an error")
    func basic() async throws {
        let folder = try ImagesFolder()
        let right = "Basic " + Base64.encode(Array("user:pass word".utf8))
        let registry = FakeRegistry { request, connection in
            guard request.headers["authorization"] != right else { return false }
            connection.answer(401, ["WWW-Authenticate": "Basic realm=\"r\""])
            return true
        }
        defer { registry.stop() }
        registry.put(TestImage.small("basic"), "x")
        let store = try folder.store()
        var request = PullRequest(reference: "\(registry.host)/x")
        #expect(await failure { try await store.pull(request) }?.code == .unauthenticated)
        request.credentials = RegistryCredentials(username: "user", password: "wrong")
        #expect(await failure { try await store.pull(request) }?.code == .unauthenticated)
        request.credentials = RegistryCredentials(username: "user", password: "pass word")
        #expect(try await store.pull(request).configuration.command == ["sh"])
    }

    @Test("what a reference stands for, of one image and of several platforms, without fetching it")
    func distribution() async throws {
        let folder = try ImagesFolder()
        let registry = FakeRegistry()
        defer { registry.stop() }
        registry.put(TestImage.small("distribution"), "x")
        let store = try folder.store()
        let answer = try await store.distribution(PullRequest(reference: "\(registry.host)/x"))
        #expect(answer.digest.hasPrefix("sha256:") && answer.size > 0 && answer.mediaType.contains("manifest"))
        #expect(answer.platforms.map(\.os) == ["linux"])
        #expect(try await store.images().isEmpty)
        #expect(await failure { try await store.distribution(PullRequest(reference: "\(registry.host)/nothing")) }?.code == .notFound)
        let image = try await store.pull(PullRequest(reference: "\(registry.host)/x@\(answer.digest)"))
        #expect(image.digests.contains { $0.hasSuffix(answer.digest) })
    }

    @Test("Bearer: a token is fetched once, with the credentials, and used for blobs too")
    func bearer() async throws {
        let folder = try ImagesFolder()
        let wanted = "Basic " + Base64.encode(Array("user:secret".utf8))
        let tokens = ScriptedServer { request, connection in
            guard request.headers["authorization"] == wanted else { return connection.answer(401) }
            connection.answer(200, ["Content-Type": "application/json"], Array("{\"token\":\"t0ken\",\"expires_in\":300}".utf8))
        }
        let registry = FakeRegistry { request, connection in
            guard request.headers["authorization"] != "Bearer t0ken" else { return false }
            connection.answer(401, ["WWW-Authenticate": "Bearer realm=\"\(tokens.url)/token\",service=\"reg\",scope=\"repository:x:pull\""])
            return true
        }
        defer {
            tokens.stop()
            registry.stop()
        }
        registry.put(TestImage.small("bearer"), "x")
        let store = try folder.store()
        var request = PullRequest(reference: "\(registry.host)/x")
        #expect(await failure { try await store.pull(request) }?.message.contains("without a login") == true)
        request.credentials = RegistryCredentials(username: "user", password: "secret")
        _ = try await store.pull(request)
        _ = try await store.pull(request)
        #expect(tokens.requests.count == 2, "one refused, one given")
        #expect(tokens.requests.last?.path == "/token?service=reg&scope=repository%3Ax%3Apull")
    }

    @Test("an identity token is traded for a token")
    func identityToken() async throws {
        let folder = try ImagesFolder()
        let tokens = ScriptedServer { request, connection in
            let isRight = request.method == "POST" && String(decoding: request.body, as: UTF8.self).contains("refresh_token=id%2Btoken")
            connection.answer(isRight ? 200 : 400, [:], Array("{\"access_token\":\"abc\"}".utf8))
        }
        let registry = FakeRegistry { request, connection in
            guard request.headers["authorization"] != "Bearer abc" else { return false }
            connection.answer(401, ["WWW-Authenticate": "Bearer realm=\"\(tokens.url)/token\""])
            return true
        }
        defer {
            tokens.stop()
            registry.stop()
        }
        registry.put(TestImage.small("identity"), "x")
        var request = PullRequest(reference: "\(registry.host)/x")
        request.credentials = RegistryCredentials(username: "", password: "", identityToken: "id+token")
        #expect(try await folder.store().pull(request).references.count == 1)
    }

    @Test("credentials do not follow a redirect to another host")
    func redirectedCredentials() async throws {
        let folder = try ImagesFolder()
        let made = TestImage.small("redirected")
        let storage = FakeRegistry()
        let registry = FakeRegistry { request, connection in
            if request.headers["authorization"] == nil {
                connection.answer(401, ["WWW-Authenticate": "Basic realm=\"r\""])
                return true
            }
            guard Self.isBlob(request) else { return false }
            // The same machine by another name: another host.
            connection.answer(307, ["Location": "http://localhost:\(storage.server.port)\(request.path)"])
            return true
        }
        defer {
            storage.stop()
            registry.stop()
        }
        registry.put(made, "x")
        storage.put(made, "x")
        var request = PullRequest(reference: "\(registry.host)/x")
        request.credentials = RegistryCredentials(username: "user", password: "secret")
        #expect(try await folder.store().pull(request).id.text == made.id)
        #expect(storage.requests.count == 2)
        #expect(storage.requests.allSatisfy { $0.headers["authorization"] == nil })
    }

    @Test("challenges")
    func challenges() {
        #expect(AuthorizationChallenge(["Basic realm=x"]) == .basic)
        #expect(
            AuthorizationChallenge(["Negotiate", "Bearer realm=\"https://a/b,c\" , service=s,scope=\"x:\\\"y\""])
                == .bearer(realm: "https://a/b,c", service: "s", scope: "x:\"y"))
        #expect(AuthorizationChallenge(["Bearer service=\"x\""]) == nil)
        #expect(AuthorizationChallenge(["Bearer realm=\"unterminated"]) == nil)
        #expect(AuthorizationChallenge([]) == nil)
    }
}
