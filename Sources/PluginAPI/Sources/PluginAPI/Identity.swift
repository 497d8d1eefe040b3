/// The identity of an object or a container.
///
/// Objects of the store have 25 characters of base 36, as swarm's do; containers and images have 64 hexadecimal digits, as Docker's do.
@frozen
public struct ID: Hashable, Sendable, Comparable, CustomStringConvertible, ExpressibleByStringLiteral {
    /// As the API shows it, in full.
    public var text: String

    /// Any text will do: whether there is such an object, the store knows.
    @inlinable
    public init(_ text: String) { self.text = text }

    @inlinable
    public init(stringLiteral value: String) { self.text = value }

    @inlinable public var description: String { text }
    @inlinable public var isEmpty: Bool { text.isEmpty }

    @inlinable
    public static func < (left: ID, right: ID) -> Bool { left.text < right.text }

    /// Digits of an object's id.
    public static let length = 25

    /// A new identity of 25 base-36 digits, that is 129 bits.
    public static func random(using generator: inout some RandomNumberGenerator) -> ID {
        let digits = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)
        let bytes = (0..<length).map { _ in digits[Int.random(in: 0..<36, using: &generator)] }
        return ID(String(decoding: bytes, as: UTF8.self))
    }

    /// A new identity of 25 base-36 digits from the system's generator.
    public static func random() -> ID {
        var generator = SystemRandomNumberGenerator()
        return random(using: &generator)
    }

    /// A new container identity: 64 hexadecimal digits from the system's generator.
    public static func randomContainer() -> ID {
        let digits = Array("0123456789abcdef".utf8)
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<64).map { _ in digits[Int.random(in: 0..<16, using: &generator)] }
        return ID(String(decoding: bytes, as: UTF8.self))
    }

    /// The first twelve characters, as tables show them.
    public var short: String { String(text.prefix(12)) }
}

/// What an update must name to be accepted: the log index of the last change of an object.
@frozen
public struct Version: Hashable, Sendable, Comparable {
    public var index: UInt64

    @inlinable
    public init(index: UInt64 = 0) { self.index = index }

    @inlinable
    public static func < (left: Version, right: Version) -> Bool { left.index < right.index }
}
