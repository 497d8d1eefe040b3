import Coding
import Orchestration
import PluginAPI
import Store
import Swarm
import Testing

@testable import Engine

/// Networks as the Engine API reads and shows them; no engine is started.
@Suite struct NetworkBodyTests {
    @Test func readsWhatDockerSends() throws {
        let body = try NetworkCreateBody(
            JSONValue.parse(
                #"""
                {"Name":"lan","CheckDuplicate":true,"Driver":"overlay","Scope":"","EnableIPv6":true,"IPAM":{"Driver":"default","Options":{},"Config":[
                {"Subnet":"10.9.0.0/24","IPRange":"10.9.0.128/25","Gateway":"10.9.0.1","AuxiliaryAddresses":{"router":"10.9.0.5"}}]},"Internal":true,
                "Attachable":true,"Ingress":false,"ConfigOnly":false,"ConfigFrom":{"Network":""},"Options":{"encrypted":""},"Labels":{"a":"b"}}
                """#))
        #expect(body.driverName == "overlay" && body.spec.name == "lan" && body.spec.attachable && body.spec.isInternal && body.spec.ipv6)
        #expect(body.spec.driver?.options == ["encrypted": ""] && body.spec.labels == ["a": "b"] && body.reserved == ["router": "10.9.0.5"])
        let pool = try #require(body.spec.ipam?.configs.first)
        #expect(pool.subnet == "10.9.0.0/24" && pool.range == "10.9.0.128/25" && pool.gateway == "10.9.0.1")
        #expect(try NetworkCreateBody(["Name": "x"]).driverName == "bridge")
        #expect(try NetworkCreateBody(["Name": "x", "Ingress": true]).driverName == "overlay")
        #expect(try NetworkCreateBody(["Name": "x", "Scope": "swarm"]).driverName == "overlay")
    }

    @Test(
        arguments: [
            (#"{"Name":1}"#, ApusError.Code.invalidArgument), (#"{"Name":"a","Colour":"red"}"#, .invalidArgument), (#"[]"#, .invalidArgument),
            (#"{"Name":"a","IPAM":{"Config":{}}}"#, .invalidArgument), (#"{"Name":"a","IPAM":{"Config":[{"Colour":1}]}}"#, .invalidArgument),
            (#"{"Name":"a","Scope":"global"}"#, .invalidArgument), (#"{"Name":"a","ConfigOnly":true}"#, .unimplemented),
            (#"{"Name":"a","ConfigFrom":{"Network":"b"}}"#, .unimplemented), (#"{"Name":"a","EnableIPv4":false}"#, .invalidArgument),
        ])
    func refuses(text: String, code: ApusError.Code) throws {
        let json = try JSONValue.parse(text)
        do throws(ApusError) {
            _ = try NetworkCreateBody(json)
            #expect(text.contains("EnableIPv4"), "\(text) is refused")
        } catch {
            #expect(error.code == code, "\(text): \(error)")
        }
    }

    /// Whatever comes: an error or a body, never an end.
    @Test func anything() {
        var generator = SystemRandomNumberGenerator()
        let words = ["{", "}", "[", "]", ":", ",", "\"", "Name", "IPAM", "Config", "Subnet", "1", "true", "null", "10.0.0.0/8", "-", "\\u0000", "é"]
        for _ in 0..<5000 {
            let text = (0..<Int.random(in: 0...20, using: &generator)).compactMap { _ in words.randomElement(using: &generator) }.joined()
            guard let json = try? JSONValue.parse(text) else { continue }
            _ = try? NetworkCreateBody(json)
        }
    }

    @Test func showsANetworkOfTheSwarm() throws {
        var spec = NetworkSpec()
        spec.name = "lan"
        spec.attachable = true
        spec.ipam = IPAMConfig()
        var pool = IPAMPool()
        (pool.subnet, pool.range) = ("10.9.0.0/24", "10.9.0.128/25")
        spec.ipam?.configs = [pool]
        let network = try NetworkDraft.create(spec, reserved: ["router": "10.9.0.5"], id: "n1", in: StoreSnapshot())
        let json = NetworkJSON.swarm(network)
        #expect(json["Id"] == "n1" && json["Scope"] == "swarm" && json["Driver"] == "overlay")
        #expect(json["Attachable"] == true && json["Containers"]?.isNull == true)
        #expect(json["Options"]?["com.docker.network.driver.overlay.vxlanid_list"] == "4096")
        #expect(
            json["IPAM"]?["Config"]
                == [
                    [
                        "Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.128/25",
                        "AuxiliaryAddresses": ["router": "10.9.0.5"],
                    ]
                ])
        #expect(NetworkJSON.swarm(network, in: StoreSnapshot(), isVerbose: true)["Services"] == [:])
    }

    @Test func poolsOfASwarm() throws {
        func beginning(_ pools: [String], _ size: UInt64 = 0, path: String = "") throws(ApusError) -> Cluster {
            var request = SwarmInitRequest()
            request.listenAddress = "127.0.0.1:2377"
            request.defaultAddressPool = pools
            request.subnetSize = size
            request.dataPathAddress = path
            return try request.beginning().cluster
        }
        #expect(try beginning([]).defaultAddressPool == ["10.0.0.0/8"])
        #expect(try beginning(["10.20.3.4/16"], 26).defaultAddressPool == ["10.20.0.0/16"])
        #expect(try beginning([], path: "127.0.0.1").subnetSize == 24)
        for (pools, size) in [(["10.0.0.0/25"], 0), (["fd00::/8"], 0), (["x"], 0), (["10.0.0.0/8", "10.1.0.0/16"], 0), ([], 31)] as [([String], UInt64)] {
            #expect(throws: ApusError.self, "\(pools)") { _ = try beginning(pools, size) }
        }
        for path in ["0.0.0.0", "no-such-interface", "10.0.0.1:80"] { #expect(throws: ApusError.self, "\(path)") { _ = try beginning([], path: path) } }
    }
}
