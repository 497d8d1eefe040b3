public import PluginAPI

/// The ways back from a damaged log and from a lost majority, for a person who accepts the loss.
public enum RaftRecovery {
    /// Keeps everything up to entry `index`, and moves the log as it was to `<directory>/damaged-<name>/`. The engine must not run.
    /// - Parameter name: Tells one recovery from another, such as the time.
    /// - Returns: The last entry that is kept.
    /// - Throws: `invalidArgument` when entries up to `index` are not all readable, or are in the snapshot; then nothing was changed.
    @discardableResult
    public static func discard(
        after index: UInt64, directory: String, name: String, files: any StorageFiles = SystemStorageFiles()
    ) throws(ApusError) -> UInt64 {
        let logDirectory = RaftStorage.logDirectory(directory)
        let recovered = RaftStorage.recoveredDirectory(directory)
        let dataKey = try DataKey.load(directory: "\(directory)/keys", mayCreate: false, files: files)
        let snapshots = SnapshotFiles(directory: "\(directory)/snapshots", dataKey: dataKey, files: files)
        let snapshot = try snapshots.readNewest { _, _ in }
        let base = snapshot?.position ?? LogPosition()
        let contents = try WriteAheadLog.read(directory: logDirectory, dataKey: dataKey, base: base, files: files)
        let last = contents.replay.last.index
        guard index <= last else { throw ApusError(.invalidArgument, "only entries up to \(last) can be read: discard after \(last) or earlier") }
        guard index >= base.index else {
            throw ApusError(.invalidArgument, "the snapshot holds entries up to \(base.index): discard after \(base.index) or later")
        }
        guard snapshot != nil || contents.replay.bootstrap != nil else {
            throw ApusError(.invalidArgument, "nothing of the log can be read: restore \(logDirectory) from a copy, or begin anew")
        }
        let kept = contents.replay.entries.filter { $0.index <= index }
        for old in try files.list(recovered) { try files.remove("\(recovered)/\(old)") }
        try files.makeDirectory(recovered)
        let start = LogPosition(index: base.index, term: base.term)
        let log = try WriteAheadLog(
            directory: recovered, dataKey: dataKey, segmentSize: .max, files: files, segments: [], hardState: contents.replay.hardState, last: start,
            bootstrap: contents.replay.bootstrap)
        try log.append(kept.map { .entry($0) })
        try log.close()
        let damaged = "\(directory)/damaged-\(name)"
        guard !files.exists(damaged) else { throw ApusError(.conflict, "\(damaged) exists already") }
        try files.makeDirectory(damaged)
        try files.rename(logDirectory, to: "\(damaged)/wal")
        try files.rename(recovered, to: logDirectory)
        try files.synchronizeDirectory(damaged)
        try files.synchronizeDirectory(directory)
        return kept.last?.index ?? base.index
    }

    /// Reads everything that a member has, decided or not: the newest snapshot in its pieces, and what follows it. The engine must not run.
    /// - Throws: `corrupt` for a damaged log.
    public static func contents(
        member: MemberID, directory: String, files: any StorageFiles = SystemStorageFiles()
    ) throws(ApusError) -> (snapshot: [[UInt8]]?, entries: [LogEntry]) {
        var configuration = RaftConfiguration(id: member, directory: directory, bootstrap: nil)
        configuration.files = files
        var snapshot: [[UInt8]]?
        let storage = try RaftStorage.open(configuration) { _, pieces in snapshot = pieces }
        try storage.log.close()
        return (snapshot, storage.entries)
    }

    /// Makes `member` the only member of its group: the way back when a majority of the managers is lost for good. Everything in its log
    /// is kept, decided or not; what only the others had is lost. The engine must not run; when it is opened again, the member elects itself.
    ///
    /// The others must never come back with what they have: they would be another group under the same name.
    /// - Returns: The last entry of the log, which is the new membership.
    /// - Throws: `corrupt` for a damaged log; `notFound` when the folder holds nothing to go on from.
    @discardableResult
    public static func forceNewCluster(
        member: MemberID, directory: String, files: any StorageFiles = SystemStorageFiles()
    ) throws(ApusError) -> LogPosition {
        var configuration = RaftConfiguration(id: member, directory: directory, bootstrap: nil)
        configuration.files = files
        guard files.exists(RaftStorage.logDirectory(directory)) || files.exists(RaftStorage.recoveredDirectory(directory)) else {
            throw ApusError(.notFound, "\(directory) holds no log to make a new cluster from")
        }
        let storage = try RaftStorage.open(configuration) { _, _ in }
        let last = storage.entries.last.map { LogPosition(index: $0.index, term: $0.term) } ?? storage.snapshot.position
        guard last.index > 0 else {
            storage.log.abandon()
            throw ApusError(.notFound, "\(directory) holds a log without entries: there is nothing to make a new cluster from")
        }
        // As if this member had won an election in a term that nobody else has seen.
        let term = max(storage.hardState.term, last.term) + 1
        let known = (storage.entries.compactMap { $0.kind == .membership ? Membership(decoding: $0.payload) : nil }.last ?? storage.snapshot.membership)
            .contacts
        let alone = Membership(voters: [member], contacts: known.filter { $0.key == member })
        let membership = LogEntry(index: last.index + 1, term: term, kind: .membership, payload: alone.encoded())
        do throws(ApusError) {
            try storage.log.append([.hardState(HardState(term: term, vote: member)), .entry(membership)])
        } catch {
            storage.log.abandon()
            throw error
        }
        try storage.log.close()
        return LogPosition(index: membership.index, term: term)
    }
}
