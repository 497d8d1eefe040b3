import PluginAPI
import Synchronization

/// Hands the signals of this process on to a container.
final class SignalForwarder: Sendable {
    private let client: EngineClient
    private let id: String
    private let pending = Mutex<[ConcurrentTask<Void, Never>]>([])

    init(client: EngineClient, id: String) {
        self.client = client
        self.id = id
    }

    func forward(_ signal: Int32) {
        let (client, id) = (client, id)
        // A container that has ended meanwhile needs no signal.
        let work = ConcurrentTask { _ = try? await client.post("/containers/\(id)/kill", ["signal": String(signal)]) }
        pending.withLock { $0.append(work) }
    }

    /// Returns when all signals were handed on.
    func finish() async {
        for work in pending.withLock({ $0 }) { await work.value }
    }
}

/// Writes a container's log as it comes.
final class LogPrinter: Sendable {
    private let console: any Console
    private let reader: Mutex<LogStreamReader>

    init(console: any Console, isRaw: Bool) {
        self.console = console
        reader = Mutex(LogStreamReader(isRaw: isRaw))
    }

    func begin(_ head: EngineResponse) { reader.withLock { $0.begin(head) } }

    func take(_ chunk: [UInt8]) throws(ApusError) {
        for piece in try reader.withLock({ reader throws(ApusError) in try reader.take(chunk) }) {
            if piece.output == .error { console.writeError(piece.bytes) } else { console.write(piece.bytes) }
        }
    }
}
