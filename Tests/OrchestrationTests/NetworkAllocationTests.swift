import Allocation
import PluginAPI
import SchedulerSpread
import Testing

@testable import Orchestration

/// Addresses of services, tasks and nodes, as the swarm gives them.
@Suite struct NetworkAllocationTests {
    private func addresses(_ task: Task, in network: ID) -> [String] {
        task.networks.first { $0.network.id == network }?.addresses ?? []
    }

    @Test func servicesTasksAndNodesGetAddresses() throws {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        swarm.makeSwarm()
        let lan = swarm.makeNetwork("lan")
        let web = swarm.add(
            makeSpec("web", replicas: 3) {
                $0.task.networks = [makeJoin("lan", aliases: ["www"])]
                $0.endpoint = makeEndpoint(makePort(80, 80))
            })
        swarm.settle()
        #expect(swarm.running(web).count == 3)
        let service = swarm.service(web)
        #expect(service.endpoint.virtualIPs.map(\.networkID) == ["ingress-id", "ingress-id", "lan-id"])
        #expect(service.endpoint.virtualIPs.last?.address == "10.1.0.2/24")
        #expect(Set(swarm.running(web).map { addresses($0, in: lan.id) }) == [["10.1.0.3/24"], ["10.1.0.4/24"], ["10.1.0.5/24"]])
        for task in swarm.running(web) {
            let place = try #require(task.networks.first)
            #expect(place.aliases == ["www"] && place.network.spec.name == "lan" && place.network.driver.name == "overlay" && place.network.vni == 0)
            #expect(place.network.ipam == nil && place.network.createdAt == .never)
            let mesh = addresses(task, in: "ingress-id")
            #expect(mesh.count == 2 && mesh[0].hasPrefix("10.0.0.") && mesh[0].hasSuffix("/16"))
            #expect(task.networks.last?.network.spec.ingress == true)
        }
        let nodes = swarm.state.allNodes.map(\.meshAddresses)
        #expect(Set(nodes.map(\.first)) == ["10.0.0.2/16", "10.0.0.3/16"])
        for addresses in nodes {
            let pair = addresses.compactMap { IPPrefix($0)?.address }
            #expect(pair.count == 2 && pair[0].bytes.suffix(2) == pair[1].bytes.suffix(2), "the same host part in both families")
        }
        let plans = swarm.planCount
        swarm.settle()
        #expect(swarm.planCount == plans)
    }

    @Test func virtualAddressesStayAndAreGivenBack() {
        var swarm = Simulation()
        swarm.makeSwarm()
        swarm.makeNetwork("one")
        swarm.makeNetwork("two")
        let web = swarm.add(makeSpec("web") { $0.networks = [makeJoin("one")] })
        swarm.settle()
        let first = swarm.service(web).endpoint.virtualIPs
        let task = swarm.running(web).map(\.id)
        swarm.update(web) { $0.networks = [makeJoin("one"), makeJoin("two")] }
        swarm.advance(.seconds(30))
        #expect(swarm.service(web).endpoint.virtualIPs.map(\.networkID) == ["one-id", "two-id"])
        #expect(swarm.service(web).endpoint.virtualIPs.first == first.first)
        #expect(swarm.running(web).count == 1 && swarm.running(web).map(\.id) != task, "another network is another task")
        #expect(swarm.running(web).first?.networks.map(\.network.id) == ["one-id", "two-id"])
        swarm.update(web) { $0.networks = [makeJoin("two")] }
        swarm.advance(.seconds(30))
        #expect(swarm.service(web).endpoint.virtualIPs.map(\.networkID) == ["two-id"])
        let stays = swarm.running(web).map(\.id)
        swarm.update(web) {
            $0.endpoint = EndpointSpec()
            $0.endpoint?.mode = .dnsRoundRobin
        }
        swarm.advance(.seconds(30))
        #expect(swarm.service(web).endpoint.virtualIPs.isEmpty)
        #expect(swarm.running(web).map(\.id) == stays)
    }

    @Test func aFullSubnetIsSaidAndHealsByItself() {
        var swarm = Simulation()
        swarm.makeSwarm()
        // Six hosts: the gateway, the virtual address, four tasks.
        let lan = swarm.makeNetwork("lan", subnet: "10.99.0.0/29")
        let web = swarm.add(makeSpec("web", replicas: 6) { $0.task.networks = [makeJoin("lan")] })
        swarm.advance(.seconds(5))
        #expect(swarm.running(web).count == 4)
        let waiting = swarm.tasks(web).filter { $0.status.state == .pending }
        #expect(waiting.count == 2)
        #expect(waiting.allSatisfy { $0.status.error == "the network lan has no free address left in 10.99.0.0/29" })
        let late = swarm.add(makeSpec("late") { $0.task.networks = [makeJoin("lan")] })
        swarm.advance(.seconds(5))
        #expect(swarm.tasks(late).map(\.status.error) == ["the network lan has no free address left in 10.99.0.0/29"])
        #expect(swarm.service(late).endpoint.virtualIPs.isEmpty)
        let plans = swarm.planCount
        swarm.advance(.seconds(10))
        #expect(swarm.planCount == plans, "waiting is no work")
        swarm.update(web) { $0.mode.replicated?.replicas = 2 }
        swarm.advance(.seconds(5))
        #expect(swarm.running(web).count == 2 && swarm.running(late).count == 1)
        #expect(swarm.service(late).endpoint.virtualIPs.count == 1)
        let given = (swarm.running(web) + swarm.running(late)).flatMap { addresses($0, in: lan.id) }
        #expect(Set(given).count == 3)
    }

    @Test func addressesRest() {
        var swarm = Simulation()
        swarm.makeSwarm()
        let lan = swarm.makeNetwork("lan")
        let web = swarm.add(
            makeSpec("web") {
                $0.task.networks = [makeJoin("lan")]
                $0.task.restartPolicy = makeRestart(delay: .zero)
            })
        var seen: [String] = []
        for _ in 0..<20 {
            swarm.advance(.seconds(1))
            guard let task = swarm.running(web).first else { continue }
            seen += addresses(task, in: lan.id)
            swarm.end(task)
        }
        #expect(seen.count > 10 && Set(seen).count == seen.count, "each one is given once before one comes again: \(seen)")
    }

    @Test func aDownNodeKeepsItsAddressesUntilItsTasksAreGivenUp() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        swarm.makeSwarm()
        let lan = swarm.makeNetwork("lan", subnet: "10.99.0.0/29")
        let web = swarm.add(makeSpec("web", replicas: 2) { $0.task.networks = [makeJoin("lan")] })
        swarm.settle()
        let lost = swarm.running(web).filter { $0.nodeID == "n2" }
        swarm.silent = ["n2"]
        let now = swarm.now
        swarm.updateNode("n2") {
            $0.status.state = .down
            $0.status.since = now
        }
        swarm.advance(.seconds(30))
        #expect(swarm.running(web).count == 2)
        let held = Set(lost.flatMap { addresses($0, in: lan.id) })
        #expect(held.isDisjoint(with: swarm.running(web).filter { $0.nodeID == "n1" }.flatMap { addresses($0, in: lan.id) }))
        swarm.update(web) { $0.mode.replicated?.replicas = 4 }
        swarm.advance(.seconds(30))
        #expect(swarm.running(web).count(where: { $0.nodeID == "n1" }) == 3, "the fourth waits for the address of the lost task")
        swarm.now = swarm.now + .seconds(24 * 3600)
        swarm.advance(.seconds(30))
        #expect(swarm.running(web).count(where: { $0.nodeID == "n1" }) == 4)
    }

    @Test func nodesWithoutTheDriverAreAvoided() {
        var able = makeNode("able")
        var plugin = EnginePlugin()
        (plugin.type, plugin.name) = ("Network", "wires")
        able.description.engine.plugins = [plugin]
        var swarm = Simulation(nodes: [able, makeNode("unable")])
        swarm.makeSwarm()
        swarm.makeNetwork("lan") {
            $0.driver = NetworkDriverState()
            $0.driver?.name = "wires"
        }
        let web = swarm.add(makeSpec("web", replicas: 3) { $0.task.networks = [makeJoin("lan")] })
        swarm.settle()
        #expect(swarm.perNode(web) == ["able": 3])
        swarm.updateNode("able") { $0.spec.availability = .drain }
        swarm.advance(.seconds(130))
        #expect(swarm.tasks(web).contains { $0.status.error.contains("1 without the network plugin \"wires\"") })
    }

    @Test func aFirstPublishedPortReplacesTasksAndOthersDoNot() {
        var swarm = Simulation()
        swarm.makeSwarm()
        let web = swarm.add(makeSpec("web"))
        swarm.settle()
        let before = swarm.running(web).map(\.id)
        swarm.update(web) { $0.endpoint = makeEndpoint(makePort(80, 80)) }
        swarm.advance(.seconds(30))
        let after = swarm.running(web).map(\.id)
        #expect(after != before && after.count == 1)
        #expect(swarm.running(web).first.map { addresses($0, in: "ingress-id").count } == 2)
        swarm.update(web) { $0.endpoint = makeEndpoint(makePort(80, 80), makePort(81, 81)) }
        swarm.advance(.seconds(30))
        swarm.update(web) { $0.endpoint = nil }
        swarm.advance(.seconds(30))
        #expect(swarm.running(web).map(\.id) == after)
        #expect(swarm.service(web).endpoint.virtualIPs.isEmpty)
    }

    @Test func anotherIngressNetworkAddressesTheNodesAnew() throws {
        var swarm = Simulation()
        swarm.makeSwarm()
        swarm.settle()
        #expect(swarm.state.nodes["n1"]?.meshAddresses.first == "10.0.0.2/16")
        let ingress = try #require(swarm.state.ingressNetwork)
        swarm.change { try? $0.removeNetwork(ingress.id) }
        swarm.settle()
        #expect(swarm.state.nodes["n1"]?.meshAddresses == [])
        swarm.makeNetwork("mesh", subnet: "10.77.0.0/24") { $0.ingress = true }
        swarm.change { $0.put(makeNode("n2")) }
        swarm.settle()
        #expect(Set(swarm.state.allNodes.compactMap(\.meshAddresses.first)) == ["10.77.0.2/24", "10.77.0.3/24"])
        let web = swarm.add(makeSpec("web") { $0.endpoint = makeEndpoint(makePort(80, 80)) })
        swarm.settle()
        #expect(swarm.running(web).first?.networks.map(\.network.id) == ["mesh-id"])
    }

    @Test func aFullIngressNetworkLeavesANodeOutUntilThereIsRoom() {
        var swarm = Simulation(nodes: [makeNode("n1"), makeNode("n2")])
        // Five addresses: two nodes, the virtual one, two tasks.
        swarm.makeNetwork("mesh", subnet: "10.77.0.0/29") { $0.ingress = true }
        let web = swarm.add(makeSpec("web", replicas: 2) { $0.endpoint = makeEndpoint(makePort(80, 80)) })
        swarm.settle()
        #expect(swarm.running(web).count == 2)
        swarm.change { $0.put(makeNode("n3")) }
        swarm.advance(.seconds(5))
        #expect(swarm.state.nodes["n3"]?.meshAddresses == [])
        swarm.update(web) { $0.mode.replicated?.replicas = 1 }
        swarm.advance(.seconds(5))
        #expect(swarm.state.nodes["n3"]?.meshAddresses.count == 2)
    }

    @Test func keysOfEncryptedNetworksChange() {
        var swarm = Simulation()
        swarm.makeSwarm()
        swarm.makeNetwork("plain")
        swarm.settle()
        #expect(swarm.state.cluster?.networkKeys.isEmpty == true)
        swarm.makeNetwork("secret") {
            $0.driver = NetworkDriverState()
            $0.driver?.options = ["encrypted": ""]
        }
        swarm.settle()
        #expect(swarm.state.cluster?.networkKeys.map(\.number) == [1])
        #expect(swarm.state.cluster?.networkKeys.first?.key.count == 16)
        for round in 2...5 as ClosedRange<UInt64> {
            swarm.now = swarm.now + .seconds(12 * 3600 - 1)
            swarm.settle()
            #expect(swarm.state.cluster?.networkKeys.last?.number == round - 1)
            swarm.restartManager()
            swarm.now = swarm.now + .seconds(1)
            swarm.settle()
            #expect(swarm.state.cluster?.networkKeys.last?.number == round)
        }
        #expect(swarm.state.cluster?.networkKeys.map(\.number) == [3, 4, 5])
        #expect(Set(swarm.state.cluster?.networkKeys.map(\.key) ?? []).count == 3)
    }

    // MARK: Containers

    private func attach(_ swarm: inout Simulation, _ id: ID, _ network: Network, node: ID = "n1", wanted: String = "") {
        let task = AttachmentDraft.create(
            AttachmentDraft.Wish(networkID: network.id, nodeID: node, containerID: ID("container-\(id)"), name: "box", aliases: ["b"], address: wanted),
            in: network, id: id)
        swarm.change { try? $0.create(task) }
        swarm.settle()
    }

    @Test func containersGetPlaces() throws {
        var swarm = Simulation()
        swarm.makeSwarm()
        let lan = swarm.makeNetwork("lan", subnet: "10.99.0.0/29") { $0.attachable = true }
        attach(&swarm, "a1", lan)
        let place = try #require(swarm.state.tasks["a1"])
        #expect(place.status.state == .running && addresses(place, in: lan.id) == ["10.99.0.2/29"] && place.networks.first?.aliases == ["b"])
        attach(&swarm, "a2", lan, wanted: "10.99.0.6")
        #expect(swarm.state.tasks["a2"].map { addresses($0, in: lan.id) } == ["10.99.0.6/29"])
        attach(&swarm, "a3", lan, wanted: "10.99.0.6")
        #expect(swarm.state.tasks["a3"]?.status.error == "the address 10.99.0.6 in the network lan is in use")
        attach(&swarm, "a4", lan, wanted: "10.98.0.6")
        #expect(swarm.state.tasks["a4"]?.status.state == .rejected)
        swarm.restartManager()
        swarm.advance(.seconds(61))
        #expect(swarm.state.tasks.keys.sorted() == ["a1", "a2"], "refusals are forgotten, places are not")
        swarm.change { try? $0.removeTask("a2") }
        attach(&swarm, "a5", lan, wanted: "10.99.0.6")
        #expect(swarm.state.tasks["a5"]?.status.state == .running)
        swarm.change { $0.removeNode("n1") }
        swarm.settle()
        #expect(swarm.state.tasks.isEmpty)
    }
}
