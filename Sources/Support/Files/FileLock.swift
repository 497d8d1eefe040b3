public import PluginAPI
import Glibc

/// A lock on a file that ends with its holder, also when that is killed (flock(2)).
public final class FileLock: Sendable {
    private let descriptor: Int32

    /// - Throws: `conflict` when another process holds it, with that process's number if it wrote one.
    public init(path: String) throws(ApusError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.lastError("cannot open the lock \(path)") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            let holder = (try? Files.readText(path))?.split(separator: "\n").first.map { " (process \($0))" } ?? ""
            close(descriptor)
            guard number == EWOULDBLOCK else { throw Files.error(number, "cannot lock \(path)") }
            throw ApusError(.conflict, "\(path) is locked by another engine\(holder)")
        }
        ftruncate(descriptor, 0)
        do throws(ApusError) {
            try Files.write(Array("\(getpid())\n".utf8), descriptor: descriptor, name: path)
        } catch {
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
