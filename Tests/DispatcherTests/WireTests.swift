import Coding
import Glibc
import PluginAPI
import Testing
import Wire

/// The codec is held to `Dispatch.proto` by protoc, which nobody here wrote.
@Suite struct WireTests {
    private static let folder = "\(#filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/"))/Sources/Core/Wire"

    /// Runs protoc on bytes.
    private func protoc(_ arguments: String, _ input: [UInt8]) throws -> [UInt8] {
        var template = Array("/tmp/apus-wire-XXXXXX".utf8CString)
        let file = mkstemp(&template)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            close(file)
            unlink(path)
        }
        try #require(file >= 0 && write(file, input, input.count) == input.count)
        let pipe = try #require(popen("protoc -I '\(Self.folder)' \(arguments) Dispatch.proto < \(path)", "r"))
        var output: [UInt8] = []
        while case let byte = getc(pipe), byte != EOF { output.append(UInt8(truncatingIfNeeded: byte)) }
        try #require(pclose(pipe) == 0, "protoc \(arguments)")
        return output
    }

    /// Encoded here, read and written anew by protoc: the same bytes, and the same value; and protoc knows every field by the name that is used here.
    private func check<Message: FieldCoded>(_ message: Message, _ name: String, fields: [String]) throws {
        let bytes = ProtobufFields.encode(message)
        let text = try protoc("--decode=apus.v1.\(name)", bytes)
        let words = String(decoding: text, as: UTF8.self)
        let known = Set(words.split(separator: "\n").filter { !$0.hasPrefix(" ") && !$0.hasPrefix("}") }.map { $0.prefix { $0 != ":" && $0 != " " } })
        #expect(known == Set(fields.map { $0[...] }), "\(name) is, for protoc:\n\(words)")
        let again = try protoc("--encode=apus.v1.\(name)", text)
        #expect(try ProtobufFields.decode(Message.self, from: again) == message, "\(name)")
    }

    @Test func everyMessageIsWhatTheContractSays() throws {
        var session = SessionRequest()
        session.description.hostname = "host"
        session.address = "192.0.2.1"
        try check(session, "SessionRequest", fields: ["description", "address"])

        var peer = ManagerPeer()
        peer.nodeID = "n"
        peer.address = "192.0.2.1:2377"
        peer.weight = 8
        try check(peer, "ManagerPeer", fields: ["node_id", "address", "weight"])

        var message = SessionMessage()
        message.sessionID = "s"
        message.node = makeNode("n", labels: ["a": "b"])
        message.managers = [peer, ManagerPeer()]
        message.heartbeatPeriod = .seconds(5)
        message.trustRoots = [1, 2, 0, 255]
        message.renewCertificate = true
        try check(
            message, "SessionMessage", fields: ["session_id", "node", "managers", "heartbeat_period", "trust_roots", "renew_certificate"])

        var heartbeat = HeartbeatRequest()
        heartbeat.sessionID = "s"
        try check(heartbeat, "HeartbeatRequest", fields: ["session_id"])
        var response = HeartbeatResponse()
        response.period = .milliseconds(4800)
        try check(response, "HeartbeatResponse", fields: ["period"])
        var assignments = AssignmentsRequest()
        assignments.sessionID = "s"
        try check(assignments, "AssignmentsRequest", fields: ["session_id"])

        var ports = ServicePorts()
        ports.serviceID = "web"
        ports.ports = [makePort(80, 8080), makePort(53, 53, .ingress, .udp)]
        try check(ports, "ServicePorts", fields: ["service_id", "ports"])

        var change = AssignmentsMessage()
        change.isFull = true
        change.appliesTo = 3
        change.resultsIn = .max
        change.part = 2
        change.hasMore = true
        change.tasks = [assigned("a"), assigned("b", .running)]
        change.removedTasks = ["c", "d"]
        change.servicePorts = [ports]
        change.secrets = [Secret()]
        change.secrets[0].spec.data = [0, 1, 255]
        change.configs = [Config()]
        change.configs[0].id = "c"
        change.removedSecrets = ["s"]
        change.removedConfigs = ["c", "d"]
        try check(
            change, "AssignmentsMessage",
            fields: [
                "is_full", "applies_to", "results_in", "part", "has_more", "tasks", "removed_tasks", "service_ports", "secrets", "configs",
                "removed_secrets", "removed_configs",
            ])

        var update = TaskStatusUpdate()
        update.taskID = "t"
        update.status = status(.failed, "gone")
        try check(update, "TaskStatusUpdate", fields: ["task_id", "status"])
        var updates = UpdateTaskStatusRequest()
        updates.sessionID = "s"
        updates.updates = [update]
        updates.sentAt = Timestamp(nanoseconds: 1_700_000_000_123_456_789)
        try check(updates, "UpdateTaskStatusRequest", fields: ["session_id", "updates", "sent_at"])

        var description = UpdateNodeDescriptionRequest()
        description.sessionID = "s"
        description.description.hostname = "h"
        try check(description, "UpdateNodeDescriptionRequest", fields: ["session_id", "description"])
        var end = EndSessionRequest()
        end.sessionID = "s"
        end.isLeaving = true
        try check(end, "EndSessionRequest", fields: ["session_id", "is_leaving"])
        try check(UpdateTaskStatusResponse(), "UpdateTaskStatusResponse", fields: [])
        try check(UpdateNodeDescriptionResponse(), "UpdateNodeDescriptionResponse", fields: [])
        try check(EndSessionResponse(), "EndSessionResponse", fields: [])
    }

    /// Random bytes, and messages with bytes that were changed, are read or refused, and nothing else.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func garbageIsRefused(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var message = AssignmentsMessage()
        message.tasks = [assigned("a")]
        message.servicePorts = [ServicePorts()]
        message.secrets = [Secret()]
        message.removedConfigs = ["c"]
        let good = ProtobufFields.encode(message)
        for _ in 0..<500 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0 ... .max, using: &generator)
            }
            if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator)) }
            do throws(ApusError) { _ = try ProtobufFields.decode(AssignmentsMessage.self, from: bytes) } catch { #expect(!error.message.isEmpty) }
        }
    }
}
