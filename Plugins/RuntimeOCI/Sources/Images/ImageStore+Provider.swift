import PluginAPI

extension ImageStore: ImageProvider {
    func acquire(image: ID, for container: ID) async throws(ApusError) { _ = try acquire(image, for: container) }

    func release(image: ID, for container: ID) async { await release(container) }

    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { try await remove(request) }

    func layersSize() async throws(ApusError) -> Int64 { diskUsage() }

    func sharedSizes() async throws(ApusError) -> [ID: Int64] { sharedUsage() }
}
