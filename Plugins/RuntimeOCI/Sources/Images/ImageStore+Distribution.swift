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

    /// The tags that the first registry to answer has of a repository, in its order.
    package func tags(_ request: PullRequest) async throws(ApusError) -> [String] {
        let key = PullKey(reference: try ImageReference(request.reference), platform: .current, credentials: request.credentials)
        return try await askRegistries(key) { (session) throws(ApusError) in try await session.tags() }
    }

    /// Tries credentials with a registry. Nothing is kept of them but what a pull with the same ones would have.
    package func authenticate(_ request: RegistryLoginRequest) async throws(ApusError) {
        let credentials = request.credentials
        guard !credentials.username.isEmpty || !credentials.identityToken.isEmpty else {
            throw ApusError(.invalidArgument, "the name of the user is missing")
        }
        let target = try configuration.registry(request.server)
        // A token that they brought once says nothing of today.
        for address in target.addresses { authorizer.forget(address, target.repository, credentials) }
        let session = RegistrySession(target, client: client, authorizer: authorizer, credentials: credentials, configuration: configuration)
        try await session.checkAccess()
    }
}
