import Coding
import Glibc
import HTTPClient
import PluginAPI
import Testing

extension ClusterTests {
    @Suite struct Joining {
        @Test func everyManagerAnswersAndAWorkerSaysWhatToDo() async throws {
            try await ClusterHarness.with(managers: 3, workers: 1) { cluster in
                try await cluster.waitForNodes(ready: 4, on: [cluster[1], cluster[2], cluster[3]])
                for manager in 1...3 {
                    let list = try await cluster.nodeList(on: cluster[manager])
                    #expect(list.count == 4)
                    #expect(list.values.count { $0["Spec"]?["Role"]?.string == "manager" } == 3)
                    #expect(list.values.count { $0["ManagerStatus"]?["Leader"]?.bool == true } == 1)
                    #expect(list.values.count { $0["ManagerStatus"]?["Reachability"]?.string == "reachable" } == 3)
                }
                // A follower hands writes on to the leader; the next read on any manager shows them.
                for writer in 1...3 {
                    let answer = await cluster.write(on: cluster[writer])
                    #expect(answer?.status == 201, "engine \(writer): \(answer?.text ?? "no answer")")
                    try await cluster.checkNothingIsLost(on: [cluster[1], cluster[2], cluster[3]])
                }
                let refusal = try await cluster[4].refusal("GET", "/nodes")
                #expect(refusal.status == 503)
                #expect(refusal.message.contains("manager"), "\(refusal.message)")
                #expect(try await cluster[4].swarm["ControlAvailable"]?.bool == false)
                try await cluster.createService("spread", replicas: 8, on: cluster[2])
                let tasks = try await cluster.waitUntilWhole("spread", replicas: 8, on: cluster[3])
                #expect(Set(tasks.map(\.node)).count == 4, "all nodes have some")
            }
        }

        @Test func tokensThatAreWrongAreRefusedWithAReason() async throws {
            try await ClusterHarness.with(managers: 1, extra: 2) { cluster in
                let (manager, newcomer) = (cluster[1], cluster[2])
                let worker = try await cluster.token(.worker)
                func refusal(_ token: String) async throws -> (status: Int, message: String) {
                    let refusal = try await newcomer.refusal("POST", "/swarm/join", cluster.joining(newcomer, token: token))
                    #expect(try await newcomer.swarm["LocalNodeState"]?.string == "inactive", "\(token) left something behind")
                    return refusal
                }
                for garbage in ["garbage", "SWMTKN-1-garbage", "SWMTKN-1-" + String(repeating: "z", count: 50) + "-" + String(repeating: "z", count: 25), " "] {
                    let refusal = try await refusal(garbage)
                    #expect((400..<500).contains(refusal.status), "\(garbage): \(refusal)")
                    #expect(refusal.message.contains("token"), "\(garbage): \(refusal)")
                }
                // The right root and a wrong secret.
                let parts = worker.split(separator: "-").map(String.init)
                let forged = (parts.dropLast() + [String(repeating: "1", count: 25)]).joined(separator: "-")
                let wrong = try await refusal(forged)
                #expect((400..<500).contains(wrong.status) && wrong.message.contains("token"), "\(wrong)")
                // Another swarm's root.
                try await cluster.initialize(cluster[3])
                let other = try await cluster.token(.worker, from: cluster[3])
                let foreign = try await refusal(other)
                #expect((400..<600).contains(foreign.status) && foreign.message.contains("token"), "\(foreign)")
                // A token that was replaced.
                try await cluster.updateSwarm("&rotateWorkerToken=1")
                let rotated = try await cluster.token(.worker)
                #expect(rotated != worker)
                let replayed = try await refusal(worker)
                #expect((400..<500).contains(replayed.status) && replayed.message.contains("token"), "\(replayed)")
                #expect(try await cluster.nodeList(on: manager).count == 1, "a refused node is in the list")
                // A worker's token makes a worker, whatever it asks for.
                try await newcomer.json("POST", "/swarm/join", cluster.joining(newcomer, token: rotated))
                #expect(try await newcomer.swarm["ControlAvailable"]?.bool == false)
                let again = try await newcomer.refusal("POST", "/swarm/join", cluster.joining(newcomer, token: rotated))
                #expect(again.message.contains("already part of a swarm"), "\(again)")
            }
        }

        @Test func aManagerThatCannotBeReachedIsNamed() async throws {
            try await ClusterHarness.with(managers: 1, extra: 1) { cluster in
                let token = try await cluster.token(.worker)
                try await cluster[1].stop()
                let refusal = try await cluster[2].refusal("POST", "/swarm/join", cluster.joining(cluster[2], token: token))
                #expect((500..<600).contains(refusal.status), "\(refusal)")
                #expect(refusal.message.contains("10.98.0.1"), "\(refusal)")
                #expect(try await cluster[2].swarm["LocalNodeState"]?.string == "inactive")
                try await cluster[1].start()
                try await cluster.join(cluster[2], as: .worker)
                try await cluster.waitForNodes(ready: 2, on: [cluster[1]])
            }
        }
    }
}
