import Files
import Glibc
import PluginAPI

/// A file of a container whose content is in memory alone: a secret or a config.
public struct ContainerFile: Sendable, Hashable {
    /// Its absolute path in the container.
    public var path: String
    public var content: [UInt8]
    public var uid: UInt32
    public var gid: UInt32
    /// Permission bits.
    public var mode: UInt32

    public init(path: String, content: [UInt8], uid: UInt32 = 0, gid: UInt32 = 0, mode: UInt32 = 0o444) {
        self.path = path
        self.content = content
        self.uid = uid
        self.gid = gid
        self.mode = mode
    }
}

/// What can be looked into is logged some day: of the content only its size.
extension ContainerFile: CustomStringConvertible, CustomReflectable {
    public var description: String { "\(path) (\(content.count) bytes)" }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// The files of all containers, in a folder that is never on a disk: one folder per container, readable by root alone.
///
/// All calls block.
struct MemoryFiles: Sendable {
    /// `<exec root>/secrets`. When the exec root is on a disk, a tmpfs is mounted there with the first file.
    let folder: String

    func folder(of container: ID) -> String { "\(folder)/\(container.text)" }

    /// The file of the host that is to be seen at the path of the file with this number.
    func path(_ number: Int, of container: ID) -> String { "\(folder(of: container))/\(number)" }

    /// Writes the files of a container; those that were there are replaced as a whole. After an error there are none.
    func write(_ files: [ContainerFile], for container: ID) throws(ApusError) {
        try makeFolder()
        try remove(container)
        let own = folder(of: container)
        do throws(ApusError) {
            try Files.makeDirectory(own)
            for (number, file) in files.enumerated() { try write(file, to: path(number, of: container)) }
        } catch {
            try? remove(container)
            throw error
        }
    }

    private func write(_ file: ContainerFile, to path: String) throws(ApusError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.lastError("cannot create the file for \(file.path)") }
        defer { close(descriptor) }
        try Files.write(file.content, descriptor: descriptor, name: "the file for \(file.path)")
        guard fchown(descriptor, file.uid, file.gid) == 0 else { throw Files.lastError("cannot set the owner of \(file.path)") }
        // After the owner: chown takes the set-id bits away.
        guard fchmod(descriptor, file.mode) == 0 else { throw Files.lastError("cannot set the permissions of \(file.path)") }
    }

    /// Whether the files of a container are there: after a restart of the machine they are not.
    func exist(for container: ID) -> Bool { Files.isDirectory(folder(of: container)) }

    /// Removes the files of a container; absent ones are fine.
    func remove(_ container: ID) throws(ApusError) { try Files.removeTree(folder(of: container)) }

    /// Removes the files of all containers but these.
    func removeAll(except known: Set<ID>) throws(ApusError) {
        for name in try Files.list(folder) where !known.contains(ID(name)) { try remove(ID(name)) }
    }

    /// Removes the folder itself, and what was mounted there.
    func removeFolder() throws(ApusError) {
        guard Files.exists(folder) else { return }
        try removeAll(except: [])
        // Nothing is mounted where the exec root is in memory itself.
        if umount2(folder, Int32(MNT_DETACH)) != 0, errno != EINVAL { throw Files.lastError("cannot unmount \(folder)") }
        try Files.removeTree(folder)
    }

    private func makeFolder() throws(ApusError) {
        try Files.makeDirectory(folder)
        guard try !isInMemory() else { return }
        guard mount("tmpfs", folder, "tmpfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), "mode=0700") == 0 else {
            throw Files.lastError("cannot mount a tmpfs at \(folder), without which secrets would be on a disk")
        }
    }

    /// Whether the folder's file system is one in memory: its device is one of those in the table of mounts.
    private func isInMemory() throws(ApusError) -> Bool {
        var status = stat()
        guard stat(folder, &status) == 0 else { throw Files.lastError("cannot look at \(folder)") }
        let device = UInt64(status.st_dev)
        let major = (device >> 8) & 0xfff | (device >> 32) & ~0xfff
        let minor = device & 0xff | (device >> 12) & ~0xff
        for line in try Files.readText("/proc/self/mountinfo").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 2, words[2] == "\(major):\(minor)", let dash = words.firstIndex(of: "-"), dash + 1 < words.count else { continue }
            return words[dash + 1] == "tmpfs" || words[dash + 1] == "ramfs"
        }
        return false
    }
}
