/// A domain name as it stands in a message (RFC 1035, 3.1): letters keep their case.
struct DomainName: Hashable {
    static let labelLimit = 63
    /// With the lengths of labels and the root's zero.
    static let limit = 255

    /// Each label behind its length, then a zero.
    let wire: [UInt8]

    /// `wire` must be well formed; the reader sees to that.
    init(wire: [UInt8]) { self.wire = wire }

    /// Labels with dots in between, perhaps one behind; `nil` for an empty label, and for too long ones.
    init?(_ text: String) {
        var wire: [UInt8] = []
        let text = text.hasSuffix(".") ? text.dropLast() : text[...]
        if !text.isEmpty {
            for label in text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
                guard (1...Self.labelLimit).contains(label.count) else { return nil }
                wire.append(UInt8(label.count))
                wire += label
            }
        }
        wire.append(0)
        guard wire.count <= Self.limit else { return nil }
        self.wire = wire
    }

    /// In lower case and without a trailing dot, as names are looked up; `nil` when a label has a dot or is no UTF-8, which no known name has.
    var key: String? {
        var text: [UInt8] = []
        text.reserveCapacity(wire.count)
        var index = 0
        while wire[index] > 0 {
            if index > 0 { text.append(UInt8(ascii: ".")) }
            let end = index + 1 + Int(wire[index])
            for byte in wire[(index + 1)..<end] {
                guard byte != UInt8(ascii: ".") else { return nil }
                text.append(Self.lowercased(byte))
            }
            index = end
        }
        return String(validating: text, as: UTF8.self)
    }

    /// Whether two names are the same but for the case of letters.
    func matches(_ other: DomainName) -> Bool {
        // Lengths of labels are below the letters, so that lowering them changes nothing.
        wire.count == other.wire.count && zip(wire, other.wire).allSatisfy { Self.lowercased($0) == Self.lowercased($1) }
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte }
}
