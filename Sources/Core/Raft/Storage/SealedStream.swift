import OpenSSL
import PluginAPI

/// Reads a sealed file that is known to be whole, record by record, without ever holding all of it. Used from one thread at a time.
final class SealedStream {
    private let file: any StorageReader
    private let cipher: AuthenticatedCipher
    private let saltCheck: UInt32
    private var expected: UInt32 = 0
    private(set) var offset = SealedFile.headerLength
    let number: UInt64

    /// `corrupt` when the header is not good.
    init(kind: SealedFile.Kind, path: String, dataKey: [UInt8], files: any StorageFiles) throws(ApusError) {
        file = try files.open(path)
        let head = try SealedFileReader(kind: kind, path: path, bytes: try file.read(at: 0, count: SealedFile.headerLength), dataKey: dataKey)
        cipher = head.cipher
        saltCheck = head.saltCheck
        number = head.number
    }

    /// The next record, `nil` at the end.
    func next() throws(ApusError) -> [UInt8]? {
        let head = try file.read(at: offset, count: SealedFile.recordHeaderLength)
        if head.isEmpty { return nil }
        guard head.count == SealedFile.recordHeaderLength,
            let header = head.withUnsafeBytes({ SealedFileReader.RecordHeader($0, saltCheck: saltCheck) }), header.number == expected
        else { throw wrong }
        let body = try file.read(at: offset + head.count, count: header.length)
        guard body.count == header.length, CyclicRedundancyCheck.castagnoli(body) == header.bodyCheck else { throw wrong }
        let content = try cipher.open(body, nonce: SealedFile.nonce(header.number), authenticated: Array(head[..<8]))
        offset += head.count + header.length
        expected &+= 1
        return content
    }

    private var wrong: ApusError { ApusError(.corrupt, "a record at byte \(offset) is wrong or missing") }
}
