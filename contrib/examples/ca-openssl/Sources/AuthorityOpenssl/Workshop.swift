import Glibc
import PluginAPI

/// A folder for each call, on the tmpfs that the engine gives, where the root key is for as long as the command runs. Root alone may read it.
struct Workshop: Sendable {
    let runDirectory: String

    func open() throws(ApusError) -> String {
        var template = Array("\(runDirectory)/call-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Self.error("make a folder in \(runDirectory)") }
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Removes the folder and the files in it.
    func close(_ folder: String) {
        if let stream = opendir(folder) {
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                if name != ".", name != ".." { unlink("\(folder)/\(name)") }
            }
            closedir(stream)
        }
        rmdir(folder)
    }

    func read(_ name: String, in folder: String) throws(ApusError) -> String {
        guard let file = fopen("\(folder)/\(name)", "re") else { throw Self.error("read \(name)") }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    func write(_ text: String, to name: String, in folder: String) throws(ApusError) { try put(text, "\(folder)/\(name)", "we") }

    func append(_ text: String, to path: String) throws(ApusError) { try put(text, path, "ae") }

    private func put(_ text: String, _ path: String, _ mode: String) throws(ApusError) {
        guard let file = fopen(path, mode) else { throw Self.error("write \(path)") }
        let isOpenToOthers = fchmod(fileno(file), 0o600) != 0
        let isWritten = fputs(text, file) >= 0
        guard fclose(file) == 0, isWritten, !isOpenToOthers else { throw Self.error("write \(path)") }
    }

    private static func error(_ what: String) -> ApusError { ApusError(.failed, "cannot \(what): \(String(cString: strerror(errno)))") }
}
