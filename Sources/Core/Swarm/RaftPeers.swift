import Dispatcher
import GRPCCore
import Logging
import PluginAPI
import Raft
import Synchronization
import Wire

/// Raft's messages over gRPC: a stream to each member, in order; what does not fit in its queue is lost, as Raft allows.
final class RaftPeers: RaftTransport {
    /// The queue to one member. Whoever fills it wakes the stream that empties it.
    private final class Queue: Sendable {
        /// Messages, and bytes of entries, that may wait for one member.
        static let messageLimit = 4096
        static let byteLimit = 32 << 20

        struct Contents {
            var messages: [RaftMessage] = []
            var bytes = 0
        }

        let contents = Mutex(Contents())
        let filled: AsyncStream<Void>
        let fill: AsyncStream<Void>.Continuation

        init() { (filled, fill) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1)) }

        func add(_ message: RaftMessage) {
            contents.withLock { contents in
                guard contents.messages.count < Self.messageLimit, contents.bytes < Self.byteLimit else { return }
                contents.messages.append(message)
                contents.bytes += message.size
            }
            fill.yield()
        }

        /// As many as fit in one batch.
        func take() -> [RaftMessage] {
            contents.withLock { contents in
                var bytes = 0
                let count = contents.messages.prefix { message in
                    defer { bytes += message.size }
                    return bytes < 2 << 20
                }.count
                let taken = Array(contents.messages.prefix(count))
                contents.messages.removeFirst(count)
                contents.bytes -= taken.reduce(0) { $0 + $1.size }
                return taken
            }
        }

        func clear() { contents.withLock { $0 = Contents() } }
    }

    private let connections: PeerConnections
    private let directory: MemberDirectory
    private let logger: Logger
    private let queues = Mutex<[MemberID: Queue]>([:])
    private let node = Mutex<RaftNode?>(nil)
    private let made: AsyncStream<MemberID>
    private let make: AsyncStream<MemberID>.Continuation

    init(connections: PeerConnections, directory: MemberDirectory, logger: Logger) {
        self.connections = connections
        self.directory = directory
        self.logger = logger
        (made, make) = AsyncStream.makeStream(of: MemberID.self)
    }

    func send(_ messages: [RaftMessage]) {
        for message in messages { queue(message.to).add(message) }
    }

    private func queue(_ member: MemberID) -> Queue {
        queues.withLock { queues in
            if let queue = queues[member] { return queue }
            let queue = Queue()
            queues[member] = queue
            make.yield(member)
            return queue
        }
    }

    func sendSnapshot(_ message: RaftMessage, _ chunks: SnapshotChunks) async throws(ApusError) {
        guard let address = directory.address(of: message.to) else {
            throw ApusError(.notFound, "it is not known where manager \(message.to) is")
        }
        let client = try connections.client(for: address)
        let request = StreamingClientRequest<SnapshotPart> { writer in
            var part = SnapshotPart()
            part.message = RaftEnvelope(message)
            for try await chunk in chunks {
                part.bytes = chunk.bytes
                part.endsPiece = chunk.endsPiece
                try await writer.write(part)
                part = SnapshotPart()
            }
            // A snapshot without bytes is announced all the same.
            if part.message != nil { try await writer.write(part) }
        }
        do {
            _ = try await client.clientStreaming(
                request: request, descriptor: RaftMethods.installSnapshot, serializer: FieldCodedSerializer<SnapshotPart>(),
                deserializer: FieldCodedDeserializer<RaftAnswer>(), options: .defaults
            ) { try $0.message }
        } catch {
            throw DispatcherFailure(error).error
        }
    }

    /// Sends until it is cancelled.
    func run(_ node: RaftNode) async {
        self.node.withLock { $0 = node }
        await withDiscardingTaskGroup { group in
            for await member in made {
                group.addTask { await self.serve(member, node) }
            }
            group.cancelAll()
        }
        // The node holds this, too.
        self.node.withLock { $0 = nil }
    }

    private func serve(_ member: MemberID, _ node: RaftNode) async {
        let queue = queue(member)
        var pause = Duration.milliseconds(20)
        while !ConcurrentTask.isCancelled {
            let began = ContinuousClock.now
            do {
                guard let address = directory.address(of: member) else {
                    throw ApusError(.notFound, "it is not known where manager \(member) is")
                }
                try await stream(queue, try connections.client(for: address))
            } catch {
                if ConcurrentTask.isCancelled { return }
                logger.debug("the way to a manager is lost", metadata: ["member": "\(member)", "reason": "\(error)"])
            }
            if ConcurrentTask.isCancelled { return }
            // What waited meanwhile is old.
            queue.clear()
            node.unreachable(member)
            if ContinuousClock.now - began > .seconds(1) { pause = .milliseconds(20) }
            try? await ConcurrentTask.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(300))
        }
    }

    private func stream(_ queue: Queue, _ client: PeerConnections.Client) async throws {
        let request = StreamingClientRequest<RaftBatch> { writer in
            for await _ in queue.filled {
                while true {
                    let messages = queue.take()
                    if messages.isEmpty { break }
                    var batch = RaftBatch()
                    batch.messages = messages.map(RaftEnvelope.init)
                    try await writer.write(batch)
                }
            }
        }
        // The other side answers only to end the stream.
        _ = try await client.clientStreaming(
            request: request, descriptor: RaftMethods.send, serializer: FieldCodedSerializer<RaftBatch>(),
            deserializer: FieldCodedDeserializer<RaftAnswer>(), options: .defaults
        ) { try $0.message }
    }
}

extension RaftMessage {
    /// Bytes of its entries, and some for the rest.
    fileprivate var size: Int {
        guard case .append(_, let entries, _, _) = content else { return 64 }
        return entries.reduce(64) { $0 + $1.payload.count + 32 }
    }
}
