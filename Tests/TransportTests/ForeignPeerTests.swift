import GRPCCore
import Glibc
import PluginAPI
import Testing

@testable import Transport

/// The transport against peers that nobody here wrote.
@Suite(.serialized) struct ForeignPeerTests {
    private static let grpcio: Comment = "grpcio is missing: run contrib/peers.sh"
    private static let nghttp2: Comment = "h2load and nghttp are missing: apt install nghttp2-client"

    @Test(.enabled(if: PeerPrograms.hasGRPCIO, grpcio))
    func grpcioAsTheClient() async throws {
        let authority = try TestAuthority()
        let names: Set<String> = ["swarm-manager"]
        let server = try TransportCredentials(roots: authority.rootPEM, identity: authority.identity("manager1", names: Array(names)))
        let output = try await Fixture.withServer(.tls(server)) { _, port in
            try await PeerPrograms.withFolder(authority, authority.identity("python", unit: "swarm-worker")) { folder in
                try await PeerPrograms.run(
                    "\(PeerPrograms.python) '\(PeerPrograms.folder)/Peers/client.py' \(port) '\(folder)'")
            }
        }
        #expect(output.status == 0, "\(output.output)")
        #expect(!output.output.contains("WRONG"), "\(output.output)")
        let right = output.output.split(separator: "\n").filter { $0.hasPrefix("ok ") }.count
        #expect(right == 18, "\(output.output)")
    }

    @Test(.enabled(if: PeerPrograms.hasGRPCIO, grpcio))
    func grpcioAsTheServer() async throws {
        let authority = try TestAuthority()
        try await PeerPrograms.withFolder(authority, authority.identity("python")) { folder in
            try await withThrowingTaskGroup(of: String.self) { tasks in
                // Its input is a pipe that ends when the file "stop" is there.
                tasks.addTask {
                    try await PeerPrograms.run(
                        "while [ ! -e '\(folder)/stop' ]; do sleep 0.1; done | \(PeerPrograms.python)"
                            + " '\(PeerPrograms.folder)/Peers/server.py' '\(folder)' > '\(folder)/port'"
                    ).output
                }
                defer { if let file = fopen("\(folder)/stop", "w") { fclose(file) } }
                let isUp = try await Fixture.becomesTrue {
                    Int(try await PeerPrograms.run("tail -n 1 '\(folder)/port'").output.prefix { $0 != "\n" }) != nil
                }
                #expect(isUp)
                let port = Int(try await PeerPrograms.run("tail -n 1 '\(folder)/port'").output.prefix { $0 != "\n" }) ?? 0
                let credentials = try TransportCredentials(roots: authority.rootPEM, identity: authority.identity("swift1"))
                try await Fixture.withClient(port: port, .tls(credentials)) { try await check($0) }
            }
        }
    }

    private func check(_ client: GRPCClient<NodeClientTransport>) async throws {
        let name = try await client.text("Who")
        #expect(name == "swift1")
        let response = try await client.call("Unary", [1, 2], metadata: ["key": "value", "data-bin": .binary(Array(0...255))])
        let message = try response.message
        #expect(message == [1, 2])
        #expect(Array(response.metadata[stringValues: "key"]) == ["value"])
        #expect(Array(response.metadata[binaryValues: "data-bin"]) == [Array(0...255)])
        #expect(Array(response.trailingMetadata[binaryValues: "trailer-bin"]) == [[0, 1, 255]])
        let big = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let answer = try await client.bytes("Unary", big)
        #expect(answer == big)
        let error = await client.failure("Fail")
        #expect(error?.code == .failedPrecondition)
        #expect(error?.message == "no – 100 % no")
        #expect(error.map { Array($0.metadata[binaryValues: "why-bin"]) } == [[1, 2, 3]])
        let missing = await client.failure("Nothing")
        #expect(missing?.code == .unimplemented)
        let late = await client.failure("Hang", options: .with { $0.timeout = .seconds(1) })
        #expect(late?.code == .deadlineExceeded)
        let count = try await client.serverStreaming(
            request: ClientRequest(message: [10]), descriptor: EchoService.method("ServerStream"), serializer: BytesCoder(),
            deserializer: BytesCoder(),
            options: .defaults
        ) { response in
            var count = 0
            for try await message in response.messages where message.count == 1000 { count += 1 }
            return count
        }
        #expect(count == 1000)
        let joined = try await client.clientStreaming(
            request: StreamingClientRequest { writer in
                for number in 0..<500 { try await writer.write([UInt8](repeating: UInt8(number & 255), count: 1000)) }
            },
            descriptor: EchoService.method("Joined"), serializer: BytesCoder(), deserializer: BytesCoder(), options: .defaults
        ) { try $0.message }
        #expect(joined.count == 500_000)
        let echoed = try await client.bidirectionalStreaming(
            request: StreamingClientRequest { writer in for number in 0..<300 { try await writer.write([UInt8](repeating: 1, count: number * 7)) } },
            descriptor: EchoService.method("Bidirectional"), serializer: BytesCoder(), deserializer: BytesCoder(), options: .defaults
        ) { response in
            var sizes: [Int] = []
            for try await message in response.messages { sizes.append(message.count) }
            return sizes
        }
        #expect(echoed == (0..<300).map { $0 * 7 })
        await withTaskGroup(of: RPCError?.self) { tasks in
            for _ in 0..<200 { tasks.addTask { await client.failure("Unary", [9]) } }
            for await error in tasks { #expect(error == nil) }
        }
    }

    @Test(.enabled(if: PeerPrograms.hasNGHTTP2, nghttp2), arguments: [true, false])
    func h2load(_ isSecure: Bool) async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(isSecure ? .tls(authority.credentials("manager1")) : .plaintext) { server, port in
            let result = try await PeerPrograms.withFolder(authority, authority.identity("load")) { folder in
                try await PeerPrograms.run(
                    // A message of three bytes as the body of every request.
                    "printf '\\000\\000\\000\\000\\003abc' > '\(folder)/port';"
                        + " timeout 100 h2load -n 3000 -c 10 -m 4 -d '\(folder)/port' -H 'content-type: application/grpc' -H 'te: trailers'"
                        + " \(isSecure ? "https" : "http")://127.0.0.1:\(port)/test.Echo/Unary")
            }
            #expect(result.output.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(result.output)")
            #expect(server.statistics.floods == 0)
        }
    }

    @Test(.enabled(if: PeerPrograms.hasNGHTTP2, nghttp2))
    func nghttp() async throws {
        let authority = try TestAuthority()
        try await Fixture.withServer(.tls(authority.credentials("manager1"))) { _, port in
            let result = try await PeerPrograms.withFolder(authority, authority.identity("curious")) { folder in
                try await PeerPrograms.run(
                    "printf '\\000\\000\\000\\000\\003abc' > '\(folder)/port'; timeout 60 nghttp -v --no-verify-peer --cert='\(folder)/certificate.pem'"
                        + " --key='\(folder)/key.pem' -d '\(folder)/port' -H ':method: POST' -H 'content-type: application/grpc' -H 'te: trailers'"
                        + " https://127.0.0.1:\(port)/test.Echo/Unary")
            }
            #expect(result.output.contains("grpc-status: 0"), "\(result.output)")
            #expect(result.output.contains("trailer: end"), "\(result.output)")
        }
    }
}
