import PluginAPI

/// Which of a container's outputs a piece of log is from.
enum LogOutput: Sendable, Hashable {
    case standard
    case error
}

/// Takes apart the API's multiplexed stream: frames of eight bytes (output, three zeros, length in network order) and content.
struct LogStreamReader {
    private var buffer: [UInt8] = []
    private var isRaw: Bool

    /// - Parameter isRaw: the container has a terminal, so there are no frames, unless the answer says that there are.
    init(isRaw: Bool) { self.isRaw = isRaw }

    /// Looks at what the answer says of itself. Engines before API 1.42 say nothing.
    mutating func begin(_ head: EngineResponse) {
        if head.headers["content-type"]?.hasPrefix("application/vnd.docker.multiplexed-stream") == true { isRaw = false }
    }

    mutating func take(_ chunk: [UInt8]) throws(ApusError) -> [(output: LogOutput, bytes: [UInt8])] {
        if isRaw { return [(.standard, chunk)] }
        buffer += chunk
        var pieces: [(output: LogOutput, bytes: [UInt8])] = []
        var position = 0
        while buffer.count - position >= 8 {
            let length = buffer[position + 4..<position + 8].reduce(0) { $0 << 8 | Int($1) }
            guard buffer[position] <= 3, buffer[position + 1] == 0, buffer[position + 2] == 0, buffer[position + 3] == 0 else {
                throw ApusError(.corrupt, "the log that the engine sends has no frames")
            }
            let end = position + 8 + length
            guard end <= buffer.count else { break }
            let content = Array(buffer[position + 8..<end])
            if buffer[position] == 3 { throw ApusError(.failed, "the engine could not read the log: \(String(decoding: content, as: UTF8.self))") }
            pieces.append((buffer[position] == 2 ? .error : .standard, content))
            position = end
        }
        buffer.removeFirst(position)
        return pieces
    }
}

/// Cuts pieces of log into lines, for each output on its own.
struct LogLines {
    private var pending: [LogOutput: [UInt8]] = [:]

    mutating func take(_ bytes: [UInt8], from output: LogOutput) -> [String] {
        var lines: [String] = []
        var rest = ((pending[output] ?? []) + bytes)[...]
        while let end = rest.firstIndex(of: 0x0a) {
            lines.append(String(decoding: rest[..<end], as: UTF8.self))
            rest = rest[(end + 1)...]
        }
        pending[output] = Array(rest)
        return lines
    }

    /// What came after the last line end.
    mutating func finish() -> [(output: LogOutput, line: String)] {
        defer { pending = [:] }
        return [LogOutput.standard, .error].compactMap { output in
            guard let rest = pending[output], !rest.isEmpty else { return nil }
            return (output, String(decoding: rest, as: UTF8.self))
        }
    }
}
