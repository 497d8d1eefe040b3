import BalancerNFTables
import Glibc
import NFTables
import Namespaces
import Netlink
import NetworkBridge
import PluginAPI
import Testing

/// Every test has a task on engine 2; engine 1 has none unless it says so.
@Suite struct MeshTests {
    private func greeting(_ namespace: String, _ address: String) async throws -> [String] {
        try await Connection.greeting(from: namespace, to: address, port: 80)
    }

    private func answer(_ namespace: String, _ address: String) async throws -> [String] {
        try await DatagramClient(from: namespace, to: address, port: 53).ask()
    }

    @Test(arguments: [false, true]) func theTaskSeesTheClientByWayOfBothEngines(strict: Bool) async throws {
        try await MeshSite.run(strict: strict) { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            for engine in site.engines {
                #expect(try await greeting(site.client, engine.address) == ["t1", MeshSite.client], "by \(engine.index)")
                #expect(try await greeting(site.client, engine.addressV6) == ["t1", MeshSite.clientV6], "by \(engine.index)")
                #expect(try await answer(site.client, engine.address) == ["t1", MeshSite.client], "by \(engine.index)")
                #expect(try await answer(site.client, engine.addressV6) == ["t1", MeshSite.clientV6], "by \(engine.index)")
            }
            await site.end(balancers, [task])
        }
    }

    /// Associations where the kernel has SCTP (`Tests/VM/balancer.sh -b tcg`); elsewhere their first two packets, which the same rules carry.
    @Test func associationsOfSCTPKeepTheClient() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            for (number, engine) in site.engines.enumerated() {
                guard !Association.isInKernel else {
                    for (address, client) in [(engine.address, MeshSite.client), (engine.addressV6, MeshSite.clientV6)] {
                        let connection = try await Connection(from: site.client, to: address, port: 36412, sctp: true)
                        #expect(try await connection.readLine() == "t1 \(client)", "by \(address)")
                        #expect(try await connection.echo("again") == "again")
                    }
                    continue
                }
                let backend = try await NetworkNamespaces.run(in: task.sandbox) { () throws(ApusError) in try Association.rawSocket() }
                defer { close(backend) }
                let client = try await NetworkNamespaces.run(in: site.client) { () throws(ApusError) in try Association.rawSocket() }
                defer { close(client) }
                let (port, target, source) = (UInt16(5000 + number), try #require(IPAddress(engine.address)), try #require(IPAddress(MeshSite.client)))
                try Association.send(Association.initiation(from: port, to: 36412), by: client, to: target)
                let first = try await Association.receive(backend)
                #expect(first.source == source && first.sourcePort == port && first.targetPort == 8080 && first.chunk == 1, "by \(target): \(first)")
                try Association.send(Association.acknowledgement(from: 8080, to: first.sourcePort), by: backend, to: first.source)
                let answer = try await Association.receive(client)
                #expect(answer.source == target && answer.sourcePort == 36412 && answer.targetPort == port && answer.chunk == 2, "\(answer)")
            }
            await site.end(balancers, [task])
        }
    }

    @Test func oneClientPortThroughTwoEnginesAtOnceIsTwoConnections() async throws {
        try await MeshSite.run(engines: 3) { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            for addresses in [site.engines.map(\.address), site.engines.map(\.addressV6)] {
                // A socket for each, all bound to the same port, which SO_REUSEADDR allows to different destinations.
                var connections: [Connection] = []
                for address in addresses {
                    connections.append(try await Connection(from: site.client, to: address, port: 80, localPort: addresses[0].contains(":") ? 40001 : 40000))
                }
                for connection in connections { #expect(try await connection.readLine().hasPrefix("t1 ")) }
                for _ in 0..<3 { for (index, connection) in connections.enumerated() { #expect(try await connection.echo("\(index)") == "\(index)") } }
            }
            await site.end(balancers, [task])
        }
    }

    @Test func aClientInsideASubnetOfTheTaskGetsAnAnswer() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            // The task is in an overlay 10.77.0.0/24, and so, by chance, is the client.
            try await NetworkNamespaces.run(in: task.sandbox) { () throws(ApusError) in
                try NetlinkSocket().createBridge(named: "eth1", macAddress: nil)
                try MeshSite.configure("eth1", "10.77.0.5/24")
            }
            try await move(client: site, to: "10.77.0.9")
            let balancers = try await site.balancers(serving: [task], subnets: ["10.77.0.0/24"])
            #expect(try await greeting(site.client, site[1].address) == ["t1", site[1].meshAddress])
            #expect(try await greeting(site.client, site[2].address) == ["t1", "172.18.0.1"])
            #expect(try await answer(site.client, site[1].address).first == "t1")
            await site.end(balancers, [task])
        }
    }

    /// The default pool is a part of many a LAN.
    @Test(arguments: ["10.0.0.77", "10.0.0.2", "10.0.1.1"]) func aClientWithAnAddressOfTheMeshKeepsIt(address: String) async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            try await move(client: site, to: address)
            let world = try Server("world", in: site.client, port: 7000)
            let balancers = try await site.balancers(serving: [task])
            for engine in site.engines {
                #expect(try await greeting(site.client, engine.address) == ["t1", address])
                // And the engines reach it.
                #expect(try await Connection.greeting(from: engine.namespace, to: address, port: 7000) == ["world", engine.address])
            }
            #expect(try await Connection.greeting(from: task.sandbox, to: address, port: 7000) == ["world", site[2].address])
            await world.stop()
            await site.end(balancers, [task])
        }
    }

    /// Gives the client this address in the place of its own.
    private func move(client site: MeshSite, to address: String) async throws {
        try await NetworkNamespaces.run(in: site.client) { () throws(ApusError) in
            let netlink = try NetlinkSocket()
            guard let link = try netlink.link(named: "eth0"), let old = IPPrefix("192.0.2.9/24"), let gateway = IPPrefix("192.0.2.254/32") else { return }
            try netlink.removeAddress(old, fromLinkAt: link.index)
            try MeshSite.configure("eth0", address + "/32")
            try netlink.setRoute(Route(destination: gateway, linkIndex: link.index))
            try MeshSite.configure("eth0", gateways: ["192.0.2.254"])
        }
        try await NetworkNamespaces.run(in: site.router) { () throws(ApusError) in
            guard let link = try NetlinkSocket().link(named: "client"), let target = IPPrefix(address + "/32") else { return }
            try NetlinkSocket().setRoute(Route(destination: target, linkIndex: link.index))
        }
    }

    @Test func aTaskReachesItsOwnPortByEveryEngine() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let other = try await site.task(2, on: 1)
            let balancers = try await site.balancers(serving: [task])
            for address in [site[1].address, site[2].address, "172.18.0.1", site[2].addressV6] {
                #expect(try await greeting(task.sandbox, address).first == "t1", "\(address)")
                #expect(try await answer(task.sandbox, address).first == "t1", "\(address)")
            }
            // A container of the engine that has no task of the service.
            for address in [site[1].address, site[2].address, "172.18.0.1", site[1].addressV6] {
                #expect(try await greeting(other.sandbox, address).first == "t1", "\(address)")
            }
            await site.end(balancers, [task, other])
        }
    }

    @Test func theEnginesThemselvesReachThePort() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            for address in ["127.0.0.1", "::1", "172.18.0.1", site[1].address, site[1].addressV6, site[2].address, site[2].addressV6] {
                #expect(try await greeting(site[1].namespace, address).first == "t1", "\(address)")
                // A node's own IPv6 addresses are not known to the others, so its task's answers to them would stay on the node.
                if address != site[1].addressV6 { #expect(try await greeting(site[2].namespace, address).first == "t1", "\(address)") }
            }
            #expect(try await answer(site[1].namespace, "127.0.0.1") == ["t1", site[1].meshAddress])
            // IPv6 clients of backends that have IPv4 alone go by the proxy.
            for (balancer, engine) in zip(balancers, site.engines) {
                try await balancer.apply(site.state(of: engine.index, serving: [task], families: [true]))
            }
            for address in [site[1].addressV6, site[2].addressV6] { #expect(try await greeting(site.client, address).first == "t1") }
            #expect(try await greeting(site[1].namespace, "::1").first == "t1")
            await site.end(balancers, [task])
        }
    }

    @Test func bothEnginesTasksAnswerAndTheLocalOneWithoutADetour() async throws {
        try await MeshSite.run { site in
            let tasks = [try await site.task(1, on: 1), try await site.task(2, on: 2)]
            let balancers = try await site.balancers(serving: tasks)
            for engine in site.engines {
                for address in [engine.address, engine.addressV6] {
                    var names: Set<String> = []
                    for _ in 0..<4 { names.insert(try await greeting(site.client, address).first ?? "") }
                    #expect(names == ["t1", "t2"])
                }
            }
            try await balancers[0].apply(site.state(of: 1, serving: [tasks[0]], present: tasks))
            let before = try await frames(site[1])
            for _ in 0..<4 { #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client]) }
            #expect(try await frames(site[1]) == before)
            await site.end(balancers, tasks)
        }
    }

    /// How many frames the mesh's device of an engine has sent.
    private func frames(_ engine: MeshSite.Engine) async throws -> String? {
        try await NetworkNamespaces.run(in: engine.namespace) { () throws(ApusError) in
            let file = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC)
            defer { close(file) }
            var bytes = [UInt8](repeating: 0, count: 16384)
            let text = String(decoding: bytes.prefix(max(0, read(file, &bytes, bytes.count))), as: UTF8.self)
            return text.split(separator: "\n").first { $0.contains("apus-ingress") }.map(String.init)
        }
    }

    @Test(arguments: [1450, 1500]) func largeBodiesFitTheUnderlay(mtu: Int) async throws {
        try await MeshSite.run(mtu: mtu) { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            let ways = [
                (site.client, site[1].address), (site.client, site[1].addressV6), (site.client, site[2].address),
                (site[1].namespace, "127.0.0.1"), (site[1].namespace, "::1"),
            ]
            for (namespace, address) in ways {
                let connection = try await Connection(from: namespace, to: address, port: 80)
                _ = try await connection.readLine()
                #expect(try await connection.exchange(1 << 20) == 1 << 20, "\(address)")
            }
            await site.end(balancers, [task])
        }
    }

    @Test func connectionsOutliveBalancersAndTheTasksPlaceInTheMesh() async throws {
        try await MeshSite.run { site in
            let tasks = [try await site.task(1, on: 2), try await site.task(2, on: 2)]
            var balancers = try await site.balancers(serving: [tasks[0]])
            let connection = try await Connection(from: site.client, to: site[1].address, port: 80)
            #expect(try await connection.readLine() == "t1 \(MeshSite.client)")
            for index in balancers.indices {
                await balancers[index].shutDown()
                #expect(try await connection.echo("no engine") == "no engine")
                balancers[index] = try site[index + 1].balancer()
                try await balancers[index].apply(site.state(of: index + 1, serving: [tasks[0]]))
                #expect(try await connection.echo("engine \(index)") == "engine \(index)")
            }
            // Another takes its place, on every engine.
            for index in balancers.indices { try await balancers[index].apply(site.state(of: index + 1, serving: [tasks[1]])) }
            #expect(try await connection.echo("drained") == "drained")
            #expect(try await greeting(site.client, site[1].address).first == "t2")
            await site.end(balancers, tasks)
        }
    }

    @Test func anAddressThatIsUsedAgainLeadsToTheNewTask() async throws {
        try await MeshSite.run(engines: 3) { site in
            let old = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [old])
            let datagrams = try await DatagramClient(from: site.client, to: site[1].address, port: 53)
            #expect(try await datagrams.ask() == ["t1", MeshSite.client])
            // On the same engine, then on another: the number of the second task gives it another target.
            for (number, index) in [(2, 2), (3, 3)] {
                let next = try await site.task(number, on: index)
                for (balancer, engine) in zip(balancers, site.engines) {
                    var state = try site.state(of: engine.index, serving: [next])
                    func renamed(_ address: IPAddress) -> IPAddress {
                        address == next.mesh ? old.mesh : address == next.meshV6 ? old.meshV6 ?? address : address
                    }
                    for port in state.ports.indices {
                        state.ports[port].backends = state.ports[port].backends.map { Backend(address: renamed($0.address), port: $0.port) }
                    }
                    if var mesh = state.mesh {
                        mesh.remoteTasks = mesh.remoteTasks.map {
                            .init(address: renamed($0.address), addressV6: $0.addressV6.map(renamed), nodeIndex: $0.nodeIndex)
                        }
                        mesh.localTasks = mesh.localTasks.map {
                            .init(address: renamed($0.address), addressV6: $0.addressV6.map(renamed), target: $0.target, targetV6: $0.targetV6)
                        }
                        state.mesh = mesh
                    }
                    try await balancer.apply(state)
                }
                #expect(try await datagrams.ask() == ["t\(number)", MeshSite.client])
                #expect(try await greeting(site.client, site[1].address) == ["t\(number)", MeshSite.client])
                for server in next.servers { await server.stop() }
            }
            await site.end(balancers, [old])
        }
    }

    @Test func scalingUnderLoadFailsNoRequest() async throws {
        try await MeshSite.run { site in
            var tasks: [MeshSite.MeshTask] = []
            for number in 1...6 { tasks.append(try await site.task(number, on: 1 + number % 2)) }
            let all = tasks
            let balancers = try await site.balancers(serving: Array(all.prefix(1)))
            let failures = try await withThrowingTaskGroup(of: [String].self) { group in
                for engine in site.engines {
                    for address in [engine.address, engine.addressV6] {
                        group.addTask {
                            var failures: [String] = []
                            while !ConcurrentTask.isCancelled {
                                do {
                                    let seen = try await Connection.greeting(from: site.client, to: address, port: 80)
                                    let expected = address.contains(":") ? MeshSite.clientV6 : MeshSite.client
                                    if seen.last != expected { failures.append("\(address): \(seen)") }
                                } catch { failures.append("\(address): \(error)") }
                            }
                            return failures
                        }
                    }
                }
                // As the swarm does it: a task is in the mesh before it serves, and stays in it until no engine gives it connections.
                for round in 0..<20 {
                    let serving = Array(all.prefix([6, 2, 4, 1][round % 4]))
                    for (balancer, engine) in zip(balancers, site.engines) {
                        try await balancer.apply(site.state(of: engine.index, serving: serving, present: all))
                    }
                }
                group.cancelAll()
                var failures: [String] = []
                for try await some in group { failures += some }
                return failures
            }
            #expect(failures == [])
            await site.end(balancers, tasks)
        }
    }

    @Test func nobodyReachesAMeshAddressDirectly() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let other = try await site.task(2, on: 1)
            let balancers = try await site.balancers(serving: [task])
            // Somebody on the LAN who sends packets for the mesh to an engine.
            try await NetworkNamespaces.run(in: site.router) { () throws(ApusError) in
                guard let link = try NetlinkSocket().link(named: "lan"), let mesh = IPPrefix("10.0.0.0/16") else { return }
                try NetlinkSocket().setRoute(Route(destination: mesh, gateway: IPAddress(v4: 198, 51, 100, 1), linkIndex: link.index))
            }
            let address = task.mesh.description
            #expect(await Connection.error(from: site.router, to: address, port: 8080) != nil)
            #expect(await Connection.error(from: other.sandbox, to: address, port: 8080) != nil)
            #expect(await Connection.error(from: site[1].namespace, to: address, port: 8080) != nil)
            #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client])
            await site.end(balancers, [task, other])
        }
    }

    @Test func framesOfStrangersAreDropped() async throws {
        try await MeshSite.run(engines: 3) { site in
            let task = try await site.task(1, on: 2)
            // Engine 3 is not a member for the others.
            var balancers: [any LoadBalancer] = []
            for engine in site.engines {
                let balancer = try engine.balancer()
                var state = try site.state(of: engine.index, serving: [task])
                if engine.index != 3 { state.mesh?.nodes.removeAll { $0.index == 3 } }
                try await balancer.apply(state)
                balancers.append(balancer)
            }
            #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client])
            #expect(await Connection.error(from: site.client, to: site[3].address, port: 80) == .timedOut)
            try await balancers[1].apply(site.state(of: 2, serving: [task]))
            #expect(try await greeting(site.client, site[3].address) == ["t1", MeshSite.client])
            await site.end(balancers, [task])
        }
    }

    @Test func whatSomeoneFlushesIsRepaired() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client])
            for engine in site.engines {
                try await NetworkNamespaces.run(in: engine.namespace) { () throws(ApusError) in _ = try NFTables().run("flush ruleset") }
                try await engine.driver.create(engine.network)
                let isRepaired = await eventually {
                    (try? await Connection(from: site.client, to: site[1].address, port: 80, seconds: 1).readLine()) == "t1 \(MeshSite.client)"
                }
                #expect(isRepaired)
                #expect(engine.services.messages(.warning).contains { $0.contains("flush") })
            }
            try await NetworkNamespaces.run(in: site[1].namespace) { () throws(ApusError) in try NetlinkSocket().removeLink(named: "apus-ingress") }
            let isRepaired = await eventually {
                (try? await Connection(from: site.client, to: site[1].address, port: 80, seconds: 1).readLine()) == "t1 \(MeshSite.client)"
            }
            #expect(isRepaired)
            await site.end(balancers, [task])
        }
    }

    @Test func anEngineThatKnowsNoWayToTheClientAnswersAllTheSame() async throws {
        try await MeshSite.run(strict: true) { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            for engine in site.engines {
                try await NetworkNamespaces.run(in: engine.namespace) { () throws(ApusError) in
                    let netlink = try NetlinkSocket()
                    guard let link = try netlink.link(named: "eth0") else { return }
                    for gateway in ["198.51.100.254", "2001:db8:e::fe"].compactMap({ IPAddress($0) }) {
                        if engine.index == 2, let route = Route.byDefault(gateway: gateway, linkIndex: link.index) { try netlink.removeRoute(route) }
                    }
                }
            }
            #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client])
            #expect(try await greeting(site.client, site[1].addressV6) == ["t1", MeshSite.clientV6])
            #expect(try await greeting(site[1].namespace, "127.0.0.1").first == "t1")
            await site.end(balancers, [task])
        }
    }

    @Test func nothingIsLeftOfAMeshThatIsRemoved() async throws {
        try await MeshSite.run { site in
            let task = try await site.task(1, on: 2)
            let balancers = try await site.balancers(serving: [task])
            try await balancers[0].apply(BalancerState())
            #expect(try await !site.ruleset(of: site[1].namespace).contains("apus-mesh"))
            try await NetworkNamespaces.run(in: site[1].namespace) { () throws(ApusError) in
                let netlink = try NetlinkSocket()
                #expect(try netlink.link(named: "apus-ingress") == nil)
                #expect(try netlink.policyRules(toTable: 0x4150).isEmpty)
            }
            try await balancers[0].apply(site.state(of: 1, serving: [task]))
            #expect(try await greeting(site.client, site[1].address) == ["t1", MeshSite.client])
            await site.end(balancers, [task])
        }
    }

    @Test func statesThatMakeNoSenseAreRefused() async throws {
        try await MeshSite.run { site in
            let balancer = try site[1].balancer()
            try await balancer.probe()
            var good = try site.state(of: 1, serving: [])
            func refused(_ code: ApusError.Code, _ change: (inout MeshState) -> Void) async {
                var state = good
                if var mesh = state.mesh {
                    change(&mesh)
                    state.mesh = mesh
                }
                await #expect { try await balancer.apply(state) } throws: { ($0 as? ApusError)?.code == code }
            }
            await refused(.invalidArgument) { $0.vni = 0 }
            await refused(.invalidArgument) { $0.vni = 1 << 24 }
            await refused(.invalidArgument) { $0.dataPathPort = 0 }
            await refused(.invalidArgument) { $0.mtu = 100 }
            await refused(.invalidArgument) { $0.nodes[0].index = 0 }
            await refused(.invalidArgument) { $0.nodes.append($0.nodes[0]) }
            await refused(.invalidArgument) { mesh in
                for _ in 0..<2 { mesh.remoteTasks.append(.init(address: IPAddress(v4: 10, 0, 1, 1), nodeIndex: 2)) }
            }
            await refused(.unavailable) { $0.isEncrypted = true }
            await refused(.notFound) { $0.underlay = IPAddress(v4: 198, 51, 100, 77) }
            #expect(try await !site.ruleset(of: site[1].namespace).contains("apus-mesh"))
            good.mesh?.mtu = 1400
            try await balancer.apply(good)
            await balancer.shutDown()
        }
    }
}
