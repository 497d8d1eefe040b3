import CLinux
import Files
import Glibc
import PluginAPI
import Processes

extension Containers {
    /// Writes a log to a descriptor, on a thread of its own.
    func logs(_ request: LogRequest) async throws(ApusError) {
        let record = try table.record(request.id)
        guard LogOptions.isKept(record.configuration.log) else {
            throw ApusError(.invalidArgument, "configured logging driver does not support reading")
        }
        let cancelled = ThreadSignal()
        let ended = ThreadSignal()
        let key = table.onEnd(request.id) { ended.send() }
        let session = LogSession(
            request: request, files: LogFiles(path: layout.home(request.id.text).log), isTerminal: record.configuration.terminal,
            cancelled: cancelled.descriptor, ended: ended.descriptor)
        // Asked after the call back is in place, so that an end in between is seen in one way or the other.
        if let phase = try? table.record(request.id).container.state.phase, phase == .exited || phase == .dead { ended.send() }
        await withTaskCancellationHandler {
            await onThread(named: "apus-log") {
                var session = session
                session.run()
            }
        } onCancel: {
            cancelled.send()
        }
        if let key { table.cancelOnEnd(request.id, key) }
        withExtendedLifetime((cancelled, ended)) {}
    }
}

/// One reading of a log, perhaps following it.
struct LogSession {
    private let request: LogRequest
    private let files: LogFiles
    private let cancelled: Int32
    private let ended: Int32
    private var formatter: LogFormatter
    private var output: LogOutput
    /// What is read of an entry that is not complete.
    private var rest: [UInt8] = []

    init(request: LogRequest, files: LogFiles, isTerminal: Bool, cancelled: Int32, ended: Int32) {
        self.request = request
        self.files = files
        self.cancelled = cancelled
        self.ended = ended
        formatter = LogFormatter(request: request, isTerminal: isTerminal)
        output = LogOutput(descriptor: request.descriptor, cancelled: cancelled)
    }

    mutating func run() {
        output.prepare()
        // Before the first look, so that no change goes unnoticed.
        let inotify = request.follow ? inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC)) : -1
        defer { if inotify >= 0 { close(inotify) } }
        if inotify >= 0 { inotify_add_watch(inotify, Files.parent(files.path), UInt32(IN_MODIFY | IN_MOVED_TO | IN_CREATE)) }

        var opened = files.openAll()
        skipToTail(&opened)
        while opened.count > 1 {
            let file = opened.removeFirst()
            defer { close(file.descriptor) }
            guard copy(file.descriptor) else {
                for file in opened { close(file.descriptor) }
                return
            }
        }
        var current = opened.first
        defer { if let current { close(current.descriptor) } }
        if let current, !copy(current.descriptor) { return }
        while request.follow {
            var descriptors = [
                pollfd(fd: cancelled, events: Int16(POLLIN), revents: 0), pollfd(fd: ended, events: Int16(POLLIN), revents: 0),
                pollfd(fd: inotify, events: Int16(POLLIN), revents: 0), pollfd(fd: request.descriptor, events: 0, revents: 0),
            ]
            if poll(&descriptors, 4, -1) < 0, errno != EINTR { return }
            // The reader of a pipe or socket has gone.
            if descriptors[0].revents != 0 || descriptors[3].revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0 { return }
            let isLast = descriptors[1].revents != 0
            if inotify >= 0 { _ = InotifyReader.read(inotify) }
            guard advance(&current) else { return }
            if isLast { return }
        }
    }

    /// Copies what is new, in the current file and those that came after it. False when nobody reads any more.
    private mutating func advance(_ current: inout LogFiles.Opened?) -> Bool {
        if current == nil { current = files.openAll().first }
        while let file = current {
            // Looked for before the last copy: once there is a newer file, conmon writes no more into this one.
            let next = files.next(after: file.inode)
            guard copy(file.descriptor) else {
                if let next { close(next.descriptor) }
                return false
            }
            guard let next else { return true }
            close(file.descriptor)
            current = next
        }
        return true
    }

    /// Sets the descriptors to where the wanted lines begin, and closes those before.
    private func skipToTail(_ opened: inout [LogFiles.Opened]) {
        guard let tail = request.tail, tail >= 0 else { return }
        var wanted = tail
        for index in opened.indices.reversed() {
            let isNewest = index == opened.indices.last
            let (offset, lines) =
                tail == 0
                ? (Int64(lseek(opened[index].descriptor, 0, SEEK_END)), 0)
                : LogTail.start(of: opened[index].descriptor, lines: wanted, isNewest: isNewest)
            lseek(opened[index].descriptor, off_t(offset), SEEK_SET)
            wanted -= lines
            // At the very beginning of a file its first line may have begun in the file before.
            if offset > 0 || tail == 0 {
                for file in opened[..<index] { close(file.descriptor) }
                opened.removeFirst(index)
                return
            }
        }
    }

    /// Copies a file from where its descriptor is to its end. False when nobody reads any more.
    private mutating func copy(_ descriptor: Int32) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var block: [UInt8] = []
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return true }
            rest += buffer[..<count]
            var start = 0
            while let feed = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
                if let line = LogLine(rest[start..<feed]) { formatter.append(line, to: &block) }
                start = feed + 1
            }
            rest.removeFirst(start)
            guard output.write(block) else { return false }
            block.removeAll(keepingCapacity: true)
        }
    }
}

/// The descriptor that a log is written to: ends when its reader has gone or the caller has.
struct LogOutput {
    let descriptor: Int32
    let cancelled: Int32
    private var isSocket = false

    init(descriptor: Int32, cancelled: Int32) {
        self.descriptor = descriptor
        self.cancelled = cancelled
    }

    mutating func prepare() {
        ThreadSignals.blockBrokenPipe()
        var status = stat()
        isSocket = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    func write(_ bytes: [UInt8]) -> Bool {
        var offset = 0
        while offset < bytes.count {
            var descriptors = [pollfd(fd: cancelled, events: Int16(POLLIN), revents: 0), pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)]
            if poll(&descriptors, 2, -1) < 0, errno != EINTR { return false }
            if descriptors[0].revents != 0 { return false }
            guard descriptors[1].revents != 0 else { continue }
            let count = bytes.withUnsafeBytes { raw -> Int in
                guard let base = raw.baseAddress else { return 0 }
                if isSocket { return send(descriptor, base + offset, bytes.count - offset, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) }
                // So much never blocks once a pipe is ready (PIPE_BUF).
                return Glibc.write(descriptor, base + offset, min(4096, bytes.count - offset))
            }
            if count < 0 {
                guard errno == EINTR || errno == EAGAIN else { return false }
                continue
            }
            offset += count
        }
        return true
    }
}
