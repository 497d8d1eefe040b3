import CLinux
import Coding
import Files
import Glibc
import PluginAPI
import Processes
import Synchronization

extension ImageStore {
    /// Reads an archive of `docker save` or an OCI layout, perhaps compressed. Returns `name:tag` of what it held, or ids of what had no name.
    ///
    /// The archive is unpacked by the jailed child into a folder of its own; here its files are opened so that no link leads out of it.
    package func load(descriptor: Int32) async throws(ApusError) -> [String] {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber - 1
        }
        let directory = layerPath(number)
        do throws(ApusError) {
            _ = try await unpacker.unpack(descriptor, into: directory, isPlain: true)
        } catch {
            throw ApusError(error.code, error.message.replacingLayerByArchive)
        }
        let result: Result<[String], ApusError>
        do throws(ApusError) {
            let archive = try ImageArchive(directory)
            result = .success(try await load(archive))
        } catch {
            result = .failure(error)
        }
        await unpacker.remove(directory)
        if case .failure = result { await collectGarbage() }
        return try result.get()
    }

    private func load(_ archive: ImageArchive) async throws(ApusError) -> [String] {
        let entries = try await onBlockingThread { () throws(ApusError) in try archive.entries() }
        guard !entries.isEmpty else { throw ApusError(.corrupt, "the archive holds no image") }
        var names: [String] = []
        for entry in entries {
            let document = try ImageDocument.parse(entry.configuration, layers: entry.layers.count)
            if let digest = entry.configurationDigest, digest.description != document.id.text {
                throw ApusError(.corrupt, "the image's configuration has digest \(document.id), not \(digest)")
            }
            guard document.os == "linux" else {
                throw ApusError(.invalidArgument, "the image is for \(ImageReference.printable(document.os)); this engine runs linux")
            }
            pin(document.layers)
            defer { unpin(document.layers) }
            for (path, difference) in zip(entry.layers, document.layers) {
                guard state.withLock({ $0.index.layers[difference] }) == nil else { continue }
                _ = try await layerWork.run(difference, report: { _ in }) { [self] (_) throws(ApusError) in
                    let input = try archive.open(path)
                    defer { input.close() }
                    return try await unpackLayer(input.number, expecting: difference)
                }
            }
            _ = try await add(document, entry.configuration, manifests: [:], references: entry.references)
            names += entry.references.isEmpty ? [document.id.text] : entry.references.map(\.description)
        }
        return names
    }

    /// Makes an image of one layer from a tar of a root file system.
    package func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image {
        let references = request.reference.isEmpty ? [] : [try ImageReference(request.reference)]
        guard references.allSatisfy({ $0.digest == nil }) else {
            throw ApusError(.invalidArgument, "\(request.reference) has a digest; the digest of an import is not known before")
        }
        var image = Image()
        image.configuration = try ImageChanges.apply(request.changes, to: ImageConfiguration())
        image.os = ImagePlatform.current.os
        image.architecture = ImagePlatform.current.architecture
        image.createdAt = Self.now
        image.comment = request.message
        let unpacked: (difference: String, layer: StoreIndex.Layer)
        do throws(ApusError) {
            unpacked = try await unpackNewLayer(request.descriptor, expecting: nil)
        } catch {
            throw ApusError(error.code, error.message.replacingLayerByArchive)
        }
        image.layers = [unpacked.difference]
        pin(image.layers)
        defer { unpin(image.layers) }
        var step = ImageHistory()
        step.createdAt = image.createdAt
        step.comment = request.message.isEmpty ? "Imported from -" : request.message
        image.history = [step]
        let bytes = ImageDocument.bytes(image)
        let document = try ImageDocument.parse(bytes)
        _ = try await add(document, bytes, manifests: [:], references: references)
        return try self.image(document.id.text)
    }

    private static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}

extension String {
    fileprivate var replacingLayerByArchive: String {
        let prefix = "the layer is refused: "
        return hasPrefix(prefix) ? "the archive is refused: " + dropFirst(prefix.count) : self
    }
}

/// The files of an image archive that was unpacked into a folder.
struct ImageArchive: Sendable {
    struct Entry: Sendable {
        var configuration: [UInt8]
        var configurationDigest: ContentDigest?
        /// Paths in the archive, lowest first.
        var layers: [String]
        var references: [ImageReference]
    }

    private let folder: Descriptor

    init(_ directory: String) throws(ApusError) {
        let number = Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { throw Files.lastError("cannot open \(directory)") }
        folder = Descriptor(number)
    }

    /// A file of the archive; links lead to files of the archive or nowhere.
    func open(_ path: String) throws(ApusError) -> Descriptor {
        var how = open_how()
        how.flags = UInt64(O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        how.resolve = UInt64(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
        let number = apus_openat2(folder.number, path, &how)
        guard number >= 0 else { throw ApusError(.corrupt, "the archive has no \(ImageReference.printable(path))") }
        let file = Descriptor(number)
        var status = stat()
        guard fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw ApusError(.corrupt, "\(ImageReference.printable(path)) in the archive is no file")
        }
        return file
    }

    private func read(_ path: String) throws(ApusError) -> [UInt8] {
        let file = try open(path)
        defer { file.close() }
        return try Files.read(descriptor: file.number, name: path, limit: 8 << 20)
    }

    private func json(_ path: String) throws(ApusError) -> JSONValue {
        do throws(ApusError) {
            return try JSONValue.parse(read(path))
        } catch {
            throw ApusError(.corrupt, "\(ImageReference.printable(path)) in the archive: \(error.message)")
        }
    }

    private func has(_ path: String) -> Bool { (try? open(path)) != nil }

    func entries() throws(ApusError) -> [Entry] {
        if has("manifest.json") { return try savedEntries() }
        if has("index.json") { return try layoutEntries() }
        throw ApusError(
            .corrupt, "the archive has neither manifest.json (docker save) nor index.json (OCI layout); for a root file system use import")
    }

    private func savedEntries() throws(ApusError) -> [Entry] {
        var entries: [Entry] = []
        for item in try json("manifest.json").array ?? [] {
            guard let configuration = item["Config"]?.string else { throw ApusError(.corrupt, "manifest.json names no Config") }
            let layers = try strings(item, "Layers")
            var references: [ImageReference] = []
            for tag in try strings(item, "RepoTags") { references.append(try ImageReference(tag)) }
            entries.append(Entry(configuration: try read(configuration), configurationDigest: nil, layers: layers, references: references))
        }
        return entries
    }

    /// None when it is absent or null.
    private func strings(_ item: JSONValue, _ key: String) throws(ApusError) -> [String] {
        guard let value = item[key], !value.isNull else { return [] }
        let strings = value.array?.compactMap(\.string)
        guard let strings, strings.count == value.array?.count else {
            throw ApusError(.corrupt, "\(key) in manifest.json is not a list of strings")
        }
        return strings
    }

    private func layoutEntries() throws(ApusError) -> [Entry] {
        var entries: [Entry] = []
        for item in try json("index.json")["manifests"]?.array ?? [] {
            guard let digest = item["digest"]?.string.flatMap({ ContentDigest($0) }) else {
                throw ApusError(.corrupt, "index.json has a manifest without digest")
            }
            guard let manifest = try manifest(digest, item["mediaType"]?.string ?? "") else { continue }
            var references: [ImageReference] = []
            let annotations = item["annotations"]
            if let name = annotations?["io.containerd.image.name"]?.string ?? annotations?["org.opencontainers.image.ref.name"]?.string,
                name.contains(":") || name.contains("/")
            {
                references = [try ImageReference(name)]
            }
            entries.append(
                Entry(
                    configuration: try blob(manifest.configuration.digest), configurationDigest: manifest.configuration.digest,
                    layers: manifest.layers.map { "blobs/sha256/\($0.digest.hexadecimal)" }, references: references))
        }
        return entries
    }

    private func blob(_ digest: ContentDigest) throws(ApusError) -> [UInt8] {
        let bytes = try read("blobs/sha256/\(digest.hexadecimal)")
        guard ContentDigest(of: bytes) == digest else { throw ApusError(.corrupt, "the blob \(digest) in the archive is damaged") }
        return bytes
    }

    /// `nil` for what is no image, such as an attestation.
    private func manifest(_ digest: ContentDigest, _ type: String) throws(ApusError) -> ImageManifest? {
        switch try ManifestParser.parse(blob(digest), contentType: type) {
        case .image(let manifest): return manifest
        case .list(let entries):
            let chosen = try ManifestParser.choose(entries, for: .current)
            guard case .image(let manifest) = try ManifestParser.parse(blob(chosen.digest), contentType: chosen.mediaType) else { return nil }
            return manifest
        }
    }
}
