import Glibc
import Logging
import PluginAPI
import Raft
import Store
import Synchronization
import Testing

/// A folder of this test's own, removed with it.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/apus-store-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ApusError(.failed, "no temporary folder") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    static func remove(_ path: String) {
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                if name != ".", name != ".." { remove("\(path)/\(name)") }
            }
            closedir(stream)
        }
        _ = Glibc.remove(path)
    }
}

let quiet: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
}()

func configuration(_ directory: TemporaryDirectory, _ change: (inout StoreConfiguration) -> Void = { _ in }) -> StoreConfiguration {
    var configuration = StoreConfiguration(directory: directory.path + "/swarm", logger: quiet)
    change(&configuration)
    return configuration
}

func makeService(_ name: String, id: ID = .random()) -> Service {
    var service = Service()
    service.id = id
    service.spec.name = name
    return service
}

func makeTask(of service: ID, on node: ID = "", slot: UInt64 = 1) -> Task {
    var task = Task()
    task.id = .random()
    task.serviceID = service
    task.nodeID = node
    task.slot = slot
    return task
}

extension ObjectStore {
    @discardableResult
    func create(_ service: Service) async throws(ApusError) -> Service {
        try await update { transaction throws(ApusError) in
            try transaction.create(.service(service))
            return transaction.snapshot.services[service.id] ?? service
        }
    }
}

let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A disk on which synchronizing fails from some moment on.
final class FailingFiles: StorageFiles {
    let isFailing = Mutex(false)
    private let system = SystemStorageFiles()

    func create(_ path: String) throws(ApusError) -> any StorageFile { FailingFile(file: try system.create(path), disk: self) }
    func read(_ path: String) throws(ApusError) -> [UInt8] { try system.read(path) }
    func exists(_ path: String) -> Bool { system.exists(path) }
    func list(_ directory: String) throws(ApusError) -> [String] { try system.list(directory) }
    func makeDirectory(_ path: String) throws(ApusError) { try system.makeDirectory(path) }
    func rename(_ from: String, to: String) throws(ApusError) { try system.rename(from, to: to) }
    func remove(_ path: String) throws(ApusError) { try system.remove(path) }
    func truncate(_ path: String, to length: Int) throws(ApusError) { try system.truncate(path, to: length) }
    func synchronizeDirectory(_ path: String) throws(ApusError) { try system.synchronizeDirectory(path) }
}

private final class FailingFile: StorageFile {
    private let file: any StorageFile
    private let disk: FailingFiles

    init(file: any StorageFile, disk: FailingFiles) {
        self.file = file
        self.disk = disk
    }

    func append(_ bytes: [UInt8]) throws(ApusError) { try file.append(bytes) }

    func synchronize() throws(ApusError) {
        if disk.isFailing.withLock({ $0 }) { throw ApusError(.failed, "Input/output error") }
        try file.synchronize()
    }

    func close() { file.close() }
}
