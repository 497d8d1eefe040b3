import Allocation
import Fuzzing
import Orchestration
import PluginAPI
import SchedulerSpread
import Testing

/// Whatever happens, no address is given twice, and none is lost.
@Suite struct NetworkChaosTests {
    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func noAddressIsGivenTwiceOrLost(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var swarm = Simulation(nodes: (1...3).map { makeNode("n\($0)") }, seed: seed)
        swarm.stopTime = .milliseconds(600)
        swarm.makeSwarm(pools: ["10.0.0.0/14"])
        swarm.makeNetwork("small", subnet: "10.99.0.0/28")
        swarm.makeNetwork("wide") {
            $0.ipv6 = true
            $0.attachable = true
        }
        swarm.losses = SplitMix64(seed: seed &+ 1000)
        var count = 0
        for _ in 0..<150 {
            count += 1
            step(&swarm, &generator, count)
            if Bool.random(using: &generator) {
                swarm.advance(.milliseconds(Int.random(in: 0...2000, using: &generator)))
            } else {
                swarm.reconcile()
                _ = swarm.stepNodes()
            }
            check(swarm, seed)
        }
        swarm.silent = []
        swarm.losses = nil
        for node in swarm.state.allNodes { swarm.updateNode(node.id) { $0.status.state = .ready } }
        for service in swarm.state.allServices { swarm.update(service.id) { $0.mode.replicated?.replicas = 1 } }
        swarm.advance(.seconds(120))
        check(swarm, seed)
        checkOrder(swarm, seed)
        // When all are gone, nothing is held any more but by the nodes.
        for service in swarm.state.services.keys { swarm.change { try? $0.removeService(service) } }
        for task in swarm.state.tasks.values where task.serviceID.isEmpty { swarm.change { try? $0.removeTask(task.id) } }
        swarm.advance(.seconds(30))
        let book = book(swarm)
        for network in swarm.state.allNetworks {
            let expected = network.spec.ingress ? swarm.state.nodes.count * network.addressPools.count : 0
            #expect(book.inUse(in: network.id).count == expected, "seed \(seed): \(network.spec.name) has lost addresses")
        }
    }

    private func book(_ swarm: Simulation) -> NetworkAddresses {
        NetworkAddresses(
            networks: swarm.state.allNetworks, services: swarm.state.allServices, nodes: swarm.state.allNodes, tasks: swarm.state.allTasks)
    }

    private func step(_ swarm: inout Simulation, _ generator: inout SplitMix64, _ count: Int) {
        let service = swarm.state.services.keys.sorted().randomElement(using: &generator)
        let node = swarm.state.nodes.keys.sorted().randomElement(using: &generator)
        func joins() -> [NetworkAttachmentSpec] {
            ["small", "wide"].filter { _ in Bool.random(using: &generator) }.map { makeJoin($0) }
        }
        switch Int.random(in: 0..<14, using: &generator) {
        case 0, 1:
            guard swarm.state.services.count < 5 else { return }
            let networks = joins()
            let replicas: UInt64? = Int.random(in: 0..<4, using: &generator) == 0 ? nil : UInt64.random(in: 0...6, using: &generator)
            let ports = Bool.random(using: &generator)
            swarm.add(
                makeSpec("s\(count)", replicas: replicas) {
                    $0.task.networks = networks
                    $0.task.restartPolicy = makeRestart(delay: .milliseconds(500))
                    if ports { $0.endpoint = makeEndpoint(makePort(80)) }
                })
        case 2:
            if let service { swarm.change { try? $0.removeService(service) } }
        case 3, 4:
            let replicas = UInt64.random(in: 0...9, using: &generator)
            if let service { swarm.update(service) { $0.mode.replicated?.replicas = replicas } }
        case 5:
            let networks = joins()
            if let service { swarm.update(service) { $0.task.networks = networks } }
        case 6:
            guard let service else { return }
            let mode: EndpointMode = Bool.random(using: &generator) ? .dnsRoundRobin : .vip
            let ports = Bool.random(using: &generator)
            swarm.update(service) {
                $0.endpoint = mode == .vip && ports ? makeEndpoint(makePort(80)) : EndpointSpec()
                $0.endpoint?.mode = mode
            }
        case 7:
            guard let node else { return }
            let now = swarm.now
            swarm.silent.insert(node)
            swarm.updateNode(node) {
                $0.status.state = .down
                $0.status.since = now
            }
        case 8:
            guard let node else { return }
            swarm.silent.remove(node)
            swarm.updateNode(node) { $0.status.state = .ready }
        case 9:
            if swarm.state.nodes.count > 2, let node {
                swarm.change { $0.removeNode(node) }
            } else {
                swarm.change { $0.put(makeNode("m\(count)")) }
            }
        case 10:
            swarm.restartManager(seed: UInt64.random(in: 0 ... .max, using: &generator))
        case 11:
            guard let network = swarm.state.network("wide"), let node else { return }
            let wish = AttachmentDraft.Wish(networkID: network.id, nodeID: node, containerID: ID("c\(count)"), name: "c\(count)")
            let task = AttachmentDraft.create(wish, in: network, id: ID("a\(count)"))
            swarm.change { try? $0.create(task) }
        case 12:
            guard let place = swarm.state.tasks.values.filter({ $0.serviceID.isEmpty }).map(\.id).min() else { return }
            swarm.change { try? $0.removeTask(place) }
        default:
            guard let service, let victim = swarm.running(service).randomElement(using: &generator) else { return }
            swarm.end(victim, .failed)
        }
    }

    /// What holds at every moment.
    private func check(_ swarm: Simulation, _ seed: UInt64) {
        var holders: [ID: [String: String]] = [:]
        func hold(_ network: ID, _ addresses: [String], _ holder: String) {
            guard let object = swarm.state.networks[network] else { return }
            for address in addresses {
                let other = holders[network, default: [:]].updateValue(holder, forKey: address)
                #expect(other == nil, "seed \(seed): \(address) of \(object.spec.name) is \(holder)'s and \(other ?? "")'s")
                let isGateway = object.ipam?.configs.contains { $0.gateway == IPPrefix(address)?.address.description } ?? false
                #expect(!isGateway, "seed \(seed): \(holder) has the gateway's address")
                #expect(object.subnets.contains { $0.contains(IPPrefix(address)?.address ?? IPAddress(v4: 0, 0, 0, 0)) })
            }
        }
        for service in swarm.state.allServices {
            for virtual in service.endpoint.virtualIPs { hold(virtual.networkID, [virtual.address], "service \(service.id)") }
        }
        for node in swarm.state.allNodes { hold("ingress-id", node.meshAddresses, "node \(node.id)") }
        for task in swarm.state.allTasks where task.holdsAddresses {
            for place in task.networks { hold(place.network.id, place.addresses, "task \(task.id)") }
            let mayRun = task.status.state >= .assigned
            #expect(!mayRun || task.networks.allSatisfy { !$0.addresses.isEmpty }, "seed \(seed): task \(task.id) has a node and no address")
        }
    }

    /// What holds when everything is well again.
    private func checkOrder(_ swarm: Simulation, _ seed: UInt64) {
        for node in swarm.state.allNodes { #expect(node.meshAddresses.count == 2, "seed \(seed): \(node.id) is not in the mesh") }
        for service in swarm.state.allServices {
            let hasPorts = service.spec.endpoint?.ports.isEmpty == false
            let joined = Set(service.spec.task.networks.map(\.target))
            let expected = joined.union(hasPorts ? ["ingress"] : [])
            let virtual = Set(service.endpoint.virtualIPs.compactMap { swarm.state.networks[$0.networkID]?.spec.name })
            #expect(virtual == (service.spec.endpoint?.mode == .dnsRoundRobin ? [] : expected), "seed \(seed): \(service.id)")
            #expect(!swarm.running(service.id).isEmpty, "seed \(seed): \(service.id) does not run")
            for task in swarm.running(service.id) {
                let names = Set(task.networks.map(\.network.spec.name))
                #expect(names.isSuperset(of: expected) && names.subtracting(["ingress"]) == joined, "seed \(seed): \(task.id) of \(service.id) is in \(names)")
            }
        }
        for task in swarm.state.tasks.values where task.serviceID.isEmpty {
            #expect(task.status.state == .running && swarm.state.nodes[task.nodeID] != nil, "seed \(seed): the place \(task.id)")
        }
    }
}
