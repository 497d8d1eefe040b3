import CArchive
import CLinux
import Glibc

/// Of `open`, the same number on every architecture that Swift runs on; glibc hides it behind _GNU_SOURCE.
private let O_PATH: Int32 = 0o10000000

/// Opens and makes folders below a root without ever following a symbolic link.
final class FolderTree {
    private let root: Int32
    /// Entries of one folder come one after the other.
    private var cached: (path: EntryPath, descriptor: Int32)?

    init(root: Int32) { self.root = root }

    deinit {
        if let cached { close(cached.descriptor) }
    }

    /// A folder as a path descriptor, which is good until the next call.
    func open(_ path: EntryPath, creating: Bool = false) throws(UnpackError) -> Int32 {
        if path.isRoot { return root }
        if let cached, cached.path == path { return cached.descriptor }
        var descriptor = openWhole(path, flags: O_PATH)
        if descriptor < 0 {
            guard creating || errno != ENOENT else { throw UnpackError(.archive, "there is no folder \(path.description) in the layer") }
            descriptor = try walk(path, creating: creating)
        }
        if let cached { close(cached.descriptor) }
        cached = (path, descriptor)
        return descriptor
    }

    /// A folder that is there, to change it; the caller closes it.
    func openForAttributes(_ path: EntryPath) throws(UnpackError) -> Int32 {
        let descriptor = openWhole(path, flags: O_RDONLY)
        guard descriptor >= 0 else { throw UnpackError(.machine, "cannot open \(path.description): \(String(cString: strerror(errno)))") }
        return descriptor
    }

    /// Hides what lower layers have in a folder.
    func makeOpaque(_ path: EntryPath) throws(UnpackError) {
        _ = try open(path, creating: true)
        let descriptor = try openForAttributes(path)
        defer { close(descriptor) }
        try setOpaque(descriptor, path)
    }

    private func setOpaque(_ descriptor: Int32, _ path: EntryPath) throws(UnpackError) {
        guard fsetxattr(descriptor, "trusted.overlay.opaque", "y", 1, 0) == 0 else {
            throw UnpackError(.machine, "cannot make \(path.description) opaque: \(String(cString: strerror(errno)))")
        }
    }

    private func openWhole(_ path: EntryPath, flags: Int32) -> Int32 {
        var how = open_how()
        how.flags = UInt64(flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        how.resolve = UInt64(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
        return path.bytes.withPath { apus_openat2(root, $0, &how) }
    }

    /// Name by name, making what is missing, and saying what is in the way.
    private func walk(_ path: EntryPath, creating: Bool) throws(UnpackError) -> Int32 {
        var descriptor = dup(root)
        for (index, name) in path.components.enumerated() {
            let here = EntryPath(components: Array(path.components[...index]))
            var next = openFolder(name, in: descriptor)
            if next < 0, creating {
                do throws(UnpackError) {
                    try make(name, in: descriptor, here, path)
                } catch {
                    close(descriptor)
                    throw error
                }
                next = openFolder(name, in: descriptor)
            }
            close(descriptor)
            guard next >= 0 else { throw UnpackError(.archive, "\(path.description) goes through \(here.description), which is not a folder") }
            descriptor = next
        }
        return descriptor
    }

    private func openFolder(_ name: [UInt8], in parent: Int32) -> Int32 {
        name.withPath { openat(parent, $0, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
    }

    private func make(_ name: [UInt8], in parent: Int32, _ here: EntryPath, _ path: EntryPath) throws(UnpackError) {
        if name.withPath({ mkdirat(parent, $0, 0o755) }) == 0 { return }
        guard errno == EEXIST else { throw UnpackError(.machine, "cannot make \(here.description): \(String(cString: strerror(errno)))") }
        var status = stat()
        guard name.withPath({ fstatat(parent, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFCHR, status.st_rdev == 0 else {
            let kind = status.st_mode & S_IFMT == S_IFLNK ? "a symbolic link" : "not a folder"
            throw UnpackError(.archive, "\(path.description) goes through \(here.description), which is \(kind)")
        }
        // Hidden by a whiteout before: a new folder that shows nothing of the lower one.
        guard name.withPath({ unlinkat(parent, $0, 0) }) == 0, name.withPath({ mkdirat(parent, $0, 0o755) }) == 0 else {
            throw UnpackError(.machine, "cannot make \(here.description): \(String(cString: strerror(errno)))")
        }
        let descriptor = name.withPath { openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
        guard descriptor >= 0 else { throw UnpackError(.machine, "cannot open \(here.description): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        try setOpaque(descriptor, here)
    }
}

extension [UInt8] {
    /// As a C string.
    func withPath<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { buffer in
            for (index, byte) in enumerated() { buffer[index] = CChar(bitPattern: byte) }
            buffer[count] = 0
            return buffer.withMemoryRebound(to: CChar.self) { memory in
                guard let start = memory.baseAddress else { return body("") }
                return body(start)
            }
        }
    }
}
