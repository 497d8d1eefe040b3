import CNetlink
import Glibc
import PluginAPI

/// A message to the kernel without its header: a structure of the kernel's, then attributes. All numbers are in the machine's byte order.
struct NetlinkMessage {
    /// Such as RTM_NEWNEIGH.
    let type: UInt16
    /// Besides NLM_F_REQUEST.
    let flags: UInt16
    private(set) var body: [UInt8] = []

    init(_ type: Int, flags: Int32 = 0) {
        self.type = UInt16(truncatingIfNeeded: type)
        self.flags = UInt16(truncatingIfNeeded: flags)
    }

    mutating func append<Number: FixedWidthInteger>(_ number: Number) { withUnsafeBytes(of: number) { body += $0 } }

    mutating func append(_ bytes: some Sequence<UInt8>) { body += bytes }

    /// Adds zeros up to the next multiple of four, or of `boundary`.
    mutating func align(_ boundary: Int = 4) {
        while body.count % boundary != 0 { body.append(0) }
    }

    mutating func attribute(_ type: Int, _ payload: [UInt8]) {
        append(UInt16(truncatingIfNeeded: payload.count + 4))
        append(UInt16(truncatingIfNeeded: type))
        body += payload
        align()
    }

    mutating func attribute<Number: FixedWidthInteger>(_ type: Int, _ number: Number) {
        attribute(type, withUnsafeBytes(of: number) { [UInt8]($0) })
    }

    /// With its header.
    func bytes(sequence: UInt32, flags added: Int32) -> [UInt8] {
        var header = NetlinkMessage(0)
        header.append(UInt32(16 + body.count))
        header.append(type)
        header.append(flags | UInt16(truncatingIfNeeded: added | NLM_F_REQUEST))
        header.append(sequence)
        header.append(UInt32(0))
        return header.body + body
    }
}

/// The attributes of a message of the kernel's, in any of which lengths may be wrong.
struct NetlinkAttributes {
    private let bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    /// What the first attribute of the type says.
    subscript(type: Int) -> ArraySlice<UInt8>? {
        var rest = bytes
        while let length = rest.number(at: 0, as: UInt16.self).map(Int.init), let found = rest.number(at: 2, as: UInt16.self) {
            guard length >= 4, length <= rest.count else { return nil }
            // The two upper bits say that it is nested, or in network order.
            if Int(found & 0x3fff) == type { return rest.dropFirst(4).prefix(length - 4) }
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return nil
    }
}

extension ArraySlice<UInt8> {
    /// A number in the machine's byte order, `offset` bytes behind the start.
    func number<Number: FixedWidthInteger>(at offset: Int, as type: Number.Type) -> Number? {
        guard offset >= 0, count >= offset + MemoryLayout<Number>.size else { return nil }
        return dropFirst(offset).prefix(MemoryLayout<Number>.size).withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
    }
}
