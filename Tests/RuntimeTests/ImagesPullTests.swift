import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Synchronization
import Testing

@testable import RuntimeOCI

@Suite("Images: pull")
struct ImagesPullTests {
    @Test("an image of each kind of manifest is pulled, unpacked and found again", arguments: [TestImage.ociManifest, TestImage.dockerManifest])
    func pulls(mediaType: String) async throws {
        let folder = try ImagesFolder()
        let registry = FakeRegistry()
        defer { registry.stop() }
        let made = TestImage.small("hello", mediaType: mediaType)
        registry.put(made, "team/app", tag: "1.0")
        let store = try folder.store()
        let reference = "\(registry.host)/team/app:1.0"
        let reports = Mutex<[PullProgress]>([])
        let image = try await store.pull(PullRequest(reference: reference)) { progress in reports.withLock { $0.append(progress) } }
        #expect(image.id.text == made.id)
        #expect(image.references == [reference])
        #expect(image.digests == ["\(registry.host)/team/app@\(made.digest)"])
        #expect(image.configuration.command == ["sh"])
        #expect(image.configuration.environment == ["A=b"])
        #expect(image.size == 5)
        let layers = try store.rootLayers(of: image.id)
        #expect(try layers.map { try Files.readText("\($0)/etc/text") } == ["hello"])
        let words = reports.withLock { $0.map(\.status) }
        for word in ["Pulling fs layer", "Download complete", "Extracting", "Pull complete"] { #expect(words.contains(word)) }

        for name in [reference, made.id, String(made.id.dropFirst(7).prefix(12)), "\(registry.host)/team/app@\(made.digest)"] {
            #expect(try store.image(name).id == image.id)
        }
        let before = registry.requests.count
        _ = try await store.pull(PullRequest(reference: reference))
        #expect(registry.requests.count == before + 1, "what is there costs one request")
        _ = try await store.pull(PullRequest(reference: "\(registry.host)/team/app@\(made.digest)"))
        #expect(registry.requests.count == before + 1, "a digest that is there costs none")

        let again = try folder.store()
        #expect(try again.image(reference) == image)
        #expect(try folder.contents().filter { $0.hasPrefix("partial") }.isEmpty)
    }

    @Test("compressed layers", arguments: ["gzip", "zstd"])
    func compression(program: String) async throws {
        var tar = TestTar()
        tar.file("data", String(repeating: "compressible ", count: 5000))
        let plain = tar.finished()
        let packed = try await compressed(plain, with: program, ["-c"])
        try #require(packed.count > 20 && packed.count < plain.count)
        let folder = try ImagesFolder()
        let registry = FakeRegistry()
        defer { registry.stop() }
        let made = TestImage(layers: [plain], compressed: [packed], layerType: "application/vnd.oci.image.layer.v1.tar+\(program)")
        registry.put(made, "packed")
        let store = try folder.store()
        let image = try await store.pull(PullRequest(reference: "\(registry.host)/packed"))
        #expect(image.size == 65000)
    }

    @Test("a manifest list gives the image of this platform, or of another one on request")
    func manifestList() async throws {
        let folder = try ImagesFolder()
        let registry = FakeRegistry()
        defer { registry.stop() }
        let own = TestImage.small("own")
        let other = TestImage.small("other", mediaType: TestImage.dockerManifest, architecture: "s390x")
        registry.put(own, "multi", tag: "own")
        registry.put(other, "multi", tag: "other")
        func entry(_ image: TestImage, _ architecture: String) -> JSONValue {
            var json = TestImage.descriptor(image.manifest, image.mediaType)
            json["platform"] = ["os": "linux", "architecture": .string(architecture)]
            return json
        }
        let list: JSONValue = [
            "schemaVersion": 2, "mediaType": .string(ManifestParser.listTypes[0]),
            "manifests": [entry(other, "s390x"), entry(own, ImagePlatform.current.architecture)],
        ]
        registry.put(manifest: list.bytes(), ManifestParser.listTypes[0], "multi", tag: "latest")
        let store = try folder.store()
        let reference = "\(registry.host)/multi"
        let image = try await store.pull(PullRequest(reference: reference))
        #expect(image.id.text == own.id)
        let before = registry.requests.count
        _ = try await store.pull(PullRequest(reference: reference))
        #expect(registry.requests.count == before + 1)
        var request = PullRequest(reference: reference)
        request.platform = "linux/s390x"
        #expect(try await store.pull(request).id.text == other.id)
        #expect(try await store.pull(PullRequest(reference: reference)).id.text == own.id, "the other one was for one request")
        request.platform = "linux/riscv64"
        let error = await failure { try await store.pull(request) }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("linux/s390x") == true, "the error says what there is")
    }

    @Test("pulls of the same image at the same time share the work")
    func sharedPull() async throws {
        let folder = try ImagesFolder()
        let registry = FakeRegistry { request, _ in
            if request.path.contains("/blobs/") { usleep(50_000) }
            return false
        }
        defer { registry.stop() }
        registry.put(TestImage.small("shared"), "shared")
        let store = try folder.store()
        let reference = "\(registry.host)/shared"
        let ids = await withTaskGroup(of: ID?.self) { group in
            for _ in 0..<8 { group.addTask { try? await store.pull(PullRequest(reference: reference)).id } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(ids.count == 8 && Set(ids).count == 1 && ids[0] != nil)
        #expect(registry.requests.filter { $0.path.contains("/blobs/") }.count == 2, "one configuration, one layer")
    }

    @Test("a layer that another image brought is not fetched again, and parallel downloads are bounded")
    func layersShared() async throws {
        let folder = try ImagesFolder()
        let layers = (0..<7).map { number -> [UInt8] in
            var tar = TestTar()
            tar.file("file\(number)", "\(number)")
            return tar.finished()
        }
        let digests = Set(layers.map { ContentDigest(of: $0).description })
        let counts = Mutex((now: 0, most: 0))
        let registry = FakeRegistry { request, _ in
            guard digests.contains(where: { request.path.hasSuffix($0) }) else { return false }
            counts.withLock { counts in
                counts.now += 1
                counts.most = max(counts.most, counts.now)
            }
            // Three must come together, or this waits in vain; a fourth would be counted.
            let deadline = ContinuousClock.now + .seconds(30)
            while counts.withLock({ $0.most }) < 3, ContinuousClock.now < deadline { usleep(1000) }
            usleep(30_000)
            counts.withLock { $0.now -= 1 }
            return false
        }
        defer { registry.stop() }
        registry.put(TestImage(layers: Array(layers[0..<6])), "first")
        registry.put(TestImage(layers: Array(layers[1..<7])), "second")
        let store = try folder.store()
        let first = try await store.pull(PullRequest(reference: "\(registry.host)/first"))
        let before = registry.requests.filter { $0.path.contains("/blobs/") }.count
        #expect(before == 7)
        let second = try await store.pull(PullRequest(reference: "\(registry.host)/second"))
        #expect(registry.requests.filter { $0.path.contains("/blobs/") }.count == before + 2)
        #expect(counts.withLock { $0.most } == 3)
        let names = try store.rootLayers(of: second.id).map { try Files.list($0) }
        #expect(names == (1..<7).reversed().map { ["file\($0)"] }, "uppermost first")
        #expect(store.diskUsage() == 7)
        _ = try await store.remove(RemoveImageRequest(reference: first.id.text))
        #expect(store.diskUsage() == 6)
        #expect(try store.rootLayers(of: second.id).allSatisfy { try Files.list($0).count == 1 })
    }

    @Test("a connection that is cut is taken up where it ended")
    func resumes() async throws {
        var tar = TestTar()
        var generator = SystemRandomNumberGenerator()
        tar.add(.init(name: "big", content: (0..<400_000).map { _ in UInt8.random(in: 0...255, using: &generator) }))
        let layer = tar.finished()
        let ranges = Mutex<[String]>([])
        let registry = FakeRegistry { request, connection in
            guard request.path.hasSuffix(ContentDigest(of: layer).description) else { return false }
            ranges.withLock { $0.append(request.headers["range"] ?? "") }
            guard request.headers["range"] == nil else { return false }
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(layer.count)\r\n\r\n")
            connection.write(layer[..<150_000])
            connection.close()
            return true
        }
        defer { registry.stop() }
        let made = TestImage(layers: [layer])
        registry.put(made, "cut")
        let folder = try ImagesFolder()
        let store = try folder.store()
        #expect(try await store.pull(PullRequest(reference: "\(registry.host)/cut")).id.text == made.id)
        #expect(ranges.withLock { $0 } == ["", "bytes=150000-"])
    }

    @Test("a later pull goes on with what an interrupted one left, also after a restart")
    func resumesLater() async throws {
        var tar = TestTar()
        tar.add(.init(name: "big", content: [UInt8](repeating: 7, count: 300_000)))
        let layer = tar.finished()
        let isBroken = Mutex(true)
        let registry = FakeRegistry { request, connection in
            guard request.path.hasSuffix(ContentDigest(of: layer).description), isBroken.withLock({ $0 }) else { return false }
            if request.headers["range"] == nil {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(layer.count)\r\n\r\n")
                connection.write(layer[..<100_000])
            }
            connection.close()
            return true
        }
        defer { registry.stop() }
        registry.put(TestImage(layers: [layer]), "later")
        let folder = try ImagesFolder()
        let reference = "\(registry.host)/later"
        let error = await failure { try await folder.store().pull(PullRequest(reference: reference)) }
        #expect(error?.code == .unavailable)
        #expect(try folder.contents().filter { $0.hasPrefix("partial") }.count == 1)
        isBroken.withLock { $0 = false }
        let store = try folder.store()
        _ = try await store.pull(PullRequest(reference: reference))
        #expect(registry.requests.last { $0.path.hasSuffix(ContentDigest(of: layer).description) }?.headers["range"] == "bytes=100000-")
        #expect(try folder.contents().filter { $0.hasPrefix("partial") }.isEmpty)
    }

    @Test("a cancelled pull ends soon, and another caller's goes on")
    func cancellation() async throws {
        let folder = try ImagesFolder()
        let gate = Mutex(false)
        let registry = FakeRegistry { request, _ in
            while request.path.contains("/blobs/"), !gate.withLock({ $0 }) { usleep(1000) }
            return false
        }
        defer { registry.stop() }
        registry.put(TestImage.small("slow"), "slow")
        let store = try folder.store()
        let reference = "\(registry.host)/slow"
        let first = ConcurrentTask { await failure { try await store.pull(PullRequest(reference: reference)) } }
        while !registry.requests.contains(where: { $0.path.contains("/blobs/") }) { try await ConcurrentTask.sleep(for: .milliseconds(1)) }
        let second = ConcurrentTask { try await store.pull(PullRequest(reference: reference)) }
        let alone = ConcurrentTask { await failure { try await store.pull(PullRequest(reference: "\(registry.host)/slow:latest")) } }
        first.cancel()
        alone.cancel()
        #expect(await first.value?.code == .cancelled)
        #expect(await alone.value?.code == .cancelled)
        gate.withLock { $0 = true }
        #expect(try await second.value.references == ["\(reference):latest"])
    }

    @Test("a mirror is asked first, and only for docker.io")
    func mirror() async throws {
        let folder = try ImagesFolder()
        let empty = FakeRegistry()
        let registry = FakeRegistry()
        defer {
            empty.stop()
            registry.stop()
        }
        let made = TestImage.small("mirrored")
        registry.put(made, "library/mirrored")
        let (first, second) = (empty.server.url, registry.server.url + "/")
        let store = try folder.store { $0.mirrors = [first, second] }
        let image = try await store.pull(PullRequest(reference: "mirrored"))
        #expect(image.references == ["mirrored:latest"])
        #expect(image.digests == ["mirrored@\(made.digest)"])
        #expect(try store.image("docker.io/library/mirrored:latest").id == image.id)
        #expect(empty.requests.count == 1)
        var request = PullRequest(reference: "mirrored")
        request.credentials = RegistryCredentials(username: "user", password: "secret")
        _ = try await store.pull(request)
        #expect(registry.requests.allSatisfy { $0.headers["authorization"] == nil }, "a mirror does not get what the hub is to get")
    }

    @Test("when no mirror has it and the hub is away, the error names both")
    func mirrorAndHub() async throws {
        let folder = try ImagesFolder()
        let mirror = FakeRegistry()
        let hub = ScriptedServer { _, _ in }
        hub.stop()
        defer { mirror.stop() }
        let (mirrorURL, hubURL) = (mirror.server.url, hub.url)
        let store = try folder.store {
            $0.mirrors = [mirrorURL]
            $0.hub = hubURL
        }
        let error = await failure { try await store.pull(PullRequest(reference: "frontend:7")) }
        #expect(error?.code == .unavailable)
        for words in ["frontend:7", mirror.host, "does not have", "127.0.0.1:\(hub.port) cannot be reached"] {
            #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
        }
    }

    @Test("a registry that nobody runs is named, quickly")
    func unreachable() async throws {
        let folder = try ImagesFolder()
        let gone = ScriptedServer { _, _ in }
        gone.stop()
        let store = try folder.store()
        let start = ContinuousClock.now
        let port = gone.port
        let error = await failure { try await store.pull(PullRequest(reference: "127.0.0.1:\(port)/x")) }
        #expect(error?.code == .unavailable)
        #expect(error?.message.contains("127.0.0.1:\(port)") == true)
        #expect(ContinuousClock.now - start < .seconds(10))
        #expect(await failure { try await store.pull(PullRequest(reference: "Not/Valid")) }?.code == .invalidArgument)
    }
}
