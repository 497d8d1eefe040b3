import Files
import Glibc
import Logging
import Namespaces
import PluginAPI
import Processes
import Synchronization

@testable import Names

/// A name server that runs, sandboxes that it serves, and the programs that ask it.
final class NameLaboratory: Sendable {
    /// The network that every sandbox is on.
    static let network: ID = "mynet"

    let directory: String
    let server: NameServer
    private let paths = Mutex<[String]>([])

    private init(_ directory: String, limits: NameServerLimits) throws(ApusError) {
        self.directory = directory
        server = try NameServer(limits: limits, logger: Self.logger)
    }

    static let logger = Logger(label: "names") { _ in SwiftLogNoOpLogHandler() }

    /// Runs a test in a laboratory of its own, and takes it down whatever happens.
    static func run(limits: NameServerLimits = NameServerLimits(), _ body: @Sendable @escaping (NameLaboratory) async throws -> Void) async throws {
        let laboratory = try NameLaboratory(try Files.makeTemporaryDirectory(in: "/run", prefix: "apus-names"), limits: limits)
        defer { laboratory.tearDown() }
        try await laboratory.running(laboratory.server) { try await body(laboratory) }
    }

    /// Runs a server for as long as the body takes.
    func running(_ server: NameServer, _ body: @Sendable @escaping () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            let result: Result<Void, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            server.stop()
            try await group.waitForAll()
            try result.get()
        }
    }

    /// A sandbox without anything but loopback.
    func makeSandbox(_ name: String) throws -> String {
        let path = "\(directory)/\(name)"
        try NetworkNamespaces.create(path: path)
        paths.withLock { if !$0.contains(path) { $0.append(path) } }
        return path
    }

    private func tearDown() {
        do {
            for path in paths.withLock({ $0 }) { try NetworkNamespaces.remove(path: path) }
            try Files.removeTree(directory)
        } catch { print("left behind: \(error)") }
    }

    /// A state with one network, which all the sandboxes are on.
    static func state(
        _ sandboxes: [String], names: [String: [String]] = [:], pointers: [String: String] = [:], upstream: [UpstreamServer] = []
    ) throws -> NameState {
        var network = NetworkNames(name: "mynet")
        for (name, texts) in names { network.names[name] = try texts.map { try address($0) } }
        for (text, name) in pointers { network.pointers[try address(text)] = name }
        network.subnets = ["10.0.7.0/24", "fd00:7::/64"].compactMap { IPPrefix($0) }
        var state = NameState(networks: [Self.network: network])
        for path in sandboxes { state.sandboxes[path] = SandboxNames(networks: [Self.network], upstream: upstream) }
        return state
    }

    /// Runs a program in a sandbox.
    func program(in sandbox: String, _ command: String...) async throws -> ProcessResult {
        try await Processes.run(ProcessRequest("nsenter", ["--net=\(sandbox)", "--"] + command), timeout: .seconds(60))
    }

    /// What dig(1) says to the sandbox's server.
    func dig(in sandbox: String, _ arguments: String...) async throws -> String {
        let arguments = ["--net=\(sandbox)", "--", "dig", "@127.0.0.11", "+tries=1", "+time=8"] + arguments
        return try await Processes.run(ProcessRequest("nsenter", arguments), timeout: .seconds(60)).text
    }

    /// The sorted lines of a short answer.
    func digShort(in sandbox: String, _ arguments: String...) async throws -> [String] {
        let arguments = ["--net=\(sandbox)", "--", "dig", "@127.0.0.11", "+tries=1", "+time=8", "+short"] + arguments
        return try await Processes.run(ProcessRequest("nsenter", arguments), timeout: .seconds(60)).text.split(separator: "\n").map(String.init).sorted()
    }

    /// Runs a program that resolves names by its C library, with the file that a container would have.
    func resolver(in sandbox: String, search: [String] = [], _ command: String...) async throws -> (exitCode: Int32, lines: [String]) {
        var dns = DNSConfiguration()
        dns.search = search.isEmpty ? ["."] : search
        let file = "\(directory)/resolv.conf"
        try Files.writeAtomically(Array(ResolverFile.sandboxText(host: "", dns: dns).utf8), to: file, permissions: 0o644)
        // No other file of this machine may know a name; the C library reads them in this order.
        let script = """
            mount --bind "$1" /etc/resolv.conf && mount --bind /dev/null /etc/hosts && shift && exec "$@"
            """
        let arguments = ["--net=\(sandbox)", "unshare", "--mount", "sh", "-c", script, "sh", file] + command
        let result = try await Processes.run(ProcessRequest("nsenter", arguments), timeout: .seconds(60))
        return (result.exitCode, (result.text + result.errorText).split(separator: "\n").map(String.init))
    }

    /// A program in C that resolves names, made with `compiler`.
    func compile(with compiler: String) async throws -> String {
        let source = #filePath.split(separator: "/").dropLast(2).map { "/" + $0 }.joined() + "/Programs/resolve.c"
        let output = "\(directory)/resolve-\(compiler)"
        let result = try await Processes.run(ProcessRequest(compiler, ["-O1", "-o", output, source]), timeout: .seconds(120))
        guard result.exitCode == 0 else { throw ApusError(.failed, "\(compiler): \(result.errorText)") }
        return output
    }
}

/// Asks from inside of a sandbox without a program of its own.
final class Client: Sendable {
    let descriptor: Int32

    init(in sandbox: String, port: UInt16 = 53, isStream: Bool = false, seconds: Int = 60) throws(ApusError) {
        descriptor = try NetworkNamespaces.runBlocking(in: sandbox) { () throws(ApusError) in
            let descriptor = socket(AF_INET, Int32((isStream ? SOCK_STREAM : SOCK_DGRAM).rawValue | SOCK_CLOEXEC.rawValue), 0)
            var patience = timeval(tv_sec: seconds, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            let server = try SocketAddress(ResolverFile.sandboxAddress, port)
            guard server.with({ connect(descriptor, $0, $1) }) == 0 else { throw Sockets.failure("connect") }
            return descriptor
        }
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    /// Blocks; `nil` when nothing comes, or the other side has ended.
    func receiveBlocking() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 65535)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }

    func askBlocking(_ bytes: [UInt8]) throws -> Message {
        send(bytes)
        guard let answer = receiveBlocking() else { throw Sockets.failure("no answer") }
        return try Message(answer)
    }

    func ask(_ bytes: [UInt8]) async throws -> Message {
        let result = await onThread { Result { try self.askBlocking(bytes) } }
        return try result.get()
    }

    func receive() async -> [UInt8]? { await onThread { self.receiveBlocking() } }

    /// The next whole answer of a stream.
    func receiveFrame() async -> [UInt8]? {
        await onThread {
            func read(_ count: Int) -> [UInt8]? {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65535)
                while bytes.count < count {
                    let got = recv(self.descriptor, &buffer, count - bytes.count, 0)
                    guard got > 0 else { return nil }
                    bytes += buffer.prefix(got)
                }
                return bytes
            }
            guard let head = read(2) else { return nil }
            return read(Int(head[0]) << 8 | Int(head[1]))
        }
    }

    static func frame(_ bytes: [UInt8]) -> [UInt8] { [UInt8(bytes.count >> 8), UInt8(bytes.count & 0xff)] + bytes }
}

/// A value that several tasks look at.
final class Shared<Value: Sendable>: Sendable {
    private let state: Mutex<Value>
    init(_ value: Value) { state = Mutex(value) }

    var value: Value {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }

    func change(_ body: (inout sending Value) -> Void) { state.withLock { body(&$0) } }
}
