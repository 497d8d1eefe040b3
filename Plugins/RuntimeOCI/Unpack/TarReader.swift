import CArchive
import CLinux
import Glibc

/// One entry of a tar.
struct TarEntry {
    enum Kind: Equatable {
        case file, directory, fifo, socket
        case symbolicLink([UInt8])
        case hardLink([UInt8])
        case device(mode: UInt32, number: UInt64)
        case other
    }

    var path: [UInt8]
    var kind: Kind
    /// Of a file, holes included.
    var size: Int64
    /// The twelve lower bits.
    var permissions: UInt32
    var user: Int64
    var group: Int64
    var modified: timespec
    var attributes: [(name: String, value: [UInt8])]
}

/// The entries of a tar, with their bytes.
final class TarReader {
    private let archive: OpaquePointer
    private let input: DecompressedInput

    init(_ input: DecompressedInput) throws(UnpackError) {
        guard let archive = archive_read_new() else { throw UnpackError(.machine, "libarchive has no memory") }
        self.archive = archive
        self.input = input
        guard archive_read_support_format_tar(archive) == ARCHIVE_OK else { throw UnpackError(.machine, "libarchive cannot read tar") }
    }

    deinit { archive_read_free(archive) }

    func open() throws(UnpackError) {
        let result = archive_read_open(
            archive, Unmanaged.passUnretained(input).toOpaque(), nil,
            { _, context, block in
                guard let context, let next = Unmanaged<DecompressedInput>.fromOpaque(context).takeUnretainedValue().next() else { return -1 }
                block?.pointee = next.baseAddress
                return next.count
            }, nil)
        guard result == ARCHIVE_OK else { throw failure("is no tar") }
    }

    /// `nil` at the end.
    func next() throws(UnpackError) -> TarEntry? {
        var entry: OpaquePointer?
        let result = archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF {
            if let failure = input.failure { throw failure }
            return nil
        }
        // A warning is about a detail, such as a name that is no UTF-8; what matters of the entry is checked below.
        guard result == ARCHIVE_OK || result == ARCHIVE_WARN, let entry else {
            throw failure("is damaged, or no tar, plain or compressed with gzip, zstd, xz or bzip2")
        }
        guard let path = archive_entry_pathname(entry).map(Self.bytes) else { throw UnpackError(.archive, "an entry's name cannot be read") }
        var read = TarEntry(
            path: path, kind: .other, size: archive_entry_size(entry), permissions: UInt32(archive_entry_perm(entry)) & 0o7777,
            user: archive_entry_uid(entry), group: archive_entry_gid(entry),
            modified: timespec(tv_sec: archive_entry_mtime(entry), tv_nsec: Int(archive_entry_mtime_nsec(entry))), attributes: Self.attributes(entry))
        if let target = archive_entry_hardlink(entry) {
            read.kind = .hardLink(Self.bytes(target))
            return read
        }
        switch UInt32(archive_entry_filetype(entry)) {
        case S_IFREG: read.kind = .file
        case S_IFDIR: read.kind = .directory
        case S_IFLNK:
            guard let target = archive_entry_symlink(entry) else {
                throw UnpackError(.archive, "the target of \(EntryPath.printable(path)) cannot be read")
            }
            read.kind = .symbolicLink(Self.bytes(target))
        case S_IFIFO: read.kind = .fifo
        case S_IFSOCK: read.kind = .socket
        case S_IFCHR: read.kind = .device(mode: S_IFCHR, number: UInt64(archive_entry_rdev(entry)))
        case S_IFBLK: read.kind = .device(mode: S_IFBLK, number: UInt64(archive_entry_rdev(entry)))
        default: break
        }
        return read
    }

    /// Calls `body` with each piece of the current file and its place.
    func readData(_ body: (UnsafeRawBufferPointer, Int64) throws(UnpackError) -> Void) throws(UnpackError) {
        while true {
            var block: UnsafeRawPointer?
            var length = 0
            var offset: Int64 = 0
            let result = archive_read_data_block(archive, &block, &length, &offset)
            if result == ARCHIVE_EOF { return }
            guard result == ARCHIVE_OK || result == ARCHIVE_WARN else { throw failure("is damaged or cut short") }
            if length > 0 { try body(UnsafeRawBufferPointer(start: block, count: length), offset) }
        }
    }

    private static func bytes(_ text: UnsafePointer<CChar>) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }

    private static func attributes(_ entry: OpaquePointer) -> [(name: String, value: [UInt8])] {
        var attributes: [(name: String, value: [UInt8])] = []
        var left = archive_entry_xattr_reset(entry)
        while left > 0 {
            left -= 1
            var name: UnsafePointer<CChar>?
            var value: UnsafeRawPointer?
            var size = 0
            guard archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK, let name else { break }
            attributes.append((String(cString: name), Array(UnsafeRawBufferPointer(start: value, count: value == nil ? 0 : size))))
        }
        return attributes
    }

    private func failure(_ what: String) -> UnpackError {
        if let failure = input.failure { return failure }
        let reason = archive_error_string(archive).map { ": " + String(cString: $0) } ?? ""
        return UnpackError(.archive, "the archive \(what)\(reason)")
    }
}
