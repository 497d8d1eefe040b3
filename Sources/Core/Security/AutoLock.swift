import Files
import OpenSSL
public import PluginAPI
public import Raft

/// The key that a locked manager's files are sealed with; the unlock key opens it.
///
/// It stays the same when the unlock key changes, so that this changes one file, in one step: a crash never leaves files under two unlock keys.
public struct LocalLock: Sendable, Hashable {
    /// What is sealed.
    public enum Purpose: String, Sendable, CaseIterable {
        case nodeKey = "node key"
        case raftKey = "raft key"
    }

    let key: [UInt8]

    func seal(_ secret: [UInt8], purpose: Purpose) throws(ApusError) -> [UInt8] {
        try KeyEncryption.wrap(secret, key: key, purpose: purpose.rawValue)
    }

    func open(_ sealed: [UInt8], purpose: Purpose) throws(ApusError) -> [UInt8] {
        do throws(ApusError) {
            return try KeyEncryption.unwrap(sealed, key: key, purpose: purpose.rawValue)
        } catch {
            throw error.during("the \(purpose.rawValue) cannot be unlocked")
        }
    }

    static func isSealed(_ content: [UInt8]) -> Bool { KeyEncryption.isWrapped(content) }
}

/// Locks the keys of a manager at rest: `certificates/swarm-node.key` and Raft's data key, `raft/keys/raft.key`, below `<data root>/swarm`.
///
/// `certificates/swarm.lock` is there while they are locked. Every file is replaced in one step, and each is readable sealed or not, so that locking
/// or unlocking that was cut short is finished by doing it again.
public struct AutoLock: Sendable {
    /// `<data root>/swarm`.
    public var directory: String

    public init(directory: String) { self.directory = directory }

    static var lockedError: ApusError {
        ApusError(.unavailable, "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"apus swarm unlock\" to unlock it.")
    }

    private var lockPath: String { "\(directory)/certificates/swarm.lock" }
    private static let purpose = "swarm lock"

    private var sealable: [(path: String, purpose: LocalLock.Purpose)] {
        [
            ("\(directory)/certificates/swarm-node.key", .nodeKey), ("\(directory)/certificates/swarm-node.next.key", .nodeKey),
            (Self.raftKeyPath(directory), .raftKey),
        ]
    }

    static func raftKeyPath(_ directory: String) -> String { "\(directory)/raft/keys/raft.key" }

    /// Whether the files need the unlock key.
    public var isLocked: Bool { Files.exists(lockPath) }

    /// What opens the files; `nil` when they are not locked.
    /// - Throws: `invalidArgument` for a wrong key.
    public func unlock(_ key: UnlockKey) throws(ApusError) -> LocalLock? {
        guard isLocked else { return nil }
        let wrapped = try Files.read(lockPath, limit: 4096)
        do throws(ApusError) {
            return LocalLock(key: try KeyEncryption.unwrap(wrapped, key: key.bytes, purpose: Self.purpose))
        } catch {
            guard error.code == .corrupt else { throw error }
            throw ApusError(
                .invalidArgument,
                "swarm could not be unlocked: this is not the unlock key of this manager; "
                    + "another manager shows the present one with \"apus swarm unlock-key\", and this one may still have the one before")
        }
    }

    /// Locks the files, or only changes the unlock key when they are locked already.
    /// - Parameter lock: What `unlock` or the last `lock` returned; `nil` when the files are not locked.
    /// - Returns: What opens them from now on.
    @discardableResult
    public func lock(_ key: UnlockKey, lock: LocalLock?) throws(ApusError) -> LocalLock {
        guard lock != nil || !isLocked else { throw Self.lockedError }
        let lock = if let lock { lock } else { LocalLock(key: try SecureRandom.bytes(32)) }
        try Files.makeDirectory("\(directory)/certificates")
        // First the key to the keys; a crash after it leaves files that are not sealed yet, and can be read all the same.
        try Files.writeAtomically(try KeyEncryption.wrap(lock.key, key: key.bytes, purpose: Self.purpose), to: lockPath)
        for (path, purpose) in sealable where Files.exists(path) {
            let content = try Files.read(path, limit: 1 << 20)
            if !LocalLock.isSealed(content) { try Files.writeAtomically(try lock.seal(content, purpose: purpose), to: path) }
        }
        return lock
    }

    /// Opens the files for good.
    public func unlockForGood(_ lock: LocalLock) throws(ApusError) {
        for (path, purpose) in sealable where Files.exists(path) {
            let content = try Files.read(path, limit: 1 << 20)
            if LocalLock.isSealed(content) { try Files.writeAtomically(try lock.open(content, purpose: purpose), to: path) }
        }
        try Files.removeTree(lockPath)
        try Files.syncFolder(of: lockPath)
    }

    /// Brings the files to what the swarm wants: locked with this key, or, without one, not locked. Does nothing when they are already.
    /// - Returns: What opens them from now on; `nil`: not locked.
    public func apply(_ key: UnlockKey?, lock: LocalLock?) throws(ApusError) -> LocalLock? {
        if let key {
            if let lock, let same = try? unlock(key), same == lock {
                if try !hasOpenFiles() { return lock }
            }
            return try self.lock(key, lock: lock)
        }
        if let lock, isLocked { try unlockForGood(lock) }
        return nil
    }

    private func hasOpenFiles() throws(ApusError) -> Bool {
        for (path, _) in sealable where Files.exists(path) {
            if !LocalLock.isSealed(try Files.read(path, limit: 1 << 20)) { return true }
        }
        return false
    }

    /// The machine's files, with Raft's data key opened: for `StoreConfiguration.files`.
    public func files(_ lock: LocalLock?, base: any StorageFiles = SystemStorageFiles()) -> any StorageFiles {
        guard let lock else { return base }
        return UnlockedFiles(base: base, keyPath: Self.raftKeyPath(directory), lock: lock)
    }
}

/// Files of which one is sealed on the disk, and read as if it were not.
private struct UnlockedFiles: StorageFiles {
    let base: any StorageFiles
    let keyPath: String
    let lock: LocalLock

    func read(_ path: String) throws(ApusError) -> [UInt8] {
        let content = try base.read(path)
        guard path == keyPath, LocalLock.isSealed(content) else { return content }
        return try lock.open(content, purpose: .raftKey)
    }

    func create(_ path: String) throws(ApusError) -> any StorageFile { try base.create(path) }
    func exists(_ path: String) -> Bool { base.exists(path) }
    func list(_ directory: String) throws(ApusError) -> [String] { try base.list(directory) }
    func makeDirectory(_ path: String) throws(ApusError) { try base.makeDirectory(path) }
    func rename(_ from: String, to: String) throws(ApusError) { try base.rename(from, to: to) }
    func remove(_ path: String) throws(ApusError) { try base.remove(path) }
    func truncate(_ path: String, to length: Int) throws(ApusError) { try base.truncate(path, to: length) }
    func synchronizeDirectory(_ path: String) throws(ApusError) { try base.synchronizeDirectory(path) }
}
