import Coding
import PluginAPI
import Testing

@testable import CommandLine

@Suite struct NetworkCommandTests {
    private func created(_ arguments: String...) async throws -> JSONValue {
        let run = FakeRun()
        run.engine.answer("POST /networks/create", ["Id": "n1", "Warning": ""], status: 201)
        #expect(await run(["network", "create"] + arguments) == 0, "\(run.console.errors)")
        #expect(run.console.output == "n1\n")
        return try run.engine.body(of: "POST /networks/create")
    }

    @Test func createSendsWhatDockerSends() async throws {
        let plain = try await created("lan")
        #expect(plain["Driver"] == "bridge" && plain["Name"] == "lan" && plain["IPAM"]?["Config"] == [] && plain["Scope"] == nil)
        let body = try await created(
            "-d", "overlay", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.254", "--ip-range", "10.9.0.128/25", "--aux-address", "router=10.9.0.5",
            "--subnet", "fd00:9::/64", "--ipv6", "--opt", "encrypted", "-o", "a=b", "--label", "x=y", "--attachable", "--internal", "--scope", "swarm", "lan")
        #expect(body["Driver"] == "overlay" && body["Attachable"] == true && body["Internal"] == true && body["EnableIPv6"] == true)
        #expect(body["Options"] == ["a": "b", "encrypted": ""] && body["Labels"] == ["x": "y"] && body["Scope"] == "swarm")
        let pools = body["IPAM"]?["Config"]?.array ?? []
        #expect(pools.count == 2 && pools[0]["Gateway"] == "10.9.0.254" && pools[0]["IPRange"] == "10.9.0.128/25")
        #expect(pools.first?["AuxiliaryAddresses"] == ["router": "10.9.0.5"] && pools.last == ["Subnet": "fd00:9::/64"])
        let ingress = try await created("--ingress", "mesh")
        #expect(ingress["Ingress"] == true && ingress["Driver"] == "overlay")
    }

    @Test(
        arguments: [
            ["--subnet", "10.9.0.0"], ["--subnet", "fd00::"], ["--subnet", "10.9.0.0/33"], ["--gateway", "10.9.0.1"],
            ["--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1"], ["--subnet", "10.9.0.0/24", "--gateway", "10.9.0.1/24"],
            ["--subnet", "10.9.0.0/24", "--ip-range", "10.8.0.0/25"], ["--subnet", "10.9.0.0/24", "--aux-address", "a=10.8.0.1"],
            ["--subnet", "10.9.0.0/24", "--subnet", "10.9.0.0/25"], ["--scope", "global"], ["--opt", "=x"],
        ])
    func createRefuses(arguments: [String]) async {
        let run = FakeRun()
        #expect(await run(["network", "create"] + arguments + ["lan"]) == 1)
        #expect(!run.console.errors.isEmpty && run.engine.requests.isEmpty)
    }

    @Test func listsInspectsAndRemoves() async throws {
        let run = FakeRun()
        let network: JSONValue = [
            "Id": "0123456789abcdef", "Name": "lan", "Driver": "overlay", "Scope": "swarm", "EnableIPv6": true, "Internal": false, "Labels": ["a": "b"],
            "IPAM": ["Config": [["Subnet": "10.9.0.0/24"]]], "Created": "2026-01-31T12:00:00Z",
        ]
        run.engine.answer("GET /networks", [network])
        run.engine.answer("GET /networks/lan", network)
        run.engine.answer("DELETE /networks/lan", .null, status: 204)
        run.engine.answer("POST /networks/prune", ["NetworksDeleted": ["one", "two"]])
        #expect(await run("network", "ls", "--filter", "scope=swarm") == 0)
        #expect(run.console.output.contains("0123456789ab   lan    overlay   swarm"))
        #expect(await run("network", "ls", "--format", "{{.Name}} {{.Subnet}} {{.IPv6}} {{.Internal}}") == 0)
        #expect(run.console.output.hasSuffix("lan 10.9.0.0/24 true false\n"))
        #expect(await run("network", "inspect", "-v", "--format", "{{.Driver}}", "lan") == 0)
        #expect(run.engine.requests.last?.target == "/v1.50/networks/lan?verbose=1")
        #expect(await run("network", "rm", "lan") == 0)
        #expect(await run("network", "rm", "gone") == 1)
        #expect(await run("network", "rm", "-f", "gone") == 0)
        #expect(await run("network", "prune") == 1)
        #expect(await run("network", "prune", "-f", "--filter", "until=24h") == 0)
        #expect(run.console.output.hasSuffix("Deleted Networks:\none\ntwo\n"))
    }

    @Test func connectsAndDisconnects() async throws {
        let run = FakeRun()
        run.engine.answer("POST /networks/lan/connect", .null)
        run.engine.answer("POST /networks/lan/disconnect", .null)
        #expect(await run("network", "connect", "--alias", "db", "--ip", "10.9.0.7", "lan", "box") == 0)
        let body = try run.engine.body(of: "POST /networks/lan/connect")
        #expect(body["Container"] == "box" && body["EndpointConfig"]?["Aliases"] == ["db"])
        #expect(body["EndpointConfig"]?["IPAMConfig"]?["IPv4Address"] == "10.9.0.7")
        #expect(await run("network", "connect", "--ip", "fd00::1", "lan", "box") == 1)
        #expect(await run("network", "disconnect", "-f", "lan", "box") == 0)
        #expect(try run.engine.body(of: "POST /networks/lan/disconnect") == ["Container": "box", "Force": true])
    }

    @Test func servicesJoinAndLeaveNetworks() async throws {
        let run = FakeRun()
        let service: JSONValue = [
            "ID": "s1", "Version": ["Index": 7],
            "Spec": ["Name": "web", "TaskTemplate": ["ContainerSpec": ["Image": "nginx"], "Networks": [["Target": "id-front"]]], "Labels": [:]],
        ]
        run.engine.answer("GET /services/web", service)
        run.engine.answer("POST /services/s1/update", [:])
        run.engine.answer("GET /tasks", [])
        run.engine.answer("GET /networks/front", ["Id": "id-front"])
        run.engine.answer("GET /networks/back", ["Id": "id-back"])
        #expect(await run("service", "update", "--detach", "--network-rm", "front", "--network-add", "name=back,alias=db", "web") == 0, "\(run.console.errors)")
        let networks = try run.engine.body(of: "POST /services/s1/update")["TaskTemplate"]?["Networks"]
        #expect(networks == [["Target": "back", "Aliases": ["db"]]])
        #expect(await run("service", "update", "--detach", "--network-add", "name=front,alias=x", "web") == 1, "it is in that network already")
    }

    @Test func poolsOfASwarm() async throws {
        let run = FakeRun()
        run.engine.answer("POST /swarm/init", "n1")
        #expect(
            await run(
                "swarm", "init", "--default-addr-pool", "10.20.0.0/16,10.30.0.0/16", "--default-addr-pool-mask-length", "26", "--data-path-addr", "eth1",
                "--data-path-port", "7777") == 0)
        let body = try run.engine.body(of: "POST /swarm/init")
        #expect(body["DefaultAddrPool"] == ["10.20.0.0/16", "10.30.0.0/16"] && body["SubnetSize"] == 26)
        #expect(body["DataPathAddr"] == "eth1" && body["DataPathPort"] == 7777)
    }
}
