import Glibc
import PluginAPI

/// The kernel's settings below `/proc/sys`.
///
/// Those below `net` are the namespace's in which the calling thread is.
public enum SystemSetting {
    /// The setting without its trailing newline, or `nil` when this kernel has none of that name.
    public static func read(_ name: String) -> String? {
        let file = open("/proc/sys/" + name, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = Glibc.read(file, &bytes, bytes.count)
        guard count >= 0 else { return nil }
        var text = String(decoding: bytes.prefix(count), as: UTF8.self)
        while text.last == "\n" { text.removeLast() }
        return text
    }

    /// Writes a setting, such as `net/ipv4/ip_forward`.
    /// - Throws: `notFound` when this kernel has none of that name, else `failed`.
    public static func write(_ name: String, _ value: String) throws(ApusError) {
        let file = open("/proc/sys/" + name, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw ApusError(errno == ENOENT ? .notFound : .failed, "cannot open /proc/sys/\(name): \(String(cString: strerror(errno)))")
        }
        defer { close(file) }
        let bytes = Array(value.utf8)
        guard Glibc.write(file, bytes, bytes.count) == bytes.count else {
            throw ApusError(.failed, "cannot write \"\(value)\" to /proc/sys/\(name): \(String(cString: strerror(errno)))")
        }
    }

    /// Writes a setting that has another value. Returns whether it was changed; `false` also when this kernel has no such setting.
    @discardableResult
    public static func ensure(_ name: String, _ value: String) throws(ApusError) -> Bool {
        guard let current = read(name), current != value else { return false }
        try write(name, value)
        return true
    }
}
