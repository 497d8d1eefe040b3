public import Logging
public import PluginAPI
public import Raft

/// Where a store lives, and how much it keeps.
public struct StoreConfiguration: Sendable {
    /// Raft's folder, `<data root>/swarm`; an empty one begins a new group with one member.
    public var directory: String
    public var logger: Logger
    /// The way to the other members; none for a group that stays alone.
    public var transport: (any RaftTransport)?
    /// In an empty folder: waits for a leader to take this member in, instead of beginning a new group.
    public var isJoining = false
    /// Where the others find this member, for a new group.
    public var contact: MemberContact?
    /// Log entries between snapshots.
    public var snapshotInterval: UInt64 = 10_000
    /// Commits that a watcher may be behind; then its stream ends.
    public var watchLimit = 4096
    /// Commits, at least, that `watch(from:)` can go back.
    public var historyLimit = 1024
    /// Bytes of a segment of the log, about.
    public var segmentSize = 16 << 20
    /// The disk; tests make it fail.
    public var files: any StorageFiles = SystemStorageFiles()
    /// The clock that objects are stamped with.
    public var now: @Sendable () -> Timestamp = { SystemClock.now }

    public init(directory: String, logger: Logger = Logger(label: "store")) {
        self.directory = directory
        self.logger = logger
    }
}
