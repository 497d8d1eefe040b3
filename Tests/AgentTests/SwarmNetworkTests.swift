import Events
import Names
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Agent
@testable import Dispatcher

/// What a node makes of the table of endpoints.
struct SwarmNetworkTests {
    static func network(_ id: ID, _ name: String, _ subnet: String, _ gateway: String, vni: UInt64) -> EndpointNetwork {
        var pool = IPAMPool()
        pool.subnet = subnet
        pool.gateway = gateway
        var entry = EndpointNetwork()
        entry.network.id = id
        entry.network.spec.name = name
        entry.network.driver.name = "overlay"
        entry.network.vni = vni
        entry.network.ipam = IPAMConfig()
        entry.network.ipam?.configs = [pool]
        entry.dataPathPort = 4789
        return entry
    }

    static func place(_ network: ID, _ name: String, _ addresses: String..., isIngress: Bool = false) -> NetworkAttachment {
        var place = NetworkAttachment()
        place.network.id = network
        place.network.spec.name = name
        place.network.spec.ingress = isIngress
        place.addresses = addresses
        return place
    }

    static func task(_ id: ID, on node: ID, _ places: NetworkAttachment..., isServing: Bool = true) -> EndpointTask {
        var task = EndpointTask()
        task.id = id
        task.serviceID = "service"
        task.nodeID = node
        task.name = "web.1.\(id)"
        task.attachments = places
        task.isServing = isServing
        return task
    }

    /// Two nodes, a network, the ingress network; one service with a task here and two elsewhere, one of which is not ready.
    static var table: EndpointTable {
        var table = EndpointTable()
        for (index, id) in ["node", "other"].enumerated() {
            var node = EndpointNode()
            node.id = ID(id)
            node.hostname = id
            node.address = "192.0.2.\(index + 1)"
            node.meshAddresses = ["10.0.0.\(index + 2)/16"]
            node.managerAddress = index == 0 ? "192.0.2.1:2377" : ""
            table.nodes[node.id] = node
        }
        table.networks["net"] = network("net", "mynet", "10.1.0.0/24", "10.1.0.1", vni: 4097)
        table.networks["ing"] = network("ing", "ingress", "10.0.0.0/16", "10.0.0.1", vni: 4096)
        table.networks["ing"]?.network.spec.ingress = true
        var service = EndpointService()
        service.id = "service"
        service.name = "Web"
        var virtual = VirtualIP()
        virtual.networkID = "net"
        virtual.address = "10.1.0.2/24"
        service.virtualIPs = [virtual]
        var aliases = EndpointAliases()
        aliases.networkID = "net"
        aliases.names = ["site"]
        service.aliases = [aliases]
        service.ports = [ContainerEngineTests.ingress(8080, 80)]
        table.services[service.id] = service
        table.tasks["task1"] = task("task1", on: "node", place("net", "mynet", "10.1.0.3/24"), place("ing", "ingress", "10.0.1.1/16", isIngress: true))
        table.tasks["task2"] = task("task2", on: "other", place("net", "mynet", "10.1.0.4/24"), place("ing", "ingress", "10.0.1.2/16", isIngress: true))
        table.tasks["task3"] = task("task3", on: "other", place("net", "mynet", "10.1.0.5/24"), isServing: false)
        return table
    }

    @Test func peersAreThoseOnOtherNodesReadyOrNot() throws {
        let view = EndpointView(table: Self.table, node: "node")
        let peers = view.peers(in: "net")
        #expect(peers.map(\.address.description) == ["10.1.0.4", "10.1.0.5"])
        #expect(peers.allSatisfy { $0.node == IPAddress("192.0.2.2") })
        let local = try #require(view.localNetwork("net"))
        #expect(local.gateway.description == "10.1.0.1/24" && local.vni == 4097 && local.underlay == IPAddress("192.0.2.1"))
        #expect(view.localNetwork("ing") == nil)
        #expect(view.surroundings.members == [IPAddress("192.0.2.2")])
        #expect(view.surroundings.managers.map(\.port) == [2377])
    }

    @Test func theMeshKnowsWhoIsWhere() throws {
        let view = EndpointView(table: Self.table, node: "other")
        let mesh = try #require(view.mesh { _ in nil })
        #expect(mesh.address.description == "10.0.0.3/16" && mesh.vni == 4096)
        #expect(mesh.nodes.map(\.index) == [2])
        #expect(mesh.remoteTasks.map(\.address.description) == ["10.0.1.1"])
        #expect(mesh.remoteTasks.map(\.nodeIndex) == [2])
        #expect(mesh.localTasks.isEmpty)
    }

    @Test(arguments: ["1.2.3.4:5", "[2001:db8::1]:2377"]) func socketsAreRead(_ text: String) throws {
        let socket = try #require(EndpointView.socket(text))
        #expect(text.hasSuffix(":\(socket.port)"))
    }

    @Test(arguments: ["", ":", "1.2.3.4", "host:1", "1.2.3.4:70000", "[::1]"]) func whatIsNoSocketIsNone(_ text: String) {
        #expect(EndpointView.socket(text) == nil)
    }

    private static func task() -> Task {
        var task = House.task("task1")
        var wanted = NetworkAttachmentSpec()
        wanted.target = "mynet"
        task.spec.networks = [wanted]
        task.networks = [place("net", "mynet", "10.1.0.3/24"), place("ing", "ingress", "10.0.1.1/16", isIngress: true)]
        return task
    }

    @Test func aTaskIsInItsNetworksAndIsReachedByTheGateway() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.runtime.add("nginx:latest")
            engine.setEndpoints(Self.table, for: "node")
            let source = FakeSource()
            source.add(Self.task())
            let (stream, tables) = AsyncStream.makeStream(of: EndpointUpdate.self)
            tables.yield(EndpointUpdate(table: Self.table, number: 1))
            try house.hire(source, tables: stream)
            #expect(await source.until("task1", .running))
            let container = try #require(engine.list().first)
            let names = container.configuration.endpoints.map { "\($0.interfaceName) \($0.networkName) \($0.address.isEmpty)" }
            #expect(names == ["eth0 mynet false", "eth1 apus_gwbridge false"])
            #expect(container.configuration.resolverFile.contains("nameserver 127.0.0.11"))
            #expect(house.overlay.state.withLock { $0.peers["net"]?.count } == 2)
            #expect(house.overlay.state.withLock { $0.attached.count } == 1)
            #expect(house.network.state.withLock { $0.attached.values.first?.isDefaultRoute } == true)
            #expect(house.network.state.withLock { $0.attached.values.first?.addressV6 } != nil)
            #expect(house.overlay.state.withLock { $0.attached.values.first?.isDefaultRoute } == false)

            // The port leads to the task here and, through the mesh, to the one that is ready elsewhere; the virtual address to both.
            let gateway = try #require(IPPrefix(container.configuration.endpoints[1].address)?.address)
            let gateway6 = try #require(IPPrefix(container.configuration.endpoints[1].addressV6)?.address)
            #expect(await eventually { house.balancer.backends(8080) == 3 })
            let balance = house.balancer.last
            let port = try #require(balance.ports.first)
            #expect(Set(port.backends.map(\.address)) == [gateway, gateway6, IPAddress(v4: 10, 0, 1, 2)])
            #expect(balance.mesh?.localTasks.map(\.target) == [gateway])
            #expect(balance.sandboxes.count == 1)
            #expect(balance.sandboxes.first?.services.first?.backends.map(\.description) == ["10.1.0.3", "10.1.0.4"])

            let known = house.names.state.withLock { $0 }
            let network = try #require(known.networks["net"])
            #expect(network.names["web"]?.map(\.description) == ["10.1.0.2"])
            #expect(network.names["site"]?.map(\.description) == ["10.1.0.2"])
            #expect(network.names["tasks.web"]?.map(\.description) == ["10.1.0.3", "10.1.0.4"])
            #expect(network.names["web.1.task3"]?.map(\.description) == ["10.1.0.5"])
            #expect(network.pointers[IPAddress(v4: 10, 1, 0, 2)] == "Web.mynet")
            #expect(known.sandboxes[container.configuration.networkNamespacePath]?.networks == ["net"])

            // When it is gone and nobody is in the network any more, nothing of it is left.
            source.desire(.shutdown, "task1")
            #expect(await source.until("task1", .shutdown))
            tables.yield(EndpointUpdate(table: EndpointTable(), number: 2))
            #expect(await eventually { house.overlay.state.withLock { $0.networks.isEmpty } })
            #expect(house.names.state.withLock { $0.sandboxes.isEmpty })
        }
    }

    @Test func aTableIsConfirmedWhenItIsInForce() async throws {
        try await House.with { house in
            let (stream, tables) = AsyncStream.makeStream(of: EndpointUpdate.self)
            // What an engine does at its start.
            #expect(await eventually { house.balancer.state.withLock { !$0.applied.isEmpty } })
            try house.hire(FakeSource(), tables: stream)
            house.balancer.state.withLock { $0.failures = [ApusError(.failed, "no")] }
            tables.yield(EndpointUpdate(table: Self.table, number: 1))
            #expect(await eventually { house.balancer.state.withLock { $0.failures.isEmpty } })
            tables.yield(EndpointUpdate(table: EndpointTable(), number: 2))
            #expect(await eventually { house.confirmed.withLock { $0 == [2] } })
        }
    }

    @Test func anEngineThatComesBackKnowsItsNetworksBeforeTheManagersSpeak() async throws {
        try await House.with { house in
            #expect(await (try house.engine).applyEndpoints(Self.table, for: "node"))
            await house.halt()
            try await house.boot()
            #expect(try house.engine.endpoints == Self.table)
        }
    }

    /// An engine that is killed before the last of a network is gone.
    @Test func anEngineThatComesBackRemovesWhatTheManagersDoNotNameAnyMore() async throws {
        try await House.with { house in
            house.runtime.add("nginx:latest")
            let source = FakeSource()
            let (stream, tables) = AsyncStream.makeStream(of: EndpointUpdate.self)
            source.add(Self.task())
            try house.hire(source, tables: stream)
            tables.yield(EndpointUpdate(table: Self.table, number: 1))
            #expect(await source.until("task1", .running))
            house.overlay.state.withLock { $0.removeFailures = [ApusError(.conflict, "somebody is in it still")] }
            source.desire(.shutdown, "task1")
            #expect(await source.until("task1", .shutdown))
            tables.yield(EndpointUpdate(table: EndpointTable(), number: 2))
            #expect(await eventually { house.overlay.state.withLock { $0.removeFailures.isEmpty } })
            #expect(house.overlay.state.withLock { !$0.networks.isEmpty })
            await house.halt()
            try await house.boot()
            #expect(await eventually { house.overlay.state.withLock { $0.networks.isEmpty } })
        }
    }

    @Test func aPortIsOpenWhenSomebodyListensForClients() {
        let table = """
              sl  local_address rem_address   st
               0: 00000000:0050 00000000:0000 0A 0
               1: 0100007F:0051 00000000:0000 0A 0
               2: 0300010A:0052 0102000A:D431 01 0
            """
        let tableV6 = """
              sl  local_address rem_address   st
               0: 00000000000000000000000000000000:0053 00000000000000000000000000000000:0000 0A 0
               1: 00000000000000000000000001000000:0054 00000000000000000000000000000000:0000 0A 0
            """
        func isListening(_ ports: UInt16...) -> Bool { ContainerSockets.isListening(tables: [table, tableV6], on: Set(ports)) }
        #expect(isListening(80) && isListening(83) && isListening(80, 83))
        #expect(!isListening(81) && !isListening(82) && !isListening(84) && !isListening(80, 85))
        #expect(!ContainerSockets.isListening(tables: ["", "x\n1: a b c d", "h\n 0: 1 2 0A"], on: [80]))
    }

    /// A plugin that is enabled while the engine runs, for the first time or again, is a driver that has been told nothing.
    @Test func aDriverThatIsEnabledLaterLearnsWhatThereIs() async throws {
        try await House.with { house in
            let engine = try house.engine
            house.otherDrivers.withLock { $0["wires"] = FakeNetwork() }
            var request = NodeNetworkRequest(name: "wired")
            request.driver = "wires"
            let own = try await engine.createNetwork(request)
            #expect(await engine.applyEndpoints(Self.table, for: "node"))
            let late = FakeNetwork()
            house.otherDrivers.withLock { $0["wires"] = late }
            await engine.networkDriversChanged()
            #expect(await engine.balanced() == nil)
            #expect(late.state.withLock { $0.networks } == [own.id])
            #expect(late.state.withLock { $0.surroundings?.members.map(\.description) } == ["192.0.2.2"])
        }
    }

    /// Networks of the swarm are not all overlays.
    @Test func anotherDriverHasItsNetworksOfTheSwarm() async throws {
        try await House.with { house in
            let engine = try house.engine
            let wires = FakeNetwork(scope: .swarm)
            house.otherDrivers.withLock { $0["wires"] = wires }
            var table = Self.table
            table.networks["net"]?.network.driver.name = "wires"
            engine.setEndpoints(table, for: "node")
            let id = try await house.run("box") { request in
                var network = ContainerNetwork(target: "mynet", aliases: [])
                network.place = Self.place("net", "mynet", "10.1.0.3/24")
                request.networks = [network]
            }
            #expect(wires.state.withLock { $0.attached.keys.contains(id) } && engine.usesDriver("wires"))
            #expect(await eventually { wires.state.withLock { $0.peers["net"]?.count } == 2 })
            let joined = house.events.subscribe().recent.filter { $0.type == "network" && $0.action == "connect" && $0.actorID == "net" }
            #expect(joined.map { $0.attributes["type"] } == ["wires"])

            // After the driver was made anew, everything is told again, and the container goes back to it.
            let later = FakeNetwork(scope: .swarm)
            house.otherDrivers.withLock { $0["wires"] = later }
            await engine.networkDriversChanged()
            #expect(await engine.balanced() == nil)
            #expect(later.state.withLock { $0.networks } == ["net"])
            #expect(later.state.withLock { $0.peers["net"]?.count } == 2)
        }
    }

    @Test func connectionsAreThoseOfClientsAlone() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
               1: 0300010A:0050 0102000A:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1
               2: 0100007F:0050 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 3 1
               3: 0300010A:D433 0102000A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4 1
               4: 0300010A:0050 0102000A:D434 06 00000000:00000000 00:00000000 00000000     0        0 5 1
            """
        #expect(ContainerSockets.countConnections(tables: [table]) == 1)
        #expect(ContainerSockets.countConnections(tables: ["", "x\n1: a b c d", "h\n 0: 1 2 01"]) == 0)
    }
}
