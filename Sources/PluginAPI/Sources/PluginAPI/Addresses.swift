/// An IPv4 or IPv6 address.
@frozen
public struct IPAddress: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Four or sixteen bytes in network order.
    public let bytes: [UInt8]

    /// `nil` unless there are four or sixteen bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.bytes = bytes
    }

    /// `IPAddress(v4: 10, 0, 0, 7)` is 10.0.0.7.
    public init(v4 a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) { bytes = [a, b, c, d] }

    /// Otherwise it is IPv6.
    @inlinable public var isIPv4: Bool { bytes.count == 4 }

    /// Reads dotted decimal, or RFC 4291 text with at most one `::`; `nil` for anything else.
    public init?(_ text: String) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let bytes = Self.parseIPv6(text) else { return nil }
            self.bytes = bytes
        } else {
            guard let bytes = Self.parseIPv4(text) else { return nil }
            self.bytes = bytes
        }
    }

    private static func parseIPv4(_ text: some StringProtocol) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bytes: [UInt8] = []
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
                part.utf8.count == 1 || part.utf8.first != 48, let byte = UInt8(part)
            else { return nil }
            bytes.append(byte)
        }
        return bytes
    }

    private static func parseIPv6(_ text: String) -> [UInt8]? {
        // An IPv4 address may stand at the end of the whole text only.
        func groups(_ text: Substring, isEnd: Bool) -> [UInt8]? {
            if text.isEmpty { return [] }
            var bytes: [UInt8] = []
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            for (index, part) in parts.enumerated() {
                if isEnd, index == parts.count - 1, part.utf8.contains(UInt8(ascii: ".")) {
                    guard let tail = parseIPv4(part) else { return nil }
                    bytes += tail
                } else {
                    guard (1...4).contains(part.utf8.count), !hasSign(part), let group = UInt16(part, radix: 16) else { return nil }
                    bytes += [UInt8(group >> 8), UInt8(group & 0xff)]
                }
            }
            return bytes
        }
        let marks = text.utf8.indices.filter { text.utf8[$0...].starts(with: [58, 58]) }
        guard let mark = marks.first else {
            guard let bytes = groups(text[...], isEnd: true), bytes.count == 16 else { return nil }
            return bytes
        }
        guard marks.count == 1 else { return nil }
        guard let head = groups(text[..<mark], isEnd: false), let tail = groups(text[text.utf8.index(mark, offsetBy: 2)...], isEnd: true),
            head.count + tail.count <= 14
        else { return nil }
        return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }

    /// Dotted decimal, or the canonical text of RFC 5952.
    public var description: String {
        if isIPv4 { return bytes.map { String($0) }.joined(separator: ".") }
        let groups = stride(from: 0, to: 16, by: 2).map { UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]) }
        var best = 0..<0
        var index = 0
        while index < 8 {
            var end = index
            while end < 8, groups[end] == 0 { end += 1 }
            if end - index > max(1, best.count) { best = index..<end }
            index = max(end, index + 1)
        }
        func text(_ range: Range<Int>) -> String { range.map { String(groups[$0], radix: 16) }.joined(separator: ":") }
        return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
    }

    /// IPv4 before IPv6, then by value.
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        left.bytes.count != right.bytes.count
            ? left.bytes.count < right.bytes.count : left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    /// The address `offset` places further, or `nil` past the end of the family.
    public func advanced(by offset: UInt64) -> IPAddress? {
        var bytes = bytes
        var carry = offset
        for index in bytes.indices.reversed() where carry > 0 {
            let sum = UInt64(bytes[index]) + (carry & 0xff)
            bytes[index] = UInt8(sum & 0xff)
            carry = (carry >> 8) + (sum >> 8)
        }
        return carry == 0 ? IPAddress(bytes: bytes) : nil
    }
}

/// An address with the length of its network: `10.0.0.7/24`.
@frozen
public struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
    /// It may have bits behind the length, as the address of an interface does.
    public var address: IPAddress
    /// 0 to 32, or to 128.
    public var length: Int

    /// `nil` when the length does not fit the family.
    public init?(_ address: IPAddress, length: Int) {
        guard length >= 0, length <= address.bytes.count * 8 else { return nil }
        self.address = address
        self.length = length
    }

    /// Reads `address/length`; `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(String(parts[0])), parts[1].utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
            parts[1].utf8.count == 1 || parts[1].utf8.first != 48, let length = Int(parts[1])
        else { return nil }
        self.init(address, length: length)
    }

    public var description: String { "\(address)/\(length)" }

    /// The network itself: all bits past the length are zero.
    public var network: IPPrefix {
        var copy = self
        copy.address = IPAddress(bytes: masked(address)) ?? address
        return copy
    }

    /// Whether an address of the same family lies in the network.
    public func contains(_ other: IPAddress) -> Bool {
        other.bytes.count == address.bytes.count && masked(other) == masked(address)
    }

    /// Whether the two have an address in common.
    public func overlaps(_ other: IPPrefix) -> Bool {
        length <= other.length ? contains(other.address) : other.contains(address)
    }

    private func masked(_ other: IPAddress) -> [UInt8] {
        other.bytes.enumerated().map { index, byte in
            let bits = min(8, max(0, length - index * 8))
            return byte & UInt8(truncatingIfNeeded: 0xff00 >> bits)
        }
    }
}

/// A hardware address of six bytes.
@frozen
public struct MACAddress: Hashable, Sendable, CustomStringConvertible {
    /// Six, in the order of the wire.
    public let bytes: [UInt8]

    /// `nil` unless there are six bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 6 else { return nil }
        self.bytes = bytes
    }

    /// Reads six hexadecimal pairs with colons; `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 6 else { return nil }
        var bytes: [UInt8] = []
        for part in parts {
            guard part.utf8.count == 2, !hasSign(part), let byte = UInt8(part, radix: 16) else { return nil }
            bytes.append(byte)
        }
        self.bytes = bytes
    }

    /// The usual address of a container: `02:42` and the IPv4 address, so that a neighbour entry stays right when an address is used again.
    public init(containerWith address: IPAddress) {
        bytes = [0x02, 0x42] + address.bytes.suffix(4)
    }

    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}

/// Integers are read with a sign too, `-0` even by those that have none.
private func hasSign(_ text: Substring) -> Bool { text.utf8.first == UInt8(ascii: "+") || text.utf8.first == UInt8(ascii: "-") }
