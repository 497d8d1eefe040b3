import PluginAPI

extension ImageStore {
    /// What a reference stands for, as its registry says: one request for a list of manifests, two for a single image.
    package func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution {
        let reference = try ImageReference(request.reference).withoutRedundantTag
        let key = PullKey(reference: reference, platform: .current, credentials: request.credentials)
        return try await askRegistries(key) { (session) throws(ApusError) in
            let top = try await session.manifest(reference.digest?.description ?? reference.tag ?? "latest", expecting: reference.digest)
            let platforms: [ImagePlatform]
            let types: [String]
            switch top.document {
            case .list(let entries):
                platforms = entries.map(\.0).filter { !$0.os.isEmpty && $0.os != "unknown" }
                types = ManifestParser.listTypes
            case .image(let manifest):
                let image = try ImageDocument.parse(try await session.blob(manifest.configuration), layers: manifest.layers.count)
                platforms = [ImagePlatform(os: image.os, architecture: image.architecture)]
                types = ManifestParser.imageTypes
            }
            return ImageDistribution(
                mediaType: types.contains(top.type) ? top.type : types[0], digest: top.digest.description, size: Int64(top.bytes.count),
                platforms: platforms.map { ImageDistributionPlatform(os: $0.os, architecture: $0.architecture, variant: $0.variant) })
        }
    }
}
