import Coding
import Fuzzing
import Orchestration
import PluginAPI
import Testing
import Wire

@testable import Dispatcher

@Suite struct EndpointTests {
    private func makeWorld() -> EndpointWorld {
        EndpointWorld { transaction in
            var cluster = Cluster()
            cluster.id = clusterID
            transaction.put(cluster)
            for name in ["n1", "n2", "n3"] { transaction.put(makeNode(name)) }
            transaction.put(makeNetwork("ingress", ingress: true))
            transaction.put(makeNetwork("front"))
            transaction.put(makeNetwork("back"))
            transaction.put(makeService("web", in: ["front"], ports: [makePort(80, 8080), makePort(81, 8081, .host)]))
            transaction.put(makeService("db", in: ["back"]))
            transaction.put(makeService("lonely"))
            try? transaction.create(placed("web1", node: "n1", in: ["front", "ingress"]))
            try? transaction.create(placed("web2", node: "n2", in: ["front", "ingress"]))
            try? transaction.create(placed("db1", node: "n2", in: ["back"], service: "db"))
        }
    }

    @Test func aNodeKnowsWhatItMustAndNoMore() throws {
        let world = makeWorld()
        #expect(world.defects() == [])
        let first = EndpointTable.of(world.state, node: "n1")
        #expect(first.networks.keys.sorted() == ["front", "ingress"])
        #expect(first.services.keys.sorted() == ["web"])
        #expect(first.services["web"]?.ports.map(\.publishedPort) == [8080], "ports of the host mode are the task's own")
        #expect(first.services["web"]?.aliases.first?.names == ["web-alias"])
        #expect(first.servicePorts.keys.sorted() == ["web"])
        #expect(first.tasks.keys.sorted() == ["web1", "web2"])
        #expect(first.tasks["web1"]?.name == "web.1.web1")
        #expect(first.nodes.count == 3)
        let second = EndpointTable.of(world.state, node: "n2")
        #expect(second.networks.keys.sorted() == ["back", "front", "ingress"])
        #expect(second.tasks.keys.sorted() == ["db1", "web1", "web2"])
        // Nothing of its own: the published ports and the ingress network alone.
        let third = EndpointTable.of(world.state, node: "n3")
        #expect(third.networks.keys.sorted() == ["ingress"])
        #expect(third.tasks["web1"]?.attachments.map(\.network.id) == ["ingress"])
        #expect(third.services["web"]?.virtualIPs == [] && third.services["web"]?.aliases == [])
    }

    @Test func addressesAndKeys() {
        var world = makeWorld()
        world.change { transaction in
            var node = makeNode("n1", role: .manager, address: "192.0.2.1")
            node.description.dataPathAddress = "198.51.100.1"
            node.meshAddresses = ["10.0.0.5/16"]
            var manager = ManagerStatus()
            manager.address = "192.0.2.1:2377"
            node.manager = manager
            transaction.put(node)
            transaction.put(makeNode("n2", address: "192.0.2.2"))
            transaction.put(makeNetwork("front") { $0.driver.options["encrypted"] = "" })
            var cluster = transaction.state.cluster ?? Cluster()
            var key = NetworkKey()
            key.number = 7
            cluster.networkKeys = [key]
            cluster.dataPathPort = 7789
            transaction.put(cluster)
        }
        world.tellAll()
        #expect(world.defects() == [])
        let table = world.listeners["n2"]?.set.table ?? EndpointTable()
        #expect(table.nodes["n1"]?.address == "198.51.100.1")
        #expect(table.nodes["n1"]?.managerAddress == "192.0.2.1:2377")
        #expect(table.nodes["n1"]?.meshAddresses == ["10.0.0.5/16"])
        #expect(table.nodes["n2"]?.address == "192.0.2.2")
        #expect(table.networks["front"]?.keys.map(\.number) == [7])
        #expect(table.networks["back"]?.keys == [], "a network in the clear needs no keys")
        #expect(table.networks["back"]?.dataPathPort == 7789)
        #expect(EndpointNetwork(makeNetwork("x"), in: nil).dataPathPort == 4789)
    }

    @Test func whoTakesNewConnections() {
        var world = makeWorld()
        func serves(_ id: ID) -> Bool? { EndpointTable.of(world.state, node: "n1").tasks[id]?.isServing }
        func set(_ change: (inout Task) -> Void) {
            var task = placed("web1", node: "n1", in: ["front", "ingress"])
            change(&task)
            world.change { [task] in try? $0.update(task) }
            world.tellAll()
            #expect(world.defects() == [])
        }
        #expect(serves("web1") == true)
        for health in [HealthState.starting, .unhealthy] {
            set { $0.status.health = health }
            #expect(serves("web1") == false)
        }
        set { $0.status.health = .healthy }
        #expect(serves("web1") == true)
        for state in [TaskState.assigned, .preparing, .ready, .starting] {
            set { $0.status.state = state }
            #expect(serves("web1") == false)
        }
        set { $0.desiredState = .shutdown }
        #expect(serves("web1") == false, "its address stays as long as it has something to say")
        set { $0.status.state = .shutdown }
        #expect(serves("web1") == nil)
        set { $0.status.state = .pending }
        #expect(serves("web1") == nil)
        set { _ in }

        // The node's state.
        for (state, expected) in [(NodeState.down, false), (.disconnected, true), (.unknown, true), (.ready, true)] {
            world.change { $0.put(makeNode("n1", state: state)) }
            world.tellAll()
            #expect(world.defects() == [])
            #expect(serves("web1") == expected, "\(state)")
        }
        // The service is to go.
        world.change { transaction in
            var service = transaction.state.services["web"] ?? Service()
            service.pendingDelete = true
            transaction.put(service)
        }
        world.tellAll()
        #expect(world.defects() == [])
        #expect(serves("web1") == false)
        #expect(EndpointTable.of(world.state, node: "n1").services["web"] == nil)
    }

    @Test func aContainerOfANodesOwnBringsItsNetwork() {
        var world = makeWorld()
        var container = placed("c1", node: "n3", in: ["back"], service: "")
        container.spec.runtime = "attachment"
        container.serviceName = "tools"
        container.status.state = .assigned
        world.change { [container] in try? $0.create(container) }
        world.tellAll()
        #expect(world.defects() == [])
        let table = world.listeners["n3"]?.set.table ?? EndpointTable()
        #expect(table.networks.keys.sorted() == ["back", "ingress"])
        #expect(table.tasks["c1"]?.isServing == true)
        #expect(table.tasks["c1"]?.name == "tools")
        #expect(table.tasks["db1"] != nil)
        world.change { try? $0.removeTask("c1") }
        world.tellAll()
        #expect(world.defects() == [])
        #expect(world.listeners["n3"]?.set.table.networks.keys.sorted() == ["ingress"])
    }

    @Test func whatIsLargeComesInPartsAndCountsAsAWhole() throws {
        var world = makeWorld()
        world.change { transaction in
            for number in 0..<50 {
                var task = placed("big\(number)", node: "n1", in: ["front"])
                task.networks[0].aliases = [String(repeating: "x", count: 100_000)]
                try? transaction.create(task)
            }
        }
        var cursor = EndpointCursor(node: "n2", version: 4)
        let messages = cursor.full(world.index).messages
        #expect(messages.count > 3)
        #expect(messages.map(\.hasMore) == Array(repeating: true, count: messages.count - 1) + [false])
        for message in messages { #expect(ProtobufFields.encode(message).count <= (1 << 20) + (1 << 17)) }
        #expect(messages.allSatisfy { $0.resultsIn == 5 })
        var set = EndpointSet()
        for message in messages.dropLast() {
            #expect(try set.apply(message) == nil)
            #expect(set.table == EndpointTable(), "half a table would tear down the other half")
        }
        let effect = try set.apply(try #require(messages.last))
        #expect(effect?.version == 5)
        #expect(set.table == EndpointTable.of(world.state, node: "n2"))
        #expect(set.isComparable)

        var lost = EndpointSet()
        _ = try lost.apply(messages[0])
        #expect(throws: ApusError.self) { try lost.apply(messages[2]) }
        var twice = EndpointSet()
        _ = try twice.apply(messages[0])
        #expect(throws: ApusError.self) { try twice.apply(messages[0]) }
    }

    @Test func gapsAndWrongChecksumsAreNoticed() throws {
        func message(_ from: UInt64, _ to: UInt64, full: Bool = false, _ change: (inout EndpointsMessage) -> Void = { _ in }) -> EndpointsMessage {
            var message = EndpointsMessage()
            message.isFull = full
            message.appliesTo = from
            message.resultsIn = to
            change(&message)
            return message
        }
        var set = EndpointSet()
        #expect(throws: ApusError.self, "a change of nothing") { try set.apply(message(0, 1)) }
        _ = try set.apply(message(0, 1, full: true))
        _ = try set.apply(message(1, 2))
        for bad in [message(1, 2), message(3, 4), message(2, 2), message(2, 1), message(0, 0, full: true)] {
            #expect(throws: ApusError.self) { try set.apply(bad) }
            #expect(set.version == 2)
        }
        // A change that did not say everything.
        var other = set
        #expect(throws: ApusError.self) { try other.apply(message(2, 3) { $0.checksum = 1 }) }
        // A leader of another version: its sums are not ours, ever.
        _ = try set.apply(message(0, 3, full: true) { $0.checksum = 99 })
        #expect(!set.isComparable)
        _ = try set.apply(message(3, 4) { $0.checksum = 98 })
        _ = try set.apply(message(0, 5, full: true))
        #expect(set.isComparable)
        // What it does not know it leaves alone.
        _ = try set.apply(message(5, 6) { $0.removed = ["planet/x", "node/unheard", "nonsense", ""] })
    }

    /// Known results, so that no version ever computes another one by mistake.
    @Test func theChecksumIsTheOneOfTheContract() {
        // FNV-1a of "a" and a zero byte, mixed; computed by hand with Python.
        var reference: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in [UInt8(ascii: "a"), 0] { reference = (reference ^ UInt64(byte)) &* 1_099_511_628_211 }
        #expect(reference == 0x089b_e207_b544_f1e4)
        #expect(EndpointChecksum.hash("a", []) == 0xd013_7a57_d0ef_408f)
        #expect(EndpointChecksum.hash("task/t", [1, 2, 3]) != EndpointChecksum.hash("task/t", [1, 2]))
        #expect(EndpointTable().checksum == 0)
    }

    /// Whatever happens, and whatever the leader misses, every node has what the state says.
    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func everyNodeHasWhatTheStateSays(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var world = makeWorld()
        var number = 0
        for step in 0..<200 {
            let chance = Int.random(in: 0..<100, using: &generator)
            if chance < 4 {
                world.changeLeader()
            } else if chance < 8 {
                world.change(isHeard: false) { transaction in
                    for _ in 0..<5 { Self.change(&transaction, &number, &generator) }
                }
                world.catchUp()
            } else {
                world.change { transaction in
                    for _ in 0..<Int.random(in: 1...4, using: &generator) { Self.change(&transaction, &number, &generator) }
                }
            }
            for node in world.state.nodes.keys where world.listeners[node] == nil { world.connect(node) }
            for node in world.listeners.keys.sorted() {
                if world.state.nodes[node] == nil {
                    world.listeners[node] = nil
                } else if Int.random(in: 0..<3, using: &generator) == 0 {
                    // Others are told later, of several changes at once.
                    world.tell(node)
                }
            }
            if step % 10 == 9 {
                world.tellAll()
                #expect(world.defects() == [], "seed \(seed), step \(step)")
            }
        }
    }

    private static func change(_ transaction: inout MemoryTransaction, _ number: inout Int, _ generator: inout SplitMix64) {
        let networks = transaction.state.networks.keys.map(\.text).sorted()
        let nodes = transaction.state.nodes.keys.map(\.text).sorted()
        let services = transaction.state.services.keys.map(\.text).sorted()
        let tasks = transaction.state.tasks.keys.sorted()
        func some(_ names: [String]) -> [String] { names.filter { _ in Bool.random(using: &generator) } }
        number += 1
        switch Int.random(in: 0..<16, using: &generator) {
        case 0: transaction.put(makeNode("n\(Int.random(in: 1...6, using: &generator))", state: NodeState.allCases.randomElement(using: &generator) ?? .ready))
        case 1: if nodes.count > 2, let node = nodes.randomElement(using: &generator) { transaction.removeNode(ID(node)) }
        case 2:
            transaction.put(makeNetwork(["front", "back", "third", "ingress"].randomElement(using: &generator) ?? "", ingress: Bool.random(using: &generator)))
        case 3: if networks.count > 2, let network = networks.randomElement(using: &generator) { try? transaction.removeNetwork(ID(network)) }
        case 4, 5:
            var service = makeService(
                "s\(Int.random(in: 1...5, using: &generator))", in: some(networks),
                ports: Int.random(in: 0..<5, using: &generator) == 0 ? [makePort(80, 8080)] : [])
            service.pendingDelete = Int.random(in: 0..<4, using: &generator) == 0
            transaction.put(service)
        case 6: if let service = services.randomElement(using: &generator) { try? transaction.removeService(ID(service)) }
        case 7:
            var cluster = transaction.state.cluster ?? Cluster()
            cluster.dataPathPort = UInt64.random(in: 4000...5000, using: &generator)
            transaction.put(cluster)
        case 8...10:
            guard let node = nodes.randomElement(using: &generator) else { return }
            var task = placed("t\(number)", node: node, in: some(networks), service: services.randomElement(using: &generator) ?? "")
            if Bool.random(using: &generator) { task.spec.runtime = "attachment" }
            try? transaction.create(task)
        case 11: if let task = tasks.randomElement(using: &generator) { try? transaction.removeTask(task) }
        default:
            guard let id = tasks.randomElement(using: &generator), var task = transaction.state.tasks[id] else { return }
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: task.status.state = TaskState.allCases.randomElement(using: &generator) ?? .running
            case 1: task.status.health = HealthState.allCases.randomElement(using: &generator) ?? .none
            case 2: task.desiredState = TaskState.allCases.randomElement(using: &generator) ?? .running
            case 3: task.networks = some(networks).map { makePlace($0) }
            default: task.nodeID = ID(nodes.randomElement(using: &generator) ?? "")
            }
            try? transaction.update(task)
        }
    }

    /// A thousand nodes, a hundred thousand tasks: a change costs a node the entries that changed, not all that it has.
    @Test func aChangeCostsWhatChanged() {
        let (nodeCount, taskCount, networkCount) = (1000, 100_000, 100)
        var state = MemoryState()
        for number in 0..<nodeCount { state.nodes[ID("n\(number)")] = makeNode("n\(number)") }
        for number in 0..<networkCount { state.networks[ID("net\(number)")] = makeNetwork("net\(number)") }
        state.services["web"] = makeService("web")
        // Of each network ten nodes and a thousand tasks.
        for number in 0..<taskCount {
            state.put(placed("t\(number)", node: "n\(number % nodeCount)", in: ["net\(number % networkCount)"]))
        }
        var index = EndpointIndex(state)
        var cursors = (0..<nodeCount).map { EndpointCursor(node: ID("n\($0)")) }
        for number in cursors.indices { _ = cursors[number].full(index) }
        let whole = cursors.map(\.comparisons)
        #expect(whole.allSatisfy { $0 == nodeCount + 1 + taskCount / networkCount })

        var told = 0
        for number in 0..<200 {
            var task = placed("t\(number)", node: "n\(number % nodeCount)", in: ["net\(number % networkCount)"])
            task.desiredState = .shutdown
            state.put(task)
            let changes = index.update([EndpointKey(.task, task.id)], from: state)
            for number in cursors.indices {
                guard let keys = index.keys(of: changes, for: cursors[number].node) else { continue }
                told += 1
                let update = cursors[number].changes(.init(keys: keys), index)
                #expect(update.messages.count == 1 && update.stopped == [task.id])
            }
        }
        let more = zip(cursors, whole).map { $0.comparisons - $1 }
        #expect(told == 200 * nodeCount / networkCount)
        #expect(more.reduce(0, +) == told, "one entry for each node that is concerned")
    }

    /// Bytes that were changed are read or refused, and a set that took them goes on with the next whole table.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func garbageIsRefused(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = makeWorld()
        var cursor = EndpointCursor(node: "n2")
        var messages = cursor.full(world.index).messages
        messages[0].removed = ["task/x"]
        messages[0].withdrawn = ["y"]
        let good = messages.map { ProtobufFields.encode($0) }
        var set = EndpointSet()
        for _ in 0..<300 {
            var bytes = good[0]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0 ... .max, using: &generator)
            }
            if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
            do throws(ApusError) { _ = try set.apply(try ProtobufFields.decode(EndpointsMessage.self, from: bytes)) } catch {
                #expect(!error.message.isEmpty)
                set = EndpointSet()
            }
            #expect(set.table.checksum == set.checksum)
        }
        set = EndpointSet()
        _ = try set.apply(try ProtobufFields.decode(EndpointsMessage.self, from: good[0]))
        #expect(set.table.tasks.count == 3)
    }
}
