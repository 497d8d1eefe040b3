import CArchive
import CLinux
import Glibc

/// Writes entries below one folder and nowhere else: every parent is opened with openat2 and no symbolic link, and the last
/// name of a path is only ever used relative to such a parent, without following it.
final class TreeWriter {
    private let folders: FolderTree
    private let options: UnpackOptions
    private(set) var entries = 0
    /// Bytes of all files.
    private(set) var size: Int64 = 0
    /// Times of folders are set at the end: each file in them changes them.
    private var folderTimes: [EntryPath: timespec] = [:]

    init(root: Int32, options: UnpackOptions) {
        folders = FolderTree(root: root)
        self.options = options
    }

    func write(_ entry: TarEntry, from reader: TarReader) throws(UnpackError) {
        entries += 1
        guard entries <= options.maximumEntries else { throw UnpackError(.limit, "the archive has more than \(options.maximumEntries) entries") }
        let path = try EntryPath(entry.path, what: "path")
        if options.isPlain { return try writePlain(entry, path, from: reader) }
        switch try LayerName(path) {
        case .ignored: return
        case .opaque: return try folders.makeOpaque(path.parent)
        case .whiteout(let name): return try writeWhiteout(of: name, in: path.parent)
        case .ordinary: break
        }
        switch entry.kind {
        case .directory: try writeFolder(entry, path)
        case .file: try writeFile(entry, path, from: reader)
        case .symbolicLink(let target): try writeSymbolicLink(entry, path, target)
        case .hardLink(let target): try writeHardLink(path, to: target)
        case .fifo: try writeNode(entry, path, mode: S_IFIFO, number: 0)
        case .device(let mode, let number): try writeDevice(entry, path, mode: mode, number: number)
        // A tar has no sockets of its own, and one without its listener is of no use.
        case .socket: return
        case .other: throw UnpackError(.archive, "\(path.description) is of an unknown kind")
        }
    }

    func finish() throws(UnpackError) {
        for (path, time) in folderTimes {
            let descriptor = try folders.open(path)
            var times = [time, time]
            guard utimensat(descriptor, ".", &times, 0) == 0 else { throw machine("cannot set the time of", path) }
        }
    }

    /// Only files, folders and links within, all of them ours: the engine reads them again with checks of its own.
    private func writePlain(_ entry: TarEntry, _ path: EntryPath, from reader: TarReader) throws(UnpackError) {
        switch entry.kind {
        case .directory: _ = try folders.open(path, creating: true)
        case .file: try writeFile(entry, path, from: reader)
        case .symbolicLink(let target): try writeSymbolicLink(entry, path, target)
        case .hardLink(let target): try writeHardLink(path, to: target)
        default: throw UnpackError(.archive, "\(path.description) is neither a file nor a folder nor a link; an image archive has nothing else")
        }
    }

    // MARK: Kinds

    private func writeFolder(_ entry: TarEntry, _ path: EntryPath) throws(UnpackError) {
        _ = try folders.open(path, creating: true)
        let descriptor = try folders.openForAttributes(path)
        defer { close(descriptor) }
        try setOwner(descriptor, entry, path)
        try setAttributes(descriptor, entry, path)
        folderTimes[path] = entry.modified
    }

    private func writeFile(_ entry: TarEntry, _ path: EntryPath, from reader: TarReader) throws(UnpackError) {
        let parent = try place(path, replacing: S_IFREG)
        guard entry.size >= 0, entry.size <= options.maximumBytes - size else {
            throw UnpackError(
                .limit, "the files of the archive are larger than \(options.maximumBytes) bytes: \(path.description) alone has \(entry.size)")
        }
        let descriptor = path.name.withPath { openat(parent, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600) }
        guard descriptor >= 0 else { throw machine("cannot make", path) }
        defer { close(descriptor) }
        var written: Int64 = 0
        try reader.readData { (bytes, offset) throws(UnpackError) in
            guard offset >= 0, offset <= entry.size - Int64(bytes.count) else {
                throw UnpackError(.archive, "\(path.description) is longer than it says")
            }
            try Self.write(bytes, at: offset, to: descriptor, path)
            written = max(written, offset + Int64(bytes.count))
        }
        if written < entry.size, ftruncate(descriptor, off_t(entry.size)) != 0 { throw machine("cannot write", path) }
        size += entry.size
        guard !options.isPlain else { return }
        try setOwner(descriptor, entry, path)
        try setAttributes(descriptor, entry, path)
        var times = [entry.modified, entry.modified]
        guard futimens(descriptor, &times) == 0 else { throw machine("cannot set the time of", path) }
    }

    private static func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64, to descriptor: Int32, _ path: EntryPath) throws(UnpackError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset) + done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw UnpackError(.machine, "cannot write \(path.description): \(String(cString: strerror(errno)))") }
            done += count
        }
    }

    private func writeSymbolicLink(_ entry: TarEntry, _ path: EntryPath, _ target: [UInt8]) throws(UnpackError) {
        guard !target.isEmpty, target.count <= EntryPath.maximumLength else {
            throw UnpackError(.archive, "the target of \(path.description) is empty or too long")
        }
        let parent = try place(path, replacing: S_IFLNK)
        let result = path.name.withPath { name in target.withPath { symlinkat($0, parent, name) } }
        guard result == 0 else { throw machine("cannot make", path) }
        if !options.isPlain { try finishNode(entry, path, parent) }
    }

    private func writeHardLink(_ path: EntryPath, to target: [UInt8]) throws(UnpackError) {
        let source = try EntryPath(target, what: "hard link target")
        guard !source.isRoot else { throw UnpackError(.archive, "\(path.description) is a hard link to the root") }
        guard source != path else { throw UnpackError(.archive, "\(path.description) is a hard link to itself") }
        // Opened before the place is made, as the second call may replace the cached parent.
        let parent = try place(path, replacing: nil)
        let kept = dup(parent)
        guard kept >= 0 else { throw machine("cannot link", path) }
        defer { close(kept) }
        let sourceParent = try folders.open(source.parent)
        var status = stat()
        guard source.name.withPath({ fstatat(sourceParent, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
            throw UnpackError(.archive, "\(path.description) is a hard link to \(source.description), which is not in the layer")
        }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFLNK || kind == S_IFIFO else {
            throw UnpackError(.archive, "\(path.description) is a hard link to \(source.description), which is not a file")
        }
        let result = source.name.withPath { from in path.name.withPath { linkat(sourceParent, from, kept, $0, 0) } }
        guard result == 0 else { throw machine("cannot link", path) }
    }

    private func writeNode(_ entry: TarEntry, _ path: EntryPath, mode: UInt32, number: dev_t) throws(UnpackError) {
        let parent = try place(path, replacing: mode)
        guard path.name.withPath({ mknodat(parent, $0, mode | 0o600, number) }) == 0 else { throw machine("cannot make", path) }
        try finishNode(entry, path, parent)
    }

    /// Devices that every container has may be made anywhere. Others are left out below `dev`, which a container never sees,
    /// and refused elsewhere.
    private func writeDevice(_ entry: TarEntry, _ path: EntryPath, mode: UInt32, number: UInt64) throws(UnpackError) {
        let (major, minor) = (number >> 8 & 0xfff | number >> 32 & ~0xfff, number & 0xff | number >> 12 & ~0xff)
        let isHarmless = mode == S_IFCHR && (major == 1 && [3, 5, 7, 8, 9].contains(minor) || major == 5 && minor <= 2)
        if isHarmless { return try writeNode(entry, path, mode: mode, number: dev_t(number)) }
        if path.components.first?.elementsEqual("dev".utf8) == true { return }
        throw UnpackError(.archive, "\(path.description) is a device (\(major):\(minor)); an image may not bring its own")
    }

    private func writeWhiteout(of name: [UInt8], in parent: EntryPath) throws(UnpackError) {
        let descriptor = try folders.open(parent, creating: true)
        if name.withPath({ mknodat(descriptor, $0, S_IFCHR, 0) }) == 0 { return }
        let hidden = EntryPath(components: parent.components + [name])
        guard errno == EEXIST else { throw machine("cannot hide", hidden) }
        // The layer itself has the name: a whiteout speaks of lower layers, which a file hides anyway and a folder does when it is opaque.
        var status = stat()
        if name.withPath({ fstatat(descriptor, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0, status.st_mode & S_IFMT == S_IFDIR {
            try folders.makeOpaque(hidden)
        }
    }

    // MARK: Places and attributes

    /// The parent of a path, with nothing at the path: an older entry of the same kind, or a whiteout, is removed.
    private func place(_ path: EntryPath, replacing kind: UInt32?) throws(UnpackError) -> Int32 {
        guard !path.isRoot else { throw UnpackError(.archive, "the archive replaces its root by something that is not a folder") }
        let parent = try folders.open(path.parent, creating: true)
        var status = stat()
        guard path.name.withPath({ fstatat(parent, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
            guard errno == ENOENT else { throw machine("cannot look at", path) }
            return parent
        }
        let present = status.st_mode & S_IFMT
        let isWhiteout = present == S_IFCHR && status.st_rdev == 0
        guard isWhiteout || present == kind ?? S_IFREG else {
            throw UnpackError(.archive, "\(path.description) is in the archive twice, as two different kinds of file")
        }
        guard path.name.withPath({ unlinkat(parent, $0, 0) }) == 0 else { throw machine("cannot replace", path) }
        return parent
    }

    /// Owner, mode and time of what has no descriptor.
    private func finishNode(_ entry: TarEntry, _ path: EntryPath, _ parent: Int32) throws(UnpackError) {
        let (user, group) = try owner(entry, path)
        guard path.name.withPath({ fchownat(parent, $0, user, group, AT_SYMLINK_NOFOLLOW) }) == 0 else {
            throw machine("cannot set the owner of", path)
        }
        if case .symbolicLink = entry.kind {
        } else if path.name.withPath({ fchmodat(parent, $0, entry.permissions, 0) }) != 0 {
            throw machine("cannot set the mode of", path)
        }
        var times = [entry.modified, entry.modified]
        guard path.name.withPath({ utimensat(parent, $0, &times, AT_SYMLINK_NOFOLLOW) }) == 0 else { throw machine("cannot set the time of", path) }
    }

    private func setOwner(_ descriptor: Int32, _ entry: TarEntry, _ path: EntryPath) throws(UnpackError) {
        let (user, group) = try owner(entry, path)
        // First the owner: a change of it takes the setuid bit and capabilities away.
        guard fchown(descriptor, user, group) == 0 else { throw machine("cannot set the owner of", path) }
        guard fchmod(descriptor, entry.permissions) == 0 else { throw machine("cannot set the mode of", path) }
    }

    private func owner(_ entry: TarEntry, _ path: EntryPath) throws(UnpackError) -> (uid_t, gid_t) {
        // 2^32 - 1 means "unchanged" to the kernel.
        guard (0..<Int64(UInt32.max)).contains(entry.user), (0..<Int64(UInt32.max)).contains(entry.group) else {
            throw UnpackError(.archive, "the owner of \(path.description) is out of range")
        }
        return (uid_t(entry.user), gid_t(entry.group))
    }

    private func setAttributes(_ descriptor: Int32, _ entry: TarEntry, _ path: EntryPath) throws(UnpackError) {
        for (name, value) in entry.attributes where Self.isKept(name) {
            guard fsetxattr(descriptor, name, value, value.count, 0) != 0 else { continue }
            // A file system without user attributes, or without room for these, still holds the file.
            if name.hasPrefix("user."), [ENOTSUP, ENOSPC, E2BIG, ERANGE, EPERM].contains(errno) { continue }
            throw machine("cannot set \(name) of", path)
        }
    }

    /// `trusted.*` would let an image speak to overlayfs, `security.*` to other security modules.
    private static func isKept(_ name: String) -> Bool {
        name == "security.capability" || name.hasPrefix("user.") && !name.hasPrefix("user.overlay.")
    }

    private func machine(_ what: String, _ path: EntryPath) -> UnpackError {
        UnpackError(.machine, "\(what) \(path.description): \(String(cString: strerror(errno)))")
    }
}
