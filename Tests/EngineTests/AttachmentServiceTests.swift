import Files
import Glibc
import Logging
import Orchestration
import PluginAPI
import Store
import Testing
import Wire

@testable import Swarm

/// Places of containers in attachable networks, on the real store with a manager at work; no engine is started.
@Suite struct AttachmentServiceTests {
    /// Places need none.
    private final class Idle: Scheduler {
        func apply(_ changes: [SchedulingChange]) {}
        func schedule(_ request: ScheduleRequest) -> ScheduleAnswer { ScheduleAnswer() }
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func network(_ name: String, subnet: String, attachable: Bool) -> NetworkSpec {
        var pool = IPAMPool()
        pool.subnet = subnet
        var spec = NetworkSpec()
        spec.name = name
        spec.attachable = attachable
        spec.ipam = IPAMConfig()
        spec.ipam?.configs = [pool]
        return spec
    }

    private func withService(_ body: (AttachmentService) async throws -> Void) async throws {
        var template = Array("/tmp/apus-attachments-XXXXXX".utf8CString)
        let path = template.withUnsafeMutableBufferPointer { buffer in buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } }
        let directory = try #require(path)
        defer { try? Files.removeTree(directory) }
        let store = try await ObjectStore.open(StoreConfiguration(directory: "\(directory)/raft", logger: Self.logger))
        let manager = Manager(store: store, scheduler: { Idle() }, logger: Self.logger)
        let work = ConcurrentTask { await manager.run() }
        let specs = [network("open", subnet: "10.88.0.0/29", attachable: true), network("closed", subnet: "10.89.0.0/24", attachable: false)]
        try await store.update { transaction throws(ApusError) in
            for name in ["n1", "n2"] {
                var node = Node()
                node.id = ID(name)
                try transaction.create(.node(node))
            }
            for spec in specs { try transaction.create(.network(try NetworkDraft.create(spec, in: transaction))) }
        }
        let result: Result<Void, any Error>
        do { result = .success(try await body(AttachmentService(store: store))) } catch { result = .failure(error) }
        work.cancel()
        await work.value
        await store.close()
        try result.get()
    }

    private func request(_ container: String, in network: String = "open", address: String = "", aliases: [String] = []) -> AttachNetworkRequest {
        var request = AttachNetworkRequest()
        request.network = network
        request.containerID = ID(container)
        request.containerName = "name-\(container)"
        request.address = address
        request.aliases = aliases
        return request
    }

    private func refusal(_ body: () async throws(ApusError) -> Void) async -> ApusError.Code? {
        do throws(ApusError) {
            try await body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test func placesAreGivenOnceAndTakenBack() async throws {
        try await withService { service in
            let first = try await service.attach(request("c1", aliases: ["db"]), of: "n1")
            #expect(first.networks.first?.addresses == ["10.88.0.2/29"] && first.networks.first?.aliases == ["db"])
            #expect(first.serviceName == "name-c1" && first.nodeID == "n1" && first.status.container?.containerID == "c1")
            #expect(try await service.attach(request("c1"), of: "n1").id == first.id, "asked again it is the same place")
            let other = try await service.attach(request("c1"), of: "n2")
            #expect(other.id != first.id && other.networks.first?.addresses == ["10.88.0.3/29"], "another node's is another container")
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c2", address: "10.88.0.3"), of: "n1") } == .conflict)
            #expect(try await service.attach(request("c2", address: "10.88.0.6"), of: "n1").networks.first?.addresses == ["10.88.0.6/29"])
            for container in ["c3", "c4"] { _ = try await service.attach(request(container), of: "n1") }
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c5"), of: "n1") } == .conflict, "the network is full")
            #expect(await refusal { () throws(ApusError) in try await service.detach(first.id, of: "n2") } == .permissionDenied)
            try await service.detach(first.id, of: "n1")
            try await service.detach(first.id, of: "n1")
            #expect(try await service.attach(request("c5"), of: "n1").networks.first?.addresses == ["10.88.0.2/29"])
            #expect(service.store.read().tasks.values.count { $0.status.state != .running } == 0, "a refused place is gone")
        }
    }

    @Test func whatIsRefused() async throws {
        try await withService { service in
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c", in: "closed"), of: "n1") } == .permissionDenied)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c", in: "nowhere"), of: "n1") } == .notFound)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c"), of: "stranger") } == .permissionDenied)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c", address: "10.90.0.1"), of: "n1") } == .invalidArgument)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c", address: "x"), of: "n1") } == .invalidArgument)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request("c", aliases: ["a b"]), of: "n1") } == .invalidArgument)
            #expect(await refusal { () throws(ApusError) in _ = try await service.attach(request(""), of: "n1") } == .invalidArgument)
            #expect(service.store.read().tasks.values.isEmpty)
        }
    }
}
