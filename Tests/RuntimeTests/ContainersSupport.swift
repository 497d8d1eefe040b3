import Files
import Glibc
import PluginAPI
import Processes
import Synchronization
import Testing

@testable import RuntimeOCI

/// A root file system of busybox in two layers, made once for all tests.
enum BusyboxImage {
    static let layers: [String] = {
        do throws(ApusError) { return try make() } catch {
            Issue.record("no busybox image: \(error.message)")
            return []
        }
    }()

    /// Of this test process, removed with it.
    static var root: String { "/run/apus-test-image-\(getpid())" }

    private static func make() throws(ApusError) -> [String] {
        let folder = "\(root)/busybox"
        atexit { try? Files.removeTree(BusyboxImage.root) }
        let base = "\(folder)/base"
        for name in ["bin", "etc", "dev", "proc", "sys", "root", "data/deep", "var/empty", "home/someone"] {
            try Files.makeDirectory("\(base)/\(name)", permissions: 0o755)
        }
        try Files.makeDirectory("\(base)/tmp", permissions: 0o777)
        chmod("\(base)/tmp", 0o1777)
        try Files.writeAtomically(try Files.read("/bin/busybox"), to: "\(base)/bin/busybox", permissions: 0o755, sync: false)
        for applet in [
            "sh", "sleep", "echo", "cat", "id", "env", "true", "false", "mount", "umount", "unshare", "ls", "hostname", "kill", "ps", "touch",
            "chown",
            "mknod", "dd", "head", "tail", "stat", "pwd", "test", "seq", "yes", "grep", "ulimit", "tr", "wc", "date", "mkdir", "chmod", "stty",
        ] {
            symlink("busybox", "\(base)/bin/\(applet)")
        }
        try write("root:x:0:0:root:/root:/bin/sh\nsomeone:x:1000:1001::/home/someone:/bin/sh\n", "\(base)/etc/passwd")
        try write("root:x:0:\nsomeone:x:1001:\nwheel:x:10:root,someone\naudio:x:29:\n", "\(base)/etc/group")
        try write("from the image\n", "\(base)/data/file")
        try write("deep\n", "\(base)/data/deep/file")
        try write("not a program\n", "\(base)/bin/plain")
        chmod("\(base)/bin/plain", 0o644)
        let top = "\(folder)/top"
        try Files.makeDirectory("\(top)/etc", permissions: 0o755)
        try write("upper layer\n", "\(top)/etc/layer")
        return [top, base]
    }

    private static func write(_ text: String, _ path: String) throws(ApusError) {
        try Files.writeAtomically(Array(text.utf8), to: path, permissions: 0o644, sync: false)
    }
}

/// An image store with one image, which needs no registry.
final class TestImages: ImageProvider {
    let users = Mutex<Set<ID>>([])
    let layers: [String]

    init(layers: [String] = BusyboxImage.layers) { self.layers = layers }

    func rootLayers(of image: ID) async throws(ApusError) -> [String] { layers }
    func acquire(image: ID, for container: ID) async throws(ApusError) { _ = users.withLock { $0.insert(container) } }
    func release(image: ID, for container: ID) async { _ = users.withLock { $0.remove(container) } }

    private var unused: ApusError { ApusError(.unimplemented, "not in this test") }
    func pull(_ request: PullRequest, progress: @escaping @Sendable (PullProgress) -> Void) async throws(ApusError) -> Image { throw unused }
    func distribution(_ request: PullRequest) async throws(ApusError) -> ImageDistribution { throw unused }
    func tags(_ request: PullRequest) async throws(ApusError) -> [String] { throw unused }
    func authenticate(_ request: RegistryLoginRequest) async throws(ApusError) { throw unused }
    func images() async throws(ApusError) -> [Image] { throw unused }
    func image(_ reference: String) async throws(ApusError) -> Image { throw unused }
    func tag(source: String, target: String) async throws(ApusError) { throw unused }
    func removeImage(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer { throw unused }
    func load(descriptor: Int32) async throws(ApusError) -> [String] { throw unused }
    func importImage(_ request: ImportImageRequest) async throws(ApusError) -> Image { throw unused }
    func layersSize() async throws(ApusError) -> Int64 { 0 }
    func sharedSizes() async throws(ApusError) -> [ID: Int64] { [:] }
    func shutDown() async {}
}

struct TestHost: HostServices {
    var engineVersion: String { "test" }
    var configuration: [String: String]
    var stateDirectory: String
    var runDirectory: String
    func log(_ level: LogLevel, _ message: String) {
        if level >= .warning { print("runtime \(level): \(message)") }
    }
    func count(_ counter: String, by amount: Int) {}
}

/// A runtime in folders and cgroups of its own.
final class TestRuntime: Sendable {
    let folder: String
    let host: TestHost
    let images: TestImages
    let cgroupParent: String
    private let current: Mutex<RuntimeOCI>

    var runtime: RuntimeOCI { current.withLock { $0 } }

    convenience init(layers: [String] = BusyboxImage.layers) throws {
        try self.init(folder: try Files.makeTemporaryDirectory(in: "/run", prefix: "apus-test"), layers: layers)
    }

    init(folder: String, layers: [String] = BusyboxImage.layers) throws {
        self.folder = folder
        cgroupParent = folder.replacing("/run/", with: "/")
        try Files.makeDirectory("\(folder)/state")
        try Files.makeDirectory("\(folder)/run")
        host = TestHost(
            configuration: ["cgroup-parent": cgroupParent], stateDirectory: "\(folder)/state", runDirectory: "\(folder)/run")
        images = TestImages(layers: layers)
        current = Mutex(try RuntimeOCI(host: host, images: images))
    }

    /// Another engine on the same folders; the old one just stops looking.
    func restart(meanwhile: () async throws -> Void = {}) async throws {
        await runtime.shutDown()
        try await meanwhile()
        let next = try RuntimeOCI(host: host, images: images)
        current.withLock { $0 = next }
    }

    func configuration(_ arguments: [String]) -> ContainerConfiguration {
        var configuration = ContainerConfiguration()
        configuration.id = .randomContainer()
        configuration.name = "test-\(configuration.id.short)"
        configuration.arguments = arguments
        configuration.imageID = "sha256:test"
        configuration.imageReference = "busybox:test"
        return configuration
    }

    func create(_ arguments: [String], _ change: (inout ContainerConfiguration) -> Void = { _ in }) async throws -> ID {
        var configuration = configuration(arguments)
        change(&configuration)
        try await runtime.create(configuration)
        return configuration.id
    }

    func start(_ arguments: [String], _ change: (inout ContainerConfiguration) -> Void = { _ in }) async throws -> ID {
        let id = try await create(arguments, change)
        _ = try await runtime.start(id)
        return id
    }

    /// Runs a shell line to its end.
    func run(_ line: String, _ change: (inout ContainerConfiguration) -> Void = { _ in }) async throws -> (
        state: ContainerState, output: String, errors: String
    ) {
        let id = try await start(["/bin/sh", "-c", line], change)
        let state = try await runtime.wait(id)
        let log = try await log(id)
        try await runtime.remove(id)
        return (state, log.output, log.errors)
    }

    func log(_ id: ID, _ change: (inout LogRequest) -> Void = { _ in }) async throws -> (output: String, errors: String) {
        let pipe = try TestPipe()
        var request = LogRequest(id: id, descriptor: pipe.writer)
        change(&request)
        let wanted = request
        async let bytes = pipe.collect()
        do {
            try await runtime.logs(wanted)
            pipe.closeWriter()
        } catch {
            pipe.closeWriter()
            _ = await bytes
            throw error
        }
        return Frames.split(await bytes)
    }

    /// Ends and removes everything, and checks that nothing is left.
    func finish(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        for container in try await runtime.containers() {
            try? await runtime.signal(container.configuration.id, SIGKILL)
            _ = try await runtime.wait(container.configuration.id)
            try await runtime.remove(container.configuration.id)
        }
        #expect(remains().isEmpty, sourceLocation: sourceLocation)
        #expect(images.users.withLock { $0.isEmpty }, sourceLocation: sourceLocation)
        await runtime.shutDown()
        try Files.removeTree(folder)
    }

    /// Mounts, cgroups, processes and folders of containers that are there.
    func remains() -> [String] {
        var result: [String] = []
        for line in ((try? Files.readText("/proc/self/mountinfo")) ?? "").split(separator: "\n") where line.contains(folder) {
            result.append("mount \(line)")
        }
        for root in ["/sys/fs/cgroup"] + ((try? Files.list("/sys/fs/cgroup")) ?? []).map({ "/sys/fs/cgroup/\($0)" })
        where Files.exists(root + cgroupParent) {
            result.append("cgroup \(root)\(cgroupParent)")
        }
        for name in ["state/containers", "run/bundles", "run/oci", "run/exits"] {
            for entry in (try? Files.list("\(folder)/\(name)")) ?? [] { result.append("\(name)/\(entry)") }
        }
        for process in (try? Files.list("/proc")) ?? [] where Int32(process) != nil {
            let line = (try? Files.readText("/proc/\(process)/cmdline")) ?? ""
            if line.contains("conmon"), line.contains(folder) { result.append("process \(process)") }
        }
        return result
    }
}

/// A pipe whose reader is read to its end on a thread.
final class TestPipe: Sendable {
    let reader: Int32
    private let end: Descriptor
    var writer: Int32 { end.number }

    init() throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        reader = ends[0]
        end = Descriptor(ends[1])
        _ = fcntl(reader, F_SETFD, FD_CLOEXEC)
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
    }

    func closeWriter() { end.close() }

    func collect() async -> [UInt8] {
        await onThread { [reader] in
            let bytes = (try? Files.read(descriptor: reader, name: "pipe")) ?? []
            close(reader)
            return bytes
        }
    }
}

enum Frames {
    static func split(_ bytes: [UInt8]) -> (output: String, errors: String) {
        var output: [UInt8] = []
        var errors: [UInt8] = []
        var rest = bytes[...]
        while rest.count >= 8 {
            let header = Array(rest.prefix(8))
            let length = header[4...].reduce(0) { $0 << 8 | Int($1) }
            let payload = rest.dropFirst(8).prefix(length)
            if header[0] == 1 { output += payload } else { errors += payload }
            rest = rest.dropFirst(8 + length)
        }
        return (String(decoding: output, as: UTF8.self), String(decoding: errors, as: UTF8.self))
    }
}

/// Waits until a condition holds, at most two minutes: the machine may be busy.
func eventually(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool) async throws {
    let due = ContinuousClock.now + .seconds(120)
    while ContinuousClock.now < due {
        if try await condition() { return }
        try await ConcurrentTask.sleep(for: .milliseconds(10))
    }
    Issue.record("never: \(what)", sourceLocation: sourceLocation)
}
