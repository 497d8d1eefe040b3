import CLinux
import Files
import Glibc

/// A process that cannot be mistaken for a later one with the same number.
struct ProcessIdentity: Sendable, Hashable {
    var number: Int32
    /// Clock ticks from boot to its start (proc(5), field 22).
    var start: Int64

    init(number: Int32, start: Int64) {
        self.number = number
        self.start = start
    }

    /// The process that has the number now, unless it has ended.
    init?(running number: Int32) {
        guard number > 0, let start = Self.start(of: number) else { return nil }
        self.init(number: number, start: start)
    }

    var isRunning: Bool { Self.start(of: number) == start }

    /// Sends a signal; false when the process has ended.
    func signal(_ signal: Int32) -> Bool {
        let descriptor = apus_pidfd_open(number)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // The descriptor is held: from here the number cannot change hands unseen.
        guard isRunning else { return false }
        return apus_pidfd_send_signal(descriptor, signal) == 0
    }

    /// Whether it has a handler for a signal (proc(5), `SigCgt`); `nil` when that cannot be told.
    func catches(_ signal: Int32) -> Bool? {
        guard (1...64).contains(signal), let text = try? Files.readText("/proc/\(number)/status", limit: 8192), isRunning,
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("SigCgt:") }),
            let mask = UInt64(line.dropFirst(7).drop { $0 == "\t" || $0 == " " }, radix: 16)
        else { return nil }
        return mask >> UInt64(signal - 1) & 1 == 1
    }

    /// Waits until it has ended, at most so long. Blocks.
    func waitForEnd(milliseconds: Int32) -> Bool {
        let descriptor = apus_pidfd_open(number)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        guard isRunning else { return true }
        var ended = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&ended, 1, milliseconds) > 0
    }

    /// `nil` when it has ended, also when its parent has not noticed yet.
    private static func start(of number: Int32) -> Int64? {
        guard let text = try? Files.readText("/proc/\(number)/stat", limit: 8192), let end = text.lastIndex(of: ")") else { return nil }
        // The name, in brackets, may hold anything; the fields after it are numbers.
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
        return Int64(fields[19])
    }

    /// This boot of the machine.
    static let boot = ((try? Files.readText("/proc/sys/kernel/random/boot_id")) ?? "").split(separator: "\n").first.map(String.init) ?? ""
}
