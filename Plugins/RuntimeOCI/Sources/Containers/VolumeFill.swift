import CLinux
import Files
import Glibc
import PluginAPI

/// Fills a new volume with what the image has at its place, as Docker does.
enum VolumeFill {
    /// Copies the folder at `path` inside `root` into `target` if that is empty. Nothing happens when the image has no such folder.
    static func fill(_ target: String, from path: String, in root: String) throws(ApusError) {
        guard try Files.list(target).isEmpty, let source = try? RootPath.open(path, in: root, flags: O_RDONLY | O_DIRECTORY) else { return }
        defer { close(source) }
        let destination = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
        guard destination >= 0 else { throw Files.lastError("cannot open \(target)") }
        defer { close(destination) }
        try copyContents(from: source, to: destination, path: path)
        try copyAttributes(from: source, to: destination, path: path)
    }

    private static func copyContents(from source: Int32, to destination: Int32, path: String) throws(ApusError) {
        let listed = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard listed >= 0, let folder = fdopendir(listed) else { throw Files.lastError("cannot list \(path)") }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { try copy(name, from: source, to: destination, path: "\(path)/\(name)") }
        }
    }

    private static func copy(_ name: String, from source: Int32, to destination: Int32, path: String) throws(ApusError) {
        var status = stat()
        guard fstatat(source, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { throw Files.lastError("cannot read \(path)") }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            let from = openat(source, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
            guard from >= 0 else { throw Files.lastError("cannot open \(path)") }
            defer { close(from) }
            guard mkdirat(destination, name, 0o700) == 0 else { throw Files.lastError("cannot copy \(path)") }
            let to = openat(destination, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
            guard to >= 0 else { throw Files.lastError("cannot copy \(path)") }
            defer { close(to) }
            try copyContents(from: from, to: to, path: path)
            try copyAttributes(from: from, to: to, path: path)
        case S_IFREG:
            let from = openat(source, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard from >= 0 else { throw Files.lastError("cannot open \(path)") }
            defer { close(from) }
            let to = openat(destination, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard to >= 0 else { throw Files.lastError("cannot copy \(path)") }
            defer { close(to) }
            try copyBytes(from: from, to: to, path: path)
            try copyAttributes(from: from, to: to, path: path)
        case S_IFLNK:
            var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
            guard readlinkat(source, name, &buffer, buffer.count - 1) >= 0, symlinkat(buffer, destination, name) == 0,
                fchownat(destination, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) == 0
            else { throw Files.lastError("cannot copy \(path)") }
        default:
            guard mknodat(destination, name, status.st_mode, status.st_rdev) == 0,
                fchownat(destination, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) == 0,
                fchmodat(destination, name, status.st_mode & 0o7777, 0) == 0
            else { throw Files.lastError("cannot copy \(path)") }
        }
    }

    private static func copyBytes(from source: Int32, to destination: Int32, path: String) throws(ApusError) {
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = read(source, &buffer, buffer.count)
            guard count >= 0 else { throw Files.lastError("cannot read \(path)") }
            if count == 0 { return }
            try Files.write(Array(buffer[..<count]), descriptor: destination, name: path)
        }
    }

    /// Owner, permissions and times; the owner first, because a change of it takes set-user-id bits away.
    private static func copyAttributes(from source: Int32, to destination: Int32, path: String) throws(ApusError) {
        var status = stat()
        guard fstat(source, &status) == 0, fchown(destination, status.st_uid, status.st_gid) == 0 else {
            throw Files.lastError("cannot copy the owner of \(path)")
        }
        guard fchmod(destination, status.st_mode & 0o7777) == 0 else { throw Files.lastError("cannot copy the permissions of \(path)") }
        var times = [status.st_atim, status.st_mtim]
        futimens(destination, &times)
    }
}
