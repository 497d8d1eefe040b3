public import PluginAPI
import Glibc

/// Files by path: whole reads, atomic writes, trees.
///
/// All calls block; they are for small files and for start-up.
public enum Files {
    /// An error of the last system call, with its code and what was being done.
    public static func lastError(_ doing: String) -> ApusError { error(errno, doing) }

    /// An error number as an error: `notFound`, `conflict`, `permissionDenied` or `failed`.
    public static func error(_ number: Int32, _ doing: String) -> ApusError {
        let code: ApusError.Code =
            switch number {
            case ENOENT, ENOTDIR: .notFound
            case EEXIST, EBUSY, ENOTEMPTY: .conflict
            case EACCES, EPERM, EROFS: .permissionDenied
            default: .failed
            }
        return ApusError(code, "\(doing): \(String(cString: strerror(number)))")
    }

    /// - Throws: `notFound` when there is no such file, `tooLarge` past the limit.
    public static func read(_ path: String, limit: Int = 64 << 20) throws(ApusError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw lastError("cannot read \(path)") }
        defer { close(descriptor) }
        return try read(descriptor: descriptor, name: path, limit: limit)
    }

    /// Reads to the end; the caller closes the descriptor.
    public static func read(descriptor: Int32, name: String, limit: Int = 64 << 20) throws(ApusError) -> [UInt8] {
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw lastError("cannot read \(name)")
            }
            if count == 0 { return content }
            guard content.count + count <= limit else { throw ApusError(.tooLarge, "\(name) is larger than \(limit) bytes") }
            content.append(contentsOf: buffer[..<count])
        }
    }

    /// The file as text; bytes that are not UTF-8 are replaced.
    public static func readText(_ path: String, limit: Int = 64 << 20) throws(ApusError) -> String {
        String(decoding: try read(path, limit: limit), as: UTF8.self)
    }

    /// Writes everything to a descriptor.
    public static func write(_ bytes: [UInt8], descriptor: Int32, name: String) throws(ApusError) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
            if count < 0 {
                if errno == EINTR { continue }
                throw lastError("cannot write \(name)")
            }
            offset += count
        }
    }

    /// Writes a plain file in place, as the files of /proc and /sys need it.
    public static func overwrite(_ text: String, at path: String) throws(ApusError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw lastError("cannot write \(path)") }
        defer { close(descriptor) }
        try write(Array(text.utf8), descriptor: descriptor, name: path)
    }

    /// Replaces a file in one step: readers see the old or the new content, also after a crash when `sync` is set.
    public static func writeAtomically(_ bytes: [UInt8], to path: String, permissions: UInt32 = 0o600, sync: Bool = true) throws(ApusError) {
        let temporary = "\(path).\(UInt32.random(in: 0 ... .max)).new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, permissions)
        guard descriptor >= 0 else { throw lastError("cannot create \(temporary)") }
        do throws(ApusError) {
            defer { close(descriptor) }
            guard fchmod(descriptor, permissions) == 0 else { throw lastError("cannot set the permissions of \(temporary)") }
            try write(bytes, descriptor: descriptor, name: temporary)
            if sync, fsync(descriptor) != 0 { throw lastError("cannot sync \(temporary)") }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            let error = lastError("cannot replace \(path)")
            unlink(temporary)
            throw error
        }
        if sync { try syncFolder(of: path) }
    }

    /// Makes the names in the folder of a path durable.
    public static func syncFolder(of path: String) throws(ApusError) {
        let folder = parent(path)
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw lastError("cannot open \(folder)") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw lastError("cannot sync \(folder)") }
    }

    /// The folder of a path: everything before the last slash.
    public static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Whether there is a file or folder of that name; links are followed.
    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Whether there is a folder of that name; links are followed.
    public static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Makes a folder and those above it. One that is there keeps its permissions.
    public static func makeDirectory(_ path: String, permissions: UInt32 = 0o700) throws(ApusError) {
        if mkdir(path, permissions) == 0 { return }
        if errno == EEXIST {
            guard isDirectory(path) else { throw ApusError(.conflict, "\(path) is there and is not a folder") }
            return
        }
        guard errno == ENOENT, path != parent(path) else { throw lastError("cannot make the folder \(path)") }
        try makeDirectory(parent(path), permissions: permissions)
        if mkdir(path, permissions) != 0, errno != EEXIST { throw lastError("cannot make the folder \(path)") }
    }

    /// Names in a folder, sorted, without `.` and `..`. An absent folder has none.
    public static func list(_ path: String) throws(ApusError) -> [String] {
        guard let folder = opendir(path) else {
            if errno == ENOENT { return [] }
            throw lastError("cannot list \(path)")
        }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Removes a file or a tree, without following links and without leaving its file system. An absent one is fine.
    public static func removeTree(_ path: String) throws(ApusError) {
        if unlink(path) == 0 || errno == ENOENT { return }
        guard errno == EISDIR || errno == EPERM else { throw lastError("cannot remove \(path)") }
        try removeFolder(parentDescriptor: AT_FDCWD, name: path, path: path, device: nil)
    }

    private static func removeFolder(parentDescriptor: Int32, name: String, path: String, device: dev_t?) throws(ApusError) {
        let descriptor = openat(parentDescriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return }
            throw lastError("cannot remove \(path)")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            close(descriptor)
            throw lastError("cannot remove \(path)")
        }
        guard device == nil || device == status.st_dev else {
            close(descriptor)
            throw ApusError(.conflict, "cannot remove \(path): something is mounted there")
        }
        guard let folder = fdopendir(descriptor) else {
            close(descriptor)
            throw lastError("cannot remove \(path)")
        }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let child = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if child == "." || child == ".." { continue }
            if unlinkat(descriptor, child, 0) == 0 || errno == ENOENT { continue }
            guard errno == EISDIR || errno == EPERM else { throw lastError("cannot remove \(path)/\(child)") }
            try removeFolder(parentDescriptor: descriptor, name: child, path: "\(path)/\(child)", device: status.st_dev)
        }
        guard unlinkat(parentDescriptor, name, AT_REMOVEDIR) == 0 || errno == ENOENT else { throw lastError("cannot remove \(path)") }
    }

    /// A new folder with a random name, for tests and for work that is thrown away.
    public static func makeTemporaryDirectory(in folder: String = "/tmp", prefix: String = "apus") throws(ApusError) -> String {
        try makeDirectory(folder)
        let path = "\(folder)/\(prefix)-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        guard mkdir(path, 0o700) == 0 else { throw lastError("cannot make the folder \(path)") }
        return path
    }
}
