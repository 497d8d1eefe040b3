/// A new runtime, which has more to answer than the other roles.
enum PluginTemplateRuntime {
    static func source(_ type: String) -> String {
        """
        public import PluginAPI

        /// Keeps images and runs containers; empty so far.
        public final class \(type): Runtime {
            private let host: any HostServices

            public init(host: any HostServices) {
                self.host = host
            }

            private func missing(_ what: String) -> ApusError { ApusError(.unimplemented, "\(type) cannot \\(what) yet") }

            public func information() async throws(ApusError) -> RuntimeInformation {
                RuntimeInformation(ociRuntime: "none", monitor: "none", cgroupVersion: 2, storageDriver: "none", seccomp: false)
            }

            // Images

            public func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image {
                throw missing("pull images")
            }

            public func images() async throws(ApusError) -> [Image] { [] }

            public func image(_ reference: String) async throws(ApusError) -> Image { throw ApusError(.notFound, "no such image: \\(reference)") }

            public func tag(source: String, target: String) async throws(ApusError) { throw missing("tag images") }

            public func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { throw missing("remove images") }

            public func load(descriptor: Int32) async throws(ApusError) -> [String] { throw missing("load images") }

            public func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { throw missing("import images") }

            public func diskUsage() async throws(ApusError) -> RuntimeDiskUsage { RuntimeDiskUsage() }

            // Containers

            public func create(_ configuration: ContainerConfiguration) async throws(ApusError) { throw missing("create containers") }

            public func start(_ id: ID) async throws(ApusError) -> ContainerState { throw missing("start containers") }

            public func stop(_ request: StopRequest) async throws(ApusError) -> ContainerState { throw missing("stop containers") }

            public func signal(_ id: ID, _ signal: Int32) async throws(ApusError) { throw missing("signal containers") }

            public func wait(_ id: ID) async throws(ApusError) -> ContainerState { throw missing("wait for containers") }

            public func remove(_ id: ID) async throws(ApusError) { throw missing("remove containers") }

            public func containers() async throws(ApusError) -> [Container] { [] }

            public func container(_ id: ID) async throws(ApusError) -> Container { throw ApusError(.notFound, "no such container: \\(id)") }

            public func execute(_ request: ExecuteRequest) async throws(ApusError) -> ExecuteAnswer { throw missing("execute commands") }

            public func logs(_ request: LogRequest) async throws(ApusError) { throw missing("show logs") }

            public func statistics(_ id: ID) async throws(ApusError) -> ContainerStatistics { throw missing("measure containers") }

            public func events() -> AsyncStream<RuntimeEvent> { AsyncStream { $0.finish() } }

            // Volumes

            public func volumes() async throws(ApusError) -> [Volume] { [] }

            public func createVolume(_ volume: Volume) async throws(ApusError) -> Volume { throw missing("create volumes") }

            public func removeVolume(name: String) async throws(ApusError) { throw missing("remove volumes") }
        }

        """
    }
}
