import Coding

/// The query of a request, in order.
struct Query: Sendable, Hashable, ExpressibleByDictionaryLiteral {
    private(set) var items: [(name: String, value: String)] = []

    init(dictionaryLiteral elements: (String, String)...) { items = elements.map { ($0.0, $0.1) } }

    static func == (left: Query, right: Query) -> Bool { left.text == right.text }
    func hash(into hasher: inout Hasher) { hasher.combine(text) }

    /// Leaves out an empty value.
    mutating func add(_ name: String, _ value: String?) {
        if let value, !value.isEmpty { items.append((name, value)) }
    }

    /// Leaves out what is false.
    mutating func add(_ name: String, _ value: Bool) {
        if value { items.append((name, "1")) }
    }

    /// As the API takes filters: `{"name":{"web":true}}`.
    mutating func add(filters: [String: [String]]) {
        guard !filters.isEmpty else { return }
        let object = JSONObject(
            filters.mapValues { values in
                .object(JSONObject(Dictionary(values.map { ($0, JSONValue.bool(true)) }, uniquingKeysWith: { first, _ in first })))
            })
        items.append(("filters", JSONValue.object(object).text()))
    }

    /// `?name=value&…`, or empty.
    var text: String {
        items.isEmpty ? "" : "?" + items.map { "\(Self.escaped($0.name))=\(Self.escaped($0.value))" }.joined(separator: "&")
    }

    /// Everything but the unreserved characters of RFC 3986 is written as `%XX`; for a path, `/` stays.
    static func escaped(_ text: String, keepsSlashes: Bool = false) -> String {
        var output = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                output.unicodeScalars.append(Unicode.Scalar(byte))
            case UInt8(ascii: "/") where keepsSlashes: output.append("/")
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                output += (digits.count == 1 ? "%0" : "%") + digits
            }
        }
        return output
    }
}
