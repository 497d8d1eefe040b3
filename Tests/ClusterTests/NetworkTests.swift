import Coding
import HTTPClient
import PluginAPI
import Processes
import Testing

extension ClusterTests {
    /// Networks of the swarm over real engines.
    @Suite struct Networks {
        @Test func anApplicationOfTwoTiersWorksOverThreeMachines() async throws {
            try await ClusterHarness.with(managers: 3) { cluster in
                try await cluster.createNetwork("mynet")
                let redis = try await cluster.createService("redis", image: "redis:latest", replicas: 1, networks: ["mynet"])
                let frontends = try await cluster.createService(
                    "frontend", image: "mywebapp:latest", replicas: 5, networks: ["mynet"], ports: [ClusterHarness.port(80, 80)])
                #expect(Set(frontends.map(\.node)).count == 3)

                // Every engine leads to every task, the task sees who asks, and all of them count in the same redis.
                for node in cluster.nodes {
                    var answered: Set<String> = []
                    var visits: [Int] = []
                    try await eventually("every task answers through engine \(node.index)", { "\(answered)" + cluster.tails(of: cluster.nodes) }) {
                        // visit 7, answered by 0d1f2a3b4c5d, asked by 10.98.0.254
                        guard let answer = try await cluster.ask(node, port: 80) else { return false }
                        let words = answer.split { " ,".contains($0) }.map(String.init)
                        guard words.count == 8, let visit = Int(words[1]) else { throw EngineFailure("the page says \(answer)") }
                        #expect(words[7] == "10.98.0.254", "the application does not see its client: \(answer)")
                        visits.append(visit)
                        answered.insert(words[4])
                        return answered.count == 5
                    }
                    #expect(visits == visits.sorted() && Set(visits).count == visits.count, "\(visits)")
                }

                // Names: the service has one address, its tasks have theirs.
                let asker = try #require(redis.first)
                let tasks = try await cluster.addresses(of: "tasks.frontend", asked: asker)
                #expect(tasks.count == 5)
                let virtual = try await cluster.addresses(of: "frontend", asked: asker)
                #expect(virtual.count == 1 && virtual.isDisjoint(with: tasks))
                #expect(try await cluster.addresses(of: "FrontEnd.mynet", asked: asker) == virtual)
                for frontend in frontends { #expect(try await cluster.addresses(of: "redis", asked: frontend).count == 1) }
                let name = try await cluster.inside(asker, "dig", "+short", "@127.0.0.11", "-x", try #require(virtual.first))
                #expect(name.text.contains("frontend.mynet"), "\(name.text)")

                // A name that goes, goes everywhere at once.
                try await cluster[1].json("DELETE", "/services/frontend")
                try await eventually("the name is gone") { try await cluster.addresses(of: "frontend", asked: asker).isEmpty }
                let refusal = try await cluster[1].refusal("DELETE", "/networks/mynet")
                #expect(refusal.message.contains("redis"), "\(refusal)")
                try await cluster[1].json("DELETE", "/services/redis")
                try await eventually("the network can be removed") { try await cluster[1].send("DELETE", "/networks/mynet").status == 204 }
                for node in cluster.nodes {
                    try await eventually("engine \(node.index) has nothing left of the network") {
                        try await node.get("/networks").array?.contains { $0["Name"]?.string == "mynet" } == false
                    }
                }
            }
        }

        @Test func scalingAndUpdatingUnderLoadDropNoRequest() async throws {
            try await ClusterHarness.with(managers: 1, workers: 2) { cluster in
                try await cluster.createService("web", image: "nginx:latest", replicas: 2, ports: [ClusterHarness.port(8080, 80)])
                // Every engine knows both by now.
                for node in cluster.nodes {
                    var answered: Set<String> = []
                    try await eventually("both tasks answer through engine \(node.index)") {
                        if let answer = try await cluster.ask(node, port: 8080) { answered.insert(answer) }
                        return answered.count == 2
                    }
                }
                let load = try await cluster.underLoad(on: 8080) {
                    for replicas: Int64 in [20, 2] {
                        try await cluster.updateService("web") { $0["Mode"] = ["Replicated": ["Replicas": .integer(replicas)]] }
                        try await cluster.waitUntilWhole("web", replicas: replicas, on: cluster[1])
                    }
                    try await cluster.updateService("web") { spec in
                        spec["UpdateConfig"] = ["Parallelism": 1, "Monitor": 1_000_000, "Order": "start-first"]
                        spec["TaskTemplate"]?["ContainerSpec"]?["Env"] = ["GENERATION=2"]
                    }
                    try await eventually("the update is through") {
                        try await cluster[1].get("/services/web")["UpdateStatus"]?["State"]?.string == "completed"
                    }
                    try await cluster.waitUntilWhole("web", replicas: 2, on: cluster[1])
                }
                #expect(load.errors == [])
                #expect(load.answers.values.reduce(0, +) > 100)
                #expect(load.answers.count >= 20, "not every task was asked: \(load.answers)")
            }
        }

        /// With a heartbeat that leaves a slow machine the time to start an engine again before its tasks are given to others.
        @Test func anEngineThatIsKilledCutsNoConnectionAndForgetsNothing() async throws {
            try await ClusterHarness.with(managers: 3, heartbeat: nil) { cluster in
                try await cluster.createNetwork("mynet")
                let redis = try await cluster.createService("redis", image: "redis:latest", replicas: 1, networks: ["mynet"])
                let frontends = try await cluster.createService(
                    "frontend", image: "mywebapp:latest", replicas: 3, networks: ["mynet"], ports: [ClusterHarness.port(80, 80)])
                let home = try await cluster.node(of: try #require(redis.first))
                for node in cluster.nodes { try await eventually("engine \(node.index) answers") { try await cluster.ask(node, port: 80) != nil } }
                let load = try await cluster.underLoad(on: 80) {
                    try await home.stop()
                    try await home.start()
                    try await cluster.waitUntilWhole("frontend", replicas: 3, on: cluster[1])
                }
                // Names may pause with their engine; connections do not.
                #expect(load.errors == [])
                for frontend in frontends { #expect(try await cluster.addresses(of: "redis", asked: frontend).count == 1) }
                #expect(try await cluster.waitUntilWhole("redis", replicas: 1, on: cluster[1]) == redis)
            }
        }

        @Test func tablesAreTheStoresAgainAfterAPartition() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1) { cluster in
                try await cluster.createNetwork("mynet")
                try await cluster.createService("web", image: "nginx:latest", replicas: 4, networks: ["mynet"])
                try await cluster.createService(
                    "client", image: "busybox:latest", replicas: 4, networks: ["mynet"], container: ["Command": ["sleep", "100000"]])
                try await cluster.unplug(cluster[4])
                try await cluster.waitUntilWhole("web", replicas: 4, on: cluster[1], except: [cluster[4]])
                try await cluster.updateService("web") { $0["TaskTemplate"]?["ContainerSpec"]?["Env"] = ["GENERATION=2"] }
                try await eventually("the update is through") {
                    try await cluster[1].get("/services/web")["UpdateStatus"]?["State"]?.string == "completed"
                }
                try await cluster.plug(cluster[4])
                try await cluster.waitForNodes(ready: 4, on: [cluster[1]])
                let web = try await cluster.waitUntilWhole("web", replicas: 4, on: cluster[1])
                // Brings tasks to the node that was away too.
                try await cluster.updateService("client") { $0["TaskTemplate"]?["ForceUpdate"] = 1 }
                try await eventually("the clients are new") {
                    try await cluster[1].get("/services/client")["UpdateStatus"]?["State"]?.string == "completed"
                }
                let clients = try await cluster.waitUntilWhole("client", replicas: 4, on: cluster[1])
                let wanted = try await cluster.placesOfTasks("web")
                #expect(wanted.count == 4 && web.count == 4)
                for client in clients {
                    try await eventually("what a client on \(client.node) is told is what the store says") {
                        try await cluster.addresses(of: "tasks.web", asked: client) == wanted
                    }
                    for address in wanted + ["web"] {
                        let target = address == "web" ? try #require(try await cluster.addresses(of: "web", asked: client).first) : address
                        let answer = try await cluster.inside(client, "curl", "-fsS", "--max-time", "10", "http://\(target)/")
                        #expect(answer.exitCode == 0, "\(client.node) does not reach \(address): \(answer.errorText)")
                    }
                }
            }
        }

        @Test func aTaskReachesItsOwnNetworksAndNothingElse() async throws {
            try await ClusterHarness.with(managers: 2) { cluster in
                for name in ["red", "blue"] {
                    try await cluster.createNetwork(name)
                    try await cluster.createService(name, image: "nginx:latest", replicas: 2, networks: [name])
                }
                let red = try await cluster.waitUntilWhole("red", replicas: 2, on: cluster[1])
                let blue = try await cluster.placesOfTasks("blue")
                for task in red {
                    #expect(try await cluster.addresses(of: "blue", asked: task).isEmpty)
                    for address in try await cluster.placesOfTasks("red") {
                        #expect(try await cluster.inside(task, "curl", "-fsS", "--max-time", "5", "http://\(address)/").exitCode == 0)
                    }
                    for address in blue {
                        #expect(try await cluster.inside(task, "curl", "-fsS", "--max-time", "2", "http://\(address)/").exitCode != 0)
                    }
                    for manager in cluster.nodes {
                        let port = try await cluster.inside(task, "curl", "-ksS", "--max-time", "2", "https://\(manager.address):2377/")
                        #expect(port.exitCode == 28 || port.exitCode == 7, "a container reaches a manager's port: \(port.exitCode) \(port.errorText)")
                    }
                }
            }
        }

        @Test func aContainerOfAnEnginesOwnJoinsAnAttachableNetwork() async throws {
            try await ClusterHarness.with(managers: 1, workers: 1) { cluster in
                try await cluster.createNetwork("closed")
                try await cluster.createNetwork("open", ["Attachable": true])
                let web = try await cluster.createService("web", image: "nginx:latest", replicas: 2, networks: ["open"])
                for node in cluster.nodes {
                    let body: JSONValue = [
                        "Image": "busybox:latest", "Cmd": ["sleep", "1000"], "HostConfig": ["NetworkMode": "open"],
                    ]
                    #expect(try await node.send("POST", "/images/create?fromImage=busybox&tag=latest").status == 200)
                    let made = try await node.json("POST", "/containers/create?name=own\(node.index)", body)
                    let id = try #require(made["Id"]?.string)
                    try await node.json("POST", "/containers/\(id)/start")
                    let answer = try await Processes.run(
                        ProcessRequest("nsenter", ["--net=\(node.root)/exec/netns/\(id)", "dig", "+short", "@127.0.0.11", "tasks.web"]), timeout: .seconds(30))
                    #expect(answer.text.lines.count == 2, "\(answer.text)")
                    for address in answer.text.lines {
                        let page = try await Processes.run(
                            ProcessRequest("nsenter", ["--net=\(node.root)/exec/netns/\(id)", "curl", "-fsS", "--max-time", "10", "http://\(address)/"]),
                            timeout: .seconds(30))
                        #expect(page.exitCode == 0, "\(page.errorText)")
                    }
                    let refusal = try await node.refusal("POST", "/containers/create", ["Image": "busybox:latest", "HostConfig": ["NetworkMode": "closed"]])
                    #expect(refusal.message.contains("attachable"), "\(refusal)")
                }
                // A task finds the container by its name.
                #expect(try await cluster.addresses(of: "own2", asked: try #require(web.first)).count == 1)
                for node in cluster.nodes { try await node.json("DELETE", "/containers/own\(node.index)?force=1") }
                try await eventually("the name is gone") { try await cluster.addresses(of: "own2", asked: try #require(web.first)).isEmpty }
            }
        }
    }
}

extension ClusterHarness {
    /// The addresses that the store has of a service's running tasks, in its networks.
    func placesOfTasks(_ service: String) async throws -> Set<String> {
        let tasks = try await self[1].get("/tasks", filters: ["service": [.string(service)], "desired-state": ["running"]]).array ?? []
        var all: Set<String> = []
        for task in tasks {
            for attachment in task["NetworksAttachments"]?.array ?? [] where attachment["Network"]?["Spec"]?["Ingress"]?.bool != true {
                for address in attachment["Addresses"]?.array ?? [] {
                    if let prefix = address.string.flatMap({ IPPrefix($0) }) { all.insert("\(prefix.address)") }
                }
            }
        }
        return all
    }
}
