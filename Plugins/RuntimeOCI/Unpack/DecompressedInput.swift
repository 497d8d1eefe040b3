import CArchive
import CLinux
import Glibc
import OpenSSL
import PluginAPI

/// The archive decompressed, block by block, counted and hashed on its way to the tar reader.
final class DecompressedInput {
    private let archive: OpaquePointer
    private let options: UnpackOptions
    private var digest: SHA256Stream
    private var isAtEnd = false
    private(set) var count: Int64 = 0
    /// Why a read failed; libarchive itself only learns that it did.
    private(set) var failure: UnpackError?

    init(_ options: UnpackOptions) throws(UnpackError) {
        guard let archive = archive_read_new() else { throw UnpackError(.machine, "libarchive has no memory") }
        self.archive = archive
        self.options = options
        do throws(ApusError) {
            digest = try SHA256Stream()
        } catch {
            archive_read_free(archive)
            throw UnpackError(.machine, error.message)
        }
        // Once for all that libcrypto loads at its first use.
        digest.update([0])
        _ = digest.finish()
        // ARCHIVE_WARN would mean that libarchive was built without the decompressor and wants to run a program.
        guard archive_read_support_filter_gzip(archive) == ARCHIVE_OK, archive_read_support_filter_zstd(archive) == ARCHIVE_OK,
            archive_read_support_filter_xz(archive) == ARCHIVE_OK, archive_read_support_filter_bzip2(archive) == ARCHIVE_OK,
            archive_read_support_format_raw(archive) == ARCHIVE_OK
        else { throw UnpackError(.machine, "libarchive was built without gzip, zstd, xz or bzip2") }
    }

    deinit { archive_read_free(archive) }

    func open() throws(UnpackError) {
        guard archive_read_open_fd(archive, options.input, 128 << 10) == ARCHIVE_OK else { throw damaged("cannot be read") }
        var entry: OpaquePointer?
        let result = archive_read_next_header(archive, &entry)
        guard result != ARCHIVE_EOF else { throw UnpackError(.archive, "the archive is empty") }
        guard result == ARCHIVE_OK else { throw damaged("cannot be read") }
    }

    /// The next block, valid until the next call; empty at the end; `nil` when `failure` says why there is none.
    func next() -> UnsafeRawBufferPointer? {
        guard failure == nil else { return nil }
        guard !isAtEnd else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        while true {
            var block: UnsafeRawPointer?
            var length = 0
            var offset: Int64 = 0
            let result = archive_read_data_block(archive, &block, &length, &offset)
            if result == ARCHIVE_EOF {
                isAtEnd = true
                return UnsafeRawBufferPointer(start: nil, count: 0)
            }
            guard result == ARCHIVE_OK else {
                failure = damaged("is damaged")
                return nil
            }
            if length > 0 { return accept(UnsafeRawBufferPointer(start: block, count: length)) }
        }
    }

    private func accept(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        count += Int64(bytes.count)
        if count > options.maximumBytes {
            failure = UnpackError(.limit, "the archive is larger than \(options.maximumBytes) bytes when decompressed")
            return nil
        }
        let compressed = max(1, archive_filter_bytes(archive, -1))
        if count > options.ratioFloor, count / compressed > options.maximumRatio {
            failure = UnpackError(
                .limit,
                "the archive decompresses to more than \(options.maximumRatio) times its size (\(count) bytes of \(compressed)): it looks like a decompression bomb"
            )
            return nil
        }
        digest.update(bytes)
        return bytes
    }

    /// Reads what the tar reader left (padding behind the end of the archive) and returns the digest of everything.
    func finish() throws(UnpackError) -> String {
        while let block = next() {
            if block.isEmpty { return "sha256:" + Digest.hexadecimal(digest.finish()) }
        }
        throw failure ?? UnpackError(.archive, "the archive is damaged")
    }

    private func damaged(_ what: String) -> UnpackError {
        let reason = archive_error_string(archive).map { ": " + String(cString: $0) } ?? ""
        return UnpackError(.archive, "the archive \(what)\(reason)")
    }
}
