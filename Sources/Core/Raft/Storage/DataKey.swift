import OpenSSL
import PluginAPI

/// The key that everything of Raft on this machine's disk is encrypted with, in a file of its own (0600).
///
/// Format, 48 bytes: magic (8), format version (4), key (32), CRC-32C of all that (4).
enum DataKey {
    private static let magic = Array("APUS-KEY".utf8)
    private static let version: UInt32 = 1

    /// Reads the key, or makes one when there is none and `mayCreate`.
    static func load(directory: String, mayCreate: Bool, files: any StorageFiles) throws(ApusError) -> [UInt8] {
        let path = "\(directory)/raft.key"
        guard files.exists(path) else {
            guard mayCreate else {
                throw ApusError(
                    .corrupt,
                    "\(path) is missing, and the log beside it cannot be read without it: restore it from a copy, or remove the log and join again")
            }
            return try create(path, directory: directory, files: files)
        }
        var reader = ByteReader(try files.read(path))
        let magic = reader.readBytes(8)
        let version = reader.readUInt32()
        let key = reader.readBytes(32)
        let check = reader.readUInt32()
        guard let magic, magic == self.magic, let version, let key, reader.isAtEnd, CyclicRedundancyCheck.castagnoli(head(version, key)) == check
        else {
            throw ApusError(.corrupt, "\(path) is damaged: restore it from a copy, or remove the log and join again")
        }
        guard version == self.version else {
            throw ApusError(.failed, "\(path) has format \(version), and this version of Apus reads format \(self.version)")
        }
        return key
    }

    private static func head(_ version: UInt32, _ key: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(magic)
        writer.append(version)
        writer.append(key)
        return writer.bytes
    }

    private static func create(_ path: String, directory: String, files: any StorageFiles) throws(ApusError) -> [UInt8] {
        let key = try SecureRandom.bytes(32)
        var writer = ByteWriter()
        writer.append(head(version, key))
        writer.append(CyclicRedundancyCheck.castagnoli(writer.bytes))
        try files.makeDirectory(directory)
        let temporary = path + ".new"
        try files.remove(temporary)
        let file = try files.create(temporary)
        defer { file.close() }
        try file.append(writer.bytes)
        try file.synchronize()
        try files.rename(temporary, to: path)
        try files.synchronizeDirectory(directory)
        return key
    }
}
