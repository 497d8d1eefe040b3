public import Logging
public import PluginAPI
public import Raft
import Synchronization
import Wire

/// Raft's messages over gRPC: one stream to each member, made again when it breaks. What the connection cannot take is dropped, oldest
/// first. A broken stream is reported to the node at once.
public final class GRPCRaftTransport: RaftTransport {
    private struct State {
        weak var node: RaftNode?
        var links: [MemberID: PeerLink] = [:]
        var isClosed = false
    }

    private let state = Mutex(State())
    private let connector: any PeerConnector
    private let address: String
    private let logger: Logger

    /// - Parameter address: Where this member is, `host:port`, to be told to the others; empty when they know.
    public init(connector: any PeerConnector, address: String = "", logger: Logger) {
        self.connector = connector
        self.address = address
        self.logger = logger
    }

    /// Tells which node hears of broken connections. Called once, after the node is open.
    public func attach(_ node: RaftNode) { state.withLock { $0.node = node } }

    /// Ends every stream and waits for it. The node must be closed first.
    public func close() async {
        let links = state.withLock { state in
            state.isClosed = true
            defer { state.links = [:] }
            return Array(state.links.values)
        }
        for link in links { await link.end() }
    }

    /// Lets go of members that are not, or not any more, among these.
    public func keepOnly(_ members: Set<MemberID>) async {
        let links = state.withLock { state in
            let gone = state.links.filter { !members.contains($0.key) }
            for member in gone.keys { state.links[member] = nil }
            return gone.values
        }
        for link in links { await link.end() }
    }

    /// Begins each stream anew, over the connections that there are now: no message is lost, and nobody counts as unreachable for it.
    public func renew() {
        for link in state.withLock({ Array($0.links.values) }) { link.renew() }
    }

    /// Puts each on the stream of its member; what cannot be sent is lost, as Raft allows.
    public func send(_ messages: [RaftMessage]) {
        for (member, batch) in Dictionary(grouping: messages, by: \.to) { link(member)?.add(batch) }
    }

    /// Returns when the member has made it durable. - Throws: `unavailable`.
    public func sendSnapshot(_ message: RaftMessage, _ chunks: SnapshotChunks) async throws(ApusError) {
        do {
            try await connector.client(for: message.to).installSnapshot(RaftPeerMessage(message), chunks)
        } catch {
            throw ApusError(.unavailable, "\(error)")
        }
    }

    private func link(_ member: MemberID) -> PeerLink? {
        state.withLock { state in
            if state.isClosed { return nil }
            if let link = state.links[member] { return link }
            let link = PeerLink(member)
            state.links[member] = link
            link.start { [weak self] in await self?.run(link) }
            return link
        }
    }

    private func run(_ link: PeerLink) async {
        var pause = Duration.milliseconds(50)
        while !ConcurrentTask.isCancelled {
            let start = ContinuousClock.now
            var isBroken = false
            do {
                let client = try await connector.client(for: link.member)
                let (signals, address) = (link.signals(), address)
                try await client.sendRaft { write in
                    for await _ in signals {
                        while var batch = link.take() {
                            batch.address = address
                            try await write(batch)
                        }
                    }
                } onEnd: {
                    link.endSignals()
                }
            } catch {
                logger.debug("the stream to a manager broke", metadata: ["member": "\(link.member)", "reason": "\(error)"])
                isBroken = true
            }
            if ConcurrentTask.isCancelled { return }
            if link.takeRenewal(), !isBroken { continue }
            state.withLock { $0.node }?.unreachable(link.member)
            // One that held for a while is tried again at once.
            pause = ContinuousClock.now - start > .seconds(2) ? .milliseconds(50) : min(pause * 2, .seconds(1))
            try? await ConcurrentTask.sleep(for: pause)
            link.clear()
        }
    }
}
