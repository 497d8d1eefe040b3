import Coding
import Files
import Glibc
import Peers
import PluginAPI
import Raft
import Testing
import Wire

/// Holds the codec to Raft.proto with somebody else's protobuf.
@Suite struct ContractTests {
    private var contract: String {
        var path = #filePath.split(separator: "/").map(String.init)
        path.removeLast(3)
        return "/" + path.joined(separator: "/") + "/Sources/Core/Wire"
    }

    /// Runs protoc with files, since it is only a shell's work.
    private func protoc(_ mode: String, _ type: String, _ input: [UInt8]) throws -> [UInt8] {
        let directory = try Files.makeTemporaryDirectory(prefix: "apus-protoc")
        defer { try? Files.removeTree(directory) }
        try Files.writeAtomically(input, to: "\(directory)/in", sync: false)
        let command = "protoc --\(mode)=apus.v1.\(type) -I '\(contract)' '\(contract)/Raft.proto' < \(directory)/in > \(directory)/out"
        #expect(system(command) == 0)
        return try Files.read("\(directory)/out")
    }

    @Test(arguments: PeersTests.messages.indices) func messagesAreAsTheContractSays(_ index: Int) throws {
        let message = RaftMessage(from: MemberID(5), to: MemberID(6), term: 7, content: PeersTests.messages[index])
        let text = try protoc("decode", "RaftPeerMessage", ProtobufFields.encode(RaftPeerMessage(message)))
        // A field that the contract does not have is shown by its number.
        let described = String(decoding: text, as: UTF8.self)
        #expect(!described.split(separator: "\n").contains { $0.first { $0 != " " }?.isNumber == true }, "\(described)")
        let again = try protoc("encode", "RaftPeerMessage", text)
        #expect(try RaftMessage(ProtobufFields.decode(RaftPeerMessage.self, from: again)) == message)
    }

    @Test func theOthersToo() throws {
        let text = "message { from: 1 to: 2 kind: INSTALL_SNAPSHOT } chunk: \"abc\" ends_piece: true"
        let request = try ProtobufFields.decode(InstallSnapshotRequest.self, from: try protoc("encode", "InstallSnapshotRequest", Array(text.utf8)))
        #expect(request.message?.kind == 6)
        #expect(request.chunk == Array("abc".utf8))
        #expect(request.endsPiece)
        let batch = try ProtobufFields.decode(
            RaftBatch.self, from: try protoc("encode", "RaftBatch", Array("messages { from: 1 } messages { from: 2 }".utf8)))
        #expect(batch.messages.map(\.from) == [1, 2])
    }
}
