import Files
import Logging
import PluginAPI
import Synchronization

@testable import Raft

/// A folder of this test's own, removed with it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws { path = try Files.makeTemporaryDirectory(prefix: "apus-raft") }

    deinit { try? Files.removeTree(path) }

    /// A copy of a folder of files and folders.
    static func copy(of source: String) throws -> TemporaryDirectory {
        let copy = try TemporaryDirectory()
        try copyContents(source, to: copy.path)
        return copy
    }

    private static func copyContents(_ source: String, to target: String) throws {
        for name in try Files.list(source) {
            if Files.isDirectory("\(source)/\(name)") {
                try Files.makeDirectory("\(target)/\(name)")
                try copyContents("\(source)/\(name)", to: "\(target)/\(name)")
            } else {
                try Files.writeAtomically(try Files.read("\(source)/\(name)"), to: "\(target)/\(name)", sync: false)
            }
        }
    }

    /// Every file with its bytes.
    func contents(_ folder: String = "") throws -> [String: [UInt8]] {
        var found: [String: [UInt8]] = [:]
        for name in try Files.list(path + folder) {
            if Files.isDirectory("\(path)\(folder)/\(name)") {
                found.merge(try contents("\(folder)/\(name)")) { first, _ in first }
            } else {
                found["\(folder)/\(name)"] = try Files.read("\(path)\(folder)/\(name)")
            }
        }
        return found
    }
}

let quiet: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
}()

let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A state machine that is the list of its commands.
final class Recorder: RaftStateMachine {
    struct State {
        var commands: [[UInt8]] = []
        var index: UInt64 = 0
        var failure: ApusError?
        var outOfOrder = false
    }

    let state = Mutex(State())

    var commands: [[UInt8]] { state.withLock { $0.commands } }

    func apply(_ entries: [LogEntry]) {
        state.withLock { state in
            for entry in entries {
                if entry.index != state.index + 1 { state.outOfOrder = true }
                state.index = entry.index
                if entry.kind == .command { state.commands.append(entry.payload) }
            }
        }
    }

    private struct Source: SnapshotSource {
        let commands: [[UInt8]]

        func write(_ sink: ([UInt8]) throws(ApusError) -> Void) throws(ApusError) {
            for command in commands { try sink(command) }
        }
    }

    func capture() -> any SnapshotSource { Source(commands: commands) }

    func restore(_ metadata: SnapshotMetadata, _ chunks: [[UInt8]]) throws(ApusError) {
        state.withLock { state in
            state.commands = chunks
            state.index = metadata.position.index
        }
    }

    func roleChanged(_ change: RaftOutput.RoleChange) {}

    func failed(_ error: ApusError) { state.withLock { $0.failure = error } }

    /// Waits until a number of commands is applied, or the log has failed.
    func wait(for count: Int) async throws {
        while state.withLock({ $0.commands.count < count && $0.failure == nil }) { try await ConcurrentTask.sleep(for: .milliseconds(1)) }
    }
}

let one = MemberID(1)

func configuration(_ directory: String, _ change: (inout RaftConfiguration) -> Void = { _ in }) -> RaftConfiguration {
    var configuration = RaftConfiguration(id: one, directory: directory, bootstrap: Membership(voters: [one]), seed: 1)
    change(&configuration)
    return configuration
}

/// A disk that fails when it is told to.
final class FaultyFiles: StorageFiles {
    enum Fault: Equatable {
        /// fdatasync fails with an input/output error.
        case synchronize
        /// A write stores nothing and fails.
        case write
    }

    struct State {
        var fault: Fault?
        /// Operations of the kind of the fault that still succeed.
        var remaining = 0
        var synchronizations = 0
        var operationsAfterFailure = 0
        var hasFailed = false
        /// While it is: a write stores half of its bytes, then there is no space.
        var isFull = false
    }

    let state = Mutex(State())
    private let system = SystemStorageFiles()

    func fail(_ fault: Fault, after remaining: Int = 0) {
        state.withLock { state in
            state.fault = fault
            state.remaining = remaining
        }
    }

    /// Whether this operation is the one that fails.
    fileprivate func strikes(_ faults: [Fault]) -> Fault? {
        state.withLock { state in
            if state.hasFailed { state.operationsAfterFailure += 1 }
            if faults == [.synchronize] { state.synchronizations += 1 }
            guard let fault = state.fault, faults.contains(fault) else { return nil }
            guard state.remaining == 0 else {
                state.remaining -= 1
                return nil
            }
            // Once only: a second attempt would succeed, as it does on a real disk, and must not be made.
            state.fault = nil
            state.hasFailed = true
            return fault
        }
    }

    func create(_ path: String) throws(ApusError) -> any StorageFile { FaultyFile(file: try system.create(path), disk: self) }
    func read(_ path: String) throws(ApusError) -> [UInt8] { try system.read(path) }
    func exists(_ path: String) -> Bool { system.exists(path) }
    func list(_ directory: String) throws(ApusError) -> [String] { try system.list(directory) }
    func makeDirectory(_ path: String) throws(ApusError) { try system.makeDirectory(path) }
    func rename(_ from: String, to: String) throws(ApusError) { try system.rename(from, to: to) }
    func remove(_ path: String) throws(ApusError) { try system.remove(path) }
    func truncate(_ path: String, to length: Int) throws(ApusError) { try system.truncate(path, to: length) }
    func synchronizeDirectory(_ path: String) throws(ApusError) { try system.synchronizeDirectory(path) }
}

private final class FaultyFile: StorageFile {
    private let file: any StorageFile
    private let disk: FaultyFiles

    init(file: any StorageFile, disk: FaultyFiles) {
        self.file = file
        self.disk = disk
    }

    func append(_ bytes: [UInt8]) throws(ApusError) {
        if disk.state.withLock({ $0.isFull }) {
            try file.append(Array(bytes.prefix(bytes.count / 2)))
            throw ApusError(.unavailable, "No space left on device")
        }
        switch disk.strikes([.write]) {
        case .write, .synchronize: throw ApusError(.failed, "Input/output error")
        case nil: try file.append(bytes)
        }
    }

    func synchronize() throws(ApusError) {
        if disk.strikes([.synchronize]) != nil { throw ApusError(.failed, "Input/output error") }
        try file.synchronize()
    }

    func close() { file.close() }
}

/// What a fresh opening of a folder finds.
func open(_ directory: String, files: any StorageFiles = SystemStorageFiles()) throws -> RaftStorage.Opened {
    try RaftStorage.open(configuration(directory) { $0.files = files }) { _, _ in }
}

func entry(_ index: UInt64, term: UInt64 = 1, _ payload: String = "") -> LogEntry {
    LogEntry(index: index, term: term, kind: .command, payload: Array(payload.utf8))
}
