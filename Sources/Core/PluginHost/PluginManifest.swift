public import PluginAPI

/// What a plugin says about itself in its record.
public struct PluginManifest: Sendable, Hashable {
    public var role: PluginRole
    public var name: String
    /// `1.0.2`.
    public var version: String
    public var apiMajor: UInt16
    public var apiMinor: UInt16
    /// `6.3.1`.
    public var compiler: String

    /// The record's numbers before they are known to mean something to this host.
    struct Record: Sendable, Hashable {
        var size: UInt32
        var apiMajor: UInt16
        var apiMinor: UInt16
        var role: UInt16
        var version: String
        var name: String
    }

    /// Reads the record's section; the layout is that of `PluginRecord`.
    static func record(_ section: ArraySlice<UInt8>) throws(ApusError) -> Record {
        let bytes = ELFBytes(Array(section))
        guard section.count >= PluginRecordLayout.size else {
            throw ApusError(.invalidArgument, "its record is too short: \(section.count) bytes instead of \(PluginRecordLayout.size)")
        }
        guard try bytes.number64(0) == PluginRecordLayout.magic else { throw ApusError(.invalidArgument, "its record does not begin with APSPLGIN") }
        let size = try bytes.number32(8)
        guard size >= PluginRecordLayout.size, size <= section.count else {
            throw ApusError(.invalidArgument, "its record says that it has \(size) bytes; there are \(section.count)")
        }
        let field = try bytes.slice(24, PluginRecordLayout.nameLimit)
        let name = String(decoding: field.prefix { $0 != 0 }, as: UTF8.self)
        guard PluginRecordLayout.isName(name), field.dropFirst(name.utf8.count).allSatisfy({ $0 == 0 }) else {
            throw ApusError(
                .invalidArgument, "the name in its record must be a-z, 0-9 and inner -, begin with a letter, and be filled up with zeros to 32 bytes")
        }
        let version = "\(try bytes.number16(18)).\(try bytes.number16(20)).\(try bytes.number16(22))"
        return Record(
            size: size, apiMajor: try bytes.number16(12), apiMinor: try bytes.number16(14), role: try bytes.number16(16), version: version, name: name
        )
    }

    /// Reads the section of the compiler; the layout is that of `PluginCompiler`.
    static func compiler(_ section: ArraySlice<UInt8>) throws(ApusError) -> String {
        guard section.count >= 3 else { throw ApusError(.invalidArgument, "its compiler's version is cut short") }
        return section.prefix(3).map { String($0) }.joined(separator: ".")
    }

    /// The host's own compiler.
    static let hostCompiler = {
        let own = PluginHost.compiler
        return "\(own.major).\(own.minor).\(own.patch)"
    }()

    /// The manifest of a plugin that this host understands far enough to name it.
    init(_ image: ELFImage) throws(ApusError) {
        guard let section = try image.section(named: PluginRecordLayout.section) else {
            throw ApusError(.invalidArgument, "no record: the file has no section \(PluginRecordLayout.section), so it is not a plugin of Apus")
        }
        let record = try Self.record(section)
        guard let role = PluginRole.allCases.first(where: { $0.number == record.role }) else {
            throw ApusError(.invalidArgument, "its record names role \(record.role), which this engine does not know")
        }
        guard let compiler = try image.section(named: PluginRecordLayout.compilerSection) else {
            throw ApusError(.invalidArgument, "it does not say which compiler made it: the section \(PluginRecordLayout.compilerSection) is missing")
        }
        self.role = role
        name = record.name
        version = record.version
        apiMajor = record.apiMajor
        apiMinor = record.apiMinor
        self.compiler = try Self.compiler(compiler)
    }

    /// Why this host cannot load such a plugin, or `nil`.
    func incompatibility(hostMajor: UInt16 = APIVersion.major, hostMinor: UInt16 = APIVersion.minor, compiler: String = hostCompiler) -> String? {
        if apiMajor != hostMajor {
            return "made for PluginAPI \(apiMajor).\(apiMinor); this engine has \(hostMajor).\(hostMinor): build it against PluginAPI \(hostMajor)"
        }
        if apiMinor > hostMinor {
            return
                "made for PluginAPI \(apiMajor).\(apiMinor), newer than this engine's \(hostMajor).\(hostMinor): "
                + "upgrade the engine, or build it for that"
        }
        if self.compiler != compiler { return "made with Swift \(self.compiler); this engine needs Swift \(compiler): build it again with that" }
        return nil
    }
}
