/// A path of an archive, checked and taken apart. Bytes and not text: file names have no encoding.
struct EntryPath: Hashable {
    /// Without empty ones and `.`; empty for the root itself.
    let components: [[UInt8]]

    static let maximumName = 255
    static let maximumLength = 4095

    init(components: [[UInt8]]) { self.components = components }

    /// - Parameter what: how the path is called in an error.
    init(_ bytes: [UInt8], what: String) throws(UnpackError) {
        guard !bytes.isEmpty else { throw UnpackError(.archive, "an entry has an empty \(what)") }
        guard bytes.count <= Self.maximumLength else {
            throw UnpackError(.archive, "a \(what) is longer than \(Self.maximumLength) bytes: \(Self.printable(bytes.prefix(60)))…")
        }
        guard bytes[0] != UInt8(ascii: "/") else { throw UnpackError(.archive, "the \(what) \(Self.printable(bytes)) is absolute") }
        guard !bytes.contains(0) else { throw UnpackError(.archive, "a \(what) has a zero byte") }
        var components: [[UInt8]] = []
        for part in bytes.split(separator: UInt8(ascii: "/")) {
            if part.elementsEqual(".".utf8) { continue }
            guard !part.elementsEqual("..".utf8) else {
                throw UnpackError(.archive, "the \(what) \(Self.printable(bytes)) leads out of the image with \"..\"")
            }
            guard part.count <= Self.maximumName else {
                throw UnpackError(.archive, "a name in \(Self.printable(bytes.prefix(60)))… is longer than \(Self.maximumName) bytes")
            }
            components.append(Array(part))
        }
        self.components = components
    }

    var isRoot: Bool { components.isEmpty }
    var name: [UInt8] { components.last ?? [] }
    var parent: EntryPath { EntryPath(components: components.dropLast()) }
    /// For system calls, relative to the root.
    var bytes: [UInt8] { components.isEmpty ? [UInt8(ascii: ".")] : Array(components.joined(separator: [UInt8(ascii: "/")])) }
    var description: String { Self.printable(bytes) }

    /// With a `?` for everything that a terminal or a log could take amiss.
    static func printable(_ bytes: some Collection<UInt8>) -> String {
        let safe = String(decoding: bytes, as: UTF8.self).unicodeScalars.map { scalar in
            scalar.value < 32 || (127..<160).contains(scalar.value) ? Unicode.Scalar(UInt8(ascii: "?")) : scalar
        }
        return String(String.UnicodeScalarView(safe))
    }
}

/// What a name means in a layer (OCI image specification, "Whiteouts").
enum LayerName: Equatable {
    case ordinary
    /// The folder hides what lower layers have in it.
    case opaque
    /// The name is gone.
    case whiteout([UInt8])
    /// Bookkeeping of aufs.
    case ignored

    private static let prefix = Array(".wh.".utf8)
    private static let reserved = Array(".wh..wh.".utf8)
    private static let opaqueName = Array(".wh..wh..opq".utf8)

    init(_ path: EntryPath) throws(UnpackError) {
        self = .ordinary
        for (index, name) in path.components.enumerated() where name.starts(with: Self.prefix) {
            if name.starts(with: Self.reserved) {
                self = name == Self.opaqueName && index == path.components.count - 1 ? .opaque : .ignored
                return
            }
            guard index == path.components.count - 1 else { throw UnpackError(.archive, "\(path.description) lies below a whiteout") }
            let hidden = Array(name.dropFirst(Self.prefix.count))
            guard !hidden.isEmpty, !hidden.elementsEqual(".".utf8), !hidden.elementsEqual("..".utf8) else {
                throw UnpackError(.archive, "the whiteout \(path.description) names nothing")
            }
            self = .whiteout(hidden)
        }
    }
}
