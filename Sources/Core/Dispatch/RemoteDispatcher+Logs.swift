import Logging
import PluginAPI
import Synchronization
import Wire

extension RemoteDispatcher {
    /// Sends the logs that are asked for, each until its end or until nobody reads it any more.
    func serveLogs(_ session: Session, _ source: @escaping LogSource) async throws {
        let (subscriptions, subscribe) = AsyncStream.makeStream(of: LogSubscription.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                var request = LogsRequest()
                request.sessionID = session.id
                try await session.client.logs(request) { subscribe.yield($0) }
                throw DispatcherFailure(ApusError(.unavailable, "the manager ended the stream of logs"))
            }
            group.addTask {
                await withDiscardingTaskGroup { group in
                    // Each ends by itself, or when the leader says so; it says so in either case.
                    var ends: [ID: AsyncStream<Void>.Continuation] = [:]
                    for await subscription in subscriptions {
                        if subscription.isEnd {
                            ends.removeValue(forKey: subscription.id)?.finish()
                        } else if ends[subscription.id] == nil {
                            let (end, finish) = AsyncStream.makeStream(of: Void.self)
                            ends[subscription.id] = finish
                            group.addTask { await self.send(subscription, session, source, until: end) }
                        }
                    }
                    group.cancelAll()
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func send(_ subscription: LogSubscription, _ session: Session, _ source: @escaping LogSource, until end: AsyncStream<Void>) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                do throws(DispatcherFailure) {
                    try await session.client.publishLogs { send in try await Self.send(subscription, session.id, source, send) }
                } catch {
                    self.logger.debug("a log could not be sent: \(error.error.message)", metadata: ["task": "\(subscription.taskID)"])
                }
            }
            group.addTask { for await _ in end {} }
            await group.next()
            group.cancelAll()
        }
    }

    private static func send(
        _ subscription: LogSubscription, _ session: ID, _ source: LogSource, _ send: @escaping @Sendable (PublishLogsMessage) async throws -> Void
    ) async throws {
        var message = PublishLogsMessage()
        message.sessionID = session
        message.subscriptionID = subscription.id
        // The reader learns at once that somebody is there.
        try await send(message)
        do {
            try await source(subscription) { [message] data in
                // A transport may take more although nobody reads it.
                try ConcurrentTask.checkCancellation()
                var message = message
                message.data = data
                try await send(message)
            }
            message.isComplete = true
        } catch {
            if ConcurrentTask.isCancelled { throw error }
            message.error = ApusError(error).message
        }
        try await send(message)
    }
}
