import Logging
import Orchestration
import PluginAPI
import Synchronization
import Wire

extension RemoteDispatcher {
    private static var periods: ClosedRange<Duration> { .milliseconds(50)...(.seconds(3600)) }
    private static var batchLimit: Int { 500 }

    /// Everything that belongs to one session; returns why it ended.
    func serve(_ client: any DispatcherClient, _ address: String, _ connected: @escaping @Sendable () -> Void) async -> DispatcherFailure {
        let (identities, identity) = AsyncStream.makeStream(of: ID.self)
        var request = SessionRequest()
        request.description = describe()
        request.address = self.address
        let described = request.description
        do {
            try await withThrowingTaskGroup(of: Void.self) { [request] group in
                group.addTask {
                    try await client.session(request) { message in
                        if self.take(message, client, address) {
                            connected()
                            identity.yield(message.sessionID)
                        }
                    }
                    throw DispatcherFailure(ApusError(.unavailable, "manager \(address) ended the session"))
                }
                group.addTask {
                    try await ConcurrentTask.sleep(for: self.configuration.callTimeout)
                    guard self.state.withLock({ $0.session == nil }) else { return }
                    throw DispatcherFailure(ApusError(.timedOut, "manager \(address) does not answer"))
                }
                group.addTask {
                    for await id in identities {
                        try await self.work(RemoteDispatcher.Session(id: id, client: client), described)
                        return
                    }
                }
                // The watchdog returns when all is well; anything else ends with an error.
                while try await group.next() != nil {}
            }
            return DispatcherFailure(ApusError(.unavailable, "the session with \(address) ended"))
        } catch {
            return DispatcherFailure(error)
        }
    }

    /// Takes what the manager says; true for the first message of a session.
    private func take(_ message: SessionMessage, _ client: any DispatcherClient, _ address: String) -> Bool {
        let isFirst = state.withLock { state in
            let isFirst = state.session == nil
            if isFirst { state.session = Session(id: message.sessionID, client: client) }
            state.message = message
            let managers = message.managers.filter { !$0.address.isEmpty && $0.address.utf8.count <= 300 }.prefix(1000)
            if !managers.isEmpty { state.managers = Array(managers) }
            return isFirst
        }
        if isFirst { logger.info("session with the manager \(address)", metadata: ["session": "\(message.sessionID)"]) }
        currentNews.set(SessionNews(connection: .connected(address), message: message))
        return isFirst
    }

    private func work(_ session: Session, _ described: NodeDescription) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.beat(session) }
            group.addTask { try await self.receive(session) }
            group.addTask { try await self.receiveEndpoints(session) }
            group.addTask { try await self.confirmEndpoints(session) }
            if let logs { group.addTask { try await self.serveLogs(session, logs) } }
            group.addTask { try await self.send(session) }
            group.addTask { try await self.describeAgain(session, described) }
            try await group.next()
            group.cancelAll()
        }
    }

    // MARK: Heartbeats

    private func beat(_ session: Session) async throws {
        var request = HeartbeatRequest()
        request.sessionID = session.id
        var last = ContinuousClock.now
        var period = usualPeriod
        var answered: Duration?
        while true {
            // The period may be shortened while one waits.
            while case let rest = last + min(period, answered ?? usualPeriod) - .now, rest > .zero {
                try await ConcurrentTask.sleep(for: min(rest, .seconds(5)))
                period = usualPeriod + usualPeriod / 5
            }
            last = .now
            let response = try await session.client.heartbeat(request, timeout: configuration.callTimeout)
            answered = Self.bounded(response.period)
        }
    }

    private var usualPeriod: Duration { Self.bounded(state.withLock { $0.message?.heartbeatPeriod ?? .seconds(5) }) }
    private static func bounded(_ period: Duration) -> Duration {
        period <= .zero ? .seconds(5) : min(max(period, periods.lowerBound), periods.upperBound)
    }

    // MARK: Assignments

    /// Follows the assignments. After a gap the whole set is asked for again.
    private func receive(_ session: Session) async throws {
        var request = AssignmentsRequest()
        request.sessionID = session.id
        while true {
            let set = Mutex(AssignmentSet(node: node))
            do throws(DispatcherFailure) {
                try await session.client.assignments(request) { message in
                    let (tasks, files) = try set.withLock { set throws(ApusError) in
                        let isChanged = try set.apply(message)
                        return (isChanged ? set.sorted : nil, set.files)
                    }
                    // Before the tasks that read them.
                    if !message.hasMore { self.state.withLock { $0.files = files } }
                    guard let tasks else { return }
                    self.reports.keep(tasks.map(\.id))
                    self.feed.keep(tasks.map(\.id))
                    self.tasks.set(tasks)
                }
                throw DispatcherFailure(ApusError(.unavailable, "the manager ended the assignments"))
            } catch {
                guard error.error.code == .conflict else { throw error }
                logger.warning("\(error.error.message)")
                try await ConcurrentTask.sleep(for: Self.random(configuration.shortestPause, configuration.shortestPause * 3))
            }
        }
    }

    // MARK: Endpoints

    /// Follows the table of endpoints. After a gap, or when the checksum is another, the whole is asked for again.
    private func receiveEndpoints(_ session: Session) async throws {
        var request = EndpointsRequest()
        request.sessionID = session.id
        while true {
            feed.begin()
            let set = Mutex(EndpointSet())
            do throws(DispatcherFailure) {
                try await session.client.endpoints(request) { message in
                    let news = try set.withLock { set throws(ApusError) in try set.apply(message).map { ($0, set.table, set.isComparable) } }
                    guard let (effect, table, isComparable) = news else { return }
                    if message.isFull, !isComparable {
                        self.logger.warning("the manager is of another version: whether changes of endpoints are complete is not checked")
                    }
                    self.feed.deliver(table, effect)
                }
                throw DispatcherFailure(ApusError(.unavailable, "the manager ended the endpoints"))
            } catch {
                guard error.error.code == .conflict else { throw error }
                logger.warning("\(error.error.message)")
                try await ConcurrentTask.sleep(for: Self.random(configuration.shortestPause, configuration.shortestPause * 3))
            }
        }
    }

    private func confirmEndpoints(_ session: Session) async throws {
        for await _ in feed.confirmations() {
            while let version = feed.takeConfirmation() {
                var request = ConfirmEndpointsRequest()
                request.sessionID = session.id
                request.version = version
                try await session.client.confirmEndpoints(request, timeout: configuration.callTimeout)
            }
        }
    }

    // MARK: Statuses

    private func send(_ session: Session) async throws {
        for await _ in reports.begin() {
            while case let batch = reports.batch(limit: Self.batchLimit), !batch.isEmpty { try await send(batch, session) }
        }
    }

    private func send(_ batch: ReportQueue.Batch, _ session: Session) async throws(DispatcherFailure) {
        var request = UpdateTaskStatusRequest()
        request.sessionID = session.id
        request.sentAt = SystemClock().now()
        request.updates = batch.statuses.map { id, status in
            var update = TaskStatusUpdate()
            update.taskID = id
            update.status = status
            return update
        }
        do throws(DispatcherFailure) {
            try await session.client.updateTaskStatus(request, timeout: configuration.callTimeout)
            reports.finish(batch)
        } catch {
            switch error.error.code {
            case .permissionDenied, .invalidArgument, .tooLarge: break
            default: throw error
            }
            // One of them is not accepted, and must not keep the others.
            guard batch.count > 1 else {
                logger.error("the manager does not take a status: \(error.error.message)")
                return reports.finish(batch)
            }
            let (first, second) = batch.halves
            try await send(first, session)
            try await send(second, session)
        }
    }

    // MARK: The node's description

    private func describeAgain(_ session: Session, _ described: NodeDescription) async throws {
        var described = described
        while true {
            try await ConcurrentTask.sleep(for: configuration.descriptionPeriod)
            let now = describe()
            guard now != described else { continue }
            var request = UpdateNodeDescriptionRequest()
            request.sessionID = session.id
            request.description = now
            try await session.client.updateDescription(request, timeout: configuration.callTimeout)
            described = now
        }
    }
}
