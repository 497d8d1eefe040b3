public import PluginAPI

/// The checks of where output goes.
public struct LogDriverValidation: Sendable {
    let driver: LogDriver

    public init(_ driver: LogDriver) { self.driver = driver }

    /// - Throws: `invalidArgument` for an option that does not exist or a value that makes no sense; `unimplemented` for what Apus does not have.
    public func check() throws(ApusError) {
        guard ["", "json-file", "local", "none"].contains(driver.name) else {
            throw ApusError(
                .unimplemented, "log driver \"\(ServiceValidation.printable(driver.name))\" is not supported; json-file, local and none are")
        }
        // Nothing is kept, so nothing can be done with it in the wrong way.
        guard driver.name != "none" else { return }
        for (key, value) in driver.options.sorted(by: { $0.key < $1.key }) { try check(key, value) }
        guard files == 1 || limitsSize else { throw wrong("max-file", "it cannot be larger than 1 when max-size is not set") }
    }

    private var files: Int { driver.options["max-file"].flatMap { Int($0) } ?? 1 }
    private var limitsSize: Bool { driver.options["max-size"].map { $0 != "-1" } ?? false }

    private func check(_ key: String, _ value: String) throws(ApusError) {
        switch (key, value) {
        case ("max-size", "-1"), ("compress", "false"), ("mode", "blocking"), ("labels", _), ("env", _): return
        case ("max-size", _):
            guard let size = Self.bytes(value), size > 0 else { throw wrong(key, "\"\(ServiceValidation.printable(value))\" is not a size such as 10m") }
        case ("max-file", _):
            guard let count = Int(value), count > 0 else { throw wrong(key, "\"\(ServiceValidation.printable(value))\" is not a positive number") }
        case ("compress", "true"): throw missing(key, "compressing rotated logs")
        case ("mode", "non-blocking"), ("max-buffer-size", _): throw missing(key, "dropping output instead of waiting for the log")
        case ("tag", _): throw missing(key, "a tag of every line")
        case ("labels-regex", _), ("env-regex", _): throw missing(key, "choosing attributes by a pattern")
        case ("compress", _), ("mode", _): throw wrong(key, "\"\(ServiceValidation.printable(value))\" is not one of its values")
        default:
            throw ApusError(
                .invalidArgument,
                "unknown log opt '\(ServiceValidation.printable(key))' for \(driver.name.isEmpty ? "json-file" : driver.name) log driver")
        }
    }

    private func wrong(_ key: String, _ why: String) -> ApusError { ApusError(.invalidArgument, "log option \(key): \(why)") }
    private func missing(_ key: String, _ what: String) -> ApusError {
        ApusError(.unimplemented, "log option \(key): \(what) is not in this version of Apus")
    }

    /// Reads `10m`, `512k`, `1g`, `1048576`; units are powers of 1024.
    static func bytes(_ text: String) -> Int64? {
        let lower = text.lowercased()
        let digits = lower.prefix { $0.isASCII && $0.isNumber }
        var unit = lower.dropFirst(digits.count)
        if unit.hasSuffix("b") { unit.removeLast() }
        if unit.hasSuffix("i") { unit.removeLast() }
        let factors: [Substring: Int64] = ["": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40]
        guard let number = Int64(digits), let factor = factors[unit] else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}
