import Glibc
import PluginAPI

/// Files of the caller.
enum LocalFile {
    /// The whole text of a file. Reading happens at the beginning of a command, where nothing else waits.
    static func text(_ path: String) throws(ApusError) -> String { String(decoding: try bytes(path), as: UTF8.self) }

    static func bytes(_ path: String) throws(ApusError) -> [UInt8] {
        let descriptor = try open(path)
        defer { Glibc.close(descriptor) }
        return try bytes(of: descriptor, named: path)
    }

    /// To the end, or to 64 MiB.
    static func bytes(of descriptor: Int32, named name: String) throws(ApusError) -> [UInt8] {
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(name) }
            if count == 0 { return output }
            output += buffer[..<count]
            guard output.count <= 64 << 20 else { throw ApusError(.tooLarge, "\(name) is larger than 64 MiB") }
        }
    }

    /// A descriptor for reading, to be closed by the caller.
    static func open(_ path: String) throws(ApusError) -> Int32 {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        return descriptor
    }

    /// A descriptor for reading an archive; standard input, unless that is a terminal, when no file is named.
    static func archive(_ path: String?) throws(ApusError) -> Int32 {
        if let path { return try open(path) }
        guard isatty(0) == 0 else {
            throw ApusError(.invalidArgument, "standard input is a terminal: name the archive, or feed it with `<`")
        }
        return dup(0)
    }

    /// A new file; one that exists is an error.
    static func create(_ path: String, _ text: String) throws(ApusError) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw ApusError(.failed, "\(path) cannot be made: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard bytes.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == bytes.count else {
            throw ApusError(.failed, "\(path) cannot be written")
        }
    }

    /// Makes a folder and those above it.
    static func makeFolders(_ path: String) throws(ApusError) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/\(part)"
            guard mkdir(made, 0o755) == 0 || errno == EEXIST else {
                throw ApusError(.failed, "\(made) cannot be made: \(String(cString: strerror(errno)))")
            }
        }
    }

    /// Whether nothing is there, or a folder with nothing in it.
    static func isMissingOrEmpty(_ path: String) -> Bool {
        guard let folder = opendir(path) else { return errno == ENOENT }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { return false }
        }
        return true
    }

    static func close(_ descriptor: Int32) { _ = Glibc.close(descriptor) }

    /// The same path from the root on, without links resolved.
    static func absolute(_ path: String) throws(ApusError) -> String {
        guard !path.hasPrefix("/") else { return path }
        guard let folder = getcwd(nil, 0) else { throw ApusError(.failed, "the working directory is gone") }
        defer { free(folder) }
        var parts = String(cString: folder).split(separator: "/").map { String($0) }
        for part in path.split(separator: "/") {
            switch part {
            case ".": break
            case "..": _ = parts.popLast()
            default: parts.append(String(part))
            }
        }
        return "/" + parts.joined(separator: "/")
    }

    private static func failure(_ path: String) -> ApusError {
        let code = errno
        return ApusError(code == ENOENT ? .notFound : .failed, "\(path) cannot be read: \(String(cString: strerror(code)))")
    }
}
