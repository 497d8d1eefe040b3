import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

@Suite("Images: store")
struct ImagesStoreTests {
    /// A file with these bytes, at its beginning.
    private func file(_ bytes: [UInt8], in folder: ImagesFolder) throws -> Descriptor {
        let path = "\(folder.path)/input-\(UInt32.random(in: 0...UInt32.max))"
        try Files.writeAtomically(bytes, to: path, sync: false)
        return Descriptor(open(path, O_RDONLY | O_CLOEXEC))
    }

    private func load(_ image: TestImage, _ reference: String?, _ store: ImageStore, _ folder: ImagesFolder) async throws -> [String] {
        let input = try file(image.saved(reference), in: folder)
        defer { input.close() }
        return try await store.load(descriptor: input.number)
    }

    @Test("docker save's archive is loaded, compressed or not, with and without a name")
    func loads() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        let made = TestImage.small("loaded")
        #expect(try await load(made, "loaded:1", store, folder) == ["loaded:1"])
        #expect(try store.image("loaded:1").id.text == made.id)
        #expect(try Files.readText("\(store.rootLayers(of: ID(made.id))[0])/etc/text") == "loaded")
        let nameless = TestImage.small("nameless")
        #expect(try await load(nameless, nil, store, folder) == [nameless.id])
        for program in ["gzip", "zstd", "xz", "bzip2"] {
            let packed = try await compressed(TestImage.small(program).saved("packed:\(program)"), with: program, ["-c"])
            let input = try file(packed, in: folder)
            #expect(try await store.load(descriptor: input.number) == ["packed:\(program)"])
        }
        #expect(store.images().count == 6)
        #expect(try Files.list("\(folder.path)/images/l").count == 6, "the archive's own folder is gone")
    }

    @Test("the archive of contrib/images is loaded")
    func loadsBuilt() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        let input = Descriptor(open("\(try await TestRegistry.archives())/nginx.tar", O_RDONLY | O_CLOEXEC))
        defer { input.close() }
        #expect(try await store.load(descriptor: input.number) == ["nginx:latest"])
        let image = try store.image("nginx")
        #expect(image.configuration.exposedPorts == ["80/tcp": ""])
        #expect(image.configuration.stopSignal == "SIGQUIT")
        #expect(image.configuration.command == ["nginx", "-g", "daemon off;"])
        #expect(image.layers.count == 3)
    }

    @Test(
        "archives that are refused leave nothing",
        arguments: ["empty", "garbage", "no manifest", "wrong layer", "escape", "link out", "device", "wrong configuration"])
    func refusesLoad(kind: String) async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        let good = TestImage.small("good")
        var tar = TestTar()
        var bytes: [UInt8]
        switch kind {
        case "empty": bytes = []
        case "garbage": bytes = Array("not an archive at all".utf8)
        case "no manifest":
            tar.file("hello", "world")
            bytes = tar.finished()
        case "wrong layer":
            bytes = TestImage(layers: good.layers, differences: ["sha256:" + String(repeating: "2", count: 64)]).saved("x:1")
        case "escape":
            tar.file("../../out", "x")
            bytes = tar.finished()
        case "link out":
            tar.symbolicLink("manifest.json", to: "/etc/hostname")
            bytes = tar.finished()
        case "device":
            tar.device("null", 1, 3)
            bytes = tar.finished()
        default:
            var image = good
            image.configuration = Array("{\"rootfs\":5}".utf8)
            bytes = image.saved("x:1")
        }
        let input = try file(bytes, in: folder)
        defer { input.close() }
        let error = await failure { try await store.load(descriptor: input.number) }
        #expect(error?.code == .corrupt, "\(String(describing: error))")
        #expect(try folder.contents() == [])
        #expect(store.images().isEmpty)
        #expect(!Files.exists("/out"))
    }

    @Test("a root file system becomes an image, with changes")
    func imports() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        var tar = TestTar()
        tar.folder("./")
        tar.file("./bin/tool", "tool", mode: 0o4755)
        let input = try file(tar.finished(), in: folder)
        defer { input.close() }
        let changes = [
            "CMD [\"tool\", \"-x\"]", "env A=b C=\"d e\"", "EXPOSE 80 53/udp", "USER 5:6", "WORKDIR data", "LABEL a.b='c d'", "VOLUME /v",
            "STOPSIGNAL 9", "ENTRYPOINT run it",
        ]
        let image = try await store.importImage(
            ImportImageRequest(descriptor: input.number, reference: "team/tool:3", changes: changes, message: "made"))
        #expect(image.references == ["team/tool:3"])
        let configuration = image.configuration
        #expect(configuration.command == ["tool", "-x"])
        #expect(configuration.entrypoint == ["/bin/sh", "-c", "run it"])
        #expect(configuration.environment == ["A=b", "C=d e"])
        #expect(configuration.exposedPorts == ["80/tcp": "", "53/udp": ""])
        #expect(configuration.user == "5:6" && configuration.workingDirectory == "/data" && configuration.stopSignal == "9")
        #expect(configuration.labels == ["a.b": "c d"] && configuration.volumes == ["/v": ""])
        #expect(image.comment == "made" && image.history.count == 1 && image.size == 4)
        #expect(try folder.store().image("team/tool:3") == image)
        let again = try file(tar.finished(), in: folder)
        for (change, code) in [("ONBUILD RUN x", ApusError.Code.unimplemented), ("EXPOSE seven", .invalidArgument), ("CMD", .invalidArgument)] {
            let error = await failure { try await store.importImage(ImportImageRequest(descriptor: again.number, changes: [change])) }
            #expect(error?.code == code)
        }
    }

    @Test("names are given, taken from others and removed; the image goes with the last")
    func tags() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        let (a, b) = (TestImage.small("a"), TestImage.small("b"))
        _ = try await load(a, "a:1", store, folder)
        _ = try await load(b, "b:1", store, folder)
        try await store.tag(source: "a:1", target: "other/a:2")
        try await store.tag(source: String(b.id.dropFirst(7).prefix(16)), target: "a:1")
        #expect(try store.image("a:1").id.text == b.id)
        #expect(try store.image("other/a:2").id.text == a.id)
        #expect(try store.image(a.id).references == ["other/a:2"])
        #expect(await failure { try await store.tag(source: "missing", target: "x") }?.code == .notFound)
        #expect(await failure { try await store.tag(source: "a:1", target: "Upper") }?.code == .invalidArgument)
        #expect(await failure { try await store.tag(source: "a:1", target: "x@\(a.id)") }?.code == .invalidArgument)

        let byID = await failure { try await store.remove(RemoveImageRequest(reference: b.id)) }
        #expect(byID?.code == .conflict && byID?.message.contains("a:1") == true)
        #expect(try await store.remove(RemoveImageRequest(reference: "b:1")) == RemoveImageAnswer(untagged: ["b:1"]))
        let last = try await store.remove(RemoveImageRequest(reference: "a:1"))
        #expect(last.untagged == ["a:1"] && last.deleted.first == b.id)
        #expect(throws: ApusError.self) { try store.image(b.id) }
        #expect(try Files.list("\(folder.path)/images/l").count == 1)
        #expect(try Files.list("\(folder.path)/images/blobs/sha256").count == 1)
        #expect(await failure { try await store.remove(RemoveImageRequest(reference: "b:1")) }?.code == .notFound)
        try await store.tag(source: "other/a:2", target: "x/y:1")
        _ = try await store.remove(RemoveImageRequest(reference: a.id, force: true))
        #expect(store.images().isEmpty)
        #expect(try folder.contents() == [])
    }

    @Test("an image that a container uses stays; forced, it is hidden until the container is gone, also over a restart")
    func holders() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        let made = TestImage.small("held")
        _ = try await load(made, "held:1", store, folder)
        let (id, container) = (ID(made.id), ID.randomContainer())
        #expect(try store.acquire(id, for: container) == store.rootLayers(of: id))
        let error = await failure { try await store.remove(RemoveImageRequest(reference: "held:1")) }
        #expect(error?.code == .conflict && error?.message.contains(container.short) == true)
        #expect(store.images().count == 1)
        _ = try await store.remove(RemoveImageRequest(reference: "held:1", force: true))
        #expect(store.images().isEmpty)
        #expect(try store.rootLayers(of: id).allSatisfy { Files.exists($0 + "/etc/text") })

        let later = try folder.store()
        #expect(later.images().isEmpty)
        let layers = try later.acquire(id, for: container)
        await later.collectGarbage()
        #expect(layers.allSatisfy { Files.exists($0 + "/etc/text") })
        await later.release(container)
        #expect(layers.allSatisfy { !Files.exists($0) })
        #expect(throws: ApusError.self) { try later.rootLayers(of: id) }
        #expect(try folder.contents() == [])
    }

    @Test("what an interrupted pull left is removed at start; a damaged index is refused with what to do")
    func start() async throws {
        let folder = try ImagesFolder()
        let first = try folder.store()
        _ = try await load(TestImage.small("kept"), "kept:1", first, folder)
        let images = "\(folder.path)/images"
        try Files.makeDirectory("\(images)/l/zz/deep")
        try Files.writeAtomically([1], to: "\(images)/blobs/sha256/\(String(repeating: "a", count: 64))")
        try Files.writeAtomically([1], to: "\(images)/partial/garbage")
        let second = try folder.store()
        #expect(second.images().map(\.references) == [["kept:1"]])
        #expect(try folder.contents().count == 2)

        // A layer that somebody took away: the image is forgotten, with a word in the log.
        for layer in try second.rootLayers(of: second.images()[0].id) { try Files.removeTree(layer) }
        #expect(try folder.store().images().isEmpty)

        try Files.writeAtomically(Array("{\"version\":1,".utf8), to: "\(images)/references.json")
        let error = await failure { try folder.store() }
        #expect(error?.code == .corrupt)
        #expect(error?.message.contains("references.json") == true && error?.message.contains("Move") == true)
    }

    @Test("ids are found by their beginning, when it is one")
    func prefixes() async throws {
        let folder = try ImagesFolder()
        let store = try folder.store()
        // Seventeen images: at least two share their first digit.
        var ids: [String] = []
        for number in 0..<17 {
            let made = TestImage.small("number \(number)")
            _ = try await load(made, nil, store, folder)
            ids.append(String(made.id.dropFirst(7)))
        }
        let shared = try #require(Dictionary(grouping: ids) { $0.prefix(1) }.first { $0.value.count > 1 })
        #expect(throws: ApusError.self) { try store.image(String(shared.key)) }
        for id in ids { #expect(try store.image(String(id.prefix(20))).id.text == "sha256:\(id)") }
        #expect(await failure { try store.image("sha256:xyz") }?.code == .notFound)
        #expect(await failure { try store.image(String(repeating: "e", count: 64)) }?.code == .notFound)
    }
}
