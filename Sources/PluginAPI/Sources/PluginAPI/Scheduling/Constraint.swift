/// One rule of `Placement.constraints`, such as `node.labels.disk==ssd`.
///
/// Values are compared without regard to the case of ASCII letters, as swarm does. A label that a node does not have is the empty text,
/// so that `!=` holds for it.
public struct Constraint: Sendable, Hashable, CustomStringConvertible {
    /// What of a node is looked at.
    public enum Attribute: Sendable, Hashable {
        case id
        case hostname
        case role
        case operatingSystem
        /// `amd64` and `x86_64` are the same, and so are `arm64` and `aarch64`.
        case architecture
        /// An address, or a prefix such as `10.0.0.0/8`.
        case address
        case label(String)
        case engineLabel(String)
    }

    public let attribute: Attribute
    /// `==`, or `!=` when false.
    public let isEqual: Bool
    public let value: String
    /// As the user wrote it, without the outer spaces.
    public let description: String

    /// What can stand to the left of the operator.
    public static var keys: [String] {
        [
            "node.id", "node.hostname", "node.role", "node.ip", "node.platform.os", "node.platform.arch", "node.labels.<label>",
            "engine.labels.<label>",
        ]
    }

    /// Reads `key==value` or `key!=value`; spaces around the three parts do not matter.
    ///
    /// Throws `invalidArgument` that names what is wrong: no operator, unknown key, empty label or value, characters that neither keys nor values may have.
    public init(_ text: String) throws(ApusError) {
        func problem(_ reason: String) -> ApusError { ApusError(.invalidArgument, "invalid constraint \"\(Self.printable(text))\": \(reason)") }
        let bytes = Array(text.utf8)
        guard
            let mark = bytes.indices.dropLast().first(where: {
                bytes[$0 + 1] == UInt8(ascii: "=") && (bytes[$0] == UInt8(ascii: "=") || bytes[$0] == UInt8(ascii: "!"))
            })
        else { throw problem("it needs == or !=, as in node.role==manager") }
        let key = Self.trimmed(bytes[..<mark])
        let value = Self.trimmed(bytes[(mark + 2)...])
        guard !key.isEmpty else { throw problem("there is nothing before the operator") }
        guard !value.isEmpty else { throw problem("there is no value after the operator") }
        guard key.utf8.allSatisfy({ Self.isWord($0) || Self.isOneOf($0, "-_./") }) else {
            throw problem("the key may have letters, digits and -_./ only")
        }
        guard value.utf8.allSatisfy({ Self.isWord($0) || Self.isOneOf($0, " -_./:*()?+[]\\^$|@,") }) else {
            throw problem("the value may have letters, digits, spaces and -_./:@,*()?+[]\\^$| only")
        }
        guard let attribute = try Self.attribute(key, problem) else {
            throw problem("the key \"\(key)\" is unknown; known are \(Self.keys.joined(separator: ", "))")
        }
        if case .address = attribute, IPAddress(value) == nil, IPPrefix(value) == nil {
            throw problem("\"\(value)\" is neither an address nor a prefix such as 10.0.0.0/8")
        }
        self.attribute = attribute
        self.isEqual = bytes[mark] == UInt8(ascii: "=")
        self.value = value
        self.description = "\(key)\(isEqual ? "==" : "!=")\(value)"
    }

    /// Reads all of a placement's constraints, and throws for the first that is wrong.
    public static func parse(_ texts: [String]) throws(ApusError) -> [Constraint] {
        var constraints: [Constraint] = []
        for text in texts { constraints.append(try Constraint(text)) }
        return constraints
    }

    /// Whether the rule holds for a node.
    public func matches(_ node: Node) -> Bool { isValue(of: node) == isEqual }

    private func isValue(of node: Node) -> Bool {
        switch attribute {
        case .id: node.id.text.equalsIgnoringCase(value)
        case .hostname: node.description.hostname.equalsIgnoringCase(value)
        case .role: node.spec.role.rawValue.equalsIgnoringCase(value)
        case .operatingSystem: node.description.platform.os.equalsIgnoringCase(value)
        case .architecture: node.description.platform.architecture.equalsArchitecture(value)
        case .label(let key): (node.spec.labels[key] ?? "").equalsIgnoringCase(value)
        case .engineLabel(let key): (node.description.engine.labels[key] ?? "").equalsIgnoringCase(value)
        case .address: isAddress(of: node)
        }
    }

    private func isAddress(of node: Node) -> Bool {
        guard let address = IPAddress(node.status.address) else { return false }
        if let prefix = IPPrefix(value) { return prefix.contains(address) }
        return IPAddress(value) == address
    }

    private static func attribute(_ key: String, _ problem: (String) -> ApusError) throws(ApusError) -> Attribute? {
        switch key.lowercased() {
        case "node.id": return .id
        case "node.hostname": return .hostname
        case "node.role": return .role
        case "node.ip": return .address
        case "node.platform.os": return .operatingSystem
        case "node.platform.arch": return .architecture
        case "node.labels", "node.labels.", "engine.labels", "engine.labels.":
            throw problem("it needs the name of a label, as in node.labels.disk==ssd")
        default:
            // Names of labels keep their case, the words before them do not.
            if key.lowercased().hasPrefix("node.labels.") { return .label(String(key.dropFirst("node.labels.".count))) }
            if key.lowercased().hasPrefix("engine.labels.") { return .engineLabel(String(key.dropFirst("engine.labels.".count))) }
            return nil
        }
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> String {
        var bytes = bytes
        while let first = bytes.first, first == 32 || first == 9 { bytes.removeFirst() }
        while let last = bytes.last, last == 32 || last == 9 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }

    private static func isOneOf(_ byte: UInt8, _ characters: StaticString) -> Bool {
        characters.withUTF8Buffer { $0.contains(byte) }
    }

    /// Control characters would spoil a terminal, and a megabyte would spoil the message.
    private static func printable(_ text: String) -> String {
        let start = text.unicodeScalars.prefix(100)
        let clean = String(String.UnicodeScalarView(start.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
        return start.endIndex == text.unicodeScalars.endIndex ? clean : clean + "…"
    }
}

extension String {
    /// Equal when ASCII letters are compared without their case.
    func equalsIgnoringCase(_ other: String) -> Bool {
        guard utf8.count == other.utf8.count else { return false }
        return zip(utf8, other.utf8).allSatisfy { left, right in
            left == right || (left | 0x20 == right | 0x20 && left | 0x20 >= 97 && left | 0x20 <= 122)
        }
    }

    /// Equal as names of a processor: Go's and the kernel's are the same.
    func equalsArchitecture(_ other: String) -> Bool {
        Self.architecture(self).equalsIgnoringCase(Self.architecture(other))
    }

    private static func architecture(_ name: String) -> String {
        switch name {
        case "x86_64", "X86_64": "amd64"
        case "aarch64", "AARCH64": "arm64"
        case "armv6l", "armv7l", "armhf": "arm"
        case "i386", "i686": "386"
        default: name
        }
    }
}
