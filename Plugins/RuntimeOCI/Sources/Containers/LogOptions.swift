import PluginAPI

/// How much log a container keeps.
struct LogOptions: Sendable, Hashable {
    /// Bytes of one file; `nil`: no limit.
    var maximumSize: Int64?
    /// Files, the current one included.
    var maximumFiles = 1

    /// Whether there is a log to read.
    static func isKept(_ driver: LogDriver) -> Bool { driver.name != "none" }

    init(_ driver: LogDriver) throws(ApusError) {
        guard ["", "json-file", "local", "k8s-file", "none"].contains(driver.name) else {
            throw ApusError(.unimplemented, "log driver \"\(driver.name)\" is not supported: use json-file, local or none")
        }
        for key in driver.options.keys.sorted() where !["max-size", "max-file", "compress", "mode", "labels", "tag", "env"].contains(key) {
            throw ApusError(.invalidArgument, "unknown log opt '\(key)' for \(driver.name.isEmpty ? "json-file" : driver.name) log driver")
        }
        if let text = driver.options["max-size"], text != "-1" {
            guard let size = Self.bytes(text), size > 0 else { throw ApusError(.invalidArgument, "invalid size of a log file: max-size=\(text)") }
            maximumSize = size
        }
        if let text = driver.options["max-file"] {
            guard let count = Int(text), count >= 1 else { throw ApusError(.invalidArgument, "max-file cannot be less than 1: \(text)") }
            guard count == 1 || maximumSize != nil else {
                throw ApusError(.invalidArgument, "max-file cannot be larger than 1 when max-size is not set")
            }
            maximumFiles = count
        }
    }

    /// Reads `10m`, `512k`, `1g`, `1048576`; units are powers of 1024.
    static func bytes(_ text: String) -> Int64? {
        // Characters of other scripts can become Latin ones in lower case.
        guard text.utf8.allSatisfy({ $0 < 128 }) else { return nil }
        let lower = text.lowercased()
        let digits = lower.prefix { $0.isNumber }
        var unit = lower.dropFirst(digits.count)
        if unit.hasSuffix("ib"), unit.count == 3 { unit.removeLast(2) } else if unit.hasSuffix("b"), unit.count <= 2 { unit.removeLast() }
        let factors: [Substring: Int64] = ["": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40]
        guard let number = Int64(digits), let factor = factors[unit] else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}
