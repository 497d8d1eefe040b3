import Files
import Glibc
import OpenSSL
import PluginAPI

/// A plugin's file, opened once: what is checked, hashed and loaded is the same file, whatever happens to its name meanwhile.
///
/// All calls block.
final class PluginFile: Sendable {
    /// Tells one content at one place from another without reading it.
    struct Stamp: Sendable, Hashable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var modifiedSeconds: Int
        var modifiedNanoseconds: Int
        var changedSeconds: Int
        var changedNanoseconds: Int
        var mode: UInt32
        var owner: UInt32

        init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
            size = Int64(status.st_size)
            modifiedSeconds = status.st_mtim.tv_sec
            modifiedNanoseconds = status.st_mtim.tv_nsec
            changedSeconds = status.st_ctim.tv_sec
            changedNanoseconds = status.st_ctim.tv_nsec
            mode = status.st_mode
            owner = status.st_uid
        }
    }

    let path: String
    let descriptor: Int32
    let stamp: Stamp

    /// Larger files are refused: they are read as a whole.
    static let sizeLimit = 256 << 20

    /// Opens the file without following a link in its last step, and without waiting for the other end of a pipe.
    /// - Throws: `notFound`, or `permissionDenied` when it is a link or no plain file.
    init(path: String) throws(ApusError) {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ELOOP { throw ApusError(.permissionDenied, "it is a symbolic link: put the file itself there") }
            throw Files.lastError("cannot open \(path)")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let error = Files.lastError("cannot look at \(path)")
            close(descriptor)
            throw error
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw ApusError(.permissionDenied, "it is not a plain file")
        }
        self.path = path
        self.descriptor = descriptor
        stamp = Stamp(status)
    }

    deinit { close(descriptor) }

    /// Why the engine, which is root, must not trust the file: others than root can replace or change it.
    func checkOwnership() throws(ApusError) {
        guard stamp.owner == 0 else {
            throw ApusError(.permissionDenied, "the file belongs to user \(stamp.owner), not to root: chown root \(path)")
        }
        guard stamp.mode & 0o022 == 0 else {
            throw ApusError(.permissionDenied, "others may write the file: chmod go-w \(path)")
        }
    }

    /// Why others than root can replace what is in a folder. Folders above it may be sticky, as /tmp is, the folder itself may not.
    static func checkFolder(_ folder: String) throws(ApusError) {
        guard let resolved = realpath(folder, nil) else { throw Files.lastError("cannot find the folder \(folder)") }
        var path = String(cString: resolved)
        free(resolved)
        var isAncestor = false
        while true {
            var status = stat()
            guard lstat(path, &status) == 0 else { throw Files.lastError("cannot look at the folder \(path)") }
            guard status.st_mode & S_IFMT == S_IFDIR else { throw ApusError(.permissionDenied, "\(path) is not a folder") }
            guard status.st_uid == 0 else {
                throw ApusError(.permissionDenied, "the folder \(path) belongs to user \(status.st_uid), not to root: chown root \(path)")
            }
            let isSticky = isAncestor && status.st_mode & S_ISVTX != 0
            guard status.st_mode & 0o022 == 0 || isSticky else {
                throw ApusError(.permissionDenied, "others may write the folder \(path): chmod go-w \(path)")
            }
            guard path != "/" else { return }
            path = Files.parent(path)
            isAncestor = true
        }
    }

    /// The whole content, through the descriptor.
    func read() throws(ApusError) -> [UInt8] {
        guard stamp.size <= Self.sizeLimit else { throw ApusError(.tooLarge, "the file is larger than \(Self.sizeLimit >> 20) MiB") }
        var content = [UInt8](repeating: 0, count: Int(stamp.size))
        var offset = 0
        while offset < content.count {
            let count = content.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress.map { $0 + offset }, $0.count - offset, off_t(offset)) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Files.lastError("cannot read \(path)") }
            guard count > 0 else { throw ApusError(.invalidArgument, "the file became shorter while it was read") }
            offset += count
        }
        return content
    }
}

/// What the bytes of a plugin's file say.
struct PluginContent: Sendable {
    /// 64 hexadecimal digits.
    var sha256: String
    /// Absent when the file is not a plugin's, and then `problem` says why.
    var manifest: PluginManifest?
    var problem: PluginProblem?

    /// Reads, hashes and judges. Runs nothing of it.
    init(_ bytes: [UInt8]) {
        sha256 = Digest.hexadecimal(Digest.sha256(bytes))
        do throws(ApusError) {
            let image = try ELFImage(bytes)
            guard image.machine == ELFImage.hostMachine else {
                throw ApusError(.invalidArgument, "made for another processor (ELF machine \(image.machine))")
            }
            let manifest = try PluginManifest(image)
            self.manifest = manifest
            if let reason = manifest.incompatibility() {
                problem = PluginProblem(.incompatible, reason)
            } else if try !image.dynamic().bindsNow {
                // libltdl binds functions when they are first called, and a missing one would then end the engine.
                problem = PluginProblem(.refused, "it binds its functions lazily, so a missing one would stop the engine: link it with -z now")
            } else if try !image.symbols().contains(where: { $0.name == PluginRecordLayout.entryPoint && !$0.isUndefined }) {
                problem = PluginProblem(
                    .refused, "it has no entry point: the function \(PluginRecordLayout.entryPoint), marked @c and public, is missing")
            }
        } catch {
            problem = PluginProblem(.refused, error.message)
        }
    }
}
