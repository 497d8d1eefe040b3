import Names
import PluginAPI
import Synchronization

@testable import Agent

/// Remembers what is attached, and fails when told to.
final class FakeNetwork: NetworkDriver {
    struct State {
        var networks: Set<ID> = []
        var attached: [ID: AttachRequest] = [:]
        var attachFailures: [ApusError] = []
        var removeFailures: [ApusError] = []
        var attaches = 0
        var made: [ID: LocalNetwork] = [:]
        var peers: [ID: [NetworkPeer]] = [:]
        var surroundings: NetworkSurroundings?
    }

    let scope: NetworkScope

    init(scope: NetworkScope = .local) { self.scope = scope }

    let state = Mutex(State())

    func create(_ network: LocalNetwork) async throws(ApusError) {
        state.withLock { state in
            state.networks.insert(network.id)
            state.made[network.id] = network
        }
    }

    func remove(_ network: LocalNetwork) async throws(ApusError) {
        let failure: ApusError? = state.withLock { state in
            if !state.removeFailures.isEmpty { return state.removeFailures.removeFirst() }
            state.networks.remove(network.id)
            state.peers[network.id] = nil
            return nil
        }
        if let failure { throw failure }
    }

    func setPeers(_ request: PeersRequest) async throws(ApusError) { state.withLock { $0.peers[request.network.id] = request.peers } }
    func setSurroundings(_ surroundings: NetworkSurroundings) async throws(ApusError) { state.withLock { $0.surroundings = surroundings } }

    func attach(_ request: AttachRequest) async throws(ApusError) -> AttachAnswer {
        let failure: ApusError? = state.withLock { state in
            state.attaches += 1
            if !state.attachFailures.isEmpty { return state.attachFailures.removeFirst() }
            state.attached[request.containerID] = request
            return nil
        }
        if let failure { throw failure }
        return AttachAnswer(hostInterface: "veth", mtu: 1500)
    }

    func detach(_ request: DetachRequest) async throws(ApusError) { state.withLock { $0.attached[request.containerID] = nil } }
}

/// Remembers the names.
final class FakeNames: NameService {
    let state = Mutex(NameState())
    func apply(_ new: NameState) async -> [String: ApusError] {
        state.withLock { $0 = new }
        return [:]
    }
}

/// Remembers what was applied.
final class FakeBalancer: LoadBalancer {
    struct State {
        var applied: [BalancerState] = []
        var failures: [ApusError] = []
        var gate: Gate?
    }

    let state = Mutex(State())

    var last: BalancerState { state.withLock { $0.applied.last } ?? BalancerState() }
    func backends(_ port: UInt16) -> Int? { last.ports.first { $0.port == port }?.backends.count }

    func probe() async throws(ApusError) {}

    func apply(_ new: BalancerState) async throws(ApusError) {
        let (gate, failure): (Gate?, ApusError?) = state.withLock { state in
            (state.gate, state.failures.isEmpty ? nil : state.failures.removeFirst())
        }
        if let gate { await gate.pass() }
        if let failure { throw failure }
        state.withLock { $0.applied.append(new) }
    }
}

/// Namespaces that are words in a set.
final class FakeSandboxes: SandboxProvider {
    let paths = Mutex<Set<String>>([])
    func create(path: String) async throws(ApusError) { _ = paths.withLock { $0.insert(path) } }
    func remove(path: String) async throws(ApusError) { _ = paths.withLock { $0.remove(path) } }
}
