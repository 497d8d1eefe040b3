import Coding
import Files
import Fuzzing
import Glibc
import PluginAPI
import Processes
import Testing

@testable import RuntimeOCI

/// Inputs at random. Nothing may trap, hang or get out.
@Suite("Images: fuzz", .serialized)
struct ImagesFuzzTests {
    @Test("references: what is accepted reads back the same")
    func references() throws {
        var generator = Fuzzing.generator()
        let pieces = [
            "a", "nginx", ":", "/", "@", ".", "-", "_", "__", "A", "0", "localhost", "5000", "sha256:", "[::1]", "\u{0}", " ", "é",
            String(repeating: "f", count: 64),
        ]
        var accepted = 0
        for _ in 0..<30_000 {
            let text = (0..<Int.random(in: 0...8, using: &generator)).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }
                .joined()
            guard let reference = try? ImageReference(text) else { continue }
            accepted += 1
            #expect((try? ImageReference(reference.canonical)) == reference, "seed \(Fuzzing.seed): \(text)")
            #expect((try? ImageReference(reference.description)) == reference, "seed \(Fuzzing.seed): \(text)")
            #expect(!reference.path.contains("..") && !reference.canonical.contains("//"), "seed \(Fuzzing.seed): \(text)")
        }
        #expect(accepted > 100)
    }

    @Test("manifests, configurations, indexes and challenges")
    func documents() throws {
        var generator = Fuzzing.generator()
        let image = TestImage.small("fuzz")
        let list: JSONValue = ["schemaVersion": 2, "manifests": [TestImage.descriptor(image.manifest, TestImage.ociManifest)]]
        var index = StoreIndex()
        index.images["a"] = .init(layers: ["b"])
        index.layers["b"] = .init(number: 1, size: 2)
        index.references["c"] = "a"
        #expect(try StoreIndex(index.bytes()) == index)
        var read = 0
        for _ in 0..<Fuzzing.runs(4000) {
            for type in ManifestParser.imageTypes + [""]
            where (try? ManifestParser.parse(Fuzzing.mutate(image.manifest, using: &generator), contentType: type)) != nil { read += 1 }
            _ = try? ManifestParser.parse(Fuzzing.mutate(list.bytes(), using: &generator), contentType: ManifestParser.listTypes[0])
            _ = try? ImageDocument.parse(Fuzzing.mutate(image.configuration, using: &generator))
            _ = try? StoreIndex(Fuzzing.mutate(index.bytes(), using: &generator))
            _ = AuthorizationChallenge([
                String(decoding: Fuzzing.mutate(Array("Bearer realm=\"https://a/b\",service=\"s\"".utf8), using: &generator), as: UTF8.self)
            ])
        }
        #expect(read > 0)
    }

    @Test("mutated tars: unpacked or refused, never killed by the jail, never outside")
    func tars() async throws {
        var generator = Fuzzing.generator()
        var tar = TestTar()
        tar.folder("a")
        tar.file("a/file", "text", records: [("SCHILY.xattr.user.x", [1, 2, 3]), ("mtime", Array("1.5".utf8))])
        tar.symbolicLink("out", to: "../outside")
        tar.hardLink("b", to: "a/file")
        tar.file("a/.wh.gone")
        tar.file(".wh..wh..opq")
        tar.device("dev/null", 1, 3)
        tar.add(.init(name: "x", content: [UInt8](repeating: 3, count: 2000), records: [("path", Array("long/name".utf8))]))
        let plain = tar.finished()
        var seeds = [plain, plain]
        for program in ["gzip", "zstd", "xz", "bzip2"] { seeds.append(try await compressed(plain, with: program, ["-c"])) }
        let folder = try ImagesFolder()
        try Files.makeDirectory("\(folder.path)/outside")
        var configuration = ImageStoreConfiguration(directory: folder.path)
        configuration.isDurable = false
        configuration.maximumBytes = 8 << 20
        let unpacker = LayerUnpacker(configuration: configuration)
        var (good, bad) = (0, 0)
        for round in 0..<Fuzzing.runs(300) {
            let bytes = Fuzzing.mutate(seeds[round % seeds.count], using: &generator)
            try Files.writeAtomically(bytes, to: "\(folder.path)/archive", sync: false)
            let input = Descriptor(open("\(folder.path)/archive", O_RDONLY | O_CLOEXEC))
            defer { input.close() }
            do throws(ApusError) {
                _ = try await unpacker.unpack(input.number, into: "\(folder.path)/layer")
                good += 1
                await unpacker.remove("\(folder.path)/layer")
            } catch {
                bad += 1
                #expect([.corrupt, .tooLarge].contains(error.code), "seed \(Fuzzing.seed), round \(round): \(error.message)")
            }
            #expect(try Files.list("\(folder.path)/outside").isEmpty, "seed \(Fuzzing.seed), round \(round)")
        }
        #expect(good > 0 && bad > 0)
    }

    // MARK: Archives

    /// An archive in both forms, with a way out of it in a link.
    private func archive(_ folder: String, _ image: TestImage) throws {
        try Files.makeDirectory("\(folder)/archive")
        try Files.makeDirectory("\(folder)/archive/blobs")
        try Files.makeDirectory("\(folder)/archive/blobs/sha256")
        for bytes in [image.configuration, image.manifest] + image.layers {
            try Files.writeAtomically(bytes, to: "\(folder)/archive/blobs/sha256/\(ContentDigest(of: bytes).hexadecimal)", sync: false)
        }
        try Files.writeAtomically(image.configuration, to: "\(folder)/archive/config.json", sync: false)
        try Files.writeAtomically(image.layers[0], to: "\(folder)/archive/layer.tar", sync: false)
        try Files.writeAtomically(Array("secret".utf8), to: "\(folder)/outside", sync: false)
        guard symlink("../outside", "\(folder)/archive/link") == 0 else { throw Files.lastError("symlink") }
    }

    @Test("archives: read or refused, and nothing outside of them is opened")
    func archives() throws {
        var generator = Fuzzing.generator()
        let image = TestImage.small("fuzz")
        let folder = try ImagesFolder()
        try archive(folder.path, image)
        let saved: JSONValue = [["Config": "config.json", "RepoTags": ["a:1", "localhost:5000/b:2"], "Layers": ["layer.tar"]]]
        var descriptor = TestImage.descriptor(image.manifest, TestImage.ociManifest)
        descriptor["annotations"] = ["org.opencontainers.image.ref.name": "a:1", "io.containerd.image.name": "docker.io/library/a:1"]
        let layout: JSONValue = ["schemaVersion": 2, "manifests": [descriptor]]
        let paths = ["../outside", "/outside", "link", "blobs", "archive/../../outside", "", ".", "layer.tar/", "config.json"]
        for (name, json) in [("manifest.json", saved), ("index.json", layout)] {
            let file = "\(folder.path)/archive/\(name)"
            try Files.writeAtomically(json.bytes(), to: file, sync: false)
            let entry = try #require(try ImageArchive("\(folder.path)/archive").entries().first)
            #expect(entry.configuration == image.configuration && entry.layers.count == 1 && !entry.references.isEmpty)
            var (read, refused) = (0, 0)
            for round in 0..<Fuzzing.runs(800) {
                var bytes = Fuzzing.mutate(json.bytes(), using: &generator)
                if round % 2 == 0 {
                    var mutated = Fuzzing.mutate(json, using: &generator)
                    if let place = mutated.places.filter({ mutated.value(at: $0).string != nil }).randomElement(using: &generator), round % 4 == 0 {
                        mutated = mutated.replacing(place, by: .string(paths.randomElement(using: &generator) ?? ""))
                    }
                    bytes = mutated.bytes()
                }
                try Files.writeAtomically(bytes, to: file, sync: false)
                let archive = try ImageArchive("\(folder.path)/archive")
                do throws(ApusError) {
                    let entries = try archive.entries()
                    read += 1
                    for entry in entries {
                        #expect(entry.configuration != Array("secret".utf8), "seed \(Fuzzing.seed), round \(round)")
                        for path in entry.layers {
                            guard let layer = try? archive.open(path) else { continue }
                            defer { layer.close() }
                            let content = try Files.read(descriptor: layer.number, name: path, limit: 1 << 20)
                            #expect(content != Array("secret".utf8), "seed \(Fuzzing.seed), round \(round)")
                        }
                    }
                } catch {
                    refused += 1
                    #expect([.corrupt, .invalidArgument, .notFound, .unimplemented, .tooLarge].contains(error.code), "round \(round): \(error)")
                }
            }
            #expect(read > 10 && refused > 100, "\(name): \(read) \(refused)")
            unlink(file)
        }
        // A list of names that is none is no image without a name.
        for tags in ["a:1", 7, ["a": "b"]] as [JSONValue] {
            let json: JSONValue = [["Config": "config.json", "RepoTags": tags, "Layers": ["layer.tar"]]]
            try Files.writeAtomically(json.bytes(), to: "\(folder.path)/archive/manifest.json", sync: false)
            #expect(throws: ApusError.self, "\(tags.text())") { try ImageArchive("\(folder.path)/archive").entries() }
        }
    }

    // MARK: Changes of an import

    /// In double quotes, as an instruction of a Dockerfile may have it.
    private func quoted(_ text: String) -> String {
        var output = "\""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { output += "\\" }
            output.unicodeScalars.append(scalar)
        }
        return output + "\""
    }

    @Test("changes: what is quoted comes out as it was, the last one of a name holds")
    func changes() throws {
        var generator = Fuzzing.generator()
        let pieces = ["a", "B", "=", " ", "\"", "'", "\\", "#", "$", "é"] + Fuzzing.traps.filter { !$0.utf8.contains(10) }
        for _ in 0..<Fuzzing.runs(3000) {
            var (wanted, environment): ([String: String], [String]) = ([:], [])
            var lines: [String] = []
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let name = ["A", "B", "AB", "A\u{301}"].randomElement(using: &generator) ?? ""
                let value = Fuzzing.text(of: pieces, 0...4, using: &generator)
                wanted[name] = value
                environment.removeAll { $0.utf8.starts(with: "\(name)=".utf8) }
                environment.append("\(name)=\(value)")
                let instruction = ["ENV", "env"].randomElement(using: &generator) ?? ""
                lines.append("\(instruction) \(quoted("\(name)=\(value)"))")
                lines.append("LABEL \(quoted("\(name)=\(value)"))")
            }
            let end = Bool.random(using: &generator) ? "\n" : "\r\n"
            let changes = Bool.random(using: &generator) ? lines : [lines.joined(separator: end)]
            let result = try ImageChanges.apply(changes, to: ImageConfiguration())
            #expect(result.environment.map { Array($0.utf8) } == environment.map { Array($0.utf8) }, "\(changes)")
            #expect(result.labels == wanted, "\(changes)")
        }
    }

    @Test("changes: nonsense is refused, with the reason")
    func brokenChanges() {
        var generator = Fuzzing.generator()
        let examples = [
            "CMD [\"nginx\", \"-g\"]", "ENTRYPOINT /bin/sh -c x", "ENV A=b \"C=d e\"", "ENV A b", "LABEL a=b", "EXPOSE 80 53/udp", "VOLUME [\"/data\"]",
            "USER 7:8", "WORKDIR srv", "STOPSIGNAL SIGQUIT",
        ]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(10_000) {
            let text = Fuzzing.mutate(examples[round % examples.count], with: ["\"", "'", "\\", "=", "[", "]", "/", "\n"], using: &generator)
            do throws(ApusError) {
                let result = try ImageChanges.apply([text], to: ImageConfiguration())
                read += 1
                for variable in result.environment { #expect(variable.utf8.contains(UInt8(ascii: "=")) && variable.utf8.first != UInt8(ascii: "="), "\(text)") }
                for port in result.exposedPorts.keys {
                    let halves = port.split(separator: "/")
                    #expect(halves.count == 2 && halves[0].utf8.allSatisfy { (48...57).contains($0) } && UInt16(halves[0]) ?? 0 > 0, "\(text)")
                }
                #expect(result.workingDirectory.isEmpty || result.workingDirectory.utf8.first == UInt8(ascii: "/"), "\(text)")
            } catch {
                refused += 1
                #expect([.invalidArgument, .unimplemented].contains(error.code), "\(text)")
                #expect(error.message.unicodeScalars.allSatisfy { $0.value >= 32 && !(127..<160).contains($0.value) }, "\(text)")
            }
        }
        #expect(read > 100 && refused > 100)
        for text in ["ENV A=\"b", "LABEL a='b", "EXPOSE +80", "EXPOSE 80/tcp/udp"] {
            #expect(throws: ApusError.self, "\(text)") { try ImageChanges.apply([text], to: ImageConfiguration()) }
        }
    }

    // MARK: Addresses of registries

    @Test("addresses of registries: a host that can be asked, or refused")
    func addresses() {
        var generator = Fuzzing.generator()
        let examples = ["https://registry-1.docker.io", "http://127.0.0.1:5000/", "http://[::1]:5000/prefix/", "https://mirror_1:65535//"]
        let pieces = ["/", ":", "?", "#", "@", "[", "]", "%", "0", "70000", "a", ".", "\\"]
        var (read, refused) = (0, 0)
        for round in 0..<Fuzzing.runs(20_000) {
            let text = round % 40 < 4 ? examples[round % 4] : Fuzzing.mutate(examples[round % 4], with: pieces, using: &generator)
            guard let address = RegistryAddress(url: text) else {
                refused += 1
                continue
            }
            read += 1
            #expect(!address.base.hasSuffix("/") && text.hasPrefix(address.base) && address.isPlain == text.hasPrefix("http:"), "\(text)")
            #expect(RegistryAddress(url: address.base) == address, "\(text)")
            var host = Substring(address.authority)
            if let end = host.lastIndex(of: "]") {
                #expect(IPAddress(String(host[..<end].dropFirst()))?.isIPv4 == false && host.first == "[", "\(text)")
                host = host[host.index(after: end)...]
                #expect(host.isEmpty || host.first == ":", "\(text)")
            } else {
                let name = host.prefix { $0 != ":" }
                #expect(!name.isEmpty && name.utf8.allSatisfy { "-._".utf8.contains($0) || Character(Unicode.Scalar($0)).isASCIIAlphanumeric }, "\(text)")
                host = host.dropFirst(name.count)
            }
            if !host.isEmpty { #expect(host.dropFirst().utf8.allSatisfy { (48...57).contains($0) } && UInt16(host.dropFirst()) ?? 0 > 0, "\(text)") }
            #expect(!address.base.contains("?") && !address.base.contains("#"), "\(text)")
        }
        #expect(read > 100 && refused > 100)
    }
}

extension Character {
    fileprivate var isASCIIAlphanumeric: Bool { isASCII && (isLetter || isNumber) }
}
