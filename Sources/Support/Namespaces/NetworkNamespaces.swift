import CLinux
import Glibc
import PluginAPI

/// Network namespaces that are kept alive by a bind mount on a file, and work inside of them.
///
/// A namespace belongs to a thread. Everything here that enters one does so on a thread of its own, which ends afterwards:
/// a thread of Swift's cooperative pool never changes its namespace.
public enum NetworkNamespaces {
    /// Makes a new network namespace, with its loopback interface up, and pins it at `path`.
    ///
    /// The parent folder must exist. A leftover plain file at `path` is used.
    /// - Throws: `conflict` when a namespace is pinned there already, `failed` with the system's reason.
    public static func create(path: String) throws(ApusError) {
        if isPinned(path: path) { throw ApusError(.conflict, "a network namespace is pinned at \(path) already; remove it first") }
        let file = open(path, O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0o400)
        guard file >= 0 else { throw .system("cannot make the network namespace's file \(path)") }
        close(file)
        do throws(ApusError) {
            try DedicatedThread.runBlocking { () throws(ApusError) in
                guard apus_unshare(networkFlag) == 0 else { throw .system("cannot make a network namespace") }
                try raiseLoopback()
                guard mount("/proc/thread-self/ns/net", path, nil, UInt(MS_BIND), nil) == 0 else {
                    throw .system("cannot pin a network namespace at \(path)")
                }
            }
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Unpins the namespace and removes the file. The namespace ends with its last process. Succeeds when there is nothing.
    public static func remove(path: String) throws(ApusError) {
        while umount2(path, Int32(MNT_DETACH) | umountNoFollow) == 0 {}
        // EINVAL: no mount is left; ENOENT: no file.
        guard errno == EINVAL || errno == ENOENT else { throw .system("cannot unmount the network namespace \(path)") }
        guard unlink(path) == 0 || errno == ENOENT else { throw .system("cannot remove the network namespace's file \(path)") }
    }

    /// Whether a namespace is pinned at `path`.
    public static func isPinned(path: String) -> Bool {
        // Only a file of the namespace file system is on the device that the process's own namespace is on.
        var information = stat()
        var own = stat()
        return lstat(path, &information) == 0 && stat("/proc/self/ns/net", &own) == 0 && information.st_dev == own.st_dev
    }

    /// Runs `body` on a thread of its own inside the namespace at `path`, or inside the process's when `path` is `nil`.
    ///
    /// `body` may block. It is not interrupted by cancellation.
    /// - Throws: `notFound` when nothing is at `path`, `failed` when it cannot be entered, and what `body` throws.
    public static func run<Value: Sendable>(
        in path: String?, _ body: @escaping @Sendable () throws(ApusError) -> Value
    ) async throws(ApusError) -> Value {
        try await DedicatedThread.run { () throws(ApusError) -> Value in
            try enter(path)
            return try body()
        }
    }

    /// The same for a caller that may block, such as a thread that is in another namespace.
    public static func runBlocking<Value: Sendable>(
        in path: String?, _ body: @Sendable () throws(ApusError) -> Value
    ) throws(ApusError) -> Value {
        try DedicatedThread.runBlocking { () throws(ApusError) -> Value in
            try enter(path)
            return try body()
        }
    }

    /// Moves the calling thread, which must be a dedicated one, into the namespace at `path`; `nil` leaves it where it is.
    /// - Throws: `notFound` when nothing is at `path`, `failed` when it cannot be entered.
    public static func enter(_ path: String?) throws(ApusError) {
        guard let path else { return }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .system("cannot open the network namespace \(path)") }
        defer { close(file) }
        guard apus_setns(file, networkFlag) == 0 else { throw .system("cannot enter the network namespace \(path)") }
    }

    /// Sets the loopback interface of the calling thread's namespace up.
    private static func raiseLoopback() throws(ApusError) {
        let channel = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | closeOnExec, 0)
        guard channel >= 0 else { throw .system("cannot open a socket in a new network namespace") }
        defer { close(channel) }
        // struct ifreq: 16 bytes of name, then a union that starts with the flags.
        var request = [UInt8](repeating: 0, count: 40)
        request[0] = UInt8(ascii: "l")
        request[1] = UInt8(ascii: "o")
        let flags = UInt16(IFF_UP | IFF_RUNNING)
        request[16] = UInt8(truncatingIfNeeded: flags)
        request[17] = UInt8(truncatingIfNeeded: flags >> 8)
        let result = request.withUnsafeMutableBytes { apus_ioctl(channel, UInt(SIOCSIFFLAGS), $0.baseAddress) }
        guard result == 0 else { throw .system("cannot set the loopback interface up") }
    }

    /// CLONE_NEWNET of sched(7), which Glibc's module does not show.
    private static let networkFlag: Int32 = 0x4000_0000
    private static let umountNoFollow: Int32 = 8
    private static let closeOnExec = Int32(SOCK_CLOEXEC.rawValue)
}

extension ApusError {
    /// What errno says, behind what was being done. `notFound` for ENOENT.
    static func system(_ doing: String, _ number: Int32 = errno) -> ApusError {
        ApusError(number == ENOENT ? .notFound : .failed, "\(doing): \(String(cString: strerror(number)))")
    }
}
