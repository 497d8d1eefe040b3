import PluginAPI

/// The folder of a member: `wal/`, `snapshots/`, `keys/`.
enum RaftStorage {
    struct Opened {
        var log: WriteAheadLog
        var snapshots: SnapshotFiles
        var hardState: HardState
        var snapshot: SnapshotMetadata
        var entries: [LogEntry]
        /// Bytes of an unfinished write that were cut off; 0 after a clean end.
        var cutBytes: Int
    }

    static func logDirectory(_ directory: String) -> String { "\(directory)/wal" }
    static func recoveredDirectory(_ directory: String) -> String { "\(directory)/wal.recovered" }

    /// Reads everything, restores the newest snapshot, cuts a torn tail, and begins a new segment.
    /// - Throws: `corrupt` when anything but the tail is damaged; then nothing was changed.
    static func open(
        _ configuration: RaftConfiguration, restore: (SnapshotMetadata, [[UInt8]]) throws(ApusError) -> Void
    ) throws(ApusError) -> Opened {
        let directory = configuration.directory
        let files = configuration.files
        let logDirectory = logDirectory(directory)
        // A recovery that was interrupted between its two renames.
        if !files.exists(logDirectory), files.exists(recoveredDirectory(directory)) {
            try files.rename(recoveredDirectory(directory), to: logDirectory)
            try files.synchronizeDirectory(directory)
        }
        try files.makeDirectory(logDirectory)
        let snapshotDirectory = "\(directory)/snapshots"
        let segmentNames = try files.list(logDirectory).filter { WriteAheadLog.number(of: $0) != nil }
        let snapshotNames = try files.list(snapshotDirectory).filter { $0.hasSuffix(".snapshot") }
        let isEmpty = segmentNames.isEmpty && snapshotNames.isEmpty
        let dataKey = try DataKey.load(directory: "\(directory)/keys", mayCreate: isEmpty, files: files)
        let snapshots = SnapshotFiles(directory: snapshotDirectory, dataKey: dataKey, files: files)
        let newest = try snapshots.readNewest(restore)
        var contents = try WriteAheadLog.read(
            directory: logDirectory, dataKey: dataKey, base: newest?.position ?? LogPosition(), files: files)
        if let damage = contents.damage { throw error(damage, contents.replay, directory, hasSnapshot: newest != nil) }
        if contents.segments.isEmpty, newest != nil {
            throw ApusError(
                .corrupt, "\(logDirectory) is empty, and there is a snapshot: restore the log from a copy, or remove the swarm's state and join again"
            )
        }
        var cutBytes = 0
        if let torn = contents.torn {
            cutBytes = try files.read(torn.path).count - torn.offset
            try files.truncate(torn.path, to: torn.offset)
        }
        for name in try files.list(logDirectory) where name.hasSuffix(".new") { try files.remove("\(logDirectory)/\(name)") }
        try snapshots.removeOld()
        try snapshots.removeUnfinished()
        if let newest {
            // An engine that ended between the snapshot and the removal of what it covers.
            while contents.segments.count > 1, contents.segments[1].previousIndex <= newest.position.index {
                try files.remove(contents.segments.removeFirst().path)
            }
        }
        // A leader's snapshot was installed, and the engine ended before the log knew: what the log has there is of another history.
        let isReplaced = contents.replay.conflictsWithBase
        if isReplaced { contents.replay.discardEntries() }
        let replay = contents.replay
        guard let membership = newest?.membership ?? (isEmpty ? configuration.bootstrap ?? Membership() : replay.bootstrap) else {
            throw ApusError(.corrupt, "\(logDirectory) has lost its beginning: restore it from a copy, or remove the swarm's state and join again")
        }
        let log = try WriteAheadLog(
            directory: logDirectory, dataKey: dataKey, segmentSize: configuration.segmentSize, files: files, segments: contents.segments,
            hardState: replay.hardState, last: replay.last, bootstrap: isEmpty ? membership : nil)
        if let newest, isReplaced || newest.position.index > replay.last.index { try log.append([.reset(newest.position)]) }
        return Opened(
            log: log, snapshots: snapshots, hardState: replay.hardState,
            snapshot: newest ?? SnapshotMetadata(position: LogPosition(), membership: membership), entries: replay.entries, cutBytes: cutBytes)
    }

    private static func error(_ damage: LogDamage, _ replay: LogReplay, _ directory: String, hasSnapshot: Bool) -> ApusError {
        guard hasSnapshot || replay.bootstrap != nil else {
            return ApusError(
                .corrupt,
                "\(damage.path) is damaged at byte \(damage.offset): \(damage.reason). Nothing of the log can be read, and nothing was changed. "
                    + "Restore the file from a copy, or remove \(directory) and join or begin anew")
        }
        let suffix = ["/swarm/raft", "/swarm"].first { directory.hasSuffix($0) } ?? ""
        let root = directory.dropLast(suffix.count)
        return ApusError(
            .corrupt,
            "\(damage.path) is damaged at byte \(damage.offset): \(damage.reason). "
                + "Everything up to entry \(replay.last.index) is good, and nothing was changed. "
                + "Restore the file from a copy, or give up what came later: apusd recover --data-root \(root) --discard-after \(replay.last.index)")
    }
}
