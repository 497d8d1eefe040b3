import Glibc
import Namespaces
import Netlink
import PluginAPI
import Synchronization

/// A machine of its own for one test: a namespace that stands for the host, one for another machine on its wire, and containers.
///
/// The host is 203.0.113.1 and 2001:db8:f::1, the outside 203.0.113.2 and 2001:db8:f::2; the outside knows no route to any container.
final class Laboratory: Sendable {
    static let hostAddress = IPAddress(v4: 203, 0, 113, 1)
    static let outsideAddress = IPAddress(v4: 203, 0, 113, 2)

    let directory: String
    var host: String { directory + "/host" }
    var outside: String { directory + "/outside" }
    let services: TestServices
    private let names = Mutex<[String]>([])

    private init(_ directory: String) {
        self.directory = directory
        services = TestServices(configuration: ["host-namespace": directory + "/host"], directory: directory)
    }

    /// Runs a test in a laboratory of its own, and takes it down whatever happens.
    static func run(_ body: (Laboratory) async throws -> Void) async throws {
        var template = Array("/run/apus-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ApusError(.failed, "mkdtemp: errno \(errno)") }
        let laboratory = Laboratory(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        do {
            try await laboratory.build()
            try await body(laboratory)
        } catch {
            laboratory.tearDown()
            throw error
        }
        laboratory.tearDown()
    }

    /// A namespace without anything but loopback.
    func makeNamespace(_ name: String) throws -> String {
        let path = "\(directory)/\(name)"
        try NetworkNamespaces.create(path: path)
        names.withLock { $0.append(path) }
        return path
    }

    private func build() async throws {
        _ = try makeNamespace("host")
        _ = try makeNamespace("outside")
        let outside = outside
        try await NetworkNamespaces.run(in: host) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            let descriptor = open(outside, O_RDONLY | O_CLOEXEC)
            defer { close(descriptor) }
            var pair = VethPair(name: "wan0", peerName: "eth0")
            pair.peerNamespace = descriptor
            try netlink.createVethPair(pair)
            try Self.configure(netlink, "wan0", "203.0.113.1/24", "2001:db8:f::1/64")
        }
        try await NetworkNamespaces.run(in: outside) { () throws(ApusError) in
            try Self.configure(try NetlinkSocket(), "eth0", "203.0.113.2/24", "2001:db8:f::2/64")
        }
    }

    private static func configure(_ netlink: NetlinkSocket, _ name: String, _ addresses: String...) throws(ApusError) {
        guard let link = try netlink.link(named: name) else { throw ApusError(.notFound, name) }
        for text in addresses {
            guard let prefix = IPPrefix(text) else { throw ApusError(.invalidArgument, text) }
            try netlink.addAddress(prefix, toLinkAt: link.index)
        }
        try netlink.change(linkAt: link.index, LinkChange(isUp: true))
    }

    private func tearDown() {
        for path in names.withLock({ $0 }) {
            do { try NetworkNamespaces.remove(path: path) } catch { print("left behind: \(error)") }
        }
        rmdir(directory)
    }
}

/// The host's services for a plugin under test; keeps what is logged.
final class TestServices: HostServices {
    let engineVersion = "0.1.0"
    let configuration: [String: String]
    let stateDirectory: String
    let runDirectory: String
    private let lines = Mutex<[(LogLevel, String)]>([])

    init(configuration: [String: String], directory: String) {
        self.configuration = configuration
        stateDirectory = directory
        runDirectory = directory
    }

    func log(_ level: LogLevel, _ message: String) { lines.withLock { $0.append((level, message)) } }
    func count(_ counter: String, by amount: Int) {}
    func messages(_ level: LogLevel) -> [String] { lines.withLock { $0.filter { $0.0 == level }.map(\.1) } }
}

/// Asks again until the condition holds; `false` after ten seconds.
func eventually(_ condition: () async throws -> Bool) async rethrows -> Bool {
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(10) {
        if try await condition() { return true }
        try? await ConcurrentTask.sleep(for: .milliseconds(20))
    }
    return false
}
