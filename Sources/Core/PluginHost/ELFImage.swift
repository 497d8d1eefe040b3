import PluginAPI

/// A 64-bit little-endian ELF shared object, read from bytes of which nothing is trusted.
///
/// A value without I/O. Every offset is checked before it is used, and every table is bounded by the file, so damaged bytes cost an error and
/// nothing else. Layouts are those of elf(5).
struct ELFImage: Sendable {
    struct Section: Sendable, Hashable {
        var name: String
        var type: UInt32
        var offset: Int
        var size: Int
        /// Index of the section that this one's numbers refer to.
        var link: Int
    }

    /// A name that the loader must find elsewhere, or that others may find here.
    struct Symbol: Sendable, Hashable {
        var name: String
        /// Such as `GLIBC_2.34`; empty when any will do.
        var version: String
        /// Of another file; the loader fails without it unless `isWeak`.
        var isUndefined: Bool
        var isWeak: Bool
    }

    /// What the dynamic section says.
    struct Dynamic: Sendable, Hashable {
        /// The libraries that are loaded with this one, by the names that they are linked with.
        var needed: [String] = []
        /// Folders where those are looked for, `DT_RUNPATH` or else `DT_RPATH`, as written.
        var searchPath: [String] = []
        /// All functions are bound when the file is loaded: `DF_BIND_NOW`, `DF_1_NOW` or `DT_BIND_NOW`.
        var bindsNow = false
    }

    let bytes: ELFBytes
    /// `e_machine`.
    let machine: UInt16
    let sections: [Section]
    private let segments: [Segment]

    private struct Segment: Sendable {
        var type: UInt32
        var offset: Int
        var address: UInt64
        var size: Int
    }

    private enum Kind {
        static let sharedObject: UInt16 = 3
        static let loadSegment: UInt32 = 1
        static let dynamicSegment: UInt32 = 2
        static let noBits: UInt32 = 8
        static let dynamicSymbols: UInt32 = 11
        static let neededVersions: UInt32 = 0x6fff_fffe
        static let symbolVersions: UInt32 = 0x6fff_ffff
    }

    /// Far more than any library has.
    private static let nameBytesLimit = 64 << 20

    /// `EM_X86_64` or `EM_AARCH64`: what this program itself is.
    static var hostMachine: UInt16 {
        #if arch(arm64)
            183
        #else
            62
        #endif
    }

    /// Checks the headers, and that no section or segment reaches past the end of the file.
    init(_ content: [UInt8]) throws(ApusError) {
        let bytes = ELFBytes(content)
        guard content.count >= 4, content[0] == 0x7f, content[1] == 0x45, content[2] == 0x4c, content[3] == 0x46 else {
            throw ApusError(.invalidArgument, "not an ELF file")
        }
        guard content.count >= 64 else { throw ELFBytes.truncated }
        guard content[4] == 2, content[5] == 1 else { throw ApusError(.invalidArgument, "not a 64-bit little-endian ELF file") }
        guard try bytes.number16(16) == Kind.sharedObject else { throw ApusError(.invalidArgument, "an ELF file, but not a shared object") }
        self.bytes = bytes
        machine = try bytes.number16(18)
        segments = try Self.segments(bytes)
        sections = try Self.sections(bytes)
    }

    private static func segments(_ bytes: ELFBytes) throws(ApusError) -> [Segment] {
        let table = try bytes.offset64(32)
        let entrySize = Int(try bytes.number16(54))
        let count = Int(try bytes.number16(56))
        guard count > 0 else { return [] }
        guard entrySize >= 56 else { throw ApusError(.invalidArgument, "a damaged ELF file: program headers of \(entrySize) bytes") }
        try bytes.check(table, count * entrySize)
        var segments: [Segment] = []
        for index in 0..<count {
            let header = table + index * entrySize
            let segment = Segment(
                type: try bytes.number32(header), offset: try bytes.offset64(header + 8), address: try bytes.number64(header + 16),
                size: try bytes.offset64(header + 32))
            if segment.type == Kind.loadSegment || segment.type == Kind.dynamicSegment { try bytes.check(segment.offset, segment.size) }
            segments.append(segment)
        }
        return segments
    }

    private static func sections(_ bytes: ELFBytes) throws(ApusError) -> [Section] {
        let table = try bytes.offset64(40)
        let entrySize = Int(try bytes.number16(58))
        let count = Int(try bytes.number16(60))
        let namesIndex = Int(try bytes.number16(62))
        guard table > 0, count > 0 else { return [] }
        guard entrySize >= 64 else { throw ApusError(.invalidArgument, "a damaged ELF file: section headers of \(entrySize) bytes") }
        try bytes.check(table, count * entrySize)
        guard namesIndex < count else { throw ApusError(.invalidArgument, "a damaged ELF file: it has no table of section names") }
        let names = table + namesIndex * entrySize
        let nameTable = try bytes.offset64(names + 24)
        let nameLimit = try bytes.offset64(names + 32)
        try bytes.check(nameTable, nameLimit)
        var sections: [Section] = []
        sections.reserveCapacity(count)
        for index in 0..<count {
            let header = table + index * entrySize
            let section = Section(
                name: try bytes.text(at: Int(try bytes.number32(header)), inTable: nameTable, nameLimit, limit: 256),
                type: try bytes.number32(header + 4), offset: try bytes.offset64(header + 24), size: try bytes.offset64(header + 32),
                link: Int(try bytes.number32(header + 40)))
            if section.type != Kind.noBits, section.type != 0 { try bytes.check(section.offset, section.size) }
            sections.append(section)
        }
        return sections
    }

    /// The bytes of the first section of that name.
    func section(named name: String) throws(ApusError) -> ArraySlice<UInt8>? {
        guard let section = sections.first(where: { $0.name == name && $0.type != Kind.noBits && $0.type != 0 }) else { return nil }
        return try bytes.slice(section.offset, section.size)
    }

    /// Where a loaded address stands in the file.
    private func offset(ofAddress address: UInt64) throws(ApusError) -> Int {
        for segment in segments where segment.type == Kind.loadSegment {
            guard address >= segment.address, address - segment.address < UInt64(segment.size) else { continue }
            return segment.offset + Int(address - segment.address)
        }
        throw ApusError(.invalidArgument, "a damaged ELF file: a table lies outside of its segments")
    }

    /// What the loader will do with the file; throws when it has no dynamic section.
    func dynamic() throws(ApusError) -> Dynamic {
        guard let segment = segments.first(where: { $0.type == Kind.dynamicSegment }) else {
            throw ApusError(.invalidArgument, "an ELF file without a dynamic section")
        }
        var neededOffsets: [Int] = []
        var searchOffsets: (rpath: Int?, runpath: Int?) = (nil, nil)
        var dynamic = Dynamic()
        var strings: (address: UInt64, size: Int)?
        var stringsSize = 0
        var offset = segment.offset
        while offset + 16 <= segment.offset + segment.size {
            let tag = try bytes.number64(offset)
            let value = try bytes.number64(offset + 8)
            offset += 16
            if tag == 0 { break }
            switch tag {
            case 1: neededOffsets.append(try ELFBytes.index(value))
            case 5: strings = (value, 0)
            case 10: stringsSize = try ELFBytes.index(value)
            case 15: searchOffsets.rpath = try ELFBytes.index(value)
            case 24: dynamic.bindsNow = true
            case 29: searchOffsets.runpath = try ELFBytes.index(value)
            case 30: if value & 0x8 != 0 { dynamic.bindsNow = true }
            case 0x6fff_fffb: if value & 0x1 != 0 { dynamic.bindsNow = true }
            default: break
            }
        }
        guard let strings else { return dynamic }
        let table = try self.offset(ofAddress: strings.address)
        try bytes.check(table, stringsSize)
        for needed in neededOffsets { dynamic.needed.append(try bytes.text(at: needed, inTable: table, stringsSize)) }
        if let search = searchOffsets.runpath ?? searchOffsets.rpath {
            dynamic.searchPath = try bytes.text(at: search, inTable: table, stringsSize).split(separator: ":").map(String.init)
        }
        return dynamic
    }

    /// The dynamic symbols, without the nameless ones.
    func symbols() throws(ApusError) -> [Symbol] {
        guard let table = sections.first(where: { $0.type == Kind.dynamicSymbols }) else { return [] }
        guard sections.indices.contains(table.link) else { throw ApusError(.invalidArgument, "a damaged ELF file: symbols without names") }
        let names = sections[table.link]
        try bytes.check(names.offset, names.size)
        let versions = try neededVersions()
        let versionTable = sections.first { $0.type == Kind.symbolVersions }
        var symbols: [Symbol] = []
        var nameBytes = 0
        for index in 0..<(table.size / 24) {
            let entry = table.offset + index * 24
            let name = try bytes.text(at: Int(try bytes.number32(entry)), inTable: names.offset, names.size)
            guard !name.isEmpty else { continue }
            nameBytes += name.utf8.count
            guard nameBytes <= Self.nameBytesLimit else { throw ApusError(.tooLarge, "a damaged ELF file: the names of its symbols never end") }
            let information = try bytes.number8(entry + 4)
            let section = try bytes.number16(entry + 6)
            var version = ""
            if let versionTable, (index + 1) * 2 <= versionTable.size {
                version = versions[try bytes.number16(versionTable.offset + index * 2) & 0x7fff] ?? ""
            }
            symbols.append(Symbol(name: name, version: version, isUndefined: section == 0, isWeak: information >> 4 == 2))
        }
        return symbols
    }

    /// The names behind the numbers in the table of symbol versions, for symbols of other files.
    private func neededVersions() throws(ApusError) -> [UInt16: String] {
        guard let table = sections.first(where: { $0.type == Kind.neededVersions }), sections.indices.contains(table.link) else { return [:] }
        let names = sections[table.link]
        try bytes.check(names.offset, names.size)
        var versions: [UInt16: String] = [:]
        var file = table.offset
        let end = table.offset + table.size
        // Links between entries only lead forward, but may overlap; an entry has 16 bytes, so there are no more than these.
        var remaining = table.size / 16
        while file + 16 <= end, remaining > 0 {
            remaining -= 1
            var entry = file + Int(try bytes.number32(file + 8))
            for _ in 0..<(try bytes.number16(file + 2)) {
                guard entry + 16 <= end, remaining > 0 else { break }
                remaining -= 1
                versions[try bytes.number16(entry + 6) & 0x7fff] = try bytes.text(
                    at: Int(try bytes.number32(entry + 8)), inTable: names.offset, names.size)
                let next = Int(try bytes.number32(entry + 12))
                if next == 0 { break }
                entry += next
            }
            let next = Int(try bytes.number32(file + 12))
            if next == 0 { break }
            file += next
        }
        return versions
    }
}
