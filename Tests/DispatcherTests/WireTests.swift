import Coding
import Fuzzing
import Glibc
import PluginAPI
import Testing
import Wire

@testable import Dispatcher

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

        var change = AssignmentsMessage()
        change.isFull = true
        change.appliesTo = 3
        change.resultsIn = .max
        change.part = 2
        change.hasMore = true
        change.tasks = [assigned("a"), assigned("b", .running)]
        change.removedTasks = ["c", "d"]
        change.secrets = [Secret()]
        change.secrets[0].spec.data = [0, 1, 255]
        change.configs = [Config()]
        change.configs[0].id = "c"
        change.removedSecrets = ["s"]
        change.removedConfigs = ["c", "d"]
        try check(
            change, "AssignmentsMessage",
            fields: [
                "is_full", "applies_to", "results_in", "part", "has_more", "tasks", "removed_tasks", "secrets", "configs",
                "removed_secrets", "removed_configs",
            ])

        try checkEndpoints()
        try checkLogs()

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

    private func checkLogs() throws {
        var request = LogsRequest()
        request.sessionID = "s"
        try check(request, "LogsRequest", fields: ["session_id"])
        var subscription = LogSubscription()
        subscription.id = "l"
        subscription.isEnd = true
        subscription.taskID = "t"
        subscription.standardOutput = true
        subscription.standardError = true
        subscription.follow = true
        subscription.timestamps = true
        subscription.tail = 0
        subscription.since = Timestamp(nanoseconds: 1_700_000_000_123_456_789)
        subscription.until = Timestamp(nanoseconds: 1_800_000_000_000_000_000)
        subscription.linePrefix = "a=b "
        try check(
            subscription, "LogSubscription",
            fields: [
                "id", "is_end", "task_id", "standard_output", "standard_error", "follow", "timestamps", "tail", "since", "until", "line_prefix",
            ])
        var piece = PublishLogsMessage()
        piece.sessionID = "s"
        piece.subscriptionID = "l"
        piece.data = [1, 0, 0, 0, 0, 0, 0, 1, 10]
        piece.error = "gone"
        piece.isComplete = true
        try check(piece, "PublishLogsMessage", fields: ["session_id", "subscription_id", "data", "error", "is_complete"])
        try check(PublishLogsResponse(), "PublishLogsResponse", fields: [])
        var reading = ReadLogsRequest()
        reading.nodeID = "n"
        reading.subscription = subscription
        try check(reading, "ReadLogsRequest", fields: ["node_id", "subscription"])
        var chunk = LogChunk()
        chunk.data = [0, 255]
        try check(chunk, "LogChunk", fields: ["data"])
    }

    private func checkEndpoints() throws {
        var request = EndpointsRequest()
        request.sessionID = "s"
        try check(request, "EndpointsRequest", fields: ["session_id"])
        var node = EndpointNode(makeNode("n", address: "192.0.2.1"))
        node.meshAddresses = ["10.0.0.1/16", "fd00::1/64"]
        node.managerAddress = "192.0.2.1:2377"
        try check(node, "EndpointNode", fields: ["id", "hostname", "address", "mesh_addresses", "manager_address"])
        var network = EndpointNetwork(makeNetwork("net"), in: nil)
        var key = NetworkKey()
        key.key = [1, 2, 3]
        network.keys = [key, NetworkKey()]
        try check(network, "EndpointNetwork", fields: ["network", "keys", "data_path_port"])
        var aliases = EndpointAliases()
        aliases.networkID = "net"
        aliases.names = ["a", "b"]
        try check(aliases, "EndpointAliases", fields: ["network_id", "names"])
        var state = MemoryState()
        state.networks["net"] = makeNetwork("net")
        var service = try #require(EndpointService(makeService("web", in: ["net"], ports: [makePort(80, 8080)]), in: state))
        service.mode = .dnsRoundRobin
        try check(service, "EndpointService", fields: ["id", "name", "mode", "virtual_ips", "ports", "aliases"])
        state.nodes["n"] = makeNode("n")
        state.services["web"] = makeService("web")
        let task = try #require(EndpointTask(placed("t", node: "n", in: ["net"]), in: state))
        try check(task, "EndpointTask", fields: ["id", "service_id", "node_id", "name", "attachments", "is_serving"])

        var message = EndpointsMessage()
        message.isFull = true
        message.appliesTo = 3
        message.resultsIn = .max
        message.part = 2
        message.hasMore = true
        message.nodes = [node, EndpointNode()]
        message.networks = [network]
        message.services = [service]
        message.tasks = [task]
        message.removed = ["task/x", "node/y"]
        message.checksum = .max
        message.mustConfirm = true
        message.withdrawn = ["z"]
        try check(
            message, "EndpointsMessage",
            fields: [
                "is_full", "applies_to", "results_in", "part", "has_more", "nodes", "networks", "services", "tasks", "removed", "checksum", "must_confirm",
                "withdrawn",
            ])
        var confirmation = ConfirmEndpointsRequest()
        confirmation.sessionID = "s"
        confirmation.version = 7
        try check(confirmation, "ConfirmEndpointsRequest", fields: ["session_id", "version"])
        try check(ConfirmEndpointsResponse(), "ConfirmEndpointsResponse", fields: [])
    }

    /// Random bytes, and messages with bytes that were changed, are read or refused, and nothing else.
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func garbageIsRefused(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        var message = AssignmentsMessage()
        message.tasks = [assigned("a")]
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
