import Coding
import HTTPClient
import PluginAPI
import Synchronization
import Testing

/// What a user does with the swarm, by way of the Engine API.
extension ClusterHarness {
    func initialize(_ node: ClusterNode) async throws {
        try await node.json("POST", "/swarm/init", ["ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": .string(node.address)])
    }

    /// The body of a join.
    func joining(_ node: ClusterNode, token: String, through managers: [ClusterNode]? = nil) -> JSONValue {
        [
            "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": .string(node.address), "JoinToken": .string(token),
            "RemoteAddrs": JSONValue((managers ?? [self[1]]).map { "\($0.address):2377" }),
        ]
    }

    func join(_ node: ClusterNode, as role: NodeRole, through manager: ClusterNode? = nil) async throws {
        let manager = manager ?? self[1]
        try await node.json("POST", "/swarm/join", joining(node, token: try await token(role, from: manager), through: [manager]))
    }

    func token(_ role: NodeRole, from manager: ClusterNode? = nil) async throws -> String {
        let tokens = try await (manager ?? self[1]).get("/swarm")["JoinTokens"]
        return try #require(tokens?[role == .manager ? "Manager" : "Worker"]?.string)
    }

    /// Hands in a changed spec of the swarm, read and written until nobody else writes between.
    func updateSwarm(_ query: String = "", on manager: ClusterNode? = nil, _ change: (inout JSONValue) -> Void = { _ in }) async throws {
        let manager = manager ?? self[1]
        var answer = ""
        try await eventually("the swarm is updated", { answer }) {
            let swarm = try await manager.get("/swarm")
            var spec = try #require(swarm["Spec"])
            change(&spec)
            let version = try #require(swarm["Version"]?["Index"]?.integer)
            let response = try await manager.send("POST", "/swarm/update?version=\(version)\(query)", spec)
            answer = response.text
            guard response.status == 200 || Self.isSequence(response) else { throw EngineFailure("the swarm's update answered \(response.status): \(answer)") }
            return response.status == 200
        }
    }

    /// Hands in a node's changed spec.
    func updateNode(_ id: String, on manager: ClusterNode, _ change: (inout JSONValue) -> Void) async throws {
        var answer = ""
        try await eventually("the node \(id) is updated", { answer }) {
            let node = try await manager.get("/nodes/\(id)")
            var spec = try #require(node["Spec"])
            change(&spec)
            let version = try #require(node["Version"]?["Index"]?.integer)
            let response = try await manager.send("POST", "/nodes/\(id)/update?version=\(version)", spec)
            answer = response.text
            guard response.status == 200 || Self.isSequence(response) else { throw EngineFailure("the node's update answered \(response.status): \(answer)") }
            return response.status == 200
        }
    }

    private static func isSequence(_ response: HTTPResponse) -> Bool { response.text.contains("out of sequence") }

    func setRole(_ node: ClusterNode, _ role: NodeRole, on manager: ClusterNode) async throws {
        try await updateNode(try await node.id, on: manager) { $0["Role"] = .string(role.rawValue) }
    }

    /// What a manager says of the nodes, by their id.
    func nodeList(on manager: ClusterNode, stale: Bool = false) async throws -> [String: JSONValue] {
        let nodes = try await manager.get(stale ? "/nodes?stale=1" : "/nodes").array ?? []
        return Dictionary(nodes.compactMap { node in node["ID"]?.string.map { ($0, node) } }) { $1 }
    }

    /// The engine that leads, by what these managers say in agreement with it.
    func leader(among managers: [ClusterNode]? = nil) async throws -> ClusterNode {
        var found: ClusterNode?
        let candidates = (managers ?? nodes).filter(\.isRunning)
        try await eventually("there is a leader", { self.tails(of: candidates) }) {
            for node in candidates {
                guard let list = try? await node.send("GET", "/nodes", timeout: .seconds(5)), list.status == 200,
                    let leading = try JSONValue.parse(list.body).array?.first(where: { $0["ManagerStatus"]?["Leader"]?.bool == true }),
                    let address = leading["ManagerStatus"]?["Addr"]?.string
                else { continue }
                found = candidates.first { "\($0.address):2377" == address }
                if found != nil { return true }
            }
            return false
        }
        return try #require(found)
    }

    func tails(of nodes: [ClusterNode]) -> String {
        nodes.map { "\n-- engine \($0.index)\($0.logTail(6))" }.joined()
    }

    /// Waits until each of these managers shows so many nodes ready.
    func waitForNodes(ready count: Int, on managers: [ClusterNode]) async throws {
        for manager in managers {
            try await eventually("engine \(manager.index) shows \(count) ready nodes", { await self.describe(manager) }) {
                guard let list = try? await nodeList(on: manager) else { return false }
                return list.values.count { $0["Status"]?["State"]?.string == "ready" } == count
            }
        }
    }

    func describe(_ manager: ClusterNode) async -> String {
        let nodes = (try? await manager.send("GET", "/nodes?stale=1", timeout: .seconds(5)).text) ?? "no answer"
        return nodes + tails(of: self.nodes)
    }
}

/// Which writes were acknowledged.
final class Ledger: Sendable {
    private let names = Mutex<(next: Int, acknowledged: [String])>((0, []))

    var acknowledged: [String] { names.withLock { $0.acknowledged } }

    func next() -> String {
        names.withLock { names in
            names.next += 1
            return "write-\(names.next)"
        }
    }

    func acknowledge(_ name: String) { names.withLock { $0.acknowledged.append(name) } }
}

/// Writes, and that none that was acknowledged is lost.
extension ClusterHarness {
    /// One write, counted when it is acknowledged; its answer.
    @discardableResult
    func write(on node: ClusterNode, timeout: Duration = .seconds(10)) async -> HTTPResponse? {
        let name = ledger.next()
        let spec: JSONValue = [
            "Name": .string(name), "Mode": ["Replicated": ["Replicas": 0]], "TaskTemplate": ["ContainerSpec": ["Image": "busybox:latest"]],
        ]
        let answer = try? await node.send("POST", "/services/create", spec, timeout: timeout)
        if answer?.status == 201 { ledger.acknowledge(name) }
        return answer
    }

    /// Writes until one is accepted.
    func writeAccepted(on node: ClusterNode) async throws {
        var last = ""
        try await eventually("engine \(node.index) accepts a write", { last + (await self.describe(node)) }) {
            let answer = await write(on: node, timeout: .seconds(5))
            last = answer?.text ?? "no answer"
            return answer?.status == 201
        }
    }

    /// Runs the body while writers write on each of these managers, one write after the other.
    func whileWriting(_ managers: [ClusterNode], _ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for manager in managers {
                group.addTask {
                    while !ConcurrentTask.isCancelled {
                        await self.write(on: manager, timeout: .seconds(5))
                        try? await ConcurrentTask.sleep(for: .milliseconds(50))
                    }
                }
            }
            defer { group.cancelAll() }
            try await body()
        }
    }

    /// Every acknowledged write is on every one of these managers.
    func checkNothingIsLost(on managers: [ClusterNode], sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let acknowledged = Set(ledger.acknowledged)
        #expect(!acknowledged.isEmpty, "nothing was written", sourceLocation: sourceLocation)
        for manager in managers {
            var services: JSONValue = .null
            try await eventually("engine \(manager.index) lists the services", { await self.describe(manager) }) {
                guard let answer = try? await manager.get("/services") else { return false }
                services = answer
                return true
            }
            let there = Set((services.array ?? []).compactMap { $0["Spec"]?["Name"]?.string })
            #expect(acknowledged.subtracting(there) == [], "engine \(manager.index) lost acknowledged writes", sourceLocation: sourceLocation)
        }
    }
}
