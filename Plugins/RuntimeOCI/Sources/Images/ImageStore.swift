import CLinux
import Files
import Glibc
import HTTPClient
import PluginAPI
import Synchronization

/// The images of this node: a content-addressed store in one folder, which one engine has at a time.
///
/// * `references.json`: names, images and layers; written atomically, the truth after a restart
/// * `blobs/sha256/`: configurations and manifests
/// * `l/<number>/`: the files of one layer each, as overlayfs wants them, shared by all images that have the layer. Short names, since a
///   mount's options must name them all in one page
/// * `partial/`: downloads on their way
///
/// At start call `acquire` for every container that is there, then `collectGarbage`.
package final class ImageStore: Sendable {
    struct State: Sendable {
        var index: StoreIndex
        /// Their documents, without references, which the index has.
        var documents: [String: Image]
        /// Containers to image ids.
        var holders: [ID: String] = [:]
        /// Diff ids that a pull needs, with the number of pulls.
        var pins: [String: Int] = [:]
        /// Images on their way out.
        var leaving: Set<String> = []
        var nextNumber: Int
    }

    let configuration: ImageStoreConfiguration
    let client: HTTPClient
    let authorizer: RegistryAuthorizer
    let unpacker: LayerUnpacker
    let state: Mutex<State>
    /// Held while the index is changed, from its reading to its writing.
    private let writing = Mutex(())
    let pulls = SharedWork<PullKey, Image>()
    let layerWork = SharedWork<String, StoreIndex.Layer>()

    /// Opens the store, and makes it if there is none. Blocks: it reads what is there and removes what an interrupted pull left.
    /// - Throws: `corrupt` when the index cannot be read.
    package init(configuration: ImageStoreConfiguration) throws(ApusError) {
        self.configuration = configuration
        client = HTTPClient(maximumTransfers: 32)
        authorizer = RegistryAuthorizer(client: client)
        unpacker = LayerUnpacker(configuration: configuration)
        let folder = configuration.directory
        for part in ["blobs/sha256", "l", "partial"] { try Files.makeDirectory("\(folder)/\(part)") }
        let index = try Self.readIndex(folder)
        var state = State(index: index, documents: [:], nextNumber: (index.layers.values.map(\.number).max() ?? 0) + 1)
        Self.loadImages(&state, configuration)
        Self.removeLeftovers(&state, configuration)
        self.state = Mutex(state)
    }

    /// Ends pulls that run and waits for them.
    package func shutDown() async {
        await pulls.close()
        await layerWork.close()
    }

    // MARK: Opening

    private static func readIndex(_ folder: String) throws(ApusError) -> StoreIndex {
        let path = "\(folder)/references.json"
        guard Files.exists(path) else { return StoreIndex() }
        do throws(ApusError) {
            return try StoreIndex(Files.read(path))
        } catch {
            throw ApusError(
                error.code,
                "the image store's index \(path) is damaged: \(error.message). Move \(folder) away to begin with an empty store; images are pulled again when they are needed"
            )
        }
    }

    private static func loadImages(_ state: inout State, _ configuration: ImageStoreConfiguration) {
        for (id, record) in state.index.images {
            do throws(ApusError) {
                guard let digest = ContentDigest(id) else { throw ApusError(.corrupt, "its id is no digest") }
                let bytes = try Files.read(blobPath(digest, configuration))
                guard ContentDigest(of: bytes) == digest else { throw ApusError(.corrupt, "its configuration is damaged") }
                for difference in record.layers {
                    guard let layer = state.index.layers[difference], Files.isDirectory(layerPath(layer.number, configuration)) else {
                        throw ApusError(.corrupt, "its layer \(difference) is missing")
                    }
                }
                var image = try ImageDocument.parse(bytes)
                image.size = record.layers.reduce(0) { $0 + (state.index.layers[$1]?.size ?? 0) }
                state.documents[id] = image
            } catch {
                configuration.log(.warning, "image \(id) is forgotten: \(error.message)")
                state.index.removeImage(id)
            }
        }
    }

    /// What the index does not name belongs to nobody. Partial downloads of the last day may still be of use.
    private static func removeLeftovers(_ state: inout State, _ configuration: ImageStoreConfiguration) {
        let folder = configuration.directory
        _ = state.index.removeUnusedLayers(except: [])
        let numbers = Set(state.index.layers.values.map { String($0.number, radix: 36) })
        let blobs = Set((Array(state.index.images.keys) + Array(state.index.manifests.keys)).map { String($0.dropFirst("sha256:".count)) })
        func sweep(_ part: String, _ isKept: (String) -> Bool) {
            for name in (try? Files.list("\(folder)/\(part)")) ?? [] where !isKept(name) {
                do throws(ApusError) {
                    try Files.removeTree("\(folder)/\(part)/\(name)")
                } catch {
                    configuration.log(.warning, "images: \(error.message)")
                }
            }
        }
        sweep("l") { numbers.contains($0) }
        sweep("blobs/sha256") { blobs.contains($0) }
        sweep("partial") { name in
            var status = stat()
            return ContentDigest("sha256:\(name)") != nil && stat("\(folder)/partial/\(name)", &status) == 0
                && time(nil) - status.st_mtim.tv_sec < 86400
        }
    }

    // MARK: Paths

    private static func blobPath(_ digest: ContentDigest, _ configuration: ImageStoreConfiguration) -> String {
        "\(configuration.directory)/blobs/sha256/\(digest.hexadecimal)"
    }

    private static func layerPath(_ number: Int, _ configuration: ImageStoreConfiguration) -> String {
        "\(configuration.directory)/l/\(String(number, radix: 36))"
    }

    func blobPath(_ digest: ContentDigest) -> String { Self.blobPath(digest, configuration) }
    func layerPath(_ number: Int) -> String { Self.layerPath(number, configuration) }
    func partialPath(_ digest: ContentDigest) -> String { "\(configuration.directory)/partial/\(digest.hexadecimal)" }

    // MARK: Reading

    /// All images that are to be seen, newest first. From memory.
    package func images() -> [Image] {
        state.withLock { state in
            state.index.images.filter { !$0.value.isHidden }.keys.compactMap { Self.image($0, in: state) }
        }.sorted { ($1.createdAt, $1.id) < ($0.createdAt, $0.id) }
    }

    /// By reference, id or beginning of an id. From memory.
    /// - Throws: `notFound`; `invalidArgument` when several ids begin like that or it is no reference.
    package func image(_ reference: String) throws(ApusError) -> Image {
        try state.withLock { (state) throws(ApusError) in
            let id = try Self.resolve(reference, in: state)
            guard let image = Self.image(id, in: state) else { throw Self.notFound(reference) }
            return image
        }
    }

    static func notFound(_ reference: String) -> ApusError {
        ApusError(.notFound, "there is no image \(ImageReference.printable(reference)) on this node")
    }

    static func image(_ id: String, in state: State) -> Image? {
        guard var image = state.documents[id] else { return nil }
        for reference in state.index.references(of: id) {
            if reference.digest == nil {
                image.references.append(reference.description)
            } else {
                image.digests.append(reference.description)
            }
        }
        return image
    }

    static func resolve(_ text: String, in state: State) throws(ApusError) -> String {
        func isSeen(_ id: String) -> Bool { state.index.images[id].map { !$0.isHidden } ?? false }
        if let digest = ContentDigest(text), isSeen(digest.description) { return digest.description }
        let digits = text.hasPrefix("sha256:") ? String(text.dropFirst(7)) : text
        let isHexadecimal = !digits.isEmpty && digits.utf8.count <= 64 && digits.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
        if !text.hasPrefix("sha256:"), !(isHexadecimal && digits.utf8.count == 64) {
            let reference = try ImageReference(text)
            if let id = state.index.references[reference.withoutRedundantTag.canonical], isSeen(id) { return id }
            if let digest = reference.digest, let id = state.index.manifests[digest.description], isSeen(id) { return id }
        }
        guard isHexadecimal else { throw notFound(text) }
        let matches = state.index.images.keys.filter { isSeen($0) && $0.dropFirst(7).hasPrefix(digits) }
        guard matches.count < 2 else { throw ApusError(.invalidArgument, "several images have ids that begin with \(digits); give more digits") }
        guard let match = matches.first else { throw notFound(text) }
        return match
    }

    /// Bytes of all layers, each counted once.
    package func diskUsage() -> Int64 {
        state.withLock { state in state.index.layers.values.reduce(0) { $0 + $1.size } }
    }

    /// Of each image that is to be seen, the bytes of its layers that another one has as well, or that it has twice. What is left of an image's size is
    /// what the disk gains when it goes.
    package func sharedUsage() -> [ID: Int64] {
        state.withLock { state in
            let images = state.index.images.filter { !$0.value.isHidden }
            var users: [String: Int] = [:]
            for record in images.values { for layer in Set(record.layers) { users[layer, default: 0] += 1 } }
            var shared: [ID: Int64] = [:]
            for (id, record) in images {
                var seen: Set<String> = []
                let bytes = record.layers.reduce(Int64(0)) { sum, layer in
                    let isFirst = seen.insert(layer).inserted
                    return users[layer] == 1 && isFirst ? sum : sum + (state.index.layers[layer]?.size ?? 0)
                }
                if bytes > 0 { shared[ID(id)] = bytes }
            }
            return shared
        }
    }

    // MARK: Containers

    /// The folders of an image's layers, uppermost first, for `lowerdir`. All lie in one folder, so that relative names are short.
    package func rootLayers(of id: ID) throws(ApusError) -> [String] {
        try state.withLock { (state) throws(ApusError) in try rootLayers(id.text, in: state) }
    }

    private func rootLayers(_ id: String, in state: State) throws(ApusError) -> [String] {
        guard let record = state.index.images[id], !state.leaving.contains(id) else { throw Self.notFound(id) }
        return record.layers.reversed().compactMap { state.index.layers[$0].map { layerPath($0.number) } }
    }

    /// Keeps an image for a container until `release`; returns its `rootLayers`. Not remembered over a restart.
    package func acquire(_ id: ID, for container: ID) throws(ApusError) -> [String] {
        try state.withLock { (state) throws(ApusError) in
            let layers = try rootLayers(id.text, in: state)
            state.holders[container] = id.text
            return layers
        }
    }

    /// Gives back what a container had; removes an image that waited for it.
    package func release(_ container: ID) async {
        let isLast = state.withLock { state in
            guard let id = state.holders.removeValue(forKey: container) else { return false }
            return state.index.images[id]?.isHidden == true && !state.holders.values.contains(id)
        }
        if isLast { await collectGarbage() }
    }

    // MARK: Changing

    /// Changes the index, writes it, and only then shows it. Blocks.
    func commit<Value>(_ change: (inout StoreIndex, borrowing State) throws(ApusError) -> Value) throws(ApusError) -> Value {
        try writing.withLock { (_) throws(ApusError) in
            let before = state.withLock { $0 }
            var index = before.index
            let value = try change(&index, before)
            guard index != before.index else { return value }
            try Files.writeAtomically(index.bytes(), to: "\(configuration.directory)/references.json", sync: configuration.isDurable)
            state.withLock { state in
                // Layers that arrived meanwhile are not in the copy.
                for (difference, layer) in state.index.layers where before.index.layers[difference] == nil { index.layers[difference] = layer }
                state.index = index
                state.documents = state.documents.filter { index.images[$0.key] != nil }
            }
            return value
        }
    }

    /// Removes hidden images that no container has, and layers and blobs that no image has.
    package func collectGarbage() async {
        let log = configuration.log
        try? await onBlockingThread { [self] () throws(ApusError) in
            do throws(ApusError) {
                try collectGarbageNow()
            } catch {
                log(.warning, "images: \(error.message)")
            }
        }
    }

    /// Blocks. Returns the diff ids that are gone.
    @discardableResult
    func collectGarbageNow() throws(ApusError) -> [String] {
        let removed = try commit { (index, before) throws(ApusError) -> [String: StoreIndex.Layer] in
            let held = Set(before.holders.values)
            for (id, record) in index.images where record.isHidden && !held.contains(id) { index.removeImage(id) }
            // Pins taken since the copy was made count too: under the lock the layer is still there, or it is not seen any more.
            return state.withLock { state in
                let unused = index.removeUnusedLayers(except: Set(state.pins.keys))
                for difference in unused.keys { state.index.layers[difference] = nil }
                return unused
            }
        }
        for layer in removed.values {
            do throws(ApusError) {
                try Files.removeTree(layerPath(layer.number))
            } catch {
                configuration.log(.warning, "images: \(error.message)")
            }
        }
        // A commit writes its blobs with this lock held, too.
        writing.withLock { _ in
            let kept = state.withLock { state in
                Set((Array(state.index.images.keys) + Array(state.index.manifests.keys)).map { String($0.dropFirst(7)) })
            }
            for name in (try? Files.list("\(configuration.directory)/blobs/sha256")) ?? [] where !kept.contains(name) {
                unlink("\(configuration.directory)/blobs/sha256/\(name)")
            }
        }
        return removed.keys.sorted()
    }
}
