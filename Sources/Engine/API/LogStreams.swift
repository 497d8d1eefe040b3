import Agent
import Coding
import Glibc
import PluginAPI
import Processes

/// Hands a log that is written to a descriptor to a client, without holding a thread.
enum LogStreams {
    /// The parameters that all log routes share.
    static func request(_ request: APIRequest) throws(ApusError) -> LogRequest {
        var logs = LogRequest(id: "", descriptor: -1)
        logs.standardOutput = request.flag("stdout")
        logs.standardError = request.flag("stderr")
        guard logs.standardOutput || logs.standardError else {
            throw ApusError(.invalidArgument, "Bad parameters: you must choose at least one stream")
        }
        logs.follow = request.flag("follow")
        logs.timestamps = request.flag("timestamps")
        if let tail = request.text("tail"), tail != "all", !tail.isEmpty {
            guard let count = Int(tail) else { throw ApusError(.invalidArgument, "tail=\(tail) is neither a number nor \"all\"") }
            logs.tail = count < 0 ? nil : count
        }
        logs.since = try EventTime.parse(request.text("since"), name: "since") ?? .never
        logs.until = try EventTime.parse(request.text("until"), name: "until") ?? .never
        return logs
    }

    /// Runs `produce` with the writing end of a pipe, and hands on what arrives at the other.
    static func copy(
        to writer: any APIResponseWriter, _ produce: @escaping @Sendable (Int32) async throws(ApusError) -> Void
    ) async throws {
        let pipe = try Pipe()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { pipe.writer.close() }
                try await produce(pipe.writer.number)
            }
            group.addTask { try await pump(pipe.reader, to: writer) }
            do {
                try await group.waitForAll()
            } catch {
                pipe.reader.close()
                group.cancelAll()
                throw error
            }
        }
    }

    private static func pump(_ reader: Descriptor, to writer: any APIResponseWriter) async throws {
        // At the end of this the producer must see that nobody reads any more.
        defer { reader.close() }
        let number = reader.number
        _ = fcntl(number, F_SETFL, O_NONBLOCK)
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(number, &buffer, buffer.count)
            if count > 0 {
                try await writer.write(Array(buffer[..<count]))
            } else if count == 0 {
                return
            } else if errno == EAGAIN {
                await ReadinessPoller.shared.waitUntilReadable(number)
                try ConcurrentTask.checkCancellation()
            } else if errno != EINTR {
                return
            }
        }
    }
}
