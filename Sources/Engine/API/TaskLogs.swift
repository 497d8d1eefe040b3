import Agent
import PluginAPI
import Wire

/// The logs of the tasks of this node, for whoever reads them on a manager.
struct TaskLogs: Sendable {
    let containers: ContainerEngine
    let runtime: any Runtime

    /// Writes the log of a task as whole frames, to its end or until it is cancelled. A task whose container was removed has none.
    func copy(_ subscription: LogSubscription, _ write: @escaping @Sendable ([UInt8]) async throws -> Void) async throws {
        let container = containers.list().first { $0.configuration.labels[Self.taskLabel] == subscription.taskID.text }
        guard let container else { return }
        var request = LogRequest(id: container.id, descriptor: -1)
        request.standardOutput = subscription.standardOutput
        request.standardError = subscription.standardError
        request.follow = subscription.follow
        request.timestamps = subscription.timestamps
        request.tail = subscription.tail.map { Int($0) }
        request.since = subscription.since
        request.until = subscription.until
        // Details are asked for by the marks that the manager gives.
        if !subscription.linePrefix.isEmpty {
            request.linePrefix = LogDetails.prefix(container.configuration, more: String(subscription.linePrefix.prefix { $0 != " " }))
        }
        request.alwaysFramed = true
        let writer = FrameWriter(write: write)
        try await LogStreams.copy(to: writer) { [request] descriptor throws(ApusError) in
            var request = request
            request.descriptor = descriptor
            do throws(ApusError) {
                try await runtime.logs(request)
            } catch {
                // The container was removed with its task: there is nothing more to read.
                guard error.code == .notFound else { throw error }
            }
        }
    }

    private static var taskLabel: String { "com.docker.swarm.task.id" }
}

/// Hands on whole frames.
private actor FrameWriter: APIResponseWriter {
    private var frames = LogFrames()
    private let send: @Sendable ([UInt8]) async throws -> Void

    init(write: @escaping @Sendable ([UInt8]) async throws -> Void) { send = write }

    func write(_ bytes: [UInt8]) async throws {
        let whole = frames.whole(bytes)
        if !whole.isEmpty { try await send(whole) }
    }
}
