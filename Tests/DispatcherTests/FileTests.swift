import Coding
import Orchestration
import PluginAPI
import Synchronization
import Testing
import Wire

@testable import Dispatcher

/// Secrets and configs on their way to nodes.
@Suite(.timeLimit(.minutes(3))) struct FileTests {
    private static func secret(_ id: String, _ data: [UInt8] = [1, 2, 3]) -> Secret {
        var secret = Secret()
        (secret.id, secret.spec.name, secret.spec.data) = (ID(id), "name-\(id)", data)
        return secret
    }

    private static func config(_ id: String, size: Int = 3) -> Config {
        var config = Config()
        (config.id, config.spec.name, config.spec.data) = (ID(id), "name-\(id)", Array(repeating: 7, count: size))
        return config
    }

    private static func task(_ id: String, node: String = "n1", secrets: [String] = [], configs: [String] = []) -> Task {
        var task = assigned(id, node: node)
        var container = task.spec.container ?? ContainerSpec()
        container.secrets = secrets.map { id in
            var reference = SecretReference()
            (reference.secretID, reference.secretName) = (ID(id), "name-\(id)")
            return reference
        }
        container.configs = configs.map { id in
            var reference = ConfigReference()
            (reference.configID, reference.configName) = (ID(id), "name-\(id)")
            return reference
        }
        task.spec.container = container
        return task
    }

    private func news(_ tasks: ID...) -> Mailbox<ID>.News { Mailbox<ID>.News(keys: Set(tasks)) }

    @Test func aNodeHasWhatItsTasksNeedAndNoMore() throws {
        var cursor = AssignmentCursor(node: "n1")
        var set = AssignmentSet(node: "n1")
        func tell(_ messages: [AssignmentsMessage]) throws { for message in messages { _ = try set.apply(message) } }
        var swarm = MemoryState()
        for id in ["s1", "s2", "unused"] { swarm.secrets[ID(id)] = Self.secret(id) }
        swarm.configs["c1"] = Self.config("c1")
        swarm.put(Self.task("a", secrets: ["s1"], configs: ["c1"]))
        swarm.put(Self.task("other", node: "n2", secrets: ["s2"]))
        try tell(cursor.full(swarm))
        #expect(set.files.secrets.keys.sorted() == ["s1"] && set.files.configs.keys.sorted() == ["c1"])
        #expect(set.files.secrets["s1"]?.spec.data == [1, 2, 3])

        // A second task of the same: nothing is sent again.
        swarm.put(Self.task("b", secrets: ["s1", "s2"]))
        let messages = cursor.changes(news("b", "other"), swarm)
        #expect(messages.flatMap(\.secrets).map(\.id) == ["s2"])
        try tell(messages)
        #expect(set.files.secrets.keys.sorted() == ["s1", "s2"])

        // The first is to end: what the second needs stays.
        var ending = Self.task("a", secrets: ["s1"], configs: ["c1"])
        ending.desiredState = .shutdown
        swarm.put(ending)
        try tell(cursor.changes(news("a"), swarm))
        #expect(set.files.secrets.keys.sorted() == ["s1", "s2"] && set.files.configs.isEmpty)
        swarm.drop("b")
        try tell(cursor.changes(news("b"), swarm))
        #expect(set.files == AssignedFiles())
        #expect(set.tasks.count == 1)

        // One that does not exist is not sent, and comes when it does.
        swarm.put(Self.task("c", secrets: ["late"]))
        try tell(cursor.changes(news("c"), swarm))
        #expect(set.files.secrets.isEmpty)
        swarm.secrets["late"] = Self.secret("late")
        try tell(cursor.changes(news("c"), swarm))
        #expect(set.files.secrets.keys.sorted() == ["late"])
        try tell(cursor.full(swarm))
        #expect(set.files.secrets.keys.sorted() == ["late"], "a full set is whole")
    }

    @Test func largeOnesComeInPartsAndAreTakenTogether() throws {
        var cursor = AssignmentCursor(node: "n1")
        var swarm = MemoryState()
        let ids = (0..<8).map { "c\($0)" }
        for id in ids { swarm.configs[ID(id)] = Self.config(id, size: 1_000_000) }
        swarm.put(Self.task("a", configs: ids))
        let messages = cursor.full(swarm)
        #expect(messages.count >= 8)
        #expect(messages.allSatisfy { ProtobufFields.encode($0).count < 2 << 20 })
        var set = AssignmentSet(node: "n1")
        for message in messages.dropLast() {
            _ = try set.apply(message)
            #expect(set.files.configs.isEmpty)
        }
        _ = try set.apply(try #require(messages.last))
        #expect(set.files.configs.count == 8)
    }

    @Test func theirContentIsNotInDescriptions() {
        let files = AssignedFiles(secrets: ["s1": Self.secret("s1", Array("hidden".utf8))])
        var text = ""
        dump(files, to: &text)
        #expect(!"\(files) \(String(reflecting: files)) \(text)".contains("104") && "\(files)".contains("1 secrets"))
    }

    /// Everything that the manager sends to each of two nodes is looked through.
    @Test func aNodeWithoutTheTaskNeverReceivesIt() async throws {
        let store = try makeStore()
        let manager = TestManager(store)
        let cables = Cables()
        cables.add("m1", manager.service)
        let hidden = Array("the hidden word".utf8)
        let one = makeRemote("n1", cables)
        let two = makeRemote("n2", cables)
        let tasks = Follower<[Task]>()
        let others = Follower<[Task]>()
        let told = Mutex<[AssignmentsMessage]>([])
        try store.commit { transaction throws(ApusError) in
            transaction.state.secrets["s1"] = Self.secret("s1", hidden)
            try transaction.create(Self.task("other", node: "n2"))
        }
        try await running([
            { await manager.sessions.run() }, { await one.run() }, { await two.run() },
            { await tasks.follow(one.assignments(for: "n1")) }, { await others.follow(two.assignments(for: "n2")) },
        ]) {
            #expect(await eventually { others.last?.count == 1 && manager.sessions.sessionCount == 2 })
            try store.commit { transaction throws(ApusError) in try transaction.create(Self.task("a", secrets: ["s1"])) }
            #expect(await eventually { tasks.last?.map(\.id) == ["a"] })
            // Before the task is seen its secret is there.
            #expect(one.files().secrets["s1"]?.spec.data == hidden)
            // The other one is told of something later, and had no secret before it.
            try store.commit { transaction throws(ApusError) in try transaction.create(Self.task("later", node: "n2")) }
            #expect(await eventually { others.last?.count == 2 })
            #expect(two.files() == AssignedFiles())
            try store.commit { transaction throws(ApusError) in
                guard var task = transaction.task("a") else { return }
                task.desiredState = .shutdown
                try transaction.update(task)
            }
            #expect(await eventually { one.files() == AssignedFiles() })
        }
        // What a stream of the second node carries, byte by byte.
        var cursor = AssignmentCursor(node: "n2")
        told.withLock { $0 = cursor.full(store.read()) }
        let bytes = told.withLock { $0.flatMap { ProtobufFields.encode($0) } }
        #expect(!bytes.contains(hidden))
    }
}
