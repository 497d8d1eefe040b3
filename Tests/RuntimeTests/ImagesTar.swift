/// A tar (ustar with pax records) written by hand, so that a test can put anything into it.
struct TestTar {
    struct Entry {
        var name: String
        var type: Character = "0"
        var link = ""
        var content: [UInt8] = []
        var mode: Int = 0o644
        var user = 0
        var group = 0
        var modified = 1_700_000_000
        var deviceMajor = 0
        var deviceMinor = 0
        /// Records of a pax header before it, such as `SCHILY.xattr.user.a`.
        var records: [(String, [UInt8])] = []
        /// What the header says, if it is not the content's length.
        var statedSize: Int?
    }

    private(set) var bytes: [UInt8] = []

    mutating func add(_ entry: Entry) {
        if !entry.records.isEmpty {
            var body: [UInt8] = []
            for (key, value) in entry.records { body += Self.record(key, value) }
            block(Entry(name: "PaxHeaders/x", type: "x", content: body))
        }
        block(entry)
    }

    mutating func file(_ name: String, _ content: String = "", mode: Int = 0o644, user: Int = 0, group: Int = 0, records: [(String, [UInt8])] = []) {
        add(Entry(name: name, content: Array(content.utf8), mode: mode, user: user, group: group, records: records))
    }

    mutating func folder(_ name: String, mode: Int = 0o755, records: [(String, [UInt8])] = []) {
        add(Entry(name: name, type: "5", mode: mode, records: records))
    }
    mutating func symbolicLink(_ name: String, to target: String) { add(Entry(name: name, type: "2", link: target, mode: 0o777)) }
    mutating func hardLink(_ name: String, to target: String) { add(Entry(name: name, type: "1", link: target)) }
    mutating func device(_ name: String, type: Character = "3", _ major: Int, _ minor: Int) {
        add(Entry(name: name, type: type, mode: 0o600, deviceMajor: major, deviceMinor: minor))
    }

    /// With the two empty blocks at its end.
    func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    private static func record(_ key: String, _ value: [UInt8]) -> [UInt8] {
        let rest = Array(" \(key)=".utf8) + value + [10]
        var length = rest.count + 1
        while String(length).utf8.count + rest.count != length { length = String(length).utf8.count + rest.count }
        return Array(String(length).utf8) + rest
    }

    private mutating func block(_ entry: Entry) {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int, _ room: Int) {
            for (index, byte) in text.utf8.prefix(room).enumerated() { header[offset + index] = byte }
        }
        func octal(_ value: Int, at offset: Int, _ room: Int) {
            let digits = String(value, radix: 8)
            put(String(repeating: "0", count: max(0, room - 1 - digits.count)) + digits, at: offset, room - 1)
        }
        put(entry.name, at: 0, 100)
        octal(entry.mode, at: 100, 8)
        octal(entry.user, at: 108, 8)
        octal(entry.group, at: 116, 8)
        octal(entry.statedSize ?? entry.content.count, at: 124, 12)
        octal(entry.modified, at: 136, 12)
        put("        ", at: 148, 8)
        put(String(entry.type), at: 156, 1)
        put(entry.link, at: 157, 100)
        put("ustar", at: 257, 5)
        put("00", at: 263, 2)
        octal(entry.deviceMajor, at: 329, 8)
        octal(entry.deviceMinor, at: 337, 8)
        octal(header.reduce(0) { $0 + Int($1) }, at: 148, 7)
        header[155] = 32
        bytes += header
        bytes += entry.content
        bytes += [UInt8](repeating: 0, count: (512 - entry.content.count % 512) % 512)
    }
}
