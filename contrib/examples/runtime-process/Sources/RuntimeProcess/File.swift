import Glibc
import PluginAPI

/// Small files.
enum File {
    /// `nil` when it is not there, or cannot be read.
    static func bytes(_ path: String, limit: Int = 16 << 20) -> [UInt8]? {
        guard let file = fopen(path, "re") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count < limit {
            let count = fread(&buffer, 1, buffer.count, file)
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return bytes
    }

    static func text(_ path: String) -> String? { bytes(path).map { String(decoding: $0, as: UTF8.self) } }

    /// Written beside and renamed: it is there whole, or as it was.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t = 0o600) throws(ApusError) {
        guard let file = fopen(path + ".new", "we") else { throw error("write \(path)") }
        let isWritten = fwrite(bytes, 1, bytes.count, file) == bytes.count && fchmod(fileno(file), mode) == 0
        guard fclose(file) == 0, isWritten, rename(path + ".new", path) == 0 else { throw error("write \(path)") }
    }

    static func write(_ text: String, to path: String, mode: mode_t = 0o600) throws(ApusError) { try write(Array(text.utf8), to: path, mode: mode) }

    static func makeFolder(_ path: String) throws(ApusError) {
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw error("make \(path)") }
    }

    static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// A folder with files, and nothing below.
    static func removeFolder(_ path: String) {
        for name in names(in: path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// When it was changed last.
    static func time(_ path: String) -> Timestamp? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return Timestamp(nanoseconds: Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec))
    }

    static func isProgram(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
    }

    static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    static func error(_ what: String) -> ApusError { ApusError(.failed, "cannot \(what): \(String(cString: strerror(errno)))") }
}

extension Timestamp {
    static var now: Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
