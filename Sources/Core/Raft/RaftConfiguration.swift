/// How a member runs.
public struct RaftConfiguration: Sendable {
    public var id: MemberID
    /// Holds `wal/`, `snapshots/` and `keys/`; made when it does not exist.
    public var directory: String
    /// The members when the folder is empty; `nil` for a member that joins: it waits for the leader, gets everything from it, and
    /// does not campaign before it is a voter.
    public var bootstrap: Membership?
    public var settings = RaftSettings()
    /// Entries applied between snapshots.
    public var snapshotInterval: UInt64 = 10_000
    /// Bytes of log between snapshots.
    public var snapshotBytes = 64 << 20
    /// Segments on disk that call for a snapshot: many restarts make many small ones.
    public var segmentLimit = 32
    /// Bytes of a segment, about.
    public var segmentSize = 16 << 20
    /// Ticks until a read that got no answer fails.
    public var readTicks = 50
    public var tick: Duration = .milliseconds(100)
    public var seed: UInt64
    public var files: any StorageFiles = SystemStorageFiles()

    public init(id: MemberID, directory: String, bootstrap: Membership?, seed: UInt64 = .random(in: .min ... .max)) {
        self.id = id
        self.directory = directory
        self.bootstrap = bootstrap
        self.seed = seed
    }
}
