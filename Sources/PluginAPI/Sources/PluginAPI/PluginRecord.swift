/// The record of a plugin: what the host reads from the file, before it runs a byte of it, to learn what the file is.
///
/// A plugin has two constants, each in an ELF section of its own. A constant in a section is made of literals alone, so the name is
/// written byte by byte, with zeros up to 32; `apus plugin new` writes it.
///
/// ```swift
/// @section("apus_plugin") @used
/// let record: PluginRecord = (
///     magic: 0x4e49_474c_5053_5041, size: 56,
///     api: (major: 0, minor: 1),
///     role: 1,  // scheduler
///     version: (major: 1, minor: 0, patch: 0),
///     // mine
///     name: [0x6d, 0x69, 0x6e, 0x65, 0, …]
/// )
/// ```
///
/// The layout is part of the API and never changes within a major version; a later minor may add fields at the end, and says so by a larger size.
/// Numbers are little-endian.
///
/// | Offset | Bytes | Field |
/// | ---: | ---: | --- |
/// | 0 | 8 | `magic`: the characters `APSPLGIN` |
/// | 8 | 4 | `size` of the record in bytes: 56 |
/// | 12 | 2 | `api.major` of the API that the plugin is written for |
/// | 14 | 2 | `api.minor` |
/// | 16 | 2 | `role`: `PluginRole.number` |
/// | 18 | 2 | `version.major` of the plugin |
/// | 20 | 2 | `version.minor` |
/// | 22 | 2 | `version.patch` |
/// | 24 | 32 | `name`: `a`–`z`, `0`–`9` and inner `-`, beginning with a letter, zeros after it |
public typealias PluginRecord = (
    magic: UInt64, size: UInt32,
    api: (major: UInt16, minor: UInt16),
    role: UInt16,
    version: (major: UInt16, minor: UInt16, patch: UInt16),
    name: InlineArray<32, UInt8>
)

/// The Swift compiler that made the plugin, in the section `apus_compiler`: three bytes.
///
/// Swift promises no binary compatibility between compilers on Linux, so it must be the host's. The compiler offers its version to `#if` alone; hence
/// `Compiler.swift`, one and the same file in every plugin, asks for one version after the other.
///
/// | Offset | Bytes | Field |
/// | ---: | ---: | --- |
/// | 0 | 1 | `major` |
/// | 1 | 1 | `minor` |
/// | 2 | 1 | `patch` |
public typealias PluginCompiler = (major: UInt8, minor: UInt8, patch: UInt8)

/// The numbers and names that a record is read with.
public enum PluginRecordLayout {
    /// The section of `PluginRecord`.
    public static let section = "apus_plugin"
    /// The section of `PluginCompiler`.
    public static let compilerSection = "apus_compiler"
    /// The C function that makes the plugin's factory.
    public static let entryPoint = "apus_plugin_entry"
    /// `APSPLGIN` as a little-endian number.
    public static let magic: UInt64 = 0x4e49_474c_5053_5041
    /// Bytes of a record of this version of the API.
    public static let size = 56
    /// Bytes of a name.
    public static let nameLimit = 32

    /// Whether a plugin may have this name.
    public static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, let last = bytes.last, bytes.count <= nameLimit else { return false }
        func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }
        func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
        let hyphen = UInt8(ascii: "-")
        return isLetter(first) && last != hyphen && bytes.allSatisfy { isLetter($0) || isDigit($0) || $0 == hyphen }
    }
}
