import PluginAPI

/// What the facade and the containers need of an image store.
protocol ImageProvider: Sendable {
    /// Folders of the unpacked layers, uppermost first.
    func rootLayers(of image: ID) async throws(ApusError) -> [String]
    /// Notes that a container uses the image, so that it is not removed.
    func acquire(image: ID, for container: ID) async throws(ApusError)
    func release(image: ID, for container: ID) async

    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image
    func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution
    func tags(_ request: PullRequest) async throws(ApusError) -> [String]
    func authenticate(_ request: RegistryLoginRequest) async throws(ApusError)
    func images() async throws(ApusError) -> [Image]
    func image(_ reference: String) async throws(ApusError) -> Image
    func tag(source: String, target: String) async throws(ApusError)
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer
    func load(descriptor: Int32) async throws(ApusError) -> [String]
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image
    /// Bytes of all layers, each counted once.
    func layersSize() async throws(ApusError) -> Int64
    /// Of each image, the bytes of its layers that another image has as well.
    func sharedSizes() async throws(ApusError) -> [ID: Int64]
    func shutDown() async
}
