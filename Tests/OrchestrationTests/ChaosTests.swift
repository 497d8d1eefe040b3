import Fuzzing
import Orchestration
import PluginAPI
import SchedulerBinpack
import SchedulerSpread
import Testing

/// Everything at once, at random, from a seed that reproduces it.
@Suite struct ChaosTests {
    @Test(arguments: 1...16 as ClosedRange<UInt64>)
    func comesToOrder(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var swarm = Simulation(nodes: (1...4).map { makeNode("n\($0)") }, seed: seed)
        swarm.stopTime = .milliseconds(700)
        var names = 0
        for _ in 0..<120 {
            step(&swarm, &generator, &names)
            if Bool.random(using: &generator) {
                swarm.advance(.milliseconds(Int.random(in: 0...3000, using: &generator)))
            } else {
                swarm.reconcile()
                _ = swarm.stepNodes()
            }
            check(swarm, seed)
        }
        // Everything is repaired, and given time.
        swarm.silent = []
        for node in swarm.state.allNodes {
            swarm.updateNode(node.id) {
                $0.status.state = .ready
                $0.spec.availability = .active
            }
        }
        swarm.advance(.seconds(240))
        check(swarm, seed)
        checkOrder(swarm, seed)
        // And nothing goes on for ever.
        let plans = swarm.planCount
        swarm.advance(.seconds(30))
        #expect(swarm.planCount == plans, "seed \(seed): the swarm does not rest")
    }

    private func step(_ swarm: inout Simulation, _ generator: inout SplitMix64, _ names: inout Int) {
        let services = swarm.state.services.keys.sorted()
        let nodes = swarm.state.nodes.keys.sorted()
        let service = services.randomElement(using: &generator)
        let node = nodes.randomElement(using: &generator)
        switch Int.random(in: 0..<16, using: &generator) {
        case 0, 1:
            guard services.count < 6 else { return }
            names += 1
            let replicas: UInt64? = Int.random(in: 0..<4, using: &generator) == 0 ? nil : UInt64.random(in: 0...6, using: &generator)
            let order: UpdateOrder = Bool.random(using: &generator) ? .startFirst : .stopFirst
            let parallelism = UInt64.random(in: 0...3, using: &generator)
            swarm.add(
                makeSpec("s\(names)", replicas: replicas) { spec in
                    spec.update = makeUpdate {
                        $0.order = order
                        $0.parallelism = parallelism
                    }
                })
        case 2:
            if let service { swarm.change { try? $0.removeService(service) } }
        case 3, 4:
            let replicas = UInt64.random(in: 0...8, using: &generator)
            if let service { swarm.update(service) { $0.mode.replicated?.replicas = replicas } }
        case 5, 6:
            let image = "steady\(Int.random(in: 1...9, using: &generator))"
            if let service { swarm.update(service) { $0.task.container?.image = image } }
        case 7:
            if let node { swarm.updateNode(node) { $0.spec.availability = .drain } }
        case 8:
            if let node { swarm.updateNode(node) { $0.spec.availability = .active } }
        case 9:
            guard let node else { return }
            swarm.silent.insert(node)
            swarm.updateNode(node) { $0.status.state = .down }
        case 10:
            guard let node else { return }
            swarm.silent.remove(node)
            swarm.updateNode(node) { $0.status.state = .ready }
        case 11:
            if nodes.count > 3, let node {
                swarm.change { $0.removeNode(node) }
            } else {
                swarm.change { $0.put(makeNode("n\(Int.random(in: 5...9, using: &generator))")) }
            }
        case 12:
            swarm.restartManager(scheduler: Bool.random(using: &generator) ? SpreadScheduler() : BinpackScheduler(), seed: seed(&generator))
        default:
            guard let service, let victim = swarm.running(service).randomElement(using: &generator) else { return }
            swarm.end(victim, [TaskState.failed, .complete, .shutdown].randomElement(using: &generator) ?? .failed)
        }
    }

    private func seed(_ generator: inout SplitMix64) -> UInt64 { UInt64.random(in: 0 ... .max, using: &generator) }

    /// What holds at every moment.
    private func check(_ swarm: Simulation, _ seed: UInt64) {
        for service in swarm.state.allServices {
            let order = service.spec.update?.order
            let seats = Dictionary(grouping: swarm.tasks(service.id)) { service.spec.mode.global != nil ? $0.nodeID.text : String($0.slot) }
            for (seat, tasks) in seats {
                let wanted = tasks.filter { $0.desiredState <= .running }
                // A drained node keeps its task until another one runs.
                let isLeaving = wanted.contains { swarm.state.nodes[$0.nodeID]?.spec.availability == .drain }
                #expect(
                    wanted.count <= (order == .startFirst || isLeaving ? 2 : 1), "seed \(seed): \(service.id) has \(wanted.count) living tasks in seat \(seat)")
                if order != .startFirst {
                    // The one exception is a node that cannot be asked, whose tasks are replaced before they end.
                    let started = tasks.filter {
                        [.starting, .running].contains($0.status.state) && swarm.state.nodes[$0.nodeID]?.status.state == .ready
                    }
                    let reachable = started.filter { !swarm.silent.contains($0.nodeID) }
                    let isExcused = isLeaving || tasks.contains { $0.desiredState > .running && !$0.status.state.isTerminal }
                    #expect(reachable.count <= 1 || isExcused, "seed \(seed): \(service.id) runs \(reachable.count) tasks in seat \(seat)")
                }
            }
        }
    }

    /// What holds when everything is well again.
    private func checkOrder(_ swarm: Simulation, _ seed: UInt64) {
        for service in swarm.state.allServices {
            let running = swarm.running(service.id)
            let expected = service.spec.mode.global != nil ? swarm.state.nodes.count : Int(service.spec.mode.replicated?.replicas ?? 1)
            #expect(
                running.count == expected,
                "seed \(seed): \(service.id) runs \(running.count) of \(expected), \(String(describing: service.updateStatus))")
            let seats = running.map { service.spec.mode.global != nil ? $0.nodeID.text : String($0.slot) }
            #expect(Set(seats).count == seats.count, "seed \(seed): two running tasks in one seat")
            if service.updateStatus?.state != .paused {
                #expect(running.allSatisfy { $0.spec == service.spec.task }, "seed \(seed): \(service.id) runs an old spec")
            }
            let all = Dictionary(grouping: swarm.tasks(service.id)) { service.spec.mode.global != nil ? $0.nodeID.text : String($0.slot) }
            #expect(all.values.allSatisfy { $0.count <= 5 }, "seed \(seed): history is not limited")
        }
        #expect(swarm.state.tasks.values.allSatisfy { swarm.state.services[$0.serviceID] != nil }, "seed \(seed): tasks without a service")
    }
}
