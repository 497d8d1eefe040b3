import CLinux
import Files
import Glibc
import PluginAPI

/// Paths inside a root file system that is not trusted: links in it cannot lead out of it.
enum RootPath {
    /// Opens a path below `root` as a process inside would see it (openat2(2), RESOLVE_IN_ROOT). The caller closes the descriptor.
    static func open(_ path: String, in root: String, flags: Int32, permissions: UInt64 = 0) throws(ApusError) -> Int32 {
        let directory = Glibc.open(root, LinuxConstants.openPath | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Files.lastError("cannot open \(root)") }
        defer { close(directory) }
        var how = open_how()
        how.flags = UInt64(UInt32(bitPattern: flags | O_CLOEXEC))
        how.mode = permissions
        how.resolve = UInt64(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        // EAGAIN: a rename elsewhere made the kernel unsure; asked again it answers.
        for _ in 0..<16 {
            let descriptor = apus_openat2(directory, path, &how)
            if descriptor >= 0 { return descriptor }
            guard errno == EAGAIN || errno == EINTR else { break }
        }
        throw Files.lastError("cannot open \(path) in the container's file system")
    }

    /// A plain file as text, at most a megabyte of it; empty when there is none.
    static func text(_ path: String, in root: String) -> String {
        guard let descriptor = try? open(path, in: root, flags: O_RDONLY | O_NONBLOCK) else { return "" }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
            let bytes = try? Files.read(descriptor: descriptor, name: path, limit: 1 << 20)
        else { return "" }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Where a path below `root` really is, seen from outside; `nil` when there is no such folder or file.
    static func resolved(_ path: String, in root: String) -> String? {
        guard let descriptor = try? open(path, in: root, flags: LinuxConstants.openPath) else { return nil }
        defer { close(descriptor) }
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
}
