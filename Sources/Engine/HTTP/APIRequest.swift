import Coding
import PluginAPI

/// A version of the Engine API, such as 1.41.
struct EngineAPIVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    var major: Int
    var minor: Int

    init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Reads `1.41`, digits without leading zeros; `nil` for anything else.
    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let major = Int(parts[0]), let minor = Int(parts[1]) else { return nil }
        self.init(major, minor)
        // Int reads signs and zeros too.
        guard description.utf8.elementsEqual(text.utf8), major >= 0, minor >= 0 else { return nil }
    }

    static let newest = EngineAPIVersion(1, 50)
    static let oldest = EngineAPIVersion(1, 24)

    var description: String { "\(major).\(minor)" }

    static func < (left: EngineAPIVersion, right: EngineAPIVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }
}

/// One request to the Engine API, with its body read.
struct APIRequest: Sendable {
    var method: String
    /// Path and query, as they came.
    var target: String
    /// Segments of the path, decoded, without the version.
    var path: [String]
    var query: [String: [String]]
    /// Names in lower case; the last of equal ones.
    var headers: [String: String]
    var version: EngineAPIVersion
    var body: [UInt8]
    /// What the route's pattern named.
    var parameters: [String: String] = [:]
    /// For routes that stream their body: the reading end of a pipe, which the server closes.
    var bodyDescriptor: Int32 = -1

    /// A named part of the path; empty when the route has none of that name.
    func parameter(_ name: String) -> String { parameters[name] ?? "" }

    func text(_ name: String) -> String? { query[name]?.last }

    /// Docker's booleans: absent, empty, `0`, `false`, `no`, `none` are false.
    func flag(_ name: String, default fallback: Bool = false) -> Bool {
        guard let value = text(name) else { return fallback }
        return !["", "0", "false", "no", "none"].contains(value.lowercased())
    }

    /// - Throws: `invalidArgument` when the value is no whole number.
    func integer(_ name: String) throws(ApusError) -> Int? {
        guard let value = text(name), !value.isEmpty else { return nil }
        guard let integer = Int(value) else { throw ApusError(.invalidArgument, "\(name)=\(value) is not a whole number") }
        return integer
    }

    /// The body as JSON; an empty body is an empty object.
    func json() throws(ApusError) -> JSONValue {
        if body.isEmpty { return .object(JSONObject()) }
        if let type = headers["content-type"], !type.lowercased().hasPrefix("application/json") {
            throw ApusError(.invalidArgument, "the Content-Type is \(type); it must be application/json")
        }
        return try JSONValue.parse(body)
    }

    /// The body as a value of the API; a body is needed.
    func decode<Value: FieldCoded>(_ type: Value.Type) throws(ApusError) -> Value {
        guard !body.isEmpty else { throw ApusError(.invalidArgument, "the request has no body; a JSON object is expected") }
        return try JSONFields.decode(type, from: json())
    }
}

extension APIRequest {
    /// Reads a request target: path and query, percent-decoded.
    /// - Throws: `invalidArgument` for bad escapes, control characters and versions that are too old or too new.
    static func parse(
        method: String, target: String, headers: [String: String]
    ) throws(ApusError) -> APIRequest {
        // By bytes: as characters, a sign and a mark that combines with it are one.
        let parts = target.utf8.split(separator: UInt8(ascii: "?"), maxSplits: 1, omittingEmptySubsequences: false)
        var segments: [String] = []
        for segment in parts[0].split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: true) {
            let decoded = try decodePercent(segment, plusIsSpace: false)
            guard decoded.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
                throw ApusError(.invalidArgument, "the path of the URL has a control character")
            }
            segments.append(decoded)
        }
        var query: [String: [String]] = [:]
        if parts.count == 2 {
            for pair in parts[1].split(separator: UInt8(ascii: "&")) {
                let halves = pair.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
                let key = try decodePercent(halves[0], plusIsSpace: true)
                query[key, default: []].append(halves.count == 2 ? try decodePercent(halves[1], plusIsSpace: true) : "")
            }
        }
        var version = EngineAPIVersion.newest
        if let first = segments.first, first.hasPrefix("v"), let named = EngineAPIVersion(first.dropFirst()) {
            guard named <= .newest else {
                throw ApusError(.invalidArgument, "client version \(named) is too new. Maximum supported API version is \(EngineAPIVersion.newest)")
            }
            guard named >= .oldest else {
                throw ApusError(
                    .invalidArgument,
                    "client version \(named) is too old. Minimum supported API version is \(EngineAPIVersion.oldest), please upgrade your client to a newer version"
                )
            }
            version = named
            segments.removeFirst()
        }
        return APIRequest(method: method, target: target, path: segments, query: query, headers: headers, version: version, body: [])
    }

    private static func decodePercent(_ text: Substring.UTF8View, plusIsSpace: Bool) throws(ApusError) -> String {
        var bytes: [UInt8] = []
        var rest = text
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                let digits = String(decoding: rest.prefix(2), as: UTF8.self)
                guard digits.utf8.count == 2, digits.allSatisfy(\.isHexDigit), let value = UInt8(digits, radix: 16) else {
                    throw ApusError(.invalidArgument, "the URL has a bad percent escape")
                }
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(plusIsSpace && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
            }
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else { throw ApusError(.invalidArgument, "the URL is not UTF-8") }
        return decoded
    }
}
