import Glibc
public import PluginAPI

/// The few operations on files that the log and the snapshots need: a seam, so that tests can make a disk fail.
///
/// For want of space every operation throws `unavailable`, so that the caller can clean up and try again; no other error has this code.
public protocol StorageFiles: Sendable {
    /// Makes a file (0600) that must not exist, open for appending.
    func create(_ path: String) throws(ApusError) -> any StorageFile
    /// The whole file.
    func read(_ path: String) throws(ApusError) -> [UInt8]
    /// Opens a file to be read in parts, also after its name is gone.
    func open(_ path: String) throws(ApusError) -> any StorageReader
    /// Whether there is a file or folder of that name; links are followed.
    func exists(_ path: String) -> Bool
    /// Names, sorted; empty when the folder does not exist.
    func list(_ directory: String) throws(ApusError) -> [String]
    /// With parents, 0700.
    func makeDirectory(_ path: String) throws(ApusError)
    /// Replaces what has the new name; not durable before `synchronizeDirectory`.
    func rename(_ from: String, to: String) throws(ApusError)
    /// Does nothing when there is no such file.
    func remove(_ path: String) throws(ApusError)
    /// Cuts the file to `length` bytes, durably.
    func truncate(_ path: String, to length: Int) throws(ApusError)
    /// Makes names in the folder durable.
    func synchronizeDirectory(_ path: String) throws(ApusError)
}

/// A file that is read. Used from one thread at a time; it is closed when it is let go.
public protocol StorageReader: AnyObject, Sendable {
    /// Bytes from `offset` on: `count`, or as many as there are.
    func read(at offset: Int, count: Int) throws(ApusError) -> [UInt8]
}

extension StorageFiles {
    /// Of the machine's own files.
    public func open(_ path: String) throws(ApusError) -> any StorageReader { try SystemStorageFiles().open(path) }
}

/// A file that is written at its end. Used from one thread at a time.
public protocol StorageFile: AnyObject, Sendable {
    /// Writes all, or throws; then an unknown part is written.
    func append(_ bytes: [UInt8]) throws(ApusError)
    /// Makes everything durable. After an error nothing is known, and trying again would not find out: the kernel drops the pages.
    func synchronize() throws(ApusError)
    /// Nothing may be written after it.
    func close()
}

/// The machine's own files.
public struct SystemStorageFiles: StorageFiles {
    public init() {}

    static func error(_ what: String, _ path: String) -> ApusError {
        let number = errno
        let code: ApusError.Code =
            switch number {
            case ENOENT: .notFound
            case ENOSPC, EDQUOT: .unavailable
            default: .failed
            }
        return ApusError(code, "\(path): cannot \(what): \(String(cString: strerror(number)))")
    }

    /// `open(2)` with `O_EXCL` and `O_APPEND`.
    public func create(_ path: String) throws(ApusError) -> any StorageFile {
        let descriptor = openFile(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.error("create", path) }
        return SystemStorageFile(descriptor: descriptor, path: path)
    }

    /// The whole file; `notFound` without it.
    public func read(_ path: String) throws(ApusError) -> [UInt8] {
        let descriptor = openFile(path, O_RDONLY | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw Self.error("open", path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.error("look at", path) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(status.st_size))
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.error("read", path) }
            if count == 0 { return bytes }
            bytes.append(contentsOf: buffer[..<count])
        }
    }

    /// The reader keeps a descriptor, so the file may be renamed or removed meanwhile.
    public func open(_ path: String) throws(ApusError) -> any StorageReader {
        let descriptor = openFile(path, O_RDONLY | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw Self.error("open", path) }
        return SystemStorageReader(descriptor: descriptor, path: path)
    }

    /// Whether there is a file or folder of that name; links are followed.
    public func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Names, sorted; empty when the folder does not exist.
    public func list(_ directory: String) throws(ApusError) -> [String] {
        guard let stream = opendir(directory) else {
            if errno == ENOENT { return [] }
            throw Self.error("open", directory)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// With parents, 0700. One that is there is left as it is.
    public func makeDirectory(_ path: String) throws(ApusError) {
        guard mkdir(path, 0o700) != 0 else { return }
        if errno == EEXIST { return }
        if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try makeDirectory(String(path[..<slash]))
            if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        }
        throw Self.error("create", path)
    }

    /// Replaces what has the new name.
    public func rename(_ from: String, to: String) throws(ApusError) {
        guard Glibc.rename(from, to) == 0 else { throw Self.error("rename", from) }
    }

    /// Does nothing when there is no such file.
    public func remove(_ path: String) throws(ApusError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw Self.error("remove", path) }
    }

    /// `ftruncate(2)`, then `fsync(2)`.
    public func truncate(_ path: String, to length: Int) throws(ApusError) {
        let descriptor = openFile(path, O_WRONLY | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw Self.error("open", path) }
        defer { close(descriptor) }
        guard ftruncate(descriptor, off_t(length)) == 0, fsync(descriptor) == 0 else { throw Self.error("cut", path) }
    }

    /// `fsync(2)` of the folder.
    public func synchronizeDirectory(_ path: String) throws(ApusError) {
        let descriptor = openFile(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw Self.error("open", path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw Self.error("synchronize", path) }
    }

    private func openFile(_ path: String, _ flags: Int32, _ permissions: mode_t) -> Int32 {
        while true {
            let descriptor = Glibc.open(path, flags, permissions)
            if descriptor >= 0 || errno != EINTR { return descriptor }
        }
    }
}

private final class SystemStorageReader: StorageReader {
    private let descriptor: Int32
    private let path: String

    init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    func read(at offset: Int, count: Int) throws(ApusError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress.map { $0 + done }, count - done, off_t(offset + done)) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw SystemStorageFiles.error("read", path) }
            if got == 0 { break }
            done += got
        }
        bytes.removeLast(count - done)
        return bytes
    }
}

private final class SystemStorageFile: StorageFile {
    private let descriptor: Int32
    private let path: String

    init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    func append(_ bytes: [UInt8]) throws(ApusError) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw SystemStorageFiles.error("write", path) }
            offset += count
        }
    }

    func synchronize() throws(ApusError) {
        // Never tried again, not even after EINTR: the first answer is the only one that tells the truth.
        guard fdatasync(descriptor) == 0 else { throw SystemStorageFiles.error("synchronize", path) }
    }

    func close() { Glibc.close(descriptor) }
}
