import Glibc
import IPVS
import Namespaces
import PluginAPI
import Testing

/// The way between engines with ipvs. `Tests/VM/balancer.sh` also runs all of `MeshTests` with ipvs on the engines, and with nftables on every other.
@Suite(.withIPVS) struct IPVSMeshTests {
    @Test(arguments: [["ipvs"], ["ipvs", "nftables"], ["nftables", "ipvs"]]) func theTaskSeesTheClientByWayOfAllEngines(balancers: [String]) async throws {
        try await MeshSite.$balancers.withValue(balancers) {
            try await MeshSite.run(engines: 3) { site in
                let tasks = [try await site.task(1, on: 1), try await site.task(2, on: 2)]
                let balancers = try await site.balancers(serving: tasks)
                for engine in site.engines {
                    for (address, client) in [(engine.address, MeshSite.client), (engine.addressV6, MeshSite.clientV6)] {
                        var names: Set<String> = []
                        for _ in 0..<2 {
                            let answer = try await Connection.greeting(from: site.client, to: address, port: 80)
                            #expect(answer[1] == client, "by \(address)")
                            names.insert(answer[0])
                        }
                        #expect(names == ["t1", "t2"], "by \(address)")
                        #expect(try await DatagramClient(from: site.client, to: address, port: 53).ask()[1] == client, "by \(address)")
                    }
                }
                await site.end(balancers, tasks)
            }
        }
    }

    @Test func whoLeavesKeepsConnectionsOverTheMesh() async throws {
        try await MeshSite.$balancers.withValue(["ipvs"]) {
            try await MeshSite.run { site in
                let tasks = [try await site.task(1, on: 2), try await site.task(2, on: 2)]
                let balancers = try await site.balancers(serving: [tasks[0]])
                // A task's engine knows it before others send it connections.
                for (index, balancer) in balancers.enumerated() {
                    try await balancer.apply(site.state(of: index + 1, serving: [tasks[0]], present: tasks))
                }
                let connection = try await Connection(from: site.client, to: site[1].address, port: 80)
                #expect(try await connection.readLine() == "t1 \(MeshSite.client)")
                let (outcome, retransmissions) = try await Load.run(from: site.client, to: site[1].address, port: 80) {
                    for round in 0..<6 {
                        let serving = [tasks[(round + 1) % 2]]
                        for (index, balancer) in balancers.enumerated() {
                            try await balancer.apply(site.state(of: index + 1, serving: serving, present: tasks))
                        }
                        #expect(try await connection.echo("\(round)") == "\(round)")
                        try await ConcurrentTask.sleep(for: .milliseconds(100))
                    }
                }
                #expect(outcome.failures.isEmpty && outcome.answers.count == 2 && retransmissions == 0, "\(outcome) \(retransmissions)")
                await site.end(balancers, tasks)
            }
        }
    }

    @Test func aSlowWireThatLosesPacketsLosesNoRequest() async throws {
        try await MeshSite.$balancers.withValue(["ipvs"]) {
            try await MeshSite.run { site in
                let task = try await site.task(1, on: 2)
                let balancers = try await site.balancers(serving: [task])
                for port in ["engine1", "engine2"] {
                    try await NetworkNamespaces.run(in: site.router) { () throws(ApusError) in
                        try Self.run(["tc", "qdisc", "add", "dev", port, "root", "netem", "delay", "20ms", "5ms", "loss", "3%"])
                    }
                }
                for number in 0..<20 {
                    let address = number % 2 == 0 ? site[1].address : site[1].addressV6
                    let connection = try await Connection(from: site.client, to: address, port: 80)
                    #expect(try await connection.readLine() == "t1 \(number % 2 == 0 ? MeshSite.client : MeshSite.clientV6)")
                    #expect(try await connection.echo("\(number)") == "\(number)")
                }
                await site.end(balancers, [task])
            }
        }
    }

    /// Runs a program in the calling thread's namespace.
    private static func run(_ arguments: [String]) throws(ApusError) {
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for word in words { free(word) } }
        words.append(nil)
        var process: pid_t = 0
        guard posix_spawnp(&process, arguments[0], nil, nil, words, environ) == 0 else { throw ApusError(.failed, "\(arguments[0]) did not start") }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { throw ApusError(.failed, "\(arguments.joined(separator: " ")): status \(status)") }
    }
}
