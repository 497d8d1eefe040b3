import Files
import Glibc
import PluginAPI
import Processes
import Synchronization

/// Pulls that are the same work.
struct PullKey: Hashable, Sendable {
    var reference: ImageReference
    var platform: ImagePlatform
    var credentials: RegistryCredentials?
}

extension ImageStore {
    /// Fetches an image, or finds that it is there already. Pulls of the same image at the same time share the work.
    ///
    /// A reference with a digest that is here needs no registry; one with a tag costs one request when nothing has changed.
    package func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void = { _ in }) async throws(ApusError) -> Image {
        let reference = try ImageReference(request.reference).withoutRedundantTag
        let platform = request.platform.isEmpty ? ImagePlatform.current : try ImagePlatform(request.platform)
        if let digest = reference.digest, request.platform.isEmpty, let image = present(digest) {
            try await name(image.id.text, [reference])
            progress(PullProgress(id: "", status: "Image is up to date for \(reference)"))
            return try self.image(image.id.text)
        }
        let key = PullKey(reference: reference, platform: platform, credentials: request.credentials)
        return try await pulls.run(key, report: progress) { [self] (report) throws(ApusError) in
            try await fetch(key, isPlatformAsked: !request.platform.isEmpty, report: report)
        }
    }

    /// The image that a manifest's digest, or a list's, stands for here.
    private func present(_ digest: ContentDigest) -> Image? {
        state.withLock { state in
            guard let id = state.index.manifests[digest.description], state.index.images[id]?.isHidden == false else { return nil }
            return Self.image(id, in: state)
        }
    }

    private func fetch(_ key: PullKey, isPlatformAsked: Bool, report: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
        try await askRegistries(key) { (session) throws(ApusError) in
            try await fetch(key, isPlatformAsked: isPlatformAsked, from: session, report: report)
        }
    }

    /// Asks one registry after the other.
    func askRegistries<Answer>(
        _ key: PullKey, _ ask: (RegistrySession) async throws(ApusError) -> Answer
    ) async throws(ApusError) -> Answer {
        let targets = configuration.targets(for: key.reference)
        var failures: [ApusError] = []
        for target in targets {
            let session = RegistrySession(
                target, client: client, authorizer: authorizer, credentials: target.isMirror ? nil : key.credentials, configuration: configuration)
            do throws(ApusError) {
                return try await ask(session)
            } catch {
                if error.code == .cancelled { throw error }
                failures.append(error)
            }
        }
        // What a damaged answer left is of no use; what an interruption left is, for the next attempt.
        if failures.contains(where: { !$0.isInterruption }) { await collectGarbage() }
        let codes = Set(failures.map(\.code))
        let code = codes.count == 1 ? failures[0].code : failures.last?.code ?? .failed
        var message = failures.map(\.message).joined(separator: "; ")
        if codes == [.notFound] || codes == [.unauthenticated] || codes == [.permissionDenied], key.credentials == nil {
            message += ". It does not exist, or it needs a login"
        }
        throw ApusError(code, "\(key.reference) cannot be pulled: \(message)")
    }

    private func fetch(
        _ key: PullKey, isPlatformAsked: Bool, from session: RegistrySession, report: @escaping @Sendable (PullProgress) -> Void
    ) async throws(ApusError) -> Image {
        let reference = key.reference
        let selector = reference.digest?.description ?? reference.tag ?? "latest"
        let top = try await session.manifest(selector, expecting: reference.digest)
        report(PullProgress(id: "", status: "Pulling from \(reference.path)"))
        if !isPlatformAsked, let image = present(top.digest) {
            try await name(image.id.text, [reference, reference.with(digest: top.digest)])
            return try finished(image.id.text, top.digest, reference, isNew: false, report)
        }
        var manifests = [top.digest: top.bytes]
        let manifest: ImageManifest
        switch top.document {
        case .image(let found): manifest = found
        case .list(let entries):
            let chosen = try ManifestParser.choose(entries, for: key.platform)
            let nested = try await session.manifest(chosen.digest.description, expecting: chosen.digest)
            guard case .image(let found) = nested.document else {
                throw ApusError(.corrupt, "\(session.target.name) has a manifest list within a manifest list")
            }
            manifest = found
            manifests[nested.digest] = nested.bytes
            // The list stands for what is right for this machine, not for what somebody asked for once.
            if isPlatformAsked { manifests[top.digest] = nil }
        }
        let configurationBytes = try await session.blob(manifest.configuration)
        let document = try ImageDocument.parse(configurationBytes, layers: manifest.layers.count)
        try check(document, for: key.platform, isPlatformAsked: isPlatformAsked)

        pin(document.layers)
        defer { unpin(document.layers) }
        try await fetchLayers(manifest, document, from: session, report)
        let isNew = try await add(document, configurationBytes, manifests: manifests, references: [reference, reference.with(digest: top.digest)])
        return try finished(document.id.text, top.digest, reference, isNew: isNew, report)
    }

    private func check(_ image: Image, for platform: ImagePlatform, isPlatformAsked: Bool) throws(ApusError) {
        guard image.os == "linux" else {
            throw ApusError(.invalidArgument, "the image is for \(ImageReference.printable(image.os)); this engine runs linux")
        }
        let own = ImagePlatform(os: image.os, architecture: image.architecture.isEmpty ? platform.architecture : image.architecture)
        if isPlatformAsked, own.architecture != platform.architecture {
            throw ApusError(.notFound, "the image is for \(ImageReference.printable(own.description)), not for \(platform)")
        }
    }

    private func finished(
        _ id: String, _ digest: ContentDigest, _ reference: ImageReference, isNew: Bool, _ report: @escaping @Sendable (PullProgress) -> Void
    ) throws(ApusError) -> Image {
        report(PullProgress(id: "", status: "Digest: \(digest)"))
        report(
            PullProgress(id: "", status: isNew ? "Status: Downloaded newer image for \(reference)" : "Status: Image is up to date for \(reference)"))
        return try image(id)
    }

    // MARK: Layers

    func pin(_ layers: [String]) {
        state.withLock { state in
            for layer in layers { state.pins[layer, default: 0] += 1 }
        }
    }

    func unpin(_ layers: [String]) {
        state.withLock { state in
            for layer in layers {
                let left = (state.pins[layer] ?? 1) - 1
                state.pins[layer] = left > 0 ? left : nil
            }
        }
    }

    /// A few at a time; the first failure ends the others.
    private func fetchLayers(
        _ manifest: ImageManifest, _ document: Image, from session: RegistrySession, _ report: @escaping @Sendable (PullProgress) -> Void
    ) async throws(ApusError) {
        var seen: Set<String> = []
        let missing = zip(manifest.layers, document.layers).filter { descriptor, difference in
            guard seen.insert(difference).inserted else { return false }
            let isPresent = layer(difference) != nil
            report(PullProgress(id: descriptor.digest.short, status: isPresent ? "Already exists" : "Pulling fs layer"))
            return !isPresent
        }
        let failure = await withTaskGroup(of: ApusError?.self) { group in
            var first: ApusError?
            var rest = missing[...]
            func begin() {
                guard let (descriptor, difference) = rest.popFirst() else { return }
                group.addTask { [self] in
                    do throws(ApusError) {
                        _ = try await layerWork.run(difference, report: report) { [self] (report) throws(ApusError) in
                            try await fetchLayer(descriptor, difference, from: session, report)
                        }
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            for _ in 0..<max(1, configuration.parallelDownloads) { begin() }
            while let error = await group.next() {
                if let error {
                    if first == nil { first = error }
                    rest = []
                    group.cancelAll()
                } else {
                    begin()
                }
            }
            return first
        }
        guard let failure else { return }
        if !failure.isInterruption {
            // What the failure cut off belongs to an image that cannot be had.
            for (descriptor, difference) in missing where !layerWork.isRunning(difference) { unlink(partialPath(descriptor.digest)) }
        }
        throw failure
    }

    private func layer(_ difference: String) -> StoreIndex.Layer? { state.withLock { $0.index.layers[difference] } }

    private func fetchLayer(
        _ descriptor: ContentDescriptor, _ difference: String, from session: RegistrySession, _ report: @escaping @Sendable (PullProgress) -> Void
    ) async throws(ApusError) -> StoreIndex.Layer {
        if let present = layer(difference) { return present }
        let path = partialPath(descriptor.digest)
        let download = BlobDownload(
            descriptor: descriptor, path: path, session: session, client: client, stallTimeout: configuration.stallTimeout, report: report)
        try await download.run()
        report(PullProgress(id: descriptor.digest.short, status: "Extracting", current: 0, total: descriptor.size))
        let blob = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard blob >= 0 else { throw Files.lastError("cannot read \(path)") }
        let input = Descriptor(blob)
        defer { input.close() }
        let layer: StoreIndex.Layer
        do throws(ApusError) {
            layer = try await unpackLayer(input.number, expecting: difference)
        } catch {
            // The same bytes would be refused again.
            if error.code != .cancelled { unlink(path) }
            throw error.during("layer \(descriptor.digest.short)")
        }
        unlink(path)
        report(PullProgress(id: descriptor.digest.short, status: "Pull complete", current: descriptor.size, total: descriptor.size))
        return layer
    }

    /// Unpacks a layer into a folder of its own and makes it known.
    func unpackLayer(_ input: Int32, expecting difference: String?) async throws(ApusError) -> StoreIndex.Layer {
        try await unpackNewLayer(input, expecting: difference).layer
    }

    func unpackNewLayer(_ input: Int32, expecting difference: String?) async throws(ApusError) -> (difference: String, layer: StoreIndex.Layer) {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber - 1
        }
        let directory = layerPath(number)
        let result = try await unpacker.unpack(input, into: directory)
        let actual = result.difference.description
        if let difference, difference != actual {
            await unpacker.remove(directory)
            throw ApusError(.corrupt, "the layer has digest \(actual) when decompressed, but the image's configuration says \(difference)")
        }
        let added = StoreIndex.Layer(number: number, size: result.size)
        let present = state.withLock { state -> StoreIndex.Layer? in
            if let present = state.index.layers[actual] { return present }
            state.index.layers[actual] = added
            return nil
        }
        guard let present else { return (actual, added) }
        await unpacker.remove(directory)
        return (actual, present)
    }

    // MARK: Naming

    /// Makes an image known, whose layers are there and pinned. Returns whether it was not before.
    func add(_ document: Image, _ bytes: [UInt8], manifests: [ContentDigest: [UInt8]], references: [ImageReference]) async throws(ApusError) -> Bool {
        try await onBlockingThread { [self] () throws(ApusError) in
            guard let digest = ContentDigest(document.id.text) else { throw ApusError(.failed, "the image's id is no digest") }
            let id = document.id.text
            return try commit { (index, _) throws(ApusError) in
                let isNew = index.images[id] == nil || index.images[id]?.isHidden == true
                var image = document
                image.size = document.layers.reduce(0) { $0 + (index.layers[$1]?.size ?? 0) }
                for (digest, bytes) in manifests.merging([digest: bytes], uniquingKeysWith: { left, _ in left }) {
                    try Files.writeAtomically(bytes, to: blobPath(digest), sync: configuration.isDurable)
                }
                index.images[id] = StoreIndex.Record(layers: document.layers)
                for digest in manifests.keys { index.manifests[digest.description] = id }
                for reference in references { index.references[reference.canonical] = id }
                state.withLock { $0.documents[id] = image }
                return isNew
            }
        }
    }

    /// Gives names to an image that is there.
    func name(_ id: String, _ references: [ImageReference]) async throws(ApusError) {
        let isNamed = state.withLock { state in references.allSatisfy { state.index.references[$0.canonical] == id } }
        guard !isNamed else { return }
        try await onBlockingThread { [self] () throws(ApusError) in
            try commit { (index, before) throws(ApusError) in
                guard index.images[id] != nil, !before.leaving.contains(id) else { throw Self.notFound(id) }
                for reference in references { index.references[reference.canonical] = id }
            }
        }
    }
}

extension ApusError {
    /// The next attempt may go better, with what this one has fetched.
    fileprivate var isInterruption: Bool { [.unavailable, .timedOut, .cancelled].contains(code) }
}
