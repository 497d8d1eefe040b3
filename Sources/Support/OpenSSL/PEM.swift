import COpenSSL
import PluginAPI

/// Text in and out of libcrypto through its memory buffers.
enum PEM {
    /// What `body` writes.
    static func write(_ what: String, _ body: (OpaquePointer) -> Int32) throws(ApusError) -> String {
        guard let buffer = BIO_new(BIO_s_mem()) else { throw OpenSSLQueue.error("no buffer for \(what)") }
        defer { BIO_free(buffer) }
        guard body(buffer) == 1 else { throw OpenSSLQueue.error("\(what) could not be written as PEM") }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = BIO_read(buffer, &piece, Int32(piece.count))
            guard count > 0 else { break }
            bytes += piece[..<Int(count)]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// What `body` reads from the text; `invalidArgument` when there is nothing to read.
    static func read(_ what: String, _ text: String, _ body: (OpaquePointer) -> OpaquePointer?) throws(ApusError) -> OpaquePointer {
        let bytes = Array(text.utf8)
        guard bytes.count <= 1 << 20 else { throw ApusError(.tooLarge, "\(what) has \(bytes.count) bytes") }
        guard !bytes.isEmpty else { throw ApusError(.invalidArgument, "\(what) is empty") }
        let result = withBuffer(bytes) { buffer in buffer.flatMap(body) }
        guard let result else { throw OpenSSLQueue.error("\(what) is not valid PEM", .invalidArgument) }
        return result
    }

    /// Lends the bytes to libcrypto. Its buffer reads from them for as long as it lives, so they must stay where they are until it is freed.
    static func withBuffer<Result>(_ bytes: [UInt8], _ body: (OpaquePointer?) -> Result) -> Result {
        bytes.withUnsafeBytes { bytes in
            let buffer = BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count))
            defer { BIO_free(buffer) }
            return body(buffer)
        }
    }

    /// The bytes of one of libcrypto's `i2d` functions.
    static func encoded(_ what: String, _ body: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32) throws(ApusError) -> [UInt8] {
        let length = body(nil)
        guard length > 0 else { throw OpenSSLQueue.error("\(what) could not be encoded") }
        var bytes = [UInt8](repeating: 0, count: Int(length))
        let written = bytes.withUnsafeMutableBufferPointer { buffer in
            // libcrypto moves the pointer past what it wrote.
            var position = buffer.baseAddress
            return body(&position)
        }
        guard written == length else { throw OpenSSLQueue.error("\(what) could not be encoded") }
        return bytes
    }
}
