import Files
import Glibc
import PluginAPI

/// Keeps one container's log within its limits: the file is renamed and conmon is asked to open a new one, so that nothing is lost in between.
struct LogRotation: Sendable {
    let path: String
    /// conmon's control pipe.
    let control: String
    let maximumSize: Int64
    let maximumFiles: Int
    private var lastSize: Int64 = -1
    /// conmon was asked for a new file that is not there yet.
    private var isAsked = false
    /// An engine ended between the two steps, perhaps before it asked: when this was found.
    private var foundMissing: ContinuousClock.Instant?

    init(path: String, control: String, maximumSize: Int64, maximumFiles: Int) {
        self.path = path
        self.control = control
        self.maximumSize = maximumSize
        self.maximumFiles = maximumFiles
        if !Files.exists(path) { foundMissing = .now }
    }

    /// Rotates if it is time.
    /// - Returns: true when the file did not grow since the last look.
    mutating func look(log: (LogLevel, String) -> Void) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else {
            // Asked twice, conmon would replace its new file and what is in it: only when it surely was not asked.
            if let since = foundMissing, ContinuousClock.now - since > .seconds(3) {
                foundMissing = nil
                isAsked = openControl().map { ask($0) } ?? false
            }
            return false
        }
        if isAsked || foundMissing != nil {
            isAsked = false
            foundMissing = nil
            if maximumFiles == 1 { unlink("\(path).1") }
        }
        let size = Int64(status.st_size)
        guard size >= maximumSize else {
            defer { lastSize = size }
            return size == lastSize
        }
        rotate(log: log)
        lastSize = -1
        return false
    }

    private mutating func rotate(log: (LogLevel, String) -> Void) {
        // Without a conmon that listens nobody writes any more, and the files stay as they are.
        guard let control = openControl() else { return }
        let kept = max(1, maximumFiles - 1)
        unlink("\(path).\(kept)")
        for number in stride(from: kept - 1, to: 0, by: -1) { rename("\(path).\(number)", "\(path).\(number + 1)") }
        guard rename(path, "\(path).1") == 0 else {
            log(.warning, "cannot rotate \(path): \(String(cString: strerror(errno)))")
            close(control)
            return
        }
        isAsked = ask(control)
        // It ended just now.
        if !isAsked { rename("\(path).1", path) }
    }

    /// `nil` when there is no conmon.
    private func openControl() -> Int32? {
        let descriptor = open(control, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
        return descriptor >= 0 ? descriptor : nil
    }

    /// Closes the descriptor.
    private func ask(_ descriptor: Int32) -> Bool {
        defer { close(descriptor) }
        // Message 2, "reopen the logs", with two numbers that mean nothing here.
        let message = Array("2 0 0\n".utf8)
        return write(descriptor, message, message.count) == message.count
    }
}
