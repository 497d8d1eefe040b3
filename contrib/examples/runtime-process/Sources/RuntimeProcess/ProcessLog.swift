import Glibc
import PluginAPI
import Synchronization

/// A line of conmon's log: `2026-01-31T12:00:00.123456789+00:00 stdout F text`. `P` instead of `F`: the line goes on.
struct LogRecord: Sendable, Hashable {
    var time: Timestamp
    /// 1 or 2.
    var stream: UInt8
    var isWhole: Bool
    var text: [UInt8]

    /// Without the line feed.
    init?(_ line: some Collection<UInt8>) {
        let words = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
        guard words.count == 4, let time = Timestamp(String(decoding: words[0], as: UTF8.self)) else { return nil }
        switch String(decoding: words[1], as: UTF8.self) {
        case "stdout": stream = 1
        case "stderr": stream = 2
        default: return nil
        }
        self.time = time
        isWhole = words[2].elementsEqual([UInt8(ascii: "F")])
        text = Array(words[3])
    }
}

/// Writes a container's log as the Engine API's frames. Blocks.
final class LogReader {
    private let request: LogRequest
    /// Whether more may come.
    private let isRunning: () -> Bool
    private let isCancelled: () -> Bool
    /// Of each stream, whether its last line has not ended.
    private var isInside: [UInt8: Bool] = [:]

    init(_ request: LogRequest, isRunning: @escaping () -> Bool, isCancelled: @escaping () -> Bool) {
        self.request = request
        self.isRunning = isRunning
        self.isCancelled = isCancelled
    }

    func run(_ path: String) throws(ApusError) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        // A container that never ran has written nothing.
        guard file >= 0 else {
            if errno == ENOENT { return }
            throw File.error("read \(path)")
        }
        defer { close(file) }
        var rest: [UInt8] = []
        var last: [LogRecord] = []
        var holdsBack = request.tail != nil
        while true {
            // Asked before the file is read: what was written until then is read below.
            let mayGrow = isRunning()
            while let chunk = Self.chunk(file) {
                rest += chunk
                while let end = rest.firstIndex(of: 10) {
                    let record = LogRecord(rest[..<end])
                    rest.removeSubrange(...end)
                    guard let record, isWanted(record) else { continue }
                    guard holdsBack else {
                        guard write(record) else { return }
                        continue
                    }
                    last.append(record)
                    Self.shorten(&last, to: request.tail ?? 0)
                }
                if isCancelled() { return }
            }
            if holdsBack {
                holdsBack = false
                for record in last where !write(record) { return }
                last = []
            }
            guard request.follow, mayGrow else { return }
            var reader = pollfd(fd: request.descriptor, events: 0, revents: 0)
            if poll(&reader, 1, 100) > 0, reader.revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0 { return }
            if isCancelled() { return }
        }
    }

    private func isWanted(_ record: LogRecord) -> Bool {
        guard record.stream == 1 ? request.standardOutput : request.standardError else { return false }
        return (request.since.isNever || record.time >= request.since) && (request.until.isNever || record.time <= request.until)
    }

    /// Leaves as many lines.
    static func shorten(_ records: inout [LogRecord], to lines: Int) {
        guard records.count(where: \.isWhole) + (records.last?.isWhole == false ? 1 : 0) > lines else { return }
        guard let first = records.firstIndex(where: \.isWhole), first + 1 < records.count || lines == 0 else { return }
        records.removeSubrange(...first)
    }

    /// False when nobody reads any more.
    private func write(_ record: LogRecord) -> Bool {
        var line: [UInt8] = []
        if isInside[record.stream] != true {
            if request.timestamps { line += Array("\(record.time) ".utf8) }
            line += Array(request.linePrefix.utf8)
        }
        isInside[record.stream] = !record.isWhole
        line += record.text
        if record.isWhole { line.append(10) }
        let length = UInt32(line.count)
        var frame: [UInt8] = [record.stream, 0, 0, 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - $0 * 8)) } + line
        while !frame.isEmpty {
            let count = Glibc.write(request.descriptor, frame, frame.count)
            if count > 0 {
                frame.removeFirst(count)
            } else if errno == EAGAIN {
                var ready = pollfd(fd: request.descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&ready, 1, 100)
                if isCancelled() { return false }
            } else if errno != EINTR {
                return false
            }
        }
        return true
    }

    private static func chunk(_ file: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 32 << 10)
        let count = read(file, &buffer, buffer.count)
        return count > 0 ? Array(buffer[..<count]) : nil
    }
}

/// A sign for a thread that its work is no longer wanted.
final class Cancellation: Sendable {
    private let isSet = Atomic(false)
    func set() { isSet.store(true, ordering: .relaxed) }
    var value: Bool { isSet.load(ordering: .relaxed) }
}
