import OpenSSL
import PluginAPI

/// The frame of segments and snapshots: a header in the clear, then encrypted records.
///
/// Header, 64 bytes, integers little-endian: magic (8), format version (4), zero (4), number of the file (8), salt (32), zero (4),
/// CRC-32C of all that (4). The file's key is HKDF-SHA-256 of the data key with the salt, so that no two files share one.
///
/// Record: length of the body (4), number of the record in the file from 0 (4), CRC-32C of the body (4), CRC-32C of the salt and
/// these three (4), then the body: AES-256-GCM of the content, the nonce is the record's number, the length and number are authenticated.
enum SealedFile {
    static let formatVersion: UInt32 = 1
    static let headerLength = 64
    static let recordHeaderLength = 16
    /// Larger is no record of ours.
    static let bodyLimit = 64 << 20

    struct Kind: Sendable {
        let magic: [UInt8]
        let information: String

        static let segment = Kind(magic: Array("APUS-WAL".utf8), information: "apus raft segment")
        static let snapshot = Kind(magic: Array("APUSSNAP".utf8), information: "apus raft snapshot")
    }

    static func cipher(_ kind: Kind, dataKey: [UInt8], salt: [UInt8], number: UInt64) throws(ApusError) -> AuthenticatedCipher {
        var information = ByteWriter()
        information.append(Array(kind.information.utf8))
        information.append(number)
        return try AuthenticatedCipher(key: try HKDF.sha256(secret: dataKey, salt: salt, information: information.bytes, count: 32))
    }

    static func nonce(_ number: UInt32) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt64(0))
        writer.append(number)
        return writer.bytes
    }
}

/// Writes a sealed file. Used from one thread at a time.
final class SealedFileWriter {
    private let file: any StorageFile
    private let cipher: AuthenticatedCipher
    private let saltCheck: UInt32
    private var number: UInt32 = 0
    private(set) var size: Int

    /// Makes the file and writes its header, not yet durably.
    init(kind: SealedFile.Kind, path: String, number: UInt64, dataKey: [UInt8], files: any StorageFiles) throws(ApusError) {
        let salt = try SecureRandom.bytes(32)
        cipher = try SealedFile.cipher(kind, dataKey: dataKey, salt: salt, number: number)
        saltCheck = CyclicRedundancyCheck.castagnoli(salt)
        var header = ByteWriter()
        header.append(kind.magic)
        header.append(SealedFile.formatVersion)
        header.append(UInt32(0))
        header.append(number)
        header.append(salt)
        header.append(UInt32(0))
        header.append(CyclicRedundancyCheck.castagnoli(header.bytes))
        size = header.bytes.count
        let file = try files.create(path)
        self.file = file
        do throws(ApusError) {
            try file.append(header.bytes)
        } catch {
            file.close()
            throw error
        }
    }

    /// One record, in one write.
    func append(_ content: [UInt8]) throws(ApusError) {
        guard number < UInt32.max else { throw ApusError(.failed, "a log segment has too many records") }
        var header = ByteWriter()
        header.reserve(content.count + 32)
        header.append(UInt32(clamping: content.count + AuthenticatedCipher.tagLength))
        header.append(number)
        let body = try cipher.seal(content, nonce: SealedFile.nonce(number), authenticated: header.bytes)
        header.append(CyclicRedundancyCheck.castagnoli(body))
        header.append(CyclicRedundancyCheck.castagnoli(header.bytes, after: saltCheck))
        header.append(body)
        // Counted first: a nonce is spent even when the write fails.
        number += 1
        try file.append(header.bytes)
        size += header.bytes.count
    }

    func synchronize() throws(ApusError) { try file.synchronize() }

    func close() { file.close() }
}

/// Reads a sealed file from memory, record by record.
///
/// A record was always durable before the next was begun. So what is wrong at the very end of a file is a write that did not
/// finish ("torn"), and what is wrong with anything behind it is damage. A last record that is complete but wrong may be either; since
/// a write that the machine did not finish may leave a file of the right length, it is taken for torn. A clean end writes one
/// record more, so that this doubt exists only after a crash.
struct SealedFileReader {
    enum Step {
        case record([UInt8])
        case end
        /// The file is good up to here.
        case torn(offset: Int)
        case damaged(offset: Int, reason: String)
    }

    private let path: String
    private let bytes: [UInt8]
    let cipher: AuthenticatedCipher
    let saltCheck: UInt32
    private var expected: UInt32 = 0
    private(set) var offset: Int
    let number: UInt64

    /// `corrupt` when the header is not good.
    init(kind: SealedFile.Kind, path: String, bytes: [UInt8], dataKey: [UInt8]) throws(ApusError) {
        self.path = path
        self.bytes = bytes
        guard bytes.count >= SealedFile.headerLength else { throw ApusError(.corrupt, "the header is incomplete") }
        var reader = ByteReader(bytes, from: 0, to: SealedFile.headerLength)
        let magic = reader.readBytes(8)
        let version = reader.readUInt32()
        let reserved = reader.readUInt32()
        let number = reader.readUInt64()
        let salt = reader.readBytes(32)
        let padding = reader.readUInt32()
        let check = reader.readUInt32()
        guard magic == kind.magic, CyclicRedundancyCheck.castagnoli(Array(bytes[..<(SealedFile.headerLength - 4)])) == check, let salt, let number,
            reserved == 0, padding == 0
        else { throw ApusError(.corrupt, "the header is damaged") }
        guard version == SealedFile.formatVersion else {
            throw ApusError(.failed, "\(path) has format \(version ?? 0), and this version of Apus reads format \(SealedFile.formatVersion)")
        }
        self.number = number
        saltCheck = CyclicRedundancyCheck.castagnoli(salt)
        cipher = try SealedFile.cipher(kind, dataKey: dataKey, salt: salt, number: number)
        offset = SealedFile.headerLength
    }

    struct RecordHeader {
        var length: Int
        var number: UInt32
        var bodyCheck: UInt32

        /// `nil` when the sixteen bytes are no header of a record of this file.
        init?(_ bytes: UnsafeRawBufferPointer, saltCheck: UInt32) {
            let check = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
            let fields = UnsafeRawBufferPointer(rebasing: bytes[..<12])
            guard CyclicRedundancyCheck.castagnoli(fields, after: saltCheck) == check else { return nil }
            let length = UInt32(littleEndian: fields.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
            guard length <= SealedFile.bodyLimit, length >= AuthenticatedCipher.tagLength else { return nil }
            self.length = Int(length)
            number = UInt32(littleEndian: fields.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            bodyCheck = UInt32(littleEndian: fields.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        }
    }

    private func header(at offset: Int) -> RecordHeader? {
        guard bytes.count - offset >= SealedFile.recordHeaderLength else { return nil }
        return bytes.withUnsafeBytes { buffer in
            RecordHeader(UnsafeRawBufferPointer(rebasing: buffer[offset..<offset + SealedFile.recordHeaderLength]), saltCheck: saltCheck)
        }
    }

    private func hasRecord(after offset: Int) -> Bool {
        var candidate = offset + 1
        while candidate + SealedFile.recordHeaderLength <= bytes.count {
            if let header = header(at: candidate), header.number > expected { return true }
            candidate += 1
        }
        return false
    }

    /// What comes next; after anything but a record the file is at its end.
    mutating func next() throws(ApusError) -> Step {
        guard offset < bytes.count else { return .end }
        guard let header = header(at: offset) else {
            return hasRecord(after: offset)
                ? .damaged(offset: offset, reason: "a record's header is wrong and records follow it") : .torn(offset: offset)
        }
        guard header.number == expected else {
            return .damaged(offset: offset, reason: "record \(header.number) stands where \(expected) should")
        }
        let start = offset + SealedFile.recordHeaderLength
        let end = start + header.length
        guard end <= bytes.count else { return .torn(offset: offset) }
        let body = Array(bytes[start..<end])
        guard CyclicRedundancyCheck.castagnoli(body) == header.bodyCheck else {
            return end == bytes.count
                ? .torn(offset: offset) : .damaged(offset: offset, reason: "a record's content is wrong and more follows it")
        }
        do throws(ApusError) {
            let content = try cipher.open(
                body, nonce: SealedFile.nonce(header.number), authenticated: Array(bytes[offset..<offset + 8]))
            offset = end
            expected &+= 1
            return .record(content)
        } catch {
            guard error.code == .corrupt else { throw error }
            return .damaged(offset: offset, reason: "a record was changed or encrypted with another key")
        }
    }
}
