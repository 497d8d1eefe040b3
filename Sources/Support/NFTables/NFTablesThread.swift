import CLinux
import Glibc
import Namespaces
import PluginAPI
import Synchronization

/// The thread on which libnftables runs, with file descriptors of its own.
///
/// libnftables waits for the kernel with select(2), which knows no descriptor above 1023 (`FD_SETSIZE`), and ends the process that gives it one. An
/// engine with some hundred containers has more than that open. This thread does not share the process's table of descriptors (unshare(2) with
/// `CLONE_FILES`), so that its numbers are low whatever the others have open.
///
/// There is one for as long as somebody uses it.
final class NFTablesThread: Sendable {
    private struct Current {
        weak var thread: NFTablesThread?
    }

    private static let current = Mutex(Current())
    /// Of the contexts that are kept; the rest of the numbers below 1024 is for those of one use.
    private static let keptLimit = 960

    private let thread: NamespaceThread
    private let keptCount = Mutex(0)

    /// The one that is there, or a new one.
    static func shared() throws(ApusError) -> NFTablesThread {
        try current.withLock { current throws(ApusError) in
            if let thread = current.thread { return thread }
            let thread = try NFTablesThread()
            current.thread = thread
            return thread
        }
    }

    private init() throws(ApusError) {
        thread = try NamespaceThread(in: Self.home)
        try perform { () throws(ApusError) in
            guard apus_unshare(Self.filesFlag) == 0 else { throw Self.failure("give a thread file descriptors of its own") }
            try Self.closeInherited()
        }
    }

    /// CLONE_FILES of clone(2), which Glibc's module does not show.
    private static let filesFlag: Int32 = 0x400

    /// Closes everything but the standard streams, which libnftables may write to.
    private static func closeInherited() throws(ApusError) {
        guard let folder = opendir("/proc/thread-self/fd") else { throw failure("read /proc/thread-self/fd") }
        var numbers: [Int32] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { name in
                name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if let number = Int32(name), number > 2, number != dirfd(folder) { numbers.append(number) }
        }
        closedir(folder)
        for number in numbers { Glibc.close(number) }
    }

    /// The namespace of the process's first thread. Nobody's namespace is held by this thread between two calls.
    private static let home = "/proc/self/ns/net"

    /// Runs `body` in the namespace of the calling thread, which waits and must not be one of the cooperative pool.
    func run<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) throws(ApusError) -> Value {
        let namespace = "/proc/\(try Self.callingThread())/ns/net"
        return try perform { () throws(ApusError) in
            try NetworkNamespaces.enter(namespace)
            defer { try? NetworkNamespaces.enter(Self.home) }
            return try body()
        }
    }

    /// `<process>/task/<thread>`.
    private static func callingThread() throws(ApusError) -> String {
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer -> String? in
            guard let start = buffer.baseAddress else { return nil }
            let count = readlink("/proc/thread-self", start, buffer.count)
            return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
        }
        guard let text else { throw failure("read /proc/thread-self") }
        return text
    }

    private static func failure(_ doing: String) -> ApusError {
        ApusError(.failed, "cannot \(doing): \(String(cString: strerror(errno))); is /proc mounted, and is this process root?")
    }

    private func perform<Value: Sendable>(_ body: @escaping @Sendable () throws(ApusError) -> Value) throws(ApusError) -> Value {
        let answer = try Answer<Value>()
        thread.post {
            do throws(ApusError) { answer.give(.success(try body())) } catch { answer.give(.failure(error)) }
        }
        return try answer.wait().get()
    }

    /// A new context for the namespace of the calling thread, to be used inside of `run`.
    /// - Returns: `nil` when so many are kept that this one could not be.
    /// - Throws: `unavailable` when libnftables gives none.
    func open() throws(ApusError) -> NFTablesContext? {
        let isPermitted = keptCount.withLock { count in
            guard count < Self.keptLimit else { return false }
            count += 1
            return true
        }
        guard isPermitted else { return nil }
        do throws(ApusError) {
            return try run { () throws(ApusError) in try NFTablesContext() }
        } catch {
            keptCount.withLock { $0 -= 1 }
            throw error
        }
    }

    func close(_ context: NFTablesContext) {
        keptCount.withLock { $0 -= 1 }
        thread.post { context.free() }
    }

    private final class Answer<Value: Sendable>: Sendable {
        private let value = Mutex<Result<Value, ApusError>?>(nil)
        private let isThere: ThreadSemaphore

        init() throws(ApusError) { isThere = try ThreadSemaphore() }

        func give(_ result: Result<Value, ApusError>) {
            value.withLock { $0 = result }
            isThere.post()
        }

        func wait() -> Result<Value, ApusError> {
            isThere.wait()
            return value.withLock { $0 } ?? .failure(ApusError(.failed, "the thread of nftables gave no answer"))
        }
    }
}
