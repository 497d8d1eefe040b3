import Coding
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct NodeCommandTests {
    private func node(
        _ id: String, _ name: String, role: String = "worker", manager: JSONValue? = nil, availability: String = "active", state: String = "ready",
        certificate: JSONValue? = nil
    ) -> JSONValue {
        var node: JSONValue = [
            "ID": .string(id), "Version": ["Index": 4], "CreatedAt": "2026-01-31T11:00:00Z",
            "Spec": ["Labels": ["a": "1"], "Role": .string(role), "Availability": .string(availability)],
            "Description": ["Hostname": .string(name), "Engine": ["EngineVersion": "0.1.0"]], "Status": ["State": .string(state), "Addr": "10.0.0.9"],
        ]
        if let manager { node["ManagerStatus"] = manager }
        if let certificate { node["Certificate"] = certificate }
        return node
    }

    private func task(_ id: String, slot: Int64, _ state: String, desired: String = "running") -> JSONValue {
        [
            "ID": .string(id), "ServiceID": "s1", "Slot": .integer(slot), "NodeID": "n1", "DesiredState": .string(desired),
            "Status": ["State": .string(state)],
        ]
    }

    @Test func list() async {
        let run = FakeRun()
        run.engine.answer("GET /info", ["Swarm": ["NodeID": "n2"]])
        run.engine.answer(
            "GET /nodes",
            [
                node("n4", "d", certificate: ["Membership": "pending", "RequestedBy": "ipv4:10.0.0.4:99"]),
                node("n3", "c", availability: "drain", state: "down"),
                node("n2", "b", role: "manager", manager: ["Reachability": "unreachable"]),
                node("n1", "a", role: "manager", manager: ["Leader": true, "Reachability": "reachable"]),
                node("n5", "e", role: "manager", manager: ["Reachability": "reachable"]),
            ])
        #expect(await run("node", "ls") == 0)
        #expect(
            run.console.output == """
                ID     HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION
                n1     a          Ready     Active         Leader           0.1.0
                n2 *   b          Ready     Active         Unreachable      0.1.0
                n3     c          Down      Drain                           0.1.0
                n4     d          Pending   Active                          0.1.0
                n5     e          Ready     Active         Reachable        0.1.0

                """)
        #expect(run.console.errors.contains("apus node accept") && run.console.errors.contains(" 10.0.0.4:99 (n4)"))
        let quiet = FakeRun()
        quiet.engine.answer("GET /nodes", [node("n4", "d", certificate: ["Membership": "pending"])])
        #expect(await quiet("node", "ls", "-q") == 0 && quiet.console.output == "n4\n" && quiet.console.errors.isEmpty)
    }

    @Test func inspectShowsTheCertificate() async {
        let run = FakeRun()
        run.engine.answer("GET /nodes/a", node("n1", "a"))
        run.engine.answer(
            "GET /nodes/n1",
            node(
                "n1", "a", role: "manager", manager: ["Reachability": "reachable", "Addr": "10.0.0.1:2377"],
                certificate: [
                    "State": "issued", "Membership": "accepted", "Serial": "0aff", "Role": "worker", "IssuedAt": "2026-01-31T11:00:00Z",
                    "ExpiresAt": "2026-02-10T12:00:00Z", "Occasion": "renewal", "RequestedBy": "ipv4:10.0.0.1:7",
                    "LastRefusal": ["Time": "2026-01-30T00:00:00Z", "Reason": "another key", "RequestedBy": "10.0.0.66"],
                ]))
        #expect(await run("node", "inspect", "--pretty", "a") == 0)
        let expected = """
            Certificate:
             State:           Issued
             Serial:          0aff
             Role:            Worker
             Issued:          2026-01-31T11:00:00Z (about an hour ago)
             Expires:         2026-02-10T12:00:00Z (in 10 days)
             Occasion:        renewal
             Requested by:    10.0.0.1:7
             Last refusal:    2026-01-30T00:00:00Z: another key (asked from 10.0.0.66)

            """
        #expect(run.console.output.hasSuffix(expected))
        #expect(run.console.output.contains("Reachability:     Reachable") && run.console.output.contains("Role:             Manager"))
        var expired = Node()
        expired.certificate.serial = "1"
        expired.certificate.expiresAt = Timestamp(nanoseconds: 5)
        #expect(NodeInspectCommand.lines(expired, now: Timestamp(nanoseconds: 6)).contains { $0.contains("expired") })
        expired.certificate.membership = .pending
        #expect(NodeInspectCommand.lines(expired, now: .never).contains { $0.contains("apus node accept") })
        #expect(!NodeInspectCommand.lines(Node(), now: .never).contains { $0.contains("Certificate") })
    }

    @Test func promoteDemoteAcceptRemove() async throws {
        let run = FakeRun()
        run.engine.answer("GET /nodes/a", node("n1", "a"))
        run.engine.answer("GET /nodes/n1", node("n1", "a"))
        run.engine.answer("POST /nodes/n1/update", bytes: [])
        #expect(await run("node", "promote", "a") == 0)
        #expect(try run.engine.body(of: "POST /nodes/n1/update")["Role"] == "manager")
        #expect(run.engine.requests.contains { $0.target == "/v1.50/nodes/n1/update?version=4" })
        let count = run.engine.requests.count { $0.method == "POST" }
        #expect(await run("node", "demote", "a") == 0 && run.console.output.hasSuffix("Node a is already a worker.\n"))
        #expect(run.engine.requests.count { $0.method == "POST" } == count)
        run.engine.answer("POST /nodes/n7/accept", bytes: [])
        #expect(await run("node", "accept", "n7", "n8") == 1)
        #expect(run.console.output.hasSuffix("Node n7 accepted in the swarm.\n") && run.console.errors.contains("/nodes/n8/accept"))
        run.engine.answer("DELETE /nodes/n7", bytes: [])
        #expect(await run("node", "rm", "-f", "n7") == 0)
        #expect(run.engine.requests.last?.target == "/v1.50/nodes/n7?force=1")
    }

    @Test func updateChangesLabelsAndRole() async throws {
        let run = FakeRun()
        run.engine.answer("GET /info", ["Swarm": ["NodeID": "n1"]])
        run.engine.answer("GET /nodes/n1", node("n1", "a"))
        run.engine.answer("POST /nodes/n1/update", bytes: [])
        #expect(await run("node", "update", "--label-add", "b=2", "--label-rm", "a", "--role", "manager", "self") == 0)
        let body = try run.engine.body(of: "POST /nodes/n1/update")
        #expect(body["Labels"] == ["b": "2"] && body["Role"] == "manager" && body["Availability"] == "active")
        #expect(await run("node", "update", "--label-rm", "zz", "self") == 1 && run.console.errors.contains("zz"))
        #expect(await run("node", "update", "--wait", "--role", "worker", "self") == 1 && run.console.errors.contains("--availability drain"))
        #expect(await run("node", "update", "self") == 1)
    }

    private func draining(_ lists: [JSONValue], nodeNow: JSONValue? = nil) -> FakeRun {
        let run = FakeRun()
        run.engine.answer("GET /nodes/a", node("n1", "a"))
        run.engine.answer("GET /nodes/n1", node("n1", "a"))
        run.engine.answer("GET /nodes/n1", nodeNow ?? node("n1", "a", availability: "drain"))
        run.engine.answer("POST /nodes/n1/update", bytes: [])
        run.engine.answer("GET /services", [["ID": "s1", "Spec": ["Name": "web"]]])
        for list in lists { run.engine.answer("GET /tasks", list) }
        return run
    }

    @Test func aDrainIsFollowedUntilTheNodeIsEmpty() async throws {
        let run = draining([
            [task("t1", slot: 1, "running"), task("t2", slot: 2, "running"), task("t3", slot: 3, "failed", desired: "shutdown")],
            [task("t1", slot: 1, "running", desired: "shutdown"), task("t2", slot: 2, "running")],
            [task("t1", slot: 1, "shutdown", desired: "shutdown"), task("t2", slot: 2, "running", desired: "shutdown")],
            [task("t1", slot: 1, "shutdown", desired: "shutdown"), task("t2", slot: 2, "complete", desired: "shutdown")],
        ])
        #expect(await run("node", "update", "--availability", "drain", "--wait", "a") == 0)
        #expect(try run.engine.body(of: "POST /nodes/n1/update")["Availability"] == "drain")
        #expect(
            run.console.output == """
                a
                2 tasks left on the node, 2 of them until a replacement runs elsewhere: web.1 (running), web.2 (running)
                2 tasks left on the node, 1 of them until a replacement runs elsewhere: web.1 (stopping), web.2 (running)
                1 task left on the node: web.2 (stopping)
                No task runs on node a any more.

                """)
        #expect(run.engine.requests.contains { $0.target.contains("filters=%7B%22node%22%3A%7B%22n1%22%3Atrue%7D%7D") })
    }

    @Test func aDrainThatCannotEndSaysSo() async {
        let undone = draining([[task("t1", slot: 1, "running")]], nodeNow: node("n1", "a", availability: "active"))
        #expect(await undone("node", "update", "--availability", "drain", "--wait", "a") == 1)
        #expect(undone.console.errors.contains("by somebody else"))
        let down = draining([[task("t1", slot: 1, "running")]], nodeNow: node("n1", "a", availability: "drain", state: "down"))
        #expect(await down("node", "update", "--availability", "drain", "--wait", "a") == 1)
        #expect(down.console.errors.contains("is down"))
        var left = draining([[task("t1", slot: 1, "running")]])
        left.presses = true
        #expect(await left("node", "update", "--availability", "drain", "--wait", "a") == 130)
        #expect(left.console.errors.contains("apus node ps a"))
    }

    @Test func waitingBearsWithAnElectionButNotForEver() throws {
        var patience = Patience()
        let away = ApusError(.unavailable, "no leader")
        try patience.bear(away, now: Timestamp(nanoseconds: 1))
        try patience.bear(away, now: Timestamp(nanoseconds: 30_000_000_000))
        patience.end()
        try patience.bear(away, now: Timestamp(nanoseconds: 80_000_000_000))
        #expect(throws: ApusError.self) { try patience.bear(away, now: Timestamp(nanoseconds: 150_000_000_000)) }
        var other = Patience()
        #expect(throws: ApusError.self) { try other.bear(ApusError(.notFound, "gone"), now: .never) }
    }

    @Test func staleReadsAskTheManagerAlone() async {
        let run = FakeRun()
        run.engine.answer("GET /info", ["Swarm": ["NodeID": "n1"]])
        for path in ["/nodes", "/services", "/tasks"] { run.engine.answer("GET \(path)", []) }
        run.engine.answer("GET /nodes/n1", node("n1", "a"))
        run.engine.answer("GET /services/web", ["ID": "s1", "Spec": ["Name": "web"]])
        run.engine.answer("GET /swarm", ["ID": "c1"])
        let commands = [
            ["node", "ls"], ["node", "ps"], ["node", "inspect", "self"], ["node", "inspect", "--pretty", "n1"],
            ["service", "ls"], ["service", "ps", "web"],
            ["service", "inspect", "web"], ["service", "inspect", "--pretty", "web"], ["swarm", "inspect"],
        ]
        for command in commands {
            let before = run.engine.requests.count
            #expect(await run(command) == 0, "\(command)")
            let fresh = run.engine.requests.dropFirst(before)
            #expect(!fresh.isEmpty && fresh.allSatisfy { !$0.target.contains("stale") }, "\(command)")
            #expect(await run(command + ["--stale"]) == 0, "\(command)")
            let reads = run.engine.requests.dropFirst(before + fresh.count).filter { $0.target != "/_ping" }
            #expect(!reads.isEmpty && reads.allSatisfy { $0.target.contains("stale=1") }, "\(command)")
        }
    }
}
