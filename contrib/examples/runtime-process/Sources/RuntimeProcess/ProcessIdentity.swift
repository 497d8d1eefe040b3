import Glibc

/// A process that cannot be mistaken for a later one with the same number.
struct ProcessIdentity: Sendable, Hashable {
    let number: Int32
    /// Of the process, in ticks since the machine started (proc(5), field 22 of `stat`).
    let startedAt: UInt64
    /// Of the machine's start: both numbers begin anew then.
    let boot: String

    /// `nil` when there is no such process, or it has ended and only its parent has not noticed.
    init?(running number: Int32) {
        guard number > 0, let stat = ProcessStat(of: number), !stat.hasEnded else { return nil }
        self.number = number
        startedAt = stat.startedAt
        boot = Self.boot
    }

    /// Of one that has ended already; what it has left behind has its number for its session's.
    init(ended number: Int32) {
        self.number = number
        startedAt = 0
        boot = Self.boot
    }

    init?(_ text: String) {
        let words = text.split(separator: " ")
        guard words.count == 3, let number = Int32(words[0]), number > 0, let startedAt = UInt64(words[1]) else { return nil }
        self.number = number
        self.startedAt = startedAt
        boot = String(words[2])
    }

    var text: String { "\(number) \(startedAt) \(boot)" }

    var isRunning: Bool { ProcessIdentity(running: number) == self }

    /// The processes that it has started, itself among them, but for those that left for a session of their own.
    var session: [ProcessStat] {
        guard boot == Self.boot, let folder = opendir("/proc") else { return [] }
        defer { closedir(folder) }
        var members: [ProcessStat] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            guard let number = Int32(name), let stat = ProcessStat(of: number), stat.session == self.number else { continue }
            members.append(stat)
        }
        return members
    }

    func signal(_ signal: Int32) { if isRunning { kill(number, signal) } }

    /// Ends everything of the session. What is being started at this moment is found the next time.
    func killSession() {
        for _ in 0..<10 {
            let members = session.filter { !$0.hasEnded && $0.startedAt >= startedAt }
            if members.isEmpty { return }
            for member in members { kill(member.number, SIGKILL) }
        }
    }

    private static let boot = (File.text("/proc/sys/kernel/random/boot_id") ?? "").split(separator: "\n").first.map { String($0) } ?? ""
}

/// A line of `/proc/PID/stat`.
struct ProcessStat: Sendable, Hashable {
    let number: Int32
    let parent: Int32
    let session: Int32
    let hasEnded: Bool
    /// In user mode and in the kernel, in ticks.
    let ticks: UInt64
    let startedAt: UInt64
    let pages: UInt64

    init?(of number: Int32) {
        guard let text = File.text("/proc/\(number)/stat") else { return nil }
        self.init(text)
    }

    /// The name, in brackets, may have anything in it, brackets too.
    init?(_ text: String) {
        guard let open = text.firstIndex(of: "("), let end = text.lastIndex(of: ")"), open < end,
            let number = Int32(text[..<open].split(separator: " ").joined())
        else { return nil }
        let fields = text[text.index(after: end)...].split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard fields.count >= 22, let parent = Int32(fields[1]), let session = Int32(fields[3]), let user = UInt64(fields[11]),
            let kernel = UInt64(fields[12]), let startedAt = UInt64(fields[19]), let pages = UInt64(fields[21])
        else { return nil }
        self.number = number
        self.parent = parent
        self.session = session
        hasEnded = fields[0] == "Z" || fields[0] == "X"
        ticks = user &+ kernel
        self.startedAt = startedAt
        self.pages = pages
    }
}
